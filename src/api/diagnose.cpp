// diagnose_task, diagnose_step, explain_task: an assessed task and what insight sees around it, judged by core/diagnosis.
#include <algorithm>
#include <map>

#include "api/assessment.hpp"
#include "api/running.hpp"
#include "engine/create.hpp"
#include "engine/handlers.hpp"
#include "insight/diagnose.hpp"
#include "pg/args.hpp"
#include "pg/memory.hpp"
#include "pg/security.hpp"
#include "store/settings.hpp"

using namespace tasker;
using api::AssessedStep;
using api::AssessedTask;

namespace {

[[noreturn]] void unknown_task(std::int64_t task_id) { throw tasker::Error(sqlstate::kNoData, "task " + std::to_string(task_id) + " does not exist"); }

std::string as_identifier(const std::string &identifier) {
  const char *name = identifier.c_str();
  return pg::call([=] { return quote_identifier(name); });
}

// shop.charge(jsonb,jsonb), as GRANT takes it.
std::string signature_of(Oid routine) {
  return pg::call([=] { return static_cast<const char *>(format_procedure_qualified(routine)); });
}

core::HandlerCase look_up(const store::CompiledStep &step, Oid owner) {
  core::HandlerCase handler;
  const bool procedure = step.function.empty();
  handler.kind = procedure ? "procedure" : "function";
  handler.name = procedure ? step.procedure : step.function;
  const engine::ResolvedHandler found = procedure ? engine::resolve_procedure(handler.name) : engine::resolve_function(handler.name);
  handler.problem = found.problem;
  if (!OidIsValid(found.oid)) return handler;
  const Oid routine = found.oid;
  const Oid schema = pg::call([=] { return get_func_namespace(routine); });
  handler.signature = signature_of(routine);
  handler.schema = as_identifier(pg::call([=] { return static_cast<const char *>(get_namespace_name(schema)); }));
  handler.may_execute = pg::call([=] { return pg::function_allows_execute(routine, owner); });
  handler.may_use_schema = pg::call([=] { return pg::schema_allows_usage(schema, owner); });
  return handler;
}

// Each function once, however many steps call it.
class Handlers {
 public:
  Handlers(Oid owner, bool owner_gone) : owner_(owner), owner_gone_(owner_gone) {}
  std::optional<core::HandlerCase> of(const store::CompiledStep &step) {
    if (owner_gone_ || (step.function.empty() && step.procedure.empty())) return std::nullopt;
    const std::string &name = step.function.empty() ? step.procedure : step.function;
    const auto [found, fresh] = known_.try_emplace({name, step.function.empty()});
    if (fresh) found->second = look_up(step, owner_);
    return found->second;
  }

 private:
  Oid owner_;
  bool owner_gone_;
  std::map<std::pair<std::string, bool>, core::HandlerCase> known_;
};

double timeout_ms(const store::CompiledStep &step) {
  return step.timeout_seconds ? *step.timeout_seconds * 1000 : static_cast<double>(store::settings.step_timeout_ms);
}

bool may_still_run(const core::StepFacts &facts) { return facts.state == core::StepState::kPending || facts.state == core::StepState::kError; }

core::StepCase case_of(const AssessedTask &task, const AssessedStep &assessed, Handlers &handlers, bool wanted) {
  const store::CompiledStep &definition = task.definition->step(assessed.row.key.step_no);
  core::StepCase step;
  step.name = definition.name;
  step.facts = assessed.facts;
  step.readiness = assessed.readiness;
  step.reason = task.blocking_reason(assessed);
  step.skippable = definition.skippable;
  step.defined_max_attempts = definition.max_attempts;
  step.timeout_ms = timeout_ms(definition);
  step.dependent_system_id = definition.dependent_system_id;
  if (wanted && may_still_run(step.facts)) step.handler = handlers.of(definition);
  return step;
}

core::TaskCase case_of(const AssessedTask &assessed, int only_step) {
  core::TaskCase task;
  const store::TaskRow &row = assessed.row;
  const store::CompiledDefinition &definition = *assessed.definition;
  task.task_id = row.task_id;
  task.ns = definition.ns;
  task.name = definition.name;
  task.version = definition.version;
  task.owner = pg::role_name(row.owner);
  task.owner_identifier = as_identifier(task.owner);
  task.database_identifier = as_identifier(pg::call([] { return static_cast<const char *>(get_database_name(MyDatabaseId)); }));
  task.facts.state = row.state;
  task.facts.paused = row.paused;
  task.facts.run_at = row.run_at;
  task.held = assessed.held;
  task.owner_gone = engine::role_is_gone(row.owner);
  if (!task.owner_gone) task.connect_problem = assessed.connect_problem;
  task.superuser_barred = !task.owner_gone && pg::is_superuser(row.owner) && !store::settings.allow_superuser_tasks;
  task.now = assessed.now;
  task.graph = &definition.graph;
  Handlers handlers(row.owner, task.owner_gone);
  const std::vector<api::RunningStep> running = api::running_steps();
  for (const AssessedStep &step : assessed.steps) {
    const int step_no = step.row.key.step_no;
    const bool wanted = only_step == 0 || step_no == only_step;
    task.steps.push_back(case_of(assessed, step, handlers, wanted && (!core::finished(row.state) || step.facts.state == core::StepState::kError)));
    if (!wanted) continue;
    const auto run =
        std::find_if(running.begin(), running.end(), [&](const api::RunningStep &r) { return r.key == step.row.key && r.moves == step.row.moves; });
    if (step.facts.state == core::StepState::kInProgress && run != running.end())
      task.steps.back().running = core::RunningCase{run->pid, run->started_at, {}, {}};
  }
  return task;
}

struct Diagnosis {
  store::DefinitionPtr definition;  // keeps the graph of the case
  core::TaskCase task;
  std::vector<core::Finding> findings;
  bool consistent = true;
};

// Precondition: inside pg::Spi. The viewer is who calls, whatever identity reads.
Diagnosis diagnose(std::int64_t task_id, const std::optional<std::string> &step_name) {
  api::Viewer viewer(GetUserId());
  pg::OwnerScope as_owner(store::cached_extension_owner());
  Diagnosis out;
  const std::vector<AssessedTask> found = api::assess_tasks(viewer, {task_id});
  if (found.empty()) {
    const auto row = store::load_task(task_id, store::RowLock::kNone);
    if (!row || !viewer.sees(row->owner, row->created_by)) unknown_task(task_id);
    out.consistent = false;
    out.findings.push_back(core::inconsistent_task(task_id));
    return out;
  }
  const AssessedTask &assessed = found.front();
  out.definition = assessed.definition;
  insight::Subject subject{task_id, assessed.row.named_task_id, 0};
  if (step_name) {
    const auto step = assessed.definition->step_by_name.find(*step_name);
    if (step == assessed.definition->step_by_name.end())
      throw tasker::Error(sqlstate::kNoData, "step \"" + *step_name + "\" of task " + std::to_string(task_id) + " does not exist");
    subject.only_step = step->second;
  }
  out.task = case_of(assessed, subject.only_step);
  insight::observe(out.task, subject);
  out.findings = core::diagnose(out.task, subject.only_step);
  return out;
}

Datum jsonb(const core::json &value) {
  return pg::jsonb_datum(value.dump(-1, ' ', false, core::json::error_handler_t::replace));
}

Datum rows(FunctionCallInfo fcinfo, std::int64_t task_id, const std::optional<std::string> &step_name) {
  pg::RowSet out(fcinfo);
  pg::Spi spi;
  const Diagnosis diagnosis = diagnose(task_id, step_name);
  for (const core::Finding &finding : diagnosis.findings) {
    if (finding.step_no != 0)
      out.text(diagnosis.task.steps[static_cast<std::size_t>(finding.step_no - 1)].name);
    else
      out.null();
    out.text(core::to_string(finding.severity))
        .text(finding.code)
        .datum(jsonb(finding.evidence))
        .text(finding.advice)
        .text(core::doc_of(finding.code))
        .end_row();
  }
  return Datum(0);
}

}  // namespace

TASKER_SQL_FUNCTION(tasker_diagnose_task) {
  return pg::entry([&]() -> Datum { return rows(fcinfo, pg::Args(fcinfo).int8(0, "task_id"), std::nullopt); });
}

TASKER_SQL_FUNCTION(tasker_diagnose_step) {
  return pg::entry([&]() -> Datum {
    const pg::Args args(fcinfo);
    return rows(fcinfo, args.int8(0, "task_id"), args.text(1, "step_name"));
  });
}

TASKER_SQL_FUNCTION(tasker_explain_task) {
  return pg::entry([&]() -> Datum {
    const std::int64_t task_id = pg::Args(fcinfo).int8(0, "task_id");
    MemoryContext caller = CurrentMemoryContext;
    std::string report;
    {
      pg::Spi spi;
      const Diagnosis diagnosis = diagnose(task_id, std::nullopt);
      report = diagnosis.consistent ? core::explain(diagnosis.task, diagnosis.findings)
                                    : "Task " + std::to_string(task_id) + ": " + diagnosis.findings.front().summary + ".\n" + diagnosis.findings.front().advice;
    }
    const pg::ContextScope scope(caller);
    return pg::text_datum(report);
  });
}
