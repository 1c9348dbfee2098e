// Judgement about failed attempts: is it the input, the handler, the limit, the clock, a right that is missing?
#include <algorithm>
#include <cmath>
#include <utility>

#include "core/diagnosis_rules.hpp"
#include "core/utc.hpp"

namespace tasker::core::diagnosis {

namespace {

constexpr int kEnoughOthers = 3;  // attempts of other tasks that make a comparison
constexpr double kMostSucceed = 0.5, kNearlyAllFail = 0.2;
constexpr int kEnoughLater = 5;        // later attempts that tell whether trying again helps
constexpr int kMoreAttempts = 2;       // what is suggested on top of a limit that was too low
constexpr double kNearTheLimit = 0.5;  // of the timeout, for the longest success
constexpr double kRoom = 3;            // suggested timeout: times the longest success
constexpr std::size_t kTextInSummary = 120;

std::string shortened(const std::string &text) {
  if (text.size() <= kTextInSummary) return text;
  std::size_t end = kTextInSummary;
  while (end > 0 && (static_cast<unsigned char>(text[end]) & 0xC0) == 0x80) --end;  // never within a character
  return text.substr(0, end) + "...";
}

std::string told(const AttemptFailure &failure) { return failure.sqlstate + ": " + shortened(failure.message); }

std::string of(const SuccessHistory &history) { return std::to_string(history.successes) + " of " + std::to_string(history.attempts) + " attempts"; }

json evidence_of(const StepCase &step, const AttemptFailure &failure) {
  return {{"sqlstate", failure.sqlstate}, {"message", failure.message},      {"category", failure.category},
          {"failed_at", utc(failure.at)}, {"attempts", step.facts.attempts}, {"max_attempts", step.facts.max_attempts}};
}

// How other tasks fared, of the shortest time that says enough: this step's own attempts, which all failed, are taken out.
SuccessHistory others(const StepCase &step) {
  const auto without = [](const SuccessHistory &history, std::int64_t own) {
    return SuccessHistory{history.attempts - std::min(own, history.attempts - history.successes), history.successes};
  };
  const StepOutcomes &known = step.outcomes;
  for (const SuccessHistory &rest : {without(known.recent, 1), without(known.day, step.facts.attempts), without(known.week, step.facts.attempts)})
    if (rest.attempts >= kEnoughOthers) return rest;
  return {};
}

// The failures pass by themselves; a further attempt is worth making.
bool transient(std::string_view category) {
  return category == "connection" || category == "conflict" || category == "resource" || category == "rate_limit" || category == "server_error";
}

// A fault of the step or its input, as far as the category goes.
bool of_the_step(std::string_view category) { return category == "validation" || category == "code" || category == "client_error" || category == "unknown"; }

int same_as_last(const StepCase &step) {
  const AttemptFailure &last = step.failures.front();
  return static_cast<int>(std::count_if(step.failures.begin(), step.failures.end(),
                                        [&](const AttemptFailure &failure) { return failure.sqlstate == last.sqlstate && failure.message == last.message; }));
}

// The longest successful run that is known: in memory, or of a week.
double longest_success_ms(const StepCase &step) { return std::max(step.durations.max_ms, step.outcomes.max_ms); }

void crashed(Judgement &out, bool final) {
  const StepCase &step = out.step();
  out.add(final ? Severity::kHigh : Severity::kMedium, "crashed", {{"crashes", step.crashes}, {"attempts", step.facts.attempts}},
          "crashed its server process " + std::to_string(step.crashes) + (step.crashes == 1 ? " time" : " times"),
          "Look into the server log for \"was terminated by signal\": memory, a fault in a C function, or the kernel's out-of-memory killer. " +
              (final ? out.call("retry_step") + " gives it another chance." : std::string("It runs alone until it succeeds; tasker.crash_limit ends it.")));
}

void timed_out(Judgement &out, const AttemptFailure &failure, bool final) {
  const StepCase &step = out.step();
  const double longest = longest_success_ms(step);
  json evidence = evidence_of(step, failure);
  evidence["timeout_seconds"] = step.timeout_ms / 1000;
  evidence["longest_success_seconds"] = longest > 0 ? json(std::round(longest) / 1000) : json();
  if (step.durations.runs > 0) evidence["p95_seconds"] = std::round(step.durations.p95_ms) / 1000;
  const std::string limit = "timed out after " + duration_text(step.timeout_ms / 1000);
  if (longest >= kNearTheLimit * step.timeout_ms) {
    const double suggested = std::ceil(std::max(kRoom * longest, 2 * step.timeout_ms) / 1000);
    evidence["suggested_timeout_seconds"] = suggested;
    out.add(final ? Severity::kHigh : Severity::kMedium, "timeout_too_short", std::move(evidence),
            limit + ", and successful runs have taken up to " + duration_text(longest / 1000),
            "Give the step timeout_seconds of " + duration_text(suggested) +
                " in a new version of its definition (or raise tasker.step_timeout where it has none), or make it shorter." +
                (final ? " Then " + out.call("retry_step") + ", or a new task of the new version." : ""));
    return;
  }
  out.add(final ? Severity::kHigh : Severity::kMedium, "timed_out", std::move(evidence),
          limit + (longest > 0 ? ", though successful runs take no more than " + duration_text(longest / 1000) : ", and no run has ever finished in that time"),
          longest > 0 ? "It waits for something: a lock (pg_stat_activity and pg_locks while it runs), another system, or this input takes longer." +
                            (final ? " " + out.call("retry_step") + " runs it again." : std::string())
                      : "Measure the step by hand with this task's context, then set timeout_seconds, or make it shorter.");
}

void privilege(Judgement &out, const AttemptFailure &failure) {
  const TaskCase &task = out.task();
  out.add(Severity::kHigh, "privilege_missing", evidence_of(out.step(), failure),
          "the owner " + task.owner + " lacks a privilege inside the step (" + told(failure) + ")",
          "Grant it to " + task.owner_identifier + ", as the message says, then " + out.call("retry_step") + ".");
}

void fails_everywhere(Judgement &out, const AttemptFailure &failure, const SuccessHistory &rest, bool final) {
  json evidence = evidence_of(out.step(), failure);
  evidence["other_attempts"] = rest.attempts;
  evidence["other_successes"] = rest.successes;
  const bool outside = transient(failure.category) || failure.category == "timeout";
  out.add(
      final ? Severity::kCritical : Severity::kHigh, "fails_everywhere", std::move(evidence),
      "fails in other tasks too: " + of(rest) + " succeeded lately; here " + told(failure),
      outside
          ? "What the step talks to is out of order, not this task's input. tasker.pause_tasks keeps further tasks from failing meanwhile."
          : "Look for what changed: the function, a table, a right. The input isn't to blame. tasker.redrive runs the failed ones again when it is mended.");
}

void fails_at_this_input(Judgement &out, const AttemptFailure &failure, const SuccessHistory &rest, bool final) {
  const StepCase &step = out.step();
  json evidence = evidence_of(step, failure);
  evidence["same_error"] = same_as_last(step);
  evidence["other_attempts"] = rest.attempts;
  evidence["other_successes"] = rest.successes;
  const int same = same_as_last(step);
  out.add(final ? Severity::kHigh : Severity::kMedium, "always_fails_at_this_input", std::move(evidence),
          (same > 1 ? "the last " + std::to_string(same) + " attempts failed alike (" : "fails (") + told(failure) + "), while " + of(rest) +
              " of other tasks succeeded",
          "Another attempt brings the same. Look at this task's context and the results of the step's parents; then tasker.resolve_step_manually with the "
          "right result, or "
          "create the task again with the right context.");
}

void outcome_unknown(Judgement &out, const AttemptFailure &failure) {
  out.add(Severity::kHigh, "outcome_unknown", evidence_of(out.step(), failure), "the call was sent and its answer lost: " + shortened(failure.message),
          "Ask the other side whether it took effect. If so, tasker.resolve_step_manually with its result; if not, " + out.call("retry_step") + ".");
}

void out_of_attempts(Judgement &out, const AttemptFailure &failure) {
  const StepCase &step = out.step();
  const SuccessHistory &later = step.outcomes.later;
  json evidence = evidence_of(step, failure);
  evidence["retryable"] = step.facts.retryable;
  if (later.attempts > 0) {
    evidence["later_attempts"] = later.attempts;
    evidence["later_successes"] = later.successes;
  }
  const int suggested = step.facts.max_attempts + (step.facts.retryable ? kMoreAttempts : 0);
  evidence["suggested_max_attempts"] = suggested;
  std::string summary = step.facts.retryable ? "gave up after " + std::to_string(step.facts.attempts) + (step.facts.attempts == 1 ? " attempt" : " attempts") +
                                                   " with a failure that passes"
                                             : std::string("may be tried only once (retryable is false), and failed in a way that passes");
  summary += " (" + told(failure) + ")";
  if (later.attempts >= kEnoughLater) summary += "; " + of(later) + " that followed a failure succeeded";
  out.add(Severity::kHigh, "retry_limit_too_low", std::move(evidence), std::move(summary),
          out.call("retry_step") + " tries again now. Give the step " + (step.facts.retryable ? "" : "\"retryable\": true, if it may run twice, and ") +
              "max_attempts " + std::to_string(suggested) + " in a new version of its definition, or a longer backoff.");
}

// Would another attempt have helped?
bool limit_is_to_blame(const StepCase &step, const AttemptFailure &failure) {
  if (step.facts.failed_permanently && step.facts.retryable) return false;
  if (step.facts.max_attempts < step.defined_max_attempts) return false;  // the step itself lowered it
  if (transient(failure.category)) return true;
  const SuccessHistory &later = step.outcomes.later;
  return failure.category == "unknown" && later.attempts >= kEnoughLater && later.rate() >= kMostSucceed;
}

void will_retry(Judgement &out, const AttemptFailure &failure) {
  const StepCase &step = out.step();
  json evidence = evidence_of(step, failure);
  const bool later = step.readiness.ready_at && !step.readiness.ready;
  evidence["next_attempt_at"] = later ? json(utc(*step.readiness.ready_at)) : moment_or_null(step.facts.next_attempt_at);
  out.add(Severity::kLow, "transient_failure", std::move(evidence),
          "attempt " + std::to_string(step.facts.attempts) + " of " + std::to_string(step.facts.max_attempts) + " failed (" + told(failure) +
              "); the next comes by itself " + (later ? "at " + utc(*step.readiness.ready_at) : "now"),
          later ? out.call("retry_step") + " doesn't wait." : "");
}

void failed(Judgement &out, const AttemptFailure &failure) {
  const StepCase &step = out.step();
  const bool asked = failure.sqlstate == "TK002";
  std::string advice = asked ? "The handler itself said so (raise_permanent). " : "";
  advice += "Mend the cause, then " + out.call("retry_step") + "; or tasker.resolve_step_manually with the result it should have had";
  if (step.skippable) advice += ", or " + out.call("skip_step");
  advice += ". tasker.step_status.error has the whole error.";
  out.add(Severity::kHigh, "failed", evidence_of(step, failure),
          "failed for good" + (step.facts.attempts > 1 ? " after " + std::to_string(step.facts.attempts) + " attempts" : std::string()) + " (" + told(failure) +
              ")",
          std::move(advice));
}

void failed_silently(Judgement &out) {
  const TaskCase &task = out.task();
  if (task.deadline_at && *task.deadline_at <= task.finished_at.value_or(task.now)) return;  // said for the task
  out.add(Severity::kHigh, "failed", {{"attempts", out.step().facts.attempts}}, "failed for good",
          out.call("retry_step") + " runs it again; tasker.task_history shows its moves.");
}

void judge_pattern(Judgement &out, const AttemptFailure &failure, bool final) {
  const StepCase &step = out.step();
  const SuccessHistory rest = others(step);
  // Where second attempts help, a first one that fails says nothing.
  const SuccessHistory &later = step.outcomes.later;
  const bool helped_by_retries = step.facts.attempts < 2 && later.attempts >= kEnoughOthers && later.rate() > kNearlyAllFail;
  if (rest.attempts >= kEnoughOthers && rest.rate() <= kNearlyAllFail && !helped_by_retries) {
    fails_everywhere(out, failure, rest, final);
    return;
  }
  const bool sure = same_as_last(step) > 1 || (final && step.facts.failed_permanently);
  if (of_the_step(failure.category) && sure && failure.sqlstate != "TK002" && rest.rate() >= kMostSucceed) fails_at_this_input(out, failure, rest, final);
}

}  // namespace

void judge_failure(Judgement &out, bool final) {
  const StepCase &step = out.step();
  if (step.failures.empty()) {
    if (final) failed_silently(out);
    return;
  }
  const AttemptFailure &failure = step.failures.front();
  if (failure.by_deadline && out.task().deadline_at) return;  // said for the task
  if (failure.category == "crashed") crashed(out, final);
  if (failure.category == "timeout") timed_out(out, failure, final);
  // The handler's own EXECUTE is looked up now, and told by judge_handler.
  const bool callable = !step.handler || (step.handler->problem.empty() && step.handler->may_execute && step.handler->may_use_schema);
  if (failure.category == "privilege" && callable && !out.task().owner_gone) privilege(out, failure);
  if (failure.category == "outcome_unknown") outcome_unknown(out, failure);
  if (callable && failure.category != "privilege" && failure.category != "crashed" && failure.category != "cancelled") judge_pattern(out, failure, final);
  if (!final) {
    will_retry(out, failure);
    return;
  }
  if (out.empty() && limit_is_to_blame(step, failure)) out_of_attempts(out, failure);
  if (out.empty() && callable && !out.task().owner_gone) failed(out, failure);
}

void judge_crashes(Judgement &out) {
  if (out.step().crashes > 0 && !out.has("crashed")) crashed(out, false);
}

void judge_handler(Judgement &out) {
  const StepCase &step = out.step();
  if (!step.handler || out.task().owner_gone) return;
  const HandlerCase &handler = *step.handler;
  const TaskCase &task = out.task();
  const bool failed_by_it = step.facts.state == StepState::kError;
  const std::string then = failed_by_it ? ", then " + out.call("retry_step") + "." : ".";
  if (!handler.problem.empty()) {
    out.add(Severity::kCritical, "handler_missing", {{"handler", handler.name}, {"kind", handler.kind}, {"problem", handler.problem}}, handler.problem,
            "Create the " + handler.kind + " with that signature (the task's context and the parents' results, or tasker.step_call)" + then)
        .group = handler.name;
    return;
  }
  json missing = json::array();
  std::string grants;
  if (!handler.may_use_schema) {
    missing.push_back("USAGE");
    grants += "GRANT USAGE ON SCHEMA " + handler.schema + " TO " + task.owner_identifier;
  }
  if (!handler.may_execute) {
    missing.push_back("EXECUTE");
    grants += (grants.empty() ? "" : "; ") + ("GRANT EXECUTE ON " + std::string(handler.kind == "procedure" ? "PROCEDURE " : "FUNCTION ") + handler.signature +
                                              " TO " + task.owner_identifier);
  }
  if (missing.empty()) return;
  const bool both = missing.size() > 1;
  const std::string what = both                    ? "USAGE on schema " + handler.schema + " and EXECUTE on " + handler.signature
                           : missing[0] == "USAGE" ? "USAGE on schema " + handler.schema
                                                   : "EXECUTE on " + handler.kind + " " + handler.signature;
  out.add(Severity::kHigh, "privilege_missing", {{"owner", task.owner}, {"missing", std::move(missing)}, {"handler", handler.name}, {"schema", handler.schema}},
          "the owner " + task.owner + " has no " + what, grants + then)
      .group = handler.name;
}

}  // namespace tasker::core::diagnosis
