#include "core/json.hpp"

#include <gtest/gtest.h>

#include <limits>
#include <string>

#include "core/error.hpp"

namespace tasker::core {
namespace {

using namespace std::string_literals;

std::string repeated(std::string_view piece, std::size_t times) {
  std::string text;
  for (std::size_t i = 0; i < times; ++i) text += piece;
  return text;
}

std::string fault_of(const std::string &text) {
  try {
    parse_json(text);
  } catch (const Error &error) {
    EXPECT_EQ(error.sqlstate(), "22023");
    // PostgreSQL refuses messages that are not valid UTF-8, and long ones help nobody.
    EXPECT_NO_THROW(json(error.message() + error.detail()).dump());
    EXPECT_LT(error.message().size() + error.detail().size(), 300U);
    return error.message() + (error.detail().empty() ? "" : ": " + error.detail());
  }
  return {};
}

TEST(Json, ReadsWhatNlohmannReads) {
  for (const char *text : {"null", "true", "false", "0", "-0", "-1", "18446744073709551615", "-9223372036854775808", "1.5e-3", "\"\"",
                           "\"a\\u00e4\\ud83d\\ude00\\u0000\"", "[]", "{}", "[[],{},[1,[2]],\"x\"]", "{\"a\":{\"b\":[{\"c\":null}]},\"d\":1}",
                           " \n\t[ 1 , 2 ] "}) {
    EXPECT_EQ(parse_json(text), json::parse(text)) << text;
  }
}

TEST(Json, LastOfEqualKeysWins) { EXPECT_EQ(parse_json(R"({"a":1,"b":2,"a":{"c":3}})"), (json{{"a", {{"c", 3}}}, {"b", 2}})); }

TEST(Json, SaysWhereAndWhy) {
  EXPECT_EQ(fault_of(""), "invalid JSON at byte 1: syntax error while parsing value - unexpected end of input; expected '[', '{', or a literal");
  EXPECT_EQ(fault_of("{\"a\" 1}"), "invalid JSON at byte 6: syntax error while parsing object separator - unexpected number literal; expected ':'");
  EXPECT_EQ(fault_of("[1,]"), "invalid JSON at byte 4: syntax error while parsing value - unexpected ']'; expected '[', '{', or a literal");
  for (const char *text : {"{", "[", "[1", "{\"a\":1,}", "{a:1}", "nul", "01", "1.", "+1", "NaN", "Infinity", "'a'", "1 2", "// x\n1", "\"\t\"", "\"a"}) {
    EXPECT_NE(fault_of(text), "") << text;
  }
}

TEST(Json, RefusesWhatIsNotUnicode) {
  for (const std::string &text : {"\"\\ud800\""s, "\"\\udc00\""s, "\"\\ud800\\ud800\""s, "\"\xff\""s, "\"\xed\xa0\x80\""s, "\"\xc0\x80\""s, "\xff"s,
                                  "\"" + std::string(100'000, 'x') + "\xff\""}) {
    EXPECT_NE(fault_of(text), "") << text.substr(0, 20);
  }
}

TEST(Json, RefusesNullBytes) {
  EXPECT_EQ(fault_of("{}\0garbage"s), "invalid JSON at byte 3: a null byte is not allowed");
  EXPECT_NE(fault_of("\0"s), "");
  EXPECT_NE(fault_of("\"a\0b\""s), "");
}

TEST(Json, BigNumbers) {
  EXPECT_EQ(parse_json("18446744073709551615").get<std::uint64_t>(), std::numeric_limits<std::uint64_t>::max());
  EXPECT_TRUE(parse_json("18446744073709551616").is_number_float());
  EXPECT_TRUE(parse_json(std::string(300, '9')).is_number_float());
  EXPECT_EQ(parse_json("1e-4000"), 0.0);
  EXPECT_EQ(fault_of("[1,1e999]"), "number in JSON is out of range at byte 8");
  EXPECT_NE(fault_of("-1e400"), "");
  EXPECT_NE(fault_of(std::string(100'000, '9')), "");
}

TEST(Json, DepthIsLimited) {
  const std::size_t most = kMaxJsonDepth;
  EXPECT_NO_THROW(parse_json(repeated("[", most) + repeated("]", most)));
  EXPECT_NO_THROW(parse_json(repeated("{\"a\":", most) + "1" + repeated("}", most)));
  EXPECT_EQ(fault_of(repeated("[", most + 1) + repeated("]", most + 1)), "JSON is nested deeper than 256 levels");
  EXPECT_EQ(fault_of(repeated("[", 100'000)), "JSON is nested deeper than 256 levels");
  EXPECT_EQ(fault_of(repeated("{\"a\":", 100'000)), "JSON is nested deeper than 256 levels");
  EXPECT_NO_THROW(parse_json("[" + repeated("[],", 1'000) + "[]]"));
}

// With nlohmann's own callback parser the second of these takes hours.
TEST(Json, TimeIsLinear) {
  std::string members;
  for (int i = 0; i < 1'000'000; ++i) members += (i == 0 ? "\"k" : ",\"k") + std::to_string(i) + "\":1";
  EXPECT_EQ(parse_json("{" + members + "}").size(), 1'000'000U);
  EXPECT_EQ(parse_json("[" + repeated("{},", 999'999) + "{}]").size(), 1'000'000U);
}

TEST(Json, PointerToken) {
  EXPECT_EQ(pointer_token(""), "");
  EXPECT_EQ(pointer_token("a/b~c~1"), "a~1b~0c~01");
}

}  // namespace
}  // namespace tasker::core
