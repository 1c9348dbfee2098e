#include "worker/dispatcher.hpp"

#include <unistd.h>

#include <algorithm>

#include "engine/batch.hpp"
#include "engine/settle.hpp"
#include "pg/fault.hpp"
#include "pg/security.hpp"
#include "pg/xact.hpp"
#include "store/events.hpp"
#include "store/hints.hpp"
#include "store/moves.hpp"
#include "store/pauses.hpp"
#include "store/settings.hpp"
#include "store/step_history.hpp"
#include "store/step_stats.hpp"
#include "worker/loop.hpp"
#include "worker/notes.hpp"

namespace tasker::worker {

namespace {

using store::Hint;
using store::HintKind;
using store::StepKey;

inline constexpr int kPageSize = 1000;
inline constexpr int kSettleMark = -1;  // step_no of a timer that asks for settle_task
inline constexpr std::size_t kMaxTimers = 100000;
inline constexpr TimestampTz kHistoryEvery = 5 * USECS_PER_SEC;
inline constexpr TimestampTz kIdleBeforeLeaving = 60 * USECS_PER_SEC;
constinit std::uint32_t wait_event = 0;
constinit int my_index = -1;

constinit pg::Query count_crash{
    "UPDATE tasker.workflow_steps s SET crashes = s.crashes + $5, old_crashes = s.old_crashes + $6, crash_nonce = $7"
    " WHERE s.task_id = $1 AND s.step_no = $2 AND s.element = $3 AND s.moves = $4 AND s.crash_nonce IS DISTINCT FROM $7"
    " RETURNING s.crashes, s.old_crashes",
    7, {INT8OID, INT4OID, INT4OID, INT4OID, INT4OID, INT4OID, INT8OID}};
constinit pg::Query hold_home{
    "UPDATE tasker.home SET held_reason = $1, held_at = clock_timestamp(), checked_start = $2 WHERE checked_start IS DISTINCT FROM $2", 2,
    {TEXTOID, TIMESTAMPTZOID}};

constinit pg::Query remember_host{"UPDATE tasker.home SET host = $1 WHERE host IS NULL RETURNING 1", 1, {TEXTOID}};
constinit pg::Query hold_for_host{
    "UPDATE tasker.home SET held_reason = 'the host or data directory has changed', held_at = clock_timestamp(), host = $1 WHERE host <> $1", 1, {TEXTOID}};

// Where this server lives: what a storage snapshot started elsewhere does not share.
std::string this_host() {
  char name[256] = "";
  (void)gethostname(name, sizeof name - 1);
  return std::string(name) + ":" + DataDir;
}

extern "C" void dispatcher_exit(int, Datum) {
  store::DatabaseSlot &slot = store::database_slot(my_index);
  if (slot.dispatcher_pid == MyProcPid || (slot.starting && slot.dispatcher_pid == 0)) {
    slot.dispatcher_proc = -1;
    slot.dispatcher_pid = 0;
    slot.starting = false;
  }
  store::wake_launcher();
}

}  // namespace

Dispatcher::Dispatcher(int database_index)
    : index_(database_index), slot_(store::database_slot(database_index)), pass_memory_(TopMemoryContext, "tasker dispatcher pass"),
      views_(static_cast<std::size_t>(store::shared->executor_count)) {}

// Without it, it is learnt anew.
void Dispatcher::restore_learnings() {
  try {
    pg::Transaction transaction;
    {
      pg::OwnerScope as_owner;
      pg::Spi spi;
      store::restore_learnings();
    }
    transaction.commit();
  } catch (const std::exception &) {
    const pg::Caught why = pg::describe_current_exception();
    if (why.sqlstate == "57P01") throw;
    pg::report(pg::Level::kLog, "tasker: could not read what was learnt of steps: " + why.message, why.detail);
  }
}

void Dispatcher::run() {
  pg_atomic_write_u64(&slot_.wakes_at, store::kAwake);  // whatever the one before left
  publish_watched();
  adopt_executors();
  {
    pg::Transaction transaction;
    refresh_home();
    transaction.commit();
  }
  restore_learnings();
  count_crashes();
  for (;;) {
    pass_memory_.reset();
    const pg::ContextScope scope(pass_memory_.get());
    if (slot_.stop) return;
    TASKER_FAULT("dispatcher.pass");
    collect();
    take_hints();
    fire_timers(GetCurrentTimestamp());
    if (home_.held) {
      look_.clear();  // release_hold asks for a sweep, which finds all of it again
      relook_.clear();
      settle_.clear();
      outside_.clear();
    } else {
      tend_breakers();
      work_on_tables();
      tend_outside();
      tend_schedules();
      tend_events();
      tend_concurrency();
      tend_limits();
      assign();
      tend_courier();
      publish_held();
      publish_limits();
      tend_retention();
    }
    interrupt_runs();
    const TimestampTz now = GetCurrentTimestamp();
    follow_cancels(now);
    watch_runs(now);
    slot_.failures = 0;  // a whole pass has worked
    pg::call([] { pgstat_report_stat(false); });
    if (nothing_to_do()) {
      if (empty_since_ == 0) empty_since_ = now;
      if (now - empty_since_ > kIdleBeforeLeaving) {
        pg::Transaction transaction;
        bool live;
        {
          pg::OwnerScope as_owner;
          pg::Spi spi;
          live = store::any_live_task();
        }
        transaction.commit();
        store::LockGuard guard(store::ring_lock(index_), LW_EXCLUSIVE);
        if (!live && slot_.ring_count == 0 && !slot_.sweep) {
          slot_.state = store::DatabaseState::kDormant;
          slot_.dispatcher_proc = -1;
          return;
        }
        empty_since_ = 0;
      }
    } else {
      empty_since_ = 0;
    }
    const long sleep = sleep_ms(now);
    pg_atomic_write_u64(&slot_.wakes_at, static_cast<std::uint64_t>(now + sleep * 1000));
    wait_for_work(sleep, pg::wait_event(&wait_event, "TaskerDispatcherMain"));
    pg_atomic_write_u64(&slot_.wakes_at, store::kAwake);
  }
}

void Dispatcher::refresh_home() {
  pg::OwnerScope as_owner;
  pg::Spi spi;
  const bool hold = store::settings.start_held || store::shared->recovered_to_point_in_time;
  if (hold)
    pg::execute(hold_home, pg::Params()
                               .text(store::settings.start_held ? "tasker.start_held is on" : "the server was recovered to a point in time")
                               .timestamp(PgStartTime));
  pg::execute(remember_host, pg::Params().text(this_host()));
  if (store::settings.host_guard) pg::execute(hold_for_host, pg::Params().text(this_host()));
  home_ = store::load_home(true);
  slot_.held = home_.held;
  if (home_.held)
    pg::report(pg::Level::kLog, "tasker: this database is held: " + home_.reason, {}, "Call tasker.release_hold() when its tasks may run here.");
}

// Runs that ended with their process: each is counted once, on the row, before its note is forgotten.
void Dispatcher::count_crashes() {
  for (const CrashedRun &run : crashed_runs()) {
    const Note &note = run.note;
    pg::OwnedContext memory(TopMemoryContext, "tasker crash");
    engine::NothingRuns observer;
    engine::BatchOptions options;
    options.nonce = home_.nonce;
    engine::Batch batch(options, observer, memory.get());
    pg::Transaction transaction;
    bool over = false;
    {
      pg::OwnerScope as_owner;
      pg::Spi spi;
      const pg::Result counted = pg::execute(count_crash, pg::Params().int8(note.key.task_id).int4(note.key.step_no).int4(note.key.element).int4(note.moves)
                                                              .int4(run.same_server ? 1 : 0).int4(run.same_server ? 0 : 1)
                                                              .int8(static_cast<std::int64_t>(note.nonce)));
      if (!counted.rows.empty())
        over = counted.rows.int4(0, 1) >= store::settings.crash_limit || counted.rows.int4(0, 2) >= 3 * store::settings.crash_limit + 1;
    }
    if (over) {
      const pg::Caught error{"57P02", "the step crashed its server process", {}, "Look into the server log for the crash; retry_step runs it again.", {}};
      if (batch.fail_lost_run(note.key, note.moves, error, "crashed", false)) batch.record();
    }
    transaction.commit();
    forget_note(run.slot);
  }
}

void Dispatcher::take_hints() {
  Hint hints[256];
  for (;;) {
    std::optional<std::int64_t> lost;
    const int count = store::take_hints(index_, hints, 256, &lost);
    if (lost) {
      sweep(*lost);
      recheck_runs_ = true;
      breakers_written_ = breakers_moved_ = schedules_changed_ = retention_changed_ = events_recorded_ = true;
      restart_timers();
      if (home_.held) {
        pg::Transaction transaction;
        refresh_home();
        transaction.commit();
      }
    }
    for (int i = 0; i < count; i++) enqueue(hints[i]);
    if (count > 0 || lost) retention_.note_work(GetCurrentTimestamp());
    history_counted_ = history_counted_ || count > 0;  // whoever created or ended a task has counted it
    if (count < 256) return;
  }
}

void Dispatcher::enqueue(const Hint &hint) {
  switch (hint.kind) {
    case HintKind::kTask:
      look_.push_back(hint.key.task_id);
      return;
    case HintKind::kCancel:
      cancels_.push_back(hint);
      return;
    case HintKind::kWatch:
      watched_.insert(hint.key.task_id);
      publish_watched();
      settle_.push_back(hint.key.task_id);
      return;
    case HintKind::kSettle:
      if (watched_.contains(hint.key.task_id)) settle_.push_back(hint.key.task_id);
      return;
    case HintKind::kTimer:
      if (hint.due >= timers_until_ && timers_until_ != 0) {
        return;  // the sweep before that moment reads it
      }
      if (timers_.size() < kMaxTimers) {
        timers_.push({hint});
      } else {
        timer_mark_ = {};  // read again, earliest first, when half of them have fired
        more_timers_ = true;
      }
      return;
    case HintKind::kBreakers:
      breakers_moved_ = true;
      breakers_written_ = breakers_written_ || hint.named_task_id != 0;
      return;
    case HintKind::kSchedules:
      (hint.named_task_id == store::kEventsHint ? events_recorded_ : schedules_changed_) = true;
      return;
    case HintKind::kStep:
      break;
  }
  if (hint.outside) {
    // Once more for one that is held: what waits in it may be a signal or a timer. A pause keeps only those back that begin.
    put_outside(hint.owner, {hint.key, hint.named_task_id, hint.priority, sequence_++, true});
    return;
  }
  if (queued_.contains(hint.key) || held_keys_.contains(hint.key) || limits_.waits(hint.key) || store::scope_paused(hint.named_task_id)) return;
  if (in_flight_.contains(hint.key)) {
    if (!relooking_) again_.insert(hint.key);  // it may have ended already: looked at when its executor reports
    return;
  }
  if (queued_.size() >= static_cast<std::size_t>(store::settings.ready_buffer)) {
    drop(hint.key.task_id);
    return;
  }
  queued_.insert(hint.key);
  enter(hint.owner, {.key = hint.key, .named_task_id = hint.named_task_id, .priority = hint.priority, .sequence = sequence_++, .noop = hint.noop, .places = hint.places});
}

void Dispatcher::fire_timers(TimestampTz now) {
  while (!timers_.empty() && timers_.top().hint.due <= now) {
    Hint hint = timers_.top().hint;
    timers_.pop();
    if (hint.key.step_no == kSettleMark || hint.key.step_no == store::kDeadlineStep) {
      settle_.push_back(hint.key.task_id);
      continue;
    }
    hint.kind = hint.key.step_no == 0 || (hint.named_task_id == 0 && !hint.outside) ? HintKind::kTask : HintKind::kStep;
    enqueue(hint);
  }
}

// The first one, at the start, is due at once.
TimestampTz Dispatcher::next_sweep() const {
  if (swept_at_ == 0) return 0;
  const TimestampTz next = swept_at_ + static_cast<TimestampTz>(store::settings.sweep_interval_s) * USECS_PER_SEC;
  return timers_until_ == 0 ? next : std::min(next, timers_until_);  // 0: timers are about to be read
}

// All runnable tasks from that id on, in their order. Not from the first one where that can be helped: beside an old snapshot the index
// still names every task that has run since.
void Dispatcher::sweep(std::int64_t from) {
  page_ = {.from = sweeping_ ? std::min(page_.from, from) : from};
  sweeping_ = true;
}

// There is no room for a step of that task.
void Dispatcher::drop(std::int64_t task_id) {
  dropped_ = true;
  dropped_from_ = std::min(dropped_from_, task_id);
}

// Whatever was lost or forgotten: reads all timers again, and looks again at what waits for its end.
void Dispatcher::restart_timers() {
  timers_ = {};
  timer_mark_ = {};
  more_timers_ = true;
  timers_until_ = 0;
  settle_.insert(settle_.end(), watched_.begin(), watched_.end());
}

void Dispatcher::read_timers(TimestampTz now) {
  // Twice the interval: the next sweep reads on before this horizon is reached.
  if (timers_until_ == 0) timers_until_ = now + 2 * static_cast<TimestampTz>(store::settings.sweep_interval_s) * USECS_PER_SEC;
  const std::vector<Hint> page = store::timer_page(timer_mark_, timers_until_, kPageSize);
  more_timers_ = static_cast<int>(page.size()) == kPageSize;
  for (const Hint &hint : page) enqueue(hint);
}

// Everything that needs SQL, in one transaction; nothing at all when there is nothing.
void Dispatcher::work_on_tables() {
  const TimestampTz now = GetCurrentTimestamp();
  const bool due = now >= next_sweep();
  if (due) {
    swept_at_ = now;
    sweep(0);
    breakers_written_ = schedules_changed_ = events_recorded_ = true;
    restart_timers();
  }
  const bool room = queued_.size() < static_cast<std::size_t>(store::settings.ready_buffer) / 2;
  if (dropped_ && room && !sweeping_) {
    dropped_ = false;
    sweep(std::exchange(dropped_from_, store::kNoTask));
    restart_timers();  // what waits outside is no ready step
  }
  const bool timers_wanted = more_timers_ && timers_.size() < kMaxTimers / 2;
  const bool history_due = history_counted_ && now - history_written_at_ >= kHistoryEvery;
  if (look_.empty() && relook_.empty() && !(sweeping_ && room) && settle_.empty() && !timers_wanted && !recheck_runs_ && !due && !history_due && !store::pauses_changed()) return;
  pg::Transaction transaction;
  {
    pg::OwnerScope as_owner(store::cached_extension_owner(), 100);
    pg::Spi spi;
    if (store::pauses_changed()) drop_paused();
    look_at(look_);
    // What these find under way nobody has asked for: were it looked at again when it ends, a large task would never be left.
    relooking_ = true;
    look_at(relook_);
    relooking_ = false;
    if (timers_wanted) read_timers(now);
    if (sweeping_ && room) read_page();
    if (recheck_runs_) recheck_runs();
    if (due) store::fold_tallies();
    if (due) store::push_pauses_changed_now();  // orders that came by no commit of ours: a restore, replication
    if (history_due || due) {
      history_counted_ = false;
      history_written_at_ = now;
      store::write_history();
      store::write_learnings();
    }
    if (due) store::trim_history();
    if (due) store::trim_learnings();
  }
  transaction.commit();
  settle_watched();
}

void Dispatcher::look_at(std::vector<std::int64_t> &tasks) {
  std::sort(tasks.begin(), tasks.end());
  tasks.erase(std::unique(tasks.begin(), tasks.end()), tasks.end());
  for (std::size_t at = 0; at < tasks.size(); at += kPageSize) {
    const std::vector<std::int64_t> part(tasks.begin() + static_cast<std::ptrdiff_t>(at),
                                         tasks.begin() + static_cast<std::ptrdiff_t>(std::min(tasks.size(), at + kPageSize)));
    for (const Hint &hint : store::ready_steps(part, home_.nonce)) enqueue(hint);
  }
  tasks.clear();
}

// What waits in the queues and is paused now goes; the sweep that an order's end asks for finds it again.
void Dispatcher::drop_paused() {
  store::refresh_pauses();
  for (auto &[_, queue] : owners_) {
    queue.steps.rework([&](const QueuedStep &step) -> std::optional<core::ReadyRank> {
      if (!store::scope_paused(step.named_task_id)) return rank_of(step, ageing_ms_);
      queued_.erase(step.key);
      limits_.forget(step.key);
      return {};
    });
  }
  limits_.remove_if([](const QueuedStep &step) { return store::scope_paused(step.named_task_id); });
}

void Dispatcher::read_page() {
  const std::vector<std::int64_t> page = store::runnable_page(home_.nonce, page_, kPageSize);
  std::vector<std::int64_t> ours;
  for (std::int64_t id : page)
    if (id != 0) ours.push_back(id);
  for (const Hint &hint : store::ready_steps(ours, home_.nonce)) enqueue(hint);
  if (static_cast<int>(page.size()) < kPageSize) sweeping_ = false;
}

// Each in a transaction of its own, so that one locked task delays no other; a locked one comes back in a second.
void Dispatcher::settle_watched() {
  std::vector<std::int64_t> tasks;
  tasks.swap(settle_);
  std::sort(tasks.begin(), tasks.end());
  tasks.erase(std::unique(tasks.begin(), tasks.end()), tasks.end());
  for (std::int64_t task_id : tasks) {
    engine::Settled settled = engine::Settled::kStillRunning;
    try {
      pg::Transaction transaction;
      {
        pg::OwnerScope as_owner(store::cached_extension_owner(), 100);
        pg::Spi spi;
        settled = engine::settle_task(task_id);
      }
      transaction.commit();
    } catch (const std::exception &) {
      if (pg::describe_current_exception().sqlstate == "57P01") throw;
      watched_.insert(task_id);
      publish_watched();
      timers_.push({{{task_id, kSettleMark, -1}, GetCurrentTimestamp() + USECS_PER_SEC, 0, 0, InvalidOid, HintKind::kTimer}});
      continue;
    }
    if (settled != engine::Settled::kStillRunning) watched_.erase(task_id);
  }
  publish_watched();
}

void Dispatcher::publish_watched() {
  if (pg_atomic_read_u32(&slot_.watched_tasks) == watched_.size()) return;
  pg_atomic_write_u32(&slot_.watched_tasks, static_cast<std::uint32_t>(watched_.size()));
  pg_memory_barrier();  // seen by all before the next snapshot is taken: see is_idle in store/hints.cpp
}

bool Dispatcher::nothing_to_do() const {
  return queued_.empty() && outside_.empty() && held_.empty() && limits_.waiting() == 0 && in_flight_.empty() && timers_.empty() && !sweeping_ && look_.empty() && relook_.empty() && !history_counted_ && !schedules_active_ && !events_again_ &&
         !retention_stays();
}

long Dispatcher::sleep_ms(TimestampTz now) const {
  if (!look_.empty() || !relook_.empty() || !settle_.empty() || !outside_.empty()) return 0;
  const bool room = queued_.size() < static_cast<std::size_t>(store::settings.ready_buffer) / 2;
  if (!home_.held && ((sweeping_ && room) || (more_timers_ && timers_.size() < kMaxTimers / 2))) return 0;
  TimestampTz until = home_.held ? now + 3600 * USECS_PER_SEC : next_sweep();
  if (!timers_.empty()) until = std::min(until, timers_.top().hint.due);
  if (history_counted_ && !home_.held) until = std::min(until, history_written_at_ + kHistoryEvery);
  // While something runs or waits for an executor its limits are watched; an idle dispatcher sleeps.
  if (!in_flight_.empty()) until = std::min(until, now + 100 * 1000);
  if (!calls_.empty() && !home_.held) until = std::min(until, now + 100 * 1000);
  // A courier was lost with what it held: the next one is due then.
  if (transfers_left_ && !home_.held && store::look_at_courier(slot_.courier).state == store::CourierState::kNone) until = std::min(until, std::max(courier_start_at_, now));
  for (const auto &[_, queue] : owners_)
    if (!queue.steps.empty() && !home_.held) until = std::min(until, std::max(queue.blocked_until, now + 100 * 1000));
  if (!home_.held) until = std::min({until, breakers_due(now), limits_due(now), schedules_due(now), events_due(), retention_due()});
  if (empty_since_ != 0) until = std::min(until, empty_since_ + kIdleBeforeLeaving + USECS_PER_SEC);
  return std::max<long>(1, static_cast<long>((until - now) / 1000) + 1);
}

namespace {

// The tables are there and this library can serve them; else the database has no work for us.
bool extension_installed() {
  pg::Transaction transaction;
  const bool installed = OidIsValid(pg::extension_oid());
  transaction.commit();
  return installed;
}

void dispatcher_main(int index) {
  my_index = index;
  store::DatabaseSlot &slot = store::database_slot(index);
  before_shmem_exit(dispatcher_exit, Datum(0));
  begin_process(lock_timeouts_only);
  const Oid database = slot.database;
  pg::call([=] { BackgroundWorkerInitializeConnectionByOid(database, InvalidOid, 0); });
  TASKER_FAULT("dispatcher.start");
  if (!extension_installed()) {
    store::LockGuard guard(store::shared->registry, LW_EXCLUSIVE);
    slot.state = slot.stop ? store::DatabaseState::kStopping : store::DatabaseState::kFree;
    return;
  }
  // Attached to the ring before the first snapshot: what commits in between is found by one of the two.
  if (slot.stop) return;
  if (slot.dispatcher_pid != 0) {  // another one was faster
    slot.starting = false;
    if (slot.state == store::DatabaseState::kStarting) slot.state = store::DatabaseState::kRunning;
    return;
  }
  slot.dispatcher_pid = MyProcPid;
  slot.starting = false;
  slot.dispatcher_proc = pg::my_proc_number();
  if (slot.state == store::DatabaseState::kStarting) slot.state = store::DatabaseState::kRunning;
  store::wake_launcher();
  pgstat_report_activity(STATE_IDLE, nullptr);
  Dispatcher(index).run();
}

}  // namespace

}  // namespace tasker::worker

extern "C" TASKER_EXPORT void tasker_dispatcher_main(Datum);
void tasker_dispatcher_main(Datum argument) {
  using namespace tasker;
  pg::entry([=] { worker::dispatcher_main(DatumGetInt32(argument)); });
  store::wake_launcher();
  proc_exit(worker::kExitForGood);
}
