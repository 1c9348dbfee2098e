// The dispatcher's dealings with circuit breakers: steps of a system whose breaker is not closed wait here, one by one
// they probe a half-open one, and all go on when it closes. It also writes what has moved in memory, and takes over
// what people wrote.
#include <algorithm>

#include "pg/security.hpp"
#include "pg/xact.hpp"
#include "store/breaker_rows.hpp"
#include "store/pauses.hpp"
#include "store/settings.hpp"
#include "worker/dispatcher.hpp"

namespace tasker::worker {

namespace {

using core::BreakerState;
using store::StepKey;

inline constexpr std::size_t kMaxKnownSteps = 100'000;       // whose systems are remembered
inline constexpr TimestampTz kSaveAgain = USECS_PER_SEC;

}  // namespace

// Costs one look at shared memory while nobody needs it.
void Dispatcher::tend_breakers() {
  if (!breakers_written_ && !breakers_moved_ && held_.empty() && store::all_breakers_quiet()) {
    breakers_.clear();
    return;
  }
  if (breakers_written_) take_over_breakers();
  const TimestampTz now = GetCurrentTimestamp();
  breakers_.clear();
  for (const store::BreakerView &view : store::poll_breakers(now)) breakers_.emplace(view.system, view);
  save_breakers(now);
  std::erase_if(held_, [&](auto &entry) { return !breakers_.contains(entry.first) && let_go(entry.second); });
  std::erase_if(probe_owners_, [&](const auto &entry) { return !breakers_.contains(entry.first); });
  for (const auto &[system, view] : breakers_)
    if (view.breaker.state == BreakerState::kHalfOpen) tend_probe(view, now);
}

// At the end of a pass: for the view circuit_breakers.
void Dispatcher::publish_held() {
  for (auto &[system, view] : breakers_) {
    const auto held = held_.find(system);
    const int waiting = held == held_.end() ? 0 : held->second.count;
    if (waiting != view.waiting) store::publish_waiting(system, waiting);
    view.waiting = waiting;
  }
}

// Rows that people wrote; at the start all that survived.
void Dispatcher::take_over_breakers() {
  pg::Transaction transaction;
  {
    pg::OwnerScope as_owner;
    pg::Spi spi;
    store::adopt_breakers(store::load_breakers());
  }
  transaction.commit();
  breakers_written_ = false;
}

// In a transaction of its own, so that one row that cannot be written delays nothing else.
void Dispatcher::save_breakers(TimestampTz now) {
  if (save_breakers_at_ > now) return;
  const std::vector<store::UnsavedBreaker> unsaved = store::unsaved_breakers();
  breakers_moved_ = false;
  save_breakers_at_ = 0;
  if (unsaved.empty()) return;
  std::vector<const store::UnsavedBreaker *> saved;
  bool again = false;
  try {
    pg::Transaction transaction;
    {
      pg::OwnerScope as_owner(store::cached_extension_owner(), 100);
      pg::Spi spi;
      for (const store::UnsavedBreaker &each : unsaved) {
        const store::Saved outcome = store::save_breaker(each);
        if (outcome == store::Saved::kSaved) saved.push_back(&each);
        // Somebody's word on it is under way; or it has been given, and is taken over instead.
        again = again || outcome == store::Saved::kLocked;
        breakers_written_ = breakers_written_ || outcome == store::Saved::kNewerRow;
      }
    }
    transaction.commit();
    for (const store::UnsavedBreaker *each : saved) store::breaker_saved(*each);
  } catch (const std::exception &) {
    const pg::Caught why = pg::describe_current_exception();
    if (why.sqlstate == "57P01") throw;
    pg::report(pg::Level::kLog, "tasker: could not write the state of circuit breakers: " + why.message, why.detail, "It is tried again in a second.");
    again = true;
  }
  if (again) save_breakers_at_ = now + kSaveAgain;
}

// 0 for none. Definitions never change, so what was read once stays true.
int Dispatcher::system_of(const QueuedStep &step) {
  auto found = systems_.find(step.named_task_id);
  if (found == systems_.end()) {
    if (known_systems_ > kMaxKnownSteps) {
      systems_.clear();
      known_systems_ = 0;
    }
    pg::Transaction transaction;
    {
      pg::OwnerScope as_owner;
      pg::Spi spi;
      found = systems_.emplace(step.named_task_id, store::systems_of(step.named_task_id)).first;
    }
    transaction.commit();
    known_systems_ += found->second.size() + 1;
  }
  const auto system = found->second.find(step.key.step_no);
  return system == found->second.end() ? 0 : system->second;
}

// True: the step waits for its breaker, here.
bool Dispatcher::hold(Oid owner, const QueuedStep &step) {
  if (breakers_.empty()) return false;
  const int system = system_of(step);
  if (!breakers_.contains(system)) return false;
  if (store::begin_probe(system, step.key)) {
    probe_owners_[system] = owner;
    return false;
  }
  HeldSteps &held = held_[system];
  if (held_keys_.size() >= static_cast<std::size_t>(store::settings.ready_buffer)) {
    held.more = true;
    return true;
  }
  held_keys_.insert(step.key);
  held.by_owner[owner].push_back(step);
  held.count++;
  return true;
}

// The next step of the queue waits for its breaker. True: it has been taken out of the queue.
bool Dispatcher::hold_top(Oid owner, OwnerQueue &queue) {
  if (breakers_.empty()) return false;
  const QueuedStep step = queue.steps.top();
  if (!hold(owner, step)) return false;
  queue.steps.pop();
  queued_.erase(step.key);
  limits_.forget(step.key);
  return true;
}

void Dispatcher::requeue(Oid owner, const QueuedStep &step) {
  if (step.outside) put_outside(owner, step);
  else if (queued_.insert(step.key).second) enter(owner, step);
}

// Back to the queues. Always true.
bool Dispatcher::let_go(const HeldSteps &held) {
  for (const auto &[owner, steps] : held.by_owner) {
    for (const QueuedStep &step : steps) {
      held_keys_.erase(step.key);
      if (store::scope_paused(step.named_task_id)) continue;
      if (queued_.size() >= static_cast<std::size_t>(store::settings.ready_buffer)) drop(step.key.task_id);
      else requeue(owner, step);
    }
  }
  if (held.more) drop(0);
  return true;
}

bool Dispatcher::is_blocked(Oid owner, TimestampTz now) const {
  const auto queue = owners_.find(owner);
  return queue != owners_.end() && queue->second.blocked_until > now;
}

// Those that an order to pause covers go; the sweep at its end finds them again.
void Dispatcher::drop_paused(HeldSteps &held) {
  for (auto entry = held.by_owner.begin(); entry != held.by_owner.end();) {
    std::deque<QueuedStep> &steps = entry->second;
    while (!steps.empty() && store::scope_paused(steps.front().named_task_id)) {
      held_keys_.erase(steps.front().key);
      steps.pop_front();
      held.count--;
    }
    entry = steps.empty() ? held.by_owner.erase(entry) : std::next(entry);
  }
}

// The owner whose step has waited longest, of those whose steps can start; InvalidOid when there is none.
Oid Dispatcher::next_probe_owner(int system, TimestampTz now) const {
  const auto held = held_.find(system);
  if (held == held_.end()) return InvalidOid;
  Oid best = InvalidOid;
  std::uint64_t first = 0;
  for (const auto &[owner, steps] : held->second.by_owner) {
    if (is_blocked(owner, now) || (OidIsValid(best) && steps.front().sequence > first)) continue;
    best = owner;
    first = steps.front().sequence;
  }
  return best;
}

// A probe is under way while it is in the books, whatever happens to it and to the process that runs it. One that
// waits for an owner who cannot connect makes room for another owner's.
bool Dispatcher::probe_is_under_way(const store::BreakerView &view, TimestampTz now) const {
  if (view.probe_in_session || in_flight_.contains(view.probe)) return true;
  if (!queued_.contains(view.probe)) return false;
  const auto owner = probe_owners_.find(view.system);
  return owner == probe_owners_.end() || !is_blocked(owner->second, now) || !OidIsValid(next_probe_owner(view.system, now));
}

// One step at a time of a half-open breaker's system is let out.
void Dispatcher::tend_probe(const store::BreakerView &view, TimestampTz now) {
  if (view.breaker.probing) {
    if (probe_is_under_way(view, now)) return;
    store::end_probe(view.system, view.probe);
  }
  const auto held = held_.find(view.system);
  if (held == held_.end()) return;
  drop_paused(held->second);
  const Oid owner = next_probe_owner(view.system, now);
  if (!OidIsValid(owner)) {
    // All that is left are those that found no room: a sweep brings them.
    if (held->second.by_owner.empty() && held->second.more) {
      held->second.more = false;
      drop(0);
    }
    return;
  }
  std::deque<QueuedStep> &steps = held->second.by_owner[owner];
  const QueuedStep step = steps.front();
  if (!store::begin_probe(view.system, step.key)) return;
  steps.pop_front();
  if (steps.empty()) held->second.by_owner.erase(owner);
  held->second.count--;
  held_keys_.erase(step.key);
  probe_owners_[view.system] = owner;
  requeue(owner, step);
}

// When there is something to do for breakers at the latest.
TimestampTz Dispatcher::breakers_due(TimestampTz now) const {
  if (breakers_written_) return now;
  TimestampTz due = save_breakers_at_ != 0 ? save_breakers_at_ : DT_NOEND;
  for (const auto &[system, view] : breakers_) {
    if (view.breaker.state == BreakerState::kOpen) {
      due = std::min(due, view.breaker.open_until);
      continue;
    }
    const auto held = held_.find(system);
    if (held == held_.end()) continue;
    const auto probe = probe_owners_.find(system);
    const bool stuck = probe != probe_owners_.end() && is_blocked(probe->second, now);
    if (stuck && OidIsValid(next_probe_owner(system, now))) return now;
    for (const auto &[owner, _] : held->second.by_owner)
      if (is_blocked(owner, now)) due = std::min(due, owners_.at(owner).blocked_until);
  }
  return due;
}

}  // namespace tasker::worker
