// The cache of costly answers: one for the whole server in shared memory, or without the preload one of this session.
//
// Whose answers. A role is answered with what was worked out for that role, never with another's: neither what it says nor that
// somebody asked. What the functions that have a place here (core::CachedFunction) say does not depend on the levels of who calls
// them: they are worked out as the extension's owner, and PostgreSQL checks the right to call at every call, so that a right which
// was taken back ends at once.
//
// Which answers. Nothing is kept and nothing taken where the transaction could see something else than a new one would: after
// writes of its own (it has a transaction id) and under one snapshot for all statements. What is kept is worked out under a
// snapshot taken for it, not under that of a statement which began long ago.
//
// Who works it out. One at a time per question; others wait, serve interrupts, and take over from one who fails or leaves. The
// lock guards memory only: it is never held over SQL.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "core/cache_table.hpp"
#include "pg/bridge.hpp"

namespace tasker::store {

// For the hooks of shared_state.cpp.
void request_cache_memory();
void attach_cache_memory();

struct CacheQuestion {
  core::CachedFunction function;
  std::string arguments;   // in full, one text for equal questions
  std::int64_t epoch = 0;  // the answer is right for this one only
};

struct CacheAnswer {
  std::string text;
  TimestampTz generated_at = 0, expires_at = 0;
};

// False: work it out as if there were no cache. Switched off, or a transaction that sees what others don't.
bool cache_serves();

// One question. Waits while another session works it out. Precondition: cache_serves(); no SPI connection.
class CacheTurn {
 public:
  explicit CacheTurn(const CacheQuestion &question);
  ~CacheTurn();  // gives the turn up, if it has one
  CacheTurn(const CacheTurn &) = delete;
  CacheTurn &operator=(const CacheTurn &) = delete;
  // Nothing: the caller works it out, and publishes it.
  const std::optional<CacheAnswer> &answer() const { return answer_; }
  // Until when it holds; nothing when it is not kept. `begun`: when the work began. Without a text: it cannot be kept, so that nobody
  // need wait for it.
  std::optional<TimestampTz> publish(std::optional<std::string_view> text, TimestampTz begun);

 private:
  core::CacheQuestion key() const;
  CacheQuestion question_;
  Oid extension_, role_;
  std::uint64_t turn_ = 0;
  std::optional<CacheAnswer> answer_;
};

// What a new transaction would see now, for as long as the work takes. Not put back when an error passes: the end of the
// (sub)transaction does that.
class FreshSnapshot {
 public:
  FreshSnapshot();
  ~FreshSnapshot();
  FreshSnapshot(const FreshSnapshot &) = delete;
  FreshSnapshot &operator=(const FreshSnapshot &) = delete;
};

// What is known of the questions of this database.
struct CacheRow {
  core::CachedFunction function;
  Oid role;
  std::string arguments;
  const char *state;  // fresh, expired, computing, unfit
  core::CacheUse use;
  std::int64_t waited = 0;
  std::size_t bytes = 0;
  std::optional<TimestampTz> generated_at, expires_at;
};
std::vector<CacheRow> cache_rows();
bool cache_is_shared();
// Throws answers away at once, whatever becomes of the transaction; nothing: those of all functions. How many there were.
int clear_cache(const std::optional<core::CachedFunction> &function);
// Those of this database once the present transaction has committed, and not when it rolls back.
void clear_cache_at_commit();
// A database is dropped, or the extension in it.
void forget_cache(Oid database) noexcept;

}  // namespace tasker::store
