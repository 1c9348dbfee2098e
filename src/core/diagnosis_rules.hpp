// The parts of core/diagnosis: rules about one step, and what they share. Nobody else includes this.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "core/diagnosis.hpp"

namespace tasker::core::diagnosis {

// A ready step that waits longer than this isn't just about to run.
inline constexpr Moment kPatience = 5'000'000;
// Lists of names in evidence are cut at this.
inline constexpr std::size_t kNamesInEvidence = 10;

class Judgement {
 public:
  Judgement(const TaskCase &task, int step_no) : task_(task), step_no_(step_no) {}
  Finding &add(Severity severity, const char *code, json evidence, std::string summary, std::string advice = {});
  bool has(std::string_view code) const;
  bool empty() const { return found_.empty(); }
  std::vector<Finding> take() { return std::move(found_); }
  const TaskCase &task() const { return task_; }
  int step_no() const { return step_no_; }
  const StepCase &step() const { return task_.steps[static_cast<std::size_t>(step_no_ - 1)]; }
  // "tasker.retry_step(12, 'charge')"
  std::string call(const char *function) const;

 private:
  const TaskCase &task_;
  int step_no_;
  std::vector<Finding> found_;
};

// What is to be said of the step as such; with `alone` also that it is done.
void judge_step(Judgement &out, bool alone);
// Of a step whose last attempt failed. final: there is no further attempt.
void judge_failure(Judgement &out, bool final);
// Of a step that has crashed its process and may run again.
void judge_crashes(Judgement &out);
// Of the function behind a step that may still run.
void judge_handler(Judgement &out);
// Of the task: what holds for all its steps.
void judge_task(Judgement &out);

bool live(const TaskCase &task) noexcept;
json moment_or_null(const std::optional<Moment> &moment);
// 0.042 s, 3 s, 2 min, 5 h
std::string duration_text(double seconds);
// "" or " by alice (not needed any more)"
std::string by(const std::optional<Mover> &mover);
json mover_evidence(const std::optional<Mover> &mover);
// "a, b, c and 7 more"
std::string listed(const std::vector<std::string> &names, std::size_t most);

}  // namespace tasker::core::diagnosis
