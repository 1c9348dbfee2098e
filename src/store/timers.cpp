#include "store/timers.hpp"

#include <algorithm>
#include <iterator>

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
    " WHERE m.task_id = u.task_id AND m.step_no = u.step_no AND m.element = u.element AND m.kind <> 'deadline'",
    3, {INT8ARRAYOID, INT4ARRAYOID, INT4ARRAYOID}};

constinit pg::Query insert_deadlines{
    "INSERT INTO tasker.timers (task_id, kind, due_at) SELECT t.task_id, 'deadline', t.deadline_at FROM unnest($1) AS u(task_id)"
    " CROSS JOIN LATERAL (SELECT * FROM tasker.tasks x WHERE x.task_id = u.task_id OFFSET 0) t WHERE t.deadline_at IS NOT NULL"
    " ON CONFLICT (task_id, step_no, element, kind) DO NOTHING RETURNING task_id, due_at",
    1, {INT8ARRAYOID}};

constinit pg::Query delete_deadlines{
    "DELETE FROM tasker.timers m WHERE m.task_id = ANY ($1) AND m.step_no = 0 AND m.element = -1 AND m.kind = 'deadline'", 1, {INT8ARRAYOID}};

constinit pg::Query upsert_step_timers{
    "INSERT INTO tasker.timers (task_id, step_no, element, kind, due_at) SELECT * FROM unnest($1, $2, $3, $4, $5)"
    " ON CONFLICT (task_id, step_no, element, kind) DO UPDATE SET due_at = excluded.due_at",
    5, {INT8ARRAYOID, INT4ARRAYOID, INT4ARRAYOID, TEXTARRAYOID, TIMESTAMPTZARRAYOID}};

constinit pg::Query delete_step_timers{
    "DELETE FROM tasker.timers m USING unnest($1, $2, $3) AS u(task_id, step_no, element)"
    " WHERE m.task_id = u.task_id AND m.step_no = u.step_no AND m.element = u.element AND m.kind = $4",
    4, {INT8ARRAYOID, INT4ARRAYOID, INT4ARRAYOID, TEXTOID}};

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

void set_step_timers(const std::vector<StepTimer> &timers) {
  if (timers.empty()) return;
  KeyArrays arrays;
  pg::ArrayBuilder kind(TEXTOID), due(TIMESTAMPTZOID);
  for (const StepTimer &timer : timers) {
    arrays.add(timer.key);
    kind.text(name_of(timer.kind));
    due.timestamp(timer.due);
    Hint hint{};
    hint.kind = HintKind::kTimer;
    hint.key = timer.key;
    hint.due = timer.due;
    hint.outside = true;
    add_hint(hint);
  }
  pg::execute(upsert_step_timers, arrays.params().datum(kind.datum()).datum(due.datum()));
}

void drop_step_timers(const std::vector<StepKey> &keys, TimerKind kind) {
  if (keys.empty()) return;
  KeyArrays arrays;
  for (const StepKey &key : keys) arrays.add(key);
  pg::execute(delete_step_timers, arrays.params().text(name_of(kind)));
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
