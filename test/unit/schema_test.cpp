// What the official suite (schema_suite_test.cpp) does not ask: understandable reports, faults of schemas, and
// hostile input.
#include "core/schema.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <chrono>
#include <string>
#include <vector>

#include "core/error.hpp"

namespace tasker::core {
namespace {

// Matches where the pattern is a part of the text. It takes long texts, which std::regex does not.
class PlainTextRegex : public SchemaRegex {
 public:
  bool matches(std::string_view pattern, std::string_view text) const override { return text.find(pattern) != std::string_view::npos; }
  std::string problem(std::string_view pattern) const override { return pattern == "(" ? "parentheses () not balanced" : ""; }
};

std::string lines(const std::vector<Violation> &violations) {
  std::string text;
  for (const Violation &violation : violations) text += violation.pointer + " " + violation.problem + "\n";
  return text;
}

std::string faults(std::string_view schema) { return lines(check_schema(parse_json(schema), PlainTextRegex())); }

std::string violations(std::string_view schema, std::string_view value, std::size_t limit = 100) {
  EXPECT_EQ(faults(schema), "");
  return lines(validate(parse_json(schema), parse_json(value), PlainTextRegex(), limit));
}

std::string error_of(const json &schema, const json &value) {
  try {
    return lines(validate(schema, value, PlainTextRegex()));
  } catch (const Error &error) {
    return error.sqlstate() + " " + error.message();
  }
}

std::string repeated(std::string_view piece, std::size_t times) {
  std::string text;
  for (std::size_t i = 0; i < times; ++i) text += piece;
  return text;
}

// Sanitizers and a busy machine are slow: the limit tells linear from quadratic, no more.
class Stopwatch {
 public:
  ~Stopwatch() { EXPECT_LT(std::chrono::steady_clock::now() - start_, std::chrono::seconds(60)); }

 private:
  std::chrono::steady_clock::time_point start_ = std::chrono::steady_clock::now();
};

TEST(SchemaReport, Assertions) {
  EXPECT_EQ(violations(R"({"type":"integer"})", "1.5"), " must be an integer\n");
  EXPECT_EQ(violations(R"({"type":["string","object","null"]})", "1"), " must be a string, an object or null\n");
  EXPECT_EQ(violations(R"({"enum":["a",1,null,[1]]})", "2"), " is not one of \"a\", 1, null, […]\n");
  EXPECT_EQ(violations(R"({"const":"a"})", "2"), " must be \"a\"\n");
  EXPECT_EQ(violations(R"({"maximum":10})", "11"), " must be at most 10\n");
  EXPECT_EQ(violations(R"({"exclusiveMaximum":10})", "10"), " must be less than 10\n");
  EXPECT_EQ(violations(R"({"minimum":0.5})", "0"), " must be at least 0.5\n");
  EXPECT_EQ(violations(R"({"exclusiveMinimum":0})", "0"), " must be greater than 0\n");
  EXPECT_EQ(violations(R"({"multipleOf":0.01})", "0.015"), " must be a multiple of 0.01\n");
  EXPECT_EQ(violations(R"({"minLength":1,"maxLength":2})", R"("")"), " must have at least 1 character\n");
  EXPECT_EQ(violations(R"({"minLength":1,"maxLength":2})", R"("äöü")"), " must have at most 2 characters\n");
  EXPECT_EQ(violations(R"({"pattern":"b"})", R"("a")"), " does not match the pattern \"b\"\n");
  EXPECT_EQ(violations(R"({"format":"date"})", R"("2023-02-29")"), " does not have the format \"date\"\n");
  EXPECT_EQ(violations(R"({"maxItems":1})", "[1,2]"), " must have at most 1 item\n");
  EXPECT_EQ(violations(R"({"minItems":3})", "[1,2]"), " must have at least 3 items\n");
  EXPECT_EQ(violations(R"({"uniqueItems":true})", "[1,2,1.0]"), " must not have equal items\n");
  EXPECT_EQ(violations(R"({"maxProperties":1})", R"({"a":1,"b":2})"), " must have at most 1 property\n");
  EXPECT_EQ(violations(R"({"not":{"type":"string"}})", R"("a")"), " must not fit the schema in \"not\"\n");
  EXPECT_EQ(violations("false", "1"), " is not allowed\n");
}

TEST(SchemaReport, PointsIntoTheValue) {
  EXPECT_EQ(violations(R"({"properties":{"a":{"required":["b","c/d"]}}})", R"({"a":{}})"), "/a/b is required\n/a/c~1d is required\n");
  EXPECT_EQ(violations(R"({"dependentRequired":{"a":["b"]}})", R"({"a":1})"), "/b is required because \"a\" is present\n");
  EXPECT_EQ(violations(R"({"properties":{"a":true},"additionalProperties":false})", R"({"a":1,"x~y":2,"z":3})"), "/x~0y is not allowed\n/z is not allowed\n");
  EXPECT_EQ(violations(R"({"items":{"items":{"type":"null"}}})", "[[null],[null,1]]"), "/1/1 must be null\n");
  EXPECT_EQ(violations(R"({"prefixItems":[true],"items":false})", "[1,2,3]"), "/1 is not allowed\n/2 is not allowed\n");
  EXPECT_EQ(violations(R"({"propertyNames":{"maxLength":2}})", R"({"ab":1,"abc":2})"), "/abc property name must have at most 2 characters\n");
  EXPECT_EQ(violations(R"({"properties":{"a":true},"unevaluatedProperties":false})", R"({"a":1,"b":2})"), "/b is not allowed\n");
  EXPECT_EQ(violations(R"({"prefixItems":[true],"unevaluatedItems":{"type":"null"}})", "[1,null,2]"), "/2 must be null\n");
}

TEST(SchemaReport, AllViolationsUpToTheLimit) {
  constexpr const char *kSchema = R"({"items":{"type":"integer","minimum":5}})";
  EXPECT_EQ(violations(kSchema, "[1,\"a\",7]"), "/0 must be at least 5\n/1 must be an integer\n");
  EXPECT_EQ(violations(kSchema, "[1,\"a\",7]", 1), "/0 must be at least 5\n");
  EXPECT_EQ(validate(parse_json(kSchema), json::array({1, 2, 3, 4, 1, 2, 3, 4}), PlainTextRegex(), 7).size(), 7U);
  EXPECT_EQ(validate(parse_json(kSchema), json(std::vector<int>(1000)), PlainTextRegex()).size(), 100U);
}

TEST(SchemaReport, Alternatives) {
  EXPECT_EQ(violations(R"({"properties":{"a":{"anyOf":[{"type":"null"},{"required":["b"]},{"properties":{"c":{"maximum":1}},"type":"object"}]}}})", R"({"a":{"c":2}})"),
            "/a fits none of the 3 alternatives (must be null; /b is required; /c must be at most 1)\n");
  EXPECT_EQ(violations(R"({"oneOf":[{"anyOf":[{"type":"null"},{"type":"array"}]},{"type":"string"}]})", "1"),
            " fits none of the 2 alternatives (fits none of the 2 alternatives; must be a string)\n");
  EXPECT_EQ(violations(R"({"oneOf":[{"type":"string"},{"type":"number"},{"minimum":1}]})", "1"),
            " must fit exactly one of the 3 alternatives, but fits number 2 and number 3\n");
  EXPECT_EQ(violations(R"({"contains":{"type":"null"},"minContains":2})", "[null]"),
            " must have at least 2 of the items that \"contains\" asks for, but has 1\n");
  EXPECT_EQ(violations(R"({"contains":{"type":"null"},"maxContains":0})", "[1]"),
            " must have at least 1 of the items that \"contains\" asks for, but has 0\n");
}

// Were unevaluated… looked at after another violation, it would blame what a failed schema did not evaluate.
TEST(SchemaReport, UnevaluatedDoesNotBlameTheInnocent) {
  EXPECT_EQ(violations(R"({"allOf":[{"properties":{"a":{"type":"null"}}}],"unevaluatedProperties":false})", R"({"a":1})"), "/a must be null\n");
}

TEST(SchemaReport, LongTextsAreCut) {
  const json schema{{"const", repeated("ä", 10'000)}};
  const std::vector<Violation> found = validate(schema, 1, PlainTextRegex());
  ASSERT_EQ(found.size(), 1U);
  EXPECT_LT(found[0].problem.size(), 200U);
  EXPECT_NO_THROW(json(found[0].problem).dump());
}

TEST(SchemaFaults, PointIntoTheSchema) {
  EXPECT_EQ(faults(R"({"properties":{"a":{"typ":"string"}}})"), "/properties/a/typ is not a known keyword\n");
  EXPECT_EQ(faults(R"({"allOf":[true,{"minLength":-1}]})"), "/allOf/1/minLength must be an integer that is not negative\n");
  EXPECT_EQ(faults("5"), " must be a schema: an object, true or false\n");
  EXPECT_EQ(faults(R"({"items":[true]})"), "/items must be a schema: an object, true or false\n");
  EXPECT_EQ(faults(R"({"properties":{"a/b":{"pattern":"("}}})"),
            "/properties/a~1b/pattern is not a regular expression: parentheses () not balanced\n");
  EXPECT_EQ(faults(R"({"patternProperties":{"(":true}})"), "/patternProperties/( is not a regular expression: parentheses () not balanced\n");
}

TEST(SchemaFaults, ArgumentsOfTheWrongKind) {
  for (const char *schema :
       {R"({"type":"int"})", R"({"type":[]})", R"({"type":["string","string"]})", R"({"type":1})", R"({"enum":1})", R"({"multipleOf":0})",
        R"({"multipleOf":-1})", R"({"maximum":"1"})", R"({"maxLength":1.5})", R"({"maxItems":"1"})", R"({"uniqueItems":1})", R"({"required":"a"})",
        R"({"required":["a","a"]})", R"({"required":[1]})", R"({"dependentRequired":{"a":"b"}})", R"({"properties":[]})", R"({"properties":{"a":1}})",
        R"({"allOf":[]})", R"({"anyOf":{}})", R"({"prefixItems":[]})", R"({"not":null})", R"({"format":"datetime"})", R"({"format":1})",
        R"({"title":1})", R"({"deprecated":"yes"})", R"({"examples":1})", R"({"$anchor":"1"})", R"({"$defs":{"a":1}})", R"({"$ref":1})",
        R"({"pattern":1})", R"({"minContains":-1})", R"({"$id":1})", R"({"$schema":"http://json-schema.org/draft-07/schema#"})",
        R"({"items":{"$schema":"https://json-schema.org/draft/2020-12/schema"}})", R"({"items":{"$id":"http://x/"}})",
        R"({"$dynamicRef":"#a"})", R"({"$dynamicAnchor":"a"})", R"({"$vocabulary":{}})", R"({"dependencies":{}})"}) {
    EXPECT_EQ(std::ranges::count(faults(schema), '\n'), 1) << schema << "\n" << faults(schema);
  }
  EXPECT_EQ(faults(R"({"$dynamicRef":"#a"})"), "/$dynamicRef is not supported\n");
}

TEST(SchemaFaults, References) {
  EXPECT_EQ(faults(R"({"$ref":"http://example.com/a.json"})"), "/$ref refers to another document, which is not supported\n");
  EXPECT_EQ(faults(R"({"$ref":"#/$defs/a"})"), "/$ref refers to nothing in this schema\n");
  EXPECT_EQ(faults(R"({"$ref":"#a"})"), "/$ref refers to nothing in this schema\n");
  EXPECT_EQ(faults(R"({"$ref":"#/%zz"})"), "/$ref refers to nothing in this schema\n");
  EXPECT_EQ(faults(R"({"$ref":"#/const","const":{"type":"null"}})"), "/$ref refers to something that is not a schema\n");
  EXPECT_EQ(faults(R"({"$defs":{"a":{"$anchor":"x"},"b":{"$anchor":"x"}}})"), "/$defs/b/$anchor is the name of another schema too\n");
  EXPECT_EQ(faults(R"({"const":{"$anchor":"x"},"$ref":"#x"})"), "/$ref refers to nothing in this schema\n");
}

TEST(SchemaFaults, ReferencesThatNeverDescend) {
  constexpr const char *kLoop = "leads back to itself without going deeper into the value\n";
  EXPECT_EQ(faults(R"({"$ref":"#"})"), std::string("/$ref ") + kLoop);
  EXPECT_EQ(faults(R"({"$defs":{"a":{"$ref":"#/$defs/b"},"b":{"allOf":[{"$ref":"#/$defs/a"}]}}})"),
            std::string("/$defs/b/allOf/0/$ref ") + kLoop);
  EXPECT_EQ(faults(R"({"$defs":{"a":{"$ref":"#/$defs/b/not"},"b":{"not":{"$ref":"#/$defs/b"}}}})"), std::string("/$defs/b/not/$ref ") + kLoop);
  EXPECT_EQ(faults(R"({"anyOf":[{"type":"null"},{"items":{"$ref":"#"}}],"properties":{"a":{"$ref":"#"}}})"), "");
  EXPECT_EQ(faults(R"({"$defs":{"a":{"type":"null"}},"allOf":[{"$ref":"#/$defs/a"},{"$ref":"#/$defs/a"}]})"), "");
}

TEST(SchemaFaults, AreLimited) {
  json schema;
  for (int i = 0; i < 100'000; ++i) schema["properties"]["p" + std::to_string(i)] = {{"typ", 1}};
  EXPECT_EQ(check_schema(schema, PlainTextRegex()).size(), 100U);
}

TEST(SchemaNumbers, CompareExactly) {
  EXPECT_EQ(violations(R"({"const":9007199254740993})", "9007199254740993"), "");
  EXPECT_NE(violations(R"({"const":9007199254740993})", "9007199254740992.0"), "");
  EXPECT_NE(violations(R"({"const":-1})", "18446744073709551615"), "");
  EXPECT_EQ(violations(R"({"enum":[{"a":[1,2.0]}]})", R"({"a":[1.0,2]})"), "");
  EXPECT_EQ(violations(R"({"uniqueItems":true})", "[18446744073709551615,-1,1,true,\"1\",[1],{\"a\":1}]"), "");
  EXPECT_NE(violations(R"({"maximum":18446744073709551614})", "18446744073709551615"), "");
  EXPECT_EQ(violations(R"({"maximum":1e300,"maxLength":1e300})", "18446744073709551615"), "");
}

TEST(SchemaNumbers, MultipleOf) {
  for (const auto &[divisor, number] : std::vector<std::pair<const char *, const char *>>{
           {"0.01", "19.99"}, {"0.01", "4.35"}, {"0.1", "0.3"}, {"0.0001", "0.0075"}, {"0.5", "1e308"}, {"1e-300", "5"}, {"3", "18446744073709551615"},
           {"2", "-9223372036854775808"}, {"5e-324", "1e308"}, {"0.3", "0"}, {"10", "1e20"}, {"1.1", "-3.3"}, {"7", "7e300"}, {"1e300", "3e300"}}) {
    EXPECT_EQ(violations("{\"multipleOf\":" + std::string(divisor) + "}", number), "") << divisor << " " << number;
  }
  for (const auto &[divisor, number] : std::vector<std::pair<const char *, const char *>>{
           {"0.01", "19.995"}, {"0.1", "0.35"}, {"3", "1e308"}, {"2", "18446744073709551615"}, {"10", "15"}, {"1e300", "5"}, {"0.3", "1"}}) {
    EXPECT_NE(violations("{\"multipleOf\":" + std::string(divisor) + "}", number), "") << divisor << " " << number;
  }
}

// A value 256 deep, each level evaluated through `hops` references: more levels than the C stack should hold.
TEST(SchemaHostile, DepthIsBounded) {
  const json deep = parse_json(repeated("[", 256) + repeated("]", 256));
  EXPECT_EQ(error_of(parse_json(R"({"items":{"$ref":"#"}})"), deep), "");
  json schema{{"items", {{"$ref", "#/$defs/0"}}}};
  for (int hop = 0; hop < 10; ++hop) schema["$defs"][std::to_string(hop)] = {{"$ref", "#/$defs/" + std::to_string(hop + 1)}};
  schema["$defs"]["10"] = {{"$ref", "#"}};
  EXPECT_EQ(lines(check_schema(schema, PlainTextRegex())), "");
  EXPECT_EQ(error_of(schema, deep), "54001 context_schema is nested too deeply to evaluate");

  json chain{{"$ref", "#/$defs/0"}, {"$defs", {{"100000", true}}}};
  for (int hop = 0; hop < 100'000; ++hop) chain["$defs"][std::to_string(hop)] = {{"anyOf", {{{"$ref", "#/$defs/" + std::to_string(hop + 1)}}}}};
  EXPECT_EQ(lines(check_schema(chain, PlainTextRegex())), "");
  EXPECT_EQ(error_of(chain, 1), "54001 context_schema is nested too deeply to evaluate");
}

TEST(SchemaHostile, FanOutIsBounded) {
  const Stopwatch stopwatch;
  for (const char *keyword : {"allOf", "anyOf"}) {
    json schema{{"$ref", "#/$defs/0"}, {"$defs", {{"40", {{"type", "string"}}}}}};
    for (int i = 0; i < 40; ++i) {
      const json next{{"$ref", "#/$defs/" + std::to_string(i + 1)}};
      schema["$defs"][std::to_string(i)] = {{keyword, {next, next}}};
    }
    EXPECT_EQ(lines(check_schema(schema, PlainTextRegex())), "");
    EXPECT_EQ(error_of(schema, keyword == std::string("allOf") ? json("a") : json(1)), "54000 context_schema is too costly to evaluate") << keyword;
  }
}

TEST(SchemaHostile, ManyPropertiesAndPatterns) {
  const Stopwatch stopwatch;
  json value = json::object();
  for (int i = 0; i < 1'000'000; ++i) value["k" + std::to_string(i)] = i;
  EXPECT_EQ(error_of({{"additionalProperties", {{"type", "integer"}}}}, value), "");
  EXPECT_EQ(error_of({{"unevaluatedProperties", true}}, value), "");
  EXPECT_EQ(validate({{"propertyNames", {{"maxLength", 1}}}}, value, PlainTextRegex()).size(), 100U);
  json patterns;
  for (int i = 0; i < 1'000; ++i) patterns["x" + std::to_string(i)] = true;
  EXPECT_EQ(error_of({{"patternProperties", patterns}}, value), "54000 context_schema is too costly to evaluate");
}

TEST(SchemaHostile, LongStrings) {
  const Stopwatch stopwatch;
  const std::string text(50'000, 'a');
  EXPECT_EQ(error_of({{"pattern", "aab"}}, text), " does not match the pattern \"aab\"\n");
  EXPECT_EQ(error_of({{"pattern", "a"}, {"minLength", 50'000}}, text), "");
  for (const char *format : {"date-time", "date", "time", "duration", "email", "hostname", "ipv4", "ipv6", "uri", "uuid", "json-pointer"}) {
    for (const char *piece : {"a", "1", ":", ".", "/", "%41", "1:", "a.", "::", "[", "\"", "P1", "-", "~"}) {
      error_of({{"format", format}}, repeated(piece, 50'000));
    }
  }
  EXPECT_EQ(error_of({{"format", "uri"}}, "a:" + repeated("%41", 50'000)), "");
  EXPECT_EQ(error_of({{"items", {{"pattern", "b"}}}}, json(std::vector<std::string>(10'000, text))).substr(0, 2), "/0");
  EXPECT_EQ(error_of({{"items", {{"pattern", "a"}}}}, json(std::vector<std::string>(10'000, text))),
            "54000 context_schema is too costly to evaluate");
}

TEST(SchemaHostile, EqualityIsNotQuadratic) {
  const Stopwatch stopwatch;
  json distinct = json::array();
  for (int i = 0; i < 50'000; ++i) distinct.push_back({{"a", {{"b", i}}}});
  EXPECT_EQ(error_of({{"uniqueItems", true}}, distinct), "");
  EXPECT_EQ(error_of({{"items", {{"enum", distinct}}}}, distinct), "54000 context_schema is too costly to evaluate");
}

// Each pointer is as long as the key, so pointers must be written for reported violations only.
TEST(SchemaHostile, LongKeysAreNotCopiedForEachItem) {
  const Stopwatch stopwatch;
  const std::string key(1'000'000, 'k');
  const json value{{key, std::vector<int>(100'000)}};
  EXPECT_EQ(error_of({{"properties", {{key, {{"items", {{"anyOf", {{{"type", "string"}}, {{"type", "integer"}}}}}}}}}}}, value), "");
}

TEST(SchemaHostile, NullBytesInTexts) {
  EXPECT_EQ(violations(R"({"properties":{"a\u0000b":{"type":"null"}},"additionalProperties":false})", R"({"a\u0000b":null})"), "");
  EXPECT_EQ(violations(R"({"format":"date"})", R"("2024-01-01\u0000")"), " does not have the format \"date\"\n");
  EXPECT_EQ(violations(R"({"minLength":3,"maxLength":3})", R"("a\u0000b")"), "");
}

}  // namespace
}  // namespace tasker::core
