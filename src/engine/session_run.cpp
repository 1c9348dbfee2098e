#include "engine/session_run.hpp"

#include <utility>

#include "engine/batch.hpp"
#include "engine/control.hpp"
#include "engine/outside.hpp"
#include "engine/settle.hpp"
#include "pg/deadline.hpp"
#include "pg/memory.hpp"
#include "pg/security.hpp"
#include "store/breaker_rows.hpp"
#include "store/hints.hpp"

namespace tasker::engine {

namespace {

class SessionObserver final : public RunObserver {
 public:
  void begin(const store::LoadedStep &step, int timeout_ms) override {
    set_running_task(step.task.task_id);
    pg::arm_deadline(timeout_ms);
  }
  Interruption end() override {
    set_running_task(0);
    return pg::disarm_deadline() ? Interruption::kTimeout : Interruption::kForeign;
  }
};

void release(store::SessionRun &run) {
  store::Hint hint{};
  hint.kind = store::HintKind::kTask;
  {
    store::LockGuard guard(store::shared->registry, LW_EXCLUSIVE);
    hint.key = {run.task_id, 0, -1};
    run.pid = 0;
  }
  store::push_hints_now(&hint, 1);
}

constinit store::SessionRun *my_claim = nullptr;

// A session that is terminated unwinds nothing.
extern "C" void release_at_exit(int, Datum) {
  if (my_claim != nullptr) release(*std::exchange(my_claim, nullptr));
}

// Tells dispatcher and executors to leave this task alone meanwhile.
class SessionClaim {
 public:
  explicit SessionClaim(std::int64_t task_id) {
    static constinit bool registered = false;
    if (store::shared == nullptr) return;
    if (!registered) before_shmem_exit(release_at_exit, Datum(0));
    registered = true;
    store::LockGuard guard(store::shared->registry, LW_EXCLUSIVE);
    for (auto &run : store::shared->sessions) {
      if (run.pid != 0) continue;
      run = {MyDatabaseId, MyProcPid, task_id};
      my_claim = &run;
      return;
    }
  }
  ~SessionClaim() {
    if (my_claim != nullptr) release(*std::exchange(my_claim, nullptr));
  }
  SessionClaim(const SessionClaim &) = delete;
  SessionClaim &operator=(const SessionClaim &) = delete;
};

std::int64_t check_caller(std::int64_t task_id) {
  if (running_task() != 0) throw tasker::Error(sqlstate::kObjectNotReady, "a step cannot run another task", {}, "Create the task and let it run by itself.");
  const Oid user = GetUserId(), session = GetSessionUserId();
  pg::Spi spi;
  pg::OwnerScope as_owner(store::cached_extension_owner());
  const auto task = store::load_task(task_id, store::RowLock::kNone);
  if (!task || !may_control(user, task->owner, task->created_by))
    throw tasker::Error(sqlstate::kNoData, "task " + std::to_string(task_id) + " does not exist");
  if (user != session || user != task->owner)
    throw tasker::Error(sqlstate::kInsufficientPrivilege, "only a session of its owner can run task " + std::to_string(task_id), {},
                        "Connect as \"" + pg::role_name(task->owner) + "\": the steps run with the rights of this session.");
  const store::Home home = store::load_home(false);
  if (home.held) throw tasker::Error(sqlstate::kObjectNotReady, "this database is held: " + home.reason, {}, "Call tasker.release_hold() when its tasks may run here.");
  return home.nonce;
}

struct Ready {
  std::vector<store::StepKey> here;     // to be run
  std::vector<store::StepKey> outside;  // to begin or end
};
Ready ready_keys(std::int64_t task_id, std::int64_t nonce, bool skip_waits) {
  pg::Spi spi;
  pg::OwnerScope as_owner(store::cached_extension_owner());
  Ready ready;
  for (const store::Hint &hint : store::ready_steps({task_id}, nonce))
    if (hint.kind == store::HintKind::kStep || (skip_waits && hint.kind == store::HintKind::kTimer)) (hint.outside ? ready.outside : ready.here).push_back(hint.key);
  if (!skip_waits) return ready;
  const auto facts = store::load_facts(task_id, store::RowLock::kNone);
  for (const store::StepRow &row : facts->steps)
    if (row.state == core::StepState::kInProgress && facts->definition->step(row.key.step_no).type == store::HandlerType::kWait) ready.outside.push_back(row.key);
  return ready;
}

// The circuit breaker of the system that one step depends on. Its row is read, so that what this session did to it counts.
class StepBreaker {
 public:
  explicit StepBreaker(bool may_commit) : may_commit_(may_commit) {}
  ~StepBreaker() { tell(store::SystemWord::kNothing); }
  StepBreaker(const StepBreaker &) = delete;
  StepBreaker &operator=(const StepBreaker &) = delete;

  // Precondition: inside pg::OwnerScope and pg::Spi.
  bool admits(int system, const store::StepKey &key) {
    row_ = store::load_breaker(system);
    key_ = key;
    return !row_ || store::session_admits(*row_, key);
  }
  // Where the caller may still roll back, the outcome is not known here.
  void tell(store::SystemWord word) {
    if (row_) store::tell_breaker_of_session(*row_, key_, may_commit_ ? word : store::SystemWord::kNothing);
    row_.reset();
  }

 private:
  bool may_commit_;
  std::optional<store::BreakerRow> row_;
  store::StepKey key_;
};

class SessionRunner {
 public:
  SessionRunner(std::int64_t task_id, bool skip_waits, bool may_commit, std::int64_t nonce)
      : task_id_(task_id), skip_waits_(skip_waits), nonce_(nonce), spi_(may_commit), memory_(TopMemoryContext, "tasker run_task") {}

  void run() {
    for (;;) {
      const Ready ready = ready_keys(task_id_, nonce_, skip_waits_);
      bool progress = tend_outside(ready.outside);
      for (const store::StepKey &key : ready.here) {
        progress |= run_step(key);
        pg::check_interrupts();
      }
      settle();
      if (!progress) return;
    }
  }

 private:
  // One step, one transaction (when commits are possible). True when it was run.
  bool run_step(const store::StepKey &key) {
    memory_.reset();
    BatchOptions options;
    options.nonce = nonce_;
    options.solo = true;
    options.skip_waits = skip_waits_;
    options.propagate_cancel = true;
    options.batchable = [](const store::CompiledDefinition &, const store::CompiledStep &) { return false; };
    StepBreaker breaker(spi_.may_commit());
    options.admits = [&](int system, const store::StepKey &step) { return breaker.admits(system, step); };
    options.tell = [&](int, const store::StepKey &, store::SystemWord word) { breaker.tell(word); };
    Batch batch(options, observer_, memory_.get());
    batch.load({key});
    if (spi_.may_commit()) spi_.commit();
    if (batch.procedure() && !spi_.may_commit())
      throw tasker::Error("25001", "a step that commits by itself cannot run inside a transaction block", {}, "CALL tasker.run_task outside of one.");
    batch.run();
    if (batch.empty()) return !batch.leftovers().empty();  // an order to pause has changed: looked at again
    try {
      batch.record();
      spi_.commit();
      batch.count_outcomes();
    } catch (const pg::Error &) {
      if (!spi_.may_commit()) throw;
      const pg::Caught error = pg::describe_current_exception();
      fail_at_commit(batch, error);
    }
    return true;
  }

  // Waits and signals; what others must do (workers, the courier) is left to them.
  bool tend_outside(const std::vector<store::StepKey> &keys) {
    if (keys.empty()) return false;
    memory_.reset();
    OutsideRound round(nonce_, memory_.get(), skip_waits_);
    round.tend(keys);
    spi_.commit();
    round.count_outcomes();
    return round.moved();
  }

  // SPI_commit has rolled back and begun again: the effects are gone, the error is the attempt's.
  void fail_at_commit(Batch &batch, const pg::Caught &error) {
    batch.fail_all(error);
    batch.record();
    spi_.commit();
    batch.count_outcomes();
  }

  void settle() {
    {
      pg::Spi spi;
      pg::OwnerScope as_owner(store::cached_extension_owner());
      settle_task(task_id_);
    }
    spi_.commit();
  }

  std::int64_t task_id_;
  bool skip_waits_;
  std::int64_t nonce_;
  pg::CommittingSpi spi_;
  pg::OwnedContext memory_;
  SessionObserver observer_;
};

}  // namespace

void run_in_session(std::int64_t task_id, bool skip_waits, bool may_commit) {
  const std::int64_t nonce = check_caller(task_id);
  const SessionClaim claim(task_id);
  SessionRunner(task_id, skip_waits, may_commit, nonce).run();
}

}  // namespace tasker::engine
