// What is decided about retries, and why: the classification of errors, the history of a step, the factors of a delay.
#include <algorithm>

#include "api/explanation.hpp"
#include "api/visibility.hpp"
#include "core/failure.hpp"
#include "engine/failure.hpp"
#include "pg/args.hpp"
#include "pg/security.hpp"
#include "store/pressure.hpp"
#include "store/settings.hpp"
#include "store/step_history.hpp"

using namespace tasker;

namespace {

constinit pg::Query select_patterns{
    "SELECT coalesce(sum(h.attempts), 0)::bigint, coalesce(sum(h.successes), 0)::bigint FROM tasker.task_namespaces ns"
    " JOIN tasker.named_tasks n ON n.task_namespace_id = ns.task_namespace_id JOIN tasker.named_steps d ON d.named_task_id = n.named_task_id"
    " JOIN tasker.step_history h ON h.named_task_id = d.named_task_id AND h.step_no = d.step_no"
    " WHERE d.name = $1 AND ($4 IS NULL OR ns.name = $4) AND ($5 IS NULL OR n.name = $5)"
    " AND h.attempt = $2 AND h.hour >= clock_timestamp() - make_interval(days => $3)",
    5, {TEXTOID, INT4OID, INT4OID, TEXTOID, TEXTOID}};

constinit pg::Query select_step{
    "SELECT t.named_task_id, t.owner::oid, t.created_by::oid, s.step_no, s.state::text, s.attempts, s.error ->> 'category',"
    " s.error #>> '{retry,delay_seconds}', s.error #>> '{retry,next_attempt_at}', (s.error #>> '{retry,requested_seconds}')::float8, coalesce(s.max_attempts, d.max_attempts)"
    " FROM tasker.tasks t JOIN tasker.named_steps d ON d.named_task_id = t.named_task_id AND d.name = $2"
    " JOIN tasker.workflow_steps s ON s.task_id = t.task_id AND s.step_no = d.step_no AND s.element = -1 WHERE t.task_id = $1",
    2, {INT8OID, TEXTOID}};

std::string percent(double part) {
  char text[32];
  snprintf(text, sizeof text, "%.0f %%", part * 100);
  return text;
}

std::string number(double value) {
  char text[48];
  snprintf(text, sizeof text, "%g", value);
  return text;
}

// "12 of 40 attempts number 2 succeeded in 7 days: longer_backoff"
std::string told(const core::SuccessHistory &history, const std::string &what, bool enough = true) {
  if (history.attempts == 0) return "no " + what + " known";
  std::string out = std::to_string(history.successes) + " of " + std::to_string(history.attempts) + " " + what + " succeeded";
  if (!enough) return out + ": too few to speak";
  return out + ": " + core::recommend(history).recommendation;
}

struct Asked {
  int named_task_id = 0, step_no = 0, attempts = 0, limit = 0;
  bool failed = false;
  std::string category = "unknown";
  std::optional<double> requested;
  std::optional<std::string> decided_delay, decided_at;
};

Asked read_step(std::int64_t task_id, const std::string &name) {
  api::Viewer viewer(GetUserId());
  const pg::Result found = pg::execute(select_step, pg::Params().int8(task_id).text(name), pg::Access::kRead);
  if (found.rows.empty() || !viewer.sees(found.rows.oid(0, 2), found.rows.oid(0, 3)))
    throw tasker::Error(sqlstate::kNoData, "step \"" + name + "\" of task " + std::to_string(task_id) + " does not exist");
  const pg::Rows &r = found.rows;
  Asked asked;
  asked.named_task_id = r.int4(0, 1);
  asked.step_no = r.int4(0, 4);
  asked.failed = r.text(0, 5) == "error";
  asked.attempts = r.int4(0, 6) + (asked.failed ? 0 : 1);
  if (asked.failed) {
    asked.category = r.text_or_null(0, 7).value_or("unknown");
    asked.decided_delay = r.text_or_null(0, 8);
    asked.decided_at = r.text_or_null(0, 9);
    if (!r.is_null(0, 10)) asked.requested = r.float8(0, 10);
  }
  asked.limit = r.int4(0, 11);
  return asked;
}

void explain_factors(api::Explanation &out, const core::RetryInputs &inputs, const core::RetryPlan &plan) {
  const int next = std::min(inputs.attempts + 1, core::kMaxHistoryAttempt);
  const std::string attempts = "attempts number " + std::to_string(next) + (next == core::kMaxHistoryAttempt ? " and later" : "") + " of the last " +
                               std::to_string(store::kHistoryDays) + " days";
  out.line("error", plan.error_factor, "category " + std::string(inputs.category));
  out.line("pressure", plan.pressure_factor,
           percent(store::connection_utilisation()) + " of the connections in use: " + core::to_string(inputs.pressure));
  std::string history = told(inputs.history, attempts);
  if (plan.recent_spoke) history += "; " + told(inputs.recent, "recent first attempts") + ", so the past may shorten the delay, not lengthen it";
  out.line("history", plan.history_factor, history);
  out.line("hour", plan.hour_factor, told(inputs.hour, attempts + " at this hour", inputs.hour.attempts >= core::kMinHourAttempts));
}

void explain(FunctionCallInfo fcinfo, const Asked &asked) {
  const store::DefinitionPtr definition = store::definition(asked.named_task_id);
  const store::CompiledStep &step = definition->step(asked.step_no);
  api::Explanation out(fcinfo);
  core::RetryInputs inputs = engine::retry_inputs(asked.named_task_id, step, asked.attempts, asked.category);
  inputs.requested_seconds = asked.requested;
  const core::RetryPlan plan = core::plan_retry(inputs);
  const core::Backoff &b = step.backoff;
  out.line("base", plan.base_seconds, "backoff before attempt " + std::to_string(asked.attempts + 1) + ": " + number(b.base_seconds) + " s × " +
                                          number(b.multiplier) + "^" + std::to_string(asked.attempts - 1) + ", at most " + number(b.max_seconds) + " s");
  if (plan.requested) out.line("requested", *asked.requested, "the step asked for this delay: taken as it is, at most 300 s");
  else if (!plan.predicted) out.line("predictive_retry", 0, "tasker.predictive_retry is off: the plain backoff holds");
  else explain_factors(out, inputs, plan);
  if (!plan.requested && b.jitter > 0) out.line("jitter", b.jitter, "spread at random by ± " + percent(b.jitter));
  std::string result = "the delay in seconds, without jitter";
  if (asked.attempts >= asked.limit) result += "; but " + std::to_string(asked.limit) + " attempts are all there are";
  if (!step.retryable) result = "the definition allows one attempt only";
  out.line("result", plan.delay_seconds, result);
  if (asked.decided_delay && asked.decided_at) out.line("decided", std::stod(*asked.decided_delay), "what was decided when it failed: next attempt at " + *asked.decided_at);
}

}  // namespace

TASKER_SQL_FUNCTION(tasker_failure_classes) {
  return pg::entry([&]() -> Datum {
    pg::RowSet rows(fcinfo);
    for (const core::FailureRule &rule : core::failure_rules()) {
      rows.text(rule.code).text(rule.verdict.category).boolean(rule.verdict.retryable).text(rule.meaning);
      rows.end_row();
    }
    return Datum(0);
  });
}

TASKER_SQL_FUNCTION(tasker_analyze_step_historical_success_patterns) {
  return pg::entry([&]() -> Datum {
    const pg::Args args(fcinfo);
    const std::string step = args.text(0, "step_name");
    const int attempts = args.int4(1, "current_attempts");
    const int days = args.int4(2, "lookback_days");
    if (attempts < 0) throw tasker::Error(sqlstate::kInvalidParameter, "current_attempts must not be negative");
    if (days < 1 || days > 90) throw tasker::Error(sqlstate::kInvalidParameter, "lookback_days must be from 1 to 90", {}, "History is kept for 90 days.");
    core::SuccessHistory history;
    {
      pg::Spi spi;
      pg::OwnerScope as_owner(store::cached_extension_owner());
      const pg::Result found = pg::execute(select_patterns, pg::Params().text(step).int4(std::min(attempts + 1, core::kMaxHistoryAttempt)).int4(days)
                                                                .text_or_null(args.text_or_null(3)).text_or_null(args.text_or_null(4)), pg::Access::kRead);
      history = {found.rows.int8(0, 1), found.rows.int8(0, 2)};
    }
    const core::Recommendation advice = core::recommend(history);
    pg::RowSet rows(fcinfo);
    rows.int8(history.attempts).int8(history.successes);
    if (history.attempts > 0) rows.datum(pg::numeric_from_double(history.rate(), 4));
    else rows.null();
    rows.text(advice.confidence).text(advice.recommendation);
    rows.end_row();
    return Datum(0);
  });
}

TASKER_SQL_FUNCTION(tasker_explain_retry) {
  return pg::entry([&]() -> Datum {
    const pg::Args args(fcinfo);
    const std::int64_t task_id = args.int8(0, "task_id");
    const std::string step = args.text(1, "step_name");
    pg::Spi spi;
    pg::OwnerScope as_owner(store::cached_extension_owner());
    explain(fcinfo, read_step(task_id, step));
    return Datum(0);
  });
}
