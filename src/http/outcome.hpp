// What a response means for the step that asked: its result, or how it failed and whether another attempt is worth making.
//
// The rules are SPEC's (doc/reference.md, HTTP). In short: 2xx or one of `expect` is the answer; 429 and 503 are retryable
// after what Retry-After says; 408, 409, 425, other 5xx and whatever failed before sending are retryable; other 4xx are not.
// When the answer was lost after sending, a repeatable request is tried again, and any other ends as outcome_unknown.
// An answer that says what happened is believed, whether its body came whole or not.
//
// Pure: no clock, no I/O.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "core/json.hpp"
#include "http/request.hpp"

namespace tasker::http {

inline constexpr double kMaxRetryAfterSeconds = 300;

struct Expectation {
  std::vector<int> expect;            // empty: 2xx
  bool repeatable = false;            // idempotency 'key'
  bool has_body = true;               // false for HEAD
  std::optional<std::string> result;  // JSON pointer into the answer; empty: all of it
};

struct Outcome {
  bool ok = false;
  // JSON text that jsonb takes: the answer as it came (numbers keep their digits) or what the pointer found. Without a body:
  // null. An answer that is no JSON: {"content_type", "text"}, or {"content_type", "base64"} when it is not UTF-8. JSON that
  // jsonb can't hold (\u0000, nesting over 256 levels, numbers out of range, malformed) is text too, with "problem".
  std::string result;
  // Of a failure. Categories: timeout (408 too), connection, server_error (5xx), rate_limit (429), conflict (409),
  // client_error (other statuses), privilege (refused by the egress policy), validation (of the answer, or of the request),
  // resource, cancelled, outcome_unknown.
  std::string category;
  bool retryable = false;
  std::optional<double> retry_after_seconds;  // asked for by the server, at most kMaxRetryAfterSeconds
  std::string message, detail, hint;
  core::json context;  // {"status", "host", "failure", "redirects", "seconds", "body"}: what is known of it, no secrets
};

// now: seconds since 1970, for dates in Retry-After.
Outcome judge(const Response &response, const Expectation &expectation, std::int64_t now);

// "120" or an HTTP date (all three forms), as seconds from now: never negative, at most kMaxRetryAfterSeconds; empty when
// it can't be read.
std::optional<double> retry_after_seconds(std::string_view text, std::int64_t now);

}  // namespace tasker::http
