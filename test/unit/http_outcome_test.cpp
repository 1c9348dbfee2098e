// What responses mean, without any network.
#include "http/outcome.hpp"

#include <gtest/gtest.h>

#include "http/text.hpp"

namespace tasker::http {
namespace {

using namespace std::string_literals;
using core::json;

constexpr std::int64_t kNow = 784'111'777;  // Sun, 06 Nov 1994 08:49:37 GMT

Response answer(int status, std::string body = {}, std::vector<Header> headers = {{"content-type", "application/json"}}) {
  Response response;
  response.sent = true;
  response.status = status;
  response.body = std::move(body);
  response.headers = std::move(headers);
  response.host = "api.example:443";
  return response;
}

Response failure(Failure failure, bool sent, int status = 0) {
  Response response = answer(status);
  response.failure = failure;
  response.sent = sent;
  response.message = "what happened";
  return response;
}

Outcome judged(const Response &response, bool repeatable = true) { return judge(response, {.expect = {}, .repeatable = repeatable, .has_body = true, .result = {}}, kNow); }

std::string verdict(const Response &response, bool repeatable = true) {
  const Outcome outcome = judged(response, repeatable);
  return outcome.ok ? "ok" : outcome.category + (outcome.retryable ? " retryable" : "");
}

TEST(HttpOutcome, Statuses) {
  for (const bool repeatable : {true, false}) {
    for (const int status : {200, 201, 202, 204, 206, 226, 299}) EXPECT_EQ(verdict(answer(status), repeatable), "ok") << status;
    EXPECT_EQ(verdict(answer(408), repeatable), "timeout retryable");
    EXPECT_EQ(verdict(answer(409), repeatable), "conflict retryable");
    EXPECT_EQ(verdict(answer(425), repeatable), "client_error retryable");
    EXPECT_EQ(verdict(answer(429), repeatable), "rate_limit retryable");
    for (const int status : {500, 501, 502, 503, 504, 511, 599}) EXPECT_EQ(verdict(answer(status), repeatable), "server_error retryable") << status;
    for (const int status : {400, 401, 403, 404, 405, 410, 418, 422, 451, 499}) EXPECT_EQ(verdict(answer(status), repeatable), "client_error") << status;
    for (const int status : {300, 301, 302, 303, 304, 307, 308}) EXPECT_EQ(verdict(answer(status), repeatable), "client_error") << status;
  }
  EXPECT_EQ(judged(answer(404)).message, "api.example:443 answered with status 404");
}

TEST(HttpOutcome, ExpectReplacesTheRule) {
  const auto with = [](int status, Failure what = Failure::kNone) {
    Response response = answer(status, "{}");
    response.failure = what;
    return judge(response, {.expect = {200, 404}, .repeatable = false, .has_body = true, .result = {}}, kNow);
  };
  EXPECT_TRUE(with(200).ok);
  EXPECT_TRUE(with(404).ok);
  EXPECT_FALSE(with(201).ok);
  EXPECT_FALSE(with(201).retryable);
  EXPECT_EQ(with(404, Failure::kResetAfterSend).category, "outcome_unknown") << "the body is part of an answer that was asked for";
}

TEST(HttpOutcome, RetryAfter) {
  const auto after = [](int status, const std::string &value) {
    const Outcome outcome = judged(answer(status, "", {{"retry-after", value}}));
    return outcome.retry_after_seconds ? std::to_string(static_cast<int>(*outcome.retry_after_seconds)) : "none";
  };
  for (const int status : {429, 503}) {
    EXPECT_EQ(after(status, "7"), "7");
    EXPECT_EQ(after(status, "0"), "0");
    EXPECT_EQ(after(status, " 12 "), "12");
    EXPECT_EQ(after(status, "301"), "300");
    EXPECT_EQ(after(status, "99999999999999999999999999999"), "300");
    EXPECT_EQ(after(status, "Sun, 06 Nov 1994 08:50:37 GMT"), "60");
    EXPECT_EQ(after(status, "Sunday, 06-Nov-94 08:50:37 GMT"), "60");
    EXPECT_EQ(after(status, "Sun Nov  6 08:50:37 1994"), "60");
    EXPECT_EQ(after(status, "Sun, 06 Nov 1994 08:49:36 GMT"), "0");
    EXPECT_EQ(after(status, "Fri, 06 Nov 1970 08:49:36 GMT"), "0");
    EXPECT_EQ(after(status, "Sun, 06 Nov 2094 08:49:37 GMT"), "300");
    for (const char *bad : {"", " ", "-5", "+5", "1.5", "5s", "soon", "Sun, 06 Nov 1994 08:50:37", "Sun, 06 Nov 1994 08:50:37 CET", "Sun, 31 Feb 1994 08:50:37 GMT", "Sun, 06 Nov 1994 25:00:00 GMT",
                            "Xxx, 06 Nov 1994 08:50:37 GMT", "Sun, 6 Nov 1994 08:50:37 GMT", "1994-11-06T08:50:37Z", "5, 6", "Sun, 06 Nov 1994 08:50:37 GMT, 5"}) {
      EXPECT_EQ(after(status, bad), "none") << bad;
    }
  }
  EXPECT_EQ(after(500, "7"), "none");
  EXPECT_EQ(after(408, "7"), "none");
  EXPECT_EQ(after(404, "7"), "none");
  constexpr std::int64_t kIn2024 = 1'704'067'200;
  EXPECT_EQ(retry_after_seconds("Sunday, 06-Nov-94 08:50:37 GMT", kIn2024), 0.0) << "1994, not 2094 …";
  EXPECT_EQ(retry_after_seconds("Sunday, 06-Nov-30 08:50:37 GMT", kIn2024), 300.0) << "… but 2030";
}

TEST(HttpOutcome, LostAnswers) {
  for (const Failure lost : {Failure::kTimeoutAfterSend, Failure::kResetAfterSend, Failure::kMalformed, Failure::kLocal}) {
    EXPECT_EQ(verdict(failure(lost, true), false), "outcome_unknown") << failure_name(lost);
    EXPECT_EQ(verdict(failure(lost, true, 200), false), "outcome_unknown") << failure_name(lost);
  }
  EXPECT_EQ(verdict(failure(Failure::kTimeoutAfterSend, true)), "timeout retryable");
  EXPECT_EQ(verdict(failure(Failure::kResetAfterSend, true)), "connection retryable");
  EXPECT_EQ(verdict(failure(Failure::kMalformed, true)), "connection retryable");
  const Outcome outcome = judged(failure(Failure::kResetAfterSend, true), false);
  EXPECT_EQ(outcome.message, "outcome unknown: what happened");
  EXPECT_NE(outcome.hint, "");
  // The status came, and says what there is to know.
  EXPECT_EQ(verdict(failure(Failure::kResetAfterSend, true, 503), false), "server_error retryable");
  EXPECT_EQ(verdict(failure(Failure::kTimeoutAfterSend, true, 404), false), "client_error");
  EXPECT_EQ(verdict(failure(Failure::kTooLarge, true, 500), false), "server_error retryable");
}

TEST(HttpOutcome, BeforeSending) {
  for (const bool repeatable : {true, false}) {
    for (const Failure before : {Failure::kResolve, Failure::kConnect, Failure::kTls}) EXPECT_EQ(verdict(failure(before, false), repeatable), "connection retryable");
    EXPECT_EQ(verdict(failure(Failure::kTimeoutBeforeSend, false), repeatable), "timeout retryable");
    EXPECT_EQ(verdict(failure(Failure::kLocal, false), repeatable), "resource retryable");
    EXPECT_EQ(verdict(failure(Failure::kCertificate, false), repeatable), "connection");
    EXPECT_EQ(verdict(failure(Failure::kRefusedAddress, false), repeatable), "privilege");
    EXPECT_EQ(verdict(failure(Failure::kInvalidRequest, false), repeatable), "validation");
    EXPECT_EQ(verdict(failure(Failure::kCancelled, true), repeatable), "cancelled");
    EXPECT_EQ(verdict(failure(Failure::kTooLarge, true, 200), repeatable), "resource");
    EXPECT_EQ(verdict(failure(Failure::kRedirectRefused, true, 302), repeatable), "client_error");
  }
  EXPECT_EQ(verdict(failure(Failure::kTooLarge, true), true), "resource");
  EXPECT_EQ(verdict(failure(Failure::kTooLarge, true), false), "outcome_unknown") << "whatever the header said";
  // A later hop that isn't reached: the first one was.
  EXPECT_EQ(verdict(failure(Failure::kConnect, true), false), "outcome_unknown");
}

TEST(HttpOutcome, AcceptedByARedirect) {
  Response response = answer(503);
  response.accepted = true;
  EXPECT_EQ(verdict(response, false), "outcome_unknown");
  EXPECT_EQ(verdict(response, true), "server_error retryable");
  response.status = 404;
  EXPECT_EQ(verdict(response, false), "client_error");
  for (const Failure what : {Failure::kRefusedAddress, Failure::kRedirectRefused, Failure::kInvalidRequest}) {
    response = failure(what, true);
    response.accepted = true;
    EXPECT_EQ(verdict(response, false), "outcome_unknown");
    EXPECT_NE(verdict(response, true), "outcome_unknown");
  }
}

TEST(HttpOutcome, RedirectsNameTheHostOnly) {
  const auto message = [](const std::string &location) { return judged(answer(302, "", {{"location", location}})).message; };
  EXPECT_EQ(message("https://other.example/path?token=secret"), "api.example:443 answered with status 302, a redirect to other.example");
  EXPECT_EQ(message("/login?next=secret"), "api.example:443 answered with status 302, a redirect to api.example");
  EXPECT_EQ(message("file:///etc/passwd"), "api.example:443 answered with status 302, a redirect to elsewhere");
  EXPECT_EQ(judged(answer(304)).message, "api.example:443 answered with status 304");
}

// --- bodies ---

std::string result(const std::string &body, const std::string &type = "application/json") { return judged(answer(200, body, {{"content-type", type}})).result; }

TEST(HttpOutcome, JsonIsKeptAsItCame) {
  EXPECT_EQ(result(R"({"a": [1, 2.50, 12345678901234567890123.45]})"), R"({"a": [1, 2.50, 12345678901234567890123.45]})");
  EXPECT_EQ(result(R"({"a":1,"a":2})"), R"({"a":1,"a":2})") << "jsonb takes the last";
  for (const char *type : {"application/json; charset=utf-8", "Application/JSON", "application/problem+json", "text/json ;x=y", "application/vnd.api+json"}) {
    EXPECT_EQ(result("[1]", type), "[1]") << type;
  }
  EXPECT_EQ(result(""), "null");
  EXPECT_EQ(result("", "text/plain"), "null");
  EXPECT_EQ(judge(answer(200), {.expect = {}, .repeatable = true, .has_body = false, .result = {}}, kNow).result, "null");
  EXPECT_EQ(result("\"a\\\"1e9999\\\\\""), "\"a\\\"1e9999\\\\\"") << "digits in strings are no numbers";
}

TEST(HttpOutcome, WhatJsonbCantHoldIsText) {
  const auto problem = [](const std::string &body) {
    const json kept = json::parse(result(body));
    EXPECT_EQ(kept["text"], body);
    EXPECT_EQ(kept["content_type"], "application/json");
    return kept.value("problem", "none");
  };
  EXPECT_EQ(problem(R"({"a": "x\u0000y"})"), "JSON has the character \\u0000, which jsonb can't hold");
  EXPECT_EQ(problem(R"({"a\u0000": 1})"), "JSON has the character \\u0000, which jsonb can't hold");
  std::string deep;
  for (int i = 0; i < 300; ++i) deep += "[";
  for (int i = 0; i < 300; ++i) deep += "]";
  EXPECT_EQ(problem(deep), "JSON is nested deeper than 256 levels");
  EXPECT_EQ(problem(std::string(500'000, '[')), "JSON is nested deeper than 256 levels");
  EXPECT_EQ(problem("[1e999]"), "number in JSON is out of range at byte 6");
  EXPECT_EQ(problem("[1e-99999]"), "number in JSON is out of range");
  EXPECT_EQ(problem("[0." + std::string(2000, '1') + "]"), "number in JSON is out of range");
  EXPECT_NE(problem("{\"a\": }"), "none");
  EXPECT_NE(problem("<html>"), "none");
  EXPECT_NE(problem("{\"a\": \"\\ud800\"}"), "none");
}

TEST(HttpOutcome, OtherBodiesAreDescribed) {
  EXPECT_EQ(json::parse(result("hé\n", "text/plain; charset=utf-8")), (json{{"content_type", "text/plain; charset=utf-8"}, {"text", "hé\n"}}));
  EXPECT_EQ(json::parse(result("{}", "text/html")), (json{{"content_type", "text/html"}, {"text", "{}"}}));
  EXPECT_EQ(json::parse(result("x", "")), (json{{"content_type", ""}, {"text", "x"}}));
  EXPECT_EQ(json::parse(result("\xff\xfe"s, "image/png")), (json{{"content_type", "image/png"}, {"base64", "//4="}}));
  EXPECT_EQ(json::parse(result("a\0b"s, "text/plain"))["base64"], "YQBi");
  EXPECT_EQ(json::parse(result("\xed\xa0\x80"s, "text/plain"))["base64"], "7aCA");
  EXPECT_EQ(json::parse(result("\xff[1]"s))["base64"], "/1sxXQ==") << "JSON, it said";
  EXPECT_EQ(json::parse(result("x", "te\xff\x01xt"))["content_type"], "te? xt");
}

TEST(HttpOutcome, ResultIsAPointer) {
  const auto found = [](const std::string &pointer, const std::string &body = R"({"a": {"b/c": [10, {"d": null}]}, "n": 1.50})", const std::string &type = "application/json") {
    const Outcome outcome = judge(answer(200, body, {{"content-type", type}}), {.expect = {}, .repeatable = true, .has_body = true, .result = pointer}, kNow);
    EXPECT_EQ(outcome.ok, outcome.category.empty());
    return outcome.ok ? outcome.result : outcome.category + (outcome.retryable ? " retryable: " : ": ") + outcome.message;
  };
  EXPECT_EQ(found("/a/b~1c/0"), "10");
  EXPECT_EQ(found("/a/b~1c/1/d"), "null");
  EXPECT_EQ(found("/a"), R"({"b/c":[10,{"d":null}]})");
  EXPECT_EQ(found(""), R"({"a": {"b/c": [10, {"d": null}]}, "n": 1.50})");
  EXPECT_EQ(found("/gone"), "validation: answer of api.example:443 has no value at /gone");
  for (const char *pointer : {"/a/b~1c/2", "/a/b~1c/-", "/a/b~1c/01", "/n/x", "/a/b~1c/99999999999999999999"}) EXPECT_EQ(found(pointer).substr(0, 11), "validation:") << pointer;
  EXPECT_EQ(found("a").substr(0, 11), "validation:");
  EXPECT_EQ(found("/a", "plain", "text/plain"), "validation: answer of api.example:443 is no JSON, so \"result\" finds nothing in it");
  EXPECT_EQ(found("/a", "{"), "validation: answer of api.example:443 is no JSON, so \"result\" finds nothing in it");
}

TEST(HttpOutcome, ContextIsBoundedAndClean) {
  const Outcome outcome = judged(answer(422, std::string(10'000, 'x') + "\xff", {}));
  EXPECT_EQ(outcome.context["status"], 422);
  EXPECT_EQ(outcome.context["host"], "api.example:443");
  EXPECT_LT(outcome.context["body"].get_ref<const std::string &>().size(), 510U);
  EXPECT_NO_THROW(judged(answer(422, "a\xff\r\n\0b"s, {})).context.dump());
  EXPECT_EQ(judged(answer(422, "a\xff\r\n\0b"s, {})).context["body"], "a?  ?b");
}

TEST(HttpText, Utf8) {
  for (const char *good : {"", "a", "ü", "€", "\xf0\x9f\x98\x80", "\xf4\x8f\xbf\xbf", "\xee\x80\x80", "\xed\x9f\xbf", "\xc2\x80", "\xe0\xa0\x80", "\xf0\x90\x80\x80"}) EXPECT_TRUE(is_utf8(good)) << good;
  for (const std::string &bad : {"\0"s, "\x80"s, "\xc0\x80"s, "\xc1\xbf"s, "\xe0\x80\x80"s, "\xe0\x9f\xbf"s, "\xed\xa0\x80"s, "\xf0\x80\x80\x80"s, "\xf0\x8f\xbf\xbf"s, "\xf4\x90\x80\x80"s,
                                 "\xf5\x80\x80\x80"s, "\xff"s, "\xc3"s, "\xe2\x82"s, "\xf0\x9f\x98"s, "\xe2(\xac"s}) {
    EXPECT_FALSE(is_utf8(bad));
    EXPECT_TRUE(is_utf8(one_line(bad)));
  }
}

TEST(HttpText, Base64) {
  EXPECT_EQ(base64(""), "");
  EXPECT_EQ(base64("f"), "Zg==");
  EXPECT_EQ(base64("fo"), "Zm8=");
  EXPECT_EQ(base64("foo"), "Zm9v");
  EXPECT_EQ(base64("\xff\xef\xbe"), "/+++");
}

TEST(HttpText, HeaderNames) {
  for (const char *good : {"X-Api-Key", "x_y", "Authorization", "Cookie", "a!#$%&'*+.^`|~0"}) EXPECT_EQ(header_name_problem(good), "") << good;
  for (const char *bad : {"", "a b", "a:b", "a\r\nb", "ü", "Host", "HOST", "content-length", "Transfer-Encoding", "connection", "TE", "upgrade", "Proxy-Authorization", "expect", "a\tb", "(x)"}) {
    EXPECT_NE(header_name_problem(bad), "") << bad;
  }
}

}  // namespace
}  // namespace tasker::http
