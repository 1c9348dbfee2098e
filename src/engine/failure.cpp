#include "engine/failure.hpp"

#include <algorithm>
#include <cmath>

#include "core/backoff.hpp"
#include "core/failure.hpp"
#include "core/json.hpp"

extern "C" {
#include "common/pg_prng.h"
}

namespace tasker::engine {

namespace {

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
  if (auto it = detail.find("max_attempts"); it != detail.end() && it->is_number_integer()) out.max_attempts = std::max(1, it->get<int>());
  if (auto it = detail.find("context"); it != detail.end()) out.context = *it;
  if (auto it = detail.find("reason"); it != detail.end()) out.context["reason"] = *it;
  return out;
}

// Invalid bytes (an SQL_ASCII server's messages) become replacement characters instead of a second failure.
std::string dump(const core::json &value) { return value.dump(-1, ' ', false, core::json::error_handler_t::replace); }

}  // namespace

FailureDecision decide_failure(const pg::Caught &error, const store::StepRow &row, const store::CompiledStep &step, int attempts,
                               TimestampTz now, const char *category, bool may_retry) {
  const core::FailureClass verdict = core::classify_failure(error.sqlstate);
  const Request request = read_request(error);
  FailureDecision out;
  out.contention = verdict.contention;
  out.max_attempts = request.max_attempts;
  out.message = error.message;
  const int limit = request.max_attempts.value_or(row.max_attempts.value_or(step.max_attempts));
  const bool retryable = may_retry && (category != nullptr || verdict.retryable) && step.retryable;
  out.permanent = !retryable;
  out.retry = retryable && attempts < limit;

  core::json retry = core::json::object();
  if (out.retry) {
    const double random = pg_prng_double(&pg_global_prng_state);
    const double delay = core::retry_delay_seconds(step.backoff, attempts, request.retry_after, random);
    out.next_attempt_at = now + static_cast<TimestampTz>(std::llround(delay * 1e6));
    const char *at = pg::call([&] { return timestamptz_to_str(out.next_attempt_at); });
    retry = {{"base_seconds", core::backoff_seconds({step.backoff.base_seconds, step.backoff.multiplier, step.backoff.max_seconds, 0}, attempts, 0)},
             {"factors", core::json::object()},
             {"delay_seconds", std::round(delay * 1000) / 1000},
             {"next_attempt_at", at}};
    if (request.retry_after) retry["requested_seconds"] = *request.retry_after;
  }
  core::json document = {{"message", error.message},   {"sqlstate", error.sqlstate}, {"detail", request.understood ? "" : error.detail},
                         {"hint", error.hint},         {"context", request.context.is_null() ? core::json(error.context) : request.context},
                         {"category", category ? category : verdict.category}, {"retryable", retryable}, {"attempt", attempts},
                         {"retry", retry}};
  out.error = dump(document);
  return out;
}

}  // namespace tasker::engine
