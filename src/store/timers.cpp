#include "store/timers.hpp"

#include <algorithm>
#include <iterator>
#include <string_view>

#include "store/hints.hpp"
#include "store/key_arrays.hpp"
#include "store/shapes.hpp"

namespace tasker::store {

namespace {

constinit pg::Query insert_deadlines{
    "INSERT INTO tasker.timers (task_id, kind, due_at) SELECT t.task_id, 'deadline', t.deadline_at FROM unnest($1) AS u(task_id)"
    " CROSS JOIN LATERAL (SELECT * FROM tasker.tasks x WHERE x.task_id = u.task_id OFFSET 0) t WHERE t.deadline_at IS NOT NULL"
    " ON CONFLICT (task_id, step_no, element, kind) DO NOTHING RETURNING task_id, due_at",
    1, {INT8ARRAYOID}};

constinit pg::Query delete_deadlines{
    "DELETE FROM tasker.timers m WHERE m.task_id = ANY ($1) AND m.step_no = 0 AND m.element = -1 AND m.kind = 'deadline'", 1, {INT8ARRAYOID}};

constinit pg::Query select_due{
    "SELECT m.task_id, m.step_no, m.element, m.kind, m.due_at FROM unnest($1, $2, $3) AS u(task_id, step_no, element)"
    " JOIN tasker.timers m ON m.task_id = u.task_id AND m.step_no = u.step_no AND m.element = u.element"
    " WHERE m.due_at <= $4 AND m.kind IN ('wait', 'timeout', 'lease')",
    4, {INT8ARRAYOID, INT4ARRAYOID, INT4ARRAYOID, TIMESTAMPTZOID}};

constinit pg::Query select_timers{
    "SELECT r.due_at, r.task_id, r.step_no, r.element, t.named_task_id, t.priority, t.owner::oid, r.kind = 'deadline',"
    " coalesce((SELECT d.handler_type NOT IN ('sql', 'noop') FROM tasker.named_steps d WHERE d.named_task_id = t.named_task_id AND d.step_no = r.step_no), false)"
    " FROM (SELECT * FROM tasker.timers m WHERE (m.due_at, m.task_id, m.step_no, m.element) > ($1, $2, $3, $4) AND m.due_at < $5"
    "       ORDER BY m.due_at, m.task_id, m.step_no, m.element LIMIT $6) r"
    " JOIN tasker.tasks t ON t.task_id = r.task_id ORDER BY r.due_at, r.task_id, r.step_no, r.element",
    6, {TIMESTAMPTZOID, INT8OID, INT4OID, INT4OID, TIMESTAMPTZOID, INT8OID}};

constexpr const char *kKindNames[] = {"wait", "timeout", "lease"};
const char *name_of(TimerKind kind) { return kKindNames[static_cast<std::size_t>(kind)]; }

std::string_view kind_of(const pg::TableRow &row) {
  const text *kind = DatumGetTextPP(row.values[timer_column::kKind]);  // short: it is never stored out of line
  return {VARDATA_ANY(kind), static_cast<std::size_t>(VARSIZE_ANY_EXHDR(kind))};
}

template <class Wanted>
void remove_timers(const std::vector<StepKey> &keys, Wanted wanted) {
  if (keys.empty()) return;
  pg::Table table(timers_table, pg::Table::Use::kWrite);
  for (const StepKey &key : keys)
    for (pg::TableRow row = find_timer(table, key); row; row = table.next())
      while (wanted(kind_of(row)) && table.remove(row) == pg::Table::Wrote::kChanged) continue;
}

bool replace_timer(pg::Table &table, const StepTimer &timer) {
  for (pg::TableRow row = find_timer(table, timer.key); row; row = table.next()) {
    if (kind_of(row) != name_of(timer.kind)) continue;
    pg::RowChange change;
    change.timestamp(timer_column::kDueAt, timer.due);
    auto wrote = pg::Table::Wrote::kChanged;
    while (wrote == pg::Table::Wrote::kChanged) wrote = table.update(row, change);
    return wrote == pg::Table::Wrote::kDone;
  }
  return false;
}

struct NewTimers {
  pg::TableRows rows;
  void add(const StepKey &key, const char *kind, TimestampTz due) {
    rows.add({Int64GetDatum(key.task_id), Int32GetDatum(key.step_no), Int32GetDatum(key.element), pg::text_datum(kind), TimestampTzGetDatum(due)});
  }
};

}  // namespace

void add_timers(const std::vector<std::pair<StepKey, TimestampTz>> &timers) {
  if (timers.empty()) return;
  NewTimers fresh;
  for (const auto &[key, at] : timers) fresh.add(key, key.step_no == 0 ? "run_at" : "backoff", at);
  pg::Table table(timers_table, pg::Table::Use::kWrite);
  table.insert(fresh.rows);
}

void drop_timers(const std::vector<StepKey> &keys) {
  remove_timers(keys, [](std::string_view kind) { return kind != "deadline"; });
}

void set_step_timers(const std::vector<StepTimer> &timers) {
  if (timers.empty()) return;
  NewTimers fresh;
  pg::Table table(timers_table, pg::Table::Use::kWrite);
  for (const StepTimer &timer : timers) {
    if (!replace_timer(table, timer)) fresh.add(timer.key, name_of(timer.kind), timer.due);
    Hint hint{};
    hint.kind = HintKind::kTimer;
    hint.key = timer.key;
    hint.due = timer.due;
    hint.outside = true;
    add_hint(hint);
  }
  table.insert(fresh.rows);
}

void drop_step_timers(const std::vector<StepKey> &keys, TimerKind kind) {
  remove_timers(keys, [=](std::string_view name) { return name == name_of(kind); });
}

std::vector<StepTimer> due_step_timers(const std::vector<StepKey> &keys, TimestampTz now) {
  std::vector<StepTimer> out;
  if (keys.empty()) return out;
  KeyArrays arrays;
  for (const StepKey &key : keys) arrays.add(key);
  const pg::Result due = pg::execute(select_due, arrays.params().timestamp(now));
  for (std::uint64_t i = 0; i < due.rows.size(); i++) {
    const std::string kind = due.rows.text(i, 4);
    const auto *at = std::find(std::begin(kKindNames), std::end(kKindNames), kind);
    out.push_back({{due.rows.int8(i, 1), due.rows.int4(i, 2), due.rows.int4(i, 3)}, static_cast<TimerKind>(at - std::begin(kKindNames)), due.rows.timestamp(i, 5)});
  }
  return out;
}

void add_deadlines(const std::vector<std::int64_t> &task_ids) {
  if (task_ids.empty()) return;
  const pg::Result added = pg::execute(insert_deadlines, pg::Params().datum(id_array(task_ids)));
  for (std::uint64_t i = 0; i < added.rows.size(); i++) {
    Hint hint{};
    hint.kind = HintKind::kTimer;
    hint.key = {added.rows.int8(i, 1), kDeadlineStep, -1};
    hint.due = added.rows.timestamp(i, 2);
    add_hint(hint);
  }
}

void drop_deadlines(const std::vector<std::int64_t> &task_ids) {
  if (!task_ids.empty()) pg::execute(delete_deadlines, pg::Params().datum(id_array(task_ids)));
}

std::vector<Hint> timer_page(TimerMark &mark, TimestampTz until, int limit) {
  const pg::Result page = pg::execute(select_timers, pg::Params().timestamp(mark.due).int8(mark.key.task_id).int4(mark.key.step_no)
                                                         .int4(mark.key.element).timestamp(until).int8(limit));
  std::vector<Hint> out;
  for (std::uint64_t i = 0; i < page.rows.size(); i++) {
    Hint hint{};
    hint.due = page.rows.timestamp(i, 1);
    hint.key = {page.rows.int8(i, 2), page.rows.int4(i, 3), page.rows.int4(i, 4)};
    hint.named_task_id = page.rows.int4(i, 5);
    hint.priority = page.rows.int4(i, 6);
    hint.owner = page.rows.oid(i, 7);
    hint.kind = HintKind::kTimer;
    mark.due = hint.due;
    mark.key = hint.key;
    if (page.rows.boolean(i, 8)) hint.key.step_no = kDeadlineStep;
    hint.outside = page.rows.boolean(i, 9);
    out.push_back(hint);
  }
  return out;
}

}  // namespace tasker::store
