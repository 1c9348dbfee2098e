#include "store/runs.hpp"

#include "pg/memory.hpp"
#include "store/key_arrays.hpp"

namespace tasker::store {

namespace {

constinit pg::Query select_runs{
    "SELECT t.task_id, t.home, t.named_task_id, t.owner::oid, t.priority, t.state::text, t.moves, t.live, t.paused, t.failing, t.uneven, t.run_at,"
    " t.created_at, t.correlation_id, t.context, s.step_no, s.element, s.state::text, s.moves, s.attempts, s.generation, s.waiting_on, s.crashes,"
    " s.max_attempts, s.permanent, s.next_attempt_at, t.deadline_at, s.started_at"
    " FROM unnest($1, $2, $3) WITH ORDINALITY AS u(task_id, step_no, element, ord)"
    " JOIN tasker.tasks t ON t.task_id = u.task_id"
    " JOIN tasker.workflow_steps s ON s.task_id = u.task_id AND s.step_no = u.step_no AND s.element = u.element ORDER BY u.ord",
    3, {INT8ARRAYOID, INT4ARRAYOID, INT4ARRAYOID}};

constinit pg::Query select_results{
    "SELECT s.task_id, s.step_no, s.element, s.state::text, s.result FROM unnest($1, $2, $3) AS u(task_id, step_no, element)"
    " JOIN tasker.workflow_steps s ON s.task_id = u.task_id AND s.step_no = u.step_no AND s.element = u.element",
    3, {INT8ARRAYOID, INT4ARRAYOID, INT4ARRAYOID}};

constinit pg::Query update_counters{
    "UPDATE tasker.workflow_steps c SET waiting_on = c.waiting_on - u.done FROM unnest($1, $2, $3, $4) AS u(task_id, step_no, element, done)"
    " WHERE c.task_id = u.task_id AND c.step_no = u.step_no AND c.element = u.element RETURNING c.task_id, c.step_no, c.element, c.waiting_on = 0 AND c.state = 'pending'",
    4, {INT8ARRAYOID, INT4ARRAYOID, INT4ARRAYOID, INT4ARRAYOID}};

Datum copy_jsonb(const pg::Rows &rows, std::uint64_t row, int column, MemoryContext context) {
  if (rows.is_null(row, column)) return Datum(0);
  const Datum value = rows.datum(row, column);
  return pg::call([=] {
    MemoryContext old = MemoryContextSwitchTo(context);
    const Datum copy = PointerGetDatum(PG_DETOAST_DATUM_COPY(value));
    MemoryContextSwitchTo(old);
    return copy;
  });
}

}  // namespace

std::vector<LoadedStep> load_steps(const std::vector<StepKey> &keys, MemoryContext context) {
  std::vector<LoadedStep> out;
  if (keys.empty()) return out;
  KeyArrays arrays;
  for (const StepKey &key : keys) arrays.add(key);
  const pg::Result found = pg::execute(select_runs, arrays.params());
  const pg::Rows &r = found.rows;
  for (std::uint64_t i = 0; i < r.size(); i++) {
    LoadedStep l;
    TaskRow &t = l.task;
    t.task_id = r.int8(i, 1);
    t.home = r.int8(i, 2);
    t.named_task_id = r.int4(i, 3);
    t.owner = r.oid(i, 4);
    t.priority = r.int4(i, 5);
    t.state = core::parse_task_state(r.text(i, 6)).value();
    t.moves = r.int4(i, 7);
    t.live = r.boolean(i, 8);
    t.paused = r.boolean(i, 9);
    t.failing = r.boolean(i, 10);
    t.uneven = r.boolean(i, 11);
    t.run_at = r.timestamp(i, 12);
    l.delayed = t.run_at > r.timestamp(i, 13);
    l.correlation_id = r.text_or_null(i, 14);
    l.context = copy_jsonb(r, i, 15, context);
    StepRow &s = l.step;
    s.key = {t.task_id, r.int4(i, 16), r.int4(i, 17)};
    s.state = core::parse_step_state(r.text(i, 18)).value();
    s.moves = r.int4(i, 19);
    s.attempts = r.int4(i, 20);
    s.generation = r.int4(i, 21);
    s.waiting_on = r.int4(i, 22);
    s.crashes = r.int4(i, 23);
    if (!r.is_null(i, 24)) s.max_attempts = r.int4(i, 24);
    s.permanent = r.boolean(i, 25);
    s.next_attempt_at = r.timestamp_or_null(i, 26);
    t.deadline_at = r.timestamp_or_null(i, 27);
    s.started_at = r.timestamp_or_null(i, 28);
    out.push_back(std::move(l));
  }
  return out;
}

std::vector<ParentResult> load_results(const std::vector<StepKey> &keys, MemoryContext context) {
  std::vector<ParentResult> out;
  if (keys.empty()) return out;
  KeyArrays arrays;
  for (const StepKey &key : keys) arrays.add(key);
  const pg::Result found = pg::execute(select_results, arrays.params());
  for (std::uint64_t i = 0; i < found.rows.size(); i++) {
    ParentResult parent;
    parent.key = {found.rows.int8(i, 1), found.rows.int4(i, 2), found.rows.int4(i, 3)};
    parent.state = core::parse_step_state(found.rows.text(i, 4)).value();
    parent.result = copy_jsonb(found.rows, i, 5, context);
    out.push_back(parent);
  }
  return out;
}

std::vector<StepKey> count_down(const std::vector<CounterChange> &changes) {
  std::vector<StepKey> ready;
  if (changes.empty()) return ready;
  KeyArrays arrays;
  pg::ArrayBuilder done(INT4OID);
  for (const CounterChange &change : changes) {
    arrays.add(change.child);
    done.int4(change.parents_done);
  }
  const pg::Result updated = pg::execute(update_counters, arrays.params().datum(done.datum()));
  for (std::uint64_t i = 0; i < updated.rows.size(); i++)
    if (updated.rows.boolean(i, 4)) ready.push_back({updated.rows.int8(i, 1), updated.rows.int4(i, 2), updated.rows.int4(i, 3)});
  return ready;
}

}  // namespace tasker::store
