// Retry-After (RFC 9110): digits, or a date in one of three forms, of which servers send the first.
//
//   Sun, 06 Nov 1994 08:49:37 GMT      Sunday, 06-Nov-94 08:49:37 GMT      Sun Nov  6 08:49:37 1994
#include <algorithm>
#include <array>
#include <charconv>
#include <chrono>

#include "http/outcome.hpp"

namespace tasker::http {
namespace {

constexpr std::array<std::string_view, 12> kMonths = {"Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"};
constexpr std::array<std::string_view, 7> kDays = {"Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday"};

class Reader {
 public:
  explicit Reader(std::string_view text) : rest_(text) {}

  bool at_end() const { return rest_.empty(); }
  bool take(std::string_view text) {
    if (!rest_.starts_with(text)) return false;
    rest_.remove_prefix(text.size());
    return true;
  }
  std::optional<int> number(std::size_t digits, int least, int most) {
    int value = 0;
    const std::string_view text = rest_.substr(0, digits);
    const auto [end, fault] = std::from_chars(text.data(), text.data() + text.size(), value);
    if (text.size() != digits || fault != std::errc() || end != text.data() + digits || value < least || value > most) return std::nullopt;
    rest_.remove_prefix(digits);
    return value;
  }
  std::optional<int> month() {
    for (std::size_t i = 0; i < kMonths.size(); ++i) {
      if (take(kMonths[i])) return static_cast<int>(i) + 1;
    }
    return std::nullopt;
  }
  bool weekday(bool whole) {
    return std::any_of(kDays.begin(), kDays.end(), [&](std::string_view day) { return take(whole ? day : day.substr(0, 3)); });
  }

 private:
  std::string_view rest_;
};

struct Time {
  int hour, minute, second;
};

std::optional<Time> read_time(Reader &reader) {
  const auto hour = reader.number(2, 0, 23);
  if (!hour || !reader.take(":")) return std::nullopt;
  const auto minute = reader.number(2, 0, 59);
  if (!minute || !reader.take(":")) return std::nullopt;
  const auto second = reader.number(2, 0, 60);
  if (!second) return std::nullopt;
  return Time{*hour, *minute, *second};
}

std::optional<std::int64_t> instant(int year, int month, int day, Time time) {
  const std::chrono::year_month_day date{std::chrono::year(year), std::chrono::month(static_cast<unsigned>(month)),
                                         std::chrono::day(static_cast<unsigned>(day))};
  if (!date.ok()) return std::nullopt;
  const std::int64_t days = std::chrono::sys_days(date).time_since_epoch().count();
  return days * 86'400 + time.hour * 3600 + time.minute * 60 + time.second;
}

std::optional<std::int64_t> fixed_date(std::string_view text) {
  Reader reader(text);
  if (!reader.weekday(false) || !reader.take(", ")) return std::nullopt;
  const auto day = reader.number(2, 1, 31);
  if (!day || !reader.take(" ")) return std::nullopt;
  const auto month = reader.month();
  if (!month || !reader.take(" ")) return std::nullopt;
  const auto year = reader.number(4, 0, 9999);
  if (!year || !reader.take(" ")) return std::nullopt;
  const auto time = read_time(reader);
  if (!time || !reader.take(" GMT") || !reader.at_end()) return std::nullopt;
  return instant(*year, *month, *day, *time);
}

// The year has two digits: one that seems more than 50 years ahead is past.
std::optional<std::int64_t> old_date(std::string_view text, std::int64_t now) {
  Reader reader(text);
  if (!reader.weekday(true) || !reader.take(", ")) return std::nullopt;
  const auto day = reader.number(2, 1, 31);
  if (!day || !reader.take("-")) return std::nullopt;
  const auto month = reader.month();
  if (!month || !reader.take("-")) return std::nullopt;
  const auto year = reader.number(2, 0, 99);
  if (!year || !reader.take(" ")) return std::nullopt;
  const auto time = read_time(reader);
  if (!time || !reader.take(" GMT") || !reader.at_end()) return std::nullopt;
  const std::chrono::sys_days today{std::chrono::floor<std::chrono::days>(std::chrono::sys_seconds(std::chrono::seconds(now)))};
  const int this_year = static_cast<int>(std::chrono::year_month_day(today).year());
  int full = this_year - this_year % 100 + *year;
  if (full > this_year + 50) full -= 100;
  return instant(full, *month, *day, *time);
}

std::optional<std::int64_t> c_date(std::string_view text) {
  Reader reader(text);
  if (!reader.weekday(false) || !reader.take(" ")) return std::nullopt;
  const auto month = reader.month();
  if (!month || !reader.take(" ")) return std::nullopt;
  const auto day = reader.take(" ") ? reader.number(1, 1, 9) : reader.number(2, 1, 31);
  if (!day || !reader.take(" ")) return std::nullopt;
  const auto time = read_time(reader);
  if (!time || !reader.take(" ")) return std::nullopt;
  const auto year = reader.number(4, 0, 9999);
  if (!year || !reader.at_end()) return std::nullopt;
  return instant(*year, *month, *day, *time);
}

}  // namespace

std::optional<double> retry_after_seconds(std::string_view text, std::int64_t now) {
  while (text.starts_with(' ') || text.starts_with('\t')) text.remove_prefix(1);
  while (text.ends_with(' ') || text.ends_with('\t')) text.remove_suffix(1);
  if (text.empty()) return std::nullopt;
  if (text.find_first_not_of("0123456789") == std::string_view::npos) {
    double seconds = 0;
    for (const char c : text) seconds = std::min(seconds * 10 + (c - '0'), kMaxRetryAfterSeconds * 10);
    return std::min(seconds, kMaxRetryAfterSeconds);
  }
  std::optional<std::int64_t> then = fixed_date(text);
  if (!then) then = old_date(text, now);
  if (!then) then = c_date(text);
  if (!then) return std::nullopt;
  return std::clamp(static_cast<double>(*then - now), 0.0, kMaxRetryAfterSeconds);
}

}  // namespace tasker::http
