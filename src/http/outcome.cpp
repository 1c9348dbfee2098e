#include "http/outcome.hpp"

#include <algorithm>
#include <cstdlib>
#include <utility>

#include "core/error.hpp"
#include "core/object_reader.hpp"
#include "http/text.hpp"
#include "http/url.hpp"

namespace tasker::http {
namespace {

using core::json;

constexpr std::size_t kShownBody = 500;

std::string dump(const json &value) { return value.dump(-1, ' ', false, json::error_handler_t::replace); }

// --- the body ---

// application/json, application/problem+json, text/json …
bool is_json_type(std::string_view type) {
  std::string media = lower(type.substr(0, type.find(';')));
  while (media.ends_with(' ') || media.ends_with('\t')) media.pop_back();
  return media == "application/json" || media == "text/json" || media.ends_with("+json");
}

bool has_null_character(const json &value) {
  if (value.is_string()) return value.get_ref<const std::string &>().find('\0') != std::string::npos;
  if (!value.is_structured()) return false;
  return std::any_of(value.items().begin(), value.items().end(),
                     [&](const auto &item) { return (value.is_object() && item.key().find('\0') != std::string::npos) || has_null_character(item.value()); });
}

// Of sound JSON: does each of its numbers fit a numeric? Those have digits without end, but not exponents.
bool numbers_fit(std::string_view text) {
  constexpr std::size_t kDigits = 1000;
  constexpr long kExponent = 1000;
  for (std::size_t i = 0; i < text.size();) {
    if (text[i] == '"') {
      for (++i; text[i] != '"'; ++i) i += text[i] == '\\' ? 1 : 0;
      ++i;
    } else if (text[i] == '-' || (text[i] >= '0' && text[i] <= '9')) {
      const std::size_t end = std::min(text.find_first_not_of("+-.0123456789eE", i), text.size());
      const std::string number(text.substr(i, end - i));
      const std::size_t exponent = number.find_first_of("eE");
      if (number.size() > kDigits) return false;
      if (exponent != std::string::npos && std::labs(std::strtol(number.c_str() + exponent + 1, nullptr, 10)) > kExponent) return false;
      i = end;
    } else {
      ++i;
    }
  }
  return true;
}

struct Body {
  std::optional<json> value;  // when it is JSON
  std::string text;           // what becomes the result
  std::string problem;        // why it is not JSON that can be kept, although it says so
};

std::string described(std::string_view type, const std::string &body, const std::string &problem) {
  json result = {{"content_type", one_line(type, 200)}};
  if (is_utf8(body)) {
    result["text"] = body;
  } else {
    result["base64"] = base64(body);
  }
  if (!problem.empty()) result["problem"] = problem;
  return dump(result);
}

Body read_body(const Response &response) {
  Body body;
  const std::string &type = response.header("content-type");
  if (response.body.empty()) {
    body.value = nullptr;
    body.text = "null";
    return body;
  }
  if (is_json_type(type)) {
    try {
      json value = core::parse_json(response.body);
      if (has_null_character(value)) {
        body.problem = "JSON has the character \\u0000, which jsonb can't hold";
      } else if (!numbers_fit(response.body)) {
        body.problem = "number in JSON is out of range";
      } else {
        body.value = std::move(value);
        body.text = response.body;
        return body;
      }
    } catch (const Error &error) {
      body.problem = error.message();
    }
  }
  body.text = described(type, response.body, body.problem);
  return body;
}

// --- verdicts ---

std::string shown_body(const Response &response) { return one_line(response.body.substr(0, kShownBody + 1), kShownBody); }

json context_of(const Response &response) {
  json context = {{"host", response.host}, {"seconds", response.timings.total}};
  if (response.status != 0) context["status"] = response.status;
  if (response.failure != Failure::kNone) context["failure"] = failure_name(response.failure);
  if (response.redirects > 0) context["redirects"] = response.redirects;
  if (response.status != 0 && !response.body.empty()) context["body"] = shown_body(response);
  return context;
}

Outcome failed(const Response &response, const char *category, bool retryable, std::string message, std::string hint = {}) {
  Outcome outcome;
  outcome.category = category;
  outcome.retryable = retryable;
  outcome.message = std::move(message);
  outcome.hint = std::move(hint);
  outcome.context = context_of(response);
  return outcome;
}

Outcome unknown(const Response &response, const std::string &what) {
  return failed(response, "outcome_unknown", false, "outcome unknown: " + what,
                "The request was sent, and idempotency is \"none\": find out at the endpoint whether it was served, then resolve or retry the step.");
}

bool is_expected(int status, const std::vector<int> &expect) {
  if (expect.empty()) return status >= 200 && status < 300;
  return std::find(expect.begin(), expect.end(), status) != expect.end();
}

Outcome answered(const Response &response, const Expectation &expectation) {
  Outcome outcome;
  Body body = expectation.has_body ? read_body(response) : Body{json(nullptr), "null", {}};
  if (expectation.result && !expectation.result->empty()) {
    if (!body.value) {
      return failed(
          response, "validation", false, "answer of " + response.host + " is no JSON, so \"result\" finds nothing in it",
          body.problem.empty() ? "Its Content-Type is " + core::in_quotes(response.header("content-type")) + "." : "It is not: " + body.problem + ".");
    }
    try {
      const json::json_pointer pointer(*expectation.result);
      if (!body.value->contains(pointer)) {
        return failed(response, "validation", false, "answer of " + response.host + " has no value at " + core::shown(*expectation.result));
      }
      body.text = dump(body.value->at(pointer));
    } catch (const json::exception &) {
      return failed(response, "validation", false, "\"result\" is no JSON pointer: " + core::in_quotes(*expectation.result));
    }
  }
  outcome.ok = true;
  outcome.result = std::move(body.text);
  return outcome;
}

// An answer that is none of the expected.
Outcome refused(const Response &response, std::int64_t now) {
  const int status = response.status;
  const std::string what = response.host + " answered with status " + std::to_string(status);
  if (status == 429 || status == 503) {
    Outcome outcome = failed(response, status == 503 ? "server_error" : "rate_limit", true, what);
    outcome.retry_after_seconds = retry_after_seconds(response.header("retry-after"), now);
    return outcome;
  }
  if (status >= 500) return failed(response, "server_error", true, what);
  if (status == 408) return failed(response, "timeout", true, what);
  if (status == 409) return failed(response, "conflict", true, what);
  if (status == 425) return failed(response, "client_error", true, what);
  if (status >= 300 && status < 400 && !response.header("location").empty()) {
    std::string target = "elsewhere";
    try {
      // Only the host: what follows it may carry secrets.
      target = Url("http://" + response.host).resolve(response.header("location")).host();
    } catch (const Error &) {
    }
    return failed(response, "client_error", false, what + ", a redirect to " + target,
                  "Redirects are followed when the server's option allow_redirects is on.");
  }
  return failed(response, "client_error", false, what);
}

}  // namespace

Outcome judge(const Response &response, const Expectation &expectation, std::int64_t now) {
  const bool expected = response.status != 0 && is_expected(response.status, expectation.expect);
  // The status says it all; what happened to the body of such an answer doesn't matter.
  const bool told = response.status != 0 && !expected && response.failure != Failure::kCancelled && response.failure != Failure::kRedirectRefused;
  if (told) {
    Outcome outcome = refused(response, now);
    // A redirect said that the request was served; only what it points to was not to be had.
    if (response.accepted && outcome.retryable && !expectation.repeatable) return unknown(response, outcome.message);
    return outcome;
  }
  const bool lost = response.sent && !expectation.repeatable;
  switch (response.failure) {
    case Failure::kNone:
      return answered(response, expectation);
    case Failure::kCancelled:
      return failed(response, "cancelled", false, response.message);
    case Failure::kInvalidRequest:
      if (lost && response.accepted) return unknown(response, response.message);  // the next hop's
      return failed(response, "validation", false, response.message);
    case Failure::kTooLarge:
      if (lost && response.status == 0) return unknown(response, response.message);  // not even the header was readable
      return failed(response, "resource", false, response.message, "Let the endpoint answer with less, or raise tasker.http_max_response.");
    case Failure::kRedirectRefused:
      if (lost && response.accepted) return unknown(response, response.message);
      return failed(response, "client_error", false, response.message);
    case Failure::kRefusedAddress:
      if (lost && response.accepted) return unknown(response, response.message);
      return failed(response, "privilege", false, response.message,
                    "Addresses that are not public are dialled only for servers with allow_private, which a superuser sets.");
    case Failure::kCertificate:
      if (lost) return unknown(response, response.message);
      return failed(response, "connection", false, response.message, "Give the server's option ca, if it has a certificate authority of its own.");
    default:
      break;
  }
  if (lost) return unknown(response, response.message);
  const bool timeout = response.failure == Failure::kTimeoutBeforeSend || response.failure == Failure::kTimeoutAfterSend;
  const bool local = response.failure == Failure::kLocal;
  return failed(response, timeout ? "timeout" : local ? "resource" : "connection", true, response.message);
}

}  // namespace tasker::http
