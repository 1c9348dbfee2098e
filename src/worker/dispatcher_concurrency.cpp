// How many executors this database may have: decided anew now and then while work waits, never on the way of a step.
#include <algorithm>

#include "pg/fault.hpp"
#include "pg/security.hpp"
#include "pg/xact.hpp"
#include "store/concurrency.hpp"
#include "store/settings.hpp"
#include "worker/dispatcher.hpp"
#include "worker/loop.hpp"

namespace tasker::worker {

using store::ExecutorSlot;
using store::ExecutorState;

int Dispatcher::concurrency_limit() const {
  if (!store::settings.dynamic_concurrency || slot_.concurrency == 0) return store::settings.max_concurrent_steps;
  return std::min(slot_.concurrency, store::settings.max_concurrent_steps);
}

// Looks at the server when work waits and the last look is older than the interval; an idle dispatcher never does.
void Dispatcher::tend_concurrency() {
  const bool dynamic = store::settings.dynamic_concurrency;
  if (!dynamic) slot_.concurrency = 0;  // switched on again, it is decided at once
  const TimestampTz now = GetCurrentTimestamp();
  const bool wanted = dynamic || store::settings.adaptive_batching;
  const bool fresh = now - concurrency_at_ < static_cast<TimestampTz>(store::settings.concurrency_interval_s) * USECS_PER_SEC;
  if (wanted && (!fresh || (dynamic && slot_.concurrency == 0))) {
    const bool waiting = std::any_of(owners_.begin(), owners_.end(), [](const auto &owner) { return !owner.second.steps.empty(); });
    if (waiting) decide_concurrency(now);
  }
  shed_executors();
}

void Dispatcher::decide_concurrency(TimestampTz now) {
  concurrency_at_ = now;
  int decided = std::clamp(core::kEmergencyConcurrency, 1, store::settings.max_concurrent_steps);
  try {
    pg::Transaction transaction;
    {
      pg::OwnerScope as_owner(store::cached_extension_owner(), 100);
      pg::Spi spi;
      TASKER_FAULT("dispatcher.concurrency");
      core::ConcurrencyInputs inputs = store::concurrency_inputs();
      inputs.worker_slots = INT_MAX;  // each start asks for one, so that those that become free count at once, and says when there is none
      const core::ConcurrencyPlan plan = core::plan_concurrency(inputs);
      decided = plan.result;
      store::shared->connection_pressure = plan.pressure;
    }
    transaction.commit();
  } catch (const std::exception &) {
    const pg::Caught why = pg::describe_current_exception();
    if (why.sqlstate == "57P01") throw;
    pg::report(pg::Level::kLog, "tasker: could not assess the load: " + why.message, why.detail,
               "At most " + std::to_string(decided) + " steps run at once until the next try.");
  }
  if (!store::settings.dynamic_concurrency) return;
  slot_.concurrency_at = now;
  slot_.concurrency = decided;
}

// More than may be: the idle ones leave at once, the others after what they have begun.
void Dispatcher::shed_executors() {
  const int limit = concurrency_limit();
  for (;;) {
    int here = 0, victim = -1;
    bool victim_idle = false;
    for (int i = 0; i < store::shared->executor_count; i++) {
      ExecutorSlot &slot = store::executor_slot(i);
      const store::SpinGuard guard(slot);
      if (slot.state == ExecutorState::kFree || slot.state == ExecutorState::kExited || slot.database != MyDatabaseId || slot.stop) continue;
      here++;
      const bool idle = slot.assigned == slot.done;
      if (slot.state == ExecutorState::kRunning && (victim < 0 || (idle && !victim_idle))) {
        victim = i;
        victim_idle = idle;
      }
    }
    if (here <= limit || victim < 0) return;
    ExecutorSlot &slot = store::executor_slot(victim);
    int proc = -1;
    {
      const store::SpinGuard guard(slot);
      if (slot.state == ExecutorState::kRunning && slot.database == MyDatabaseId) {
        slot.stop = true;
        proc = slot.proc;
      }
    }
    store::wake(proc);
  }
}

}  // namespace tasker::worker
