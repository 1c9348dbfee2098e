// Who is next: a step among those of its owner (by priority and age, in turns among namespaces: core/ready_queue.hpp), and an
// owner among those who want the executors that there are.
#include <algorithm>

#include "pg/security.hpp"
#include "pg/spi.hpp"
#include "pg/xact.hpp"
#include "store/definitions.hpp"
#include "store/pauses.hpp"
#include "store/settings.hpp"
#include "store/step_stats.hpp"
#include "worker/dispatcher.hpp"

namespace tasker::worker {

namespace {

using store::ExecutorSlot;
using store::ExecutorState;

inline constexpr std::size_t kMaxKnownDefinitions = 100'000;
inline constexpr TimestampTz kShareEvery = 50 * 1000;
inline constexpr double kLeastCostMs = 0.1;  // of a step that has hardly run yet, or runs no code

constinit pg::Query select_definitions{
    "SELECT n.named_task_id, n.task_namespace_id, (SELECT count(*) FROM tasker.named_steps s WHERE s.named_task_id = n.named_task_id)"
    " FROM tasker.named_tasks n WHERE n.named_task_id = ANY ($1)",
    1, {INT4ARRAYOID}};

}  // namespace

// What the dispatcher must know of definitions, which never move to another namespace and keep their steps.
void Dispatcher::load_newcomers() {
  std::vector<int> wanted;
  for (const auto &[_, step] : newcomers_)
    if (namespaces_.emplace(step.named_task_id, 0).second) wanted.push_back(step.named_task_id);
  if (wanted.empty()) return;
  pg::Transaction transaction;
  {
    pg::OwnerScope as_owner(store::cached_extension_owner());
    pg::Spi spi;
    pg::ArrayBuilder ids(INT4OID);
    for (const int id : wanted) ids.int4(id);
    const pg::Result found = pg::execute(select_definitions, pg::Params().datum(ids.datum()));
    for (std::uint64_t i = 0; i < found.rows.size(); i++) {
      const int id = found.rows.int4(i, 1);
      namespaces_[id] = found.rows.int4(i, 2);
      if (found.rows.int8(i, 3) < core::kKinFrom) continue;
      const store::DefinitionPtr definition = store::definition(id);
      std::vector<core::Learner> learners;
      learners.reserve(definition->steps.size());
      for (const store::CompiledStep &step : definition->steps) learners.push_back(step.learner);
      learners_.insert_or_assign(id, std::move(learners));
    }
  }
  transaction.commit();
}

core::Learner Dispatcher::learner_of(const QueuedStep &step) const {
  const auto known = learners_.find(step.named_task_id);
  if (known == learners_.end() || static_cast<std::size_t>(step.key.step_no) > known->second.size()) return {step.key.step_no, 0};
  return known->second[static_cast<std::size_t>(step.key.step_no) - 1];
}

// The step is in queued_. One of a definition that is new here waits for the end of the pass.
void Dispatcher::enter(Oid owner, QueuedStep step) {
  if (entered_at_ == 0) entered_at_ = GetCurrentTimestamp();
  if (step.since == 0) step.since = entered_at_;
  const auto group = namespaces_.find(step.named_task_id);
  if (group == namespaces_.end()) {
    newcomers_.emplace_back(owner, step);
    return;
  }
  step.learner = learner_of(step);
  owners_[owner].steps.push(group->second, rank_of(step, ageing_ms_), step);
}

void Dispatcher::place_newcomers() {
  entered_at_ = 0;
  costs_.clear();
  follow_ageing();
  if (newcomers_.empty()) return;
  if (namespaces_.size() > kMaxKnownDefinitions) {
    namespaces_.clear();
    learners_.clear();
  }
  load_newcomers();
  for (auto &[owner, step] : newcomers_) {
    step.learner = learner_of(step);
    if (store::scope_paused(step.named_task_id)) queued_.erase(step.key);
    else owners_[owner].steps.push(namespaces_.at(step.named_task_id), rank_of(step, ageing_ms_), step);
  }
  newcomers_.clear();
}

// The setting has changed: what waits is put in order once.
void Dispatcher::follow_ageing() {
  if (ageing_ms_ == store::settings.priority_ageing_ms) return;
  ageing_ms_ = store::settings.priority_ageing_ms;
  const auto rank = [&](const QueuedStep &step) { return std::optional(rank_of(step, ageing_ms_)); };
  for (auto &[_, queue] : owners_) queue.steps.rework(rank);
  calls_.rework(rank);
}

// What a step takes of its namespace's share: the time an executor usually needs for it.
double Dispatcher::cost_of(const QueuedStep &step) {
  const auto [known, is_new] = costs_.try_emplace({step.named_task_id, step.key.step_no}, 0);
  if (is_new) known->second = std::max(static_cast<double>(store::step_durations(step.named_task_id, step.learner).p50_ms), kLeastCostMs);
  return known->second;
}

// Those that stay.
int Dispatcher::executors_of(Oid owner) const {
  int count = 0;
  for (int i = 0; i < store::shared->executor_count; i++) {
    ExecutorSlot &slot = store::executor_slot(i);
    const store::SpinGuard guard(slot);
    if (slot.state != ExecutorState::kFree && slot.state != ExecutorState::kExited && slot.database == MyDatabaseId && slot.owner == owner && !slot.stop) count++;
  }
  return count;
}

// The last place goes to whoever has the fewest executors; among equals to the one who has waited longest.
bool Dispatcher::yields_last_place(Oid owner, const OwnerQueue &queue, int mine) const {
  if (owners_.size() < 2) return false;
  const TimestampTz now = GetCurrentTimestamp();
  const TimestampTz my_since = queue.waiting_since != 0 ? queue.waiting_since : now;
  for (const auto &[other, theirs] : owners_) {
    const bool wants_one = theirs.waiting_since != 0 || (theirs.short_since != 0 && now - theirs.short_since > kEvictBusyAfter);
    if (other == owner || theirs.steps.empty() || !wants_one || theirs.blocked_until > now || theirs.start_at > now) continue;
    const int their_executors = executors_of(other);
    if (their_executors < mine || (their_executors == mine && theirs.waiting_since != 0 && theirs.waiting_since < my_since)) return true;
  }
  return false;
}

// Whoever has work left over all the time, and two executors fewer than somebody else, gets one of his. With one fewer
// the two are as even as they can be.
void Dispatcher::tend_share(Oid owner, OwnerQueue &queue) {
  if (queue.steps.empty()) {
    queue.short_since = 0;
    return;
  }
  const TimestampTz now = GetCurrentTimestamp();
  if (queue.short_since == 0) queue.short_since = now;
  if (now - queue.short_since < kEvictBusyAfter || now - queue.share_checked_at < kShareEvery || queue.blocked_until > now || queue.start_at > now) return;
  queue.share_checked_at = now;
  struct Share {
    Oid owner;
    int executors, best;  // best: of those that run, the one with the least in its mailbox; -1: none
    std::uint64_t load;
  };
  std::vector<Share> shares;
  shares.reserve(static_cast<std::size_t>(store::shared->executor_count));
  int all = 0, here = 0;
  for (int i = 0; i < store::shared->executor_count; i++) {
    ExecutorState state;
    Oid whose;
    bool ours, stop, soon;
    std::uint64_t load;
    {
      ExecutorSlot &slot = store::executor_slot(i);
      const store::SpinGuard guard(slot);
      state = slot.state;
      whose = slot.owner;
      ours = slot.database == MyDatabaseId;
      stop = slot.stop;
      soon = stop && !is_held_up(slot, now);
      load = slot.assigned - slot.done;
    }
    if (state == ExecutorState::kFree || state == ExecutorState::kExited) continue;
    all++;
    if (!ours) continue;
    if (soon || (whose == owner && state == ExecutorState::kStarting)) return;  // it is coming
    here++;
    if (stop) continue;
    auto share = std::find_if(shares.begin(), shares.end(), [&](const Share &each) { return each.owner == whose; });
    if (share == shares.end()) share = shares.insert(shares.end(), {whose, 0, -1, 0});
    share->executors++;
    if (state != ExecutorState::kRunning || (share->best >= 0 && load >= share->load)) continue;
    share->best = i;
    share->load = load;
  }
  int mine = 0;
  for (const Share &share : shares)
    if (share.owner == owner) mine = share.executors;
  const auto most = std::max_element(shares.begin(), shares.end(), [](const Share &a, const Share &b) { return a.executors < b.executors; });
  if (most == shares.end() || most->executors <= mine) return;
  if (all < store::settings.max_executors && here < concurrency_limit()) {  // the one that left for this
    start_executor(owner, queue);
    return;
  }
  if (most->executors < mine + 2 || most->best < 0) return;
  ExecutorSlot &slot = store::executor_slot(most->best);
  int proc = -1;
  {
    const store::SpinGuard guard(slot);
    if (slot.state == ExecutorState::kRunning && slot.database == MyDatabaseId && slot.owner == most->owner) {
      slot.stop = true;
      proc = slot.proc;
    }
  }
  store::wake(proc);
}

}  // namespace tasker::worker
