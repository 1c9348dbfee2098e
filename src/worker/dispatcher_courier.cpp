// The dispatcher's dealings with the courier: steps of type http are given to it, it is started when it is needed, and what
// it held when it was lost is looked at again.
#include <algorithm>

#include "pg/security.hpp"
#include "pg/xact.hpp"
#include "store/settings.hpp"
#include "store/transfers.hpp"
#include "worker/dispatcher.hpp"
#include "worker/loop.hpp"

namespace tasker::worker {

namespace {

using store::CourierState;
using store::StepKey;

inline constexpr int kAtOnce = 256;
inline constexpr TimestampTz kFirstStartPause = USECS_PER_SEC / 2;
inline constexpr TimestampTz kLongestStartPause = 30 * USECS_PER_SEC;
inline constexpr TimestampTz kStartTime = 30 * USECS_PER_SEC;  // far beyond any start

}  // namespace

void Dispatcher::call(Oid owner, const QueuedStep &step) {
  if (queued_.size() >= static_cast<std::size_t>(store::settings.ready_buffer)) {
    drop(step.key.task_id);
    return;
  }
  if (!queued_.insert(step.key).second) return;
  QueuedStep dated = step;
  if (dated.since == 0) dated.since = GetCurrentTimestamp();
  calls_.push(static_cast<int>(owner), rank_of(dated, ageing_ms_), dated);
}

void Dispatcher::tend_courier() {
  collect_calls();
  const store::CourierView view = store::look_at_courier(slot_.courier);
  if (view.state != CourierState::kNone && (!cancels_.empty() || recheck_runs_)) store::ask_courier_to_recheck(slot_.courier);
  if (view.state == CourierState::kNone) start_courier();
  give_calls();
}

void Dispatcher::collect_calls() {
  StepKey keys[kAtOnce];
  for (int count = kAtOnce; count == kAtOnce;) {
    count = store::collect_from_courier(slot_.courier, keys, kAtOnce);
    for (int i = 0; i < count; i++) {
      with_courier_.erase(keys[i]);
      in_flight_.erase(keys[i]);
      adopted_calls_.erase(keys[i]);
      limits_.finish(keys[i]);
      if (again_.erase(keys[i]) > 0) relook_.push_back(keys[i].task_id);
    }
    if (count > 0) courier_failures_ = 0;
    history_counted_ = history_counted_ || count > 0;
  }
  const store::CourierView view = store::look_at_courier(slot_.courier);
  const bool never_came = view.state == CourierState::kStarting &&
                          (courier_ == nullptr ? GetCurrentTimestamp() - view.since > kStartTime : worker_stopped(courier_));
  if (never_came) store::forget_courier(slot_.courier);
  if (view.state != CourierState::kNone && !never_came) return;
  // Gone, as it does when there is nothing to do; or lost, with what it held.
  if (never_came || !with_courier_.empty()) {
    courier_start_at_ = GetCurrentTimestamp() + std::min(kFirstStartPause << std::min(courier_failures_++, 6), kLongestStartPause);
    transfers_left_ = true;
  }
  courier_ = nullptr;
  end_adopted_calls();
  for (const StepKey &key : with_courier_) {
    in_flight_.erase(key);
    limits_.finish(key);
    again_.erase(key);
    look_.push_back(key.task_id);
  }
  with_courier_.clear();
}

// For steps that wait for it; or for calls that an earlier one has left behind, which only a courier ends.
void Dispatcher::start_courier() {
  const TimestampTz now = GetCurrentTimestamp();
  if (now < courier_start_at_) return;
  bool wanted = !calls_.empty();
  if (!wanted && transfers_left_) {
    pg::Transaction transaction;
    {
      pg::OwnerScope as_owner(store::cached_extension_owner());
      pg::Spi spi;
      wanted = store::any_transfers();
    }
    transaction.commit();
  }
  transfers_left_ = false;
  if (!wanted || !store::reserve_courier(slot_.courier)) return;
  courier_ = start_worker("tasker_courier_main", "tasker courier", index_);
  if (courier_ != nullptr) return;
  store::forget_courier(slot_.courier);
  courier_start_at_ = now + USECS_PER_SEC;  // a full worker table: start_worker has said so
  transfers_left_ = true;
}

void Dispatcher::give_calls() {
  while (!calls_.empty()) {
    store::CourierEntry entries[kAtOnce];
    QueuedStep steps[kAtOnce];
    int groups[kAtOnce];
    int count = 0;
    for (; count < kAtOnce && !calls_.empty(); calls_.pop(1)) {
      const QueuedStep &step = calls_.top();
      if (driven_by_session(step.key.task_id)) {
        queued_.erase(step.key);
        limits_.forget(step.key);
        continue;
      }
      if (park(static_cast<Oid>(calls_.next_group()), step)) {
        queued_.erase(step.key);
        continue;
      }
      begin_limited(step);
      steps[count] = step;
      groups[count] = calls_.next_group();
      entries[count++] = {step.key, step.named_task_id, step.priority};
    }
    const int given = store::give_to_courier(slot_.courier, entries, count);
    for (int i = 0; i < count; i++) {
      if (i >= given) {
        limits_.take_back(steps[i].key, GetCurrentTimestamp());
        calls_.push(groups[i], rank_of(steps[i], ageing_ms_), steps[i]);
        continue;
      }
      queued_.erase(steps[i].key);
      in_flight_.insert(steps[i].key);
      with_courier_.insert(steps[i].key);
    }
    if (given < count) return;
  }
}

}  // namespace tasker::worker
