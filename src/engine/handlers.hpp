// Calls the handler of a step, as the user who is current. Nothing of tasker's identity is in force here.
#pragma once

#include <string>

#include "store/definitions.hpp"

namespace tasker::engine {

struct HandlerCall {
  const store::CompiledDefinition *definition = nullptr;
  const store::CompiledStep *step = nullptr;
  std::int64_t task_id = 0;
  int attempt = 0;
  Datum context = 0;                 // jsonb
  Datum results = 0;                 // jsonb object: parent step → result
  const std::string *correlation_id = nullptr;  // or null
  std::string idempotency_key;
};

// The handler's result as jsonb in `memory`, or Datum(0) for null. Raises what the handler raises; 54000 when
// the result is larger than tasker.max_result_size. Precondition: inside a savepoint (or a transaction of its own).
Datum call_handler(const HandlerCall &call, MemoryContext memory);
// That limit for a result (a detoasted jsonb, or 0) of this step, wherever it comes from.
void check_result_size(const std::string &step, Datum result);

// A procedure that may commit. Nothing of the caller's transaction survives it.
void call_procedure(const HandlerCall &call);

// Which of the two signatures a function name resolves to, with the caller's rights. Faults say what is missing.
enum class Signature { kNone, kContextResults, kStepCall };
struct ResolvedHandler {
  Signature signature = Signature::kNone;
  Oid oid = InvalidOid;
  std::string call_text;  // schema.name, quoted
  std::string problem;    // when kNone, or when the result type is wrong
  std::string hint;
};
ResolvedHandler resolve_function(const std::string &name);
ResolvedHandler resolve_procedure(const std::string &name);

// Drops what handlers left behind in the session: prepared statements, portals, advisory locks, sequence caches.
void clean_session();
// Forgets the plan of a step whose handler failed: the function may have been replaced by another signature.
void forget_plan(const store::CompiledDefinition &definition, const store::CompiledStep &step);

}  // namespace tasker::engine
