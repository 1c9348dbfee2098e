// Circuit breakers in shared memory: where it is decided whether the steps of a system run.
//
// A slot exists for a system with settings of its own, with a failure to remember, or whose breaker is not closed;
// every other system is closed. Whoever runs steps asks for admission and, after the commit, tells the outcomes;
// what moves is written to its row by the dispatcher (store/breaker_rows.hpp), and until then kept here. Rows that
// people write are taken over by the dispatcher; a row's move number tells which of the two is newer.
//
// Costs: while every breaker of the server is quiet, asking and telling of a success read one number. Nothing here
// uses tables. Without the preload only rows exist, and all of this does nothing and admits everything.
#pragma once

#include <optional>
#include <vector>

#include "store/shared_state.hpp"

namespace tasker::store {

// What an outcome says about the system its step depends on.
enum class SystemWord : std::uint8_t { kWorks, kFails, kNothing };

// With the configuration for what is not overridden.
core::BreakerSettings breaker_settings(const BreakerOverrides &overrides);

// ---- whoever runs steps. System 0 is no system: always admitted, nothing to tell. ----

bool breaker_admits(int system, const StepKey &key);
// Only of what is committed, or kNothing of what ended otherwise: then another step may be the probe.
void tell_breaker(int system, const StepKey &key, SystemWord word);

// A breaker as its row has it.
struct BreakerRow {
  int system = 0;
  core::Breaker breaker;
  BreakerOverrides overrides;
  int moves = 0;
};
// For run_task, which needs no dispatcher: may become the probe by itself, and is until told or until this process
// exits. The row decides where it is newer than memory, or where there is no memory.
bool session_admits(const BreakerRow &row, const StepKey &key);
// As tell_breaker; the row knows the settings when memory does not.
void tell_breaker_of_session(const BreakerRow &row, const StepKey &key, SystemWord word);

// ---- the dispatcher, of its own database ----

bool all_breakers_quiet();  // of the whole server

struct BreakerView {
  int system = 0;
  core::Breaker breaker;
  StepKey probe;
  bool probe_in_session = false;
  int waiting = 0;  // as published
};
// Moves those whose time is over; gives all that are not closed.
std::vector<BreakerView> poll_breakers(TimestampTz now);
// May this step start now, be it as the probe, which it then is?
bool begin_probe(int system, const StepKey &key);
// The step will not run as the probe, or ran without a word; nothing when another one is.
void end_probe(int system, const StepKey &key);
// Makes memory follow the rows: new settings, and the state where a row is newer. Slots without a row are forgotten.
void adopt_breakers(const std::vector<BreakerRow> &rows);
// Moves that no row shows.
struct UnsavedBreaker {
  int system = 0, row_moves = 0;
  core::Breaker breaker;
  std::vector<BreakerMove> moves;
};
std::vector<UnsavedBreaker> unsaved_breakers();
// The first moves of it are committed now.
void breaker_saved(const UnsavedBreaker &saved);
void publish_waiting(int system, int steps);

// ---- views ----

struct BreakerMemory {
  core::Breaker breaker;
  StepKey probe;
  int waiting = 0;
  int row_moves = 0;  // of the row it goes on from
};
// Nothing without a slot.
std::optional<BreakerMemory> breaker_memory(int system);

// A database is dropped, or the extension in it: ids of systems may come again.
void forget_breakers(Oid database) noexcept;

}  // namespace tasker::store
