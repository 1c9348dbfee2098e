// Fuzzes check_cron and next_fire: any bytes give either a fault in full or an expression that fires, later each time.
//
// The input is four bytes for a time zone, four for a moment, and the expression. Build and run, from this directory:
//   clang++-14 -std=c++20 -g -O1 -I../../src -fsanitize=fuzzer,address,undefined -fno-sanitize-recover=all \
//       -o cron_fuzz cron_fuzz.cpp ../../src/core/*.cpp
//   ./cron_fuzz -dict=cron.dict -max_total_time=60 corpus
#include <cstdint>
#include <cstdlib>
#include <cstring>

#include "core/cron.hpp"
#include "core/error.hpp"

namespace {

using namespace tasker;

void require(bool condition) {
  if (!condition) std::abort();
}

// Changes its offset at even distances, by anything up to two days.
class HashedZone : public core::ZoneRules {
 public:
  explicit HashedZone(std::uint32_t seed) : seed_(seed), length_(3600 * (1 + seed % 2000)) {}
  core::ZoneOffset offset_at(std::int64_t utc) const override {
    const std::int64_t number = utc / length_ - (utc % length_ < 0 ? 1 : 0);
    const std::uint32_t mixed = (static_cast<std::uint32_t>(number) * 2654435761U) ^ seed_;
    return {static_cast<int>(mixed % kTwoDays) - static_cast<int>(kTwoDays / 2), (number + 1) * length_};
  }

 private:
  static constexpr std::uint32_t kTwoDays = 2 * 86'400;
  std::uint32_t seed_;
  std::int64_t length_;
};

void check_fault(std::string_view text, const core::CronFault &fault) {
  require(fault.position <= text.size() && !fault.problem.empty() && !fault.hint.empty());
  try {
    core::parse_cron(text);
    std::abort();
  } catch (const Error &error) {
    require(error.sqlstate() == "22023");
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t *data, std::size_t size) {
  std::uint32_t seed = 0;
  std::int32_t after = 0;
  constexpr std::size_t kHead = sizeof seed + sizeof after;
  if (size < kHead) return 0;
  std::memcpy(&seed, data, sizeof seed);
  std::memcpy(&after, data + sizeof seed, sizeof after);
  const std::string_view text(reinterpret_cast<const char *>(data) + kHead, size - kHead);
  const core::CheckedCron checked = core::check_cron(text);
  if (checked.fault) {
    check_fault(text, *checked.fault);
    return 0;
  }
  require(core::parse_cron(text) == checked.expression);
  const HashedZone zone(seed);
  std::int64_t moment = after;
  for (int i = 0; i < 4; ++i) {
    const auto next = core::next_fire(checked.expression, zone, moment);
    require(next && *next > moment);
    require(core::next_fire(checked.expression, zone, *next - 1) == next);
    moment = *next;
  }
  return 0;
}
