#include "core/durations.hpp"

#include <algorithm>
#include <cmath>

namespace tasker::core {

namespace {

constexpr double kBucketsPerDoubling = 8;

}  // namespace

int duration_bucket(double milliseconds) noexcept {
  if (!(milliseconds >= kShortestMs)) return 0;
  const double bucket = 1 + std::floor(kBucketsPerDoubling * std::log2(milliseconds / kShortestMs));
  return bucket >= kDurationBuckets ? kDurationBuckets - 1 : static_cast<int>(bucket);
}

double duration_of_bucket(int bucket) noexcept {
  if (bucket <= 0) return kShortestMs / 2;
  return kShortestMs * std::exp2((static_cast<double>(bucket) - 0.5) / kBucketsPerDoubling);
}

void Durations::add(double milliseconds) noexcept {
  if (!(milliseconds >= 0)) milliseconds = 0;
  counts[static_cast<std::size_t>(duration_bucket(milliseconds))]++;
  count++;
  total_ms += milliseconds;
  max_ms = std::max(max_ms, milliseconds);
}

void Durations::add(int bucket, std::int64_t times) noexcept {
  if (bucket >= 0 && bucket < kDurationBuckets) counts[static_cast<std::size_t>(bucket)] += times;
}

void Durations::add(const Durations &other) noexcept {
  for (std::size_t i = 0; i < counts.size(); i++) counts[i] += other.counts[i];
  count += other.count;
  total_ms += other.total_ms;
  max_ms = std::max(max_ms, other.max_ms);
}

double Durations::mean_ms() const noexcept { return count > 0 ? total_ms / static_cast<double>(count) : 0; }

double Durations::percentile_ms(double share) const noexcept {
  std::int64_t counted = 0;
  for (const std::int64_t n : counts) counted += n;
  if (counted == 0) return 0;
  const std::int64_t rank = std::clamp<std::int64_t>(static_cast<std::int64_t>(std::ceil(share * static_cast<double>(counted))), 1, counted);
  std::int64_t seen = 0;
  for (int bucket = 0; bucket < kDurationBuckets; bucket++) {
    seen += counts[static_cast<std::size_t>(bucket)];
    if (seen >= rank) return bucket == kDurationBuckets - 1 ? max_ms : std::min(duration_of_bucket(bucket), max_ms);
  }
  return max_ms;
}

}  // namespace tasker::core
