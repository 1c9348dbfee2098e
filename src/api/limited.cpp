#include "api/limited.hpp"

#include <algorithm>
#include <unordered_set>

#include "core/utc.hpp"
#include "store/limit_figures.hpp"
#include "store/limits.hpp"

namespace tasker::api {

namespace {

using core::Blocking;

// Steps that executors have in hand: their places are taken.
std::unordered_set<store::StepKey, store::StepKeyHash> assigned_steps() {
  std::vector<store::StepKey> keys;
  keys.reserve(static_cast<std::size_t>(store::shared->executor_count) * store::kMailboxSize);  // nothing is allocated under a spinlock
  for (int i = 0; i < store::shared->executor_count; i++) {
    store::ExecutorSlot &slot = store::executor_slot(i);
    const store::SpinGuard guard(slot);
    if (slot.database != MyDatabaseId || slot.state != store::ExecutorState::kRunning) continue;
    for (std::uint64_t n = slot.done; n < slot.assigned; n++) keys.push_back(slot.mailbox[n % store::kMailboxSize]);
  }
  return {keys.begin(), keys.end()};
}

std::string subject(const store::CompiledDefinition &definition, const store::StepLimit &limit) {
  if (limit.step_name) return "step " + definition.ns + "." + *limit.name + "." + *limit.step_name;
  return limit.name ? "definition " + definition.ns + "." + *limit.name : "namespace " + definition.ns;
}

std::string number(double value) {
  char text[32];
  snprintf(text, sizeof text, "%g", value);
  return text;
}

void say(AssessedStep &step, const std::string &whose, const store::StepLimit &limit, const core::GroupFigures &figures, TimestampTz now) {
  const std::string of = whose + (limit.keyed ? ", for this key" : "");
  const std::string waiting = figures.waiting > 0 ? ", " + std::to_string(figures.waiting) + (figures.waiting == 1 ? " waits" : " wait") : "";
  core::Readiness &readiness = step.readiness;
  if (limit.rule.max_running && figures.running + figures.let_out >= *limit.rule.max_running) {
    readiness.ready = false;
    readiness.reason = Blocking::kConcurrencyLimit;
    step.awaited = of + ": " + std::to_string(figures.running + figures.let_out) + " of " + std::to_string(*limit.rule.max_running) + " run" + waiting;
    return;
  }
  if (limit.rule.per_second <= 0) return;
  const core::TokenBucket bucket(figures.tokens, figures.as_of);
  const int wanted = std::min(figures.let_out + 1, limit.rule.burst);
  if (core::whole_tokens(bucket.tokens(limit.rule, now)) >= wanted) return;
  readiness.ready = false;
  readiness.reason = Blocking::kRateLimit;
  readiness.ready_at = bucket.when(limit.rule, now, wanted);
  step.awaited = of + ": " + number(limit.rule.per_second) + " a second" + waiting + ", the next at " + core::utc(*readiness.ready_at);
}

void say_what_is_limited(AssessedTask &task, AssessedStep &step, const std::vector<store::StepLimit> &limits) {
  const store::CompiledStep &compiled = task.definition->step(step.row.key.step_no);
  const std::vector<const store::StepLimit *> over = store::limits_over(limits, *task.definition, compiled);
  std::vector<int> keyed;
  for (const store::StepLimit *limit : over)
    if (limit->keyed) keyed.push_back(limit->limit_id);
  std::vector<core::GroupId> values;
  if (!keyed.empty()) values = store::keyed_groups(task.row.task_id, keyed, pg::Access::kRead);
  for (const store::StepLimit *limit : over) {
    core::GroupId id{limit->limit_id, 0};
    if (limit->keyed) {
      const auto value = std::find_if(values.begin(), values.end(), [=](const core::GroupId &each) { return each.limit == limit->limit_id; });
      if (value == values.end()) continue;
      id = *value;
    }
    if (const auto figures = store::limit_figures(id)) say(step, subject(*task.definition, *limit), *limit, *figures, task.now);
    if (!step.readiness.ready) return;
  }
}

}  // namespace

void say_what_is_limited(std::vector<AssessedTask> &tasks) {
  if (!store::any_limit_figures()) return;
  const std::vector<store::StepLimit> limits = store::load_limits(pg::Access::kRead);
  if (limits.empty()) return;
  const auto assigned = assigned_steps();
  for (AssessedTask &task : tasks)
    for (AssessedStep &step : task.steps)
      if (step.readiness.ready && !assigned.contains(step.row.key)) say_what_is_limited(task, step, limits);
}

}  // namespace tasker::api
