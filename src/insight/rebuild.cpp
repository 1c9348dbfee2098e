#include "insight/rebuild.hpp"

#include <algorithm>
#include <map>

#include "insight/analytics.hpp"
#include "store/step_history.hpp"

namespace tasker::insight {

namespace {

inline constexpr int kTasksAtOnce = 2000;
inline constexpr std::int64_t kHoursKept = 90 * 24;

constinit pg::Query lock_counts{"LOCK TABLE tasker.task_outcomes IN SHARE UPDATE EXCLUSIVE MODE", 0, {}};

// The end of the last day of which tasks of the definition were removed.
#define REMOVED_UP_TO "(SELECT (max(z.day) + 1)::timestamp AT TIME ZONE 'UTC' FROM tasker.task_summaries z WHERE z.named_task_id = h.named_task_id)"
constinit pg::Query clear_steps{
    "DELETE FROM tasker.step_history h WHERE h.hour >= $1 AND h.hour < $2 AND h.hour >= coalesce(" REMOVED_UP_TO ", '-infinity')", 2, {TIMESTAMPTZOID, TIMESTAMPTZOID}};
constinit pg::Query clear_tasks{
    "DELETE FROM tasker.task_outcomes h WHERE h.hour >= $1 AND h.hour < $2 AND h.hour >= coalesce(" REMOVED_UP_TO ", '-infinity')", 2, {TIMESTAMPTZOID, TIMESTAMPTZOID}};
constinit pg::Query select_floors{"SELECT z.named_task_id, (max(z.day) + 1)::timestamp AT TIME ZONE 'UTC' FROM tasker.task_summaries z GROUP BY z.named_task_id", 0, {}};

constinit pg::Query select_page{"SELECT max(x.task_id) FROM (SELECT t.task_id FROM tasker.tasks t WHERE t.task_id > $1 ORDER BY t.task_id LIMIT $2) x", 2, {INT8OID, INT4OID}};

#define TASKS_OF_PAGE "(SELECT * FROM tasker.tasks x WHERE x.task_id > $1 AND x.task_id <= $2 AND (x.live OR x.finished_at >= $3) OFFSET 0) t"
constinit pg::Query select_created{
    "SELECT x.named_task_id, x.created_at, count(*) FROM tasker.tasks x WHERE x.task_id > $1 AND x.task_id <= $2 AND x.created_at >= $3 AND x.created_at < $4 GROUP BY 1, 2",
    4, {INT8OID, INT8OID, TIMESTAMPTZOID, TIMESTAMPTZOID}};
constinit pg::Query select_ends{
    "SELECT t.named_task_id, t.task_id, w.to_state::text, w.created_at,"
    " (SELECT " TASKER_FIRST_START("f") " FROM " TASKER_TASK_MOVES " f WHERE f.task_id = w.task_id AND f.sort_key <= w.sort_key)"
    " FROM " TASKS_OF_PAGE " CROSS JOIN LATERAL (SELECT * FROM " TASKER_TASK_MOVES " x WHERE x.task_id = t.task_id AND x.to_state NOT IN ('pending', 'in_progress')"
    "   AND x.created_at >= $3 AND x.created_at < $4 OFFSET 0) w",
    4, {INT8OID, INT8OID, TIMESTAMPTZOID, TIMESTAMPTZOID}};
// Each end with the beginning before it. What a deadline ended is no outcome of the step.
constinit pg::Query select_attempts{
    "SELECT t.named_task_id, t.task_id, w.step_no, b.attempt, w.to_state = 'complete', w.created_at, extract(epoch FROM w.created_at - b.begun_at)::float8 * 1000"
    " FROM " TASKS_OF_PAGE " CROSS JOIN LATERAL (SELECT * FROM " TASKER_STEP_MOVES " x WHERE x.task_id = t.task_id AND x.to_state IN ('complete', 'error')"
    "   AND x.created_at >= $3 AND x.created_at < $4 AND (x.metadata ->> 'cause') IS DISTINCT FROM 'deadline' OFFSET 0) w"
    " CROSS JOIN LATERAL (" TASKER_BEGINNING_OF("w") ") b"
    " CROSS JOIN LATERAL (SELECT FROM tasker.named_steps x WHERE x.named_task_id = t.named_task_id AND x.step_no = w.step_no AND x.handler_type <> 'noop' OFFSET 0) d",
    4, {INT8OID, INT8OID, TIMESTAMPTZOID, TIMESTAMPTZOID}};

class Rebuild {
 public:
  Rebuild(TimestampTz from, TimestampTz to) : from_(from), to_(to) {
    const pg::Result found = pg::execute(select_floors, {}, pg::Access::kRead);
    for (std::uint64_t i = 0; i < found.rows.size(); i++) floors_[found.rows.int4(i, 1)] = found.rows.timestamp(i, 2);
  }

  void read(std::int64_t after, std::int64_t up_to) {
    const pg::Params page = pg::Params().int8(after).int8(up_to).timestamp(from_).timestamp(to_);
    const pg::Result created = pg::execute(select_created, page, pg::Access::kRead);
    for (std::uint64_t i = 0; i < created.rows.size(); i++) {
      const pg::Rows &r = created.rows;
      if (store::HistoryEntry *entry = task_entry(r.int4(i, 1), core::TaskState::kPending, r.timestamp(i, 2))) count(*entry, r.int8(i, 3));
    }
    const pg::Result ends = pg::execute(select_ends, page, pg::Access::kRead);
    for (std::uint64_t i = 0; i < ends.rows.size(); i++) read_end(ends.rows, i);
    const pg::Result attempts = pg::execute(select_attempts, page, pg::Access::kRead);
    for (std::uint64_t i = 0; i < attempts.rows.size(); i++) read_attempt(attempts.rows, i);
  }

  const std::map<store::HistoryKey, store::HistoryEntry> &counts() const { return counts_; }
  std::int64_t counted() const { return counted_; }

 private:
  // Null: of an hour that is not to be replaced.
  store::HistoryEntry *entry(int named_task_id, int step_no, int attempt, TimestampTz at) {
    const TimestampTz hour = hour_of(at);
    if (const auto floor = floors_.find(named_task_id); floor != floors_.end() && hour < floor->second) return nullptr;
    const store::HistoryKey key{MyDatabaseId, named_task_id, step_no, attempt, hour / store::kHistoryHour};
    const auto [place, fresh] = counts_.try_emplace(key);
    if (fresh) place->second.key = key;
    return &place->second;
  }
  store::HistoryEntry *task_entry(int named_task_id, core::TaskState state, TimestampTz at) { return entry(named_task_id, 0, static_cast<int>(state), at); }

  void count(store::HistoryEntry &to, std::int64_t times) {
    to.attempts += times;
    counted_ += times;
  }

  void read_end(const pg::Rows &r, std::uint64_t i) {
    const auto state = core::parse_task_state(r.text(i, 3));
    const TimestampTz at = r.timestamp(i, 4);
    store::HistoryEntry *to = state ? task_entry(r.int4(i, 1), *state, at) : nullptr;
    if (to == nullptr) return;
    count(*to, 1);
    if (!r.is_null(i, 5)) store::add_run(*to, r.int8(i, 2), static_cast<double>(std::max<TimestampTz>(0, at - r.timestamp(i, 5))) / 1000.0);
  }

  void read_attempt(const pg::Rows &r, std::uint64_t i) {
    const int attempt = std::clamp(r.is_null(i, 4) ? 1 : r.int4(i, 4), 1, core::kMaxHistoryAttempt);
    store::HistoryEntry *to = entry(r.int4(i, 1), r.int4(i, 3), attempt, r.timestamp(i, 6));
    if (to == nullptr) return;
    count(*to, 1);
    if (r.boolean(i, 5)) store::add_run(*to, r.int8(i, 2), std::max(0.0, r.float8(i, 7)));
  }

  TimestampTz from_, to_;
  std::map<int, TimestampTz> floors_;
  std::map<store::HistoryKey, store::HistoryEntry> counts_;
  std::int64_t counted_ = 0;
};

}  // namespace

std::int64_t rebuild_counts(std::optional<TimestampTz> since) {
  pg::execute(lock_counts);
  store::write_history();  // what is in memory of those hours is in the tables, too: it must not be added later
  const TimestampTz to = hour_of(GetCurrentTimestamp()), oldest = to - kHoursKept * store::kHistoryHour;
  const TimestampTz from = since ? std::max(oldest, hour_of(*since)) : oldest;
  if (from >= to) return 0;
  Rebuild rebuild(from, to);
  for (std::int64_t position = 0;;) {
    pg::check_interrupts();
    const pg::Result page = pg::execute(select_page, pg::Params().int8(position).int4(kTasksAtOnce), pg::Access::kRead);
    if (page.rows.is_null(0, 1)) break;
    rebuild.read(position, page.rows.int8(0, 1));
    position = page.rows.int8(0, 1);
  }
  for (pg::Query *statement : {&clear_steps, &clear_tasks}) pg::execute(*statement, pg::Params().timestamp(from).timestamp(to));
  store::add_to_history(rebuild.counts());
  return rebuild.counted();
}

}  // namespace tasker::insight
