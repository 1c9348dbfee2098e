#include "store/pauses.hpp"

#include <algorithm>

#include "store/hints.hpp"

namespace tasker::store {

namespace {

// Four bytes a paused definition.
struct Known {
  std::uint64_t generation = 0;
  bool lasting = false;           // others see the same, and will until the generation is raised
  Paused paused;
};
constinit Known *known = nullptr;  // lives as long as the process

constinit pg::Query select_paused{
    "SELECT p.task_namespace_id IS NULL, x.named_task_id FROM tasker.scope_pauses p"
    " LEFT JOIN LATERAL (SELECT n.named_task_id FROM tasker.named_tasks n WHERE n.task_namespace_id = p.task_namespace_id"
    "   AND (p.name IS NULL OR n.name = p.name) OFFSET 0) x ON true WHERE p.resumed_at IS NULL",
    0, {}};
// Whoever loses a race for the same scope waits here for the winner's end.
constinit pg::Query insert_order{
    "INSERT INTO tasker.scope_pauses (task_namespace_id, name, paused_by, reason) VALUES ($1, $2, $3, $4) ON CONFLICT DO NOTHING", 4,
    {INT4OID, TEXTOID, OIDOID, TEXTOID}};
constinit pg::Query end_order{
    "UPDATE tasker.scope_pauses p SET resumed_by = $3, resumed_at = clock_timestamp(), resume_reason = $4"
    " WHERE p.resumed_at IS NULL AND coalesce(p.task_namespace_id, 0) = coalesce($1, 0) AND coalesce(p.name, '') = coalesce($2, '')",
    4, {INT4OID, TEXTOID, OIDOID, TEXTOID}};
constinit pg::Query select_overlapping{
    "SELECT " TASKER_SCOPE_NAME " FROM tasker.scope_pauses p LEFT JOIN tasker.task_namespaces ps ON ps.task_namespace_id = p.task_namespace_id"
    " WHERE p.resumed_at IS NULL AND (p.task_namespace_id IS NULL OR $1 IS NULL OR p.task_namespace_id = $1 AND (p.name IS NULL OR $2 IS NULL OR p.name = $2))"
    " ORDER BY p.task_namespace_id IS NOT NULL, p.name IS NOT NULL, ps.name, p.name LIMIT $3",
    3, {INT4OID, TEXTOID, INT8OID}};

pg::Params params_of(const Scope &scope) {
  pg::Params params;
  if (scope.namespace_id) params.int4(*scope.namespace_id);
  else params.null();
  params.text_or_null(scope.name);
  return params;
}

Known &list() {
  if (known == nullptr) known = new Known;
  return *known;
}

}  // namespace

Paused read_paused(pg::Access access) {
  const pg::Result found = pg::execute(select_paused, {}, access);
  Paused out;
  for (std::uint64_t i = 0; i < found.rows.size(); i++) {
    out.everything = out.everything || found.rows.boolean(i, 1);
    if (!found.rows.is_null(i, 2)) out.named_tasks.push_back(found.rows.int4(i, 2));
  }
  std::sort(out.named_tasks.begin(), out.named_tasks.end());
  return out;
}

void refresh_pauses() {
  Known &k = list();
  // The generation first: what is committed with it is in the snapshot taken after it.
  const std::uint64_t generation = pause_generation();
  if (k.lasting && k.generation == generation && !pauses_changed_here()) return;
  k.lasting = false;
  k.paused = read_paused(pg::Access::kWrite);
  k.generation = generation;
  // An old snapshot, or changes of this very transaction, say nothing about the next one.
  k.lasting = generation != 0 && !IsolationUsesXactSnapshot() && !pauses_changed_here();
}

bool pauses_changed() { return list().generation != pause_generation(); }

bool scope_paused(int named_task_id) {
  const Known &k = list();
  return k.paused.everything || std::binary_search(k.paused.named_tasks.begin(), k.paused.named_tasks.end(), named_task_id);
}

bool insert_pause(const Scope &scope, Oid actor, const std::optional<std::string> &reason) {
  if (pg::execute(insert_order, params_of(scope).oid(actor).text_or_null(reason)).processed == 0) return false;
  note_pauses_changed();
  return true;
}

bool end_pause(const Scope &scope, Oid actor, const std::optional<std::string> &reason) {
  if (pg::execute(end_order, params_of(scope).oid(actor).text_or_null(reason)).processed == 0) return false;
  note_pauses_changed();
  request_sweep();  // what was paused is in no memory any more
  return true;
}

std::vector<std::string> pauses_over(const Scope &scope, int limit) {
  const pg::Result found = pg::execute(select_overlapping, params_of(scope).int8(limit));
  std::vector<std::string> out;
  for (std::uint64_t i = 0; i < found.rows.size(); i++) out.push_back(found.rows.text(i, 1));
  return out;
}

}  // namespace tasker::store
