// How many steps run at once and how many share a transaction, explained as rows.
#include "store/concurrency.hpp"

#include <algorithm>

#include "api/explanation.hpp"
#include "core/batching.hpp"
#include "pg/args.hpp"
#include "pg/security.hpp"
#include "store/pressure.hpp"
#include "store/settings.hpp"
#include "store/step_stats.hpp"

using namespace tasker;

namespace {

void require_preload() {
  if (store::shared == nullptr)
    throw tasker::Error("TK005", "tasker is not in shared_preload_libraries", {}, "Nothing runs in the background without it: add it and restart the server.");
}

std::string of(std::int64_t part, std::int64_t whole) { return std::to_string(part) + " of " + std::to_string(whole); }

void explain_connections(api::Explanation &out, const core::ConcurrencyInputs &in, const core::ConcurrencyPlan &plan) {
  out.line("max_connections", in.max_connections, "the setting");
  out.line("connections", in.connections, "client sessions of the whole server");
  out.line("available", plan.available, "free ones");
  out.line("utilisation", plan.utilisation, std::string("pressure ") + core::to_string(plan.pressure) + ": " + core::connection_health(plan.pressure));
  out.line("factor", plan.pressure_factor, std::string("share of the free ones that counts at pressure ") + core::to_string(plan.pressure));
  out.line("max_safe", plan.max_safe, "60 % of the free ones: never more, but for a single step");
  out.line("by_connections", plan.by_connections, "what the connections are enough for, within the bounds");
}

void explain_result(api::Explanation &out, const core::ConcurrencyInputs &in, const core::ConcurrencyPlan &plan) {
  out.line("by_connections", plan.by_connections, of(in.connections, in.max_connections) + " connections in use, pressure " + core::to_string(plan.pressure));
  out.line("max_safe", plan.max_safe, "60 % of " + std::to_string(plan.available) + " free connections");
  out.line("load", plan.load, "0.3 × tasks + 0.7 × steps: " + of(in.open_tasks, in.tasks) + " tasks and " + of(in.open_steps, in.steps) + " steps are open");
  out.line("by_load", plan.by_load, "the less is open, the more may run");
  out.line("worker_slots", in.worker_slots, "executors of this database, and free slots of max_worker_processes");
  out.line("min_concurrent_steps", in.min, "the setting");
  out.line("max_concurrent_steps", in.max, "the setting");
  out.line("result", plan.result, "the smallest of the parts, within the bounds");
  const store::ConcurrencyInForce now = store::concurrency_in_force();
  const std::string executors = "; tasker.max_executors bounds the whole server at " + std::to_string(store::settings.max_executors);
  out.line("in_force", now.limit,
           (!store::settings.dynamic_concurrency ? "tasker.dynamic_concurrency is off: max_concurrent_steps"
            : now.decided                       ? "as the dispatcher decided when work last waited"
                                                : "not decided yet: max_concurrent_steps") +
               executors);
}

void write_batch_row(pg::RowSet &rows, const store::Learning &learning) {
  const core::Pressure pressure = store::shared != nullptr ? store::shared->connection_pressure : core::Pressure::kLow;
  const core::BatchRules rules{static_cast<double>(store::settings.max_batch_duration_ms), store::settings.adaptive_batching, pressure};
  const core::BatchSamples samples = learning.samples();
  const core::BatchPlan plan = core::plan_batch(samples, rules);
  rows.int4(learning.named_task_id).int4(learning.step_no).int4(samples.samples).int4(samples.failures);
  for (const double ms : {samples.mean_ms, learning.p50_ms(), samples.p95_ms}) rows.datum(pg::numeric_from_double(ms, 3));
  rows.int4(plan.size).int4(plan.by_time).datum(pg::numeric_from_double(plan.failure_factor, 2)).text(core::to_string(pressure));
  rows.datum(pg::numeric_from_double(plan.pressure_factor, 2)).text(core::explain_batch(plan, samples, rules));
  rows.end_row();
}

using Teller = void (*)(api::Explanation &, const core::ConcurrencyInputs &, const core::ConcurrencyPlan &);

Datum explain(FunctionCallInfo fcinfo, Teller tell) {
  require_preload();
  api::Explanation out(fcinfo);
  pg::Spi spi;
  pg::OwnerScope as_owner;
  const core::ConcurrencyInputs inputs = store::concurrency_inputs();
  tell(out, inputs, core::plan_concurrency(inputs));
  return Datum(0);
}

}  // namespace

TASKER_SQL_FUNCTION(tasker_assess_connection_health) {
  return pg::entry([&]() -> Datum { return explain(fcinfo, explain_connections); });
}

TASKER_SQL_FUNCTION(tasker_recommended_concurrency) {
  return pg::entry([&]() -> Datum { return explain(fcinfo, explain_result); });
}

TASKER_SQL_FUNCTION(tasker_batch_rows) {
  return pg::entry([&]() -> Datum {
    pg::RowSet rows(fcinfo);
    pg::Spi spi;
    pg::OwnerScope as_owner;
    for (const store::Learning &learning : store::learnings()) write_batch_row(rows, learning);
    return Datum(0);
  });
}
