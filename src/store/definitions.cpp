#include "store/definitions.hpp"

#include "pg/security.hpp"

namespace tasker::store {

namespace {

inline constexpr std::size_t kCacheLimit = 512;

using Cache = std::unordered_map<int, DefinitionPtr>;
constinit Cache *cache = nullptr;
constinit bool stale = false;
constinit Oid owner = InvalidOid;
constinit Oid step_call = InvalidOid;

extern "C" void forget(Datum, int, uint32) { stale = true; }

void refresh() {
  if (!stale) return;
  stale = false;
  if (cache) cache->clear();
  owner = step_call = InvalidOid;
}

constinit pg::Query load_task{
    "SELECT ns.task_namespace_id, ns.name, nt.name, nt.version, nt.author::oid, nt.run_as = 'definer', nt.sink_count,"
    " nt.deadline_seconds, nt.context_schema::text"
    " FROM tasker.named_tasks nt JOIN tasker.task_namespaces ns USING (task_namespace_id) WHERE nt.named_task_id = $1",
    1, {INT4OID}};

constinit pg::Query load_steps{
    "SELECT s.step_no, s.name, s.handler_type, s.handler ->> 'function', s.handler ->> 'query', s.handler ->> 'procedure',"
    " s.handler::text, d.name, s.parents, s.children, s.retryable, s.max_attempts, s.backoff_base, s.backoff_multiplier,"
    " s.backoff_max, s.backoff_jitter, s.timeout_seconds, s.skippable, s.own_transaction, s.isolation, s.priority, s.level, s.retry_on, s.fail_on,"
    " s.dependent_system_id, s.handler ->> 'server', s.handler ->> 'queue', CASE s.handler_type WHEN 'signal' THEN s.handler ->> 'name' END"
    " FROM tasker.named_steps s LEFT JOIN tasker.dependent_systems d USING (dependent_system_id)"
    " WHERE s.named_task_id = $1 ORDER BY s.step_no",
    1, {INT4OID}};

constinit pg::Query find_version{
    "SELECT nt.named_task_id, nt.retired_at IS NOT NULL FROM tasker.named_tasks nt JOIN tasker.task_namespaces ns USING (task_namespace_id)"
    " WHERE ns.name = $1 AND nt.name = $2 AND nt.version = $3",
    3, {TEXTOID, TEXTOID, TEXTOID}};

constinit pg::Query find_latest{
    "SELECT nt.named_task_id, nt.retired_at IS NOT NULL FROM tasker.named_tasks nt JOIN tasker.task_namespaces ns USING (task_namespace_id)"
    " WHERE ns.name = $1 AND nt.name = $2 ORDER BY nt.retired_at IS NOT NULL, nt.version_order DESC LIMIT 1",
    2, {TEXTOID, TEXTOID}};

constinit pg::Query select_namespace{"SELECT ns.task_namespace_id FROM tasker.task_namespaces ns WHERE ns.name = $1", 1, {TEXTOID}};
constinit pg::Query select_definitions{
    "SELECT nt.named_task_id FROM tasker.named_tasks nt WHERE nt.task_namespace_id = $1 AND ($2 IS NULL OR nt.name = $2)", 2, {INT4OID, TEXTOID}};

HandlerType handler_type(const std::string &name) {
  if (name == "sql") return HandlerType::kSql;
  if (name == "noop") return HandlerType::kNoop;
  if (name == "http") return HandlerType::kHttp;
  if (name == "external") return HandlerType::kExternal;
  if (name == "wait") return HandlerType::kWait;
  if (name == "signal") return HandlerType::kSignal;
  throw tasker::Error(sqlstate::kInternal, "unknown handler type \"" + name + "\"");
}

CompiledStep compile_step(const pg::Rows &rows, std::uint64_t i) {
  CompiledStep step;
  step.step_no = rows.int4(i, 1);
  step.name = rows.text(i, 2);
  step.type_name = rows.text(i, 3);
  step.type = handler_type(step.type_name);
  step.function = rows.text(i, 4);
  step.query = rows.text(i, 5);
  step.procedure = rows.text(i, 6);
  step.handler = rows.text(i, 7);
  step.dependent_system = rows.text(i, 8);
  step.parents = rows.int4s(i, 9);
  step.children = rows.int4s(i, 10);
  step.retryable = rows.boolean(i, 11);
  step.max_attempts = rows.int4(i, 12);
  step.backoff = {rows.float8(i, 13), rows.float8(i, 14), rows.float8(i, 15), rows.float8(i, 16)};
  if (!rows.is_null(i, 17)) step.timeout_seconds = rows.float8(i, 17);
  step.skippable = rows.boolean(i, 18);
  step.own_transaction = rows.boolean(i, 19);
  step.isolation = rows.text(i, 20);
  step.priority = rows.int4(i, 21);
  step.level = rows.int4(i, 22);
  step.overrides = {rows.texts(i, 23), rows.texts(i, 24)};
  if (!rows.is_null(i, 25) && step.type != HandlerType::kNoop) step.dependent_system_id = rows.int4(i, 25);
  step.server = rows.text(i, 26);
  step.queue = rows.text(i, 27);
  step.signal_name = rows.text(i, 28);
  return step;
}

// The same text: the same work, done in the same way.
std::string work_of(const CompiledStep &step) {
  if (step.type != HandlerType::kSql) return {};
  return std::string(step.own_transaction ? "alone" : "shared") + '\0' + step.isolation + '\0' + step.function + '\0' + step.query + '\0' + step.procedure;
}

DefinitionPtr compile(int named_task_id) {
  auto out = std::make_shared<CompiledDefinition>();
  const pg::Result head = pg::execute(load_task, pg::Params().int4(named_task_id), pg::Access::kWrite);
  if (head.rows.empty()) throw tasker::Error(sqlstate::kInternal, "definition " + std::to_string(named_task_id) + " does not exist");
  const pg::Rows &h = head.rows;
  out->named_task_id = named_task_id;
  out->namespace_id = h.int4(0, 1);
  out->ns = h.text(0, 2);
  out->name = h.text(0, 3);
  out->version = h.text(0, 4);
  out->author = h.oid(0, 5);
  out->runs_as_definer = h.boolean(0, 6);
  out->sink_count = h.int4(0, 7);
  if (!h.is_null(0, 8)) out->deadline_seconds = h.float8(0, 8);
  out->context_schema = h.text(0, 9);

  const pg::Result body = pg::execute(load_steps, pg::Params().int4(named_task_id), pg::Access::kWrite);
  std::vector<std::vector<int>> parents;
  std::vector<std::string> work;
  for (std::uint64_t i = 0; i < body.rows.size(); i++) {
    CompiledStep step = compile_step(body.rows, i);
    std::vector<int> nodes;
    for (int parent : step.parents) nodes.push_back(parent - 1);
    parents.push_back(std::move(nodes));
    work.push_back(work_of(step));
    out->step_by_name.emplace(step.name, step.step_no);
    out->steps.push_back(std::move(step));
  }
  const std::vector<core::Learner> learners = core::learners(work);
  for (std::size_t i = 0; i < learners.size(); i++) out->steps[i].learner = learners[i];
  out->graph = core::Graph(std::move(parents));
  return out;
}

}  // namespace

DefinitionPtr definition(int named_task_id) {
  refresh();
  if (cache == nullptr) cache = new Cache;  // lives as long as the process
  if (auto found = cache->find(named_task_id); found != cache->end()) return found->second;
  if (cache->size() >= kCacheLimit) cache->clear();
  DefinitionPtr compiled = compile(named_task_id);
  cache->emplace(named_task_id, compiled);
  return compiled;
}

std::optional<FoundDefinition> find_definition(std::string_view ns, std::string_view name, const std::optional<std::string> &version) {
  const pg::Result found = version ? pg::execute(find_version, pg::Params().text(ns).text(name).text(*version))
                                   : pg::execute(find_latest, pg::Params().text(ns).text(name));
  if (found.rows.empty()) return std::nullopt;
  return FoundDefinition{found.rows.int4(0, 1), found.rows.boolean(0, 2)};
}

std::optional<int> find_namespace(std::string_view ns) {
  const pg::Result found = pg::execute(select_namespace, pg::Params().text(ns));
  if (found.rows.empty()) return std::nullopt;
  return found.rows.int4(0, 1);
}

std::vector<int> definitions_in(int namespace_id, const std::optional<std::string> &name) {
  const pg::Result found = pg::execute(select_definitions, pg::Params().int4(namespace_id).text_or_null(name));
  std::vector<int> out;
  for (std::uint64_t i = 0; i < found.rows.size(); i++) out.push_back(found.rows.int4(i, 1));
  return out;
}

void register_cache_invalidation() {
  CacheRegisterSyscacheCallback(NAMESPACEOID, forget, Datum(0));
}

Oid cached_extension_owner() {
  refresh();
  if (!OidIsValid(owner)) owner = pg::extension_owner();
  return owner;
}

Oid step_call_type() {
  refresh();
  if (!OidIsValid(step_call))
    step_call = pg::call([]() -> Oid {
      const Oid schema = get_namespace_oid("tasker", true);
      return OidIsValid(schema) ? GetSysCacheOid2(TYPENAMENSP, Anum_pg_type_oid, CStringGetDatum("step_call"), ObjectIdGetDatum(schema)) : InvalidOid;
    });
  return step_call;
}

}  // namespace tasker::store
