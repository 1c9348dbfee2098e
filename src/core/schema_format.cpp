#include <algorithm>
#include <array>
#include <charconv>
#include <optional>

#include "core/schema_keywords.hpp"

// The formats are RFC grammars without nesting, so each is read once from left to right. Characters are
// classed here, not by <cctype>, whose answers depend on the locale.
namespace tasker::core::schema {
namespace {

constexpr bool is_digit(char c) { return c >= '0' && c <= '9'; }
constexpr bool is_letter(char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z'); }
constexpr bool is_alphanumeric(char c) { return is_digit(c) || is_letter(c); }
constexpr bool is_hex_digit(char c) { return is_digit(c) || (c >= 'a' && c <= 'f') || (c >= 'A' && c <= 'F'); }
constexpr bool is_one_of(char c, std::string_view set) { return set.find(c) != std::string_view::npos; }

// Takes a text apart from the left.
class Reader {
 public:
  explicit Reader(std::string_view text) : rest_(text) {}

  bool at_end() const { return rest_.empty(); }
  std::string_view rest() const { return rest_; }

  bool take(char c) {
    if (!rest_.starts_with(c)) return false;
    rest_.remove_prefix(1);
    return true;
  }

  bool take_any(std::string_view set) {
    if (rest_.empty() || !is_one_of(rest_.front(), set)) return false;
    rest_.remove_prefix(1);
    return true;
  }

  template <typename Class>
  std::string_view take_while(const Class &belongs) {
    const auto end = std::ranges::find_if_not(rest_, belongs);
    const std::string_view taken = rest_.substr(0, static_cast<std::size_t>(end - rest_.begin()));
    rest_.remove_prefix(taken.size());
    return taken;
  }

  // Exactly so many digits, of a value in the range; empty when it is not there.
  std::optional<int> take_number(std::size_t digits, int least, int most) {
    const std::string_view text = rest_.substr(0, digits);
    int value = 0;
    if (text.size() != digits || !std::ranges::all_of(text, is_digit)) return std::nullopt;
    std::from_chars(text.data(), text.data() + digits, value);
    if (value < least || value > most) return std::nullopt;
    rest_.remove_prefix(digits);
    return value;
  }

 private:
  std::string_view rest_;
};

// RFC 3339: full-date.
bool take_date(Reader &reader) {
  const auto year = reader.take_number(4, 0, 9999);
  if (!year || !reader.take('-')) return false;
  const auto month = reader.take_number(2, 1, 12);
  if (!month || !reader.take('-')) return false;
  constexpr std::array<int, 12> kDays{31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
  const bool leap = *year % 4 == 0 && (*year % 100 != 0 || *year % 400 == 0);
  const int days = kDays[static_cast<std::size_t>(*month - 1)] + (*month == 2 && leap ? 1 : 0);
  return reader.take_number(2, 1, days).has_value();
}

// RFC 3339: time-offset, in minutes.
std::optional<int> take_offset(Reader &reader) {
  if (reader.take_any("Zz")) return 0;
  const bool behind = reader.take('-');
  if (!behind && !reader.take('+')) return std::nullopt;
  const auto hours = reader.take_number(2, 0, 23);
  if (!hours || !reader.take(':')) return std::nullopt;
  const auto minutes = reader.take_number(2, 0, 59);
  if (!minutes) return std::nullopt;
  const int offset = *hours * 60 + *minutes;
  return behind ? -offset : offset;
}

// RFC 3339: full-time. A leap second is the last of a day in UTC.
bool take_time(Reader &reader) {
  const auto hour = reader.take_number(2, 0, 23);
  if (!hour || !reader.take(':')) return false;
  const auto minute = reader.take_number(2, 0, 59);
  if (!minute || !reader.take(':')) return false;
  const auto second = reader.take_number(2, 0, 60);
  if (!second || (reader.take('.') && reader.take_while(is_digit).empty())) return false;
  const auto offset = take_offset(reader);
  constexpr int kDay = 24 * 60;
  return offset && (*second < 60 || (*hour * 60 + *minute - *offset + 2 * kDay) % kDay == kDay - 1);
}

bool is_date(std::string_view text) {
  Reader reader(text);
  return take_date(reader) && reader.at_end();
}

bool is_time(std::string_view text) {
  Reader reader(text);
  return take_time(reader) && reader.at_end();
}

bool is_date_time(std::string_view text) {
  Reader reader(text);
  return take_date(reader) && reader.take_any("Tt") && take_time(reader) && reader.at_end();
}

// Numbers with units in their order, without a gap between them: 1H2M, 2M3S, but not 1H3S. At least one.
bool take_amounts(Reader &reader, std::string_view units) {
  if (reader.at_end() || !is_digit(reader.rest().front())) return false;
  bool first = true;
  while (!reader.at_end() && is_digit(reader.rest().front())) {
    reader.take_while(is_digit);
    const std::size_t unit = reader.at_end() ? std::string_view::npos : units.find(reader.rest().front());
    if (unit == std::string_view::npos || (!first && unit != 0)) return false;
    reader.take(units[unit]);
    units.remove_prefix(unit + 1);
    first = false;
  }
  return true;
}

// RFC 3339, appendix A: duration.
bool is_duration(std::string_view text) {
  if (!text.starts_with('P')) return false;
  Reader weeks(text.substr(1));
  if (take_amounts(weeks, "W") && weeks.at_end()) return true;
  Reader reader(text.substr(1));
  if (!reader.rest().starts_with('T') && !take_amounts(reader, "YMD")) return false;
  return reader.at_end() || (reader.take('T') && take_amounts(reader, "HMS") && reader.at_end());
}

// RFC 1123. Of an internationalised name ("xn--…") only the ASCII form is looked at.
bool is_label(std::string_view label) {
  constexpr std::size_t kMaxLabel = 63;
  if (label.empty() || label.size() > kMaxLabel || label.front() == '-' || label.back() == '-') return false;
  return std::ranges::all_of(label, [](char c) { return is_alphanumeric(c) || c == '-'; });
}

bool is_hostname(std::string_view text) {
  constexpr std::size_t kMaxHostname = 253;
  if (text.size() > kMaxHostname) return false;
  for (std::size_t dot = text.find('.'); dot != std::string_view::npos; dot = text.find('.')) {
    if (!is_label(text.substr(0, dot))) return false;
    text.remove_prefix(dot + 1);
  }
  return is_label(text);
}

bool is_ipv4(std::string_view text) {
  Reader reader(text);
  for (int part = 0; part < 4; ++part) {
    if (part > 0 && !reader.take('.')) return false;
    const std::string_view digits = reader.take_while(is_digit);
    if (digits.empty() || digits.size() > 3 || (digits.size() > 1 && digits.front() == '0')) return false;
    if (!Reader(digits).take_number(digits.size(), 0, 255)) return false;
  }
  return reader.at_end();
}

// How many 16-bit groups a part of an IPv6 address has, IPv4 at its end counting as two; empty when it is malformed.
std::optional<int> count_groups(std::string_view part, bool may_end_as_ipv4) {
  int groups = 0;
  while (!part.empty()) {
    if (may_end_as_ipv4 && is_ipv4(part)) return groups + 2;
    const std::string_view group = part.substr(0, part.find(':'));
    if (group.empty() || group.size() > 4 || !std::ranges::all_of(group, is_hex_digit)) return std::nullopt;
    ++groups;
    part.remove_prefix(group.size());
    if (part == ":") return std::nullopt;
    if (!part.empty()) part.remove_prefix(1);
  }
  return groups;
}

// RFC 4291: eight groups, once "::" for one or more groups of zeros.
bool is_ipv6(std::string_view text) {
  constexpr int kGroups = 8;
  const std::size_t gap = text.find("::");
  if (gap == std::string_view::npos) return count_groups(text, true) == kGroups;
  const auto before = count_groups(text.substr(0, gap), false);
  const auto after = count_groups(text.substr(gap + 2), true);
  return before && after && *before + *after < kGroups;
}

// RFC 5321: what may stand in brackets after the @.
bool is_address_literal(std::string_view text) {
  constexpr std::string_view kTag = "IPv6:";
  return text.starts_with(kTag) ? is_ipv6(text.substr(kTag.size())) : is_ipv4(text);
}

// RFC 5321: Dot-string.
bool take_dotted_atoms(Reader &reader) {
  const auto is_atom = [](char c) { return is_alphanumeric(c) || is_one_of(c, "!#$%&'*+-/=?^_`{|}~"); };
  do {
    if (reader.take_while(is_atom).empty()) return false;
  } while (reader.take('.'));
  return true;
}

// RFC 5321: Quoted-string, after its first quote.
bool take_quoted_rest(Reader &reader) {
  const auto is_plain = [](char c) { return c >= ' ' && c <= '~' && c != '"' && c != '\\'; };
  while (true) {
    reader.take_while(is_plain);
    if (reader.take('"')) return true;
    if (!reader.take('\\') || reader.at_end() || reader.rest().front() < ' ' || reader.rest().front() > '~') return false;
    reader.take(reader.rest().front());
  }
}

// RFC 5321: Mailbox.
bool is_email(std::string_view text) {
  Reader reader(text);
  if (!(reader.take('"') ? take_quoted_rest(reader) : take_dotted_atoms(reader)) || !reader.take('@')) return false;
  std::string_view domain = reader.rest();
  if (!domain.starts_with('[')) return is_hostname(domain);
  return domain.ends_with(']') && is_address_literal(domain.substr(1, domain.size() - 2));
}

bool is_uuid(std::string_view text) {
  constexpr std::string_view kPattern = "xxxxxxxx-xxxx-xxxx-xxxx-xxxxxxxxxxxx";
  return std::ranges::equal(text, kPattern, [](char c, char expected) { return expected == '-' ? c == '-' : is_hex_digit(c); });
}

bool is_json_pointer(std::string_view text) {
  if (!text.empty() && text.front() != '/') return false;
  for (std::size_t tilde = text.find('~'); tilde != std::string_view::npos; tilde = text.find('~', tilde + 1)) {
    if (tilde + 1 == text.size() || !is_one_of(text[tilde + 1], "01")) return false;
  }
  return true;
}

// RFC 3986: unreserved, sub-delims and percent-encoded characters, and those of `more`.
bool is_uri_text(std::string_view text, std::string_view more) {
  for (std::size_t i = 0; i < text.size(); ++i) {
    const char c = text[i];
    if (c == '%') {
      if (text.size() - i < 3 || !is_hex_digit(text[i + 1]) || !is_hex_digit(text[i + 2])) return false;
      i += 2;
    } else if (!is_alphanumeric(c) && !is_one_of(c, "-._~!$&'()*+,;=") && !is_one_of(c, more)) {
      return false;
    }
  }
  return true;
}

// RFC 3986: IP-literal without its brackets.
bool is_ip_literal(std::string_view text) {
  if (!text.starts_with('v') && !text.starts_with('V')) return is_ipv6(text);
  Reader reader(text.substr(1));
  return !reader.take_while(is_hex_digit).empty() && reader.take('.') && !reader.at_end() &&
         !is_one_of('%', reader.rest()) && is_uri_text(reader.rest(), ":");
}

// RFC 3986: authority.
bool is_authority(std::string_view text) {
  const std::size_t at = text.find('@');
  if (at != std::string_view::npos) {
    if (!is_uri_text(text.substr(0, at), ":")) return false;
    text.remove_prefix(at + 1);
  }
  const std::size_t end_of_literal = text.starts_with('[') ? text.find(']') : 0;
  if (end_of_literal == std::string_view::npos) return false;
  const std::size_t colon = text.find(':', end_of_literal);
  const std::string_view host = text.substr(0, colon);
  const std::string_view port = colon == std::string_view::npos ? std::string_view() : text.substr(colon + 1);
  if (!std::ranges::all_of(port, is_digit)) return false;
  if (end_of_literal == 0) return is_uri_text(host, "");
  return host.size() == end_of_literal + 1 && is_ip_literal(host.substr(1, end_of_literal - 1));
}

// RFC 3986: what follows the scheme, or a reference without one.
bool is_uri_rest(std::string_view text) {
  const std::size_t hash = text.find('#');
  if (hash != std::string_view::npos && !is_uri_text(text.substr(hash + 1), ":@/?")) return false;
  text = text.substr(0, hash);
  const std::size_t question = text.find('?');
  if (question != std::string_view::npos && !is_uri_text(text.substr(question + 1), ":@/?")) return false;
  text = text.substr(0, question);
  if (text.starts_with("//")) {
    const std::size_t path = text.find('/', 2);
    if (!is_authority(text.substr(2, path == std::string_view::npos ? path : path - 2))) return false;
    text = path == std::string_view::npos ? std::string_view() : text.substr(path);
  }
  return is_uri_text(text, ":@/");
}

// The length of "scheme:" at the start, 0 when there is none.
std::size_t scheme_length(std::string_view text) {
  const std::size_t colon = text.find_first_of(":/?#");
  if (colon == 0 || colon == std::string_view::npos || text[colon] != ':' || !is_letter(text.front())) return 0;
  const auto is_scheme = [](char c) { return is_alphanumeric(c) || is_one_of(c, "+-."); };
  return std::ranges::all_of(text.substr(0, colon), is_scheme) ? colon + 1 : 0;
}

bool is_uri(std::string_view text) {
  const std::size_t scheme = scheme_length(text);
  return scheme > 0 && is_uri_rest(text.substr(scheme));
}

// Without a scheme, the first segment of the path has no colon: it would be taken for one.
bool is_uri_reference(std::string_view text) {
  if (is_uri(text)) return true;
  const std::size_t end_of_segment = text.find_first_of(":/?#");
  const bool colon_first = end_of_segment != std::string_view::npos && text[end_of_segment] == ':';
  return !colon_first && is_uri_rest(text);
}

struct Format {
  std::string_view name;
  bool (*holds)(std::string_view);  // null for regex, which the caller's engine decides
};

constexpr auto kFormats = std::to_array<Format>({
    {"date", is_date},
    {"date-time", is_date_time},
    {"duration", is_duration},
    {"email", is_email},
    {"hostname", is_hostname},
    {"ipv4", is_ipv4},
    {"ipv6", is_ipv6},
    {"json-pointer", is_json_pointer},
    {"regex", nullptr},
    {"time", is_time},
    {"uri", is_uri},
    {"uri-reference", is_uri_reference},
    {"uuid", is_uuid},
});

const Format *find_format(std::string_view name) noexcept {
  const auto *found = std::ranges::find(kFormats, name, &Format::name);
  return found == kFormats.end() ? nullptr : found;
}

}  // namespace

bool known_format(std::string_view name) noexcept { return find_format(name) != nullptr; }

bool has_format(std::string_view name, std::string_view text, const SchemaRegex &regex) {
  const Format *format = find_format(name);
  if (format == nullptr) return true;
  return format->holds == nullptr ? regex.problem(text).empty() : format->holds(text);
}

}  // namespace tasker::core::schema
