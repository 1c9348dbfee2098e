#include "core/cache_policy.hpp"

#include <algorithm>
#include <cmath>
#include <cstdio>

namespace tasker::core {
namespace {

constexpr double kGoodHitRate = 0.8, kPoorHitRate = 0.3;
constexpr double kDearSeconds = 1, kCheapSeconds = 0.1;
constexpr double kOftenAsked = 100, kSeldomAsked = 5;

double hit_factor(double rate) noexcept { return rate > kGoodHitRate ? 1.5 : rate < kPoorHitRate ? 0.7 : 1; }
double cost_factor(double seconds) noexcept { return seconds > kDearSeconds ? 1.3 : seconds < kCheapSeconds ? 0.8 : 1; }
double frequency_factor(double frequency) noexcept { return frequency > kOftenAsked ? 1.2 : frequency < kSeldomAsked ? 0.9 : 1; }

std::string print(const char *format, double a, double b) {
  char text[96];
  std::snprintf(text, sizeof text, format, a, b);
  return text;
}

}  // namespace

void CacheUse::record_question(std::int64_t now, bool hit) noexcept {
  if (hits + misses == 0) hit_rate = (kGoodHitRate + kPoorHitRate) / 2;
  hit_rate = kHitRateSmoothing * hit_rate + (1 - kHitRateSmoothing) * (hit ? 1 : 0);
  frequency = frequency_at(now) + 1;
  asked_at = std::max(asked_at, now);
  (hit ? hits : misses)++;
}

void CacheUse::record_generation(double seconds) noexcept {
  if (std::isnan(seconds) || seconds < 0) return;
  // A function without a measurable time was still worked out.
  const double measured = std::max(seconds, 1e-6);
  generation_seconds = generation_seconds <= 0 ? measured : kHitRateSmoothing * generation_seconds + (1 - kHitRateSmoothing) * measured;
}

double CacheUse::frequency_at(std::int64_t now) const noexcept {
  if (now <= asked_at) return frequency;  // a clock that was set back
  return frequency * std::pow(kFrequencyDecay, static_cast<double>(now - asked_at) / static_cast<double>(kFrequencyInterval));
}

TtlPlan plan_ttl(double base_seconds, const CacheUse &use, std::int64_t now) noexcept {
  TtlPlan plan;
  plan.base_seconds = base_seconds;
  plan.frequency = use.frequency_at(now);
  if (use.judged()) {
    plan.hit_factor = hit_factor(use.hit_rate);
    plan.frequency_factor = frequency_factor(plan.frequency);
  }
  if (use.generation_seconds > 0) plan.cost_factor = cost_factor(use.generation_seconds);
  plan.ttl_seconds = std::clamp(base_seconds * plan.hit_factor * plan.cost_factor * plan.frequency_factor, kShortestTtl, kLongestTtl);
  return plan;
}

std::string explain_ttl(const TtlPlan &plan, const CacheUse &use) {
  std::string out = print("%.6g s", plan.base_seconds, 0);
  if (plan.hit_factor > 1) out += print(" × %.6g (hit rate %.2f, above 0.8)", plan.hit_factor, use.hit_rate);
  if (plan.hit_factor < 1) out += print(" × %.6g (hit rate %.2f, below 0.3)", plan.hit_factor, use.hit_rate);
  if (plan.cost_factor > 1) out += print(" × %.6g (takes %.1f s, above 1 s)", plan.cost_factor, use.generation_seconds);
  if (plan.cost_factor < 1) out += print(" × %.6g (takes %.1f ms, below 100 ms)", plan.cost_factor, use.generation_seconds * 1000);
  if (plan.frequency_factor > 1) out += print(" × %.6g (frequency %.0f, above 100)", plan.frequency_factor, plan.frequency);
  if (plan.frequency_factor < 1) out += print(" × %.6g (frequency %.1f, below 5)", plan.frequency_factor, plan.frequency);
  const double product = plan.base_seconds * plan.hit_factor * plan.cost_factor * plan.frequency_factor;
  if (product < plan.ttl_seconds) out += ", at least 30 s";
  if (product > plan.ttl_seconds) out += ", at most 1 h";
  if (!use.judged()) out += print(", fewer than %.0f questions yet", static_cast<double>(kQuestionsToJudge), 0);
  return out;
}

}  // namespace tasker::core
