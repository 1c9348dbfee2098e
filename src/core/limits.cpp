#include "core/limits.hpp"

#include <algorithm>
#include <cmath>

namespace tasker::core {

namespace {

inline constexpr double kAlmost = 1e-6;  // of a token: sums of fractions do not come out even

}  // namespace

std::uint64_t key_hash(std::string_view value) noexcept {
  std::uint64_t h = 0xCBF29CE484222325ull;
  for (const char c : value) h = (h ^ static_cast<unsigned char>(c)) * 0x100000001B3ull;
  h ^= h >> 29;
  return h == 0 ? 1 : h;
}

std::optional<std::vector<std::string>> pointer_path(std::string_view pointer) {
  if (pointer.empty() || pointer.front() != '/') return std::nullopt;
  std::vector<std::string> path;
  for (std::size_t i = 0; i < pointer.size(); i++) {
    if (pointer[i] == '/') {
      path.emplace_back();
    } else if (pointer[i] == '~') {
      if (++i == pointer.size() || (pointer[i] != '0' && pointer[i] != '1')) return std::nullopt;
      path.back() += pointer[i] == '0' ? '~' : '/';
    } else {
      path.back() += pointer[i];
    }
  }
  return path;
}

double TokenBucket::tokens(const LimitRule &rule, std::int64_t now) const noexcept {
  const double come = static_cast<double>(std::max<std::int64_t>(0, now - at_)) * rule.per_second / 1e6;
  return std::min<double>(tokens_ + come, rule.burst);
}

void TokenBucket::take(const LimitRule &rule, std::int64_t now, double count) noexcept {
  tokens_ = std::min<double>(tokens(rule, now) - count, rule.burst);
  at_ = now;
}

std::int64_t TokenBucket::when(const LimitRule &rule, std::int64_t now, int count) const noexcept {
  const double missing = count - tokens(rule, now);
  if (missing <= kAlmost) return now;
  return now + static_cast<std::int64_t>(std::ceil(missing * 1e6 / rule.per_second));
}

int whole_tokens(double tokens) noexcept { return static_cast<int>(std::floor(tokens + kAlmost)); }

}  // namespace tasker::core
