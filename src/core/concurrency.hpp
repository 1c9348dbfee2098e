// How many steps of a database may run at once: by free connections, by free worker slots, by how much is open.
//
// Three parts, of which the smallest counts, within the bounds of the settings. But whatever the bounds say, never
// more than 60 % of the free connections: steps open connections of their own, and so do those who wait for them.
// One may always run, or nothing would ever end.
#pragma once

#include <cstdint>
#include <vector>

#include "core/retry.hpp"

namespace tasker::core {

inline constexpr double kSafeShare = 0.6;         // of the free connections
inline constexpr int kEmergencyConcurrency = 3;   // when the inputs cannot be had

struct ConcurrencyInputs {
  int max_connections = 0, connections = 0;  // of client sessions
  int worker_slots = 0;                      // executors that are there, and free slots for more
  std::int64_t open_tasks = 0, tasks = 0, open_steps = 0, steps = 0;  // pending or in progress, of all
  int min = 3, max = 12;                     // min above max counts as max
};

struct ConcurrencyPlan {
  Pressure pressure = Pressure::kModerate;
  double utilisation = 0;     // share of the connections in use
  double pressure_factor = 0;  // of the free ones
  int available = 0;          // free connections
  int max_safe = 0;           // 60 % of them
  int by_connections = 0;
  double load = 0;
  int by_load = 0;
  int result = kEmergencyConcurrency;
};

double concurrency_factor(Pressure pressure) noexcept;
// healthy, degraded or critical
const char *connection_health(Pressure pressure) noexcept;
ConcurrencyPlan plan_concurrency(const ConcurrencyInputs &inputs) noexcept;

}  // namespace tasker::core
