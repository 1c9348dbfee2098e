#include "store/step_history.hpp"

#include <algorithm>
#include <unordered_map>
#include <vector>

#include "pg/fault.hpp"
#include "pg/spi.hpp"
#include "store/metric_totals.hpp"
#include "store/step_stats.hpp"

namespace tasker::store {

namespace {

inline constexpr int kProbes = 16;
inline constexpr TimestampTz kKeptFor = 5 * USECS_PER_SEC;
inline constexpr std::size_t kMaxKept = 1024;

// Two lists of buckets into one, and the longest of two lists of runs. h: the row, excluded: what is added.
#define ADD_UP \
  " total_ms = h.total_ms + excluded.total_ms, max_ms = greatest(h.max_ms, excluded.max_ms)," \
  " (buckets, counts) = (SELECT coalesce(array_agg(x.b ORDER BY x.b), '{}'), coalesce(array_agg(x.n ORDER BY x.b), '{}')" \
  "   FROM (SELECT u.b, sum(u.n)::integer AS n FROM (SELECT * FROM unnest(h.buckets, h.counts) UNION ALL SELECT * FROM unnest(excluded.buckets, excluded.counts)) u(b, n) GROUP BY u.b) x)," \
  " (slow_tasks, slow_ms) = (SELECT coalesce(array_agg(x.t ORDER BY x.ms DESC, x.t), '{}'), coalesce(array_agg(x.ms ORDER BY x.ms DESC, x.t), '{}')" \
  "   FROM (SELECT * FROM (SELECT * FROM unnest(h.slow_tasks, h.slow_ms) UNION ALL SELECT * FROM unnest(excluded.slow_tasks, excluded.slow_ms)) u(t, ms) ORDER BY u.ms DESC, u.t LIMIT 10) x)"
#define LISTS "u.buckets::integer[], u.counts::integer[], u.slow_tasks::bigint[], u.slow_ms::float8[]"
#define LIST_NAMES "buckets, counts, slow_tasks, slow_ms"

constinit pg::Query upsert_steps{
    "INSERT INTO tasker.step_history AS h (named_task_id, step_no, hour, attempt, attempts, successes, total_ms, max_ms, " LIST_NAMES ")"
    " SELECT u.named_task_id, u.step_no, u.hour, u.attempt, u.attempts, u.successes, u.total_ms, u.max_ms, " LISTS
    " FROM unnest($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)"
    " AS u(named_task_id, step_no, hour, attempt, attempts, successes, total_ms, max_ms, " LIST_NAMES ")"
    // A definition may have been replaced or dropped since.
    " WHERE EXISTS (SELECT FROM tasker.named_steps d WHERE d.named_task_id = u.named_task_id AND d.step_no = u.step_no)"
    " ON CONFLICT (named_task_id, step_no, hour, attempt) DO UPDATE SET attempts = h.attempts + excluded.attempts, successes = h.successes + excluded.successes," ADD_UP,
    12,
    {INT4ARRAYOID, INT4ARRAYOID, TIMESTAMPTZARRAYOID, INT4ARRAYOID, INT8ARRAYOID, INT8ARRAYOID, FLOAT8ARRAYOID, FLOAT8ARRAYOID, TEXTARRAYOID, TEXTARRAYOID, TEXTARRAYOID, TEXTARRAYOID}};

constinit pg::Query upsert_tasks{
    "INSERT INTO tasker.task_outcomes AS h (hour, named_task_id, state, tasks, started, total_ms, max_ms, " LIST_NAMES ")"
    " SELECT u.hour, u.named_task_id, u.state::tasker.task_state, u.tasks, u.started, u.total_ms, u.max_ms, " LISTS
    " FROM unnest($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11) AS u(hour, named_task_id, state, tasks, started, total_ms, max_ms, " LIST_NAMES ")"
    " WHERE EXISTS (SELECT FROM tasker.named_tasks n WHERE n.named_task_id = u.named_task_id)"
    " ON CONFLICT (hour, named_task_id, state) DO UPDATE SET tasks = h.tasks + excluded.tasks, started = h.started + excluded.started," ADD_UP,
    11,
    {TIMESTAMPTZARRAYOID, INT4ARRAYOID, TEXTARRAYOID, INT8ARRAYOID, INT8ARRAYOID, FLOAT8ARRAYOID, FLOAT8ARRAYOID, TEXTARRAYOID, TEXTARRAYOID, TEXTARRAYOID, TEXTARRAYOID}};

constinit pg::Query trim_steps{"DELETE FROM tasker.step_history h WHERE h.hour < clock_timestamp() - interval '90 days'", 0, {}};
constinit pg::Query trim_tasks{"DELETE FROM tasker.task_outcomes h WHERE h.hour < clock_timestamp() - interval '90 days'", 0, {}};

constinit pg::Query select_history{
    "SELECT coalesce(sum(h.attempts) FILTER (WHERE h.attempt = $3), 0)::bigint, coalesce(sum(h.successes) FILTER (WHERE h.attempt = $3), 0)::bigint,"
    " coalesce(sum(h.attempts) FILTER (WHERE h.attempt = $3 AND extract(hour FROM h.hour AT TIME ZONE 'UTC') = extract(hour FROM clock_timestamp() AT TIME ZONE 'UTC')), 0)::bigint,"
    " coalesce(sum(h.successes) FILTER (WHERE h.attempt = $3 AND extract(hour FROM h.hour AT TIME ZONE 'UTC') = extract(hour FROM clock_timestamp() AT TIME ZONE 'UTC')), 0)::bigint"
    " FROM tasker.step_history h WHERE h.named_task_id = $1 AND h.step_no = $2 AND h.hour >= clock_timestamp() - make_interval(days => $4)",
    4, {INT4OID, INT4OID, INT4OID, INT4OID}};

std::uint64_t hash(const HistoryKey &key) noexcept {
  std::uint64_t h = static_cast<std::uint64_t>(key.database) << 32 ^ static_cast<std::uint64_t>(static_cast<std::uint32_t>(key.named_task_id)) << 20 ^
                    static_cast<std::uint64_t>(static_cast<std::uint32_t>(key.step_no)) << 4 ^ static_cast<std::uint64_t>(key.attempt) ^
                    static_cast<std::uint64_t>(key.hour) << 40;
  h *= 0x9E3779B97F4A7C15ull;
  return h ^ (h >> 31);
}

// The entry of a key; null when there are more kinds of steps in a few seconds than there is room. Caller holds stats_lock.
HistoryEntry *entry_of(const HistoryKey &key) noexcept {
  const std::uint64_t start = hash(key);
  HistoryEntry *place = nullptr;
  for (std::uint64_t i = 0; i < kProbes; i++) {
    HistoryEntry &entry = shared->history[(start + i) % kHistoryEntries];
    if (entry.attempts > 0 && entry.key == key) return &entry;
    if (entry.attempts == 0 && place == nullptr) place = &entry;
  }
  if (place != nullptr) {
    *place = HistoryEntry{};
    place->key = key;
  }
  return place;
}

void add_slow(HistoryEntry &entry, const SlowRun &run) noexcept {
  if (entry.slow_runs < kSlowestKept) {
    entry.slowest[entry.slow_runs++] = run;
    return;
  }
  SlowRun *least = std::min_element(std::begin(entry.slowest), std::end(entry.slowest), [](const SlowRun &a, const SlowRun &b) { return a.ms < b.ms; });
  if (least->ms < run.ms) *least = run;
}

void add_entry(HistoryEntry &to, const HistoryEntry &from) noexcept {
  to.attempts += from.attempts;
  to.successes += from.successes;
  to.total_ms += from.total_ms;
  to.max_ms = std::max(to.max_ms, from.max_ms);
  for (int i = 0; i < core::kDurationBuckets; i++) to.durations[i] += from.durations[i];
  for (int i = 0; i < from.slow_runs; i++) add_slow(to, from.slowest[i]);
}

// Counts of this database, taken out of shared memory.
std::map<HistoryKey, HistoryEntry> take_counts() {
  std::vector<HistoryEntry> taken;
  taken.reserve(kHistoryEntries);  // nothing is allocated under the lock
  {
    const LockGuard guard(shared->stats_lock, LW_EXCLUSIVE);
    for (HistoryEntry &entry : shared->history) {
      if (entry.attempts == 0 || entry.key.database != MyDatabaseId) continue;
      taken.push_back(entry);
      entry.attempts = 0;
    }
  }
  std::map<HistoryKey, HistoryEntry> out;
  for (const HistoryEntry &entry : taken) {
    const auto [place, fresh] = out.try_emplace(entry.key, entry);
    if (!fresh) add_entry(place->second, entry);  // a place before it got free in between
  }
  return out;
}

// They could not be written: they wait for the next time.
void put_back(const std::map<HistoryKey, HistoryEntry> &counts) noexcept {
  const LockGuard guard(shared->stats_lock, LW_EXCLUSIVE);
  for (const auto &[key, entry] : counts)
    if (HistoryEntry *place = entry_of(key)) add_entry(*place, entry);
}

// The lists of one entry, each as an array's text: an array of arrays of different lengths is none in SQL.
class ListColumns {
 public:
  void add(const HistoryEntry &entry) {
    std::string buckets, counts, tasks, times;
    for (int i = 0; i < core::kDurationBuckets; i++) {
      if (entry.durations[i] == 0) continue;
      append(buckets, std::to_string(i));
      append(counts, std::to_string(entry.durations[i]));
    }
    std::vector<SlowRun> slow(entry.slowest, entry.slowest + entry.slow_runs);
    std::sort(slow.begin(), slow.end(), [](const SlowRun &a, const SlowRun &b) { return a.ms != b.ms ? a.ms > b.ms : a.task_id < b.task_id; });
    for (const SlowRun &run : slow) {
      append(tasks, std::to_string(run.task_id));
      append(times, std::to_string(run.ms));
    }
    buckets_.text("{" + buckets + "}");
    counts_.text("{" + counts + "}");
    tasks_.text("{" + tasks + "}");
    times_.text("{" + times + "}");
  }
  void append_to(pg::Params &params) { params.datum(buckets_.datum()).datum(counts_.datum()).datum(tasks_.datum()).datum(times_.datum()); }

 private:
  static void append(std::string &list, const std::string &value) { list += (list.empty() ? "" : ",") + value; }
  pg::ArrayBuilder buckets_{TEXTOID}, counts_{TEXTOID}, tasks_{TEXTOID}, times_{TEXTOID};
};

void add_steps(const std::vector<const HistoryEntry *> &entries) {
  if (entries.empty()) return;
  pg::ArrayBuilder task(INT4OID), step(INT4OID), hour(TIMESTAMPTZOID), attempt(INT4OID), attempts(INT8OID), successes(INT8OID), total(FLOAT8OID), max(FLOAT8OID);
  ListColumns lists;
  for (const HistoryEntry *entry : entries) {
    task.int4(entry->key.named_task_id);
    step.int4(entry->key.step_no);
    hour.timestamp(entry->key.hour * kHistoryHour);
    attempt.int4(entry->key.attempt);
    attempts.int8(entry->attempts);
    successes.int8(entry->successes);
    total.float8(entry->total_ms);
    max.float8(entry->max_ms);
    lists.add(*entry);
  }
  pg::Params params;
  params.datum(task.datum()).datum(step.datum()).datum(hour.datum()).datum(attempt.datum()).datum(attempts.datum()).datum(successes.datum()).datum(total.datum()).datum(max.datum());
  lists.append_to(params);
  pg::execute(upsert_steps, params);
}

void add_tasks(const std::vector<const HistoryEntry *> &entries) {
  if (entries.empty()) return;
  pg::ArrayBuilder hour(TIMESTAMPTZOID), task(INT4OID), state(TEXTOID), tasks(INT8OID), started(INT8OID), total(FLOAT8OID), max(FLOAT8OID);
  ListColumns lists;
  for (const HistoryEntry *entry : entries) {
    hour.timestamp(entry->key.hour * kHistoryHour);
    task.int4(entry->key.named_task_id);
    state.text(core::to_string(static_cast<core::TaskState>(entry->key.attempt)));
    tasks.int8(entry->attempts);
    started.int8(entry->successes);
    total.float8(entry->total_ms);
    max.float8(entry->max_ms);
    lists.add(*entry);
  }
  pg::Params params;
  params.datum(hour.datum()).datum(task.datum()).datum(state.datum()).datum(tasks.datum()).datum(started.datum()).datum(total.datum()).datum(max.datum());
  lists.append_to(params);
  pg::execute(upsert_tasks, params);
}

// ---- moves of tasks, until they are committed

struct TaskNote {
  HistoryKey key;
  std::int64_t tasks;
  std::int64_t task_id;
  double ms;      // < 0: never started
  int level;      // of the subtransaction it was made in
};
constinit std::vector<TaskNote> *noted = nullptr;

// Two that only count may be one.
bool same_count(const TaskNote &a, const TaskNote &b) { return a.key == b.key && a.level == b.level && a.ms < 0 && b.ms < 0; }

void count_notes() noexcept {
  const LockGuard guard(shared->stats_lock, LW_EXCLUSIVE);
  for (const TaskNote &note : *noted) {
    HistoryEntry *entry = entry_of(note.key);
    if (entry == nullptr) continue;
    entry->attempts += note.tasks;
    if (note.ms >= 0) add_run(*entry, note.task_id, note.ms);
  }
}

// Loads, stores and one lock: nothing here can raise.
extern "C" void count_at_transaction_end(XactEvent event, void *) {
  if (event == XACT_EVENT_PRE_COMMIT || event == XACT_EVENT_PRE_PREPARE || event == XACT_EVENT_PARALLEL_PRE_COMMIT) return;
  if (noted->empty()) return;
  if (event == XACT_EVENT_COMMIT) count_notes();
  noted->clear();
}

extern "C" void sort_at_subtransaction_end(SubXactEvent event, SubTransactionId, SubTransactionId, void *) {
  if (noted->empty() || (event != SUBXACT_EVENT_ABORT_SUB && event != SUBXACT_EVENT_COMMIT_SUB)) return;
  // Those of the inner levels are the last ones.
  const int level = GetCurrentTransactionNestLevel();
  std::size_t inner = noted->size();
  while (inner > 0 && (*noted)[inner - 1].level >= level) inner--;
  if (event == SUBXACT_EVENT_ABORT_SUB) {
    noted->erase(noted->begin() + static_cast<std::ptrdiff_t>(inner), noted->end());
    return;
  }
  for (std::size_t i = inner; i < noted->size(); i++) (*noted)[i].level = level - 1;
  for (std::size_t last = noted->size(); last > 1 && last > inner && same_count((*noted)[last - 2], (*noted)[last - 1]); last--) {
    (*noted)[last - 2].tasks += (*noted)[last - 1].tasks;
    noted->pop_back();
  }
}

void note(int named_task_id, core::TaskState state, TimestampTz at, std::int64_t tasks, std::int64_t task_id, double ms) {
  if (shared == nullptr) return;
  if (noted == nullptr) {
    noted = new std::vector<TaskNote>;
    pg::call([] {
      RegisterXactCallback(count_at_transaction_end, nullptr);
      RegisterSubXactCallback(sort_at_subtransaction_end, nullptr);
    });
  }
  const HistoryKey key{MyDatabaseId, named_task_id, 0, static_cast<int>(state), at / kHistoryHour};
  const int level = GetCurrentTransactionNestLevel();
  if (ms < 0 && !noted->empty() && noted->back().key == key && noted->back().level == level && noted->back().ms < 0) noted->back().tasks += tasks;
  else noted->push_back({key, tasks, task_id, ms, level});
}

struct Kept {
  StepHistory history;
  TimestampTz at = 0;
};
using Cache = std::unordered_map<std::uint64_t, Kept>;
constinit Cache *cache = nullptr;

}  // namespace

void add_run(HistoryEntry &entry, std::int64_t task_id, double milliseconds) noexcept {
  entry.successes++;
  entry.total_ms += milliseconds;
  entry.max_ms = std::max(entry.max_ms, milliseconds);
  entry.durations[core::duration_bucket(milliseconds)]++;
  add_slow(entry, {task_id, milliseconds});
}

void count_outcome(int named_task_id, const core::Learner &step, const StepKey &key, int attempt, bool success, double milliseconds) {
  if (shared == nullptr) return;
  if (attempt == 1 && success) note_first_attempt(named_task_id, step, true);
  const HistoryKey wanted{MyDatabaseId, named_task_id, key.step_no, std::min(attempt, core::kMaxHistoryAttempt), GetCurrentTimestamp() / kHistoryHour};
  const LockGuard guard(shared->stats_lock, LW_EXCLUSIVE);
  HistoryEntry *entry = entry_of(wanted);
  if (entry == nullptr) return;
  entry->attempts++;
  if (success) add_run(*entry, key.task_id, milliseconds);
}

void note_task_end(int named_task_id, std::int64_t task_id, core::TaskState state, std::optional<TimestampTz> started_at, TimestampTz ended_at) {
  note(named_task_id, state, ended_at, 1, task_id, started_at ? static_cast<double>(std::max<TimestampTz>(0, ended_at - *started_at)) / 1000.0 : -1);
}

void note_tasks_created(int named_task_id, std::int64_t tasks) { note(named_task_id, core::TaskState::kPending, GetCurrentTimestamp(), tasks, 0, -1); }

void add_to_history(const std::map<HistoryKey, HistoryEntry> &counts) {
  std::vector<const HistoryEntry *> steps, tasks;
  for (const auto &[key, entry] : counts) (key.step_no == 0 ? tasks : steps).push_back(&entry);
  add_steps(steps);
  add_tasks(tasks);
}

void write_history() {
  if (shared == nullptr) return;
  const std::map<HistoryKey, HistoryEntry> counts = take_counts();
  try {
    TASKER_FAULT("history.taken");
    add_to_history(counts);
    add_to_totals(counts);
  } catch (...) {
    put_back(counts);
    throw;
  }
}

void trim_history() {
  pg::execute(trim_steps);
  pg::execute(trim_tasks);
}

StepHistory step_history(int named_task_id, int step_no, const core::Learner &step, int attempts) {
  if (cache == nullptr) cache = new Cache;
  const int next = std::min(attempts + 1, core::kMaxHistoryAttempt);
  const std::uint64_t key = static_cast<std::uint64_t>(static_cast<std::uint32_t>(named_task_id)) << 32 |
                            static_cast<std::uint64_t>(static_cast<std::uint32_t>(step_no)) << 4 | static_cast<std::uint64_t>(next);
  const TimestampTz now = GetCurrentTimestamp();
  if (const auto found = cache->find(key); found != cache->end() && now - found->second.at < kKeptFor) {
    found->second.history.recent = recent_first_attempts(named_task_id, step);
    return found->second.history;
  }
  if (cache->size() >= kMaxKept) cache->clear();
  const pg::Result read = pg::execute(select_history, pg::Params().int4(named_task_id).int4(step_no).int4(next).int4(kHistoryDays));
  Kept kept;
  kept.at = now;
  kept.history.same_attempt = {read.rows.int8(0, 1), read.rows.int8(0, 2)};
  kept.history.this_hour = {read.rows.int8(0, 3), read.rows.int8(0, 4)};
  kept.history.recent = recent_first_attempts(named_task_id, step);
  cache->insert_or_assign(key, kept);
  return kept.history;
}

}  // namespace tasker::store
