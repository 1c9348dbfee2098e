// Judgement as people read them.
#include <algorithm>
#include <map>

#include "core/diagnosis_rules.hpp"
#include "core/utc.hpp"

namespace tasker::core {

using namespace diagnosis;

namespace {

constexpr std::size_t kMostFindings = 20;
constexpr std::size_t kNames = 5;

std::string header(const TaskCase &task) {
  return "Task " + std::to_string(task.task_id) + ": " + task.ns + "." + task.name + " " + task.version + ", owner " + task.owner;
}

// "2 complete, 1 error, 2 pending"
std::string states(const TaskCase &task) {
  std::map<StepState, int> count;
  for (const StepCase &step : task.steps) ++count[step.facts.state];
  std::string out;
  for (const StepState state : {StepState::kComplete, StepState::kResolvedManually, StepState::kSkipped, StepState::kInProgress, StepState::kError,
                                StepState::kCancelled, StepState::kPending})
    if (count[state] > 0) out += (out.empty() ? "" : ", ") + std::to_string(count[state]) + " " + to_string(state);
  return out;
}

std::string standing(const TaskCase &task) {
  std::string out = std::string("State: ") + to_string(task.facts.state);
  if (task.facts.paused && live(task)) out += ", paused";
  if (task.finished_at)
    out += " since " + utc(*task.finished_at);
  else if (task.created_at)
    out += ", created at " + utc(*task.created_at);
  return out + ". Steps: " + states(task) + ".";
}

std::string where(const TaskCase &task, const Finding &finding) {
  if (finding.step_no != 0) return task.steps[static_cast<std::size_t>(finding.step_no - 1)].name;
  if (finding.everybody || finding.steps.empty()) return "the task";
  std::vector<std::string> names;
  for (const int step : finding.steps) names.push_back(task.steps[static_cast<std::size_t>(step - 1)].name);
  return listed(names, kNames);
}

}  // namespace

std::string explain(const TaskCase &task, const std::vector<Finding> &findings) {
  std::string out = header(task) + "\n" + standing(task) + "\n";
  const std::size_t shown = std::min(findings.size(), kMostFindings);
  for (std::size_t i = 0; i < shown; ++i) {
    const Finding &finding = findings[i];
    out += "\n" + std::to_string(i + 1) + ". [" + to_string(finding.severity) + "] " + where(task, finding) + ": " + finding.code + "\n   " + finding.summary +
           "\n";
    if (!finding.advice.empty()) out += "   -> " + finding.advice + "\n";
    if (finding.severity != Severity::kInfo) out += "   see " + std::string(doc_of(finding.code)) + "\n";
  }
  if (shown < findings.size())
    out += "\n" + std::to_string(findings.size() - shown) + " more: SELECT * FROM tasker.diagnose_task(" + std::to_string(task.task_id) + ");\n";
  out.pop_back();
  return out;
}

}  // namespace tasker::core
