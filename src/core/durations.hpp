// Durations counted by size: what percentiles are read from when the durations themselves are gone.
//
// Bounds grow by the eighth root of two from 0.1 ms on, so a percentile is within 4.5 % of a duration that had this rank:
// the bound of its bucket is at most 9.1 % away from it, and what is told is the geometric middle, or the maximum if that is less.
#pragma once

#include <array>
#include <cstdint>

namespace tasker::core {

inline constexpr int kDurationBuckets = 240;  // the last begins at 25 hours
inline constexpr double kShortestMs = 0.1;    // the first ends here

// Not a number and negative durations count as none at all.
int duration_bucket(double milliseconds) noexcept;
// What is told of a duration in this bucket.
double duration_of_bucket(int bucket) noexcept;

// The durations of one period, added up.
struct Durations {
  std::array<std::int64_t, kDurationBuckets> counts{};
  std::int64_t count = 0;
  double total_ms = 0, max_ms = 0;

  void add(double milliseconds) noexcept;
  void add(int bucket, std::int64_t times) noexcept;  // without count, total_ms, max_ms
  void add(const Durations &other) noexcept;
  double mean_ms() const noexcept;  // 0 without any
  // The duration of rank ceil(share × count), as percentile_disc has it; 0 without any. share in [0, 1].
  double percentile_ms(double share) const noexcept;
};

}  // namespace tasker::core
