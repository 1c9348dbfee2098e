#include "store/step_stats.hpp"

#include <algorithm>
#include <iterator>

namespace tasker::store {

namespace {

std::uint64_t key_of(int named_task_id, int step_no) {
  std::uint64_t h = static_cast<std::uint64_t>(MyDatabaseId) << 32 ^ static_cast<std::uint64_t>(static_cast<std::uint32_t>(named_task_id)) << 20 ^
                    static_cast<std::uint32_t>(step_no);
  h *= 0x9E3779B97F4A7C15ull;
  h ^= h >> 31;
  return h | 1;  // never 0, which marks a free entry
}

StepStats &entry_of(std::uint64_t key) { return shared->stats[(key >> 1) % kStatEntries]; }

void claim(StepStats &entry, std::uint64_t key) {
  if (entry.key == key) return;
  entry.key = key;
  entry.runs = 0;
  entry.solo_runs = 0;
  entry.recent = {};
}

}  // namespace

bool is_batchable(int named_task_id, int step_no, double limit_ms) {
  const std::uint64_t key = key_of(named_task_id, step_no);
  LockGuard guard(shared->stats_lock, LW_SHARED);
  const StepStats &entry = entry_of(key);
  if (entry.key != key || entry.runs < static_cast<std::uint32_t>(kMinimumRuns) || entry.solo_runs > 0) return false;
  const int count = static_cast<int>(std::min<std::uint32_t>(entry.runs, kStatWindow));
  const auto slow = std::count_if(entry.durations_ms, entry.durations_ms + count, [=](float d) { return d > limit_ms; });
  return slow * 20 <= count;
}

void record_duration(int named_task_id, int step_no, double milliseconds) {
  const std::uint64_t key = key_of(named_task_id, step_no);
  LockGuard guard(shared->stats_lock, LW_EXCLUSIVE);
  StepStats &entry = entry_of(key);
  claim(entry, key);
  entry.durations_ms[entry.runs % kStatWindow] = static_cast<float>(milliseconds);
  entry.runs++;
  if (entry.solo_runs > 0) entry.solo_runs--;
}

void record_trouble(int named_task_id, int step_no) {
  const std::uint64_t key = key_of(named_task_id, step_no);
  LockGuard guard(shared->stats_lock, LW_EXCLUSIVE);
  StepStats &entry = entry_of(key);
  claim(entry, key);
  entry.solo_runs = kSoloAfterTrouble;
}

void note_first_attempt(int named_task_id, int step_no, bool success) {
  if (shared == nullptr) return;
  const std::uint64_t key = key_of(named_task_id, step_no);
  const TimestampTz now = GetCurrentTimestamp();
  LockGuard guard(shared->stats_lock, LW_EXCLUSIVE);
  StepStats &entry = entry_of(key);
  claim(entry, key);
  entry.recent.record(now, success);
}

core::SuccessHistory recent_first_attempts(int named_task_id, int step_no) {
  if (shared == nullptr) return {};
  const std::uint64_t key = key_of(named_task_id, step_no);
  const TimestampTz now = GetCurrentTimestamp();
  LockGuard guard(shared->stats_lock, LW_SHARED);
  const StepStats &entry = entry_of(key);
  return entry.key == key ? entry.recent.known(now) : core::SuccessHistory{};
}

StepDurations step_durations(int named_task_id, int step_no, double below_ms) {
  if (shared == nullptr) return {};
  const std::uint64_t key = key_of(named_task_id, step_no);
  float durations[kStatWindow];
  int count = 0;
  {
    LockGuard guard(shared->stats_lock, LW_SHARED);
    const StepStats &entry = entry_of(key);
    if (entry.key != key) return {};
    const int known = static_cast<int>(std::min<std::uint32_t>(entry.runs, kStatWindow));
    for (int i = 0; i < known; i++)
      if (below_ms <= 0 || entry.durations_ms[i] < below_ms) durations[count++] = entry.durations_ms[i];
  }
  if (count == 0) return {};
  std::sort(durations, durations + count);
  return {count, durations[(count - 1) / 2], durations[std::min(count - 1, count * 95 / 100)], durations[count - 1]};
}

}  // namespace tasker::store
