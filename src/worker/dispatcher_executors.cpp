// The dispatcher's dealings with executors: which step goes to whom, who is started, stopped, interrupted.
#include <signal.h>

#include <algorithm>

#include "engine/batch.hpp"
#include "engine/create.hpp"
#include "pg/fault.hpp"
#include "pg/security.hpp"
#include "pg/xact.hpp"
#include "store/concurrency.hpp"
#include "store/hints.hpp"
#include "store/settings.hpp"
#include "store/step_stats.hpp"
#include "worker/dispatcher.hpp"
#include "worker/loop.hpp"

namespace tasker::worker {

namespace {

using store::ExecutorSlot;
using store::ExecutorState;
using store::Hint;
using store::HintKind;
using store::StepKey;

// Entries of fast steps in one mailbox: two batches' worth of time, so that there is a next batch when one is committed.
inline constexpr std::uint64_t kLeastBacklog = 2, kMostBacklog = store::kMailboxSize;
inline constexpr TimestampTz kBacklogPatience = 5 * 1000;  // more steps than that wait: one more executor helps
inline constexpr TimestampTz kTerminateAfter = 5 * USECS_PER_SEC;
inline constexpr TimestampTz kPreemptAfter = USECS_PER_SEC;
inline constexpr TimestampTz kTakeBackAfter = 20 * 1000;
inline constexpr TimestampTz kAboutToReport = 2 * 1000;
inline constexpr TimestampTz kOwnerRetry = 30 * USECS_PER_SEC;
inline constexpr TimestampTz kFirstStartPause = USECS_PER_SEC / 2;
inline constexpr TimestampTz kFollowEvery = 100 * 1000;
inline constexpr TimestampTz kJudgeAfter = 100 * 1000;

bool is_fast(const QueuedStep &step) {
  return step.noop || store::is_batchable(step.named_task_id, step.learner, store::settings.max_batch_duration_ms);
}

}  // namespace

// After a restart of the dispatcher: what live executors hold counts as running.
void Dispatcher::adopt_executors() {
  for (int i = 0; i < store::shared->executor_count; i++) {
    ExecutorSlot &slot = store::executor_slot(i);
    const store::SpinGuard guard(slot);
    if (slot.state == ExecutorState::kFree || slot.database != MyDatabaseId) continue;
    ExecutorView &view = views_[static_cast<std::size_t>(i)];
    view.generation = slot.generation;
    view.collected = slot.done;
    view.started_at = GetCurrentTimestamp();
    for (std::uint64_t n = slot.done; n < slot.assigned; n++) in_flight_.insert(slot.mailbox[n % store::kMailboxSize]);
  }
}

void Dispatcher::collect() {
  for (int i = 0; i < store::shared->executor_count; i++) {
    ExecutorSlot &slot = store::executor_slot(i);
    ExecutorView &view = views_[static_cast<std::size_t>(i)];
    if (slot.state == ExecutorState::kFree || slot.database != MyDatabaseId || slot.generation != view.generation) continue;
    StepKey done[store::kMailboxSize];
    int count = 0;
    bool exited;
    {
      const store::SpinGuard guard(slot);
      while (view.collected < slot.done && count < store::kMailboxSize) done[count++] = slot.mailbox[view.collected++ % store::kMailboxSize];
      exited = slot.state == ExecutorState::kExited;
    }
    history_counted_ = history_counted_ || count > 0;
    if (const auto owner = owners_.find(slot.owner); count > 0 && owner != owners_.end()) owner->second.failed_starts = 0;
    for (int n = 0; n < count; n++) {
      in_flight_.erase(done[n]);
      limits_.finish(done[n]);
      if (again_.erase(done[n]) > 0) relook_.push_back(done[n].task_id);
    }
    // An adopted one has no handle; half a minute is far beyond any start.
    const bool overdue = view.handle == nullptr ? GetCurrentTimestamp() - view.started_at > kOwnerRetry : worker_stopped(view.handle);
    const bool never_came = slot.state == ExecutorState::kStarting && overdue;
    if (never_came) {
      OwnerQueue &queue = owners_[slot.owner];
      queue.blocked_until = GetCurrentTimestamp() + kOwnerRetry;
      pg::report(pg::Level::kLog, "tasker: an executor could not log in as \"" + std::to_string(slot.owner) + "\"", {}, "Its steps wait; the next try is in 30 s.");
    }
    if ((exited && !is_judged_later(view, slot)) || never_came) collect_exited(i);
  }
}

// The processes of a server that stops or dies end in any order: whoever left a step behind is judged when this process has had time
// to learn that it must go, too. Until then nothing of it is touched.
bool Dispatcher::is_judged_later(ExecutorView &view, const ExecutorSlot &slot) {
  if (slot.run_number == 0) return false;
  // Not PostmasterIsAlive(), which hears of it by a signal, and that may come after what woke the executor.
  if (!PostmasterIsAliveInternal()) proc_exit(kExitRestart);
  const TimestampTz now = GetCurrentTimestamp();
  if (view.left_run_at == 0) view.left_run_at = now;
  return now - view.left_run_at < kJudgeAfter;
}

// Its entries are looked at again in the tables; the run it was in, if any, is a failed attempt. Where executors end
// before they have done anything, not asked to and not by a step, the next one is started after a growing pause.
void Dispatcher::collect_exited(int index) {
  ExecutorSlot &slot = store::executor_slot(index);
  ExecutorView &view = views_[static_cast<std::size_t>(index)];
  ExecutorSlot lost;
  {
    const store::SpinGuard guard(slot);
    lost = slot;
    slot.state = ExecutorState::kFree;
    slot.owner = InvalidOid;
    slot.database = InvalidOid;
    slot.run_number = 0;
  }
  view.handle = nullptr;
  if (const auto queue = owners_.find(lost.owner); queue != owners_.end()) queue->second.waiting_since = 0;  // its turn is over: others have waited longer
  if (lost.done == 0 && lost.run_number == 0 && !lost.stop) {
    OwnerQueue &queue = owners_[lost.owner];
    queue.start_at = GetCurrentTimestamp() + std::min(kFirstStartPause << std::min(queue.failed_starts++, 6), kOwnerRetry);
  }
  for (std::uint64_t n = view.collected; n < lost.assigned; n++) {
    const StepKey &key = lost.mailbox[n % store::kMailboxSize];
    in_flight_.erase(key);
    again_.erase(key);
    if (n < lost.taken) limits_.finish(key);
    else limits_.take_back(key, GetCurrentTimestamp());
    look_.push_back(key.task_id);
  }
  if (lost.run_number != 0) {
    look_.push_back(lost.current.task_id);
    record_lost_run(lost);
  }
}

void Dispatcher::record_lost_run(const ExecutorSlot &lost) {
  const bool late = GetCurrentTimestamp() >= lost.deadline;
  const pg::Caught error{late ? "57014" : "57P01", late ? "the step ran past its timeout and did not answer to a cancel" : "the executor was terminated while it ran the step",
                         {}, {}, {}};
  engine::NothingRuns observer;
  pg::OwnedContext memory(TopMemoryContext, "tasker lost run");
  engine::BatchOptions options;
  options.nonce = home_.nonce;
  engine::Batch batch(options, observer, memory.get());
  try {
    pg::Transaction transaction;
    if (batch.fail_lost_run(lost.current, lost.current_moves, error, late ? "timeout" : "cancelled", true)) batch.record();
    transaction.commit();
    batch.count_outcomes();
  } catch (const std::exception &) {
    // A row that is locked or has moved: the step is looked at again, at worst with an attempt that is not counted.
    const pg::Caught why = pg::describe_current_exception();
    if (why.sqlstate == "57P01") throw;
    pg::report(pg::Level::kLog, "tasker: could not record a terminated attempt: " + why.message);
  }
}

bool Dispatcher::driven_by_session(std::int64_t task_id) const {
  for (const store::SessionRun &run : store::shared->sessions)
    if (run.pid != 0 && run.task_id == task_id && run.database == MyDatabaseId) return true;
  return false;
}

void Dispatcher::assign() {
  place_newcomers();
  for (auto it = owners_.begin(); it != owners_.end();) {
    OwnerQueue &queue = it->second;
    if (!queue.steps.empty() && queue.blocked_until <= GetCurrentTimestamp())
      while (!queue.steps.empty() && assign_to(it->first, queue)) continue;
    if (queue.blocked_until > GetCurrentTimestamp()) limits_.forget_owner(static_cast<int>(it->first));
    tend_backlog(it->first, queue);
    tend_share(it->first, queue);
    if (queue.steps.empty()) queue.waiting_since = 0;
    it = queue.steps.empty() && queue.blocked_until == 0 && queue.failed_starts == 0 ? owners_.erase(it) : std::next(it);
  }
}

// Executors of fast steps are never without room for long, however much waits.
void Dispatcher::tend_backlog(Oid owner, OwnerQueue &queue) {
  const TimestampTz now = GetCurrentTimestamp();
  if (queue.steps.size() < kMostBacklog || queue.blocked_until > now) {
    queue.backlog_since = 0;
  } else if (queue.backlog_since == 0) {
    queue.backlog_since = now;
  } else if (now - queue.backlog_since > kBacklogPatience) {
    queue.backlog_since = now;
    start_executor(owner, queue);
  }
}

std::uint64_t Dispatcher::backlog_of(const QueuedStep &step) const {
  if (store::settings.adaptive_batching) {
    const int batch = store::batch_size(step.named_task_id, step.learner);
    return std::clamp(2 * static_cast<std::uint64_t>(batch), kLeastBacklog, kMostBacklog);
  }
  const double usual_ms = store::step_durations(step.named_task_id, step.learner).p50_ms;
  const double fit = 2.0 * store::settings.max_batch_duration_ms / std::max(usual_ms, 0.001);
  return static_cast<std::uint64_t>(std::clamp(fit, static_cast<double>(kLeastBacklog), static_cast<double>(kMostBacklog)));
}

// What a mailbox has room for. An entry that is done keeps its place until it has been collected: written over, its step would be in
// flight for ever.
int Dispatcher::free_places(int index) const {
  return store::kMailboxSize - static_cast<int>(store::executor_slot(index).assigned - views_[static_cast<std::size_t>(index)].collected);
}

// Best executor for a step: the one with the least in its mailbox, below `limit` entries.
int Dispatcher::pick_executor(Oid owner, std::uint64_t limit, int *room) const {
  int best = -1;
  std::uint64_t best_load = limit;
  const TimestampTz now = GetCurrentTimestamp();
  for (int i = 0; i < store::shared->executor_count; i++) {
    ExecutorSlot &slot = store::executor_slot(i);
    const store::SpinGuard guard(slot);
    if (slot.state != ExecutorState::kRunning || slot.database != MyDatabaseId || slot.owner != owner || slot.stop) continue;
    const std::uint64_t load = slot.assigned - slot.done;
    const bool busy_with_slow = slot.run_number != 0 && now - slot.current_started > kTakeBackAfter;
    const int free = free_places(i);
    if (load >= best_load || busy_with_slow || free <= 0) continue;
    best = i;
    best_load = load;
    *room = std::min(static_cast<int>(limit - load), free);
  }
  return best;
}

// Where a step may wait that is too long for a batch, but short: behind one that runs and has nothing behind it. It begins as soon
// as that one has ended, without a word from here; when that takes long after all, it is taken back (watch_runs).
int Dispatcher::pick_place_behind(Oid owner, const QueuedStep &step) const {
  const double usual_ms = store::step_durations(step.named_task_id, step.learner).p50_ms;
  if (usual_ms <= 0 || usual_ms * 1000 > static_cast<double>(kTakeBackAfter)) return -1;
  const TimestampTz now = GetCurrentTimestamp();
  int best = -1;
  TimestampTz earliest = now - kTakeBackAfter;
  for (int i = 0; i < store::shared->executor_count; i++) {
    ExecutorSlot &slot = store::executor_slot(i);
    const store::SpinGuard guard(slot);
    if (slot.state != ExecutorState::kRunning || slot.database != MyDatabaseId || slot.owner != owner || slot.stop) continue;
    const bool one_runs = slot.run_number != 0 && slot.taken == slot.assigned && slot.assigned - slot.done == 1 && free_places(i) > 0;
    if (!one_runs || slot.current_started <= earliest || (best >= 0 && slot.current_started >= store::executor_slot(best).current_started)) continue;
    best = i;
  }
  return best;
}

// Does an executor of this owner have work, but no handler running? It commits, or has just done so.
bool Dispatcher::about_to_report(Oid owner) const {
  for (int i = 0; i < store::shared->executor_count; i++) {
    ExecutorSlot &slot = store::executor_slot(i);
    const store::SpinGuard guard(slot);
    if (slot.state == ExecutorState::kRunning && slot.database == MyDatabaseId && slot.owner == owner && !slot.stop && slot.run_number == 0 &&
        slot.assigned > slot.done)
      return true;
  }
  return false;
}

// Moves steps from the queue into one mailbox. False: no executor has room now.
bool Dispatcher::assign_to(Oid owner, OwnerQueue &queue) {
  if (park_top(owner, queue) || hold_top(owner, queue)) return true;
  const bool fast = is_fast(queue.steps.top());
  int room = 0;
  int index = pick_executor(owner, fast ? backlog_of(queue.steps.top()) : 1, &room);
  if (index < 0) {
    const TimestampTz now = GetCurrentTimestamp();
    if (queue.waiting_since == 0) queue.waiting_since = now;
    // The hint of a child comes with the commit of its parent, a moment before that executor reports itself free.
    const bool soon = now - queue.waiting_since <= kAboutToReport && about_to_report(owner);
    if (soon || start_executor(owner, queue) || fast) return false;
    index = pick_place_behind(owner, queue.steps.top());
    if (index < 0) return false;
    room = 1;
  } else {
    queue.waiting_since = 0;
  }
  std::vector<store::StepAt> entries;
  entries.reserve(static_cast<std::size_t>(room));
  while (!queue.steps.empty() && static_cast<int>(entries.size()) < room) {
    if (park_top(owner, queue) || hold_top(owner, queue)) continue;
    const QueuedStep &next = queue.steps.top();
    if (!entries.empty() && is_fast(next) != fast) break;
    const bool free = driven_by_session(next.key.task_id);
    if (free) {
      limits_.forget(next.key);
    } else {
      entries.emplace_back(next.key, next.places);
      begin_limited(next);
    }
    queued_.erase(next.key);
    queue.steps.pop(free || !queue.steps.contended() ? 0 : cost_of(next));
  }
  if (entries.empty()) return true;
  ExecutorSlot &slot = store::executor_slot(index);
  int proc = -1;
  {
    const store::SpinGuard guard(slot);
    if (slot.state == ExecutorState::kRunning && !slot.stop) {
      for (const store::StepAt &entry : entries) slot.mailbox[slot.assigned++ % store::kMailboxSize] = entry;
      proc = slot.proc;
    }
  }
  for (const StepKey &key : entries) {
    if (proc >= 0) {
      in_flight_.insert(key);
      continue;
    }
    limits_.take_back(key, GetCurrentTimestamp());
    look_.push_back(key.task_id);  // it left in this moment
  }
  store::wake(proc);
  return true;
}

bool Dispatcher::start_executor(Oid owner, OwnerQueue &queue) {
  int mine = 0, all = 0, here = 0, starting = 0;
  for (int i = 0; i < store::shared->executor_count; i++) {
    const ExecutorSlot &slot = store::executor_slot(i);
    if (slot.state == ExecutorState::kFree || slot.state == ExecutorState::kExited) continue;
    all++;
    if (slot.database != MyDatabaseId) continue;
    here++;
    if (slot.owner != owner) continue;
    mine++;
    if (slot.state == ExecutorState::kStarting) starting++;
  }
  // One at a time: by the time it is up, the ones there are may have caught up.
  if (starting > 0) return true;
  if (queue.start_at > GetCurrentTimestamp()) return false;
  const bool here_full = here >= concurrency_limit();
  bool full = all >= store::settings.max_executors;
  if (!full && !here_full && all > 0 && store::worker_slots_left(all) <= 0) {
    full = true;
    warn_full_worker_table();
  }
  // Renewed with each try while it lasts; whoever has an executor leaves the room to those without.
  if (full && mine == 0) store::shared->room_wanted_until = GetCurrentTimestamp() + kEvictBusyAfter;
  if (full || here_full) return make_room(owner, mine == 0, here_full);
  if (mine > 0 && store::shared->room_wanted_until > GetCurrentTimestamp()) return false;
  if ((all + 1 >= store::settings.max_executors || here + 1 >= concurrency_limit()) && yields_last_place(owner, queue, mine)) return false;
  {
    pg::Transaction transaction;
    const std::string problem = engine::connect_problem(owner);
    const bool barred = problem.empty() && pg::is_superuser(owner) && !store::settings.allow_superuser_tasks;
    const bool gone = engine::role_is_gone(owner);
    transaction.commit();
    if (gone) {
      fail_orphans(queue);
      return false;
    }
    if (!problem.empty() || barred) {
      queue.blocked_until = GetCurrentTimestamp() + kOwnerRetry;
      if (!queue.told) pg::report(pg::Level::kLog, "tasker: steps wait: " + (barred ? std::string("superusers may not own tasks") : problem));
      queue.told = true;
      return false;
    }
  }
  int index = -1;
  const TimestampTz now = GetCurrentTimestamp();
  {
    const store::LockGuard guard(store::shared->registry, LW_EXCLUSIVE);
    for (int i = 0; i < store::shared->executor_count && index < 0; i++) {
      ExecutorSlot &slot = store::executor_slot(i);
      if (slot.state != ExecutorState::kFree || slot.note_pending) continue;
      const store::SpinGuard spin(slot);
      slot.state = ExecutorState::kStarting;
      slot.database = MyDatabaseId;
      slot.owner = owner;
      slot.pid = 0;
      slot.proc = -1;
      slot.generation++;
      slot.stop = slot.terminated = false;
      slot.assigned = slot.taken = slot.done = 0;
      slot.run_number = slot.last_run = slot.cancel_run = slot.preempt_run = 0;
      slot.last_active = now;
      index = i;
    }
  }
  if (index < 0) return false;
  ExecutorView &view = views_[static_cast<std::size_t>(index)];
  view = {};
  view.generation = store::executor_slot(index).generation;
  view.started_at = now;
  view.handle = start_worker("tasker_executor_main", "tasker executor", index);
  if (view.handle != nullptr) return true;
  store::executor_slot(index).state = ExecutorState::kFree;
  queue.start_at = GetCurrentTimestamp() + USECS_PER_SEC;  // a full worker table: start_worker has said so
  if (mine == 0) make_room(owner, true, false);
  return false;
}

// Steps of an owner that was dropped: nobody can run them any more.
void Dispatcher::fail_orphans(OwnerQueue &queue) {
  const pg::Caught error = engine::gone_owner();
  while (!queue.steps.empty()) {
    const StepKey key = queue.steps.top().key;
    queue.steps.pop();
    queued_.erase(key);
    limits_.forget(key);
    engine::NothingRuns observer;
    engine::BatchOptions options;
    options.nonce = home_.nonce;
    engine::Batch batch(options, observer, pass_memory_.get());
    try {
      pg::Transaction transaction;
      if (batch.fail_lost_run(key, engine::kAnyMoves, error, "privilege", false)) batch.record();
      transaction.commit();
    } catch (const std::exception &) {
      if (pg::describe_current_exception().sqlstate == "57P01") throw;
      timers_.push({{key, GetCurrentTimestamp() + USECS_PER_SEC, 0, 0, InvalidOid, HintKind::kTimer}});  // a locked row: again in a second
    }
  }
}

// Asks an executor of somebody else to leave: for an owner's first one an idle one at once, a busy one after 250 ms of
// waiting; for another one only what has been idle that long. None has come in vain: it leaves after a step, or after as long
// in its first one. here_only: this database has all it may have, so that only its own leave.
bool Dispatcher::make_room(Oid owner, bool first, bool here_only) {
  const TimestampTz now = GetCurrentTimestamp();
  const auto waiting = owners_.find(owner);
  const bool evict_busy = first && waiting != owners_.end() && waiting->second.waiting_since != 0 && now - waiting->second.waiting_since > kEvictBusyAfter;
  int victim = -1;
  TimestampTz oldest = 0;
  for (int i = 0; i < store::shared->executor_count; i++) {
    ExecutorSlot &slot = store::executor_slot(i);
    const store::SpinGuard guard(slot);
    if (slot.state == ExecutorState::kFree) continue;
    if (here_only && slot.database != MyDatabaseId) continue;
    if (slot.stop && !is_held_up(slot, now)) return true;  // one is on its way out already
    if (slot.stop) continue;
    if (slot.state != ExecutorState::kRunning || (slot.database == MyDatabaseId && slot.owner == owner)) continue;
    // Between two steps of an owner who has more it is not idle.
    const auto theirs = slot.database == MyDatabaseId ? owners_.find(slot.owner) : owners_.end();
    const bool idle = slot.assigned == slot.done && (theirs == owners_.end() || theirs->second.steps.empty());
    const bool has_run = slot.done > 0 || (slot.run_number != 0 && now - slot.current_started > kEvictBusyAfter);
    const bool brief = slot.database == MyDatabaseId && now - views_[static_cast<std::size_t>(i)].started_at < kEvictBusyAfter;
    if (idle ? (!first || slot.done == 0) && now - slot.last_active < kEvictBusyAfter : !evict_busy || !has_run || brief) continue;
    if (victim < 0 || slot.last_active < oldest) {
      victim = i;
      oldest = slot.last_active;
    }
  }
  if (victim < 0) return false;
  ExecutorSlot &slot = store::executor_slot(victim);
  int proc;
  {
    const store::SpinGuard guard(slot);
    slot.stop = true;
    proc = slot.proc;
  }
  store::wake(proc);
  return true;
}

// A step whose row has moved since it was read was cancelled, resolved or run elsewhere: it is interrupted.
void Dispatcher::recheck_runs() {
  recheck_runs_ = false;
  std::vector<std::pair<StepKey, int>> runs;
  runs.reserve(static_cast<std::size_t>(store::shared->executor_count));  // nothing is allocated under a spinlock
  for (int i = 0; i < store::shared->executor_count; i++) {
    ExecutorSlot &slot = store::executor_slot(i);
    const store::SpinGuard guard(slot);
    if (slot.state == ExecutorState::kRunning && slot.database == MyDatabaseId && slot.run_number != 0) runs.emplace_back(slot.current, slot.current_moves);
  }
  for (const auto &[key, moves] : runs)
    for (const store::LoadedStep &loaded : store::load_steps({key}, pass_memory_.get()))
      if (loaded.step.moves != moves || !loaded.task.live) cancels_.push_back({key, 0, 0, 0, InvalidOid, HintKind::kCancel});
}

// Cancels that arrived as hints: names the run, then signals; the executor compares.
void Dispatcher::interrupt_runs() {
  for (const Hint &hint : cancels_) {
    for (int i = 0; i < store::shared->executor_count; i++) {
      ExecutorSlot &slot = store::executor_slot(i);
      int pid = 0;
      {
        const store::SpinGuard guard(slot);
        const bool hit = slot.state == ExecutorState::kRunning && slot.database == MyDatabaseId && slot.run_number != 0 && slot.cancel_run != slot.run_number &&
                         slot.current.task_id == hint.key.task_id && (hint.key.step_no == 0 || slot.current.step_no == hint.key.step_no);
        if (hit) {
          slot.cancel_run = slot.run_number;
          pid = slot.pid;
          views_[static_cast<std::size_t>(i)].interrupted_run = slot.run_number;
          views_[static_cast<std::size_t>(i)].interrupted_at = GetCurrentTimestamp();
        }
      }
      if (pid != 0) kill(pid, kRunSignal);
    }
    cancelled_tasks_.insert(hint.key.task_id);
  }
  cancels_.clear();
}

// An executor may have read a row before the cancel and begin its handler after the signal.
void Dispatcher::follow_cancels(TimestampTz now) {
  if (cancelled_tasks_.empty() || now - rechecked_at_ < kFollowEvery) return;
  rechecked_at_ = now;
  std::unordered_set<std::int64_t> in_hand;
  for (const StepKey &key : in_flight_)
    if (cancelled_tasks_.contains(key.task_id)) in_hand.insert(key.task_id);
  cancelled_tasks_.swap(in_hand);
  recheck_runs_ = recheck_runs_ || !cancelled_tasks_.empty();
}

// Limits on what runs now: preempts a step that holds up finished neighbours, takes entries back from behind a slow
// step, terminates a handler that swallows its cancel.
void Dispatcher::watch_runs(TimestampTz now) {
  for (int i = 0; i < store::shared->executor_count; i++) {
    ExecutorSlot &slot = store::executor_slot(i);
    ExecutorView &view = views_[static_cast<std::size_t>(i)];
    if (slot.state != ExecutorState::kRunning || slot.database != MyDatabaseId) continue;
    int interrupt = 0, terminate = 0;
    std::vector<StepKey> back;
    back.reserve(store::kMailboxSize);
    {
      const store::SpinGuard guard(slot);
      if (slot.run_number == 0) continue;
      // Neighbours have finished and wait for the commit, or are to follow it in this batch.
      if ((slot.batch_finished > 0 || slot.batch_size > 1) && now - slot.batch_started > kPreemptAfter && slot.preempt_run != slot.run_number) {
        slot.preempt_run = slot.run_number;
        interrupt = slot.pid;
      }
      const bool cancelled_long_ago = view.interrupted_run == slot.run_number && now - view.interrupted_at > kTerminateAfter;
      const bool timed_out_long_ago = now - slot.deadline > kTerminateAfter;
      if ((cancelled_long_ago || timed_out_long_ago) && !slot.terminated) {
        slot.terminated = true;
        terminate = slot.pid;
      }
      if (now - slot.current_started > kTakeBackAfter)
        while (slot.assigned > slot.taken) back.push_back(slot.mailbox[--slot.assigned % store::kMailboxSize]);
    }
    if (interrupt != 0) kill(interrupt, kRunSignal);
    if (terminate != 0) kill(terminate, SIGTERM);
    for (const StepKey &key : back) {
      in_flight_.erase(key);
      limits_.take_back(key, now);
      look_.push_back(key.task_id);
    }
  }
}

}  // namespace tasker::worker
