// Judgement about the task as a whole, and all findings put together: merged, ordered, never none.
#include "core/diagnosis.hpp"

#include <algorithm>
#include <iterator>
#include <map>
#include <set>
#include <utility>

#include "core/diagnosis_rules.hpp"
#include "core/utc.hpp"

namespace tasker::core::diagnosis {

namespace {

constexpr const char *kSeverities[] = {"critical", "high", "medium", "low", "info"};

// In the order in which findings of one severity and step are told.
struct Place {
  std::string_view code;
  const char *doc;
};
constexpr Place kPlaces[] = {
    {"inconsistent", "doc/operations.md#watching"},
    {"complete", "doc/operations.md#diagnosing"},
    {"resolved_manually", "doc/operations.md#diagnosing"},
    {"cancelled", "doc/operations.md#diagnosing"},
    {"skipped", "doc/operations.md#diagnosing"},
    {"no_preload", "doc/operations.md#install"},
    {"standby", "doc/operations.md#standby-and-failover"},
    {"held", "doc/operations.md#restored-and-copied-databases"},
    {"owner_gone", "doc/operations.md#owners"},
    {"superuser_owner_barred", "doc/operations.md#owners"},
    {"privilege_missing", "doc/operations.md#handlers-and-privileges"},
    {"handler_missing", "doc/operations.md#handlers-and-privileges"},
    {"fails_everywhere", "doc/operations.md#failed-steps"},
    {"crashed", "doc/operations.md#crashes"},
    {"always_fails_at_this_input", "doc/operations.md#failed-steps"},
    {"outcome_unknown", "doc/operations.md#failed-steps"},
    {"retry_limit_too_low", "doc/operations.md#failed-steps"},
    {"timeout_too_short", "doc/operations.md#timeouts"},
    {"timed_out", "doc/operations.md#timeouts"},
    {"failed", "doc/operations.md#failed-steps"},
    {"transient_failure", "doc/operations.md#failed-steps"},
    {"deadline_passed", "doc/operations.md#timeouts"},
    {"deadline_near", "doc/operations.md#timeouts"},
    {"not_dispatched", "doc/operations.md#ready-and-not-running"},
    {"assigned", "doc/operations.md#ready-and-not-running"},
    {"worker_shortage", "doc/operations.md#ready-and-not-running"},
    {"locked", "doc/operations.md#ready-and-not-running"},
    {"run_by_session", "doc/operations.md#ready-and-not-running"},
    {"connection_pressure", "doc/operations.md#settings-and-sizing"},
    {"breaker_open", "doc/operations.md#circuit-breakers"},
    {"long_running", "doc/operations.md#timeouts"},
    {"running", "doc/operations.md#diagnosing"},
    {"ready", "doc/operations.md#ready-and-not-running"},
    {"parent_cancelled", "doc/operations.md#why-a-step-waits"},
    {"blocked", "doc/operations.md#why-a-step-waits"},
    {"not_run", "doc/operations.md#diagnosing"},
    {"finishing", "doc/operations.md#diagnosing"},
    {"definition_retired", "doc/operations.md#diagnosing"},
};

const Place *place_of(std::string_view code) noexcept {
  const auto *found = std::find_if(std::begin(kPlaces), std::end(kPlaces), [=](const Place &place) { return place.code == code; });
  return found == std::end(kPlaces) ? nullptr : found;
}

int steps_in(const TaskCase &task, StepState state) {
  return static_cast<int>(std::count_if(task.steps.begin(), task.steps.end(), [=](const StepCase &step) { return step.facts.state == state; }));
}

std::vector<StepFacts> facts_of(const TaskCase &task) {
  std::vector<StepFacts> out;
  for (const StepCase &step : task.steps) out.push_back(step.facts);
  return out;
}

void judge_end(Judgement &out) {
  const TaskCase &task = out.task();
  json evidence = mover_evidence(task.ended_by);
  evidence["finished_at"] = moment_or_null(task.finished_at);
  switch (task.facts.state) {
    case TaskState::kComplete:
      out.add(Severity::kInfo, "complete",
              {{"finished_at", moment_or_null(task.finished_at)},
               {"steps", task.steps.size()},
               {"skipped", steps_in(task, StepState::kSkipped)},
               {"resolved_manually", steps_in(task, StepState::kResolvedManually)}},
              "every step is done");
      return;
    case TaskState::kResolvedManually:
      out.add(Severity::kInfo, "resolved_manually", std::move(evidence), "resolved by hand" + by(task.ended_by));
      return;
    case TaskState::kCancelled:
      out.add(Severity::kInfo, "cancelled", std::move(evidence), "the task was cancelled" + by(task.ended_by),
              "Create it again, or run it from a step on with tasker.rerun_task_from.");
      return;
    default:
      return;
  }
}

void judge_server(Judgement &out) {
  const TaskCase &task = out.task();
  const ServerCase &server = task.server;
  if (server.standby) {
    out.add(Severity::kHigh, "standby", {{"in_recovery", true}}, "this server is a standby: it shows tasks and runs none",
            "Look at the primary; tasks go on here after a promotion.");
    return;
  }
  if (!server.preloaded)
    out.add(Severity::kCritical, "no_preload", {{"shared_preload_libraries", "without tasker"}},
            "tasker is not in shared_preload_libraries: nothing runs in the background",
            "Add tasker to shared_preload_libraries and restart the server, or CALL tasker.run_task(" + std::to_string(task.task_id) +
                ") in a session of the owner.");
  if (server.max_connections > 0 && server.connections * 5 > server.max_connections * 4) {
    const double used = static_cast<double>(server.connections) / static_cast<double>(server.max_connections);
    out.add(used > 0.95 ? Severity::kHigh : Severity::kMedium, "connection_pressure",
            {{"connections", server.connections}, {"max_connections", server.max_connections}, {"used_percent", static_cast<int>(used * 100)}},
            std::to_string(static_cast<int>(used * 100)) + " % of max_connections are in use (" + std::to_string(server.connections) + " of " +
                std::to_string(server.max_connections) + ")",
            "Look in pg_stat_activity for idle connections; put a pooler before the applications, or raise max_connections. Steps that open connections "
            "of their own fail first.");
  }
}

void judge_owner(Judgement &out) {
  const TaskCase &task = out.task();
  if (task.owner_gone) {
    out.add(Severity::kCritical, "owner_gone", {{"owner", task.owner}}, "the owner, role " + task.owner + ", does not exist any more",
            "Create the task again as another role. Its steps end as errors of category privilege when their turn comes.");
    return;
  }
  if (!live(task)) return;
  if (!task.connect_problem.empty())
    out.add(Severity::kHigh, "privilege_missing", {{"owner", task.owner}, {"problem", task.connect_problem}}, task.connect_problem,
            "Grant it what is missing: GRANT CONNECT ON DATABASE " + task.database_identifier + " TO " + task.owner_identifier +
                ", and before PostgreSQL 17 ALTER ROLE " + task.owner_identifier + " LOGIN. The dispatcher looks again within 30 s.");
  if (task.superuser_barred)
    out.add(Severity::kHigh, "superuser_owner_barred", {{"owner", task.owner}, {"allow_superuser_tasks", false}},
            "the owner " + task.owner + " is a superuser, and tasker.allow_superuser_tasks is off",
            "Create the task again as an ordinary role (SET ROLE), take SUPERUSER from the owner, or set tasker.allow_superuser_tasks.");
}

void judge_lock(Judgement &out) {
  if (!out.task().lock) return;
  const LockCase &lock = *out.task().lock;
  json evidence = {{"since", utc(lock.since)}};
  std::string who, advice;
  if (!lock.prepared.empty()) {
    evidence["prepared"] = lock.prepared;
    who = "the prepared transaction " + lock.prepared;
    advice = "COMMIT PREPARED or ROLLBACK PREPARED, whichever its coordinator decided; pg_prepared_xacts lists them.";
  } else {
    evidence["pid"] = lock.pid;
    evidence["own_session"] = lock.own;
    const std::string pid = std::to_string(lock.pid);
    who = "the open transaction of " + (lock.own ? std::string("this session") : "process " + pid);
    advice = lock.own ? "Commit or roll back." : "pg_stat_activity shows what process " + pid + " waits for; its commit or rollback lets the task go on.";
  }
  out.add(Severity::kMedium, "locked", std::move(evidence), who + " (since " + utc(lock.since) + ") holds the task's row: nothing is recorded before it ends",
          std::move(advice));
}

void judge_deadline(Judgement &out) {
  const TaskCase &task = out.task();
  if (!task.deadline_at) return;
  const Moment until = task.finished_at.value_or(task.now);
  if (*task.deadline_at <= until) {
    out.add(Severity::kHigh, "deadline_passed", {{"deadline_at", utc(*task.deadline_at)}, {"finished_at", moment_or_null(task.finished_at)}},
            "the deadline of the whole run passed at " + utc(*task.deadline_at),
            "Create the task again, or resolve what is left by hand; give the definition a longer deadline_seconds if such runs need it.");
    return;
  }
  const Moment begun = std::max(task.facts.run_at, task.created_at.value_or(task.facts.run_at));
  const Moment left = *task.deadline_at - until;
  if (!live(task) || left * 10 > *task.deadline_at - begun) return;
  out.add(Severity::kMedium, "deadline_near", {{"deadline_at", utc(*task.deadline_at)}, {"seconds_left", left / 1'000'000}},
          "the deadline is near: " + duration_text(static_cast<double>(left) / 1e6) + " are left",
          "What isn't done by " + utc(*task.deadline_at) + " ends in error.");
}

// What remains when neither the task nor a step has said why it isn't done.
void judge_rest(Judgement &out, bool nothing_yet) {
  const TaskCase &task = out.task();
  if (!live(task)) {
    if (nothing_yet)
      out.add(Severity::kHigh, "failed", {{"error", task.error}, {"finished_at", moment_or_null(task.finished_at)}},
              "the task ended in error" + (task.error.empty() ? "" : ": " + task.error),
              "tasker.task_history shows its moves; tasker.retry_task or tasker.rerun_task_from runs it again.");
    return;
  }
  const bool complete = verdict(*task.graph, facts_of(task)) == Verdict::kComplete;
  if (!complete && !nothing_yet) return;
  out.add(Severity::kInfo, "finishing", {{"dispatcher", task.server.dispatcher_state}},
          complete ? "every step is done: the task is finished in a moment" : "nothing runs and nothing waits: the task ends in a moment",
          "If it stays so, see tasker.health_status(): the dispatcher finishes tasks.");
}

std::vector<std::string> names_of(const TaskCase &task, const std::vector<int> &steps) {
  std::vector<std::string> names;
  for (const int step : steps) names.push_back(task.steps[static_cast<std::size_t>(step - 1)].name);
  return names;
}

json first_of(const std::vector<std::string> &names) {
  return std::vector<std::string>(names.begin(), names.begin() + static_cast<std::ptrdiff_t>(std::min(names.size(), kNamesInEvidence)));
}

// One finding for the steps that share code and group. The steps' own names go into the evidence.
std::vector<Finding> merged(const TaskCase &task, std::vector<Finding> found) {
  std::map<std::pair<std::string, std::string>, std::size_t> first;
  std::vector<Finding> out;
  for (Finding &finding : found) {
    if (finding.group.empty()) {
      out.push_back(std::move(finding));
      continue;
    }
    const auto [place, fresh] = first.try_emplace({finding.code, finding.group}, out.size());
    if (fresh) {
      if (finding.step_no != 0) finding.steps = {finding.step_no};
      out.push_back(std::move(finding));
      continue;
    }
    Finding &whole = out[place->second];
    whole.severity = std::min(whole.severity, finding.severity);
    whole.steps.push_back(finding.step_no);
    // What differs from step to step is told of the group alone.
    if (whole.evidence.value("reason", "") != finding.evidence.value("reason", "")) {
      const std::string reason = whole.evidence.value("reason", "");
      whole.evidence["reason"] = reason.substr(0, reason.find(':'));
    }
    whole.waits_for.insert(whole.waits_for.end(), finding.waits_for.begin(), finding.waits_for.end());
  }
  for (Finding &finding : out) {
    if (finding.steps.empty() || (finding.steps.size() == 1 && !finding.everybody)) continue;
    finding.step_no = 0;
    // The frontier: what the group waits for outside of itself.
    if (!finding.waits_for.empty()) {
      const std::set<int> inside(finding.steps.begin(), finding.steps.end());
      std::set<int> outside(finding.waits_for.begin(), finding.waits_for.end());
      std::erase_if(outside, [&](int step) { return inside.contains(step); });
      const std::vector<std::string> frontier = names_of(task, {outside.begin(), outside.end()});
      finding.summary = "waits for " + listed(frontier, kNamesInEvidence);
      finding.evidence["waiting_for"] = first_of(frontier);
    }
    const std::vector<std::string> names = names_of(task, finding.steps);
    finding.evidence["step_count"] = names.size();
    finding.evidence["steps"] = first_of(names);
  }
  return out;
}

}  // namespace

void judge_task(Judgement &out) {
  const TaskCase &task = out.task();
  judge_end(out);
  if (task.facts.state == TaskState::kError || live(task)) {
    judge_deadline(out);
    judge_owner(out);
  }
  if (!live(task)) return;
  judge_server(out);
  if (!task.held.empty())
    out.add(Severity::kCritical, "held", {{"reason", task.held}}, "held: " + task.held,
            "tasker.release_hold('why') lets this database run, if its tasks may run here.");
  judge_lock(out);
  if (task.server.session_pid != 0)
    out.add(Severity::kInfo, "run_by_session", {{"pid", task.server.session_pid}},
            "the session of process " + std::to_string(task.server.session_pid) + " runs the task with tasker.run_task",
            "The workers take it up when that call ends.");
  if (task.retired)
    out.add(Severity::kInfo, "definition_retired", {{"definition", task.ns + "." + task.name + " " + task.version}},
            "the definition is retired: this task runs to its end, new ones need another version");
}

}  // namespace tasker::core::diagnosis

namespace tasker::core {

using namespace diagnosis;

const char *to_string(Severity severity) noexcept { return kSeverities[static_cast<std::size_t>(severity)]; }

const char *doc_of(const char *code) noexcept {
  const Place *place = place_of(code);
  return place != nullptr ? place->doc : "doc/operations.md#diagnosing";
}

std::vector<Finding> diagnose(const TaskCase &task, int only_step) {
  Judgement about_task(task, 0);
  judge_task(about_task);
  std::vector<Finding> found = about_task.take();
  const bool ended_well =
      task.facts.state == TaskState::kComplete || task.facts.state == TaskState::kResolvedManually || task.facts.state == TaskState::kCancelled;
  for (int step_no = 1; step_no <= static_cast<int>(task.steps.size()); ++step_no) {
    if (only_step != 0 ? step_no != only_step : ended_well) continue;
    Judgement about_step(task, step_no);
    judge_step(about_step, only_step != 0);
    std::vector<Finding> more = about_step.take();
    std::move(more.begin(), more.end(), std::back_inserter(found));
  }
  if (only_step == 0 && !ended_well) {
    Judgement rest(task, 0);
    judge_rest(rest, found.empty());
    std::vector<Finding> more = rest.take();
    std::move(more.begin(), more.end(), std::back_inserter(found));
  }
  if (only_step == 0)
    found = merged(task, std::move(found));
  else
    for (Finding &finding : found)
      if (finding.everybody) finding.step_no = 0;
  std::stable_sort(found.begin(), found.end(), [](const Finding &a, const Finding &b) {
    const auto rank = [](const Finding &f) { return std::tuple(f.severity, f.step_no, place_of(f.code)); };
    return rank(a) < rank(b);
  });
  return found;
}

Finding inconsistent_task(std::int64_t task_id) {
  Finding finding;
  finding.severity = Severity::kCritical;
  finding.code = "inconsistent";
  finding.evidence = {{"task_id", task_id}};
  finding.summary = "the steps of the task are not those of its definition";
  finding.advice = "tasker.check() tells what is wrong. Somebody wrote tasker's tables by hand, or a restore was not complete.";
  return finding;
}

}  // namespace tasker::core
