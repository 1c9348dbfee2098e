// How a step of a task is named inside the program.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>

namespace tasker::store {

struct StepKey {
  std::int64_t task_id = 0;
  std::int32_t step_no = 0;   // from 1; 0 means the task as a whole
  std::int32_t element = -1;  // of a mapped step; -1 otherwise

  friend bool operator==(const StepKey &, const StepKey &) = default;
  friend auto operator<=>(const StepKey &, const StepKey &) = default;
};

struct StepKeyHash {
  std::size_t operator()(const StepKey &key) const noexcept {
    std::uint64_t h = static_cast<std::uint64_t>(key.task_id) * 0x9E3779B97F4A7C15ull;
    h ^= (static_cast<std::uint64_t>(static_cast<std::uint32_t>(key.step_no)) << 32 | static_cast<std::uint32_t>(key.element)) * 0xC2B2AE3D27D4EB4Full;
    return static_cast<std::size_t>(h ^ (h >> 29));
  }
};

}  // namespace tasker::store
