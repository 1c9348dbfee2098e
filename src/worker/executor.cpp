// An executor: logged in as the owner of the steps it runs, for life. Takes entries from its mailbox, runs them in
// batches, commits, and tells the dispatcher. Everything odd at the end of a batch has one answer: roll back, count
// nothing, run each step alone.
#include <algorithm>
#include <deque>
#include <unordered_set>

#include "engine/batch.hpp"
#include "engine/control.hpp"
#include "engine/create.hpp"
#include "pg/deadline.hpp"
#include "pg/fault.hpp"
#include "pg/memory.hpp"
#include "pg/security.hpp"
#include "pg/xact.hpp"
#include "store/hints.hpp"
#include "store/settings.hpp"
#include "store/step_stats.hpp"
#include "worker/loop.hpp"
#include "worker/notes.hpp"

extern "C" {
#include "commands/async.h"
}

namespace tasker::worker {

namespace {

using store::ExecutorSlot;
using store::StepAt;
using store::StepKey;

constinit ExecutorSlot *slot = nullptr;
constinit volatile std::uint64_t current_run = 0;  // 0 outside user code
constinit volatile sig_atomic_t foreign_cancel = 0;  // somebody else's signal hit the present handler
constinit std::uint32_t idle_event = 0;

// Only what is meant for the handler that runs now may interrupt it. The dispatcher names the run and has a signal of its
// own, so that none of its is ever taken for pg_cancel_backend, which counts for the present handler.
void interrupt() {
  InterruptPending = true;
  QueryCancelPending = true;
}

extern "C" void on_dispatcher(SIGNAL_ARGS) {
  const int saved = errno;
  (void)postgres_signal_arg;
  if (current_run != 0 && (slot->cancel_run == current_run || slot->preempt_run == current_run)) interrupt();
  SetLatch(MyLatch);
  errno = saved;
}

// PostgreSQL's own timeouts come this way, too.
extern "C" void on_interrupt(SIGNAL_ARGS) {
  const int saved = errno;
  (void)postgres_signal_arg;
  if (get_timeout_indicator(LOCK_TIMEOUT, false) || get_timeout_indicator(STATEMENT_TIMEOUT, false)) {
    interrupt();
  } else if (current_run != 0) {
    foreign_cancel = 1;
    interrupt();
  }
  SetLatch(MyLatch);
  errno = saved;
}

int dispatcher_proc() {
  store::LockGuard guard(store::shared->registry, LW_SHARED);
  const int index = store::find_database(MyDatabaseId, false);
  return index < 0 ? -1 : store::database_slot(index).dispatcher_proc;
}

extern "C" void executor_exit(int, Datum) {
  const int dispatcher = dispatcher_proc();
  {
    store::SpinGuard guard(*slot);
    // With a dispatcher it is the one to free the slot, after it has taken the entries out of its own books.
    const bool accounted = dispatcher < 0 && slot->assigned == slot->done && slot->run_number == 0;
    slot->state = accounted ? store::ExecutorState::kFree : store::ExecutorState::kExited;
    slot->proc = -1;
  }
  clear_note();
  store::wake(dispatcher);
}

class Observer final : public engine::RunObserver {
 public:
  void begin(const store::LoadedStep &step, int timeout_ms) override {
    engine::set_running_task(step.task.task_id);
    write_note(step.step.key, step.step.moves);
    const TimestampTz now = GetCurrentTimestamp();
    {
      store::SpinGuard guard(*slot);
      slot->current = step.step.key;
      slot->current_moves = step.step.moves;
      slot->current_named_task = step.task.named_task_id;
      slot->current_started = now;
      slot->deadline = now + static_cast<TimestampTz>(timeout_ms) * 1000;
      slot->run_number = ++slot->last_run;
      run_ = slot->run_number;
    }
    foreign_cancel = 0;
    current_run = run_;
    pg::arm_deadline(timeout_ms);
  }
  engine::Interruption end() override {
    current_run = 0;
    const bool timed_out = pg::disarm_deadline();
    QueryCancelPending = false;
    engine::set_running_task(0);
    store::SpinGuard guard(*slot);
    slot->run_number = 0;
    slot->batch_finished++;
    if (slot->cancel_run == run_) return engine::Interruption::kCancelled;
    if (slot->preempt_run == run_) return engine::Interruption::kPreempted;
    if (timed_out) return engine::Interruption::kTimeout;
    return foreign_cancel != 0 ? engine::Interruption::kForeign : engine::Interruption::kNone;
  }

 private:
  std::uint64_t run_ = 0;
};

int isolation_of(const std::string &name) {
  if (name == "serializable") return XACT_SERIALIZABLE;
  if (name == "repeatable read") return XACT_REPEATABLE_READ;
  if (name == "read uncommitted") return XACT_READ_UNCOMMITTED;
  return XACT_READ_COMMITTED;
}

void pin_session();

constinit pg::Query unlocked_tasks{
    "SELECT t.task_id FROM tasker.tasks t WHERE t.task_id = ANY ($1) ORDER BY t.task_id FOR NO KEY UPDATE SKIP LOCKED", 1, {INT8ARRAYOID}};
constinit pg::Query unlocked_steps{
    "SELECT s.task_id, s.step_no, s.element FROM unnest($1, $2, $3) AS u(task_id, step_no, element) JOIN tasker.workflow_steps s"
    " ON s.task_id = u.task_id AND s.step_no = u.step_no AND s.element = u.element FOR NO KEY UPDATE OF s SKIP LOCKED",
    3, {INT8ARRAYOID, INT4ARRAYOID, INT4ARRAYOID}};

// Where a batch was when it failed.
enum class End : std::uint8_t { kNotReached, kRecord, kCommit };
inline constexpr int kConflictsUncounted = 10;

// Memory is measured once in so many steps, and before a rest: it means a walk over all contexts.
inline constexpr int kStepsUnmeasured = 8;

class Executor {
 public:
  explicit Executor(std::int64_t nonce) : nonce_(nonce), memory_(TopMemoryContext, "tasker batch") {}

  void run() {
    for (;;) {
      // Alone come those last that are slow or troublesome: their neighbours do not wait for them.
      if (pending_.empty() && !solo_.empty()) {
        const StepKey key = solo_.front();
        solo_.pop_front();
        run_batch({key}, true);
      } else {
        if (solo_.empty()) take();
        if (!pending_.empty()) {
          const std::vector<StepAt> keys(pending_.begin(), pending_.end());
          pending_.clear();
          run_batch(keys, false);
        }
      }
      if (!PostmasterIsAlive()) proc_exit(kExitRestart);
      if (gone_) return;  // its owner was dropped: the dispatcher ends what is left of his
      const bool rest = pending_.empty() && solo_.empty();
      if (rest) finish_round();
      if (refused_) return;
      // Not before the first batch: whoever comes gets something done. What was taken, but not begun, goes to somebody else, and at
      // once: an end that was asked for is followed by no pause.
      if (worked_ && grown(rest)) {
        store::SpinGuard guard(*slot);
        slot->stop = true;
        return;
      }
      if (rest && !idle()) return;
    }
  }

 private:
  void take() {
    store::SpinGuard guard(*slot);
    while (slot->taken < slot->assigned && pending_.size() < static_cast<std::size_t>(store::kMailboxSize / 2)) {
      pending_.push_back(slot->mailbox[slot->taken % store::kMailboxSize]);
      slot->taken++;
    }
  }

  // Everything taken has been dealt with: the entries leave the in-flight table.
  void finish_round() {
    bool wake_dispatcher;
    {
      store::SpinGuard guard(*slot);
      wake_dispatcher = slot->done != slot->taken;
      slot->done = slot->taken;
      slot->last_active = wake_dispatcher ? GetCurrentTimestamp() : slot->last_active;
    }
    if (wake_dispatcher) store::wake(dispatcher_proc());
  }

  // Sleeps until there is something to do. False: leave.
  bool idle() {
    bool reported = false;
    for (;;) {
      bool work, stop;
      TimestampTz last;
      {
        store::SpinGuard guard(*slot);
        work = slot->taken < slot->assigned;
        stop = slot->stop;
        last = slot->last_active;
      }
      if (stop) return false;
      if (work) return true;
      const TimestampTz leave_at = last + static_cast<TimestampTz>(store::settings.executor_idle_timeout_s) * USECS_PER_SEC;
      const TimestampTz now = GetCurrentTimestamp();
      if (now >= leave_at) return leave();
      const long rest = static_cast<long>((leave_at - now) / 1000) + 1;
      wait_for_work(reported ? rest : std::min(rest, 1000L), pg::wait_event(&idle_event, "TaskerExecutorMain"));
      if (reported || slot->taken < slot->assigned) continue;
      pg::call([] { pgstat_report_stat(true); });  // a second of rest: the counters of the last batches go out before a long sleep
      reported = true;
    }
  }

  // Idle for long: goes unless an entry arrived in the same moment.
  static bool leave() {
    store::SpinGuard guard(*slot);
    if (slot->taken < slot->assigned) return true;
    slot->stop = true;
    return false;
  }

  // Is it to be replaced, for the memory that it holds, or that it was refused: what comes after would be refused it, too, while
  // another process begins with little. Asked after every step; `now`: measured at once.
  bool grown(bool now) {
    if (replace_ || (!now && ++unmeasured_ < kStepsUnmeasured)) return replace_;
    unmeasured_ = 0;
    const std::size_t limit = static_cast<std::size_t>(store::settings.executor_max_memory_kb) * 1024;
    replace_ = MemoryContextMemAllocated(TopMemoryContext, true) > limit;
    return replace_;
  }

  // While another executor runs more than one step, in a row only so often.
  bool deadlock_of_a_batch() {
    if (spared_deadlocks_ == kConflictsUncounted) return false;
    for (int i = 0; i < store::shared->executor_count; i++) {
      store::ExecutorSlot &other = store::executor_slot(i);
      const store::SpinGuard guard(other);
      if (&other == slot || other.state != store::ExecutorState::kRunning || other.database != MyDatabaseId || other.batch_size < 2 || other.assigned == other.done) continue;
      spared_deadlocks_++;
      return true;
    }
    return false;
  }

  engine::BatchOptions options(bool solo) {
    engine::BatchOptions o;
    o.nonce = nonce_;
    o.solo = solo;
    o.max_duration_ms = store::settings.max_batch_duration_ms;
    o.size = [](const store::CompiledDefinition &definition, const store::CompiledStep &first) { return store::batch_size(definition.named_task_id, first.learner); };
    o.batchable = [](const store::CompiledDefinition &definition, const store::CompiledStep &step) {
      return store::settings.max_batch_duration_ms > 0 &&
             store::is_batchable(definition.named_task_id, step.learner, store::settings.max_batch_duration_ms);
    };
    o.full = [this] { return grown(false); };
    o.deadlock_of_a_batch = [this] { return deadlock_of_a_batch(); };
    return o;
  }

  // Steps whose rows somebody held: asked again before their handlers run in vain.
  std::vector<StepAt> without_locked(const std::vector<StepAt> &keys) {
    if (contended_.empty()) return keys;
    std::vector<StepAt> out;
    for (const StepAt &key : keys) {
      if (!contended_.contains(key)) out.push_back(key);
      else if (is_locked(key)) set_aside(key);
      else contended_.erase(key), out.push_back(key);
    }
    return out;
  }

  void run_batch(const std::vector<StepAt> &wanted, bool solo) {
    const std::vector<StepAt> keys = without_locked(wanted);
    if (keys.empty()) return;
    memory_.reset();
    worked_ = true;
    {
      // Every batch, a solo one too: what an earlier one finished is committed and no reason to preempt this one.
      store::SpinGuard guard(*slot);
      slot->batch_started = GetCurrentTimestamp();
      slot->batch_finished = 0;
      slot->batch_size = static_cast<int>(keys.size());
    }
    engine::Batch batch(options(solo), observer_, memory_.get());
    enum { kLoading, kRunning, kRecording, kCommitting } stage = kLoading;
    try {
      {
        pg::Transaction loading;
        gone_ = engine::role_is_gone(GetSessionUserId());
        if (!gone_) batch.load(keys);
        loading.commit();
      }
      hand_back(batch.refused());
      if (gone_ || batch.first() == nullptr) return;
      if (batch.first_is_solo()) {
        batch.make_solo();
        solo = true;
      }
      stage = kRunning;
      pgstat_report_activity(STATE_RUNNING, "tasker: running steps");
      pg::Transaction transaction(isolation_of(batch.first()->step().isolation));
      const bool procedure = batch.procedure();
      if (procedure) transaction.drop_snapshot();
      batch.set_restart([&] { restart_transaction(); });
      batch.run();
      clear_note();
      if (procedure) {
        // It ran in no nest level of settings: what it set goes before the record, and before the next step.
        pg::call([] { ResetAllOptions(); });
        pin_session();
      }
      transaction.take_snapshot();
      stage = kRecording;
      batch.record();
      stage = kCommitting;
      TASKER_FAULT("commit.before");
      transaction.commit();
      TASKER_FAULT("commit.after");
      pg::call([] { pgstat_report_stat(false); });
      pgstat_report_activity(STATE_IDLE, nullptr);
    } catch (...) {
      clear_note();
      const pg::Caught error = pg::describe_current_exception();
      const End end = stage < kRecording ? End::kNotReached : stage == kRecording ? End::kRecord : End::kCommit;
      recover(batch, error, end, solo, keys);
      pgstat_report_activity(STATE_IDLE, nullptr);
      return;
    }
    after_commit(batch);
  }

  static void restart_transaction() {
    pg::call([] {
      AbortCurrentTransaction();
      SetCurrentStatementStartTimestamp();
      StartTransactionCommand();
    });
  }

  void after_commit(engine::Batch &batch) {
    again_after_conflict_ = 0;
    batch.count_outcomes();
    for (const StepKey &key : batch.leftovers()) pending_.push_back(key);
    for (const StepKey &key : batch.run_alone()) solo_.push_back(key);
    if (batch.run_alone().empty()) spared_deadlocks_ = 0;
    for (const engine::Outcome &outcome : batch.outcomes()) {
      replace_ = replace_ || (outcome.kind == engine::OutcomeKind::kFailed && outcome.failure.out_of_memory);
      const auto &step = outcome.step();
      if (step.type == store::HandlerType::kNoop) continue;
      const int named = outcome.definition->named_task_id;
      if (outcome.kind == engine::OutcomeKind::kRunAlone) store::record_trouble(named, step.learner);
      else store::record_duration(named, step.learner, outcome.duration_ms(), outcome.kind == engine::OutcomeKind::kFailed);
    }
    if (batch.touched_temp()) {
      for (const engine::Outcome &outcome : batch.outcomes()) store::record_trouble(outcome.definition->named_task_id, outcome.step().learner);
      pg::Transaction transaction;
      pg::call([] { ResetTempTableNamespace(); });
      transaction.commit();
    }
  }

  // The batch is rolled back (its Transaction is gone). Nothing of it counts, but for a step that was alone.
  void recover(engine::Batch &batch, const pg::Caught &error, End end, bool solo, const std::vector<StepAt> &keys) {
    const std::vector<StepKey> begun = batch.begun();
    if (error.sqlstate == "57P01") throw tasker::Error("57P01", error.message);
    // Steps that had a transaction together are tried alone first: it may be their sum that was too much, for any process.
    refused_ = error.sqlstate == engine::kOutOfMemory && (solo || begun.empty());
    std::vector<StepKey> rest = batch.leftovers();
    if (begun.empty()) {
      complain(error);
      for (const StepKey &key : keys) set_aside(key);
      return;
    }
    for (const StepKey &key : keys)
      if (std::find(begun.begin(), begun.end(), key) == begun.end() && std::find(rest.begin(), rest.end(), key) == rest.end()) rest.push_back(key);
    for (const StepKey &key : rest) pending_.push_back(key);
    const bool locked = error.sqlstate == "55P03" && end != End::kNotReached;
    if (locked) {
      for (const StepKey &key : begun) {
        if (!is_locked(key)) {
          solo_.push_back(key);
          continue;
        }
        if (contended_.size() < 1024) contended_.insert(key);
        set_aside(key);
      }
      return;
    }
    if (!solo || begun.size() > 1) {
      for (const StepKey &key : begun) solo_.push_back(key);
      return;
    }
    if (error.sqlstate == "40001" && error.message == engine::kLostRace) return;  // somebody else moved the step: nothing to do
    // Under repeatable read a neighbour's move of the same task fails our record, which is not the step's doing. What the
    // step itself has read under serializable may come to light there too: only that error has a detail (untranslated).
    const bool by_reads = error.detail.starts_with("Reason code:");
    if (end == End::kRecord && error.sqlstate == "40001" && !by_reads && again_after_conflict_++ < kConflictsUncounted) {
      solo_.push_back(begun.front());
      return;
    }
    record_commit_failure(batch, error);
  }

  // A step that ran alone failed at its commit (a deferred constraint): that is its failed attempt.
  void record_commit_failure(engine::Batch &batch, const pg::Caught &error) {
    try {
      pg::Transaction transaction;
      batch.fail_all(error);
      batch.record();
      transaction.commit();
      batch.count_outcomes();
      for (const engine::Outcome &outcome : batch.outcomes()) store::record_trouble(outcome.definition->named_task_id, outcome.step().learner);
    } catch (...) {
      const pg::Caught again = pg::describe_current_exception();
      if (again.sqlstate == "57P01") throw;
      if (again.message != engine::kLostRace) {
        complain(again);
        for (const StepKey &key : batch.begun()) set_aside(key);
      }
    }
  }

  static void complain(const pg::Caught &error) {
    pg::report(pg::Level::kLog, "tasker: could not run steps: " + error.message, error.detail, "They are tried again in a second.");
  }

  // Does somebody hold the rows this step's record needs? Asked in a transaction that is rolled back.
  static bool is_locked(const StepKey &key) {
    pg::Transaction transaction;
    bool locked;
    {
      pg::OwnerScope as_owner(store::cached_extension_owner());
      pg::Spi spi;
      pg::ArrayBuilder task(INT8OID), task_of_step(INT8OID), step(INT4OID), element(INT4OID);
      task.int8(key.task_id);
      task_of_step.int8(key.task_id);
      step.int4(key.step_no);
      element.int4(key.element);
      locked = pg::execute(unlocked_tasks, pg::Params().datum(task.datum())).rows.empty() ||
               pg::execute(unlocked_steps, pg::Params().datum(task_of_step.datum()).datum(step.datum()).datum(element.datum())).rows.empty();
    }
    transaction.rollback();
    return locked;
  }

  // Looked at again after a second, without an attempt being counted.
  static void set_aside(const StepKey &key) {
    store::Hint hint{key, GetCurrentTimestamp() + USECS_PER_SEC, 0, 0, slot->owner, store::HintKind::kTimer};
    store::push_hints_now(&hint, 1);
  }

  // What circuit breakers hold back waits in the dispatcher.
  static void hand_back(const std::vector<StepKey> &keys) {
    store::Hint hint{};
    hint.kind = store::HintKind::kTask;
    for (const StepKey &key : keys) {
      if (key.task_id == hint.key.task_id) continue;
      hint.key = {key.task_id, 0, -1};
      store::push_hints_now(&hint, 1);
    }
  }

  std::int64_t nonce_;
  pg::OwnedContext memory_;
  Observer observer_;
  std::deque<StepAt> pending_;
  std::deque<StepKey> solo_;
  bool gone_ = false;
  std::unordered_set<StepKey, store::StepKeyHash> contended_;
  int again_after_conflict_ = 0;  // in a row, of whatever steps
  int spared_deadlocks_ = 0;      // since a step was done
  int unmeasured_ = 0;            // steps since memory was measured
  bool worked_ = false;
  bool replace_ = false;
  bool refused_ = false;          // memory, and not to a handler: nothing was done
};

// The role's own settings must not reach our bookkeeping; another isolation level is a step's to ask for.
void pin_session() {
  pg::call([] {
    SetConfigOption("role", "none", PGC_USERSET, PGC_S_SESSION);
    SetConfigOption("default_transaction_isolation", "read committed", PGC_USERSET, PGC_S_SESSION);
    SetConfigOption("default_transaction_read_only", "off", PGC_USERSET, PGC_S_SESSION);
    SetConfigOption("default_transaction_deferrable", "off", PGC_USERSET, PGC_S_SESSION);
    SetConfigOption("lock_timeout", "0", PGC_USERSET, PGC_S_SESSION);
    SetConfigOption("statement_timeout", "0", PGC_USERSET, PGC_S_SESSION);
    SetConfigOption("idle_in_transaction_session_timeout", "0", PGC_USERSET, PGC_S_SESSION);
    SetConfigOption("plan_cache_mode", "auto", PGC_USERSET, PGC_S_SESSION);
    if (pg::kHasTransactionTimeout) SetConfigOption("transaction_timeout", "0", PGC_USERSET, PGC_S_SESSION);
  });
}

std::int64_t read_nonce() {
  pg::Transaction transaction;
  std::int64_t nonce;
  {
    pg::OwnerScope as_owner(store::cached_extension_owner());
    pg::Spi spi;
    nonce = store::load_home(false).nonce;
  }
  transaction.commit();
  return nonce;
}

void executor_main(int index) {
  slot = &store::executor_slot(index);
  before_shmem_exit(executor_exit, Datum(0));
  pqsignal(kRunSignal, on_dispatcher);
  begin_process(on_interrupt);
  install_quit_handler();
  const Oid database = slot->database, owner = slot->owner;
  pg::call([=] { BackgroundWorkerInitializeConnectionByOid(database, owner, pg::kBypassRoleLoginCheck); });
  TASKER_FAULT("executor.start");
  {
    pg::Transaction transaction;
    pin_session();
    transaction.commit();
  }
  open_note(index);
  const std::int64_t nonce = read_nonce();
  {
    store::SpinGuard guard(*slot);
    slot->pid = MyProcPid;
    slot->proc = pg::my_proc_number();
    slot->last_active = GetCurrentTimestamp();
    slot->state = store::ExecutorState::kRunning;
  }
  store::wake(dispatcher_proc());
  Executor(nonce).run();
}

}  // namespace

}  // namespace tasker::worker

extern "C" TASKER_EXPORT void tasker_executor_main(Datum);
void tasker_executor_main(Datum argument) {
  using namespace tasker;
  pg::entry([=] { worker::executor_main(DatumGetInt32(argument)); });
  proc_exit(worker::kExitForGood);
}
