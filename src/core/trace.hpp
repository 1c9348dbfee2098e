// A task as an OpenTelemetry trace: ids, and the spans of its attempts as OTLP/HTTP JSON.
//
// A trace is a task, a span an attempt of a step; the task's own span is the parent of all. An attempt links to those that its step
// waited for. Ids are made from what names the attempt, so that a span that is sent twice is the same span, and the traceparent of
// an HTTP call names the span that is exported later. Where a task's correlation_id is a W3C traceparent, the task continues that
// trace, as a child of its span. https://www.w3.org/TR/trace-context/, https://opentelemetry.io/docs/specs/otlp/
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

namespace tasker::core {

struct TraceContext {
  std::string trace_id;   // 32 hexadecimal digits
  std::string parent_id;  // 16, or empty: there is none
};
// Of a text that is a traceparent of version 00 and names a trace; else nothing.
std::optional<TraceContext> parse_traceparent(std::string_view text);
// `nonce`: of the database.
TraceContext trace_of(std::int64_t nonce, std::int64_t task_id, const std::optional<std::string> &correlation_id);

// begin: the number of the move with which the attempt began; step_no 0: the task's own.
std::string span_id(std::int64_t nonce, std::int64_t task_id, int step_no, int element, int begin);
std::string traceparent(const TraceContext &context, const std::string &span);

using TraceValue = std::variant<std::string, std::int64_t, bool>;

struct Span {
  std::string trace_id, span_id, parent_id, name;
  bool calls_out = false;              // an HTTP call: kind client; else internal
  std::int64_t begun = 0, ended = 0;   // microseconds since 1970
  std::vector<std::pair<std::string, TraceValue>> attributes;
  std::optional<bool> succeeded;       // nothing: status unset
  std::string message;                 // of an error
  std::vector<std::string> links;      // span ids of the same trace
};

// As JSON; bytes that are no UTF-8 are replaced.
std::string otlp_span(const Span &span);
// The body of an ExportTraceServiceRequest; `spans`: what otlp_span gave, with commas between.
std::string otlp_request(const std::string &database, std::string_view spans);

// Values that follow the name of a secret ("password=…", "token: …", "Authorization: Bearer …") are replaced.
std::string masked(std::string_view text);

}  // namespace tasker::core
