// The dispatcher's dealings with limits on steps (core/limits.hpp): who is over one waits here, in no queue, until a place or a
// token comes for it. Without limits this costs one look at shared memory a pass.
#include <algorithm>

#include "pg/security.hpp"
#include "pg/xact.hpp"
#include "store/limit_figures.hpp"
#include "store/limits.hpp"
#include "store/pauses.hpp"
#include "store/settings.hpp"
#include "worker/dispatcher.hpp"

namespace tasker::worker {

namespace {

using store::StepKey;

inline constexpr std::size_t kMaxKnownSteps = 100'000;  // whose limits are remembered
inline constexpr std::size_t kMaxKnownTasks = 10'000;   // whose keys are
inline constexpr std::size_t kRoundSize = 500;
inline constexpr int kRounds = 20;

}  // namespace

void Dispatcher::tend_limits() {
  if (store::limits_changed()) follow_limits();
  if (limits_.idle()) return;
  if (parked_more_ && limits_.waiting() < static_cast<std::size_t>(store::settings.ready_buffer) / 2) {
    parked_more_ = false;
    drop(0);
  }
  let_out_parked();
}

// What runs now is counted under the new limits; what waited is asked again.
void Dispatcher::follow_limits() {
  bool changed = false;
  std::vector<store::NamedRun> runs;
  {
    pg::Transaction transaction;
    {
      pg::OwnerScope as_owner(store::cached_extension_owner());
      pg::Spi spi;
      changed = store::refresh_limits();
      if (changed && !store::limits().empty()) runs = runs_under_way();
    }
    transaction.commit();
  }
  if (!changed && limits_seen_) return;
  const TimestampTz now = GetCurrentTimestamp();
  std::vector<int> stay;
  std::unordered_map<int, core::LimitRule> rules;
  for (const store::StepLimit &limit : store::limits()) {
    rules.emplace(limit.limit_id, limit.rule);
    stay.push_back(limit.limit_id);
  }
  if (store::any_limit_figures()) store::drop_limit_figures(stay);
  const std::vector<Limits::Waiting> waited = limits_.restart(std::move(rules), now);
  // A dispatcher before this one has taken tokens.
  if (!limits_seen_ && store::any_limit_figures())
    for (const core::GroupFigures &each : store::published_limits()) limits_.seed(each.id, each.tokens, each.as_of);
  limits_seen_ = true;
  known_limits_.clear();
  known_keys_.clear();
  known_limited_ = 0;
  for (const store::NamedRun &run : runs) limits_.adopt(run.key, groups_of(run.key, run.named_task_id), now);
  const KeySet good = startable(waited);
  for (const auto &[owner, step] : waited)
    if (good.contains(step.key)) requeue(static_cast<Oid>(owner), step);
}

// What was cancelled, paused or resolved while it waited takes neither place nor token.
KeySet Dispatcher::startable(const std::vector<Limits::Waiting> &steps) {
  KeySet good;
  for (std::size_t from = 0; from < steps.size(); from += kRoundSize) {
    std::vector<StepKey> keys;
    for (std::size_t i = from; i < std::min(from + kRoundSize, steps.size()); i++) keys.push_back(steps[i].second.key);
    pg::Transaction transaction;
    {
      pg::OwnerScope as_owner(store::cached_extension_owner());
      pg::Spi spi;
      for (const StepKey &key : store::startable(keys)) good.insert(key);
    }
    transaction.commit();
  }
  return good;
}

// In executors' hands and in the courier's, who may have calls from a dispatcher before this one.
std::vector<store::NamedRun> Dispatcher::runs_under_way() {
  std::vector<store::NamedRun> runs = store::named_runs({in_flight_.begin(), in_flight_.end()});
  for (const store::NamedRun &call : store::calls_under_way()) {
    if (in_flight_.contains(call.key)) continue;
    adopted_calls_.insert(call.key);
    runs.push_back(call);
  }
  return runs;
}

// The courier is gone, and with it what it had.
void Dispatcher::end_adopted_calls() {
  for (const StepKey &key : adopted_calls_) limits_.finish(key);
  adopted_calls_.clear();
}

// Definitions never change, so what was read once stays true until the limits do.
const LimitsOfDefinition &Dispatcher::limits_of(int named_task_id) {
  if (const auto known = known_limits_.find(named_task_id); known != known_limits_.end()) return known->second;
  if (known_limited_ > kMaxKnownSteps) {
    known_limits_.clear();
    known_limited_ = 0;
  }
  LimitsOfDefinition out;
  {
    pg::Transaction transaction;
    {
      pg::OwnerScope as_owner(store::cached_extension_owner());
      pg::Spi spi;
      const store::DefinitionPtr definition = store::definition(named_task_id);
      for (const store::CompiledStep &step : definition->steps) {
        for (const store::StepLimit *limit : store::limits_over(store::limits(), *definition, step)) {
          out.by_step[step.step_no].push_back({limit->limit_id, limit->keyed});
          if (limit->keyed && std::find(out.keyed.begin(), out.keyed.end(), limit->limit_id) == out.keyed.end()) out.keyed.push_back(limit->limit_id);
        }
      }
    }
    transaction.commit();
  }
  known_limited_ += out.by_step.size() + 1;
  return known_limits_.emplace(named_task_id, std::move(out)).first->second;
}

// The context of a task never changes.
const core::GroupIds &Dispatcher::keys_of(std::int64_t task_id, const std::vector<int> &limit_ids) {
  if (const auto known = known_keys_.find(task_id); known != known_keys_.end()) return known->second;
  if (known_keys_.size() >= kMaxKnownTasks) known_keys_.clear();
  core::GroupIds out;
  {
    pg::Transaction transaction;
    {
      pg::OwnerScope as_owner(store::cached_extension_owner());
      pg::Spi spi;
      out = store::keyed_groups(task_id, limit_ids, pg::Access::kWrite);
    }
    transaction.commit();
  }
  return known_keys_.emplace(task_id, std::move(out)).first->second;
}

core::GroupIds Dispatcher::groups_of(const StepKey &key, int named_task_id) {
  const LimitsOfDefinition &known = limits_of(named_task_id);
  const auto step = known.by_step.find(key.step_no);
  if (step == known.by_step.end()) return {};
  core::GroupIds out;
  for (const auto &[limit_id, keyed] : step->second) {
    if (!keyed) {
      out.push_back({limit_id, 0});
      continue;
    }
    for (const core::GroupId &value : keys_of(key.task_id, known.keyed))
      if (value.limit == limit_id) out.push_back(value);
  }
  return out;
}

// True: the step waits for a limit, here.
bool Dispatcher::park(Oid owner, const QueuedStep &step) {
  if (limits_.idle()) return false;
  const core::GroupIds groups = groups_of(step.key, step.named_task_id);
  if (groups.empty()) return false;
  const TimestampTz now = GetCurrentTimestamp();
  if (limits_.admits(step.key, groups, now)) return false;
  if (limits_.waiting() >= static_cast<std::size_t>(store::settings.ready_buffer)) parked_more_ = true;  // a sweep finds it when there is room
  else limits_.park(step.key, static_cast<int>(owner), rank_of(step, ageing_ms_), groups, step, now);
  return true;
}

// The next step of the queue waits for a limit. True: it has been taken out of the queue.
bool Dispatcher::park_top(Oid owner, OwnerQueue &queue) {
  if (limits_.idle()) return false;
  const QueuedStep step = queue.steps.top();
  if (!park(owner, step)) return false;
  queue.steps.pop();
  queued_.erase(step.key);
  return true;
}

// It is given to an executor or the courier. Precondition: it did not have to wait a moment ago.
void Dispatcher::begin_limited(const QueuedStep &step) {
  if (limits_.idle()) return;
  const core::GroupIds groups = groups_of(step.key, step.named_task_id);
  if (!groups.empty()) limits_.begin(step.key, groups, GetCurrentTimestamp());
}

// Those for whom there is room go to their queues, with their places reserved.
void Dispatcher::let_out_parked() {
  for (int round = 0; round < kRounds; round++) {
    const TimestampTz now = GetCurrentTimestamp();
    std::vector<Limits::Waiting> out;
    while (out.size() < kRoundSize) {
      std::optional<Limits::Waiting> next = limits_.let_out(now);
      if (!next) break;
      out.push_back(std::move(*next));
    }
    if (out.empty()) return;
    const KeySet good = startable(out);
    for (const auto &[owner, step] : out) {
      if (good.contains(step.key) && !store::scope_paused(step.named_task_id)) let_go_on(static_cast<Oid>(owner), step, now);
      else limits_.forget(step.key);
    }
  }
}

void Dispatcher::let_go_on(Oid owner, const QueuedStep &step, TimestampTz now) {
  if (!step.outside) {
    // One whose owner cannot connect keeps nobody from the place.
    if (is_blocked(owner, now)) limits_.forget(step.key);
    if (queued_.insert(step.key).second) enter(owner, step);
    return;
  }
  if (!hold(owner, step)) call(owner, step);
  if (!queued_.contains(step.key)) limits_.forget(step.key);
}

// At the end of a pass: for the view step_limits, readiness, and the next dispatcher.
void Dispatcher::publish_limits() {
  if (!limits_.idle()) store::publish_limits(limits_.take_changes(GetCurrentTimestamp()));
}

// When there is something to do for limits at the latest.
TimestampTz Dispatcher::limits_due(TimestampTz now) const {
  if (limits_.pending()) return now;
  return limits_.next_at().value_or(DT_NOEND);
}

}  // namespace tasker::worker
