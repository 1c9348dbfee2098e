// Retention by hand: rules of namespaces, and removal in the caller's transaction.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

namespace tasker::engine {

// keep, in microseconds: nothing takes the rule away, a negative one keeps for ever. False when it was so already.
bool set_retention(const std::string &ns, std::optional<std::int64_t> keep);

struct Removal {
  std::optional<std::int64_t> older_than;  // microseconds; else as setting and rules say
  std::optional<std::string> ns;
  int max_tasks = 0;
};
// How many tasks are gone.
std::int64_t remove_finished(const Removal &wanted);

}  // namespace tasker::engine
