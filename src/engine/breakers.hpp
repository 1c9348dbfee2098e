// What people do to circuit breakers. Ordinary transactional writes of the caller, idempotent (false: it was so already),
// each change of state leaving a transition with actor and reason; what the system's steps do follows at the commit.
//
// All raise 42501 unless the caller is operator or admin, 02000 for a system that no definition has named, and 22023 for
// a time or number out of range.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "engine/control.hpp"

namespace tasker::engine {

// Opens it; for that many microseconds, or until it is reset.
bool trip_breaker(const std::string &system, const Reason &reason, std::optional<std::int64_t> open_for);
bool reset_breaker(const std::string &system, const Reason &reason);

// A breaker's own settings, times in microseconds; what is not given follows the configuration.
struct BreakerChoice {
  std::optional<int> failure_threshold;
  std::optional<std::int64_t> failure_window, open_time, max_open_time;
};
// Replaces all of them.
bool configure_breaker(const std::string &system, const BreakerChoice &choice);

}  // namespace tasker::engine
