// Bad definitions, each with the place and the words its fault must have; and good ones, read to the last key.
#include "core/definition.hpp"

#include <gtest/gtest.h>

#include <chrono>
#include <set>

#include "core/error.hpp"
#include "core/schema.hpp"

namespace tasker::core {
namespace {

struct PlainRegex final : SchemaRegex {
  bool matches(std::string_view pattern, std::string_view text) const override { return text.find(pattern) != std::string_view::npos; }
  std::string problem(std::string_view pattern) const override { return pattern == "(" ? "parentheses () not balanced" : ""; }
};

CheckedDefinition check(const std::string &text) { return check_definition(parse_json(text), PlainRegex()); }

std::string repeat(const std::string &text, int times) {
  std::string result;
  for (int i = 0; i < times; ++i) result += text;
  return result;
}

// Smallest documents around the part that matters. A key given twice has its last value, so `more` may override.
std::string task(const std::string &more) { return R"({"name":"t","steps":[{"name":"a","handler":{"type":"noop"}}],)" + more + "}"; }
std::string step(const std::string &more) { return R"({"name":"t","steps":[{"name":"a","handler":{"type":"noop"},)" + more + "}]}"; }
std::string handler(const std::string &json_text) { return step(R"("handler":)" + json_text); }
std::string sql(const std::string &more) { return handler(R"({"type":"sql",)" + more + "}"); }
std::string steps(const std::string &list) { return R"({"name":"t","steps":[)" + list + "]}"; }
std::string noop(const std::string &name, const std::string &depends_on) {
  return R"({"name":")" + name + R"(","handler":{"type":"noop"},"depends_on":)" + depends_on + "}";
}

// "10000", "10001", …
std::string many_codes(int count) {
  std::string list;
  for (int i = 0; i < count; ++i) list += (i > 0 ? ",\"" : "\"") + std::to_string(10'000 + i) + "\"";
  return list;
}

std::string told(const std::vector<Fault> &faults) {
  std::string text;
  for (const Fault &fault : faults) text += fault.pointer + ": " + fault.problem + (fault.hint.empty() ? "" : " (" + fault.hint + ")") + "\n";
  return text;
}

struct Bad {
  const char *name;
  std::string text, pointer, problem;  // problem: part of it
  const char *hint = "";               // part of it
  std::size_t faults = 1;              // how many there are in all
  bool unsupported = false;
};

std::ostream &operator<<(std::ostream &out, const Bad &bad) { return out << bad.text.substr(0, 300); }

class BadDefinition : public testing::TestWithParam<Bad> {};

TEST_P(BadDefinition, IsToldWithItsPlace) {
  const Bad &bad = GetParam();
  const std::vector<Fault> faults = check(bad.text).faults;
  EXPECT_EQ(faults.size(), bad.faults) << told(faults);
  bool found = false;
  for (const Fault &fault : faults) {
    EXPECT_FALSE(fault.problem.empty());
    EXPECT_NE(fault.problem.back(), '.') << fault.problem;
    EXPECT_FALSE(std::isupper(static_cast<unsigned char>(fault.problem.front()))) << fault.problem;
    const bool same = fault.pointer == bad.pointer && fault.problem.find(bad.problem) != std::string::npos;
    if (!same || fault.hint.find(bad.hint) == std::string::npos) continue;
    found = true;
    EXPECT_EQ(fault.unsupported, bad.unsupported);
  }
  EXPECT_TRUE(found) << "expected " << bad.pointer << ": " << bad.problem << " (" << bad.hint << "), got\n" << told(faults);
}

std::string case_name(const testing::TestParamInfo<Bad> &bad) { return bad.param.name; }

INSTANTIATE_TEST_SUITE_P(
    Task, BadDefinition,
    testing::Values(
        Bad{"document_array", "[]", "", "must be a JSON object"}, Bad{"document_null", "null", "", "must be a JSON object"},
        Bad{"document_string", R"("x")", "", "must be a JSON object"}, Bad{"document_number", "1", "", "must be a JSON object"},
        Bad{"document_empty", "{}", "", R"("name" is missing)", "", 2}, Bad{"steps_missing", R"({"name":"t"})", "", R"("steps" is missing)"},
        Bad{"name_missing", R"({"steps":[{"name":"a","handler":{"type":"noop"}}]})", "", R"("name" is missing)"},
        Bad{"name_number", task(R"("name":5)"), "/name", R"("name" must be a string)"},
        Bad{"name_null", task(R"("name":null)"), "/name", R"("name" must be a string)"},
        Bad{"name_empty", task(R"("name":"")"), "/name", R"(name "" must not be empty)"},
        Bad{"name_space", task(R"("name":"my task")"), "/name", R"(name "my task" contains a space)", "letters, digits"},
        Bad{"name_newline", task(R"("name":"my\ntask")"), "/name", R"(name "my?task" contains a control character)"},
        Bad{"name_delete", task(R"("name":"a\u007fb")"), "/name", "contains a control character"},
        Bad{"name_nul", task(R"("name":"a\u0000b")"), "/name", "contains a control character"},
        Bad{"name_slash", task(R"("name":"a/b")"), "/name", R"(name "a/b" contains "/")"},
        Bad{"name_quote", task(R"("name":"a\"b")"), "/name", R"(contains """)"},
        Bad{"name_semicolon", task(R"("name":"a;b")"), "/name", R"(contains ";")"}, Bad{"name_percent", task(R"("name":"100%")"), "/name", R"(contains "%")"},
        Bad{"name_brackets", task(R"("name":"a[0]")"), "/name", R"(name "a[0]" contains a bracket)"},
        Bad{"name_65_bytes", task(R"("name":")" + repeat("n", 65) + R"(")"), "/name", "is 65 bytes long, more than 64"},
        Bad{"name_65_bytes_of_two", task(R"("name":"x)" + repeat("ж", 32) + R"(")"), "/name", "is 65 bytes long"},
        Bad{"name_huge", task(R"("name":")" + repeat("n", 100000) + R"(")"), "/name", R"(nnn…" is 100000 bytes long)"},
        Bad{"namespace_space", task(R"("namespace":"a b")"), "/namespace", R"(namespace "a b" contains a space)"},
        Bad{"namespace_long", task(R"("namespace":")" + repeat("n", 65) + R"(")"), "/namespace", "is 65 bytes long"},
        Bad{"namespace_empty", task(R"("namespace":"")"), "/namespace", "must not be empty"},
        Bad{"namespace_array", task(R"("namespace":["a"])"), "/namespace", R"("namespace" must be a string)"},
        Bad{"version_number", task(R"("version":1)"), "/version", R"("version" must be a string)"},
        Bad{"version_two_parts", task(R"("version":"1.0")"), "/version", R"(not "1.0")"},
        Bad{"version_four_parts", task(R"("version":"1.0.0.0")"), "/version", R"(not "1.0.0.0")"},
        Bad{"version_letters", task(R"("version":"1.0.x")"), "/version", R"(not "1.0.x")"},
        Bad{"version_prefix", task(R"("version":"v1.0.0")"), "/version", R"(not "v1.0.0")"},
        Bad{"version_suffix", task(R"("version":"1.0.0-beta")"), "/version", R"(not "1.0.0-beta")"},
        Bad{"version_negative", task(R"("version":"1.-1.0")"), "/version", R"(not "1.-1.0")"},
        Bad{"version_empty", task(R"("version":"")"), "/version", R"("version" must be three numbers)"},
        Bad{"version_empty_part", task(R"("version":"1..0")"), "/version", R"(not "1..0")"},
        Bad{"version_too_large", task(R"("version":"1.0.1000000000")"), "/version", "below 1000000000"},
        Bad{"version_space", task(R"("version":"1.0.0 ")"), "/version", R"(not "1.0.0 ")"},
        Bad{"description_number", task(R"("description":1)"), "/description", R"("description" must be a string)"},
        Bad{"deadline_zero", task(R"("deadline_seconds":0)"), "/deadline_seconds", R"("deadline_seconds" must be a number from 0.001)"},
        Bad{"deadline_negative", task(R"("deadline_seconds":-1)"), "/deadline_seconds", R"("deadline_seconds" must be a number)"},
        Bad{"deadline_text", task(R"("deadline_seconds":"60")"), "/deadline_seconds", R"("deadline_seconds" must be a number)"},
        Bad{"deadline_far", task(R"("deadline_seconds":1e10)"), "/deadline_seconds", "to 315360000"},
        Bad{"deadline_null", task(R"("deadline_seconds":null)"), "/deadline_seconds", R"("deadline_seconds" must be a number)"},
        Bad{"run_as_unknown", task(R"("run_as":"owner")"), "/run_as", R"("run_as" must be "invoker" or "definer", not "owner")"},
        Bad{"run_as_near", task(R"("run_as":"defienr")"), "/run_as", R"(not "defienr")", R"(did you mean "definer"?)"},
        Bad{"run_as_boolean", task(R"("run_as":true)"), "/run_as", R"("run_as" must be a string)"},
        Bad{"on_error", task(R"("on_error":"x")"), "/on_error", R"(key "on_error" is reserved)", "later release", 1, true},
        Bad{"on_complete", task(R"("on_complete":{})"), "/on_complete", R"(key "on_complete" is reserved)", "later release", 1, true},
        Bad{"unknown_key", task(R"("colour":"red")"), "/colour", R"(unknown key "colour")"},
        Bad{"unknown_key_near", task(R"("descripton":"x")"), "/descripton", R"(unknown key "descripton")", R"(did you mean "description"?)"},
        Bad{"unknown_key_swapped", task(R"("nmae":"x")"), "/nmae", R"(unknown key "nmae")", R"(did you mean "name"?)"},
        Bad{"unknown_key_case", task(R"("Version":"1.0.0")"), "/Version", R"(unknown key "Version")", R"(did you mean "version"?)"},
        Bad{"unknown_key_of_the_reference", task(R"("namespace_name":"x")"), "/namespace_name", "unknown key", R"(did you mean "namespace"?)"},
        Bad{"unknown_key_escaped", task(R"("a/b~c":1)"), "/a~1b~0c", R"(unknown key "a/b~c")"},
        Bad{"unknown_key_empty", task(R"("":1)"), "/", R"(unknown key "")"},
        Bad{"schema_text", task(R"("context_schema":"object")"), "/context_schema", R"("context_schema" must be a JSON Schema)"},
        Bad{"schema_null", task(R"("context_schema":null)"), "/context_schema", R"("context_schema" must be a JSON Schema)"},
        Bad{"schema_array", task(R"("context_schema":[])"), "/context_schema", R"("context_schema" must be a JSON Schema)"}),
    case_name);

INSTANTIATE_TEST_SUITE_P(
    Steps, BadDefinition,
    testing::Values(
        Bad{"steps_object", R"({"name":"t","steps":{}})", "/steps", R"("steps" must be an array)"},
        Bad{"steps_null", R"({"name":"t","steps":null})", "/steps", R"("steps" must be an array)"},
        Bad{"steps_empty", R"({"name":"t","steps":[]})", "/steps", R"("steps" must not be empty)", "at least one step"},
        Bad{"step_string", steps(R"("a")"), "/steps/0", "a step must be an object"}, Bad{"step_null", steps(noop("a", "[]") + ",null"), "/steps/1", "must be an object"},
        Bad{"step_empty", steps("{}"), "/steps/0", R"("name" is missing)", "", 2}, Bad{"step_handler_missing", steps(R"({"name":"a"})"), "/steps/0", R"("handler" is missing)"},
        Bad{"step_name_missing", steps(R"({"handler":{"type":"noop"}})"), "/steps/0", R"("name" is missing)"},
        Bad{"step_name_number", step(R"("name":1)"), "/steps/0/name", R"("name" must be a string)"},
        Bad{"step_name_empty", step(R"("name":"")"), "/steps/0/name", "must not be empty"},
        Bad{"step_name_brackets", step(R"("name":"load[0]")"), "/steps/0/name", R"(name "load[0]" contains a bracket)"},
        Bad{"step_name_closing_bracket", step(R"("name":"load]")"), "/steps/0/name", R"(name "load]" contains a bracket)"},
        Bad{"step_name_tab", step(R"("name":"a\tb")"), "/steps/0/name", "contains a control character"},
        Bad{"step_name_129_bytes", step(R"("name":")" + repeat("s", 129) + R"(")"), "/steps/0/name", "is 129 bytes long, more than 128"},
        Bad{"duplicate_name", steps(noop("a", "[]") + "," + noop("b", "[]") + "," + noop("a", "[]")), "/steps/2/name", R"(duplicate step name "a")",
            "first used at /steps/0"},
        Bad{"duplicate_names", steps(noop("a", "[]") + "," + noop("a", "[]") + "," + noop("a", "[]")), "/steps/2/name", R"(duplicate step name "a")", "", 2},
        Bad{"step_description", step(R"("description":[])"), "/steps/0/description", R"("description" must be a string)"},
        Bad{"system_number", step(R"("dependent_system":1)"), "/steps/0/dependent_system", R"("dependent_system" must be a string)"},
        Bad{"system_empty", step(R"("dependent_system":"")"), "/steps/0/dependent_system", R"("dependent_system" must have 1 to 64 bytes)"},
        Bad{"system_long", step(R"("dependent_system":")" + repeat("d", 65) + R"(")"), "/steps/0/dependent_system", "1 to 64 bytes"},
        Bad{"system_control", step(R"("dependent_system":"a\u0001")"), "/steps/0/dependent_system", "no control characters"},
        Bad{"retryable_text", step(R"("retryable":"false")"), "/steps/0/retryable", R"("retryable" must be true or false)"},
        Bad{"retryable_number", step(R"("retryable":0)"), "/steps/0/retryable", R"("retryable" must be true or false)"},
        Bad{"skippable_null", step(R"("skippable":null)"), "/steps/0/skippable", R"("skippable" must be true or false)"},
        Bad{"own_transaction_text", step(R"("own_transaction":"yes")"), "/steps/0/own_transaction", R"("own_transaction" must be true or false)"},
        Bad{"max_attempts_negative", step(R"("max_attempts":-1)"), "/steps/0/max_attempts", R"("max_attempts" must be an integer from 0 to 1000)"},
        Bad{"max_attempts_large", step(R"("max_attempts":1001)"), "/steps/0/max_attempts", "from 0 to 1000"},
        Bad{"max_attempts_huge", step(R"("max_attempts":18446744073709551615)"), "/steps/0/max_attempts", "must be an integer"},
        Bad{"max_attempts_fraction", step(R"("max_attempts":2.5)"), "/steps/0/max_attempts", "must be an integer"},
        Bad{"max_attempts_text", step(R"("max_attempts":"3")"), "/steps/0/max_attempts", "must be an integer"},
        Bad{"max_attempts_boolean", step(R"("max_attempts":true)"), "/steps/0/max_attempts", "must be an integer"},
        Bad{"priority_large", step(R"("priority":1000001)"), "/steps/0/priority", R"("priority" must be an integer from -1000000 to 1000000)"},
        Bad{"priority_small", step(R"("priority":-1000001)"), "/steps/0/priority", "must be an integer"},
        Bad{"priority_fraction", step(R"("priority":0.5)"), "/steps/0/priority", "must be an integer"},
        Bad{"priority_text", step(R"("priority":"high")"), "/steps/0/priority", "must be an integer"},
        Bad{"timeout_zero", step(R"("timeout_seconds":0)"), "/steps/0/timeout_seconds", R"("timeout_seconds" must be a number from 0.001 to 604800)"},
        Bad{"timeout_below_a_millisecond", step(R"("timeout_seconds":1e-9)"), "/steps/0/timeout_seconds", "must be a number"},
        Bad{"timeout_negative", step(R"("timeout_seconds":-5)"), "/steps/0/timeout_seconds", "must be a number"},
        Bad{"timeout_long", step(R"("timeout_seconds":604801)"), "/steps/0/timeout_seconds", "to 604800"},
        Bad{"timeout_text", step(R"("timeout_seconds":"10 min")"), "/steps/0/timeout_seconds", "must be a number"},
        Bad{"isolation_unknown", step(R"("isolation":"snapshot")"), "/steps/0/isolation", R"("isolation" must be "read committed")"},
        Bad{"isolation_near", step(R"("isolation":"serialisable")"), "/steps/0/isolation", R"(not "serialisable")", R"(did you mean "serializable"?)"},
        Bad{"isolation_number", step(R"("isolation":3)"), "/steps/0/isolation", R"("isolation" must be a string)"},
        Bad{"unknown_step_key", step(R"("queue":"x")"), "/steps/0/queue", R"(unknown key "queue")"},
        Bad{"unknown_step_key_near", step(R"("dependson":[])"), "/steps/0/dependson", R"(unknown key "dependson")", R"(did you mean "depends_on"?)"},
        Bad{"unknown_step_key_of_the_reference", step(R"("retry_limit":3)"), "/steps/0/retry_limit", "unknown key", R"(did you mean "max_attempts"?)"},
        Bad{"key_when", step(R"("when":"x")"), "/steps/0/when", R"(key "when" is reserved)", "later release", 1, true},
        Bad{"key_map", step(R"("map":"/context/list")"), "/steps/0/map", R"(key "map" is reserved)", "later release", 1, true},
        Bad{"key_compensate_with", step(R"("compensate_with":{})"), "/steps/0/compensate_with", R"(key "compensate_with" is reserved)", "", 1, true},
        Bad{"key_cache_seconds", step(R"("cache_seconds":5)"), "/steps/0/cache_seconds", R"(key "cache_seconds" is reserved)", "", 1, true},
        Bad{"backoff_number", step(R"("backoff":5)"), "/steps/0/backoff", R"("backoff" must be an object)"},
        Bad{"backoff_array", step(R"("backoff":[1,2])"), "/steps/0/backoff", R"("backoff" must be an object)"}),
    case_name);

INSTANTIATE_TEST_SUITE_P(
    Parts, BadDefinition,
    testing::Values(
        Bad{"backoff_unknown", step(R"("backoff":{"base":1})"), "/steps/0/backoff/base", R"(unknown key "base")"},
        Bad{"backoff_unknown_near", step(R"("backoff":{"multipler":1})"), "/steps/0/backoff/multipler", R"(unknown key "multipler")", R"("multiplier"?)"},
        Bad{"backoff_base_negative", step(R"("backoff":{"base_seconds":-0.1})"), "/steps/0/backoff/base_seconds", R"("base_seconds" must be a number from 0 to 86400)"},
        Bad{"backoff_base_large", step(R"("backoff":{"base_seconds":86401})"), "/steps/0/backoff/base_seconds", "to 86400"},
        Bad{"backoff_base_text", step(R"("backoff":{"base_seconds":"1"})"), "/steps/0/backoff/base_seconds", R"("base_seconds" must be a number)"},
        Bad{"backoff_multiplier_small", step(R"("backoff":{"multiplier":0.9})"), "/steps/0/backoff/multiplier", R"("multiplier" must be a number from 1 to 100)"},
        Bad{"backoff_multiplier_large", step(R"("backoff":{"multiplier":101})"), "/steps/0/backoff/multiplier", "to 100"},
        Bad{"backoff_max_large", step(R"("backoff":{"max_seconds":2592001})"), "/steps/0/backoff/max_seconds", R"("max_seconds" must be a number from 0 to 2592000)"},
        Bad{"backoff_max_null", step(R"("backoff":{"max_seconds":null})"), "/steps/0/backoff/max_seconds", "must be a number"},
        Bad{"backoff_jitter_large", step(R"("backoff":{"jitter":1.01})"), "/steps/0/backoff/jitter", R"("jitter" must be a number from 0 to 1)"},
        Bad{"backoff_jitter_negative", step(R"("backoff":{"jitter":-0.1})"), "/steps/0/backoff/jitter", R"("jitter" must be a number)"},
        Bad{"retry_on_text", step(R"("retry_on":"40001")"), "/steps/0/retry_on", R"("retry_on" must be an array of SQLSTATEs)", "five-character SQLSTATE"},
        Bad{"retry_on_null", step(R"("retry_on":null)"), "/steps/0/retry_on", "must be an array of SQLSTATEs"},
        Bad{"fail_on_object", step(R"("fail_on":{"40":true})"), "/steps/0/fail_on", R"("fail_on" must be an array of SQLSTATEs)", "two-character class"},
        Bad{"retry_on_number", step(R"("retry_on":["40001",40001])"), "/steps/0/retry_on/1", R"("retry_on" must hold SQLSTATEs)", "five-character SQLSTATE"},
        Bad{"retry_on_long", step(R"("retry_on":["400011"])"), "/steps/0/retry_on/0", R"("400011" is not an SQLSTATE)", "or its two-character class"},
        Bad{"retry_on_three", step(R"("retry_on":["400"])"), "/steps/0/retry_on/0", R"("400" is not an SQLSTATE)"},
        Bad{"retry_on_empty_code", step(R"("retry_on":[""])"), "/steps/0/retry_on/0", R"("" is not an SQLSTATE)"},
        Bad{"retry_on_small_letters", step(R"("retry_on":["40p01"])"), "/steps/0/retry_on/0", R"("40p01" is not an SQLSTATE)"},
        Bad{"retry_on_name", step(R"("retry_on":["deadlock_detected"])"), "/steps/0/retry_on/0", R"("deadlock_detected" is not an SQLSTATE)"},
        Bad{"retry_on_percent", step(R"("fail_on":["40%__"])"), "/steps/0/fail_on/0", R"("40%__" is not an SQLSTATE)"},
        Bad{"retry_on_letters_of_two_bytes", step(R"("fail_on":["é"])"), "/steps/0/fail_on/0", "is not an SQLSTATE"},
        Bad{"retry_on_success", step(R"("retry_on":["00000"])"), "/steps/0/retry_on/0", R"("00000" means success)", "remove it"},
        Bad{"fail_on_success_class", step(R"("fail_on":["00"])"), "/steps/0/fail_on/0", R"("00" means success)"},
        Bad{"retry_on_twice", step(R"("retry_on":["40001","23","40001"])"), "/steps/0/retry_on/2", R"("40001" is listed twice)", "remove"},
        Bad{"in_both", step(R"("fail_on":["57","40001"],"retry_on":["40001","40"])"), "/steps/0/fail_on/1", R"("40001" is in both "retry_on" and "fail_on")",
            "keep it in one"},
        Bad{"retry_on_many", step(R"("retry_on":[)" + many_codes(101) + "]"), "/steps/0/retry_on", R"("retry_on" has 101 entries, more than 100)", "whole classes"},
        Bad{"fail_on_near", step(R"("failon":["40"])"), "/steps/0/failon", R"(unknown key "failon")", R"(did you mean "fail_on"?)"},
        Bad{"events_text", step(R"("events":"paid")"), "/steps/0/events", R"("events" must be an array)"},
        Bad{"event_number", step(R"("events":["paid",5])"), "/steps/0/events/1", "an event must be a name or an object"},
        Bad{"event_nameless", step(R"("events":[{"condition":"always"}])"), "/steps/0/events/0", R"("name" is missing)"},
        Bad{"event_name_number", step(R"("events":[{"name":5}])"), "/steps/0/events/0/name", R"("name" must be a string)"},
        Bad{"event_name_space", step(R"("events":[{"name":"order paid"}])"), "/steps/0/events/0/name", R"(name "order paid" contains a space)"},
        Bad{"event_plain_space", step(R"("events":["order paid"])"), "/steps/0/events/0", R"(event name "order paid" contains a space)"},
        Bad{"event_plain_empty", step(R"("events":[""])"), "/steps/0/events/0", R"(event name "" must not be empty)"},
        Bad{"event_plain_long", step(R"("events":[")" + repeat("e", 129) + R"("])"), "/steps/0/events/0", "is 129 bytes long"},
        Bad{"event_condition", step(R"("events":[{"name":"x","condition":"succes"}])"), "/steps/0/events/0/condition", R"(not "succes")", R"(did you mean "success"?)"},
        Bad{"event_condition_number", step(R"("events":[{"name":"x","condition":1}])"), "/steps/0/events/0/condition", R"("condition" must be a string)"},
        Bad{"event_description", step(R"("events":[{"name":"x","description":1}])"), "/steps/0/events/0/description", R"("description" must be a string)"},
        Bad{"event_unknown_key", step(R"("events":[{"name":"x","when":"y"}])"), "/steps/0/events/0/when", R"(unknown key "when")"},
        Bad{"handler_text", handler(R"("noop")"), "/steps/0/handler", R"("handler" must be an object)"},
        Bad{"handler_null", handler("null"), "/steps/0/handler", R"("handler" must be an object)"},
        Bad{"handler_typeless", handler("{}"), "/steps/0/handler", R"("type" is missing)"},
        Bad{"handler_type_number", handler(R"({"type":1})"), "/steps/0/handler/type", R"("type" must be a string)"},
        Bad{"handler_type_unknown", handler(R"({"type":"python"})"), "/steps/0/handler/type", R"(unknown handler type "python")", R"("sql", "http")"},
        Bad{"handler_type_near", handler(R"({"type":"nop"})"), "/steps/0/handler/type", R"(unknown handler type "nop")", R"(did you mean "noop"?)"},
        Bad{"handler_type_case", handler(R"({"type":"Noop"})"), "/steps/0/handler/type", R"(unknown handler type "Noop")", R"(did you mean "noop"?)"},
        Bad{"external_queueless", handler(R"({"type":"external"})"), "/steps/0/handler", R"("queue" is missing)"},
        Bad{"external_queue_number", handler(R"({"type":"external","queue":5})"), "/steps/0/handler/queue", R"("queue" must be a string)"},
        Bad{"external_queue_space", handler(R"({"type":"external","queue":"a b"})"), "/steps/0/handler/queue", "contains a space"},
        Bad{"external_queue_long", handler(R"({"type":"external","queue":")" + repeat("q", 51) + R"("})"), "/steps/0/handler/queue", "is 51 bytes long"},
        Bad{"external_unknown_key", handler(R"({"type":"external","queue":"q","topic":"x"})"), "/steps/0/handler/topic", R"(unknown key "topic")"},
        Bad{"external_config", handler(R"({"type":"external","queue":"q","config":[]})"), "/steps/0/handler/config", R"("config" must be an object)"},
        Bad{"wait_for_nothing", handler(R"({"type":"wait"})"), "/steps/0/handler", "needs seconds or until"},
        Bad{"wait_for_both", handler(R"({"type":"wait","seconds":1,"until":"2026-01-01"})"), "/steps/0/handler", "only one of seconds and until"},
        Bad{"wait_negative", handler(R"({"type":"wait","seconds":-1})"), "/steps/0/handler/seconds", R"("seconds" must be)"},
        Bad{"wait_text", handler(R"({"type":"wait","seconds":"5"})"), "/steps/0/handler/seconds", R"("seconds" must be)"},
        Bad{"wait_too_long", handler(R"({"type":"wait","seconds":315360001})"), "/steps/0/handler/seconds", R"("seconds" must be)"},
        Bad{"wait_until_empty", handler(R"({"type":"wait","until":" "})"), "/steps/0/handler/until", R"("until" must not be empty)"},
        Bad{"wait_until_template", handler(R"({"type":"wait","until":"${context/at}"})"), "/steps/0/handler/until", ""},
        Bad{"signal_nameless", handler(R"({"type":"signal"})"), "/steps/0/handler", R"("name" is missing)"},
        Bad{"signal_name_space", handler(R"({"type":"signal","name":"go on"})"), "/steps/0/handler/name", "contains a space"},
        Bad{"signal_senders_text", handler(R"({"type":"signal","name":"go","senders":"boss"})"), "/steps/0/handler/senders", "non-empty array of role names"},
        Bad{"signal_senders_empty", handler(R"({"type":"signal","name":"go","senders":[]})"), "/steps/0/handler/senders", "non-empty array of role names"},
        Bad{"signal_sender_number", handler(R"({"type":"signal","name":"go","senders":["boss",1]})"), "/steps/0/handler/senders/1", "must hold role names"},
        Bad{"signal_on_timeout", step(R"("handler":{"type":"signal","name":"go","on_timeout":"continue"},"timeout_seconds":9)"), "/steps/0/handler/on_timeout",
            R"("on_timeout" must be "fail" or {"continue": value})"},
        Bad{"signal_endless", handler(R"({"type":"signal","name":"go","on_timeout":"fail"})"), "/steps/0/handler/on_timeout", "needs timeout_seconds"},
        Bad{"handler_task", handler(R"({"type":"task","name":"x"})"), "/steps/0/handler/type", R"(handler type "task" is reserved)", "", 1, true},
        Bad{"wait_timeout", step(R"("handler":{"type":"wait","seconds":5},"timeout_seconds":9)"), "/steps/0/timeout_seconds",
            R"("timeout_seconds" does not apply to a wait)"},
        Bad{"noop_unknown_key", handler(R"({"type":"noop","query":"SELECT 1"})"), "/steps/0/handler/query", R"(unknown key "query")"},
        Bad{"noop_config", handler(R"({"type":"noop","config":5})"), "/steps/0/handler/config", R"("config" must be an object)"}),
    case_name);

INSTANTIATE_TEST_SUITE_P(
    Sql, BadDefinition,
    testing::Values(
        Bad{"nothing", handler(R"({"type":"sql"})"), "/steps/0/handler", R"(handler type "sql" needs a function)", "exactly one"},
        Bad{"two", sql(R"("function":"a.b","query":"SELECT 1")"), "/steps/0/handler", "takes only one of function, query and procedure"},
        Bad{"three", sql(R"("function":"a.b","query":"SELECT 1","procedure":"a.p","atomic":false)"), "/steps/0/handler", "takes only one"},
        Bad{"function_number", sql(R"("function":1)"), "/steps/0/handler/function", R"("function" must be a string)"},
        Bad{"function_empty", sql(R"("function":"")"), "/steps/0/handler/function", R"("function" must not be empty)"},
        Bad{"function_unqualified", sql(R"("function":"f")"), "/steps/0/handler/function", R"(schema-qualified name, not "f")", "schema.name"},
        Bad{"function_three_parts", sql(R"("function":"db.s.f")"), "/steps/0/handler/function", R"(not "db.s.f")"},
        Bad{"function_arguments", sql(R"x("function":"s.f(jsonb)")x"), "/steps/0/handler/function", R"x(not "s.f(jsonb)")x"},
        Bad{"function_space", sql(R"("function":"s. f")"), "/steps/0/handler/function", R"(not "s. f")"},
        Bad{"function_digit", sql(R"("function":"s.1f")"), "/steps/0/handler/function", R"(not "s.1f")"},
        Bad{"function_no_schema", sql(R"("function":".f")"), "/steps/0/handler/function", R"(not ".f")"},
        Bad{"function_no_name", sql(R"("function":"s.")"), "/steps/0/handler/function", R"(not "s.")"},
        Bad{"function_open_quote", sql(R"("function":"s.\"f")"), "/steps/0/handler/function", "schema-qualified"},
        Bad{"function_empty_quotes", sql(R"("function":"s.\"\"")"), "/steps/0/handler/function", "schema-qualified"},
        Bad{"function_quoted_whole", sql(R"("function":"\"s.f\"")"), "/steps/0/handler/function", "schema-qualified"},
        Bad{"function_dash", sql(R"("function":"my-schema.f")"), "/steps/0/handler/function", R"(not "my-schema.f")"},
        Bad{"function_injection", sql(R"("function":"s.f(); DROP TABLE x; --")"), "/steps/0/handler/function", "DROP TABLE"},
        Bad{"query_empty", sql(R"("query":"")"), "/steps/0/handler/query", R"("query" must not be empty)"},
        Bad{"query_blank", sql(R"("query":" \n\t ")"), "/steps/0/handler/query", R"("query" must not be empty)"},
        Bad{"query_array", sql(R"("query":["SELECT 1"])"), "/steps/0/handler/query", R"("query" must be a string)"},
        Bad{"procedure_atomic_by_default", sql(R"("procedure":"s.p")"), "/steps/0/handler/procedure", R"("procedure" needs "atomic": false)", "at least once"},
        Bad{"procedure_atomic", sql(R"("procedure":"s.p","atomic":true)"), "/steps/0/handler/procedure", R"(needs "atomic": false)"},
        Bad{"procedure_unqualified", sql(R"("procedure":"p","atomic":false)"), "/steps/0/handler/procedure", R"(not "p")"},
        Bad{"function_not_atomic", sql(R"("function":"s.f","atomic":false)"), "/steps/0/handler/atomic", R"("atomic" may be false only with a procedure)"},
        Bad{"query_not_atomic", sql(R"("query":"SELECT 1","atomic":false)"), "/steps/0/handler/atomic", R"("atomic" may be false only)"},
        Bad{"atomic_text", sql(R"("function":"s.f","atomic":"no")"), "/steps/0/handler/atomic", R"("atomic" must be true or false)"},
        Bad{"procedure_atomic_text", sql(R"("procedure":"s.p","atomic":"no")"), "/steps/0/handler/atomic", R"("atomic" must be true or false)"},
        Bad{"unknown_key", sql(R"("function":"s.f","retries":3)"), "/steps/0/handler/retries", R"(unknown key "retries")"},
        Bad{"unknown_key_near", sql(R"("function":"s.f","confg":{})"), "/steps/0/handler/confg", R"(unknown key "confg")", R"(did you mean "config"?)"},
        Bad{"misspelt_function", sql(R"("funtion":"s.f")"), "/steps/0/handler/funtion", R"(unknown key "funtion")", R"(did you mean "function"?)", 2},
        Bad{"config_text", sql(R"("function":"s.f","config":"x")"), "/steps/0/handler/config", R"("config" must be an object)"},
        Bad{"config_null", sql(R"("function":"s.f","config":null)"), "/steps/0/handler/config", R"("config" must be an object)"}),
    case_name);

INSTANTIATE_TEST_SUITE_P(
    Shape, BadDefinition,
    testing::Values(
        Bad{"depends_on_text", step(R"("depends_on":"b")"), "/steps/0/depends_on", R"("depends_on" must be an array of step names)"},
        Bad{"depends_on_object", step(R"("depends_on":{"b":1})"), "/steps/0/depends_on", "must be an array of step names"},
        Bad{"depends_on_null", step(R"("depends_on":null)"), "/steps/0/depends_on", "must be an array of step names"},
        Bad{"parent_number", step(R"("depends_on":[1])"), "/steps/0/depends_on/0", R"("depends_on" must hold step names)"},
        Bad{"parent_unknown", steps(noop("a", "[]") + "," + noop("b", R"(["a","zebra"])")), "/steps/1/depends_on/1", R"(unknown step "zebra")"},
        Bad{"parent_near", steps(noop("extract", "[]") + "," + noop("load", R"(["extarct"])")), "/steps/1/depends_on/0", R"(unknown step "extarct")",
            R"(did you mean "extract"?)"},
        Bad{"parent_case", steps(noop("extract", "[]") + "," + noop("load", R"(["Extract"])")), "/steps/1/depends_on/0", R"(unknown step "Extract")", R"("extract"?)"},
        Bad{"parent_empty", step(R"("depends_on":[""])"), "/steps/0/depends_on/0", R"(unknown step "")"},
        Bad{"self", step(R"("depends_on":["a"])"), "/steps/0/depends_on/0", R"(step "a" depends on itself)"},
        Bad{"self_in_fourth", steps(noop("x", "[]") + "," + noop("y", R"(["x"])") + "," + noop("z", "[]") + "," + noop("w", R"(["x","y","w"])")),
            "/steps/3/depends_on/2", R"(step "w" depends on itself)"},
        Bad{"cycle_of_two", steps(noop("a", R"(["b"])") + "," + noop("b", R"(["a"])")), "/steps/0/depends_on", "a → b → a"},
        Bad{"cycle_of_three", steps(noop("a", R"(["c"])") + "," + noop("b", R"(["a"])") + "," + noop("c", R"(["b"])")), "/steps/0/depends_on", "a → b → c → a"},
        Bad{"cycle_behind_a_root",
            steps(noop("root", "[]") + "," + noop("in", R"(["root","out"])") + "," + noop("mid", R"(["in"])") + "," + noop("out", R"(["mid"])")),
            "/steps/1/depends_on", "in → mid → out → in"},
        Bad{"two_cycles",
            steps(noop("a", R"(["b"])") + "," + noop("b", R"(["a"])") + "," + noop("c", R"(["d"])") + "," + noop("d", R"(["c"])")),
            "/steps/2/depends_on", "c → d → c", "", 2},
        Bad{"bad_name_is_not_also_unknown", steps(noop("a b", "[]") + "," + noop("c", R"(["a b"])")), "/steps/0/name", R"(name "a b" contains a space)"},
        Bad{"cycle_of_hostile_names", steps(noop("a\\n", R"([")" + repeat("b", 999) + R"("])") + "," + noop(repeat("b", 999), R"(["a\n"])")), "/steps/0/depends_on",
            "a? → bbb", "", 3},
        Bad{"several_at_once", R"({"name":"bad name","version":"1","colour":1,"steps":[{"name":"a","handler":{"type":"sql"},"max_attempts":"x","depends_on":["q"]}]})",
            "/steps/0/depends_on/0", R"(unknown step "q")", "", 6}),
    case_name);

// --- good ones ---

Definition good(const std::string &text) {
  CheckedDefinition checked = check(text);
  EXPECT_TRUE(checked.faults.empty()) << told(checked.faults);
  return checked.definition;
}

TEST(Definition, Defaults) {
  const Definition definition = good(R"({"name":"t","steps":[{"name":"a","handler":{"type":"noop"}}]})");
  EXPECT_EQ(definition.ns, "default");
  EXPECT_EQ(definition.name, "t");
  EXPECT_EQ(definition.version, "0.1.0");
  EXPECT_EQ(definition.run_as, "invoker");
  EXPECT_TRUE(definition.context_schema.is_null());
  EXPECT_EQ(definition.deadline_seconds, std::nullopt);
  ASSERT_EQ(definition.steps.size(), 1U);
  const StepDefinition &only = definition.steps[0];
  EXPECT_TRUE(only.retryable && only.atomic);
  EXPECT_FALSE(only.skippable || only.own_transaction);
  EXPECT_EQ(only.max_attempts, 3);
  EXPECT_EQ(only.isolation, "read committed");
  EXPECT_EQ(only.priority, 0);
  EXPECT_EQ(only.timeout_seconds, std::nullopt);
  EXPECT_EQ(only.events, json::array());
  EXPECT_TRUE(only.parents.empty());
  EXPECT_EQ(only.backoff.base_seconds, 1);
  EXPECT_EQ(only.backoff.multiplier, 2);
  EXPECT_EQ(only.backoff.max_seconds, 300);
  EXPECT_EQ(only.backoff.jitter, 0.1);
  EXPECT_TRUE(only.overrides.retry_on.empty() && only.overrides.fail_on.empty());
}

TEST(Definition, EveryKeyIsRead) {
  const Definition definition = good(R"({
    "name":"process_order", "namespace":"ecommerce", "version":"1.10.2", "description":"an order, paid and sent",
    "context_schema":{"type":"object","required":["order_id"]}, "deadline_seconds":86400.5, "run_as":"definer",
    "steps":[
      {"name":"load","handler":{"type":"sql","query":"SELECT $1","config":{"deep":[1,{"x":null}]}}},
      {"name":"pay","handler":{"type":"sql","function":"shop.pay","atomic":true},"depends_on":["load","load"],"description":"charge","dependent_system":"Card Gateway",
       "retryable":false,"max_attempts":5.0,"backoff":{"base_seconds":0.5,"multiplier":3,"max_seconds":60,"jitter":0},"timeout_seconds":30,"skippable":true,
       "retry_on":["23505","P0","HV00N"],"fail_on":["08","57014"],"own_transaction":true,"priority":-7,"events":["order.paid",{"name":"order.refused","condition":"failure","description":"why"}]},
      {"name":"archive","handler":{"type":"sql","procedure":"\"My Schema\".\"a \"\"b\"\" c\"","atomic":false},"depends_on":["pay","load"]}]})");
  EXPECT_EQ(definition.ns, "ecommerce");
  EXPECT_EQ(definition.version, "1.10.2");
  EXPECT_EQ(definition.description, "an order, paid and sent");
  EXPECT_EQ(definition.context_schema["type"], "object");
  EXPECT_EQ(definition.deadline_seconds, 86400.5);
  EXPECT_EQ(definition.run_as, "definer");
  ASSERT_EQ(definition.steps.size(), 3U);
  const StepDefinition &load = definition.steps[0], &pay = definition.steps[1], &archive = definition.steps[2];
  EXPECT_EQ(load.query, "SELECT $1");
  EXPECT_EQ(load.handler["config"]["deep"][1]["x"], nullptr);
  EXPECT_EQ(load.handler["type"], "sql");
  EXPECT_EQ(pay.function, "shop.pay");
  EXPECT_EQ(pay.handler_type, "sql");
  EXPECT_EQ(pay.dependent_system, "Card Gateway");
  EXPECT_EQ(pay.description, "charge");
  EXPECT_FALSE(pay.retryable);
  EXPECT_EQ(pay.max_attempts, 5);
  EXPECT_EQ(pay.backoff.base_seconds, 0.5);
  EXPECT_EQ(pay.backoff.multiplier, 3);
  EXPECT_EQ(pay.backoff.max_seconds, 60);
  EXPECT_EQ(pay.backoff.jitter, 0);
  EXPECT_EQ(pay.overrides.retry_on, (std::vector<std::string>{"23505", "P0", "HV00N"}));
  EXPECT_EQ(pay.overrides.fail_on, (std::vector<std::string>{"08", "57014"}));
  EXPECT_EQ(pay.timeout_seconds, 30);
  EXPECT_TRUE(pay.skippable && pay.own_transaction);
  EXPECT_EQ(pay.priority, -7);
  EXPECT_EQ(pay.events, parse_json(R"([{"name":"order.paid","condition":"success"},{"name":"order.refused","condition":"failure","description":"why"}])"));
  EXPECT_EQ(pay.parents, (std::vector<int>{0})) << "a parent named twice is one parent";
  EXPECT_EQ(archive.parents, (std::vector<int>{0, 1}));
  EXPECT_EQ(archive.level, 2);
  EXPECT_FALSE(archive.atomic);
  EXPECT_TRUE(archive.own_transaction) << "a procedure commits by itself";
}

TEST(Definition, AnotherIsolationImpliesAnOwnTransaction) {
  for (const char *level : {"read committed", "read uncommitted", "repeatable read", "serializable"}) {
    const Definition definition = good(step(R"("isolation":")" + std::string(level) + R"(","own_transaction":false)"));
    EXPECT_EQ(definition.steps.at(0).isolation, level);
    EXPECT_EQ(definition.steps.at(0).own_transaction, std::string(level) != "read committed");
  }
}

TEST(Definition, LimitsAreInclusive) {
  good(step(R"("max_attempts":1000,"priority":1000000,"timeout_seconds":604800,"backoff":{"base_seconds":86400,"multiplier":100,"max_seconds":2592000,"jitter":1})"));
  good(step(R"("max_attempts":0,"priority":-1000000,"timeout_seconds":0.001,"backoff":{"base_seconds":0,"multiplier":1,"max_seconds":0,"jitter":0})"));
  good(step(R"("max_attempts":1e3,"priority":-0.0,"backoff":{})"));
  EXPECT_EQ(good(step(R"("retry_on":[)" + many_codes(100) + R"(],"fail_on":[])")).steps.at(0).overrides.retry_on.size(), 100U);
  good(step(R"("retry_on":["40"],"fail_on":["40001"])"));
  good(task(R"("deadline_seconds":0.001)"));
  good(task(R"("name":")" + repeat("n", 64) + R"(","namespace":")" + repeat("ж", 32) + R"(")"));
  good(step(R"("name":")" + repeat("s", 128) + R"(","dependent_system":")" + repeat("d", 64) + R"(")"));
  good(task(R"("version":"999999999.0.0")"));
}

TEST(Definition, NamesOfAnyScript) {
  for (const char *name : {"a", "Ünïcödé", "обработка", "处理", "a.b:c-d_e", "9", "NFCORE_RNASEQ.RNASEQ.INPUT_CHECK.SAMPLESHEET_CHECK_1"}) {
    EXPECT_EQ(name_problem(name, 64), "") << name;
    EXPECT_EQ(good(step(R"("name":")" + std::string(name) + R"(")")).steps.at(0).name, name);
  }
  for (const char *name : {"", " a", "a b", "a\tb", "a/b", "a,b", "a'b", "a[1]", "a(b)", "a{b}", "a@b", "a$b", "\x7f"}) EXPECT_NE(name_problem(name, 64), "") << name;
}

TEST(Definition, FunctionNames) {
  for (const char *name : {"s.f", "_s._f", "S.F", "s1.f$2", "схема.функция", R"(\"S p\".f)", R"(s.\"f.g\")", R"(\"a\"\"b\".\"c\"\"\")"}) {
    EXPECT_FALSE(good(sql(R"("function":")" + std::string(name) + R"(")")).steps.at(0).function.empty()) << name;
  }
}

TEST(Definition, Versions) {
  using Three = std::array<int, 3>;
  EXPECT_EQ(parse_version("1.10.2"), (Three{1, 10, 2}));
  EXPECT_EQ(parse_version("0.0.0"), (Three{0, 0, 0}));
  EXPECT_EQ(parse_version("2024.01.15"), (Three{2024, 1, 15}));
  EXPECT_EQ(parse_version("999999999.999999999.999999999"), (Three{999999999, 999999999, 999999999}));
  EXPECT_LT(*parse_version("0.9.0"), *parse_version("0.10.0"));
  for (const char *bad : {"", "1", "1.2", "1.2.", ".1.2", "1.2.3.", "1.2.3.4", "1,2,3", " 1.2.3", "+1.2.3", "1.2.0000000003", "1.2.3\n", "一.二.三"}) {
    EXPECT_EQ(parse_version(bad), std::nullopt) << bad;
  }
}

TEST(Definition, SchemaFaultsPointIntoTheDocument) {
  const CheckedDefinition checked = check(task(R"("context_schema":{"type":"object","properties":{"a":{"pattern":"("}}})"));
  ASSERT_EQ(checked.faults.size(), 1U) << told(checked.faults);
  EXPECT_EQ(checked.faults[0].pointer.find("/context_schema/properties/a"), 0U) << checked.faults[0].pointer;
  EXPECT_EQ(checked.faults[0].problem.find("context_schema: "), 0U);
  good(task(R"("context_schema":true)"));
  good(task(R"("context_schema":{})"));
}

TEST(Definition, ALongCycleIsCutShort) {
  constexpr int kLength = 50'000;
  std::string list;
  for (int i = 0; i < kLength; ++i) {
    list += (i == 0 ? "" : ",") + noop("s" + std::to_string(i), R"(["s)" + std::to_string((i + kLength - 1) % kLength) + R"("])");
  }
  const std::vector<Fault> faults = check(steps(list)).faults;
  ASSERT_EQ(faults.size(), 1U);
  EXPECT_NE(faults[0].problem.find("s0 → s1 → "), std::string::npos);
  EXPECT_NE(faults[0].problem.find("(49950 more) → s0"), std::string::npos) << faults[0].problem;
  EXPECT_LT(faults[0].problem.size(), 1000U);
}

// --- size ---

json big_document(std::size_t count) {
  json document = {{"name", "big"}, {"steps", json::array()}};
  for (std::size_t i = 0; i < count; ++i) {
    document["steps"].push_back({{"name", "s" + std::to_string(i)}, {"handler", {{"type", "noop"}}}});
  }
  return document;
}

double seconds_since(std::chrono::steady_clock::time_point start) { return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count(); }

TEST(Definition, TooManySteps) {
  const CheckedDefinition checked = check_definition(big_document(kMaxSteps + 1), PlainRegex());
  ASSERT_EQ(checked.faults.size(), 1U);
  EXPECT_EQ(checked.faults[0].pointer, "/steps");
  EXPECT_NE(checked.faults[0].problem.find("100001 steps, more than 100000"), std::string::npos);
}

TEST(Definition, AChainOf100000IsRead) {
  json document = big_document(kMaxSteps);
  for (std::size_t i = 1; i < kMaxSteps; ++i) document["steps"][i]["depends_on"] = {"s" + std::to_string(i - 1)};
  const auto start = std::chrono::steady_clock::now();
  const CheckedDefinition checked = check_definition(document, PlainRegex());
  EXPECT_LT(seconds_since(start), 20) << "with sanitizers";
  ASSERT_TRUE(checked.faults.empty());
  EXPECT_EQ(checked.definition.steps.back().level, 99'999);
}

TEST(Definition, AFanOf9999IsRead) {
  json document = big_document(10'001);
  for (std::size_t i = 1; i < 10'000; ++i) {
    document["steps"][i]["depends_on"] = {"s0"};
    document["steps"][10'000]["depends_on"].push_back("s" + std::to_string(i));
  }
  const CheckedDefinition checked = check_definition(document, PlainRegex());
  ASSERT_TRUE(checked.faults.empty());
  EXPECT_EQ(checked.definition.steps.back().parents.size(), 9'999U);
  EXPECT_EQ(checked.definition.steps.back().level, 2);
}

// Hints compare names; that must not be all with all.
TEST(Definition, ThousandsOfMisspeltParentsAreToldSwiftly) {
  json document = big_document(20'000);
  for (json &one : document["steps"]) one["depends_on"] = {"x" + one["name"].get<std::string>()};
  const auto start = std::chrono::steady_clock::now();
  const CheckedDefinition checked = check_definition(document, PlainRegex());
  EXPECT_LT(seconds_since(start), 20) << "with sanitizers";
  EXPECT_EQ(checked.faults.size(), 20'000U);
  EXPECT_EQ(checked.faults[0].hint, R"(did you mean "s0"?)");
}

// Of a short name two edits leave nothing: a hint would mislead.
TEST(Definition, HintsAreGivenOnlyWhenNear) {
  for (const char *parent : {"z", "bcd", "somewhere_else"}) {
    const std::vector<Fault> faults = check(steps(noop("ab", "[]") + "," + noop("x", R"([")" + std::string(parent) + R"("])"))).faults;
    ASSERT_EQ(faults.size(), 1U);
    EXPECT_EQ(faults[0].hint, "") << parent;
  }
  EXPECT_EQ(check(task(R"("colour":1)")).faults.at(0).hint, "");
  EXPECT_EQ(check(steps(noop("step-one", "[]") + "," + noop("x", R"(["step_one"])"))).faults.at(0).hint, R"(did you mean "step-one"?)");
}

// The shapes of the real workflows that acceptance runs: wide layers, joins of hundreds, long dotted names.
TEST(Definition, LayeredWorkflowsAreRead) {
  json document = {{"namespace", "wf"}, {"name", "rnaseq-dirt02-001"}, {"version", "1.0.0"}, {"steps", json::array()}};
  std::vector<std::string> layer, next;
  for (int depth = 0; depth < 8; ++depth) {
    next.clear();
    for (int i = 0; i < (depth % 2 == 0 ? 24 : 1); ++i) {
      next.push_back("NFCORE_RNASEQ.RNASEQ.STAGE" + std::to_string(depth) + ".PART_" + std::to_string(i));
      document["steps"].push_back({{"name", next.back()}, {"depends_on", layer}, {"handler", {{"type", "sql"}, {"function", "acc.step"}}}});
    }
    layer = next;
  }
  const CheckedDefinition checked = check_definition(document, PlainRegex());
  ASSERT_TRUE(checked.faults.empty()) << told(checked.faults);
  EXPECT_EQ(checked.definition.steps.back().level, 7);
  EXPECT_EQ(checked.definition.steps.back().parents.size(), 24U);
}

}  // namespace
}  // namespace tasker::core
