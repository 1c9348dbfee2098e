// How long an answer of the cache holds: the base of its function, bent by how it is used.
//
// ttl = base × hits × cost × frequency, clamped to 30 s … 1 h. What answers many is kept longer, what was dear to work out is kept
// longer, what hardly anybody asks for is not worth being old. Hits and frequency speak from the third question on: before
// that nothing is known of them. bench/cache replays accesses against fixed times.
#pragma once

#include <cstdint>
#include <string>

namespace tasker::core {

inline constexpr double kShortestTtl = 30, kLongestTtl = 3600;  // seconds
inline constexpr double kHitRateSmoothing = 0.9;                // weight of what was
// An access counts less the longer ago it was: by this much for each interval.
inline constexpr double kFrequencyDecay = 0.95;
inline constexpr std::int64_t kFrequencyInterval = 30'000'000;  // microseconds
inline constexpr std::int64_t kQuestionsToJudge = 3;

// What is learnt of one question. Plain data and empty when all zero, so that it may lie in shared memory. Times are
// microseconds since any epoch.
struct CacheUse {
  std::int64_t hits = 0, misses = 0;
  double hit_rate = 0;            // smoothed; begins in the middle
  double generation_seconds = 0;  // smoothed; what working it out takes; 0: not measured
  double frequency = 0;           // accesses, as of asked_at
  std::int64_t asked_at = 0;

  void record_question(std::int64_t now, bool hit) noexcept;
  void record_generation(double seconds) noexcept;
  double frequency_at(std::int64_t now) const noexcept;
  // What keeping the answer saves: accesses × their cost. The least goes first when room is short.
  double worth(std::int64_t now) const noexcept { return frequency_at(now) * generation_seconds; }
  bool judged() const noexcept { return hits + misses >= kQuestionsToJudge; }
};

struct TtlPlan {
  double base_seconds = 0;
  double hit_factor = 1, cost_factor = 1, frequency_factor = 1;
  double frequency = 0;    // that the factor is of
  double ttl_seconds = 0;  // but for the clamp the product of all
};

TtlPlan plan_ttl(double base_seconds, const CacheUse &use, std::int64_t now) noexcept;
// "90 s × 1.5 (hit rate 0.93 above 0.8) × 0.8 (takes 12 ms, below 100 ms)": only what bends.
std::string explain_ttl(const TtlPlan &plan, const CacheUse &use);

}  // namespace tasker::core
