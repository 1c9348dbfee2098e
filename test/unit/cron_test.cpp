// Reading expressions, and the calendar. What clocks do to them is in cron_times_test.cpp.
#include "core/cron.hpp"

#include <gtest/gtest.h>

#include <bit>
#include <chrono>
#include <cstdio>
#include <limits>

#include "core/error.hpp"

namespace tasker::core {
namespace {

std::string fault_of(std::string_view text) {
  const CheckedCron checked = check_cron(text);
  return checked.fault ? std::to_string(checked.fault->position) + ": " + checked.fault->problem + " | " + checked.fault->hint : "";
}

// The one bit set of a field, written as a list.
std::string values(std::uint64_t bits) {
  std::string list;
  for (; bits != 0; bits &= bits - 1) list += (list.empty() ? "" : " ") + std::to_string(std::countr_zero(bits));
  return list;
}

CivilMinute civil(const char *text) {
  int year = 0, month = 0, day = 0, hour = 0, minute = 0;
  EXPECT_EQ(std::sscanf(text, "%d-%d-%d %d:%d", &year, &month, &day, &hour, &minute), 5) << text;
  const std::chrono::sys_days date{std::chrono::year(year) / month / day};
  return {std::int64_t{date.time_since_epoch().count()} * 1440 + hour * 60 + minute};
}

std::string text_of(CivilMinute time) {
  const auto moment = std::chrono::sys_time<std::chrono::minutes>(std::chrono::minutes(time.minutes));
  const auto day = std::chrono::floor<std::chrono::days>(moment);
  const std::chrono::year_month_day date = day;
  const auto rest = static_cast<int>((moment - day).count());
  char text[32];
  std::snprintf(text, sizeof text, "%04d-%02u-%02u %02d:%02d", static_cast<int>(date.year()), static_cast<unsigned>(date.month()),
                static_cast<unsigned>(date.day()), rest / 60, rest % 60);
  return text;
}

// The first `count` times after a moment.
std::vector<std::string> times(const char *expression, const char *after, int count) {
  const CronExpression parsed = parse_cron(expression);
  std::vector<std::string> found;
  CivilMinute last = civil(after);
  for (int i = 0; i < count; ++i) {
    const auto next = next_after(parsed, last);
    if (!next) return found;
    EXPECT_GT(*next, last);
    found.push_back(text_of(*next));
    last = *next;
  }
  return found;
}

using Times = std::vector<std::string>;

TEST(Cron, ReadsMinutes) {
  const std::pair<const char *, const char *> cases[] = {
      {"0", "0"},         {"59", "59"},         {"07", "7"},          {"1,2,5", "1 2 5"},         {"5,1,5", "1 5"},          {"1-4", "1 2 3 4"},
      {"4-4", "4"},       {"*/20", "0 20 40"},  {"10-40/15", "10 25 40"}, {"50-59/5", "50 55"},   {"0-59/30", "0 30"},       {"1-3/59", "1"},
      {"*/59", "0 59"},   {"58-59,0-1", "0 1 58 59"}, {"7,*/30", "0 7 30"}, {"0-0,30-30/2", "0 30"},
  };
  for (const auto &[field, expected] : cases) EXPECT_EQ(values(parse_cron(field + std::string(" * * * *")).minutes), expected) << field;
  EXPECT_EQ(std::popcount(parse_cron("* * * * *").minutes), 60);
}

TEST(Cron, ReadsTheOtherFields) {
  EXPECT_EQ(values(parse_cron("0 */6 * * *").hours), "0 6 12 18");
  EXPECT_EQ(values(parse_cron("0 22-23,0-2 * * *").hours), "0 1 2 22 23");
  EXPECT_EQ(values(parse_cron("0 0 1,31 * *").days), "1 31");
  EXPECT_EQ(values(parse_cron("0 0 */15 * *").days), "1 16 31");
  EXPECT_EQ(values(parse_cron("0 0 1 jan,DEC,Mar-may *").months), "1 3 4 5 12");
  EXPECT_EQ(values(parse_cron("0 0 1 2-DEC/5 *").months), "2 7 12");
  EXPECT_EQ(values(parse_cron("0 0 1 */12 *").months), "1");
}

TEST(Cron, SundayIsBothEndsOfTheWeek) {
  const std::pair<const char *, const char *> cases[] = {
      {"0", "0"},           {"7", "0"},           {"sun", "0"},         {"0,7", "0"},        {"Mon-FRI", "1 2 3 4 5"}, {"5-7", "0 5 6"},
      {"fri-sun", "0 5 6"}, {"sun-tue", "0 1 2"}, {"sun-sun", "0"},     {"7-sun", "0"},      {"0-sun", "0"},           {"1-7/2", "0 1 3 5"},
      {"*/2", "0 2 4 6"},   {"*/7", "0"},         {"0-7", "0 1 2 3 4 5 6"}, {"sat,sun", "0 6"},
  };
  for (const auto &[field, expected] : cases) EXPECT_EQ(values(parse_cron("0 0 * * " + std::string(field)).weekdays), expected) << field;
}

TEST(Cron, TheLastDayOfTheMonth) {
  for (const char *field : {"L", "l", "$"}) {
    const CronExpression parsed = parse_cron("0 0 " + std::string(field) + " * *");
    EXPECT_TRUE(parsed.last_day && parsed.days == 0 && !parsed.any_day) << field;
  }
  const CronExpression both = parse_cron("0 0 15,L * *");
  EXPECT_TRUE(both.last_day);
  EXPECT_EQ(values(both.days), "15");
  EXPECT_EQ(times("0 0 L * *", "2023-12-31 00:00", 4), (Times{"2024-01-31 00:00", "2024-02-29 00:00", "2024-03-31 00:00", "2024-04-30 00:00"}));
  EXPECT_EQ(times("0 0 30,L 1-3 *", "2023-01-01 00:00", 5),
            (Times{"2023-01-30 00:00", "2023-01-31 00:00", "2023-02-28 00:00", "2023-03-30 00:00", "2023-03-31 00:00"}));
}

TEST(Cron, StarsAreRemembered) {
  const CronExpression plain = parse_cron("1 2 3 4 5");
  EXPECT_TRUE(!plain.any_hour && !plain.any_day && !plain.any_weekday);
  const CronExpression stars = parse_cron("1 */2 *,3 4 */5");
  EXPECT_TRUE(stars.any_hour && stars.any_day && stars.any_weekday);
  EXPECT_FALSE(parse_cron("* 0-23 * * *").any_hour) << "every hour named is a time of the day each";
  const CronExpression later = parse_cron("0 3,* 3,* * 3,*");
  EXPECT_TRUE(!later.any_hour && !later.any_day && !later.any_weekday) << "the star must come first, as in cron";
}

TEST(Cron, MacrosAreTheirFields) {
  const std::pair<const char *, const char *> cases[] = {
      {"@hourly", "0 * * * *"},  {"@daily", "0 0 * * *"},  {"@midnight", "0 0 * * *"}, {"@weekly", "0 0 * * 0"},
      {"@monthly", "0 0 1 * *"}, {"@yearly", "0 0 1 1 *"}, {"@annually", "0 0 1 1 *"}, {"  @Hourly\n", "0 * * * *"},
  };
  for (const auto &[macro, fields] : cases) EXPECT_EQ(parse_cron(macro), parse_cron(fields)) << macro;
}

TEST(Cron, BlanksSeparate) { EXPECT_EQ(parse_cron(" \t30  2 * *\t mon \r\n"), parse_cron("30 2 * * 1")); }

TEST(Cron, FaultsNamePlaceAndRemedy) {
  const std::string shape = "Write five fields: minute, hour, day of month, month, day of week, as in \"30 2 * * mon-fri\".";
  const std::string more = " Seconds and years are no fields, and a list has no spaces.";
  const std::string minutes = "Write 0-59, a range or list of them, or *.", days = "Write 1-31, or L for the last, a range or list of them, or *.";
  const std::string letters = "Of such letters only L is known, and it stands alone: the last day of the month.";
  const std::string steps = "A step counts within its field and starts anew with it; a longer period belongs into the next field.";
  const std::string known = "Known are @hourly, @daily, @midnight, @weekly, @monthly, @yearly, @annually; or write five fields.";
  const std::pair<const char *, std::string> cases[] = {
      {"", "0: the expression is empty | " + shape},
      {" \t\n", "0: the expression is empty | " + shape},
      {"*", "0: 1 field instead of five | " + shape},
      {" 0 0 * *", "1: 4 fields instead of five | " + shape},
      {"0 0 0 * * *", "10: 6 fields instead of five | " + shape + more},
      {"1, 2 * * * *", "11: 6 fields instead of five | " + shape + more},
      {"60 * * * *", "0: minute 60 is out of range | Write 0-59."},
      {"0 24 * * *", "2: hour 24 is out of range | Write 0-23."},
      {"0 0 0 * *", "4: day of month 0 is out of range | Write 1-31, or L for the last."},
      {"0 0 32 * *", "4: day of month 32 is out of range | Write 1-31, or L for the last."},
      {"0 0 1 13 *", "6: month 13 is out of range | Write 1-12 or jan-dec."},
      {"0 0 1 0 *", "6: month 0 is out of range | Write 1-12 or jan-dec."},
      {"0 0 * * 8", "8: day of week 8 is out of range | Write 0-7 or sun-sat."},
      {"60 24 32 * *", "0: minute 60 is out of range | Write 0-59."},
      {"99999999999999999999 * * * *", "0: minute 99999999999999999999 is out of range | Write 0-59."},
      {"5-99 * * * *", "2: minute 99 is out of range | Write 0-59."},
      {"1,2,x * * * *", "4: minute \"x\" cannot be read | " + minutes},
      {"-5 * * * *", "0: minute \"-5\" cannot be read | " + minutes},
      {"5- * * * *", "2: minute \"5-\" cannot be read | " + minutes},
      {"1-5-7 * * * *", "2: minute \"1-5-7\" cannot be read | " + minutes},
      {"*-5 * * * *", "0: minute \"*-5\" cannot be read | " + minutes},
      {"** * * * *", "0: minute \"**\" cannot be read | " + minutes},
      {"1.5 * * * *", "0: minute \"1.5\" cannot be read | " + minutes},
      {"0 0 ? * 1", "4: day of month \"?\" cannot be read | Write * for any."},
      {"0 0 15W * *", "4: day of month \"15W\" cannot be read | " + letters},
      {"0 0 L-3 * *", "4: day of month \"L-3\" cannot be read | " + letters},
      {"0 0 1-L * *", "6: day of month \"1-L\" cannot be read | " + letters},
      {"0 0 L/2 * *", "4: day of month \"L/2\" cannot be read | " + letters},
      {"0 0 * * 5L", "8: day of week \"5L\" cannot be read | " + letters},
      {"0 0 * * 1#2", "8: day of week \"1#2\" cannot be read | " + letters},
      {"L 0 * * *", "0: minute \"L\" cannot be read | " + letters},
      {"0 0 x * *", "4: day of month \"x\" cannot be read | " + days},
      {"0 0 * * monday", "8: day of week \"monday\" cannot be read | Names have three letters: \"mon\"."},
      {"0 0 1 Sept *", "6: month \"Sept\" cannot be read | Names have three letters: \"sep\"."},
      {"0 0 1 mon *", "6: month \"mon\" cannot be read | Write 1-12 or jan-dec, a range or list of them, or *."},
      {"jan 0 1 * *", "0: minute \"jan\" cannot be read | " + minutes},
      {"50-10 * * * *", "0: minute range \"50-10\" runs backwards | Write it as two ranges: \"50-59,0-10\"."},
      {"0 22-2/2 * * *", "2: hour range \"22-2\" runs backwards | Write it as two ranges: \"22-23,0-2\"."},
      {"0 0 1 nov-feb *", "6: month range \"nov-feb\" runs backwards | Write it as two ranges: \"nov-12,1-feb\"."},
      {"0 0 * * fri-mon", "8: day of week range \"fri-mon\" runs backwards | Write it as two ranges: \"fri-6,0-mon\"."},
      {"0 0 * * 7-2", "8: day of week range \"7-2\" runs backwards | Write 0 for a Sunday at the start of a range."},
      {"5/10 * * * *", "0: minute \"5/10\" has a step without a range | Write \"5-59/10\" to go on to the end, or the value alone."},
      {"0 0 * * mon/2", "8: day of week \"mon/2\" has a step without a range | Write \"mon-6/2\" to go on to the end, or the value alone."},
      {"0 0 * * 7/2", "8: day of week \"7/2\" has a step without a range | Write \"7-7/2\" to go on to the end, or the value alone."},
      {"*/ * * * *", "2: minute \"*/\" needs a step from 1 to 59 | " + steps},
      {"*/0 * * * *", "2: minute \"*/0\" needs a step from 1 to 59 | " + steps},
      {"*/60 * * * *", "2: minute \"*/60\" needs a step from 1 to 59 | " + steps},
      {"1-5/x * * * *", "4: minute \"1-5/x\" needs a step from 1 to 59 | " + steps},
      {"*/5/2 * * * *", "2: minute \"*/5/2\" needs a step from 1 to 59 | " + steps},
      {"0 */24 * * *", "4: hour \"*/24\" needs a step from 1 to 23 | " + steps},
      {"1,,2 * * * *", "2: minute \"1,,2\" has an empty place in its list | Take the needless comma out."},
      {",1 * * * *", "0: minute \",1\" has an empty place in its list | Take the needless comma out."},
      {"0 1, * * *", "4: hour \"1,\" has an empty place in its list | Take the needless comma out."},
      {"0 0 30 2 *", "4: the expression never fires | The months that it names have no such day."},
      {"0 0 31 2,apr,6 *", "4: the expression never fires | The months that it names have no such day."},
      {"0 0 30 feb */2", "4: the expression never fires | The months that it names have no such day."},
      {"@fortnightly", "0: \"@fortnightly\" is not known | " + known},
      {"@", "0: \"@\" is not known | " + known},
      {" @Reboot",
       "1: @reboot is no time of the clock | A schedule fires at times of the clock; catch_up is for those that passed while the server was down."},
      {"30 seconds", "3: a period in seconds is too short | The shortest is a minute: \"* * * * *\"."},
      {"1 SECOND", "2: a period in seconds is too short | The shortest is a minute: \"* * * * *\"."},
      {"@every 5m", "0: @every is not known | Write a step, as in \"*/15 * * * *\" for every 15 minutes."},
      {"CRON_TZ=Asia/Tokyo 0 0 * * *", "0: a time zone does not belong into the expression | Give it as the argument timezone."},
  };
  for (const auto &[text, expected] : cases) EXPECT_EQ(fault_of(text), expected) << text;
}

TEST(Cron, RaisesItsFault) {
  try {
    parse_cron("0 0 * * ü8");
    FAIL() << "taken";
  } catch (const Error &error) {
    EXPECT_EQ(error.sqlstate(), "22023");
    EXPECT_EQ(error.message(), "invalid cron expression: day of week \"ü8\" cannot be read");
    EXPECT_EQ(error.detail(), "character 9 of \"0 0 * * ü8\"");
    EXPECT_EQ(error.hint(), "Write 0-7 or sun-sat, a range or list of them, or *.");
  }
  try {
    parse_cron("é é * * * *");
    FAIL() << "taken";
  } catch (const Error &error) {
    EXPECT_EQ(error.detail(), "character 11 of \"é é * * * *\"") << "characters, not bytes";
  }
}

TEST(Cron, LongTextIsReadInOneGo) {
  std::string text = "1";
  for (int i = 0; i < 300'000; ++i) text += ",2-50/7";
  EXPECT_EQ(parse_cron(text + " * * * *").minutes, parse_cron("1,2-50/7 * * * *").minutes);
  const CheckedCron checked = check_cron(text + ",x * * * *");
  ASSERT_TRUE(checked.fault);
  EXPECT_EQ(checked.fault->position, text.size() + 1);
  const std::string zeros(100'000, '0'), nines(100'000, '9');
  for (const std::string &field : {std::string(100'000, 'x'), nines, zeros + "5-" + zeros + "3", zeros + "5/" + nines, "*/" + nines, "@" + nines}) {
    EXPECT_LT(fault_of(field + " * * * *").size(), 1000U) << "messages stay short: " << field.substr(0, 10);
  }
}

TEST(Cron, NextMinuteHourDay) {
  EXPECT_EQ(times("* * * * *", "2024-02-28 23:58", 3), (Times{"2024-02-28 23:59", "2024-02-29 00:00", "2024-02-29 00:01"}));
  EXPECT_EQ(times("*/25 */11 * * *", "2024-12-31 22:30", 3), (Times{"2024-12-31 22:50", "2025-01-01 00:00", "2025-01-01 00:25"}));
  EXPECT_EQ(times("30 2 * * *", "2024-03-01 02:30", 1), (Times{"2024-03-02 02:30"})) << "after, not at";
  EXPECT_EQ(times("15 10-12/2 * 5,11 *", "2024-05-31 12:14", 3), (Times{"2024-05-31 12:15", "2024-11-01 10:15", "2024-11-01 12:15"}));
}

TEST(Cron, NextWeekday) {
  EXPECT_EQ(times("0 9 * * mon-fri", "2024-03-01 09:00", 2), (Times{"2024-03-04 09:00", "2024-03-05 09:00"}));
  EXPECT_EQ(times("0 0 * * 7", "1970-01-01 00:00", 2), (Times{"1970-01-04 00:00", "1970-01-11 00:00"}));
  EXPECT_EQ(times("0 0 * * sat", "1969-12-01 00:00", 1), (Times{"1969-12-06 00:00"}));
}

TEST(Cron, TwoRestrictedDayFieldsAreAlternatives) {
  EXPECT_EQ(times("0 0 13 * fri", "2024-09-01 00:00", 4), (Times{"2024-09-06 00:00", "2024-09-13 00:00", "2024-09-20 00:00", "2024-09-27 00:00"}));
  EXPECT_EQ(times("0 0 1-31 * fri", "2024-09-01 00:00", 1), (Times{"2024-09-02 00:00"})) << "a full range is not a star";
  EXPECT_EQ(times("0 0 L * fri", "2024-09-27 00:00", 2), (Times{"2024-09-30 00:00", "2024-10-04 00:00"}));
  EXPECT_EQ(times("0 0 30 2 1", "2024-02-26 00:00", 1), (Times{"2025-02-03 00:00"})) << "no such day, but such weekdays";
}

TEST(Cron, AStarMakesBothDayFieldsConditions) {
  EXPECT_EQ(times("0 0 */2 * mon", "2024-09-01 00:00", 2), (Times{"2024-09-09 00:00", "2024-09-23 00:00"}));
  EXPECT_EQ(times("0 0 13 * */5", "2024-09-01 00:00", 2), (Times{"2024-09-13 00:00", "2024-10-13 00:00"}));
}

TEST(Cron, RareDates) {
  EXPECT_EQ(times("0 0 29 2 *", "2024-02-29 00:00", 1), (Times{"2028-02-29 00:00"}));
  EXPECT_EQ(times("0 0 29 2 *", "1896-02-29 00:00", 1), (Times{"1904-02-29 00:00"})) << "1900 was no leap year";
  EXPECT_EQ(times("0 0 29 2 *", "1996-02-29 00:00", 1), (Times{"2000-02-29 00:00"}));
  EXPECT_EQ(times("0 0 29 2 */7", "2088-02-29 00:00", 1), (Times{"2128-02-29 00:00"})) << "forty years: a Sunday beyond 2100";
  EXPECT_EQ(times("0 0 31 * *", "2024-01-31 00:00", 3), (Times{"2024-03-31 00:00", "2024-05-31 00:00", "2024-07-31 00:00"}));
}

TEST(Cron, CalendarHasEnds) {
  EXPECT_EQ(times("* * * * *", "9999-12-31 23:57", 5), (Times{"9999-12-31 23:58", "9999-12-31 23:59"}));
  EXPECT_EQ(times("0 0 1 1 *", "9999-01-01 00:00", 1), Times{});
  const CronExpression each = parse_cron("* * * * *");
  EXPECT_FALSE(next_after(each, {std::numeric_limits<std::int64_t>::max()}));
  const auto first = next_after(each, {std::numeric_limits<std::int64_t>::min()});
  ASSERT_TRUE(first);
  EXPECT_EQ(text_of(*first), "0001-01-01 00:00");
  EXPECT_FALSE(next_after(CronExpression{}, {0})) << "what names nothing never comes";
}

}  // namespace
}  // namespace tasker::core
