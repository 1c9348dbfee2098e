#include "engine/step_log.hpp"

#include "core/log_line.hpp"
#include "store/settings.hpp"

namespace tasker::engine {

namespace {

constinit core::LogSampler sampler;

bool asked_for(const Outcome &outcome) {
  if (outcome.kind == OutcomeKind::kFailed) return true;
  return outcome.kind == OutcomeKind::kSucceeded && store::settings.log_steps == store::LogSteps::kAll;
}

void log_end(const Outcome &outcome) {
  std::int64_t suppressed = 0;
  if (!sampler.admits(GetCurrentTimestamp(), &suppressed)) return;
  const FailureDecision &failure = outcome.failure;
  const bool failed = outcome.kind == OutcomeKind::kFailed;
  core::StepLine line;
  line.end = !failed ? core::StepEnd::kComplete : failure.retry ? core::StepEnd::kRetry : core::StepEnd::kError;
  line.task_id = outcome.loaded.step.key.task_id;
  line.ns = outcome.definition->ns;
  line.name = outcome.definition->name;
  line.version = outcome.definition->version;
  line.step = outcome.step().name;
  line.attempt = outcome.attempt();
  if (outcome.loaded.correlation_id) line.correlation_id = *outcome.loaded.correlation_id;
  line.seconds = outcome.duration_ms() / 1000.0;
  std::string sqlstate;
  if (failed) {
    const core::json error = core::parse_json(failure.error);
    if (const auto found = error.find("sqlstate"); found != error.end() && found->is_string()) sqlstate = found->get<std::string>();
    line.sqlstate = sqlstate;
    line.category = failure.category;
    line.message = failure.message;
    if (failure.retry) line.retry_seconds = static_cast<double>(failure.next_attempt_at - outcome.finished_at) / USECS_PER_SEC;
  }
  line.suppressed = suppressed;
  const bool json = store::settings.log_format == store::LogFormat::kJson;
  pg::write_log(core::level_of(line.end) == core::LogLevel::kWarning ? pg::Level::kWarning : pg::Level::kLog, json ? core::json_line(line) : core::text_line(line));
}

}  // namespace

void log_ends(const std::vector<Outcome> &outcomes) {
  if (store::settings.log_steps == store::LogSteps::kNone || MyBgworkerEntry == nullptr) return;
  for (const Outcome &outcome : outcomes)
    if (asked_for(outcome)) log_end(outcome);
}

std::string worker_line(const std::string &message, const std::string &detail, const std::string &hint) {
  if (store::settings.log_format != store::LogFormat::kJson || MyBgworkerEntry == nullptr) return {};
  std::string_view kind = MyBgworkerEntry->bgw_type;
  if (kind.starts_with("tasker ")) kind.remove_prefix(7);
  return core::json_line(kind, message, detail, hint);
}

}  // namespace tasker::engine
