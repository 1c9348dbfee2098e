#include "core/log_line.hpp"

#include <gtest/gtest.h>

#include "core/json.hpp"

namespace tasker::core {
namespace {

StepLine line() {
  StepLine out;
  out.task_id = 7;
  out.ns = "shop";
  out.name = "order";
  out.version = "1.0.0";
  out.step = "pay";
  out.attempt = 2;
  out.correlation_id = "tsk_1";
  out.seconds = 0.25;
  return out;
}

TEST(LogLine, HasTheBordersOfDurationClasses) {
  EXPECT_STREQ(duration_class(0), "fast");
  EXPECT_STREQ(duration_class(0.1), "fast");
  EXPECT_STREQ(duration_class(0.100001), "moderate");
  EXPECT_STREQ(duration_class(1), "moderate");
  EXPECT_STREQ(duration_class(1.000001), "slow");
  EXPECT_STREQ(duration_class(5), "slow");
  EXPECT_STREQ(duration_class(5.000001), "very_slow");
}

TEST(LogLine, LevelFollowsTheOutcome) {
  EXPECT_EQ(level_of(StepEnd::kComplete), LogLevel::kLog);
  EXPECT_EQ(level_of(StepEnd::kRetry), LogLevel::kLog);
  EXPECT_EQ(level_of(StepEnd::kError), LogLevel::kWarning);
}

TEST(LogLine, SaysWhatEndedAndHow) {
  EXPECT_EQ(json_line(line()),
            R"({"event":"step.complete","task_id":7,"namespace":"shop","name":"order","version":"1.0.0","step":"pay","attempt":2,"correlation_id":"tsk_1",)"
            R"("duration_seconds":0.25,"duration_class":"moderate"})");
  StepLine failed = line();
  failed.end = StepEnd::kRetry;
  failed.sqlstate = "TK001";
  failed.category = "requested";
  failed.message = "not yet";
  failed.retry_seconds = 1.5;
  failed.suppressed = 12;
  const json parsed = parse_json(json_line(failed));
  EXPECT_EQ(parsed["event"], "step.retry");
  EXPECT_EQ(parsed["error"], (json{{"sqlstate", "TK001"}, {"category", "requested"}, {"message", "not yet"}}));
  EXPECT_EQ(parsed["retry_seconds"], 1.5);
  EXPECT_EQ(parsed["suppressed"], 12);
  EXPECT_EQ(text_line(failed),
            "tasker: step.retry: task 7 (shop.order 1.0.0), step pay, attempt 2, 250 ms (moderate), correlation id tsk_1: TK001 not yet, again in 1500 ms;"
            " 12 such lines left out before");
}

TEST(LogLine, StaysOneLineOfAsciiWhateverItIsGiven) {
  StepLine hostile = line();
  hostile.end = StepEnd::kError;
  hostile.step = "a\"\\\n\r\t\x01\x7f{}";
  hostile.message = "line 1\nline 2 \xff\xc3\x28 \xe2\x80\xa8 \xc3\xbc";
  hostile.correlation_id = std::nullopt;
  const std::string text = json_line(hostile);
  for (const char c : text) EXPECT_TRUE(c >= ' ' && static_cast<unsigned char>(c) < 0x80) << static_cast<int>(c);
  const json parsed = parse_json(text);
  EXPECT_EQ(parsed["step"], std::string("a\"\\\n\r\t\x01\x7f{}"));
  EXPECT_EQ(parsed["correlation_id"], nullptr);
  EXPECT_NE(parsed["error"]["message"].get<std::string>().find("\xc3\xbc"), std::string::npos);
  EXPECT_EQ(text_line(hostile).find('\n'), std::string::npos);
}

TEST(LogLine, CutsLongMessages) {
  StepLine failed = line();
  failed.end = StepEnd::kError;
  const std::string message(10'000, 'x');
  failed.message = message;
  EXPECT_LT(json_line(failed).size(), 1000u);
}

TEST(LogLine, TellsMessagesOfWorkers) {
  EXPECT_EQ(json_line("dispatcher", "tasker: \"x\"", "", "do\nit"), R"({"event":"worker.message","worker":"dispatcher","message":"tasker: \"x\"","hint":"do\nit"})");
}

TEST(LogSampler, WritesTheFirstOfASecondThenOneOfMany) {
  LogSampler sampler;
  std::int64_t told = 0, written = 0, suppressed = 0;
  for (int i = 0; i < 1000; i++) {
    if (!sampler.admits(5'000'000 + i, &suppressed)) continue;
    written++;
    told += suppressed;
  }
  EXPECT_EQ(written, LogSampler::kLinesASecond + 9);
  EXPECT_TRUE(sampler.admits(6'000'000, &suppressed));  // a new second
  EXPECT_EQ(written + 1 + told + suppressed, 1001);
  EXPECT_TRUE(sampler.admits(6'000'001, &suppressed));
  EXPECT_EQ(suppressed, 0);
}

}  // namespace
}  // namespace tasker::core
