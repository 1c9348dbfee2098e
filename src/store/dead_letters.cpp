#include "store/dead_letters.hpp"

#include <algorithm>

namespace tasker::store {

namespace {

// Step s of task t, defined by d. The same words stand in the view.
#define DEAD_STEP                                                                            \
  "s.state = 'error' AND s.element = -1 AND (s.permanent OR s.attempts > 0 AND NOT (d.retryable AND s.attempts < coalesce(s.max_attempts, d.max_attempts)))"
#define FAILED_AT                                                                                                                                \
  "coalesce(s.finished_at, (SELECT max(w.created_at) FROM tasker.step_moves w WHERE w.task_id = s.task_id AND w.step_no = s.step_no" \
  " AND w.element = s.element))"
// Each task's steps are looked up by key, whatever the statistics say: OFFSET 0 keeps them from being joined.
#define DEAD_STEPS_OF_TASK                                                                                             \
  " FROM tasker.workflow_steps s CROSS JOIN LATERAL (SELECT * FROM tasker.named_steps x WHERE x.named_task_id = t.named_task_id AND x.step_no = s.step_no OFFSET 0) d" \
  " WHERE s.task_id = t.task_id AND " DEAD_STEP " AND ($3 IS NULL OR d.name = $3) AND ($4 IS NULL OR s.error ->> 'category' = $4)" \
  " AND ($5 IS NULL OR s.error ->> 'sqlstate' = $5) AND ($6 IS NULL OR " FAILED_AT " >= $6) AND ($7 IS NULL OR " FAILED_AT " < $7)"
#define DEAD_TASKS                                                                                                                    \
  "SELECT t.task_id FROM tasker.tasks t WHERE t.failing AND t.task_id > $1 AND t.task_id <> $8 AND ($2 IS NULL OR t.named_task_id = ANY ($2))" \
  " AND ($10 OR pg_has_role($9, t.owner::oid, 'USAGE') OR pg_has_role($9, t.created_by::oid, 'USAGE'))"                                 \
  " AND EXISTS (SELECT" DEAD_STEPS_OF_TASK " OFFSET 0) ORDER BY t.task_id LIMIT $11"

// The index of live and failing tasks, in its order: what is finished is never touched.
constinit pg::Query select_dead_locked{DEAD_TASKS " FOR NO KEY UPDATE OF t", 11,
                                       {INT8OID, INT4ARRAYOID, TEXTOID, TEXTOID, TEXTOID, TIMESTAMPTZOID, TIMESTAMPTZOID, INT8OID, OIDOID, BOOLOID, INT8OID}};
constinit pg::Query select_dead{DEAD_TASKS, 11,
                                {INT8OID, INT4ARRAYOID, TEXTOID, TEXTOID, TEXTOID, TIMESTAMPTZOID, TIMESTAMPTZOID, INT8OID, OIDOID, BOOLOID, INT8OID}};
constinit pg::Query select_dead_steps{
    "SELECT u.step_no FROM tasker.tasks t CROSS JOIN LATERAL (SELECT s.step_no" DEAD_STEPS_OF_TASK " OFFSET 0) u"
    " WHERE t.task_id = $1 AND t.failing AND ($2 IS NULL OR t.named_task_id = ANY ($2)) ORDER BY u.step_no",
    7, {INT8OID, INT4ARRAYOID, TEXTOID, TEXTOID, TEXTOID, TIMESTAMPTZOID, TIMESTAMPTZOID}};
constinit pg::Query insert_note{
    "INSERT INTO tasker.dead_letter_notes (task_id, step_no, element, moves, status, note, created_by) VALUES ($1, $2, $3, $4, $5, $6, $7)"
    " RETURNING dead_letter_note_id",
    7, {INT8OID, INT4OID, INT4OID, INT4OID, TEXTOID, TEXTOID, OIDOID}};
constinit pg::Query select_open{
    "SELECT t.task_id FROM unnest($1) AS u(task_id) CROSS JOIN LATERAL (SELECT * FROM tasker.tasks x WHERE x.task_id = u.task_id AND x.failing OFFSET 0) t"
    " WHERE EXISTS (SELECT FROM tasker.workflow_steps s"
    "   CROSS JOIN LATERAL (SELECT * FROM tasker.named_steps x WHERE x.named_task_id = t.named_task_id AND x.step_no = s.step_no OFFSET 0) d"
    "   WHERE s.task_id = t.task_id AND " DEAD_STEP
    "   AND coalesce((SELECT k.status FROM tasker.dead_letter_notes k WHERE k.task_id = s.task_id AND k.step_no = s.step_no AND k.element = s.element"
    "     AND k.moves = s.moves ORDER BY k.dead_letter_note_id DESC LIMIT 1), 'open') = 'open' OFFSET 0)",
    1, {INT8ARRAYOID}};

pg::Params params_of(const DeadLetterFilter &filter, std::int64_t first) {
  pg::Params params;
  params.int8(first);
  if (filter.named_tasks) {
    pg::ArrayBuilder ids(INT4OID);
    for (int id : *filter.named_tasks) ids.int4(id);
    params.datum(ids.datum());
  } else {
    params.null();
  }
  params.text_or_null(filter.step).text_or_null(filter.category).text_or_null(filter.sqlstate);
  for (const std::optional<TimestampTz> &at : {filter.failed_since, filter.failed_before}) {
    if (at) params.timestamp(*at);
    else params.null();
  }
  return params;
}

pg::Params page_of(const DeadLetterFilter &filter, std::int64_t after, int limit) {
  return params_of(filter, after).int8(filter.except_task).oid(filter.role).boolean(filter.controls_all).int8(limit);
}

}  // namespace

std::vector<std::int64_t> lock_dead_tasks(const DeadLetterFilter &filter, std::int64_t after, int limit) {
  const pg::Result found = pg::execute(select_dead_locked, page_of(filter, after, limit));
  std::vector<std::int64_t> out;
  for (std::uint64_t i = 0; i < found.rows.size(); i++) out.push_back(found.rows.int8(i, 1));
  return out;
}

bool any_dead_task(const DeadLetterFilter &filter, std::int64_t after) { return !pg::execute(select_dead, page_of(filter, after, 1)).rows.empty(); }

std::vector<int> dead_steps(const DeadLetterFilter &filter, std::int64_t task_id) {
  const pg::Result found = pg::execute(select_dead_steps, params_of(filter, task_id));
  std::vector<int> out;
  for (std::uint64_t i = 0; i < found.rows.size(); i++) out.push_back(found.rows.int4(i, 1));
  return out;
}

bool is_dead_letter(const TaskRow &task, const StepRow &row, const CompiledStep &step) {
  const core::StepFacts facts = step_facts(row, step);
  return task.failing && facts.state == core::StepState::kError &&
         (facts.failed_permanently || (facts.attempts > 0 && !(facts.retryable && facts.attempts < facts.max_attempts)));
}

std::int64_t insert_dead_letter_note(const StepRow &row, const std::string &status, const std::optional<std::string> &note, Oid actor) {
  const pg::Result added = pg::execute(insert_note, pg::Params().int8(row.key.task_id).int4(row.key.step_no).int4(row.key.element).int4(row.moves)
                                                        .text(status).text_or_null(note).oid(actor));
  return added.rows.int8(0, 1);
}

std::vector<std::int64_t> with_open_dead_letter(const std::vector<std::int64_t> &task_ids, pg::Access access) {
  pg::ArrayBuilder ids(INT8OID);
  for (std::int64_t id : task_ids) ids.int8(id);
  const pg::Result found = pg::execute(select_open, pg::Params().datum(ids.datum()), access);
  std::vector<std::int64_t> out;
  for (std::uint64_t i = 0; i < found.rows.size(); i++) out.push_back(found.rows.int8(i, 1));
  std::sort(out.begin(), out.end());
  return out;
}

}  // namespace tasker::store
