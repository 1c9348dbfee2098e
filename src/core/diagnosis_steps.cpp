// Judgement about one step: what it waits for, whether it runs, and why it doesn't although it could.
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <utility>

#include "core/diagnosis_rules.hpp"
#include "core/utc.hpp"

namespace tasker::core::diagnosis {

namespace {

constexpr std::size_t kNamesInText = 3;
constexpr int kEnoughRuns = 10;
constexpr double kFarBeyond = 3;  // times the p95
constexpr Moment kShortestLong = 2'000'000;

std::string number(double value) {
  char text[40];
  (void)std::snprintf(text, sizeof text, value >= 10 || value == std::floor(value) ? "%.0f" : "%.2g", value);
  return text;
}

double milliseconds(double value) { return std::round(value * 1000) / 1000; }

// Numbers of the parents that are not done.
std::vector<int> open_parents(const TaskCase &task, int step_no) {
  std::vector<int> out;
  for (const int parent : task.graph->parents(step_no - 1))
    if (!satisfies_children(task.steps[static_cast<std::size_t>(parent)].facts.state)) out.push_back(parent + 1);
  return out;
}

std::string holder_of(int pid) { return pid == 0 ? "a prepared transaction" : "process " + std::to_string(pid); }

void running(Judgement &out) {
  const TaskCase &task = out.task();
  const StepCase &step = out.step();
  const int attempt = step.facts.attempts + 1;
  if (!step.running) {
    out.add(Severity::kInfo, "running", {{"attempt", attempt}, {"since", moment_or_null(step.ready_since)}}, "in progress");
    return;
  }
  const RunningCase &run = *step.running;
  const Moment elapsed = std::max<Moment>(0, task.now - run.since);
  json evidence = {{"pid", run.pid}, {"since", utc(run.since)}, {"seconds", elapsed / 1'000'000}, {"attempt", attempt}};
  if (!run.waits_for.empty()) evidence["waits_for"] = run.waits_for;
  if (!run.blocked_by.empty()) evidence["blocked_by"] = run.blocked_by;
  std::string summary = "runs since " + utc(run.since) + " in process " + std::to_string(run.pid);
  const std::string holder = run.blocked_by.empty() ? "" : holder_of(run.blocked_by.front());
  if (!holder.empty()) summary += ", waits for a lock of " + holder;
  const double elapsed_ms = static_cast<double>(elapsed) / 1000;
  const bool measured = step.durations.runs >= kEnoughRuns;
  if (elapsed < kShortestLong || !measured || elapsed_ms < kFarBeyond * step.durations.p95_ms) {
    out.add(Severity::kInfo, "running", std::move(evidence), std::move(summary));
    return;
  }
  evidence["usual_p95_ms"] = milliseconds(step.durations.p95_ms);
  evidence["usual_max_ms"] = milliseconds(step.durations.max_ms);
  evidence["measured_runs"] = step.durations.runs;
  if (step.timeout_ms > 0) evidence["timeout_ms"] = milliseconds(step.timeout_ms);
  summary += "; usually 95 of 100 runs take less than " + duration_text(step.durations.p95_ms / 1000);
  std::string advice = "pg_stat_activity shows what process " + std::to_string(run.pid) + " does.";
  if (!holder.empty())
    advice = "What holds the lock is " + holder +
             (run.blocked_by.front() == 0 ? ": see pg_prepared_xacts." : ": see what it does in pg_stat_activity, end its transaction.");
  advice += " " + out.call("cancel_step") + " stops the step; its timeout does so by itself.";
  out.add(Severity::kMedium, "long_running", std::move(evidence), std::move(summary), std::move(advice));
}

void not_dispatched(Judgement &out, Moment waited) {
  const TaskCase &task = out.task();
  const ServerCase &server = task.server;
  std::string cause, advice;
  Severity severity = Severity::kCritical;
  if (!server.launcher_alive) {
    cause = "the launcher does not run";
    advice = "The server log says why it ended; it starts again with the server.";
  } else if (!server.dispatcher_known) {
    cause = "the launcher does not know this database";
    advice = "Are there more databases with tasker than tasker.max_databases?";
  } else if (server.failed_starts > 0 && !server.dispatcher_alive) {
    cause = "the dispatcher of this database failed to start " + std::to_string(server.failed_starts) + " times in a row";
    advice = "The server log says why.";
  } else if (!server.dispatcher_alive) {
    cause = "no dispatcher runs for this database (" + server.dispatcher_state + ")";
    advice = "The server log says why; max_worker_processes may be used up.";
  } else {
    severity = Severity::kHigh;
    cause = "no reason is known";
    advice =
        "Look into the server log for lines that begin with tasker: an executor that cannot log in, a full worker table. "
        "pg_terminate_backend(" +
        std::to_string(server.dispatcher_pid) + ") starts the dispatcher anew; no work is lost.";
  }
  out.add(severity, "not_dispatched",
          {{"ready_since", moment_or_null(out.step().ready_since)},
           {"waited_seconds", waited / 1'000'000},
           {"cause", cause},
           {"launcher_pid", server.launcher_pid},
           {"dispatcher", server.dispatcher_state},
           {"dispatcher_pid", server.dispatcher_pid},
           {"executors", server.executors},
           {"max_executors", server.max_executors}},
          "ready for " + duration_text(static_cast<double>(waited) / 1e6) + " and not run: " + cause, advice + " tasker.health_status() checks all of it.")
      .group = "ready";
}

void worker_shortage(Judgement &out) {
  const ServerCase &server = out.task().server;
  const bool slots = server.executors < server.max_executors && server.executors_here < server.max_concurrent_steps;
  out.add(Severity::kMedium, "worker_shortage",
          {{"executors", server.executors},
           {"busy", server.busy_executors},
           {"max_executors", server.max_executors},
           {"max_concurrent_steps", server.max_concurrent_steps},
           {"max_worker_processes", server.max_worker_processes},
           {"worker_slots_left", server.worker_slots_left},
           {"ready_since", moment_or_null(out.step().ready_since)}},
          slots ? "no worker process is left: max_worker_processes is " + std::to_string(server.max_worker_processes)
                : "all " + std::to_string(server.executors) + " executors are busy",
          slots
              ? "Raise max_worker_processes and restart, or lower what other extensions take."
              : "It runs when one is free: tasker.running_steps shows with what they are busy. Raise tasker.max_executors (or tasker.max_concurrent_steps), or "
                "shorten the steps that hold them.")
      .group = "ready";
}

void assigned(Judgement &out, Moment waited) {
  const AssignedCase &place = *out.step().assigned;
  const std::string pid = std::to_string(place.pid);
  out.add(waited > kPatience ? Severity::kMedium : Severity::kInfo, "assigned",
          {{"pid", place.pid}, {"busy_since", moment_or_null(place.busy_since)}, {"ready_since", moment_or_null(out.step().ready_since)}},
          "in the queue of executor process " + pid + (place.busy_since ? ", which runs another step since " + utc(*place.busy_since) : ""),
          waited > kPatience ? "tasker.running_steps shows what process " + pid + " runs; tasker.cancel_step ends that step." : "")
      .group = "ready";
}

// The dispatcher would run it now. Those that nothing runs have said so for the whole task.
void ready(Judgement &out) {
  const TaskCase &task = out.task();
  const ServerCase &server = task.server;
  if (!server.preloaded || server.standby || server.session_pid != 0 || task.owner_gone || task.superuser_barred || task.lock) return;
  const bool full = server.executors >= server.max_executors || server.executors_here >= server.max_concurrent_steps || server.worker_slots_left <= 0;
  const Moment waited = task.now - out.step().ready_since.value_or(task.now);
  if (out.step().assigned) {
    assigned(out, waited);
  } else if (server.dispatcher_alive && full && server.busy_executors >= server.executors) {
    worker_shortage(out);
  } else if (waited > kPatience) {
    not_dispatched(out, waited);
  } else {
    out.add(Severity::kInfo, "ready", {{"ready_since", moment_or_null(out.step().ready_since)}}, "ready: it runs in a moment").group = "ready";
  }
}

void breaker_open(Judgement &out) {
  const StepCase &step = out.step();
  json evidence = {{"reason", step.reason}};
  std::string advice = "The breaker lets one step try when its time is over, and closes when that succeeds. ";
  std::string summary = "waits without burning attempts (" + step.reason + ")";
  if (step.breaker) {
    const BreakerCase &breaker = *step.breaker;
    evidence["system"] = breaker.system;
    evidence["state"] = breaker.state;
    evidence["failures"] = breaker.failures;
    evidence["since"] = moment_or_null(breaker.since);
    evidence["until"] = moment_or_null(breaker.until);
    if (breaker.by_hand) {
      evidence["by"] = breaker.actor;
      if (!breaker.reason.empty()) evidence["why"] = breaker.reason;
      summary += ": the breaker was opened" + by(Mover{breaker.actor, breaker.reason, 0});
      if (!breaker.until) advice.clear();
    } else {
      summary += ": the breaker opened after " + std::to_string(breaker.failures) + " failures in a row";
    }
    advice += "tasker.reset_breaker('" + breaker.system + "') closes it by hand. ";
  }
  advice += "tasker.circuit_breakers shows how it stands; look at the system.";
  out.add(Severity::kMedium, "breaker_open", std::move(evidence), std::move(summary), std::move(advice)).group = step.reason;
}

void paused(Judgement &out) {
  const TaskCase &task = out.task();
  const std::string &reason = out.step().reason;
  json evidence = mover_evidence(task.paused_by);
  evidence["reason"] = reason;
  Finding &finding = out.add(Severity::kMedium, "blocked", std::move(evidence), reason + by(task.paused_by),
                             task.facts.paused ? "tasker.resume_task(" + std::to_string(task.task_id) + ") lets it go on."
                                               : "tasker.resume_tasks for that scope lets it go on; tasker.paused_scopes lists the scopes that are paused.");
  finding.group = reason;
  finding.everybody = true;
}

void beneath(Judgement &out, bool failed) {
  const TaskCase &task = out.task();
  const StepCase &step = out.step();
  const StepCase &culprit = task.steps[static_cast<std::size_t>(step.readiness.blocking_step)];
  const std::string again =
      "tasker.rerun_task_from(" + std::to_string(task.task_id) + ", '" + culprit.name + "') runs it again; left alone, the task ends in error.";
  const std::string decide =
      "Decide about " + culprit.name + ": tasker.retry_step, tasker.resolve_step_manually" + (culprit.skippable ? ", tasker.skip_step." : ".");
  Finding &finding =
      out.add(Severity::kMedium, failed ? "blocked" : "parent_cancelled", {{"reason", step.reason}, {failed ? "failed" : "cancelled", culprit.name}},
              "beneath " + culprit.name + ", which " + (failed ? "failed for good" : "was cancelled"), failed ? decide : again);
  finding.group = step.reason;
}

struct Wait {
  Severity severity;
  const char *advice;
};

Wait wait_of(Blocking reason) {
  switch (reason) {
    case Blocking::kRunAt:
      return {Severity::kInfo, "It begins by itself."};
    case Blocking::kConcurrencyLimit:
      return {Severity::kLow, "It runs when others under that limit have ended: tasker.running_steps shows what runs, tasker.step_limits the limits; tasker.set_step_limit changes one."};
    case Blocking::kRateLimit:
      return {Severity::kLow, "It runs when the rate allows it: tasker.step_limits shows the limits, tasker.set_step_limit changes one."};
    case Blocking::kUnclaimed:
      return {Severity::kLow, "A worker of its queue must claim it: is one running?"};
    case Blocking::kLeased:
      return {Severity::kInfo, "A worker has claimed it; when the lease ends without an answer, another may."};
    case Blocking::kTimer:
      return {Severity::kInfo, "It goes on by itself at that time."};
    case Blocking::kSignal:
      return {Severity::kInfo, "tasker.send_signal lets it go on."};
    case Blocking::kLocked:
      return {Severity::kMedium, "pg_stat_activity and pg_locks name who holds the row."};
    default:
      return {Severity::kInfo, ""};
  }
}

void waiting(Judgement &out) {
  const StepCase &step = out.step();
  switch (step.readiness.reason) {
    case Blocking::kHeld:
    case Blocking::kOwnerCannotConnect:
      return;  // said for the whole task
    case Blocking::kPaused:
      return paused(out);
    case Blocking::kParentFailed:
      return beneath(out, true);
    case Blocking::kParentCancelled:
      return beneath(out, false);
    case Blocking::kCircuitOpen:
      return breaker_open(out);
    case Blocking::kDependencies:
      break;
    default: {
      const Wait wait = wait_of(step.readiness.reason);
      json evidence = {{"reason", step.reason}};
      if (step.readiness.ready_at) evidence["until"] = utc(*step.readiness.ready_at);
      Finding &finding = out.add(wait.severity, "blocked", std::move(evidence), "waits: " + step.reason, wait.advice);
      finding.group = step.reason;
      finding.everybody = step.readiness.reason == Blocking::kRunAt;
      return;
    }
  }
  const std::vector<int> parents = open_parents(out.task(), out.step_no());
  std::vector<std::string> names;
  for (const int parent : parents) names.push_back(out.task().steps[static_cast<std::size_t>(parent - 1)].name);
  const std::string summary = "waits for " + listed(names, kNamesInText);
  if (names.size() > kNamesInEvidence) names.resize(kNamesInEvidence);
  Finding &finding =
      out.add(Severity::kInfo, "blocked", {{"reason", step.reason}, {"waiting_for", names}}, summary, "Its turn comes when its parents are done.");
  finding.waits_for = parents;
  finding.group = "dependencies";
}

void done(Judgement &out) {
  const StepCase &step = out.step();
  switch (step.facts.state) {
    case StepState::kComplete:
      out.add(Severity::kInfo, "complete", {{"attempts", step.facts.attempts}}, "done");
      return;
    case StepState::kSkipped:
      out.add(Severity::kInfo, "skipped", mover_evidence(step.mover), "skipped" + by(step.mover));
      return;
    default:
      out.add(Severity::kInfo, "resolved_manually", mover_evidence(step.mover), "resolved by hand" + by(step.mover));
      return;
  }
}

void cancelled(Judgement &out) {
  const bool with_task = out.task().facts.state == TaskState::kCancelled;
  const StepCase &step = out.step();
  out.add(with_task ? Severity::kInfo : Severity::kHigh, "cancelled", mover_evidence(step.mover), "cancelled" + by(step.mover),
          with_task
              ? ""
              : "The task cannot complete without it: tasker.rerun_task_from(" + std::to_string(out.task().task_id) + ", '" + step.name + "') runs it again.");
}

}  // namespace

Finding &Judgement::add(Severity severity, const char *code, json evidence, std::string summary, std::string advice) {
  Finding &finding = found_.emplace_back();
  finding.severity = severity;
  finding.code = code;
  finding.step_no = step_no_;
  finding.evidence = std::move(evidence);
  finding.summary = std::move(summary);
  finding.advice = std::move(advice);
  return finding;
}

bool Judgement::has(std::string_view code) const {
  return std::any_of(found_.begin(), found_.end(), [=](const Finding &finding) { return finding.code == code; });
}

std::string Judgement::call(const char *function) const {
  return "tasker." + std::string(function) + "(" + std::to_string(task_.task_id) + ", '" + step().name + "')";
}

bool live(const TaskCase &task) noexcept { return !finished(task.facts.state); }

json moment_or_null(const std::optional<Moment> &moment) { return moment ? json(utc(*moment)) : json(); }

std::string duration_text(double seconds) {
  if (seconds < 120) return number(seconds) + " s";
  if (seconds < 7200) return number(std::floor(seconds / 60)) + " min";
  return number(std::floor(seconds / 3600)) + " h";
}

std::string by(const std::optional<Mover> &mover) {
  if (!mover || mover->actor.empty()) return "";
  return " by " + mover->actor + (mover->reason.empty() ? "" : " (" + mover->reason + ")");
}

json mover_evidence(const std::optional<Mover> &mover) {
  if (!mover) return {{"by", nullptr}};
  json out = {{"by", mover->actor}, {"at", utc(mover->at)}};
  if (!mover->reason.empty()) out["why"] = mover->reason;
  return out;
}

std::string listed(const std::vector<std::string> &names, std::size_t most) {
  std::string out;
  for (std::size_t i = 0; i < std::min(names.size(), most); ++i) out += (i > 0 ? ", " : "") + names[i];
  if (names.size() > most) out += " and " + std::to_string(names.size() - most) + " more";
  return out;
}

void judge_step(Judgement &out, bool alone) {
  const StepCase &step = out.step();
  const StepState state = step.facts.state;
  if (satisfies_children(state)) {
    if (alone) done(out);
    return;
  }
  if (state == StepState::kCancelled) return cancelled(out);
  if (state == StepState::kInProgress) {
    if (step.readiness.reason == Blocking::kNone)
      running(out);
    else
      waiting(out);
    return;
  }
  const Blocking reason = step.readiness.reason;
  const bool final = reason == Blocking::kAttemptsExhausted || reason == Blocking::kNotRetryable;
  if (state == StepState::kError) judge_failure(out, final);
  judge_handler(out);
  if (final) return;
  judge_crashes(out);
  if (step.readiness.ready) {
    ready(out);
    return;
  }
  if (reason == Blocking::kBackoff) return;  // judge_failure has told the time
  if (reason != Blocking::kNone) return waiting(out);
  if (out.empty())
    out.add(Severity::kInfo, "not_run", {{"task_state", to_string(out.task().facts.state)}}, "the task ended before its turn came",
            "tasker.retry_task or tasker.rerun_task_from lets the task go on.")
        .group = "not_run";
}

}  // namespace tasker::core::diagnosis
