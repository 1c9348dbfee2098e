// What a schedule does when its time has come: which fire times are due, late or missed, what a fire means while an earlier
// task still runs, and by how much a task is put off.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string_view>
#include <vector>

#include "core/cron.hpp"

namespace tasker::core {

enum class Overlap : std::uint8_t { kSkip, kQueue, kCancelRunning, kAllow };
std::optional<Overlap> parse_overlap(std::string_view text);  // skip, queue, cancel_running, allow

// A fire time counts as due for that long whatever catch_up says: ticks come once a minute, and one of them may fall out.
inline constexpr std::int64_t kGraceSeconds = 120;
// Fire times of one schedule that may wait for an earlier task to end; later ones are skipped.
inline constexpr int kMaxQueuedFires = 1000;

// Moments are seconds since 1970 UTC.
struct DueTimes {
  std::vector<std::int64_t> fires;     // ascending, not later than `now`
  std::optional<std::int64_t> missed;  // the first of those that are too old to be fired
  std::int64_t settled = 0;            // nothing up to here is looked at again
  std::optional<std::int64_t> next;    // the first after `fires`; it may be due, too, when the limit was reached
};
// Of everything after `after`. What is older than the grace and older than catch_up is missed.
DueTimes due_times(const CronExpression &expression, const ZoneRules &zone, std::int64_t after, std::int64_t now, std::int64_t catch_up_seconds,
                   std::size_t limit);

enum class OnFire : std::uint8_t { kCreate, kSkip, kQueue, kCancelAndCreate, kQueueIsFull };
// running: tasks of the schedule that have not ended; queued: earlier fire times that wait for that.
OnFire on_fire(Overlap overlap, std::size_t running, std::size_t queued);

// From 0 to `limit` microseconds; the same for the same schedule and fire time, whoever asks.
std::int64_t put_off(std::int64_t schedule_id, std::int64_t fire_time, std::int64_t limit);

}  // namespace tasker::core
