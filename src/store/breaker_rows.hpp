// The rows of circuit breakers: what survives a restart, and what people write. Precondition of all: inside
// pg::OwnerScope and pg::Spi.
#pragma once

#include <optional>
#include <string>
#include <unordered_map>
#include <vector>

#include "store/breakers.hpp"

namespace tasker::store {

std::vector<BreakerRow> load_breakers();
// Nothing when there is no such system.
std::optional<BreakerRow> load_breaker(int system);
// By the system's name, locked against other writers until the end of the transaction.
std::optional<BreakerRow> lock_breaker(const std::string &system_name);
// Those of these systems that are not closed, as the running statement's snapshot shows them.
std::vector<BreakerRow> troubled_breakers(const std::vector<int> &systems);

// What somebody did to a breaker: `row` as it was loaded and locked, but for its breaker, which is written.
void write_breaker(const BreakerRow &row, core::BreakerState from, core::BreakerCause cause, const std::optional<std::string> &reason);
// False: they were so already. The row is locked.
bool write_overrides(const BreakerRow &row, const BreakerOverrides &overrides);

enum class Saved : std::uint8_t { kSaved, kLocked, kNewerRow };
// What moved in memory. Does not wait for a row that somebody holds locked, and leaves one alone that was written since.
Saved save_breaker(const UnsavedBreaker &unsaved);

// The system of each step of a definition that depends on one, by step number.
std::unordered_map<int, int> systems_of(int named_task_id);

}  // namespace tasker::store
