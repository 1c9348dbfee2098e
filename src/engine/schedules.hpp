// Schedules: tasks created at the times that a cron expression names, for the role that made the schedule.
//
// Whoever ticks looks at what is due; a fire time is taken by inserting its row, in the transaction that creates its task.
// So ticks may come twice, late, or from several places at once, and a fire time gets one task.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "engine/control.hpp"

namespace tasker::engine {

struct NewSchedule {
  std::string schedule_name, cron, ns, name, timezone, overlap;
  Datum context = 0, catch_up = 0, jitter = 0;                            // jsonb, interval, interval
  std::int64_t catch_up_microseconds = 0, jitter_microseconds = 0;  // the same
};

// The schedule's id. Makes it, or changes the caller's own of that name; what it creates belongs to current_user. Raises what
// create_task would raise now, 22023 for bad values, 42501 for a name that is somebody else's.
std::int64_t schedule_task(const NewSchedule &schedule);

// All raise 02000 for a schedule that does not exist or is not the caller's to control. false: it was so already.
void unschedule_task(const std::string &name);
bool pause_schedule(const std::string &name, const Reason &reason);
bool resume_schedule(const std::string &name);  // fire times of the pause stay unfired
// One task now, paused or not. Nothing when the overlap rule puts it off; a notice says so. Raises what create_task raises.
std::optional<std::int64_t> run_schedule_now(const std::string &name);
// Takes each fire time in the range, both ends included, that has no fire yet, and says how many. Unless overlap is
// allow they run one after another.
int backfill_schedule(const std::string &name, TimestampTz from, TimestampTz to);

struct Tick {
  int tasks = 0;                  // created
  int handled = 0;                // schedules for which something was written
  bool active = false;            // there is a schedule that is not paused
  bool waiting = false;           // fire times wait for the end of a task
  TimestampTz next = DT_NOEND;    // when to look again
};
// Fires what is due at `now`, of at most `limit` schedules. A fault of one never stops another. Raises 55000 in a held database.
Tick tick_schedules(TimestampTz now, const std::string &ticked_by, int limit);

// The first `count` fire times after a moment.
std::vector<TimestampTz> fire_times(const std::string &cron, const std::string &timezone, TimestampTz after, int count);

}  // namespace tasker::engine
