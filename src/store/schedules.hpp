// Rows of schedules and of their fires. Precondition of all: inside pg::OwnerScope and pg::Spi.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "pg/spi.hpp"

namespace tasker::store {

struct ScheduleRow {
  std::int64_t schedule_id = 0;
  std::string schedule_name;
  Oid owner = InvalidOid, created_by = InvalidOid;
  std::string cron, timezone, ns, name, overlap;
  std::int64_t catch_up = 0, jitter = 0;  // microseconds
  bool paused = false;
  bool queued = false;                    // fire times wait for the end of a task
  TimestampTz fires_after = 0;
};

struct ScheduleValues {
  std::string schedule_name, cron, timezone, ns, name, overlap;
  Datum context = 0, catch_up = 0, jitter = 0;  // jsonb, interval, interval
};

// Those that are not paused.
std::vector<ScheduleRow> active_schedules();
// Locked against everybody who changes or fires it. skip_locked: nothing when somebody does so at this moment.
std::optional<ScheduleRow> lock_schedule(const std::string &name);
std::optional<ScheduleRow> lock_schedule(std::int64_t schedule_id, bool skip_locked);
Datum schedule_context(std::int64_t schedule_id);  // jsonb, detoasted

// 0: the name is taken.
std::int64_t insert_schedule(const ScheduleValues &values, Oid owner, Oid created_by, std::int64_t home, TimestampTz fires_after);
// false: nothing of it is new. Where the times are, fire times up to now are settled.
bool update_schedule(std::int64_t schedule_id, const ScheduleValues &values);
void delete_schedule(std::int64_t schedule_id);
void pause_schedule(std::int64_t schedule_id, Oid actor, const std::optional<std::string> &reason);
void resume_schedule(std::int64_t schedule_id, TimestampTz fires_after);
void settle_schedule(std::int64_t schedule_id, TimestampTz fires_after, std::optional<TimestampTz> missed_at);
// Schedules of another database, copied here.
bool any_foreign_schedule(std::int64_t home);
void adopt_schedules(std::int64_t home);

struct OpenFire {
  TimestampTz fire_time = 0;
  std::optional<std::int64_t> task_id;  // none: it is queued
  bool live = false;
};
std::vector<OpenFire> open_fires(std::int64_t schedule_id);
void close_fires(std::int64_t schedule_id, const std::vector<TimestampTz> &fire_times);

enum class FireOutcome { kCreated, kSkipped, kQueued, kFailed };
// false: this fire time has a row already.
bool insert_fire(std::int64_t schedule_id, TimestampTz fire_time, FireOutcome outcome, const std::string &ticked_by,
                 const std::optional<std::string> &message = std::nullopt);
void set_fire_task(std::int64_t schedule_id, TimestampTz fire_time, std::int64_t task_id, const std::string &ticked_by);
// Of one that was queued.
void fail_fire(std::int64_t schedule_id, TimestampTz fire_time, const std::string &message);

// At the commit of this transaction the dispatcher looks at all schedules again.
void note_schedules_changed();

}  // namespace tasker::store
