// The dispatcher's dealings with steps that are not an executor's: waits and signals are its own work, external steps it
// offers to workers and takes back from them, calls of type http it hands to the courier.
#include <algorithm>

#include "engine/outside.hpp"
#include "pg/security.hpp"
#include "pg/xact.hpp"
#include "store/settings.hpp"
#include "worker/dispatcher.hpp"

namespace tasker::worker {

namespace {

using store::StepKey;

inline constexpr std::size_t kRoundSize = 500;
inline constexpr TimestampTz kAgain = USECS_PER_SEC;
inline constexpr TimestampTz kBusyAgain = 100 * 1000;

}  // namespace

void Dispatcher::put_outside(Oid owner, const QueuedStep &step) {
  if (queued_.contains(step.key)) return;
  if (in_flight_.contains(step.key)) {
    again_.insert(step.key);  // its call may have ended already: looked at when the courier reports
    return;
  }
  if (outside_.size() >= static_cast<std::size_t>(store::settings.ready_buffer)) {
    drop(step.key.task_id);
    return;
  }
  outside_.insert_or_assign(step.key, std::pair(owner, step));
}

void Dispatcher::tend_outside() {
  if (outside_.empty()) return;
  std::vector<StepKey> keys;
  keys.reserve(outside_.size());
  const TimestampTz again = GetCurrentTimestamp() + kAgain;
  for (const auto &[key, entry] : outside_) {
    if (!driven_by_session(key.task_id)) keys.push_back(key);
    else timers_.push({{key, again, entry.second.named_task_id, entry.second.priority, entry.first, store::HintKind::kTimer, true}});
  }
  outside_.clear();
  std::sort(keys.begin(), keys.end());
  for (std::size_t at = 0; at < keys.size(); at += kRoundSize)
    tend_outside({keys.begin() + static_cast<std::ptrdiff_t>(at), keys.begin() + static_cast<std::ptrdiff_t>(std::min(keys.size(), at + kRoundSize))});
}

// A row that somebody holds or has moved spoils the round: then each step for itself, and what still fails in a second.
void Dispatcher::tend_outside(const std::vector<StepKey> &keys) {
  engine::OutsideRound round(home_.nonce, pass_memory_.get());
  try {
    pg::Transaction transaction;
    round.tend(keys);
    transaction.commit();
  } catch (const std::exception &) {
    const pg::Caught why = pg::describe_current_exception();
    if (why.sqlstate == "57P01") throw;
    if (keys.size() > 1) {
      for (const StepKey &key : keys) tend_outside(std::vector<StepKey>{key});
      return;
    }
    if (why.sqlstate != "55P03" && why.sqlstate != "40001")
      pg::report(pg::Level::kLog, "tasker: could not move step " + std::to_string(keys.front().step_no) + " of task " + std::to_string(keys.front().task_id) + ": " + why.message,
                 why.detail, "It is tried again in a second.");
    timers_.push({{keys.front(), GetCurrentTimestamp() + kAgain, 0, 0, InvalidOid, store::HintKind::kTimer, true}});
    return;
  }
  round.count_outcomes();
  history_counted_ = true;
  for (const StepKey &key : round.busy()) timers_.push({{key, GetCurrentTimestamp() + kBusyAgain, 0, 0, InvalidOid, store::HintKind::kTimer, true}});
  for (const engine::OutsideRound::Call &each : round.calls()) {
    const QueuedStep step{each.key, each.named_task_id, each.priority, sequence_++, true};
    if (!held_keys_.contains(each.key) && !limits_.waits(each.key) && !in_flight_.contains(each.key) && !hold(each.owner, step)) call(each.owner, step);
  }
}

}  // namespace tasker::worker
