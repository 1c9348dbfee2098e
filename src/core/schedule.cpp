#include "core/schedule.hpp"

#include <algorithm>

namespace tasker::core {

namespace {

// Steele, Lea and Flood's SplitMix64: every bit of the input moves half of the output's.
std::uint64_t mix(std::uint64_t value) {
  value += 0x9e3779b97f4a7c15U;
  value = (value ^ (value >> 30U)) * 0xbf58476d1ce4e5b9U;
  value = (value ^ (value >> 27U)) * 0x94d049bb133111ebU;
  return value ^ (value >> 31U);
}

}  // namespace

std::optional<Overlap> parse_overlap(std::string_view text) {
  if (text == "skip") return Overlap::kSkip;
  if (text == "queue") return Overlap::kQueue;
  if (text == "cancel_running") return Overlap::kCancelRunning;
  if (text == "allow") return Overlap::kAllow;
  return std::nullopt;
}

DueTimes due_times(const CronExpression &expression, const ZoneRules &zone, std::int64_t after, std::int64_t now, std::int64_t catch_up_seconds,
                   std::size_t limit) {
  DueTimes out;
  out.settled = after;
  out.next = next_fire(expression, zone, after);
  const std::int64_t oldest = now - std::max(catch_up_seconds, kGraceSeconds);
  if (out.next && *out.next < oldest) {
    out.missed = out.next;
    out.settled = oldest - 1;
    out.next = next_fire(expression, zone, out.settled);
  }
  while (out.next && *out.next <= now && out.fires.size() < limit) {
    out.fires.push_back(*out.next);
    out.settled = *out.next;
    out.next = next_fire(expression, zone, out.settled);
  }
  return out;
}

OnFire on_fire(Overlap overlap, std::size_t running, std::size_t queued) {
  if (overlap == Overlap::kAllow || (running == 0 && queued == 0)) return OnFire::kCreate;
  if (overlap == Overlap::kSkip) return OnFire::kSkip;
  if (overlap == Overlap::kCancelRunning) return OnFire::kCancelAndCreate;
  return queued >= static_cast<std::size_t>(kMaxQueuedFires) ? OnFire::kQueueIsFull : OnFire::kQueue;
}

std::int64_t put_off(std::int64_t schedule_id, std::int64_t fire_time, std::int64_t limit) {
  if (limit <= 0) return 0;
  const std::uint64_t mixed = mix(mix(static_cast<std::uint64_t>(schedule_id)) ^ static_cast<std::uint64_t>(fire_time));
  return static_cast<std::int64_t>(mixed % (static_cast<std::uint64_t>(limit) + 1));
}

}  // namespace tasker::core
