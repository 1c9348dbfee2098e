#include "core/ready_queue.hpp"

#include <algorithm>

namespace tasker::core {

ReadyRank ready_rank(std::int32_t priority, std::int64_t since, std::int64_t ageing, std::uint64_t sequence) noexcept {
  const std::int64_t level = std::clamp<std::int64_t>(ageing, 0, kMaxAgeing);
  if (level == 0) return {-static_cast<std::int64_t>(priority), sequence};
  return {since - priority * level, sequence};
}

}  // namespace tasker::core
