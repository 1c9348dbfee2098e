// Memory contexts as scopes. palloc for what Postgres owns, std for what we own.
#pragma once

#include "pg/bridge.hpp"

namespace tasker::pg {

// Makes a context current for a scope.
class ContextScope {
 public:
  explicit ContextScope(MemoryContext context) noexcept : old_(MemoryContextSwitchTo(context)) {}
  ~ContextScope() { MemoryContextSwitchTo(old_); }
  ContextScope(const ContextScope &) = delete;
  ContextScope &operator=(const ContextScope &) = delete;

 private:
  MemoryContext old_;
};

// A context that lives as long as this object; reset() empties it.
class OwnedContext {
 public:
  OwnedContext(MemoryContext parent, const char *name)
      : context_(call([&] { return AllocSetContextCreateInternal(parent, name, ALLOCSET_DEFAULT_SIZES); })) {}
  ~OwnedContext() { MemoryContextDelete(context_); }
  OwnedContext(const OwnedContext &) = delete;
  OwnedContext &operator=(const OwnedContext &) = delete;
  MemoryContext get() const noexcept { return context_; }
  void reset() { MemoryContextReset(context_); }

 private:
  MemoryContext context_;
};

}  // namespace tasker::pg
