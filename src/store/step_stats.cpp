#include "store/step_stats.hpp"

#include <algorithm>
#include <cstdlib>
#include <iterator>

#include "pg/spi.hpp"
#include "store/settings.hpp"

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

void claim(StepStats &entry, std::uint64_t key, int named_task_id, int step_no) {
  if (entry.key == key) return;
  entry = {};
  entry.key = key;
  entry.database = MyDatabaseId;
  entry.named_task_id = named_task_id;
  entry.step_no = step_no;
}

// Null: nothing is remembered under this number. Caller holds stats_lock.
const StepStats *find(int named_task_id, int number) {
  if (number == 0) return nullptr;
  const std::uint64_t key = key_of(named_task_id, number);
  const StepStats &entry = entry_of(key);
  return entry.key == key ? &entry : nullptr;
}

// Has the step enough runs of its own to be judged by them?
bool is_known(const StepStats *own) { return own != nullptr && (own->runs >= static_cast<std::uint32_t>(kMinimumRuns) || own->solo_runs > 0); }

int known_runs(const StepStats &entry) { return static_cast<int>(std::min<std::uint32_t>(entry.runs, kStatWindow)); }

// Of copies, so that nothing is allocated under the lock. Precondition: count is at least 1.
core::BatchSamples samples_of(float *durations, int count, int failures, bool troubled) {
  core::BatchSamples samples{count, failures, 0, 0, troubled};
  for (int i = 0; i < count; i++) samples.mean_ms += static_cast<double>(durations[i]) / count;
  const int p95 = (count * 95 + 99) / 100 - 1;  // one in twenty may be slower, as is_batchable has it
  std::nth_element(durations, durations + p95, durations + count);
  samples.p95_ms = durations[p95];
  return samples;
}

// Under the lock.
void learn(StepStats &entry) {
  const int count = known_runs(entry);
  float durations[kStatWindow];
  std::copy(entry.durations_ms, entry.durations_ms + count, durations);
  int failures = 0;
  for (const std::uint64_t bits : entry.failed) failures += __builtin_popcountll(bits);
  entry.batch_size = core::learn_batch(samples_of(durations, count, failures, false), settings.max_batch_duration_ms).size;
}

void put(StepStats &entry, double milliseconds, bool failed) {
  const std::uint32_t at = entry.runs % kStatWindow;
  entry.durations_ms[at] = static_cast<float>(milliseconds);
  const std::uint64_t bit = 1ull << (at % 64);
  entry.failed[at / 64] = failed ? entry.failed[at / 64] | bit : entry.failed[at / 64] & ~bit;
  entry.runs++;
}

inline constexpr Oid kBoolArray = 1000;  // boolean[], of every release; its name differs
inline constexpr std::size_t kWrittenAtOnce = 256;

constinit pg::Query upsert_learning{
    "INSERT INTO tasker.batch_learnings AS l (named_task_id, step_no, durations_ms, failed, solo_runs, written_at)"
    " SELECT $1, $2, $3, $4, $5, clock_timestamp()"
    // A definition may have been replaced or dropped since.
    " WHERE EXISTS (SELECT FROM tasker.named_steps d WHERE d.named_task_id = $1 AND d.step_no = abs($2))"
    " ON CONFLICT (named_task_id, step_no) DO UPDATE SET durations_ms = excluded.durations_ms, failed = excluded.failed,"
    " solo_runs = excluded.solo_runs, written_at = excluded.written_at",
    5, {INT4OID, INT4OID, FLOAT8ARRAYOID, kBoolArray, INT4OID}};
constinit pg::Query delete_orphans{
    "DELETE FROM tasker.batch_learnings l WHERE NOT EXISTS (SELECT FROM tasker.named_steps d WHERE d.named_task_id = l.named_task_id AND d.step_no = abs(l.step_no))", 0, {}};
// As many as there is room for in memory.
constinit pg::Query select_learnings{
    "SELECT l.named_task_id, l.step_no, l.solo_runs, l.durations_ms::text[], l.failed::integer[] FROM tasker.batch_learnings l ORDER BY l.written_at DESC LIMIT $1", 1, {INT8OID}};

// One entry's copy, in the order the runs were made.
Learning unroll(const StepStats &entry) {
  Learning out{entry.named_task_id, entry.step_no, {}, {}, entry.solo_runs};
  const int count = known_runs(entry);
  for (std::uint32_t n = entry.runs - static_cast<std::uint32_t>(count); n != entry.runs; n++) {
    const std::uint32_t at = n % kStatWindow;
    out.durations_ms.push_back(static_cast<double>(entry.durations_ms[at]));
    out.failed.push_back((entry.failed[at / 64] >> (at % 64) & 1) != 0);
  }
  return out;
}

// Copies of this database's entries that have runs; `unwritten` takes those newer than their rows, and counts them written.
std::vector<StepStats> copies(bool unwritten, std::size_t most) {
  std::vector<StepStats> out;
  out.reserve(most);  // nothing is allocated under the lock
  const LockGuard guard(shared->stats_lock, unwritten ? LW_EXCLUSIVE : LW_SHARED);
  for (StepStats &entry : shared->stats) {
    if (entry.key == 0 || entry.database != MyDatabaseId || entry.runs == 0 || out.size() == most) continue;
    if (unwritten && entry.written_runs == entry.runs) continue;
    out.push_back(entry);
    if (unwritten) entry.written_runs = entry.runs;
  }
  return out;
}

std::vector<Learning> written_learnings() {
  const pg::Result read = pg::execute(select_learnings, pg::Params().int8(kStatEntries), pg::Access::kRead);
  std::vector<Learning> out;
  for (std::uint64_t i = 0; i < read.rows.size(); i++) {
    Learning learning{read.rows.int4(i, 1), read.rows.int4(i, 2), {}, {}, read.rows.int4(i, 3)};
    for (const std::string &duration : read.rows.texts(i, 4)) learning.durations_ms.push_back(std::strtod(duration.c_str(), nullptr));
    for (const int failed : read.rows.int4s(i, 5)) learning.failed.push_back(failed != 0);
    learning.failed.resize(learning.durations_ms.size());
    if (!learning.durations_ms.empty()) out.push_back(std::move(learning));
  }
  return out;
}

}  // namespace

bool is_batchable(int named_task_id, const core::Learner &step, double limit_ms) {
  LockGuard guard(shared->stats_lock, LW_SHARED);
  const StepStats *entry = find(named_task_id, step.own);
  if (!is_known(entry)) entry = find(named_task_id, step.kin);
  if (entry == nullptr || entry->runs < static_cast<std::uint32_t>(kMinimumRuns) || entry->solo_runs > 0) return false;
  const int count = known_runs(*entry);
  const auto slow = std::count_if(entry->durations_ms, entry->durations_ms + count, [=](float d) { return d > limit_ms; });
  return slow * 20 <= count;
}

int batch_size(int named_task_id, const core::Learner &step) {
  if (!settings.adaptive_batching) return core::kPlainBatch;
  int learnt = 0;
  {
    LockGuard guard(shared->stats_lock, LW_SHARED);
    const StepStats *entry = find(named_task_id, step.own);
    if (!is_known(entry)) entry = find(named_task_id, step.kin);
    if (entry != nullptr) learnt = entry->batch_size;
  }
  return core::under_pressure(learnt > 0 ? learnt : core::kPlainBatch, shared->connection_pressure);
}

void record_duration(int named_task_id, const core::Learner &step, double milliseconds, bool failed) {
  LockGuard guard(shared->stats_lock, LW_EXCLUSIVE);
  for (const int number : {step.own, step.kin}) {
    if (number == 0) continue;
    const std::uint64_t key = key_of(named_task_id, number);
    StepStats &entry = entry_of(key);
    claim(entry, key, named_task_id, number);
    put(entry, milliseconds, failed);
    if (entry.solo_runs > 0) entry.solo_runs--;
    if (entry.runs % kLearnEvery == 0) learn(entry);
  }
}

void record_trouble(int named_task_id, const core::Learner &step) {
  const std::uint64_t key = key_of(named_task_id, step.own);
  LockGuard guard(shared->stats_lock, LW_EXCLUSIVE);
  StepStats &entry = entry_of(key);
  claim(entry, key, named_task_id, step.own);
  entry.solo_runs = kSoloAfterTrouble;
}

void note_first_attempt(int named_task_id, const core::Learner &step, bool success) {
  if (shared == nullptr) return;
  const std::uint64_t key = key_of(named_task_id, step.own);
  const TimestampTz now = GetCurrentTimestamp();
  LockGuard guard(shared->stats_lock, LW_EXCLUSIVE);
  StepStats &entry = entry_of(key);
  claim(entry, key, named_task_id, step.own);
  entry.recent.record(now, success);
}

core::SuccessHistory recent_first_attempts(int named_task_id, const core::Learner &step) {
  if (shared == nullptr) return {};
  const TimestampTz now = GetCurrentTimestamp();
  LockGuard guard(shared->stats_lock, LW_SHARED);
  const StepStats *entry = find(named_task_id, step.own);
  return entry == nullptr ? core::SuccessHistory{} : entry->recent.known(now);
}

StepDurations step_durations(int named_task_id, const core::Learner &step, double below_ms) {
  if (shared == nullptr) return {};
  float durations[kStatWindow];
  int count = 0;
  {
    LockGuard guard(shared->stats_lock, LW_SHARED);
    const StepStats *entry = find(named_task_id, step.own);
    if (entry == nullptr || entry->runs == 0) entry = find(named_task_id, step.kin);
    if (entry == nullptr) return {};
    for (int i = 0; i < known_runs(*entry); i++)
      if (below_ms <= 0 || entry->durations_ms[i] < below_ms) durations[count++] = entry->durations_ms[i];
  }
  if (count == 0) return {};
  std::sort(durations, durations + count);
  return {count, durations[(count - 1) / 2], durations[std::min(count - 1, count * 95 / 100)], durations[count - 1]};
}

core::BatchSamples Learning::samples() const {
  std::vector<float> durations(durations_ms.begin(), durations_ms.end());
  if (durations.empty()) return {};
  return samples_of(durations.data(), static_cast<int>(durations.size()), static_cast<int>(std::count(failed.begin(), failed.end(), true)), solo_runs > 0);
}

double Learning::p50_ms() const {
  std::vector<double> sorted = durations_ms;
  std::sort(sorted.begin(), sorted.end());
  return sorted.empty() ? 0 : sorted[(sorted.size() - 1) / 2];
}

std::vector<Learning> learnings() {
  std::vector<Learning> out;
  if (shared != nullptr)
    for (const StepStats &entry : copies(false, kStatEntries)) out.push_back(unroll(entry));
  const auto before = [](const Learning &a, const Learning &b) {
    return a.named_task_id != b.named_task_id ? a.named_task_id < b.named_task_id : a.step_no < b.step_no;
  };
  std::sort(out.begin(), out.end(), before);
  const std::vector<Learning> live = out;
  for (const Learning &written : written_learnings())
    if (!std::binary_search(live.begin(), live.end(), written, before)) out.push_back(written);
  std::sort(out.begin(), out.end(), before);
  return out;
}

void write_learnings() {
  for (const StepStats &entry : copies(true, kWrittenAtOnce)) {
    const Learning learning = unroll(entry);
    pg::ArrayBuilder durations(FLOAT8OID), failed(BOOLOID);
    for (const double ms : learning.durations_ms) durations.float8(ms);
    for (const bool one : learning.failed) failed.boolean(one);
    pg::execute(upsert_learning, pg::Params().int4(learning.named_task_id).int4(learning.step_no).datum(durations.datum()).datum(failed.datum()).int4(learning.solo_runs));
  }
}

void trim_learnings() { pg::execute(delete_orphans); }

void restore_learnings() {
  for (const Learning &learning : written_learnings()) {
    const std::uint64_t key = key_of(learning.named_task_id, learning.step_no);
    const LockGuard guard(shared->stats_lock, LW_EXCLUSIVE);
    StepStats &entry = entry_of(key);
    if (entry.key != 0 && (entry.key != key || entry.runs > 0)) continue;  // memory is newer
    claim(entry, key, learning.named_task_id, learning.step_no);
    for (std::size_t i = 0; i < learning.durations_ms.size(); i++) put(entry, learning.durations_ms[i], learning.failed[i]);
    entry.written_runs = entry.runs;
    entry.solo_runs = learning.solo_runs;
    learn(entry);
  }
}

}  // namespace tasker::store
