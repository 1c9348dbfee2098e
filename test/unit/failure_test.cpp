// Every error code of PostgreSQL 15 to 18, with the verdict it must have, written out a second time.
#include "core/failure.hpp"

#include <gtest/gtest.h>

#include <map>
#include <set>
#include <sstream>

namespace tasker::core {
namespace {

struct Group {
  const char *category;
  bool retryable, contention;
  const char *codes;
};

const Group kGroups[] = {
    {"conflict", true, true, "40000 40001 40003 40P01 55P03 55006 55P04 72000"},
    {"conflict", true, false, "55000 TK004"},
    {"timeout", true, false, "57014 25P03 25P04"},
    {"connection", true, false, "08000 08001 08003 08004 08006 08007 08P01 57000 57P01 57P02 57P03 57P04 57P05 HV00N"},
    {"resource", true, true, "53000 53100 53200 53300 53400 HV001 HV014"},
    {"resource", true, false, "58000 58030 58P01 58P02"},
    {"resource", false, false, "54000 54001 54011 54023"},
    {"server_error", true, true, "XX000"},
    {"server_error", true, false, "F0000 F0001 HV000 HV00L HV00M"},
    {"server_error", false, false, "XX001 XX002"},
    {"unknown", true, false, "P0000 P0001 38000 TK001 00000 01000 01004"},
    {"unknown", false, false, "TK002"},
    {"privilege", false, false, "28000 28P01 42501 0L000 0LP01 0P000"},
    {"validation", false, false,
     "02000 02001 10608 20000 21000 22000 2202E 22021 22008 22012 22005 2200B 22022 22015 2201E 22014 22016 2201F 2201G 22018 22007 22019 2200D 22025 22P06 "
     "22010 22023 22013 2201B 2201W 2201X 2202H 2202G 22009 2200C 2200G 22004 22002 22003 2200H 22026 22001 22011 22027 22024 2200F 22P01 22P02 22P03 22P04 "
     "22P05 22P07 2200L 2200M 2200N 2200S 2200T 22030 22031 22032 22033 22034 22035 22036 22037 22038 22039 2203A 2203B 2203C 2203D 2203E 2203F 2203G "
     "23000 23001 23502 23503 23505 23514 23P01 40002 44000 P0002 P0003 TK003"},
    {"code", false, false,
     "03000 09000 0A000 0B000 0F000 0F001 0Z000 0Z002 24000 25000 25001 25002 25008 25003 25004 25005 25006 25007 25P01 25P02 26000 27000 2B000 2BP01 2D000 "
     "2F000 2F005 2F002 2F003 2F004 34000 38001 38002 38003 38004 39000 39001 39004 39P01 39P02 39P03 3B000 3B001 3D000 3F000 42000 42601 42846 42803 42P20 "
     "42P19 42830 42602 42622 42939 42804 42P18 42P21 42P22 42809 428C9 42703 42883 42P01 42P02 42704 42701 42P03 42P04 42723 42P05 42P06 42P07 42712 42710 "
     "42702 42725 42P08 42P09 42P10 42611 42P11 42P12 42P13 42P14 42P15 42P16 42P17 55P02 58P03 HV005 HV002 HV010 HV021 HV024 HV007 HV008 HV004 HV006 HV091 "
     "HV00B HV00C HV00D HV090 HV00A HV009 HV00P HV00J HV00K HV00Q HV00R P0004 TK005 TK006"},
};

const std::set<std::string> kCategories = {"timeout",      "connection",   "conflict",   "resource",        "validation", "privilege", "code",
                                           "client_error", "server_error", "rate_limit", "outcome_unknown", "crashed",    "cancelled", "unknown"};

TEST(Failure, EveryCodeOfPostgres) {
  std::set<std::string> seen;
  for (const Group &group : kGroups) {
    std::istringstream codes(group.codes);
    for (std::string code; codes >> code;) {
      const FailureClass verdict = classify_failure(code);
      EXPECT_STREQ(verdict.category, group.category) << code;
      EXPECT_EQ(verdict.retryable, group.retryable) << code;
      EXPECT_EQ(verdict.contention, group.contention) << code;
      EXPECT_TRUE(seen.insert(code).second) << code << " is listed twice";
    }
  }
  EXPECT_EQ(seen.size(), 264U) << "a line of the list was lost";
}

TEST(Failure, WhatNoRuleKnowsIsRetried) {
  for (const char *code : {"ZZ999", "99999", "05000", "", "4", "40", "zz"}) {
    const FailureClass verdict = classify_failure(code);
    EXPECT_TRUE(verdict.retryable) << code;
  }
  EXPECT_STREQ(classify_failure("ZZ999").category, "unknown");
  EXPECT_STREQ(classify_failure("").category, "unknown");
  EXPECT_STREQ(classify_failure("40ABC").category, "conflict") << "a new code of a known class";
  EXPECT_STREQ(classify_failure("23").category, "validation") << "a class is its own";
}

TEST(Failure, ThePublishedRules) {
  const std::span<const FailureRule> rules = failure_rules();
  EXPECT_GT(rules.size(), 60U);
  std::string_view last;
  for (const FailureRule &rule : rules) {
    EXPECT_TRUE(rule.code.size() == 2 || rule.code.size() == 5) << rule.code;
    EXPECT_LT(last, rule.code) << "sorted, each once, a class before its codes";
    last = rule.code;
    EXPECT_TRUE(kCategories.contains(rule.verdict.category)) << rule.code;
    EXPECT_NE(std::string(rule.meaning), "") << rule.code;
    EXPECT_FALSE(rule.verdict.contention && !rule.verdict.retryable) << rule.code << ": what is run alone first must be worth running";
    const FailureClass verdict = classify_failure(rule.code);
    EXPECT_STREQ(verdict.category, rule.verdict.category) << rule.code;
    EXPECT_EQ(verdict.retryable, rule.verdict.retryable) << rule.code;
  }
}

TEST(Failure, OverridesChangeRetryingAndNothingElse) {
  const FailureOverrides overrides{{"23", "42P01", "TK002", "ZZ"}, {"40", "57014", "ZZ9", "42"}};
  const std::map<std::string, bool> expected = {{"23505", true}, {"42P01", true},  {"42703", false}, {"TK002", true}, {"40001", false},
                                                {"57014", false}, {"08006", true}, {"ZZ999", true},  {"22012", false}};
  for (const auto &[code, retryable] : expected) {
    const FailureClass before = classify_failure(code), after = classify_failure(code, overrides);
    EXPECT_EQ(after.retryable, retryable) << code;
    EXPECT_STREQ(after.category, before.category) << code;
    EXPECT_EQ(after.contention, before.contention) << code;
  }
  EXPECT_TRUE(classify_failure("40001", overrides).contention) << "run alone first, though final";
  EXPECT_TRUE(classify_failure("40001", FailureOverrides{}).retryable);
}

TEST(Failure, AWholeCodeWinsOverAClass) {
  EXPECT_FALSE(classify_failure("40001", {{"40"}, {"40001"}}).retryable);
  EXPECT_TRUE(classify_failure("40P01", {{"40"}, {"40001"}}).retryable);
  EXPECT_TRUE(classify_failure("23505", {{"23505"}, {"23"}}).retryable);
  EXPECT_FALSE(classify_failure("23503", {{"23505"}, {"23"}}).retryable);
  EXPECT_FALSE(classify_failure("08006", {{"08006"}, {"08006"}}).retryable) << "in both: fail_on wins";
  EXPECT_FALSE(classify_failure("08006", {{"08"}, {"08"}}).retryable);
  EXPECT_TRUE(classify_failure("", {{""}, {}}).retryable);
}

TEST(Failure, WhatSpeaksAgainstTheDependentSystem) {
  const std::set<std::string> of_the_system = {"timeout", "connection", "resource", "server_error", "rate_limit", "outcome_unknown", "unknown"};
  for (const std::string &category : kCategories) {
    EXPECT_EQ(counts_for_breaker(category, true), of_the_system.contains(category)) << category;
    EXPECT_EQ(counts_for_breaker(category, false), category == "outcome_unknown") << category << ", not retryable";
  }
  EXPECT_FALSE(counts_for_breaker("", true));
  EXPECT_FALSE(counts_for_breaker("time", true));
}

}  // namespace
}  // namespace tasker::core
