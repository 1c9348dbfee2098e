// The readiness functions: ids in, rows of what core/readiness says.
#include <algorithm>
#include <functional>
#include <set>

#include "api/assessment.hpp"
#include "pg/args.hpp"
#include "pg/memory.hpp"
#include "pg/security.hpp"

using namespace tasker;
using api::AssessedStep;
using api::AssessedTask;

namespace {

constinit pg::Query definition_exists{"SELECT 1 FROM tasker.named_tasks n WHERE n.named_task_id = $1", 1, {INT4OID}};

inline constexpr std::size_t kChunk = 1000;  // tasks in memory at once

// States as values of tasker's enums.
class StateType {
 public:
  explicit StateType(const char *name)
      : type_(pg::call([=] { return GetSysCacheOid2(TYPENAMENSP, Anum_pg_type_oid, CStringGetDatum(name), ObjectIdGetDatum(get_namespace_oid("tasker", false))); })) {}
  Datum value(const char *state) const {
    const Oid type = type_;
    return pg::call([=] { return DirectFunctionCall2(enum_in, CStringGetDatum(state), ObjectIdGetDatum(type)); });
  }

 private:
  Oid type_;
};

Datum interval_datum(std::int64_t microseconds) {
  return pg::call([=] {
    auto *interval = static_cast<Interval *>(palloc0(sizeof(Interval)));
    interval->time = microseconds;
    return IntervalPGetDatum(interval);
  });
}

void numeric_or_null(pg::RowSet &rows, const std::optional<std::string> &text) {
  if (!text) {
    rows.null();
    return;
  }
  const char *digits = text->c_str();
  rows.datum(pg::call([=] { return DirectFunctionCall3(numeric_in, CStringGetDatum(digits), ObjectIdGetDatum(InvalidOid), Int32GetDatum(-1)); }));
}

using Visit = std::function<void(const AssessedTask &)>;

// Every task the caller may see, in order of id, each once; a bounded number in memory.
void for_each_task(std::vector<std::int64_t> ids, const Visit &visit) {
  std::sort(ids.begin(), ids.end());
  ids.erase(std::unique(ids.begin(), ids.end()), ids.end());
  api::Viewer viewer(GetUserId());
  for (std::size_t begin = 0; begin < ids.size(); begin += kChunk) {
    pg::check_interrupts();
    const std::size_t end = std::min(ids.size(), begin + kChunk);
    pg::Spi spi;
    pg::OwnerScope as_owner(store::cached_extension_owner());
    const std::vector<std::int64_t> chunk(ids.begin() + static_cast<std::ptrdiff_t>(begin), ids.begin() + static_cast<std::ptrdiff_t>(end));
    for (const AssessedTask &task : api::assess_tasks(viewer, chunk)) visit(task);
  }
}

// When it becomes ready, or for a step that waited for its retry and is ready: when it became so.
std::optional<TimestampTz> next_retry_at(const AssessedStep &step) {
  return step.readiness.ready ? step.row.next_attempt_at : step.readiness.ready_at;
}

void add_readiness(pg::RowSet &rows, const StateType &states, const AssessedTask &task, const AssessedStep &step) {
  const core::Readiness &r = step.readiness;
  const std::string reason = task.blocking_reason(step);
  rows.int8(task.row.task_id).text(task.definition->step(step.row.key.step_no).name).datum(states.value(core::to_string(step.facts.state)))
      .boolean(r.dependencies_satisfied).boolean(r.retry_eligible).boolean(r.ready).timestamp_or_null(step.last_failure_at)
      .timestamp_or_null(next_retry_at(step)).int4(r.total_parents).int4(r.completed_parents).int4(step.row.attempts).int4(step.facts.max_attempts);
  numeric_or_null(rows, step.requested_seconds);
  rows.timestamp_or_null(step.row.started_at).text_or_null(reason.empty() ? std::nullopt : std::optional<std::string>(reason));
  if (r.ready) rows.datum(interval_datum(0));
  else if (r.ready_at) rows.datum(interval_datum(std::max<std::int64_t>(0, *r.ready_at - task.now)));
  else rows.null();
  rows.end_row();
}

void add_context(pg::RowSet &rows, const StateType &states, const AssessedTask &task) {
  std::vector<core::StepFacts> facts;
  std::vector<core::Readiness> readiness;
  for (const AssessedStep &step : task.steps) {
    facts.push_back(step.facts);
    readiness.push_back(step.readiness);
  }
  const core::ExecutionContext c = core::execution_context(task.definition->graph, facts, readiness);
  rows.int8(task.row.task_id).int4(task.row.named_task_id).datum(states.value(core::to_string(task.row.state))).int8(c.total_steps).int8(c.pending_steps)
      .int8(c.in_progress_steps).int8(c.completed_steps).int8(c.failed_steps).int8(c.cancelled_steps).int8(c.ready_steps).text(c.execution_status)
      .text(c.recommended_action).datum(pg::numeric_from_double(c.completion_percentage, 2)).text(c.health_status).end_row();
}

Datum contexts(FunctionCallInfo fcinfo, const std::vector<std::int64_t> &ids) {
  pg::RowSet rows(fcinfo);
  const StateType states("task_state");
  for_each_task(ids, [&](const AssessedTask &task) { add_context(rows, states, task); });
  return Datum(0);
}

// The reasons of one task, kept from row to row of a query in a context of their own.
struct ReasonMemo {
  MemoryContext memory;
  Oid role;
  api::SnapshotKey snapshot;
  std::int64_t task_id;
  int count;
  Datum *reasons;  // by step_no - 1; 0 for nothing
};

void fill_reasons(ReasonMemo &memo, std::int64_t task_id) {
  memo.role = GetUserId();
  memo.snapshot = api::current_snapshot();
  memo.task_id = task_id;
  memo.count = 0;
  MemoryContextReset(memo.memory);
  for_each_task({task_id}, [&](const AssessedTask &task) {
    const pg::ContextScope scope(memo.memory);
    const std::size_t bytes = sizeof(Datum) * task.steps.size();
    memo.reasons = static_cast<Datum *>(pg::call([=] { return palloc0(bytes); }));
    for (const AssessedStep &step : task.steps) {
      const std::string reason = task.blocking_reason(step);
      if (!reason.empty()) memo.reasons[memo.count] = pg::text_datum(reason);
      memo.count++;
    }
  });
}

// Distances from the roots of one definition, likewise.
struct DepthMemo {
  MemoryContext memory;
  int named_task_id, count;
  int *depths;
};

std::vector<int> depths(const core::Graph &graph) {
  std::vector<int> depth(static_cast<std::size_t>(graph.size()), -1), queue;
  for (int node = 0; node < graph.size(); node++) {
    if (!graph.is_root(node)) continue;
    depth[static_cast<std::size_t>(node)] = 0;
    queue.push_back(node);
  }
  for (std::size_t head = 0; head < queue.size(); head++) {
    for (const int child : graph.children(queue[head])) {
      if (depth[static_cast<std::size_t>(child)] >= 0) continue;
      depth[static_cast<std::size_t>(child)] = depth[static_cast<std::size_t>(queue[head])] + 1;
      queue.push_back(child);
    }
  }
  return depth;
}

void fill_depths(DepthMemo &memo, int named_task_id) {
  MemoryContextReset(memo.memory);
  memo.named_task_id = named_task_id;
  memo.count = 0;
  pg::Spi spi;
  pg::OwnerScope as_owner(store::cached_extension_owner());
  if (pg::execute(definition_exists, pg::Params().int4(named_task_id), pg::Access::kRead).rows.empty()) return;
  const std::vector<int> found = depths(store::definition(named_task_id)->graph);
  MemoryContext memory = memo.memory;
  const std::size_t bytes = sizeof(int) * found.size();
  memo.depths = static_cast<int *>(pg::call([=] { return MemoryContextAlloc(memory, bytes); }));
  std::copy(found.begin(), found.end(), memo.depths);
  memo.count = static_cast<int>(found.size());
}

template <class Memo>
Memo &memo_of(FunctionCallInfo fcinfo, bool &fresh) {
  FmgrInfo *function = fcinfo->flinfo;
  fresh = function->fn_extra == nullptr;
  if (fresh) {
    function->fn_extra = pg::call([=] {
      auto *memo = static_cast<Memo *>(MemoryContextAllocZero(function->fn_mcxt, sizeof(Memo)));
      memo->memory = AllocSetContextCreate(function->fn_mcxt, "tasker view memo", ALLOCSET_SMALL_SIZES);
      return memo;
    });
  }
  return *static_cast<Memo *>(function->fn_extra);
}

}  // namespace

TASKER_SQL_FUNCTION(tasker_get_step_readiness_status) {
  return pg::entry([&]() -> Datum {
    const pg::Args args(fcinfo);
    const bool all = args.is_null(1);
    const std::vector<std::string> names = all ? std::vector<std::string>() : args.texts(1, "step_names");
    const std::set<std::string, std::less<>> wanted(names.begin(), names.end());
    pg::RowSet rows(fcinfo);
    const StateType states("step_state");
    if (args.is_null(0)) return Datum(0);
    for_each_task({args.int8(0, "task_id")}, [&](const AssessedTask &task) {
      for (const AssessedStep &step : task.steps)
        if (all || wanted.contains(task.definition->step(step.row.key.step_no).name)) add_readiness(rows, states, task, step);
    });
    return Datum(0);
  });
}

TASKER_SQL_FUNCTION(tasker_get_step_readiness_status_batch) {
  return pg::entry([&]() -> Datum {
    const pg::Args args(fcinfo);
    pg::RowSet rows(fcinfo);
    const StateType states("step_state");
    for_each_task(args.int8s(0, "task_ids"), [&](const AssessedTask &task) {
      for (const AssessedStep &step : task.steps) add_readiness(rows, states, task, step);
    });
    return Datum(0);
  });
}

TASKER_SQL_FUNCTION(tasker_get_task_execution_context) {
  return pg::entry([&]() -> Datum {
    const pg::Args args(fcinfo);
    return contexts(fcinfo, args.is_null(0) ? std::vector<std::int64_t>() : std::vector<std::int64_t>{args.int8(0, "task_id")});
  });
}

TASKER_SQL_FUNCTION(tasker_get_task_execution_contexts_batch) {
  return pg::entry([&]() -> Datum { return contexts(fcinfo, pg::Args(fcinfo).int8s(0, "task_ids")); });
}

TASKER_SQL_FUNCTION(tasker_calculate_dependency_levels) {
  return pg::entry([&]() -> Datum {
    const pg::Args args(fcinfo);
    pg::RowSet rows(fcinfo);
    if (args.is_null(0)) return Datum(0);
    for_each_task({args.int8(0, "task_id")}, [&](const AssessedTask &task) {
      const std::vector<int> levels = core::levels(task.definition->graph);
      std::vector<int> order(levels.size());
      for (std::size_t i = 0; i < order.size(); i++) order[i] = static_cast<int>(i);
      std::stable_sort(order.begin(), order.end(), [&](int a, int b) { return levels[static_cast<std::size_t>(a)] < levels[static_cast<std::size_t>(b)]; });
      for (const int node : order) rows.text(task.definition->step(node + 1).name).int4(levels[static_cast<std::size_t>(node)]).end_row();
    });
    return Datum(0);
  });
}

TASKER_SQL_FUNCTION(tasker_step_blocking_reason) {
  return pg::entry([&]() -> Datum {
    const pg::Args args(fcinfo);
    const std::int64_t task_id = args.int8(0, "task_id");
    const int step_no = args.int4(1, "step_no");
    bool fresh = false;
    ReasonMemo &memo = memo_of<ReasonMemo>(fcinfo, fresh);
    if (fresh || memo.task_id != task_id || memo.role != GetUserId() || !(memo.snapshot == api::current_snapshot())) fill_reasons(memo, task_id);
    if (step_no < 1 || step_no > memo.count || args.int4(2, "element") != -1 || memo.reasons[step_no - 1] == Datum(0)) {
      fcinfo->isnull = true;
      return Datum(0);
    }
    return memo.reasons[step_no - 1];
  });
}

TASKER_SQL_FUNCTION(tasker_step_depth) {
  return pg::entry([&]() -> Datum {
    const pg::Args args(fcinfo);
    const int named_task_id = args.int4(0, "named_task_id"), step_no = args.int4(1, "step_no");
    bool fresh = false;
    DepthMemo &memo = memo_of<DepthMemo>(fcinfo, fresh);
    if (fresh || memo.named_task_id != named_task_id) fill_depths(memo, named_task_id);
    if (step_no < 1 || step_no > memo.count) {
      fcinfo->isnull = true;
      return Datum(0);
    }
    return Int32GetDatum(memo.depths[step_no - 1]);
  });
}
