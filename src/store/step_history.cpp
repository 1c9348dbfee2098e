#include "store/step_history.hpp"

#include <algorithm>
#include <unordered_map>
#include <vector>

#include "pg/spi.hpp"
#include "store/step_stats.hpp"

namespace tasker::store {

namespace {

inline constexpr int kProbes = 16;
inline constexpr std::int64_t kHour = 3600 * USECS_PER_SEC;
inline constexpr TimestampTz kKeptFor = 5 * USECS_PER_SEC;
inline constexpr std::size_t kMaxKept = 1024;

constinit pg::Query upsert{
    "INSERT INTO tasker.step_history AS h (named_task_id, step_no, hour, attempt, attempts, successes, total_ms, max_ms)"
    " SELECT u.named_task_id, u.step_no, u.hour, u.attempt, u.attempts, u.successes, u.total_ms, u.max_ms FROM unnest($1, $2, $3, $4, $5, $6, $7, $8)"
    " AS u(named_task_id, step_no, hour, attempt, attempts, successes, total_ms, max_ms)"
    // A definition may have been replaced or dropped since.
    " WHERE EXISTS (SELECT FROM tasker.named_steps d WHERE d.named_task_id = u.named_task_id AND d.step_no = u.step_no)"
    " ON CONFLICT (named_task_id, step_no, hour, attempt) DO UPDATE SET attempts = h.attempts + excluded.attempts, successes = h.successes + excluded.successes,"
    " total_ms = h.total_ms + excluded.total_ms, max_ms = greatest(h.max_ms, excluded.max_ms)",
    8, {INT4ARRAYOID, INT4ARRAYOID, TIMESTAMPTZARRAYOID, INT4ARRAYOID, INT8ARRAYOID, INT8ARRAYOID, FLOAT8ARRAYOID, FLOAT8ARRAYOID}};

constinit pg::Query trim{"DELETE FROM tasker.step_history h WHERE h.hour < clock_timestamp() - interval '90 days'", 0, {}};

constinit pg::Query select_history{
    "SELECT coalesce(sum(h.attempts) FILTER (WHERE h.attempt = $3), 0)::bigint, coalesce(sum(h.successes) FILTER (WHERE h.attempt = $3), 0)::bigint,"
    " coalesce(sum(h.attempts) FILTER (WHERE h.attempt = $3 AND extract(hour FROM h.hour AT TIME ZONE 'UTC') = extract(hour FROM clock_timestamp() AT TIME ZONE 'UTC')), 0)::bigint,"
    " coalesce(sum(h.successes) FILTER (WHERE h.attempt = $3 AND extract(hour FROM h.hour AT TIME ZONE 'UTC') = extract(hour FROM clock_timestamp() AT TIME ZONE 'UTC')), 0)::bigint"
    " FROM tasker.step_history h WHERE h.named_task_id = $1 AND h.step_no = $2 AND h.hour >= clock_timestamp() - make_interval(days => $4)",
    4, {INT4OID, INT4OID, INT4OID, INT4OID}};

std::uint64_t hash(const HistoryEntry &entry) {
  std::uint64_t h = static_cast<std::uint64_t>(entry.database) << 32 ^ static_cast<std::uint64_t>(static_cast<std::uint32_t>(entry.named_task_id)) << 20 ^
                    static_cast<std::uint64_t>(static_cast<std::uint32_t>(entry.step_no)) << 4 ^ static_cast<std::uint64_t>(entry.attempt) ^
                    static_cast<std::uint64_t>(entry.hour) << 40;
  h *= 0x9E3779B97F4A7C15ull;
  return h ^ (h >> 31);
}

bool same_key(const HistoryEntry &a, const HistoryEntry &b) {
  return a.database == b.database && a.named_task_id == b.named_task_id && a.step_no == b.step_no && a.attempt == b.attempt && a.hour == b.hour;
}

// Counts of this database, taken out of shared memory.
std::vector<HistoryEntry> take_counts() {
  std::vector<HistoryEntry> out;
  out.reserve(kHistoryEntries);  // nothing is allocated under the lock
  const LockGuard guard(shared->stats_lock, LW_EXCLUSIVE);
  for (HistoryEntry &entry : shared->history) {
    if (entry.attempts == 0 || entry.database != MyDatabaseId) continue;
    out.push_back(entry);
    entry.attempts = 0;
  }
  return out;
}

struct Kept {
  StepHistory history;
  TimestampTz at = 0;
};
using Cache = std::unordered_map<std::uint64_t, Kept>;
constinit Cache *cache = nullptr;

}  // namespace

void count_outcome(int named_task_id, int step_no, int attempt, bool success, double milliseconds) {
  if (shared == nullptr) return;
  if (attempt == 1 && success) note_first_attempt(named_task_id, step_no, true);
  HistoryEntry wanted{};
  wanted.database = MyDatabaseId;
  wanted.named_task_id = named_task_id;
  wanted.step_no = step_no;
  wanted.attempt = std::min(attempt, core::kMaxHistoryAttempt);
  wanted.hour = GetCurrentTimestamp() / kHour;
  const std::uint64_t start = hash(wanted);
  const LockGuard guard(shared->stats_lock, LW_EXCLUSIVE);
  HistoryEntry *place = nullptr;
  for (std::uint64_t i = 0; i < kProbes; i++) {
    HistoryEntry &entry = shared->history[(start + i) % kHistoryEntries];
    if (entry.attempts > 0 && same_key(entry, wanted)) {
      place = &entry;
      break;
    }
    if (entry.attempts == 0 && place == nullptr) place = &entry;
  }
  if (place == nullptr) return;  // more kinds of steps in one second than there is room: a sample less
  if (place->attempts == 0) *place = wanted;
  place->attempts++;
  if (!success) return;
  place->successes++;
  place->total_ms += milliseconds;
  place->max_ms = std::max(place->max_ms, milliseconds);
}

void write_history() {
  const std::vector<HistoryEntry> counts = take_counts();
  if (counts.empty()) return;
  pg::ArrayBuilder task(INT4OID), step(INT4OID), hour(TIMESTAMPTZOID), attempt(INT4OID), attempts(INT8OID), successes(INT8OID), total(FLOAT8OID), max(FLOAT8OID);
  for (const HistoryEntry &entry : counts) {
    task.int4(entry.named_task_id);
    step.int4(entry.step_no);
    hour.timestamp(entry.hour * kHour);
    attempt.int4(entry.attempt);
    attempts.int8(entry.attempts);
    successes.int8(entry.successes);
    total.float8(entry.total_ms);
    max.float8(entry.max_ms);
  }
  pg::execute(upsert, pg::Params().datum(task.datum()).datum(step.datum()).datum(hour.datum()).datum(attempt.datum()).datum(attempts.datum())
                          .datum(successes.datum()).datum(total.datum()).datum(max.datum()));
}

void trim_history() { pg::execute(trim); }

StepHistory step_history(int named_task_id, int step_no, int attempts) {
  if (cache == nullptr) cache = new Cache;
  const int next = std::min(attempts + 1, core::kMaxHistoryAttempt);
  const std::uint64_t key = static_cast<std::uint64_t>(static_cast<std::uint32_t>(named_task_id)) << 32 |
                            static_cast<std::uint64_t>(static_cast<std::uint32_t>(step_no)) << 4 | static_cast<std::uint64_t>(next);
  const TimestampTz now = GetCurrentTimestamp();
  if (const auto found = cache->find(key); found != cache->end() && now - found->second.at < kKeptFor) {
    found->second.history.recent = recent_first_attempts(named_task_id, step_no);
    return found->second.history;
  }
  if (cache->size() >= kMaxKept) cache->clear();
  const pg::Result read = pg::execute(select_history, pg::Params().int4(named_task_id).int4(step_no).int4(next).int4(kHistoryDays));
  Kept kept;
  kept.at = now;
  kept.history.same_attempt = {read.rows.int8(0, 1), read.rows.int8(0, 2)};
  kept.history.this_hour = {read.rows.int8(0, 3), read.rows.int8(0, 4)};
  kept.history.recent = recent_first_attempts(named_task_id, step_no);
  cache->insert_or_assign(key, kept);
  return kept.history;
}

}  // namespace tasker::store
