// A batch: steps of one owner run in one transaction, and recorded in it.
//
// Handlers run one after the other in savepoints; what happened is kept in memory; at the end a few array
// statements write all of it. While a handler runs, no row or table of tasker is locked. A child whose parents
// are done in this batch runs in it too. Nothing is committed here: that is the caller's, who also decides what
// to do when the end fails (roll back, count nothing, run each step alone).
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <unordered_map>
#include <vector>

#include "core/batching.hpp"
#include "core/json.hpp"
#include "engine/failure.hpp"
#include "engine/handlers.hpp"
#include "store/breakers.hpp"
#include "store/moves.hpp"
#include "store/runs.hpp"

namespace tasker::engine {

inline constexpr int kAnyMoves = -1;  // fail_lost_run: however often the step has moved

// Message of the 40001 that record() raises when a row moved since it was read.
inline constexpr const char *kLostRace = "a step was moved by somebody else while it ran";

// Why a handler was interrupted, as far as the caller knows.
enum class Interruption { kNone, kTimeout, kCancelled, kPreempted, kForeign };

// What whoever runs a batch (an executor, run_task) does around each handler.
class RunObserver {
 public:
  virtual ~RunObserver() = default;
  // Before the handler; timeout_ms > 0. Arms the timeout, publishes the run, writes the crash note.
  virtual void begin(const store::LoadedStep &step, int timeout_ms) = 0;
  // After it, on every path; says why an error 57014 came.
  virtual Interruption end() = 0;
};

// For batches that only record what ended elsewhere.
class NothingRuns final : public RunObserver {
 public:
  void begin(const store::LoadedStep &, int) override {}
  Interruption end() override { return Interruption::kNone; }
};

struct BatchOptions {
  std::int64_t nonce = 0;        // of this database: other tasks are left alone
  bool solo = false;             // one step, errors at commit are its own
  bool outside = false;          // steps that no executor runs, and no others: see store::is_outside
  bool skip_waits = false;       // run_task: run_at and backoff count as elapsed
  bool propagate_cancel = false;  // run_task: a cancel of the session ends the session's statement, not the attempt
  // How many steps it may have, by the first of them; nothing: kPlainBatch.
  std::function<int(const store::CompiledDefinition &, const store::CompiledStep &)> size;
  int max_duration_ms = 10;
  int lock_timeout_ms = 100;     // of record(); 0: as the session has it
  // Ends the transaction a failed procedure left behind and begins a new one (procedures only).
  std::function<void()> restart_transaction;
  // May this step share its transaction with others? (measured, fast, never troublesome)
  std::function<bool(const store::CompiledDefinition &, const store::CompiledStep &)> batchable;
  // Asked between steps: is it to end here, for the memory its process holds?
  std::function<bool()> full = [] { return false; };
  // A step that ran alone was the victim of a deadlock: was somebody's batch part of it? Then it is run again, uncounted. Alone
  // it holds a row of its own, and yet may stand in a queue for another that a batch needs.
  std::function<bool()> deadlock_of_a_batch = [] { return false; };
  // The circuit breaker of the system a step depends on: may the step start, and what its end says about the system.
  std::function<bool(int system, const store::StepKey &)> admits = store::breaker_admits;
  std::function<void(int system, const store::StepKey &, store::SystemWord)> tell = store::tell_breaker;
};

// kBegun: an outside step is under way. kReturned: it is given back, to be begun again by somebody else.
enum class OutcomeKind { kSucceeded, kFailed, kBegun, kReturned, kRunAlone, kDropped };

// How an outside step ended: with a result or an error. The DETAIL of an error TK001 or TK002 may ask for a delay, a limit
// of attempts, and carry a context, as raise_retryable's does.
struct OutsideEnd {
  Datum result = 0;  // jsonb, or 0 for null; must live until record()
  std::optional<pg::Caught> error;
  const char *category = nullptr;  // nothing: that of the SQLSTATE
  bool may_retry = true;
  std::string metadata;            // members of the last transition's JSON object, without its braces; may be empty
};

struct Outcome {
  store::LoadedStep loaded;
  store::DefinitionPtr definition;
  OutcomeKind kind = OutcomeKind::kDropped;
  Datum result = 0;
  FailureDecision failure;
  TimestampTz started_at = 0, finished_at = 0;
  std::string metadata;   // of its last transition, of outside steps: members of a JSON object; may be empty
  int attempts_back = 0;  // kReturned: 1 when the attempt is not counted

  const store::CompiledStep &step() const { return definition->step(loaded.step.key.step_no); }
  bool under_way() const { return loaded.step.state == core::StepState::kInProgress; }
  // The attempt that begins, or that is under way.
  int attempt() const { return loaded.step.attempts + (under_way() ? 0 : 1); }
  double duration_ms() const { return static_cast<double>(finished_at - started_at) / 1000.0; }
};

class Batch {
 public:
  Batch(BatchOptions options, RunObserver &observer, MemoryContext memory);

  // Reads these steps; those that are not ready (any more) are dropped. Called first in a transaction of its own, so that
  // no table of tasker stays locked while a long handler runs.
  void load(const std::vector<store::StepAt> &steps);
  // Runs what is loaded and children, until nothing is left or the batch must close. What was not begun is in leftovers().
  void run();
  // Writes everything; sends hints at commit. Raises 40001 when a row moved meanwhile, 55P03 when one is locked.
  void record();
  // After the commit: what was recorded is counted for predictions, told to circuit breakers, and to the log where that is asked for.
  void count_outcomes() const;

  const std::vector<Outcome> &outcomes() const { return outcomes_; }
  // Loaded but not begun: to be run in the next batch.
  const std::vector<store::StepKey> &leftovers() const { return leftovers_; }
  // Ended without being counted because of contention or preemption: to be run alone.
  const std::vector<store::StepKey> &run_alone() const { return run_alone_; }
  // Ready, but held back by the circuit breaker of their system: not loaded.
  const std::vector<store::StepKey> &refused() const { return refused_; }
  std::vector<store::StepKey> begun() const;
  // Is the next step to run a procedure that commits by itself? It runs alone, in transactions of its own.
  bool procedure() const { return !ready_.empty() && !ready_.back().step().procedure.empty(); }
  // The commit failed, or something outside of the handler: what was not a failure becomes one with this error. record() in
  // a new transaction comes next; a run that was dropped because its row had moved loses the race there.
  void fail_all(const pg::Caught &error);
  // An attempt that ended without its process (terminated, crashed): loads the step and, when it has not moved since,
  // makes this its failure. True when there is something to record(). With retry false it is permanent.
  bool fail_lost_run(const store::StepKey &key, int moves, const pg::Caught &error, const char *category, bool retry);
  // Outside steps, with BatchOptions::outside. Each that is loaded is left alone, begins with an attempt counted, or ends at
  // once as `end` says; what began is in outcomes(), with the metadata of its beginning as the caller sets it there.
  enum class Begin { kLeave, kBegin, kEnd };
  void begin_outside(const std::function<Begin(Outcome &, OutsideEnd &end)> &decide);
  const std::vector<Outcome> &loaded() const { return ready_; }
  // A step under way in the run whose row has so many `moves` (or kAnyMoves) ends, or is given back with or without its
  // attempt being counted. False, and nothing is recorded: it is not, any more.
  bool end_outside(const store::StepKey &key, int moves, const OutsideEnd &end);
  struct Ending {
    store::StepKey key;
    int moves;
    const OutsideEnd *end;
  };
  // Many, each key once: of which of them it was so.
  std::vector<bool> end_outside(const std::vector<Ending> &endings);
  bool return_outside(const store::StepKey &key, int moves, bool count_attempt, const std::string &metadata);
  // The fields of step_call, as a handler of SQL gets them: what templates and workers read.
  core::json document(const Outcome &outcome) const;
  // results and the key of one that was begun here, as arguments.
  Datum results(const Outcome &outcome) const { return results_of_parents(outcome); }
  std::string idempotency_key(const Outcome &outcome) const;
  // The first step to run must have the transaction for itself.
  bool first_is_solo() const;
  const Outcome *first() const { return ready_.empty() ? nullptr : &ready_.back(); }
  void make_solo() { options_.solo = true; }
  void set_restart(std::function<void()> restart) { options_.restart_transaction = std::move(restart); }
  bool touched_temp() const { return touched_temp_; }
  bool empty() const { return outcomes_.empty(); }

 private:
  struct Satisfied {
    Datum result;
  };
  bool runnable(const store::LoadedStep &loaded) const;
  void load_parents(std::vector<Outcome> &candidates);
  void end_with(Outcome &outcome, const OutsideEnd &end) const;
  std::vector<Outcome> load_under_way(const std::vector<std::pair<store::StepKey, int>> &runs);
  void run_one(Outcome &outcome);
  void fire_deferred();
  std::optional<pg::Caught> run_handler(Outcome &outcome, const HandlerCall &call, Interruption &why);
  void check_identity(Oid session_user, Oid user, int security) const;
  void settle_failure(Outcome &outcome, const pg::Caught &error, Interruption why);
  void queue_children(const Outcome &parent);
  bool must_close(const Outcome &next) const;
  bool opens_too_wide(const Outcome &next) const;
  bool awaits_word(const Outcome &next) const;
  Datum results_of_parents(const Outcome &outcome) const;
  void record_tasks();
  void record_steps();
  void record_children();
  bool recorded(const store::StepKey &key) const;
  void hint_children(const Outcome &parent, const std::vector<int> &children);

  BatchOptions options_;
  RunObserver &observer_;
  MemoryContext memory_;
  std::vector<Outcome> ready_;     // a stack: the last one runs next
  std::vector<Outcome> outcomes_;
  std::vector<store::StepKey> leftovers_, run_alone_, refused_;
  std::unordered_map<store::StepKey, Satisfied, store::StepKeyHash> satisfied_;  // parents' results, from the tables or from this batch
  std::unordered_map<store::StepKey, bool, store::StepKeyHash> in_batch_;        // begun here
  TimestampTz begun_at_ = 0;
  int max_steps_ = core::kPlainBatch;
  std::vector<store::MovedTask> moved_;
  bool touched_temp_ = false, close_ = false;
};

// SET CONSTRAINTS was used by a handler: the batch closes after that step (told by the utility hook).
void note_set_constraints();

// The idempotency key of a step: stable over attempts and retries, new after a rerun.
std::string step_idempotency_key(std::int64_t nonce, const store::StepKey &key, int generation);

}  // namespace tasker::engine
