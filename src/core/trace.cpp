#include "core/trace.hpp"

#include <algorithm>
#include <array>
#include <cstdio>

#include "core/json.hpp"

namespace tasker::core {

namespace {

inline constexpr std::size_t kTraceparentLength = 55, kTraceIdLength = 32, kSpanIdLength = 16;
inline constexpr const char *kMask = "[masked]";
// In lower case. What a longer word ends with counts, too: db_password, x-api-key.
constexpr std::array<std::string_view, 9> kSecretNames = {"password", "passwd", "secret", "token", "authorization", "api_key", "api-key", "apikey", "credential"};

bool is_hex(std::string_view text) {
  return std::all_of(text.begin(), text.end(), [](char c) { return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f'); });
}
bool is_zero(std::string_view text) { return text.find_first_not_of('0') == std::string_view::npos; }

std::string hex(std::uint64_t value) {
  char text[kSpanIdLength + 1];
  snprintf(text, sizeof text, "%016llx", static_cast<unsigned long long>(value));
  return text;
}

// A number that differs where one of the parts does (splitmix64's last steps).
std::uint64_t mix(std::uint64_t x) {
  x += 0x9E3779B97F4A7C15ULL;
  x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9ULL;
  x = (x ^ (x >> 27)) * 0x94D049BB133111EBULL;
  return x ^ (x >> 31);
}

char lower(char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c; }
bool is_space(char c) { return c == ' ' || c == '\t'; }

// Where the value after a secret's name begins that ends at `at`: past quotes, spaces and one = or : ; npos when there is none.
std::size_t value_after(std::string_view text, std::size_t at) {
  while (at < text.size() && (is_space(text[at]) || text[at] == '"' || text[at] == '\'')) at++;
  if (at >= text.size() || (text[at] != '=' && text[at] != ':')) return std::string_view::npos;
  at++;
  while (at < text.size() && is_space(text[at])) at++;
  return at;
}

// Its end: the closing quote, or a space or separator. "Bearer" and "Basic" belong to it.
std::size_t end_of_value(std::string_view text, std::size_t at) {
  if (at < text.size() && (text[at] == '"' || text[at] == '\'')) {
    const std::size_t end = text.find(text[at], at + 1);
    return end == std::string_view::npos ? text.size() : end + 1;
  }
  const auto word = [&](std::size_t from) {
    while (from < text.size() && !is_space(text[from]) && std::string_view(",;&)}]\"'\n\r").find(text[from]) == std::string_view::npos) from++;
    return from;
  };
  std::size_t end = word(at);
  std::string scheme(text.substr(at, end - at));
  std::transform(scheme.begin(), scheme.end(), scheme.begin(), lower);
  if ((scheme == "bearer" || scheme == "basic") && end < text.size() && is_space(text[end])) end = word(end + 1);
  return end;
}

std::string nanoseconds(std::int64_t microseconds) { return std::to_string(microseconds) + (microseconds == 0 ? "" : "000"); }

json value_of(const TraceValue &value) {
  if (const auto *text = std::get_if<std::string>(&value)) return {{"stringValue", *text}};
  if (const auto *number = std::get_if<std::int64_t>(&value)) return {{"intValue", std::to_string(*number)}};
  return {{"boolValue", std::get<bool>(value)}};
}

json attributes_of(const std::vector<std::pair<std::string, TraceValue>> &attributes) {
  json out = json::array();
  for (const auto &[key, value] : attributes) out.push_back({{"key", key}, {"value", value_of(value)}});
  return out;
}

json span_of(const Span &span) {
  enum { kInternal = 1, kClient = 3 };
  enum { kOk = 1, kError = 2 };
  json out = {{"traceId", span.trace_id},
              {"spanId", span.span_id},
              {"name", span.name},
              {"kind", static_cast<int>(span.calls_out ? kClient : kInternal)},
              {"startTimeUnixNano", nanoseconds(span.begun)},
              {"endTimeUnixNano", nanoseconds(std::max(span.begun, span.ended))},
              {"attributes", attributes_of(span.attributes)},
              {"status", json::object()}};
  if (!span.parent_id.empty()) out["parentSpanId"] = span.parent_id;
  if (span.succeeded) out["status"]["code"] = static_cast<int>(*span.succeeded ? kOk : kError);
  if (!span.message.empty()) out["status"]["message"] = span.message;
  for (const std::string &link : span.links) out["links"].push_back({{"traceId", span.trace_id}, {"spanId", link}});
  return out;
}

}  // namespace

std::optional<TraceContext> parse_traceparent(std::string_view text) {
  if (text.size() != kTraceparentLength || !text.starts_with("00-") || text[35] != '-' || text[52] != '-') return std::nullopt;
  const std::string_view trace = text.substr(3, kTraceIdLength), parent = text.substr(36, kSpanIdLength);
  if (!is_hex(trace) || !is_hex(parent) || !is_hex(text.substr(53)) || is_zero(trace) || is_zero(parent)) return std::nullopt;
  return TraceContext{std::string(trace), std::string(parent)};
}

TraceContext trace_of(std::int64_t nonce, std::int64_t task_id, const std::optional<std::string> &correlation_id) {
  if (correlation_id)
    if (auto given = parse_traceparent(*correlation_id)) return *given;
  return {hex(static_cast<std::uint64_t>(nonce)) + hex(static_cast<std::uint64_t>(task_id)), {}};
}

std::string span_id(std::int64_t nonce, std::int64_t task_id, int step_no, int element, int begin) {
  const auto half = [](int high, int low) { return static_cast<std::uint64_t>(static_cast<std::uint32_t>(high)) << 32 | static_cast<std::uint32_t>(low); };
  const std::uint64_t task = mix(mix(static_cast<std::uint64_t>(nonce)) ^ static_cast<std::uint64_t>(task_id));
  return hex(mix(mix(task ^ half(step_no, element)) ^ static_cast<std::uint64_t>(begin)) | 1);
}

std::string traceparent(const TraceContext &context, const std::string &span) { return "00-" + context.trace_id + "-" + span + "-01"; }

std::string otlp_span(const Span &span) { return span_of(span).dump(-1, ' ', false, json::error_handler_t::replace); }

std::string otlp_request(const std::string &database, std::string_view spans) {
  const json resource = {{"attributes", attributes_of({{"service.name", std::string("tasker")}, {"db.system.name", std::string("postgresql")}, {"db.namespace", database}})}};
  return "{\"resourceSpans\": [{\"resource\": " + resource.dump(-1, ' ', false, json::error_handler_t::replace) +
         ", \"scopeSpans\": [{\"scope\": {\"name\": \"tasker\"}, \"spans\": [" + std::string(spans) + "]}]}]}";
}

std::string masked(std::string_view text) {
  std::string small(text);
  std::transform(small.begin(), small.end(), small.begin(), lower);
  std::string out;
  std::size_t done = 0;
  for (std::size_t at = 0; at < small.size();) {
    const auto name = std::find_if(kSecretNames.begin(), kSecretNames.end(), [&](std::string_view n) { return std::string_view(small).substr(at).starts_with(n); });
    const std::size_t value = name == kSecretNames.end() ? std::string_view::npos : value_after(text, at + name->size());
    if (value == std::string_view::npos) {
      at++;
      continue;
    }
    out.append(text.substr(done, value - done));
    out += kMask;
    at = done = end_of_value(text, value);
  }
  out.append(text.substr(done));
  return out;
}

}  // namespace tasker::core
