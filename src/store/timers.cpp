#include "store/timers.hpp"

#include "store/hints.hpp"
#include "store/key_arrays.hpp"

namespace tasker::store {

namespace {

constinit pg::Query insert_timers{
    "INSERT INTO tasker.timers (task_id, step_no, element, kind, due_at)"
    " SELECT task_id, step_no, element, CASE step_no WHEN 0 THEN 'run_at' ELSE 'backoff' END, due_at FROM unnest($1, $2, $3, $4) AS u(task_id, step_no, element, due_at)",
    4, {INT8ARRAYOID, INT4ARRAYOID, INT4ARRAYOID, TIMESTAMPTZARRAYOID}};

constinit pg::Query delete_timers{
    "DELETE FROM tasker.timers m USING unnest($1, $2, $3) AS u(task_id, step_no, element)"
    " WHERE m.task_id = u.task_id AND m.step_no = u.step_no AND m.element = u.element AND m.kind IN ('run_at', 'backoff')",
    3, {INT8ARRAYOID, INT4ARRAYOID, INT4ARRAYOID}};

constinit pg::Query insert_deadlines{
    "INSERT INTO tasker.timers (task_id, kind, due_at) SELECT t.task_id, 'deadline', t.deadline_at FROM unnest($1) AS u(task_id)"
    " CROSS JOIN LATERAL (SELECT * FROM tasker.tasks x WHERE x.task_id = u.task_id OFFSET 0) t WHERE t.deadline_at IS NOT NULL"
    " ON CONFLICT (task_id, step_no, element, kind) DO NOTHING RETURNING task_id, due_at",
    1, {INT8ARRAYOID}};

constinit pg::Query delete_deadlines{
    "DELETE FROM tasker.timers m WHERE m.task_id = ANY ($1) AND m.step_no = 0 AND m.element = -1 AND m.kind = 'deadline'", 1, {INT8ARRAYOID}};

constinit pg::Query select_timers{
    "SELECT r.due_at, r.task_id, r.step_no, r.element, t.named_task_id, t.priority, t.owner::oid, r.kind = 'deadline'"
    " FROM (SELECT * FROM tasker.timers m WHERE (m.due_at, m.task_id, m.step_no, m.element) > ($1, $2, $3, $4) AND m.due_at < $5"
    "       ORDER BY m.due_at, m.task_id, m.step_no, m.element LIMIT $6) r"
    " JOIN tasker.tasks t ON t.task_id = r.task_id ORDER BY r.due_at, r.task_id, r.step_no, r.element",
    6, {TIMESTAMPTZOID, INT8OID, INT4OID, INT4OID, TIMESTAMPTZOID, INT8OID}};

Datum id_array(const std::vector<std::int64_t> &ids) {
  pg::ArrayBuilder array(INT8OID);
  for (const std::int64_t id : ids) array.int8(id);
  return array.datum();
}

}  // namespace

void add_timers(const std::vector<std::pair<StepKey, TimestampTz>> &timers) {
  if (timers.empty()) return;
  KeyArrays arrays;
  pg::ArrayBuilder due(TIMESTAMPTZOID);
  for (const auto &[key, at] : timers) {
    arrays.add(key);
    due.timestamp(at);
  }
  pg::execute(insert_timers, arrays.params().datum(due.datum()));
}

void drop_timers(const std::vector<StepKey> &keys) {
  if (keys.empty()) return;
  KeyArrays arrays;
  for (const StepKey &key : keys) arrays.add(key);
  pg::execute(delete_timers, arrays.params());
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
    out.push_back(hint);
  }
  return out;
}

}  // namespace tasker::store
