// When expressions fire.
//
// By the calendar, the search goes through days, skipping months that don't fit. After 400 years the calendar repeats, weekdays
// included: what has not come until then never will. By the clock, there are two rules (cron.hpp), each with a function.
#include <algorithm>
#include <bit>
#include <chrono>

#include "core/cron.hpp"
#include "core/error.hpp"

namespace tasker::core {
namespace {

namespace chrono = std::chrono;

constexpr std::int64_t kMinutesOfDay = 24 * 60;
constexpr std::int64_t kFirstDay = chrono::sys_days(chrono::year(1) / 1 / 1).time_since_epoch().count();
constexpr std::int64_t kLastDay = chrono::sys_days(chrono::year(9999) / 12 / 31).time_since_epoch().count();
constexpr std::int64_t kCalendarCycleDays = 146'097;  // 400 years

constexpr std::int64_t floor_div(std::int64_t value, std::int64_t by) { return value / by - (value % by < 0 ? 1 : 0); }

constexpr bool has(std::uint64_t bits, std::int64_t value) { return (bits >> static_cast<unsigned>(value) & 1U) != 0; }

bool day_fits(const CronExpression &expression, const chrono::year_month_day &date, const chrono::weekday &weekday) {
  const bool last = date.day() == (date.year() / date.month() / chrono::last).day();
  const bool day = has(expression.days, static_cast<unsigned>(date.day())) || (expression.last_day && last);
  const bool of_week = has(expression.weekdays, weekday.c_encoding());
  return expression.any_day || expression.any_weekday ? day && of_week : day || of_week;
}

// The first time of a day at or after `from`, in minutes.
std::optional<std::int64_t> time_of_day(const CronExpression &expression, std::int64_t from) {
  for (std::int64_t hour = from / 60, minute = from % 60; hour < 24; ++hour, minute = 0) {
    const std::uint64_t later = has(expression.hours, hour) ? expression.minutes >> static_cast<unsigned>(minute) : 0;
    if (later != 0) return hour * 60 + minute + std::countr_zero(later);
  }
  return std::nullopt;
}

}  // namespace

std::optional<CivilMinute> next_after(const CronExpression &expression, CivilMinute after) {
  if (after.minutes >= (kLastDay + 1) * kMinutesOfDay - 1) return std::nullopt;
  const std::int64_t start = std::max(after.minutes + 1, kFirstDay * kMinutesOfDay);
  std::int64_t day = floor_div(start, kMinutesOfDay);
  std::int64_t from = start - day * kMinutesOfDay;
  for (const std::int64_t end = std::min(day + kCalendarCycleDays, kLastDay); day <= end; from = 0) {
    const chrono::sys_days here{chrono::days(day)};
    const chrono::year_month_day date = here;
    if (!has(expression.months, static_cast<unsigned>(date.month()))) {
      day = (chrono::sys_days(date.year() / date.month() / chrono::last).time_since_epoch() + chrono::days(1)).count();
      continue;
    }
    if (day_fits(expression, date, chrono::weekday(here))) {
      if (const auto time = time_of_day(expression, from)) return CivilMinute{day * kMinutesOfDay + *time};
    }
    ++day;
  }
  return std::nullopt;
}

namespace {

constexpr std::int64_t kWeek = 7 * 86'400;  // no wall clock is that far from UTC

ZoneOffset checked_offset(const ZoneRules &zone, std::int64_t utc) {
  const ZoneOffset offset = zone.offset_at(utc);
  if (offset.seconds <= -kWeek || offset.seconds >= kWeek || offset.until <= utc) {
    throw Error(sqlstate::kInternal, "time zone answered an offset of " + std::to_string(offset.seconds) + " s until " + std::to_string(offset.until) +
                                         " when asked for " + std::to_string(utc));
  }
  return offset;
}

// The latest that the wall clock has shown up to `utc`, in civil seconds. What it showed two weeks before was earlier than what it
// shows now, as neither is a week from UTC.
std::int64_t latest_shown(const ZoneRules &zone, std::int64_t utc) {
  std::int64_t latest = std::numeric_limits<std::int64_t>::min();
  for (std::int64_t moment = utc - 2 * kWeek;;) {
    const ZoneOffset offset = checked_offset(zone, moment);
    if (offset.until > utc) return std::max(latest, utc + offset.seconds);
    latest = std::max(latest, offset.until - 1 + offset.seconds);
    moment = offset.until;
  }
}

// A time of the day fires when the clock first shows it or something later.
std::optional<std::int64_t> next_once(const CronExpression &expression, const ZoneRules &zone, std::int64_t after_utc) {
  const auto next = next_after(expression, {floor_div(latest_shown(zone, after_utc), 60)});
  if (!next) return std::nullopt;
  const std::int64_t civil = next->minutes * 60;
  for (std::int64_t moment = std::max(after_utc, civil - kWeek);;) {
    const ZoneOffset offset = checked_offset(zone, moment);
    const std::int64_t reached = std::max(moment, civil - offset.seconds);
    if (reached < offset.until) return reached;
    moment = offset.until;
  }
}

// Elapsed time: between two changes of the offset, the clock is UTC with something added.
std::optional<std::int64_t> next_each(const CronExpression &expression, const ZoneRules &zone, std::int64_t after_utc) {
  for (std::int64_t moment = after_utc + 1;;) {
    const ZoneOffset offset = checked_offset(zone, moment);
    const auto next = next_after(expression, {floor_div(moment + offset.seconds - 1, 60)});
    if (!next) return std::nullopt;
    const std::int64_t shown = next->minutes * 60 - offset.seconds;
    if (shown < offset.until) return shown;
    moment = offset.until;
  }
}

}  // namespace

std::optional<std::int64_t> next_fire(const CronExpression &expression, const ZoneRules &zone, std::int64_t after_utc) {
  if (after_utc >= (kLastDay + 1) * 86'400) return std::nullopt;
  const std::int64_t after = std::max(after_utc, kFirstDay * 86'400 - 1);
  return expression.any_hour ? next_each(expression, zone, after) : next_once(expression, zone, after);
}

}  // namespace tasker::core
