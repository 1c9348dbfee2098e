// What clocks that change do to fire times: by rules told one by one, against PostgreSQL (test/cron), and against brute force.
#include <gtest/gtest.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <ctime>
#include <filesystem>
#include <fstream>
#include <limits>
#include <map>
#include <memory>
#include <random>
#include <sstream>
#include <utility>
#include <vector>

#include "core/cron.hpp"
#include "core/error.hpp"

namespace tasker::core {
namespace {

namespace fs = std::filesystem;

constexpr std::int64_t kMinute = 60, kHour = 60 * kMinute, kDay = 24 * kHour;

std::int64_t utc(const std::string &text) {
  int year = 0, month = 0, day = 0, hour = 0, minute = 0, second = 0;
  EXPECT_GE(std::sscanf(text.c_str(), "%d-%d-%d %d:%d:%d", &year, &month, &day, &hour, &minute, &second), 5) << text;
  const std::chrono::sys_days date{std::chrono::year(year) / month / day};
  return std::int64_t{date.time_since_epoch().count()} * kDay + hour * kHour + minute * kMinute + second;
}

std::string text_of(std::int64_t moment) {
  const std::time_t time = moment;
  std::tm fields{};
  gmtime_r(&time, &fields);
  char text[64];
  std::strftime(text, sizeof text, fields.tm_sec == 0 ? "%Y-%m-%d %H:%M" : "%Y-%m-%d %H:%M:%S", &fields);
  return text;
}

using Times = std::vector<std::string>;

// An offset, and the moments at which it becomes another.
class ListedZone : public ZoneRules {
 public:
  explicit ListedZone(int offset, std::map<std::int64_t, int> changes = {}) : first_(offset), changes_(std::move(changes)) {}
  ZoneOffset offset_at(std::int64_t moment) const override {
    const auto next = changes_.upper_bound(moment);
    return {next == changes_.begin() ? first_ : std::prev(next)->second, next == changes_.end() ? ZoneOffset::kForever : next->first};
  }

 private:
  int first_;
  std::map<std::int64_t, int> changes_;
};

// The machine's own zone, by way of the C library. Empty when it has none of that name.
std::unique_ptr<ZoneRules> system_zone(const std::string &name) {
  const char *set = std::getenv("TZDIR");
  const fs::path directory = set != nullptr && *set != '\0' ? set : "/usr/share/zoneinfo";
  if (!fs::exists(directory / name)) return nullptr;
  const char *before = std::getenv("TZ");
  const std::string saved = before == nullptr ? "" : before;
  setenv("TZ", (":" + name).c_str(), 1);
  tzset();
  const auto offset = [](std::int64_t moment) {
    const std::time_t time = moment;
    std::tm fields{};
    localtime_r(&time, &fields);
    return static_cast<int>(fields.tm_gmtoff);
  };
  // No zone ever changed twice within half a day.
  constexpr std::int64_t kStep = kDay / 2;
  const std::int64_t first = utc("1968-01-01 00:00"), last = utc("2030-01-01 00:00");
  std::map<std::int64_t, int> changes;
  for (std::int64_t moment = first; moment < last; moment += kStep) {
    if (offset(moment) == offset(moment + kStep)) continue;
    std::int64_t low = moment, high = moment + kStep;
    while (high - low > 1) (offset((low + high) / 2) == offset(moment) ? low : high) = (low + high) / 2;
    changes[high] = offset(high);
  }
  auto zone = std::make_unique<ListedZone>(offset(first), std::move(changes));
  before == nullptr ? unsetenv("TZ") : setenv("TZ", saved.c_str(), 1);
  tzset();
  return zone;
}

// All fire times after one moment and not after another. Each must come once, in order.
std::vector<std::int64_t> fires(const CronExpression &expression, const ZoneRules &zone, std::int64_t after, std::int64_t until) {
  std::vector<std::int64_t> found;
  for (std::int64_t last = after;;) {
    const auto next = next_fire(expression, zone, last);
    if (!next || *next > until) return found;
    EXPECT_GT(*next, last);
    if (*next <= last) return found;
    found.push_back(last = *next);
  }
}

Times fires(const char *expression, const ZoneRules &zone, const char *after, const char *until) {
  Times found;
  for (const std::int64_t moment : fires(parse_cron(expression), zone, utc(after), utc(until))) found.push_back(text_of(moment));
  return found;
}

// Central Europe in 2024: 02:00 becomes 03:00 on 31 March, 03:00 becomes 02:00 on 27 October.
const ListedZone &europe() {
  static const ListedZone zone(3600, {{utc("2024-03-31 01:00"), 7200}, {utc("2024-10-27 01:00"), 3600}});
  return zone;
}

TEST(CronTimes, WithoutChangesTheClockIsShifted) {
  EXPECT_EQ(fires("0 9 * * *", ListedZone(0), "2024-01-01 00:00", "2024-01-02 23:00"), (Times{"2024-01-01 09:00", "2024-01-02 09:00"}));
  EXPECT_EQ(fires("0 9 * * *", ListedZone(20'700), "2024-01-01 00:00", "2024-01-02 23:00"), (Times{"2024-01-01 03:15", "2024-01-02 03:15"}));
  EXPECT_EQ(fires("*/30 * * * *", ListedZone(-16'200), "2024-01-01 00:01", "2024-01-01 01:00"), (Times{"2024-01-01 00:30", "2024-01-01 01:00"}));
  EXPECT_EQ(fires("0 0 1 1 mon", ListedZone(50'400), "2023-12-30 00:00", "2024-01-02 00:00"), (Times{"2023-12-31 10:00"}));
  EXPECT_EQ(next_fire(parse_cron("* * * * *"), ListedZone(0), utc("2024-01-01 00:00:59")), utc("2024-01-01 00:01"));
  EXPECT_EQ(next_fire(parse_cron("0 0-23 * * *"), ListedZone(0), utc("2024-01-01 00:59:59")), utc("2024-01-01 01:00"));
}

TEST(CronTimes, ATimeInAGapFiresAtItsEnd) {
  EXPECT_EQ(fires("30 2 * * *", europe(), "2024-03-30 00:00", "2024-04-01 12:00"),
            (Times{"2024-03-30 01:30", "2024-03-31 01:00", "2024-04-01 00:30"}));
  EXPECT_EQ(fires("*/10 2 * * *", europe(), "2024-03-31 00:00", "2024-03-31 12:00"), (Times{"2024-03-31 01:00"})) << "all of them together once";
  EXPECT_EQ(fires("30 2,3 * * *", europe(), "2024-03-31 00:00", "2024-03-31 12:00"), (Times{"2024-03-31 01:00", "2024-03-31 01:30"}));
  EXPECT_EQ(fires("0 2,3 * * *", europe(), "2024-03-31 00:00", "2024-03-31 12:00"), (Times{"2024-03-31 01:00"})) << "once with what is due there";
}

TEST(CronTimes, ATimeInARepeatedHourFiresInItsFirstPass) {
  EXPECT_EQ(fires("30 2 * * *", europe(), "2024-10-26 12:00", "2024-10-28 12:00"), (Times{"2024-10-27 00:30", "2024-10-28 01:30"}));
  EXPECT_EQ(fires("*/30 2-3 * * *", europe(), "2024-10-26 12:00", "2024-10-27 12:00"),
            (Times{"2024-10-27 00:00", "2024-10-27 00:30", "2024-10-27 02:00", "2024-10-27 02:30"}));
  EXPECT_EQ(next_fire(parse_cron("50 2 * * *"), europe(), utc("2024-10-27 01:10")), utc("2024-10-28 01:50")) << "asked in the second pass";
  EXPECT_EQ(next_fire(parse_cron("50 2 * * *"), europe(), utc("2024-10-27 00:10")), utc("2024-10-27 00:50")) << "asked in the first pass";
}

TEST(CronTimes, ElapsedTimeSkipsGapsAndRepeats) {
  EXPECT_EQ(fires("30 * * * *", europe(), "2024-03-31 00:00", "2024-03-31 02:00"), (Times{"2024-03-31 00:30", "2024-03-31 01:30"}));
  EXPECT_EQ(fires("0 */2 * * *", europe(), "2024-03-30 22:00", "2024-03-31 04:00"),
            (Times{"2024-03-30 23:00", "2024-03-31 02:00", "2024-03-31 04:00"}));
  EXPECT_EQ(fires("45 */2 * * *", europe(), "2024-10-26 22:30", "2024-10-27 04:00"),
            (Times{"2024-10-26 22:45", "2024-10-27 00:45", "2024-10-27 01:45", "2024-10-27 03:45"}));
  EXPECT_EQ(fires(parse_cron("* * * * *"), europe(), utc("2024-10-26 22:00"), utc("2024-10-27 23:00")).size(), 25U * 60) << "a day of 25 hours";
  EXPECT_EQ(fires(parse_cron("* * * * *"), europe(), utc("2024-03-30 23:00"), utc("2024-03-31 22:00")).size(), 23U * 60) << "a day of 23 hours";
}

TEST(CronTimes, AWholeDaySkipped) {
  const ListedZone samoa(-10 * 3600, {{utc("2011-12-30 10:00"), 14 * 3600}});  // after the 29th came the 31st
  EXPECT_EQ(fires("0 12 * * *", samoa, "2011-12-29 00:00", "2011-12-31 12:00"), (Times{"2011-12-29 22:00", "2011-12-30 10:00", "2011-12-30 22:00"}));
  EXPECT_EQ(fires("0 12 30 * *", samoa, "2011-12-01 00:00", "2012-02-10 00:00"), (Times{"2011-12-30 10:00", "2012-01-29 22:00"}));
  EXPECT_EQ(fires("30 * 30 12 *", samoa, "2011-12-01 00:00", "2012-12-29 11:00"), (Times{"2012-12-29 10:30"})) << "a year without that day";
  EXPECT_EQ(fires("0 0 31 12 *", samoa, "2011-12-01 00:00", "2012-01-10 00:00"), (Times{"2011-12-30 10:00"}));
}

TEST(CronTimes, OffsetsNeedNotBeWholeMinutes) {
  const ListedZone monrovia(-2670, {{utc("1972-01-07 00:44:30"), 0}});  // 44 minutes 30 seconds were skipped
  EXPECT_EQ(fires("0 12 * * *", monrovia, "1972-01-05 20:00", "1972-01-08 00:00"), (Times{"1972-01-06 12:44:30", "1972-01-07 12:00"}));
  EXPECT_EQ(fires("20 0 * * *", monrovia, "1972-01-06 02:00", "1972-01-08 01:00"), (Times{"1972-01-07 00:44:30", "1972-01-08 00:20"}));
  EXPECT_EQ(fires("*/15 * * * *", monrovia, "1972-01-07 00:00", "1972-01-07 01:00"),
            (Times{"1972-01-07 00:14:30", "1972-01-07 00:29:30", "1972-01-07 00:45", "1972-01-07 01:00"}));
}

TEST(CronTimes, AChangeOfNothingIsNone) {
  const ListedZone zone(3600, {{utc("2024-03-31 01:30"), 3600}, {utc("2024-03-31 01:31"), 3600}});
  EXPECT_EQ(fires("30 2 * * *", zone, "2024-03-30 02:00", "2024-04-01 12:00"), (Times{"2024-03-31 01:30", "2024-04-01 01:30"}));
  EXPECT_EQ(fires("30 * * * *", zone, "2024-03-31 01:00", "2024-03-31 02:30"), (Times{"2024-03-31 01:30", "2024-03-31 02:30"}));
}

TEST(CronTimes, AnswersAtTheEndsOfTime) {
  const ListedZone zone(3600);
  for (const char *text : {"* * * * *", "* 0-23 * * *"}) {
    const CronExpression each = parse_cron(text);
    EXPECT_EQ(next_fire(each, zone, std::numeric_limits<std::int64_t>::min()), utc("0001-01-01 00:00")) << text;
    EXPECT_FALSE(next_fire(each, zone, std::numeric_limits<std::int64_t>::max())) << text;
    EXPECT_EQ(next_fire(each, zone, utc("9999-12-31 22:58")), utc("9999-12-31 22:59")) << text;
    EXPECT_FALSE(next_fire(each, zone, utc("9999-12-31 22:59"))) << text;
  }
  EXPECT_EQ(next_fire(parse_cron("0 1 29 2 */7"), zone, utc("2088-02-29 00:00")), utc("2128-02-29 00:00"));
}

TEST(CronTimes, ABrokenZoneIsReported) {
  struct Broken : ZoneRules {
    explicit Broken(ZoneOffset given) : answer(given) {}
    ZoneOffset offset_at(std::int64_t) const override { return answer; }
    ZoneOffset answer;
  };
  for (const ZoneOffset answer : {ZoneOffset{0, 5}, ZoneOffset{604'800}, ZoneOffset{-604'800}}) {
    for (const char *text : {"0 * * * *", "0 1 * * *"}) {
      EXPECT_THROW(next_fire(parse_cron(text), Broken(answer), 1'700'000'000), Error) << answer.seconds << " " << answer.until << " " << text;
    }
  }
}

// --- against PostgreSQL ---

struct Case {
  std::string expression, zone;
  std::int64_t after = 0, until = 0;
  auto operator<=>(const Case &) const = default;
};

std::map<Case, std::vector<std::int64_t>> expected_fire_times() {
  std::map<Case, std::vector<std::int64_t>> expected;
  std::ifstream file(fs::path(__FILE__).parent_path() / "../cron/expected_fire_times.csv");
  EXPECT_TRUE(file) << "test/cron/expected_fire_times.csv belongs beside the unit tests";
  std::string line, expression, zone, after, until, fire;
  std::getline(file, line);
  EXPECT_EQ(line, "expression;zone;after;until;fire");
  while (std::getline(file, line)) {
    std::istringstream fields(line + ";");
    for (std::string *field : {&expression, &zone, &after, &until, &fire}) std::getline(fields, *field, ';');
    std::vector<std::int64_t> &times = expected[{expression, zone, utc(after), utc(until)}];
    if (!fire.empty()) times.push_back(utc(fire));
  }
  return expected;
}

std::string in_words(const std::vector<std::int64_t> &times) {
  std::string text;
  for (const std::int64_t moment : times) text += (text.empty() ? "" : ", ") + text_of(moment);
  return text;
}

TEST(CronTimes, AgreeWithPostgres) {
  const auto expected = expected_fire_times();
  std::map<std::string, std::unique_ptr<ZoneRules>> zones;
  std::size_t compared = 0;
  for (const auto &[one, times] : expected) {
    if (!zones.contains(one.zone)) zones[one.zone] = system_zone(one.zone);
    if (!zones[one.zone]) GTEST_SKIP() << "this machine has no time zone " << one.zone << ": install tzdata";
    const auto found = fires(parse_cron(one.expression), *zones[one.zone], one.after, one.until);
    EXPECT_EQ(in_words(found), in_words(times)) << one.expression << " in " << one.zone << " after " << text_of(one.after);
    compared += times.size();
    // Schedules are not only asked where they fired: from anywhere between, the next is the same.
    const CronExpression expression = parse_cron(one.expression);
    for (std::int64_t moment = one.after; moment < one.until; moment += std::max(kMinute, (one.until - one.after) / 97)) {
      const auto next = std::ranges::upper_bound(times, moment);
      if (next == times.end()) break;
      EXPECT_EQ(text_of(next_fire(expression, *zones[one.zone], moment).value_or(0)), text_of(*next))
          << one.expression << " in " << one.zone << " after " << text_of(moment);
    }
  }
  EXPECT_GE(compared, 2000U);
  EXPECT_GE(zones.size(), 9U);
}

// --- against brute force ---

// Zones that no parliament would pass: changes every few hours or days, by up to a day either way.
ListedZone wild_zone(std::mt19937 &random, std::int64_t from, std::int64_t until) {
  const auto offset = [&] { return (static_cast<int>(random() % 193) - 96) * 900; };
  std::map<std::int64_t, int> changes;
  for (std::int64_t moment = from; moment < until; moment += (1 + random() % 4000) * kMinute) changes[moment] = offset();
  return ListedZone(offset(), std::move(changes));
}

std::string wild_field(std::mt19937 &random, int low, int high) {
  const int first = low + static_cast<int>(random() % static_cast<unsigned>(high - low + 1));
  const int last = first + static_cast<int>(random() % static_cast<unsigned>(high - first + 1));
  const std::string step = "/" + std::to_string(1 + random() % static_cast<unsigned>(high));
  switch (random() % 5) {
    case 0: return "*";
    case 1: return "*" + step;
    case 2: return std::to_string(first);
    case 3: return std::to_string(first) + "-" + std::to_string(last);
    default: return std::to_string(first) + "," + std::to_string(low) + "-" + std::to_string(last) + step;
  }
}

bool names(const CronExpression &expression, std::int64_t civil_minute) {
  return next_after(expression, {civil_minute - 1}) == CivilMinute{civil_minute};
}

TEST(CronTimes, AgreeWithBruteForce) {
  std::mt19937 random(20240331);
  std::size_t compared = 0;
  for (int round = 0; round < 100; ++round) {
    const std::int64_t start = utc("2024-02-20 00:00") + static_cast<std::int64_t>(random() % 30) * kDay, end = start + 6 * kDay;
    const ListedZone zone = wild_zone(random, start - 12 * kDay, end);
    const std::string minute = wild_field(random, 0, 59), hour = wild_field(random, 0, 23), day = wild_field(random, 1, 31);
    const std::string text = minute + " " + hour + " " + day + " 2-4 " + wild_field(random, 0, 7);
    const CronExpression expression = parse_cron(text);
    // What the clock shows minute by minute. A time of the day fires when the clock first shows it or passes it.
    std::vector<std::int64_t> expected;
    std::int64_t latest = std::numeric_limits<std::int64_t>::min();
    for (std::int64_t moment = start - 12 * kDay; moment <= end; moment += kMinute) {
      const std::int64_t shown = (moment + zone.offset_at(moment).seconds) / kMinute;
      bool fires_now = expression.any_hour && names(expression, shown);
      if (!expression.any_hour && moment > start) {
        for (std::int64_t civil = latest + 1; civil <= shown && !fires_now; ++civil) fires_now = names(expression, civil);
      }
      latest = std::max(latest, shown);
      if (fires_now && moment > start) expected.push_back(moment);
    }
    ASSERT_EQ(in_words(fires(expression, zone, start, end)), in_words(expected)) << text << ", round " << round;
    compared += expected.size();
  }
  EXPECT_GE(compared, 5'000U);
}

}  // namespace
}  // namespace tasker::core
