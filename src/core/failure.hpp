// What a failed attempt means: its category, and whether another attempt is worth making.
//
// The table is SPEC's, by SQLSTATE: a whole code wins over its class (the first two characters); anything
// unlisted is retryable with category unknown.
#pragma once

#include <string_view>

namespace tasker::core {

struct FailureClass {
  const char *category;  // timeout, connection, conflict, resource, validation, privilege, code, crashed, cancelled, unknown
  bool retryable;
  bool contention;  // may be the fault of neighbours in the same transaction: run it alone before counting it
};

FailureClass classify_failure(std::string_view sqlstate) noexcept;

}  // namespace tasker::core
