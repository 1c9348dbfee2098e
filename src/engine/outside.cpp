#include "engine/outside.hpp"

#include <algorithm>

#include "engine/create.hpp"
#include "engine/queue.hpp"
#include "engine/waits.hpp"
#include "pg/security.hpp"
#include "store/timers.hpp"
#include "store/transfers.hpp"

namespace tasker::engine {

namespace {

using store::HandlerType;
using store::TimerKind;

// Somebody's open transaction may hold any row: the dispatcher does not wait for it.
inline constexpr int kLockTimeoutMs = 100;

BatchOptions options_of(std::int64_t nonce, bool skip_waits) {
  BatchOptions options;
  options.nonce = nonce;
  options.skip_waits = skip_waits;
  options.outside = true;
  // Whoever does the work asks the circuit breaker.
  options.admits = [](int, const store::StepKey &) { return true; };
  return options;
}

}  // namespace

OutsideRound::OutsideRound(std::int64_t nonce, MemoryContext memory, bool skip_waits)
    : memory_(memory), skip_waits_(skip_waits), batch_(options_of(nonce, skip_waits), observer_, memory) {}

void OutsideRound::tend(const std::vector<store::StepKey> &wanted) {
  const std::vector<store::StepKey> keys = without_busy(wanted);
  batch_.load({keys.begin(), keys.end()});
  begin();
  end_due(keys);
  batch_.record();
  set_timers();
}

std::vector<store::StepKey> OutsideRound::without_busy(const std::vector<store::StepKey> &keys) {
  pg::OwnerScope as_owner(store::cached_extension_owner(), kLockTimeoutMs);
  pg::Spi spi;
  std::vector<std::int64_t> tasks;
  for (const store::StepKey &key : keys) tasks.push_back(key.task_id);
  const std::vector<std::int64_t> held = store::lock_tasks(tasks);
  std::vector<store::StepKey> out;
  for (const store::StepKey &key : keys) (std::find(held.begin(), held.end(), key.task_id) == held.end() ? out : busy_).push_back(key);
  return out;
}

void OutsideRound::begin() {
  std::vector<Offer> offers;
  batch_.begin_outside([&](Outcome &outcome, OutsideEnd &end) {
    const store::CompiledStep &step = outcome.step();
    const store::TaskRow &task = outcome.loaded.task;
    const store::StepKey &key = outcome.loaded.step.key;
    const int priority = task.priority + step.priority;
    switch (step.type) {
      case HandlerType::kHttp:
        calls_.push_back({key, task.named_task_id, priority, task.owner});
        return Batch::Begin::kLeave;
      case HandlerType::kExternal:
        if (role_is_gone(task.owner)) {
          end.error = gone_owner();
          end.may_retry = false;
          return Batch::Begin::kEnd;
        }
        offers.push_back({key, step.queue, priority, step.dependent_system_id});
        return Batch::Begin::kLeave;
      case HandlerType::kWait:
        try {
          const TimestampTz until = wait_until(batch_, outcome);
          if (until > outcome.started_at && !skip_waits_) {
            timers_.push_back({key, TimerKind::kWait, until});
            return Batch::Begin::kBegin;
          }
          end = wait_is_over(until, memory_);
        } catch (const tasker::Error &) {
          end.error = pg::describe_current_exception();
          end.category = "validation";
          end.may_retry = false;
        }
        return Batch::Begin::kEnd;
      default:
        break;
    }
    pg::OwnerScope as_owner(store::cached_extension_owner(), kLockTimeoutMs);
    pg::Spi spi;
    if (const auto signal = take_signal(key, memory_)) {
      end = signal_came(*signal);
      return Batch::Begin::kEnd;
    }
    if (step.timeout_seconds) timers_.push_back({key, TimerKind::kTimeout, outcome.started_at + static_cast<TimestampTz>(*step.timeout_seconds * USECS_PER_SEC)});
    return Batch::Begin::kBegin;
  });
  offer_steps(offers);
}

// What is under way and may be over: its time has come, or its signal.
void OutsideRound::end_due(const std::vector<store::StepKey> &keys) {
  std::vector<store::StepTimer> due;
  std::vector<store::LoadedStep> waiting;
  {
    pg::OwnerScope as_owner(store::cached_extension_owner(), kLockTimeoutMs);
    pg::Spi spi;
    due = store::due_step_timers(keys, skip_waits_ ? DT_NOEND : GetCurrentTimestamp());
    for (store::LoadedStep &loaded : store::load_steps({keys.begin(), keys.end()}, memory_))
      if (loaded.task.live && loaded.step.state == core::StepState::kInProgress) waiting.push_back(std::move(loaded));
    std::vector<store::StepKey> over;  // timers whose step ended without them
    for (const store::StepTimer &timer : due)
      if (std::none_of(waiting.begin(), waiting.end(), [&](const store::LoadedStep &l) { return l.step.key == timer.key; })) over.push_back(timer.key);
    store::drop_timers(over);
    for (const store::StepKey &key : over) (void)store::drop_expired_lease(key);  // void: its step has moved
  }
  for (const store::LoadedStep &loaded : waiting) {
    const store::StepKey &key = loaded.step.key;
    store::DefinitionPtr definition;
    std::optional<SentSignal> signal;
    {
      pg::OwnerScope as_owner(store::cached_extension_owner(), kLockTimeoutMs);
      pg::Spi spi;
      definition = store::definition(loaded.task.named_task_id);
      if (definition->step(key.step_no).type == HandlerType::kSignal) signal = take_signal(key, memory_);
    }
    const store::CompiledStep &step = definition->step(key.step_no);
    if (signal) {
      batch_.end_outside(key, loaded.step.moves, signal_came(*signal));
      continue;
    }
    for (const store::StepTimer &timer : due) {
      if (!(timer.key == key)) continue;
      if (skip_waits_ && timer.kind != TimerKind::kWait) continue;
      if (timer.kind == TimerKind::kWait) batch_.end_outside(key, loaded.step.moves, wait_is_over(timer.due, memory_));
      else if (step.type == HandlerType::kSignal) batch_.end_outside(key, loaded.step.moves, signal_stayed_out(step, memory_));
      else if (step.type == HandlerType::kExternal) take_back(batch_, loaded, step, timer.kind);
      break;
    }
  }
}

// Behind record(), which drops what a former attempt left.
void OutsideRound::set_timers() {
  if (timers_.empty()) return;
  pg::OwnerScope as_owner(store::cached_extension_owner(), kLockTimeoutMs);
  pg::Spi spi;
  store::set_step_timers(timers_);
}

}  // namespace tasker::engine
