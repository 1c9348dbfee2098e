#include "engine/schedules.hpp"

#include <algorithm>

#include "core/definition.hpp"
#include "core/utc.hpp"
#include "engine/create.hpp"
#include "engine/schedule_round.hpp"
#include "pg/security.hpp"
#include "pg/zone.hpp"
#include "store/schedules.hpp"

namespace tasker::engine {

namespace {

constexpr std::int64_t kMaxCatchUp = 366 * USECS_PER_DAY, kMaxJitter = USECS_PER_DAY;
constexpr std::size_t kMaxTimes = 1000;         // fire times of one schedule in one tick
constexpr int kMaxBackfill = 10000;
constexpr TimestampTz kLockedRetry = USECS_PER_SEC, kFailedRetry = 10 * USECS_PER_SEC;

[[noreturn]] void unknown_schedule(const std::string &name) {
  throw tasker::Error(sqlstate::kNoData, "schedule \"" + name + "\" does not exist", {}, "The view tasker.schedules shows yours.");
}

store::ScheduleRow lock_own(Oid caller, const std::string &name) {
  const auto row = store::lock_schedule(name);
  if (!row || !may_control(caller, row->owner, row->created_by)) unknown_schedule(name);
  return *row;
}

// Whoever made the schedule as a role he has left since may look after it, but no longer have tasks run as that role.
void require_right_to_run(Oid caller, const store::ScheduleRow &row) {
  if (pg::has_privileges_of(caller, row.owner) || has_level(caller, "operator") || has_level(caller, "admin")) return;
  throw tasker::Error(sqlstate::kInsufficientPrivilege, "role \"" + pg::role_name(caller) + "\" cannot create tasks that run as \"" + pg::role_name(row.owner) + "\"");
}

store::Home home_that_runs() {
  store::Home home = store::load_home(false);
  if (home.held)
    throw tasker::Error(sqlstate::kObjectNotReady, "this database is held: " + home.reason, {}, "Call tasker.release_hold() when its schedules may fire here.");
  return home;
}

core::Overlap overlap_of(const std::string &text) {
  const auto overlap = core::parse_overlap(text);
  if (!overlap)
    throw tasker::Error(sqlstate::kInvalidParameter, "overlap \"" + text + "\" is not known", {}, "It is skip, queue, cancel_running or allow.");
  return *overlap;
}

void check_range(const char *what, std::int64_t value, std::int64_t limit, const char *limit_text) {
  if (value < 0 || value > limit) throw tasker::Error(sqlstate::kInvalidParameter, std::string(what) + " must be between 0 and " + limit_text);
}

void check_name(const std::string &name) {
  if (const std::string problem = core::name_problem(name, core::kMaxTaskName); !problem.empty())
    throw tasker::Error(sqlstate::kInvalidParameter, "schedule_name " + problem);
}

// Whoever ticks, as the history shows it.
std::string by_role() { return pg::role_name(GetSessionUserId()); }

// Of one schedule, whose row is locked: what was due, and what waited.
void fire_due(const store::ScheduleRow &row, TimestampTz now, const std::string &ticked_by, Tick &tick) {
  const core::CronExpression expression = core::parse_cron(row.cron);
  const pg::Zone zone(row.timezone);
  const core::DueTimes due = core::due_times(expression, zone, pg::unix_seconds(row.fires_after), pg::unix_seconds(now), row.catch_up / USECS_PER_SEC, kMaxTimes);
  ScheduleRound round(row, ticked_by);
  round.drain();
  for (const std::int64_t at : due.fires) round.fire(pg::timestamp_of(at), overlap_of(row.overlap));
  if (!due.fires.empty() || due.missed)
    store::settle_schedule(row.schedule_id, pg::timestamp_of(due.settled), due.missed ? std::optional(pg::timestamp_of(*due.missed)) : std::nullopt);
  if (due.missed)
    pg::report(pg::Level::kLog, "tasker: schedule " + row.schedule_name + " has missed fire times since " + core::utc(pg::timestamp_of(*due.missed)),
               "They are older than its catch_up.", "tasker.backfill_schedule() fires them.");
  tick.tasks += round.tasks();
  tick.handled++;
  tick.waiting = tick.waiting || round.waiting();
  if (due.next) tick.next = std::min(tick.next, pg::timestamp_of(*due.next));
}

// When it fires next; nothing when it never does again. What is wrong with a row is said, and stops no other.
std::optional<TimestampTz> next_time(const store::ScheduleRow &row) {
  try {
    const auto next = core::next_fire(core::parse_cron(row.cron), pg::Zone(row.timezone), pg::unix_seconds(row.fires_after));
    if (next) return pg::timestamp_of(*next);
  } catch (const tasker::Error &error) {
    pg::report(pg::Level::kWarning, "tasker: schedule " + row.schedule_name + " cannot fire: " + error.message(), error.detail(), error.hint());
  }
  return std::nullopt;
}

}  // namespace

std::int64_t schedule_task(const NewSchedule &schedule) {
  check_name(schedule.schedule_name);
  core::parse_cron(schedule.cron);
  const std::string zone = pg::Zone(schedule.timezone).name();
  overlap_of(schedule.overlap);
  check_range("catch_up", schedule.catch_up_microseconds, kMaxCatchUp, "366 days");
  check_range("jitter", schedule.jitter_microseconds, kMaxJitter, "1 day");
  NewTasks first;
  first.ns = schedule.ns;
  first.name = schedule.name;
  first.contexts = {schedule.context};
  first.run_at = GetCurrentTimestamp();
  check_tasks(first);

  const Oid caller = GetUserId(), session = GetSessionUserId();
  pg::Spi spi;
  pg::OwnerScope as_owner(store::cached_extension_owner());
  const store::ScheduleValues values{schedule.schedule_name, schedule.cron, zone, schedule.ns, schedule.name, schedule.overlap,
                                     schedule.context, schedule.catch_up, schedule.jitter};
  store::note_schedules_changed();
  // Whoever meets one that is being removed at this moment makes it anew.
  for (;;) {
    if (const auto found = store::lock_schedule(schedule.schedule_name)) {
      if (found->owner != caller)
        throw tasker::Error(sqlstate::kInsufficientPrivilege, "schedule \"" + schedule.schedule_name + "\" exists and is not yours", {},
                            "Take another name, or call this as the role that made it.");
      store::update_schedule(found->schedule_id, values);
      return found->schedule_id;
    }
    const std::int64_t id = store::insert_schedule(values, caller, session, store::load_home(false).nonce, GetCurrentTimestamp());
    if (id != 0) return id;
    if (IsolationUsesXactSnapshot())
      throw tasker::Error("40001", "schedule \"" + schedule.schedule_name + "\" was made by somebody else at the same moment", {}, "Try again.");
  }
}

void unschedule_task(const std::string &name) {
  const Oid caller = GetUserId();
  pg::Spi spi;
  pg::OwnerScope as_owner(store::cached_extension_owner());
  store::delete_schedule(lock_own(caller, name).schedule_id);
  store::note_schedules_changed();
}

bool pause_schedule(const std::string &name, const Reason &reason) {
  const Oid caller = GetUserId(), session = GetSessionUserId();
  pg::Spi spi;
  pg::OwnerScope as_owner(store::cached_extension_owner());
  const store::ScheduleRow row = lock_own(caller, name);
  if (row.paused) return false;
  store::pause_schedule(row.schedule_id, session, reason);
  store::note_schedules_changed();
  return true;
}

bool resume_schedule(const std::string &name) {
  const Oid caller = GetUserId();
  pg::Spi spi;
  pg::OwnerScope as_owner(store::cached_extension_owner());
  const store::ScheduleRow row = lock_own(caller, name);
  if (!row.paused) return false;
  store::resume_schedule(row.schedule_id, GetCurrentTimestamp());
  store::note_schedules_changed();
  return true;
}

std::optional<std::int64_t> run_schedule_now(const std::string &name) {
  const Oid caller = GetUserId();
  pg::Spi spi;
  pg::OwnerScope as_owner(store::cached_extension_owner());
  store::ScheduleRow row = lock_own(caller, name);
  require_right_to_run(caller, row);
  row.jitter = 0;
  home_that_runs();
  ScheduleRound round(row, by_role());
  const core::Overlap overlap = overlap_of(row.overlap);
  const auto task_id = round.fire_or_raise(GetCurrentTimestamp(), overlap);
  if (!task_id)
    pg::report(pg::Level::kNotice, "schedule \"" + name + "\" has not created a task: an earlier one has not ended", {},
               overlap == core::Overlap::kQueue ? "It is created when that one has ended."
                                                : "Its overlap rule is skip; tasker.cancel_task() ends the running one.");
  store::note_schedules_changed();
  return task_id;
}

int backfill_schedule(const std::string &name, TimestampTz from, TimestampTz to) {
  if (TIMESTAMP_NOT_FINITE(from) || TIMESTAMP_NOT_FINITE(to)) throw tasker::Error(sqlstate::kInvalidParameter, "both ends of the range must be finite");
  if (from > to) throw tasker::Error(sqlstate::kInvalidParameter, "the range ends before it begins");
  if (to > GetCurrentTimestamp()) throw tasker::Error(sqlstate::kInvalidParameter, "the range ends in the future", {}, "What is to come fires by itself.");
  const Oid caller = GetUserId();
  pg::Spi spi;
  pg::OwnerScope as_owner(store::cached_extension_owner());
  const store::ScheduleRow row = lock_own(caller, name);
  require_right_to_run(caller, row);
  home_that_runs();
  const core::CronExpression expression = core::parse_cron(row.cron);
  const pg::Zone zone(row.timezone);
  const core::Overlap overlap = overlap_of(row.overlap) == core::Overlap::kAllow ? core::Overlap::kAllow : core::Overlap::kQueue;
  ScheduleRound round(row, by_role());
  const std::int64_t last = pg::unix_seconds(to);
  auto next = core::next_fire(expression, zone, pg::unix_seconds(from - 1));
  for (int count = 0; next && *next <= last; next = core::next_fire(expression, zone, *next)) {
    if (++count > kMaxBackfill)
      throw tasker::Error(sqlstate::kProgramLimit, "the range holds more than " + std::to_string(kMaxBackfill) + " fire times", {}, "Backfill it in parts.");
    pg::check_interrupts();
    if (overlap == core::Overlap::kQueue && round.waiting_count() >= static_cast<std::size_t>(core::kMaxQueuedFires))
      throw tasker::Error(sqlstate::kProgramLimit,
                          "more than " + std::to_string(core::kMaxQueuedFires) + " fire times of schedule \"" + name + "\" would wait for their turn", {},
                          "Backfill the range in parts; with overlap allow all run at once.");
    round.fire_or_raise(pg::timestamp_of(*next), overlap);
  }
  store::note_schedules_changed();
  return round.taken();
}

Tick tick_schedules(TimestampTz now, const std::string &ticked_by, int limit) {
  pg::Spi spi;
  pg::OwnerScope as_owner(store::cached_extension_owner());
  home_that_runs();
  Tick tick;
  for (const store::ScheduleRow &seen : store::active_schedules()) {
    tick.active = true;
    const auto next = next_time(seen);
    if (!seen.queued && (!next || *next > now)) {
      if (next) tick.next = std::min(tick.next, *next);
      continue;
    }
    if (tick.handled >= limit) {
      tick.next = now;
      break;
    }
    pg::check_interrupts();
    bool locked = false;
    const Tick before = tick;
    const auto failure = pg::in_savepoint([&] {
      const auto row = store::lock_schedule(seen.schedule_id, true);
      if (!row || row->paused) return;
      locked = true;
      fire_due(*row, now, ticked_by, tick);
    });
    if (failure) {
      tick = before;
      if (failure->sqlstate.starts_with("57") || failure->sqlstate.starts_with("25"))  // asked to stop, or a standby: nothing will go
        throw tasker::Error(failure->sqlstate.c_str(), failure->message, failure->detail, failure->hint);
      pg::report(pg::Level::kWarning, "tasker: schedule " + seen.schedule_name + " could not fire: " + failure->message, failure->detail, failure->hint);
      tick.next = std::min(tick.next, now + kFailedRetry);
    } else if (!locked) {
      tick.next = std::min(tick.next, now + kLockedRetry);  // somebody else fires or changes it
    }
  }
  return tick;
}

std::vector<TimestampTz> fire_times(const std::string &cron, const std::string &timezone, TimestampTz after, int count) {
  const core::CronExpression expression = core::parse_cron(cron);
  const pg::Zone zone(timezone);
  std::vector<TimestampTz> out;
  for (auto next = core::next_fire(expression, zone, pg::unix_seconds(after)); next && static_cast<int>(out.size()) < count;
       next = core::next_fire(expression, zone, *next)) {
    out.push_back(pg::timestamp_of(*next));
    pg::check_interrupts();
  }
  return out;
}

}  // namespace tasker::engine
