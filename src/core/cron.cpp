// Reading expressions. They become bit sets, so that the search for the next time (cron_times.cpp) compares no text.
#include "core/cron.hpp"

#include <algorithm>
#include <charconv>
#include <limits>
#include <span>
#include <utility>
#include <vector>

#include "core/error.hpp"
#include "core/object_reader.hpp"

namespace tasker::core {
namespace {

constexpr std::string_view kMonths[] = {"jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"};
constexpr std::string_view kWeekdays[] = {"sun", "mon", "tue", "wed", "thu", "fri", "sat"};

struct Field {
  std::string_view name, values;  // values: for hints
  int low, high;
  std::span<const std::string_view> names;  // of low, low + 1 …
};

enum FieldIndex : std::size_t { kMinute, kHour, kDay, kMonth, kWeekday, kFieldCount };
constexpr Field kFields[kFieldCount] = {
    {"minute", "0-59", 0, 59, {}},
    {"hour", "0-23", 0, 23, {}},
    {"day of month", "1-31, or L for the last", 1, 31, {}},
    {"month", "1-12 or jan-dec", 1, 12, kMonths},
    {"day of week", "0-7 or sun-sat", 0, 7, kWeekdays},
};

constexpr std::pair<std::string_view, std::string_view> kMacros[] = {
    {"@hourly", "0 * * * *"},  {"@daily", "0 0 * * *"},  {"@midnight", "0 0 * * *"}, {"@weekly", "0 0 * * 0"},
    {"@monthly", "0 0 1 * *"}, {"@yearly", "0 0 1 1 *"}, {"@annually", "0 0 1 1 *"},
};

constexpr const char *kShape = "Write five fields: minute, hour, day of month, month, day of week, as in \"30 2 * * mon-fri\".";

constexpr bool is_blank(char c) { return c == ' ' || c == '\t' || c == '\n' || c == '\r'; }
constexpr bool is_digit(char c) { return c >= '0' && c <= '9'; }
constexpr char lower(char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c; }

bool same_word(std::string_view left, std::string_view right) { return std::ranges::equal(left, right, {}, lower, lower); }

bool starts_with_word(std::string_view text, std::string_view word) { return same_word(text.substr(0, word.size()), word); }

std::vector<std::string_view> split_blanks(std::string_view text) {
  std::vector<std::string_view> words;
  for (std::size_t i = 0; i < text.size();) {
    std::size_t end = i;
    while (end < text.size() && !is_blank(text[end])) ++end;
    if (end > i) words.push_back(text.substr(i, end - i));
    i = end + 1;
  }
  return words;
}

// --- reading ---

class Reader {
 public:
  explicit Reader(std::string_view text) : text_(text) {}
  CheckedCron read();

 private:
  void fault(std::string_view where, std::string problem, std::string hint);
  void read_macro(std::string_view word);
  void report_count(std::span<const std::string_view> words);
  void read_fields(std::span<const std::string_view> words);
  std::uint64_t read_field(FieldIndex index, std::string_view text);
  std::uint64_t read_item(FieldIndex index, std::string_view item);
  std::optional<int> read_value(const Field &field, std::string_view item, std::string_view text);
  std::optional<int> read_step(const Field &field, std::string_view item, std::string_view text);
  void report_unknown(const Field &field, std::string_view item, std::string_view value);
  void report_backwards(const Field &field, std::string_view first, std::string_view last);

  std::string_view text_;
  CheckedCron result_;
};

void Reader::fault(std::string_view where, std::string problem, std::string hint) {
  const std::size_t position = where.data() == nullptr ? 0 : static_cast<std::size_t>(where.data() - text_.data());
  result_.fault = {position, std::move(problem), std::move(hint)};
}

CheckedCron Reader::read() {
  const std::vector<std::string_view> words = split_blanks(text_);
  if (words.empty()) {
    fault({}, "the expression is empty", kShape);
  } else if (words.size() == 1 && words[0].starts_with('@')) {
    read_macro(words[0]);
  } else if (words.size() != kFieldCount) {
    report_count(words);
  } else {
    read_fields(words);
  }
  return std::move(result_);
}

void Reader::read_macro(std::string_view word) {
  for (const auto &[name, fields] : kMacros) {
    if (same_word(word, name)) return read_fields(split_blanks(fields));
  }
  if (same_word(word, "@reboot")) {
    return fault(word, "@reboot is no time of the clock",
                 "A schedule fires at times of the clock; catch_up is for those that passed while the server was down.");
  }
  std::string known;
  for (const auto &[name, fields] : kMacros) known += (known.empty() ? "" : ", ") + std::string(name);
  fault(word, in_quotes(word) + " is not known", "Known are " + known + "; or write five fields.");
}

void Reader::report_count(std::span<const std::string_view> words) {
  const std::string_view first = words.front();
  if (words.size() == 2 && starts_with_word(words[1], "second")) {
    return fault(words[1], "a period in seconds is too short", "The shortest is a minute: \"* * * * *\".");
  }
  if (starts_with_word(first, "@every")) {
    return fault(first, "@every is not known", "Write a step, as in \"*/15 * * * *\" for every 15 minutes.");
  }
  if (starts_with_word(first, "tz=") || starts_with_word(first, "cron_tz=")) {
    return fault(first, "a time zone does not belong into the expression", "Give it as the argument timezone.");
  }
  const std::size_t count = words.size();
  std::string hint = kShape;
  if (count > kFieldCount) hint += " Seconds and years are no fields, and a list has no spaces.";
  fault(count > kFieldCount ? words[kFieldCount] : first, std::to_string(count) + (count == 1 ? " field" : " fields") + " instead of five", hint);
}

void Reader::read_fields(std::span<const std::string_view> words) {
  CronExpression &expression = result_.expression;
  expression.minutes = read_field(kMinute, words[kMinute]);
  expression.hours = static_cast<std::uint32_t>(read_field(kHour, words[kHour]));
  expression.days = static_cast<std::uint32_t>(read_field(kDay, words[kDay]));
  expression.months = static_cast<std::uint32_t>(read_field(kMonth, words[kMonth]));
  const auto weekdays = static_cast<std::uint32_t>(read_field(kWeekday, words[kWeekday]));
  expression.weekdays = (weekdays | weekdays >> 7U) & 0x7FU;  // 7 is Sunday, as 0
  expression.any_hour = words[kHour].starts_with('*');
  expression.any_day = words[kDay].starts_with('*');
  expression.any_weekday = words[kWeekday].starts_with('*');
  // Only days that their months don't have lead there.
  if (!result_.fault && !next_after(expression, {})) fault(words[kDay], "the expression never fires", "The months that it names have no such day.");
}

// The bits of the values that a list names; some, when it has a fault.
std::uint64_t Reader::read_field(FieldIndex index, std::string_view text) {
  std::uint64_t bits = 0;
  for (std::string_view rest = text; !result_.fault;) {
    const std::size_t comma = rest.find(',');
    const std::string_view item = rest.substr(0, comma);
    if (item.empty()) {
      fault(rest, std::string(kFields[index].name) + " " + in_quotes(text) + " has an empty place in its list", "Take the needless comma out.");
    } else {
      bits |= read_item(index, item);
    }
    if (comma == std::string_view::npos) break;
    rest.remove_prefix(comma + 1);
  }
  return bits;
}

// One of *, 5, 1-5, each range perhaps with a step; and L.
std::uint64_t Reader::read_item(FieldIndex index, std::string_view item) {
  const Field &field = kFields[index];
  if (index == kDay && (same_word(item, "L") || item == "$")) {
    result_.expression.last_day = true;
    return 0;
  }
  const std::size_t slash = item.find('/');
  const std::string_view range = item.substr(0, slash);
  const std::size_t dash = range.find('-');
  std::optional<int> first = field.low, last = field.high;
  if (range != "*") {
    first = read_value(field, item, range.substr(0, dash));
    last = first;
    if (first && dash != std::string_view::npos) {
      const std::string_view end = range.substr(dash + 1);
      last = read_value(field, item, end);
      // Of the two Sundays, a week that ends on one means the later.
      if (index == kWeekday && same_word(end, kWeekdays[0]) && first > 0) last = field.high;
    }
  }
  if (!first || !last) return 0;
  if (*first > *last) {
    report_backwards(field, range.substr(0, dash), range.substr(dash + 1));
    return 0;
  }
  std::optional<int> step = 1;
  if (slash != std::string_view::npos) {
    if (range != "*" && dash == std::string_view::npos) {
      const int high = index == kWeekday ? std::max(*first, 6) : field.high;
      fault(item, std::string(field.name) + " " + in_quotes(item) + " has a step without a range",
            "Write \"" + shown(range) + "-" + std::to_string(high) + shown(item.substr(slash)) + "\" to go on to the end, or the value alone.");
      return 0;
    }
    step = read_step(field, item, item.substr(slash + 1));
  }
  std::uint64_t bits = 0;
  for (int value = *first; step && value <= *last; value += *step) bits |= std::uint64_t{1} << static_cast<unsigned>(value);
  return bits;
}

// Digits only; too many of them are a number that fits nowhere.
std::optional<int> number_of(std::string_view text) {
  if (text.empty() || !std::ranges::all_of(text, is_digit)) return std::nullopt;
  int value = 0;
  const bool fits = std::from_chars(text.data(), text.data() + text.size(), value).ec == std::errc();
  return fits ? value : std::numeric_limits<int>::max();
}

std::optional<int> Reader::read_value(const Field &field, std::string_view item, std::string_view text) {
  for (std::size_t i = 0; i < field.names.size(); ++i) {
    if (same_word(text, field.names[i])) return field.low + static_cast<int>(i);
  }
  const std::optional<int> number = number_of(text);
  if (!number) {
    report_unknown(field, item, text);
  } else if (*number < field.low || *number > field.high) {
    fault(text, std::string(field.name) + " " + shown(text) + " is out of range", "Write " + std::string(field.values) + ".");
    return std::nullopt;
  }
  return number;
}

std::optional<int> Reader::read_step(const Field &field, std::string_view item, std::string_view text) {
  const std::optional<int> step = number_of(text);
  if (step && *step >= 1 && *step <= field.high) return step;
  fault(text, std::string(field.name) + " " + in_quotes(item) + " needs a step from 1 to " + std::to_string(field.high),
        "A step counts within its field and starts anew with it; a longer period belongs into the next field.");
  return std::nullopt;
}

void Reader::report_unknown(const Field &field, std::string_view item, std::string_view value) {
  std::string hint = "Write " + std::string(field.values) + ", a range or list of them, or *.";
  if (value == "?") {
    hint = "Write * for any.";
  } else if (!value.empty() && value.find_first_not_of("0123456789LlWw#$") == std::string_view::npos) {
    hint = "Of such letters only L is known, and it stands alone: the last day of the month.";
  }
  for (const std::string_view name : field.names) {
    if (starts_with_word(value, name)) hint = "Names have three letters: \"" + std::string(name) + "\".";
  }
  fault(value, std::string(field.name) + " " + in_quotes(item) + " cannot be read", std::move(hint));
}

void Reader::report_backwards(const Field &field, std::string_view first, std::string_view last) {
  const bool weekday = &field == &kFields[kWeekday];
  const std::string upper = shown(first) + "-" + std::to_string(weekday ? 6 : field.high);
  std::string hint = "Write it as two ranges: \"" + upper + "," + std::to_string(field.low) + "-" + shown(last) + "\".";
  if (weekday && number_of(first) == field.high) hint = "Write 0 for a Sunday at the start of a range.";
  fault(first, std::string(field.name) + " range " + in_quotes(shown(first) + "-" + shown(last)) + " runs backwards", std::move(hint));
}

}  // namespace

CheckedCron check_cron(std::string_view text) { return Reader(text).read(); }

CronExpression parse_cron(std::string_view text) {
  CheckedCron checked = check_cron(text);
  if (!checked.fault) return checked.expression;
  const auto character =
      1 + std::ranges::count_if(text.substr(0, checked.fault->position), [](char c) { return (static_cast<unsigned char>(c) & 0xC0U) != 0x80; });
  throw Error(sqlstate::kInvalidParameter, "invalid cron expression: " + checked.fault->problem,
              "character " + std::to_string(character) + " of " + in_quotes(text), checked.fault->hint);
}

}  // namespace tasker::core
