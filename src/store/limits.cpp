#include "store/limits.hpp"

#include <algorithm>
#include <unordered_map>

#include "store/hints.hpp"
#include "store/key_arrays.hpp"

namespace tasker::store {

namespace {

// By definition: whether each of its steps is under a limit; empty where none is.
using Verdicts = std::unordered_map<int, std::vector<bool>>;
inline constexpr std::size_t kMaxVerdicts = 1000;

struct Known {
  std::uint64_t generation = 0;
  bool lasting = false;  // others see the same, and will until the generation is raised
  std::vector<StepLimit> limits;
  Verdicts verdicts;
};
constinit Known *known = nullptr;  // lives as long as the process

constinit pg::Query select_limits{
    "SELECT l.limit_id, l.task_namespace_id, l.name, l.step_name, l.key IS NOT NULL, l.max_running, coalesce(l.per_second, 0), coalesce(l.burst, 1)"
    " FROM tasker.step_limit_rows l ORDER BY l.step_name IS NULL, l.name IS NULL, l.key IS NULL, l.limit_id",
    0, {}};
constinit pg::Query select_keys{
    "SELECT l.limit_id, v.value::text FROM tasker.tasks t CROSS JOIN tasker.step_limit_rows l CROSS JOIN LATERAL (SELECT t.context #> l.key_path AS value OFFSET 0) v"
    " WHERE t.task_id = $1 AND l.limit_id = ANY ($2) AND jsonb_typeof(v.value) <> 'null'",
    2, {INT8OID, INT4ARRAYOID}};
constinit pg::Query select_startable{
    "SELECT s.task_id, s.step_no, s.element FROM unnest($1, $2, $3) AS u(task_id, step_no, element)"
    " CROSS JOIN LATERAL (SELECT * FROM tasker.workflow_steps x WHERE x.task_id = u.task_id AND x.step_no = u.step_no AND x.element = u.element OFFSET 0) s"
    " CROSS JOIN LATERAL (SELECT * FROM tasker.tasks x WHERE x.task_id = s.task_id OFFSET 0) t"
    " WHERE t.live AND NOT t.paused AND s.state IN ('pending', 'error') AND s.waiting_on = 0 AND NOT s.permanent"
    " AND (s.next_attempt_at IS NULL OR s.next_attempt_at <= clock_timestamp())",
    3, {INT8ARRAYOID, INT4ARRAYOID, INT4ARRAYOID}};
constinit pg::Query select_named{
    "SELECT u.task_id, u.step_no, u.element, t.named_task_id FROM unnest($1, $2, $3) AS u(task_id, step_no, element)"
    " CROSS JOIN LATERAL (SELECT x.named_task_id FROM tasker.tasks x WHERE x.task_id = u.task_id OFFSET 0) t",
    3, {INT8ARRAYOID, INT4ARRAYOID, INT4ARRAYOID}};
constinit pg::Query select_calls{
    "SELECT f.task_id, f.step_no, f.element, t.named_task_id FROM tasker.transfers f"
    " CROSS JOIN LATERAL (SELECT x.named_task_id FROM tasker.tasks x WHERE x.task_id = f.task_id OFFSET 0) t",
    0, {}};
constinit pg::Query select_types{
    "SELECT DISTINCT s.handler_type FROM tasker.named_tasks n JOIN tasker.named_steps s ON s.named_task_id = n.named_task_id AND s.name = $3"
    " WHERE n.task_namespace_id = $1 AND n.name = $2",
    3, {INT4OID, TEXTOID, TEXTOID}};
#define TASKER_SAME_LIMIT                                                                                                          \
  "l.task_namespace_id = $1 AND coalesce(l.name, '') = coalesce($2, '') AND coalesce(l.step_name, '') = coalesce($3, '')"          \
  " AND coalesce(l.key, '') = coalesce($4, '')"
constinit pg::Query count_limits{"SELECT count(*) FROM tasker.step_limit_rows l WHERE NOT (" TASKER_SAME_LIMIT ")", 4, {INT4OID, TEXTOID, TEXTOID, TEXTOID}};
constinit pg::Query upsert_limit{
    "INSERT INTO tasker.step_limit_rows AS l (task_namespace_id, name, step_name, key, key_path, max_running, per_second, burst, changed_by)"
    " VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9::oid::regrole)"
    " ON CONFLICT (task_namespace_id, coalesce(name, ''), coalesce(step_name, ''), coalesce(key, '')) DO UPDATE SET max_running = excluded.max_running,"
    " per_second = excluded.per_second, burst = excluded.burst, changed_by = excluded.changed_by, changed_at = clock_timestamp()"
    " WHERE (l.max_running, l.per_second, l.burst) IS DISTINCT FROM (excluded.max_running, excluded.per_second, excluded.burst)",
    9, {INT4OID, TEXTOID, TEXTOID, TEXTOID, TEXTARRAYOID, INT4OID, FLOAT8OID, INT4OID, OIDOID}};
constinit pg::Query delete_limit{"DELETE FROM tasker.step_limit_rows l WHERE " TASKER_SAME_LIMIT, 4, {INT4OID, TEXTOID, TEXTOID, TEXTOID}};

Known &list() {
  if (known == nullptr) known = new Known;
  return *known;
}

pg::Params params_of(const LimitScope &scope) {
  return pg::Params().int4(scope.namespace_id).text_or_null(scope.name).text_or_null(scope.step_name).text_or_null(scope.key);
}

pg::Params params_of(const std::vector<StepKey> &keys) {
  KeyArrays arrays;
  for (const StepKey &key : keys) arrays.add(key);
  return arrays.params();
}

std::vector<NamedRun> read_runs(const pg::Rows &rows) {
  std::vector<NamedRun> out;
  out.reserve(rows.size());
  for (std::uint64_t i = 0; i < rows.size(); i++) out.push_back({{rows.int8(i, 1), rows.int4(i, 2), rows.int4(i, 3)}, rows.int4(i, 4)});
  return out;
}

bool covers(const StepLimit &limit, const CompiledDefinition &definition) {
  return limit.namespace_id == definition.namespace_id && (!limit.name || *limit.name == definition.name);
}

}  // namespace

std::vector<StepLimit> load_limits(pg::Access access) {
  const pg::Result found = pg::execute(select_limits, {}, access);
  const pg::Rows &r = found.rows;
  std::vector<StepLimit> out;
  for (std::uint64_t i = 0; i < r.size(); i++) {
    StepLimit limit{r.int4(i, 1), r.int4(i, 2), r.text_or_null(i, 3), r.text_or_null(i, 4), r.boolean(i, 5), {}};
    if (!r.is_null(i, 6)) limit.rule.max_running = r.int4(i, 6);
    limit.rule.per_second = r.float8(i, 7);
    limit.rule.burst = r.int4(i, 8);
    out.push_back(std::move(limit));
  }
  return out;
}

std::vector<const StepLimit *> limits_over(const std::vector<StepLimit> &limits, const CompiledDefinition &definition, const CompiledStep &step) {
  std::vector<const StepLimit *> out;
  if (!is_limitable(step.type)) return out;
  for (const StepLimit &limit : limits)
    if (covers(limit, definition) && (!limit.step_name || *limit.step_name == step.name)) out.push_back(&limit);
  return out;
}

bool refresh_limits() {
  Known &k = list();
  // The generation first: what is committed with it is in the snapshot taken after it.
  const std::uint64_t generation = pause_generation();
  if (k.lasting && k.generation == generation && !pauses_changed_here()) return false;
  k.lasting = false;
  std::vector<StepLimit> now = load_limits(pg::Access::kWrite);
  k.generation = generation;
  // An old snapshot, or changes of this very transaction, say nothing about the next one.
  k.lasting = generation != 0 && !IsolationUsesXactSnapshot() && !pauses_changed_here();
  if (now == k.limits) return false;
  k.limits.swap(now);
  k.verdicts.clear();
  return true;
}

bool limits_changed() { return list().generation != pause_generation(); }

const std::vector<StepLimit> &limits() { return list().limits; }

bool is_limited(const CompiledDefinition &definition, const CompiledStep &step) {
  Known &k = list();
  if (k.limits.empty()) return false;
  auto verdict = k.verdicts.find(definition.named_task_id);
  if (verdict == k.verdicts.end()) {
    if (k.verdicts.size() >= kMaxVerdicts) k.verdicts.clear();
    std::vector<bool> steps;
    if (std::any_of(k.limits.begin(), k.limits.end(), [&](const StepLimit &limit) { return covers(limit, definition); }))
      for (const CompiledStep &each : definition.steps) steps.push_back(!limits_over(k.limits, definition, each).empty());
    verdict = k.verdicts.emplace(definition.named_task_id, std::move(steps)).first;
  }
  return !verdict->second.empty() && verdict->second[static_cast<std::size_t>(step.step_no) - 1];
}

std::vector<core::GroupId> keyed_groups(std::int64_t task_id, const std::vector<int> &limit_ids, pg::Access access) {
  pg::ArrayBuilder ids(INT4OID);
  for (const int id : limit_ids) ids.int4(id);
  const pg::Result found = pg::execute(select_keys, pg::Params().int8(task_id).datum(ids.datum()), access);
  std::vector<core::GroupId> out;
  for (std::uint64_t i = 0; i < found.rows.size(); i++) out.push_back({found.rows.int4(i, 1), core::key_hash(found.rows.text(i, 2))});
  return out;
}

std::vector<StepKey> startable(const std::vector<StepKey> &keys) {
  const pg::Result found = pg::execute(select_startable, params_of(keys));
  std::vector<StepKey> out;
  out.reserve(found.rows.size());
  for (std::uint64_t i = 0; i < found.rows.size(); i++) out.push_back({found.rows.int8(i, 1), found.rows.int4(i, 2), found.rows.int4(i, 3)});
  return out;
}

std::vector<NamedRun> named_runs(const std::vector<StepKey> &keys) {
  if (keys.empty()) return {};
  return read_runs(pg::execute(select_named, params_of(keys)).rows);
}

std::vector<NamedRun> calls_under_way() { return read_runs(pg::execute(select_calls).rows); }

std::vector<std::string> step_types(const LimitScope &scope) {
  const pg::Result found = pg::execute(select_types, pg::Params().int4(scope.namespace_id).text_or_null(scope.name).text_or_null(scope.step_name));
  std::vector<std::string> out;
  for (std::uint64_t i = 0; i < found.rows.size(); i++) out.push_back(found.rows.text(i, 1));
  return out;
}

bool set_limit(const LimitScope &scope, const core::LimitRule &rule, Oid actor) {
  if (pg::execute(count_limits, params_of(scope)).rows.int8(0, 1) >= kMaxLimits)
    throw tasker::Error("54000", "there are " + std::to_string(kMaxLimits) + " limits already", {}, "A limit by key serves many values; tasker.step_limits shows all limits.");
  pg::Params params = params_of(scope);
  if (scope.key) params.datum(pg::text_array(scope.key_path));
  else params.null();
  if (rule.max_running) params.int4(*rule.max_running);
  else params.null();
  if (rule.per_second > 0) params.float8(rule.per_second).int4(rule.burst);
  else params.null().null();
  if (pg::execute(upsert_limit, params.oid(actor)).processed == 0) return false;
  note_pauses_changed();
  return true;
}

bool remove_limit(const LimitScope &scope) {
  if (pg::execute(delete_limit, params_of(scope)).processed == 0) return false;
  note_pauses_changed();
  return true;
}

}  // namespace tasker::store
