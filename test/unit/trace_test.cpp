#include "core/trace.hpp"

#include <gtest/gtest.h>

#include <set>

#include "core/json.hpp"

namespace tasker::core {
namespace {

constexpr const char *kGiven = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

TEST(Trace, ReadsATraceparent) {
  const auto found = parse_traceparent(kGiven);
  ASSERT_TRUE(found);
  EXPECT_EQ(found->trace_id, "4bf92f3577b34da6a3ce929d0e0e4736");
  EXPECT_EQ(found->parent_id, "00f067aa0ba902b7");
  for (const char *bad : {"", "00", "01-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", "00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01",
                          "00-00000000000000000000000000000000-00f067aa0ba902b7-01", "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
                          "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-0x", "00-4bf92f3577b34da6a3ce929d0e0e4736_00f067aa0ba902b7-01",
                          "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-more"})
    EXPECT_FALSE(parse_traceparent(bad)) << bad;
}

TEST(Trace, ContinuesTheTraceOfItsCorrelationId) {
  EXPECT_EQ(trace_of(-1, 7, std::nullopt).trace_id, "ffffffffffffffff0000000000000007");
  EXPECT_EQ(trace_of(-1, 7, "order 9").trace_id, "ffffffffffffffff0000000000000007");
  EXPECT_TRUE(trace_of(-1, 7, "order 9").parent_id.empty());
  EXPECT_EQ(trace_of(-1, 7, kGiven).trace_id, "4bf92f3577b34da6a3ce929d0e0e4736");
  EXPECT_EQ(trace_of(-1, 7, kGiven).parent_id, "00f067aa0ba902b7");
}

TEST(Trace, HasAnIdForEachAttempt) {
  std::set<std::string> ids;
  for (int task = 1; task <= 20; task++)
    for (int step = 0; step <= 10; step++)
      for (int element = -1; element <= 3; element++)
        for (int begin = 1; begin <= 5; begin++) ids.insert(span_id(42, task, step, element, begin));
  EXPECT_EQ(ids.size(), 20u * 11 * 5 * 5);
  EXPECT_EQ(span_id(42, 1, 1, -1, 1), span_id(42, 1, 1, -1, 1));
  EXPECT_NE(span_id(42, 1, 1, -1, 1), span_id(43, 1, 1, -1, 1));
  for (const std::string &id : ids) EXPECT_TRUE(id.size() == 16 && id != "0000000000000000");
  EXPECT_TRUE(parse_traceparent(traceparent(trace_of(42, 1, std::nullopt), span_id(42, 1, 1, -1, 1))));
}

TEST(Trace, WritesSpansAsOtlp) {
  Span span;
  span.trace_id = "4bf92f3577b34da6a3ce929d0e0e4736";
  span.span_id = "00f067aa0ba902b7";
  span.parent_id = "00f067aa0ba902b8";
  span.name = "pay";
  span.calls_out = true;
  span.begun = 1'700'000'000'000'001;
  span.ended = 1'700'000'000'500'000;
  span.attributes = {{"tasker.task_id", std::int64_t{9'007'199'254'740'993}}, {"tasker.step", std::string("pay")}, {"x", true}};
  span.succeeded = false;
  span.message = "no";
  span.links = {"00f067aa0ba902b9"};
  const json request = json::parse(otlp_request("shop", otlp_span(span)));
  const json &resource = request["resourceSpans"][0];
  EXPECT_EQ(resource["resource"]["attributes"][0], (json{{"key", "service.name"}, {"value", {{"stringValue", "tasker"}}}}));
  EXPECT_EQ(resource["scopeSpans"][0]["spans"][0], json::parse(R"({"traceId": "4bf92f3577b34da6a3ce929d0e0e4736", "spanId": "00f067aa0ba902b7", "parentSpanId": "00f067aa0ba902b8",
    "name": "pay", "kind": 3, "startTimeUnixNano": "1700000000000001000", "endTimeUnixNano": "1700000000500000000",
    "attributes": [{"key": "tasker.task_id", "value": {"intValue": "9007199254740993"}}, {"key": "tasker.step", "value": {"stringValue": "pay"}}, {"key": "x", "value": {"boolValue": true}}],
    "status": {"code": 2, "message": "no"}, "links": [{"traceId": "4bf92f3577b34da6a3ce929d0e0e4736", "spanId": "00f067aa0ba902b9"}]})"));
  span.ended = 0;  // a clock that was set back
  EXPECT_EQ(json::parse(otlp_span(span))["endTimeUnixNano"], "1700000000000001000");
}

TEST(Trace, MasksSecrets) {
  EXPECT_EQ(masked("password=hunter2 and more"), "password=[masked] and more");
  EXPECT_EQ(masked("DB_PASSWORD: \"two words\", next"), "DB_PASSWORD: [masked], next");
  EXPECT_EQ(masked(R"({"api_key":"k1","Token": "t 2", "n": 1})"), R"({"api_key":[masked],"Token": [masked], "n": 1})");
  EXPECT_EQ(masked("Authorization: Bearer abc.def ghi"), "Authorization: [masked] ghi");
  EXPECT_EQ(masked("https://h/p?token=abc&x=1"), "https://h/p?token=[masked]&x=1");
  EXPECT_EQ(masked("secret='a b"), "secret=[masked]");
  EXPECT_EQ(masked("the token was refused; passwords differ"), "the token was refused; passwords differ");
  EXPECT_EQ(masked("password="), "password=[masked]");
  EXPECT_EQ(masked(""), "");
}

}  // namespace
}  // namespace tasker::core
