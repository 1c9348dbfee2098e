#include "store/facts.hpp"

#include "store/home.hpp"
#include "store/pauses.hpp"
#include "store/schedules.hpp"

namespace tasker::store {

namespace {

#define TASK_COLUMNS                                                                                             \
  "t.task_id, t.home, t.named_task_id, t.owner::oid, t.created_by::oid, t.priority, t.state::text, t.moves, t.sinks_left," \
  " t.live, t.paused, t.failing, t.uneven, t.run_at, t.deadline_at"
#define STEP_COLUMNS                                                                                                   \
  "s.step_no, s.element, s.state::text, s.moves, s.attempts, s.generation, s.waiting_on, s.crashes, s.max_attempts, s.permanent," \
  " s.started_at, s.finished_at, s.next_attempt_at"

constinit pg::Query select_task{"SELECT " TASK_COLUMNS " FROM tasker.tasks t WHERE t.task_id = $1", 1, {INT8OID}};
constinit pg::Query select_task_locked{"SELECT " TASK_COLUMNS " FROM tasker.tasks t WHERE t.task_id = $1 FOR NO KEY UPDATE", 1, {INT8OID}};
constinit pg::Query select_steps{
    "SELECT " STEP_COLUMNS " FROM tasker.workflow_steps s WHERE s.task_id = $1 AND s.element = -1 ORDER BY s.step_no", 1, {INT8OID}};
constinit pg::Query select_steps_locked{
    "SELECT " STEP_COLUMNS " FROM tasker.workflow_steps s WHERE s.task_id = $1 AND s.element = -1 ORDER BY s.step_no FOR NO KEY UPDATE", 1, {INT8OID}};

constinit pg::Query select_home{
    "SELECT h.nonce, h.held_reason, h.database_oid = $1, h.accepted_up_to FROM tasker.home h", 1, {OIDOID}};
// The first task after those a release_hold accepted: in a restored copy it carries the nonce of the original.
constinit pg::Query first_task{"SELECT t.home FROM tasker.tasks t WHERE t.task_id > $1 ORDER BY t.task_id LIMIT 1", 1, {INT8OID}};
constinit pg::Query foreign_task{"SELECT 1 FROM tasker.tasks t WHERE t.live AND t.home <> $1 LIMIT 1", 1, {INT8OID}};

constinit pg::Query select_page{
    "SELECT - t.priority, t.task_id, t.home, t.named_task_id FROM tasker.tasks t WHERE t.runnable AND (- t.priority, t.task_id) > ($1, $2) AND t.task_id >= $4"
    " ORDER BY - t.priority, t.task_id LIMIT $3",
    4, {INT4OID, INT8OID, INT8OID, INT8OID}};
constinit pg::Query select_any_live{"SELECT 1 FROM tasker.tasks t WHERE t.live LIMIT 1", 0, {}};

TaskRow read_task(const pg::Rows &r, std::uint64_t i) {
  TaskRow t;
  t.task_id = r.int8(i, 1);
  t.home = r.int8(i, 2);
  t.named_task_id = r.int4(i, 3);
  t.owner = r.oid(i, 4);
  t.created_by = r.oid(i, 5);
  t.priority = r.int4(i, 6);
  t.state = core::parse_task_state(r.text(i, 7)).value();
  t.moves = r.int4(i, 8);
  t.sinks_left = r.int4(i, 9);
  t.live = r.boolean(i, 10);
  t.paused = r.boolean(i, 11);
  t.failing = r.boolean(i, 12);
  t.uneven = r.boolean(i, 13);
  t.run_at = r.timestamp(i, 14);
  t.deadline_at = r.timestamp_or_null(i, 15);
  return t;
}

StepRow read_step(const pg::Rows &r, std::uint64_t i, std::int64_t task_id) {
  StepRow s;
  s.key = {task_id, r.int4(i, 1), r.int4(i, 2)};
  s.state = core::parse_step_state(r.text(i, 3)).value();
  s.moves = r.int4(i, 4);
  s.attempts = r.int4(i, 5);
  s.generation = r.int4(i, 6);
  s.waiting_on = r.int4(i, 7);
  s.crashes = r.int4(i, 8);
  if (!r.is_null(i, 9)) s.max_attempts = r.int4(i, 9);
  s.permanent = r.boolean(i, 10);
  s.started_at = r.timestamp_or_null(i, 11);
  s.finished_at = r.timestamp_or_null(i, 12);
  s.next_attempt_at = r.timestamp_or_null(i, 13);
  return s;
}

}  // namespace

core::StepFacts step_facts(const StepRow &row, const CompiledStep &step) {
  core::StepFacts facts;
  facts.state = row.state;
  facts.attempts = row.attempts;
  facts.max_attempts = row.max_attempts.value_or(step.max_attempts);
  facts.retryable = step.retryable;
  facts.failed_permanently = row.permanent;
  if (row.next_attempt_at) facts.next_attempt_at = *row.next_attempt_at;
  return facts;
}

std::vector<core::StepFacts> TaskFacts::for_core() const {
  std::vector<core::StepFacts> out;
  out.reserve(steps.size());
  for (const StepRow &row : steps) out.push_back(step_facts(row, definition->step(row.key.step_no)));
  return out;
}

std::optional<TaskRow> load_task(std::int64_t task_id, RowLock lock) {
  const pg::Result found = pg::execute(lock == RowLock::kUpdate ? select_task_locked : select_task, pg::Params().int8(task_id));
  if (found.rows.empty()) return std::nullopt;
  return read_task(found.rows, 0);
}

std::optional<TaskFacts> load_facts(std::int64_t task_id, RowLock lock) {
  const std::optional<TaskRow> task = load_task(task_id, lock);
  if (!task) return std::nullopt;
  TaskFacts facts;
  facts.task = *task;
  facts.definition = definition(task->named_task_id);
  const pg::Result steps = pg::execute(lock == RowLock::kUpdate ? select_steps_locked : select_steps, pg::Params().int8(task_id));
  facts.steps.reserve(steps.rows.size());
  for (std::uint64_t i = 0; i < steps.rows.size(); i++) facts.steps.push_back(read_step(steps.rows, i, task_id));
  if (facts.steps.size() != facts.definition->steps.size())
    throw tasker::Error(sqlstate::kInternal, "task " + std::to_string(task_id) + " has " + std::to_string(facts.steps.size()) + " steps, its definition " +
                                                 std::to_string(facts.definition->steps.size()), {}, "Run tasker.check().");
  return facts;
}

namespace {

Home read_home(const pg::Result &row) {
  Home home;
  if (row.rows.empty()) {
    home.held = true;
    home.reason = "the home row is missing: this database was copied without it";
    return home;
  }
  home.nonce = row.rows.int8(0, 1);
  if (!row.rows.is_null(0, 2)) {
    home.held = true;
    home.reason = row.rows.text(0, 2);
  } else if (!row.rows.boolean(0, 3)) {
    home.held = true;
    home.reason = "this database is a copy of another one";
  }
  return home;
}

}  // namespace

Home load_home_row() { return read_home(pg::execute(select_home, pg::Params().oid(MyDatabaseId))); }

Home load_home(bool thorough) {
  const pg::Result row = pg::execute(select_home, pg::Params().oid(MyDatabaseId));
  Home home = read_home(row);
  if (home.held) return home;
  if (const pg::Result first = pg::execute(first_task, pg::Params().int8(row.rows.int8(0, 4))); !first.rows.empty() && first.rows.int8(0, 1) != home.nonce) {
    home.held = true;
    home.reason = "its tasks were created in another database";
  } else if (any_foreign_schedule(home.nonce)) {
    home.held = true;
    home.reason = "its schedules were made in another database";
  } else if (thorough && !pg::execute(foreign_task, pg::Params().int8(home.nonce)).rows.empty()) {
    home.held = true;
    home.reason = "live tasks were created in another database";
  }
  return home;
}

std::vector<std::int64_t> runnable_page(std::int64_t nonce, PagePosition &position, int limit) {
  const pg::Result page = pg::execute(select_page, pg::Params().int4(position.rank).int8(position.task_id).int8(limit).int8(position.from));
  std::vector<std::int64_t> out;
  for (std::uint64_t i = 0; i < page.rows.size(); i++) {
    position.rank = page.rows.int4(i, 1);
    position.task_id = page.rows.int8(i, 2);
    // A foreign task, or one in a paused scope, is passed over here; the count tells the caller about the end of the index.
    out.push_back(page.rows.int8(i, 3) == nonce && !scope_paused(page.rows.int4(i, 4)) ? position.task_id : 0);
  }
  return out;
}

bool any_live_task() { return !pg::execute(select_any_live).rows.empty(); }

}  // namespace tasker::store
