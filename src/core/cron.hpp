// Cron expressions: read from text, and the moments at which they fire in a time zone.
//
// Five fields (minute, hour, day of month, month, day of week) as in Vixie cron and pg_cron, whose readings they share:
//   * lists, ranges and steps: 1,15  mon-fri  */5  10-40/5. A step needs a range: 5/10, which others read in different ways, is a fault.
//   * months and weekdays also by three-letter names in any case; 0 and 7 are Sunday, and fri-sun ends on the latter; L or $ is the
//     last day of the month.
//   * when neither day field starts with *, a day that fits either of them fits; else it must fit both.
//   * @hourly, @daily, @midnight, @weekly, @monthly, @yearly, @annually.
// What fires never (30 February) is a fault; so are @reboot and periods in seconds.
//
// When the clocks change, the hour field decides (in Vixie cron a * in the minute field does so too, so that "*/5 2 * * *" is
// lost in a gap and comes twice in a repeated hour; here whoever names an hour gets it, and gets it once):
//   * An hour field that starts with * (* or */2) follows elapsed time: the expression fires at each moment whose wall clock it
//     names. Minutes that the clock skips are skipped, minutes that it shows twice fire twice.
//   * Any other hour field names a time of the day, which fires once: when the wall clock first reaches or passes it. Times that
//     the clock skips fire at the end of the gap, all of them together once; of a repeated hour only the first pass counts.
#pragma once

#include <compare>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <optional>
#include <string>
#include <string_view>

namespace tasker::core {

struct CronExpression {
  std::uint64_t minutes = 0;  // bit n is minute n, and so on
  std::uint32_t hours = 0;
  std::uint32_t days = 0;      // bits 1-31
  std::uint32_t months = 0;    // bits 1-12
  std::uint32_t weekdays = 0;  // bits 0-6 from Sunday
  bool last_day = false;       // of the month, beside `days`
  bool any_hour = false;       // the field starts with *; it may yet have a step
  bool any_day = false;
  bool any_weekday = false;

  bool operator==(const CronExpression &) const = default;
};

struct CronFault {
  std::size_t position = 0;  // byte of the text, from 0
  std::string problem;       // "hour 24 is out of range"
  std::string hint;          // never empty
};

struct CheckedCron {
  CronExpression expression;       // usable only without a fault; it then fires at least once in any 400 years
  std::optional<CronFault> fault;  // the first
};

CheckedCron check_cron(std::string_view text);
// Raises 22023 with the fault.
CronExpression parse_cron(std::string_view text);

// A minute of the wall clock, counted from 1970-01-01 00:00 in the calendar, whatever the zone.
struct CivilMinute {
  std::int64_t minutes = 0;
  auto operator<=>(const CivilMinute &) const = default;
};

// The first minute after `after` that the expression names, by the calendar alone. Nothing when there is none up to the year 9999.
std::optional<CivilMinute> next_after(const CronExpression &expression, CivilMinute after);

// What a time zone's wall clock shows: seconds to add to UTC, and from which moment on that may be different.
struct ZoneOffset {
  static constexpr std::int64_t kForever = std::numeric_limits<std::int64_t>::max();
  int seconds = 0;                // east is positive; less than a week either way
  std::int64_t until = kForever;  // later than the moment asked for; the offset after it may be the same
};

// A time zone. Gaps and repeated hours need not be known to it: they follow from the offsets. Moments are seconds since 1970 UTC.
class ZoneRules {
 public:
  virtual ~ZoneRules() = default;
  virtual ZoneOffset offset_at(std::int64_t utc) const = 0;
};

// The first moment after `after_utc` at which the expression fires. Asked again with each answer, it gives every fire time exactly
// once. Nothing when there is none up to the year 9999. Raises XX000 when the zone breaks its contract.
std::optional<std::int64_t> next_fire(const CronExpression &expression, const ZoneRules &zone, std::int64_t after_utc);

}  // namespace tasker::core
