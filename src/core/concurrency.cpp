#include "core/concurrency.hpp"

#include <algorithm>
#include <cmath>

namespace tasker::core {

namespace {

// 1 where nothing is known, as if one thing were open of one.
double share(std::int64_t part, std::int64_t whole) noexcept {
  return std::min(1.0, static_cast<double>(std::max<std::int64_t>(part, 1)) / static_cast<double>(std::max<std::int64_t>(whole, 1)));
}

int by_connections(const ConcurrencyPlan &plan, int min, int max) noexcept {
  const int base = std::max(min, static_cast<int>(std::min(plan.available * plan.pressure_factor, static_cast<double>(max))));
  int out = base;
  switch (plan.pressure) {
    case Pressure::kLow:
      break;
    case Pressure::kModerate:
      out = std::min(base, plan.max_safe);
      break;
    case Pressure::kHigh:
      out = static_cast<int>(std::min(0.7 * base, static_cast<double>(plan.max_safe)));
      break;
    case Pressure::kCritical:
      out = std::min(min, plan.max_safe);
      break;
  }
  return std::clamp(out, min, max);
}

int by_load(double load, int min, int max) noexcept {
  if (load <= 0.3) return max;
  if (load <= 0.6) return static_cast<int>(std::lround(0.6 * (max - min) + min));
  return std::min(min + 1, max);
}

}  // namespace

double concurrency_factor(Pressure pressure) noexcept {
  switch (pressure) {
    case Pressure::kLow:
      return 0.8;
    case Pressure::kModerate:
      return 0.6;
    case Pressure::kHigh:
      return 0.4;
    case Pressure::kCritical:
      break;
  }
  return 0.2;
}

const char *connection_health(Pressure pressure) noexcept {
  switch (pressure) {
    case Pressure::kLow:
    case Pressure::kModerate:
      return "healthy";
    case Pressure::kHigh:
      return "degraded";
    case Pressure::kCritical:
      break;
  }
  return "critical";
}

ConcurrencyPlan plan_concurrency(const ConcurrencyInputs &in) noexcept {
  const int max = std::max(in.max, 1), min = std::clamp(in.min, 1, max);
  ConcurrencyPlan plan;
  plan.available = static_cast<int>(std::max<std::int64_t>(0, std::int64_t{in.max_connections} - std::max(in.connections, 0)));
  plan.utilisation = in.max_connections > 0 ? std::clamp(std::round(1000.0 * in.connections / in.max_connections) / 1000, 0.0, 1.0) : 1.0;
  plan.pressure = pressure_of(plan.utilisation);
  plan.pressure_factor = concurrency_factor(plan.pressure);
  plan.max_safe = static_cast<int>(static_cast<std::int64_t>(plan.available) * 6 / 10);
  plan.by_connections = by_connections(plan, min, max);
  plan.load = 0.3 * share(in.open_tasks, in.tasks) + 0.7 * share(in.open_steps, in.steps);
  plan.by_load = by_load(plan.load, min, max);
  plan.result = std::clamp(std::min(plan.by_connections, plan.by_load), min, max);
  plan.result = std::max(1, std::min({plan.result, plan.max_safe, in.worker_slots}));
  return plan;
}

}  // namespace tasker::core
