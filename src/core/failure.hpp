// What a failed attempt means: its category, and whether another attempt is worth making.
//
// The rules are data, by SQLSTATE (failure.cpp): a whole code wins over its class (the first two characters);
// anything unlisted is retryable with category unknown. A definition may change the word on retrying, per
// step; nothing else of a verdict can be changed.
#pragma once

#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace tasker::core {

struct FailureClass {
  // timeout, connection, conflict, resource, validation, privilege, code, client_error, server_error, rate_limit,
  // outcome_unknown, crashed, cancelled or unknown
  const char *category;
  bool retryable;
  bool contention;  // may be the fault of neighbours in the same transaction: run it alone before counting it
};

// One rule of the published table, sorted by code: a class stands before its codes.
struct FailureRule {
  std::string_view code;  // five characters, or two for a class
  FailureClass verdict;
  const char *meaning;
};

// The step keys `retry_on` and `fail_on`: whole codes or classes. A whole code wins over a class; where the
// same entry stands in both, which a definition may not do, fail_on wins.
struct FailureOverrides {
  std::vector<std::string> retry_on, fail_on;
};

std::span<const FailureRule> failure_rules() noexcept;
FailureClass classify_failure(std::string_view sqlstate) noexcept;
// Only `retryable` follows the overrides: the category says what happened, and a conflict with neighbours is
// first run alone even where fail_on makes it final.
FailureClass classify_failure(std::string_view sqlstate, const FailureOverrides &overrides) noexcept;

// Does the failed attempt speak against the system the step depends on? A conflict, a cancel, a crash or a
// fault of the step's own says nothing about it, and neither does what no retry would mend.
bool counts_for_breaker(std::string_view category, bool retryable) noexcept;

}  // namespace tasker::core
