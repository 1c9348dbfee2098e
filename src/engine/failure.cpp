#include "engine/failure.hpp"

#include <algorithm>
#include <cmath>

#include "core/failure.hpp"
#include "core/json.hpp"
#include "store/pressure.hpp"
#include "store/settings.hpp"
#include "store/step_history.hpp"
#include "store/step_stats.hpp"

extern "C" {
#include "common/pg_prng.h"
}

namespace tasker::engine {

namespace {

// Longer texts of an error are cut: it is kept in the row, in the history, and shown in views.
inline constexpr std::size_t kMaxErrorText = 8192;
// A larger context of raise_retryable or raise_permanent is left out.
inline constexpr std::size_t kMaxErrorContext = 65536;

// What raise_retryable and raise_permanent put into DETAIL; also readable from a plain RAISE … USING DETAIL.
struct Request {
  std::optional<double> retry_after;
  std::optional<int> max_attempts;
  core::json context;
  bool understood = false;
};

Request read_request(const pg::Caught &error) {
  Request out;
  if (error.sqlstate != sqlstate::kRetryable && error.sqlstate != sqlstate::kPermanent) return out;
  core::json detail;
  try {
    detail = core::parse_json(error.detail);
  } catch (const tasker::Error &) {
    return out;
  }
  if (!detail.is_object()) return out;
  out.understood = true;
  if (auto it = detail.find("retry_after_seconds"); it != detail.end() && it->is_number()) out.retry_after = it->get<double>();
  if (auto it = detail.find("max_attempts"); it != detail.end() && it->is_number_integer())
    out.max_attempts = static_cast<int>(std::clamp<std::int64_t>(it->get<std::int64_t>(), 1, INT_MAX));
  if (auto it = detail.find("context"); it != detail.end()) out.context = *it;
  if (auto it = detail.find("reason"); it != detail.end()) {
    if (!out.context.is_null() && !out.context.is_object()) out.context = core::json::object({{"value", out.context}});  // room for the reason
    out.context["reason"] = *it;
  }
  return out;
}

// Invalid bytes (an SQL_ASCII server's messages) become replacement characters instead of a second failure.
std::string dump(const core::json &value) { return value.dump(-1, ' ', false, core::json::error_handler_t::replace); }

std::string cut(const std::string &text) {
  if (text.size() <= kMaxErrorText) return text;
  std::size_t end = kMaxErrorText;
  while (end > 0 && (static_cast<unsigned char>(text[end]) & 0xC0) == 0x80) end--;
  return text.substr(0, end) + "… (" + std::to_string(text.size()) + " bytes)";
}

core::json error_context(const Request &request, const pg::Caught &error) {
  if (request.context.is_null()) return cut(error.context);
  if (const std::size_t size = dump(request.context).size(); size > kMaxErrorContext) return {{"left_out", std::to_string(size) + " bytes"}};
  return request.context;
}

double round_to_ms(double seconds) { return std::round(seconds * 1000) / 1000; }

core::json factors_of(const core::RetryPlan &plan) {
  if (!plan.predicted) return core::json::object();
  return {{"error", plan.error_factor}, {"pressure", plan.pressure_factor}, {"history", plan.history_factor}, {"hour", plan.hour_factor},
          {"jitter", round_to_ms(plan.jitter_factor)}};
}

}  // namespace

FailureDecision decide_failure(const pg::Caught &error, const store::StepRow &row, const store::CompiledStep &step, int attempts,
                               const char *category, bool may_retry) {
  const core::FailureClass verdict = core::classify_failure(error.sqlstate, step.overrides);
  const Request request = read_request(error);
  FailureDecision out;
  out.contention = verdict.contention;
  out.out_of_memory = error.sqlstate == kOutOfMemory;
  out.category = category ? category : verdict.category;
  // What the step makes of such an error says nothing about the system.
  out.against_system = core::counts_for_breaker(out.category, may_retry && core::classify_failure(error.sqlstate).retryable);
  out.attempts = attempts;
  out.max_attempts = request.max_attempts;
  out.requested_seconds = request.retry_after;
  out.message = cut(error.message);
  const int limit = request.max_attempts.value_or(row.max_attempts.value_or(step.max_attempts));
  out.retryable = may_retry && verdict.retryable && step.retryable;
  out.permanent = !out.retryable;
  out.retry = out.retryable && attempts < limit;
  core::json document = {{"message", out.message},       {"sqlstate", error.sqlstate}, {"detail", request.understood ? "" : cut(error.detail)},
                         {"hint", cut(error.hint)},      {"context", error_context(request, error)}, {"category", out.category},
                         {"retryable", out.retryable}, {"attempt", attempts}};
  // A context that was asked for takes the place of PostgreSQL's own, which still tells where it came from.
  if (!request.context.is_null()) document["stack"] = cut(error.context);
  out.error = dump(document);
  return out;
}

pg::Caught deadline_passed(TimestampTz deadline_at) {
  const char *text = pg::call([=] { return timestamptz_to_str(deadline_at); });
  return {"57014", std::string("the deadline of the task passed at ") + text, {}, "retry_task gives it the same time again; deadline_seconds of the definition or of create_task gives more.", {}};
}

core::RetryInputs retry_inputs(int named_task_id, const store::CompiledStep &step, int attempts, std::string_view category) {
  core::RetryInputs inputs;
  inputs.backoff = step.backoff;
  inputs.attempts = attempts;
  inputs.category = category;
  inputs.predictive = store::settings.predictive_retry;
  if (!inputs.predictive) return inputs;
  const store::StepHistory history = store::step_history(named_task_id, step.step_no, step.learner, attempts);
  inputs.pressure = core::pressure_of(store::connection_utilisation());
  inputs.history = history.same_attempt;
  inputs.hour = history.this_hour;
  inputs.recent = history.recent;
  return inputs;
}

void plan_attempt(FailureDecision &failure, int named_task_id, const store::CompiledStep &step, TimestampTz now) {
  if (failure.planned) return;
  failure.planned = true;
  // A cancel says nothing about how steps of this kind fare.
  if (failure.attempts == 1 && failure.category != std::string_view("cancelled")) store::note_first_attempt(named_task_id, step.learner, false);
  core::json retry = core::json::object();
  if (failure.retry) {
    core::RetryInputs inputs = failure.requested_seconds ? core::RetryInputs{} : retry_inputs(named_task_id, step, failure.attempts, failure.category);
    inputs.backoff = step.backoff;
    inputs.attempts = failure.attempts;
    inputs.requested_seconds = failure.requested_seconds;
    inputs.unit_random = pg_prng_double(&pg_global_prng_state);
    const core::RetryPlan plan = core::plan_retry(inputs);
    failure.next_attempt_at = now + static_cast<TimestampTz>(std::llround(plan.delay_seconds * 1e6));
    const TimestampTz at = failure.next_attempt_at;
    const char *text = pg::call([=] { return timestamptz_to_str(at); });
    retry = {{"base_seconds", round_to_ms(plan.base_seconds)},
             {"factors", factors_of(plan)},
             {"delay_seconds", round_to_ms(plan.delay_seconds)},
             {"next_attempt_at", text}};
    if (failure.requested_seconds) retry["requested_seconds"] = *failure.requested_seconds;
  }
  failure.error.insert(failure.error.size() - 1, ", \"retry\": " + dump(retry));
}

}  // namespace tasker::engine
