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

}  // namespace tasker::store
