#include "core/retention.hpp"

#include <algorithm>

namespace tasker::core {

namespace {

constexpr std::int64_t kSecond = 1'000'000;
// Between two looks at what becomes due one by one, and at what was left behind: a share of the retention, within bounds.
constexpr std::int64_t kForwardShare = 100, kShortestForward = kSecond / 10, kLongestForward = 60 * kSecond;
constexpr std::int64_t kRestartShare = 24, kShortestRestart = kSecond, kLongestRestart = 3600 * kSecond;
// Looking again at what was left takes at most 1 % of the time.
constexpr std::int64_t kRestartRest = 100;
// While there is work a walk starts over even if nothing is known to be left: for a task that became visible behind the walk.
constexpr std::int64_t kRestartAnyway = 24 * 3600 * kSecond;

// Without overflow, as retentions are below 2^31 s.
std::int64_t due_at(std::int64_t since, std::int64_t keep) { return keep < 0 ? kNever : since + keep; }

void note(std::map<int, WalkMark> &marks, const WalkedTask &task) {
  WalkMark &mark = marks[task.namespace_id];
  mark.held += task.held ? 1 : 0;
  if (task.finished_at && (!mark.oldest_finished_at || *task.finished_at < *mark.oldest_finished_at)) mark.oldest_finished_at = task.finished_at;
}

}  // namespace

std::int64_t RetentionRules::of(int namespace_id) const {
  const auto rule = by_namespace.find(namespace_id);
  return rule == by_namespace.end() ? fallback : rule->second;
}

std::int64_t RetentionRules::shortest() const {
  std::int64_t out = fallback;
  for (const auto &[_, keep] : by_namespace)
    if (keep >= 0 && (out < 0 || keep < out)) out = keep;
  return out;
}

PagePlan plan_page(const std::vector<WalkedTask> &page, const RetentionRules &rules, std::int64_t now) {
  PagePlan plan;
  const std::int64_t shortest = rules.shortest();
  plan.passed = page.size();
  while (plan.passed > 0 && due_at(page[plan.passed - 1].created_at, shortest) > now) plan.passed--;
  for (std::size_t i = 0; i < plan.passed; i++)
    if (page[i].finished_at && due_at(*page[i].finished_at, rules.of(page[i].namespace_id)) <= now) plan.due.push_back(i);
  return plan;
}

void RetentionWalk::restart(const RetentionRules &rules, std::int64_t now) {
  rules_ = rules;
  position_ = last_seen_ = worked_ = 0;
  began_at_ = now;
  forward_at_ = left_due_at_ = kNever;
  idle_ = left_unknown_ = false;
  left_marks_.clear();
  young_marks_.clear();
  under_way_ = rules_.shortest() >= 0;
}

bool RetentionWalk::proceed(std::int64_t now) {
  if (under_way_) return true;
  if (restart_at() <= now) {
    restart(RetentionRules(rules_), now);
  } else if (forward_at_ <= now) {
    under_way_ = true;
    young_marks_.clear();
  }
  return under_way_;
}

void RetentionWalk::record(const WalkStep &step, std::int64_t now, std::int64_t took) {
  last_seen_ = std::max(last_seen_, step.last_seen);
  // Ids after the last task may belong to transactions that have not ended yet.
  position_ = step.at_end ? last_seen_ : step.position;
  if (step.removed == 0) worked_ += took;  // what removes is paid once
  for (const WalkedTask &task : step.left) {
    note(left_marks_, task);
    const std::int64_t at = task.finished_at ? due_at(*task.finished_at, rules_.of(task.namespace_id)) : kNever;
    if (!task.finished_at || task.held) left_unknown_ = true;
    else left_due_at_ = std::min(left_due_at_, at);
  }
  if (step.young.empty() && !step.at_end) return;
  under_way_ = false;
  idle_ = step.young.empty();
  forward_at_ = kNever;
  for (const WalkedTask &task : step.young) {
    note(young_marks_, task);
    forward_at_ = std::min(forward_at_, due_at(task.created_at, rules_.shortest()));
  }
  if (forward_at_ != kNever) forward_at_ = std::max(forward_at_, now + std::clamp(rules_.shortest() / kForwardShare, kShortestForward, kLongestForward));
}

void RetentionWalk::note_work(std::int64_t now) {
  if (!idle_ || under_way_ || rules_.shortest() < 0) return;
  idle_ = false;
  forward_at_ = now + std::max(rules_.shortest(), kShortestForward);
}

std::int64_t RetentionWalk::restart_at() const {
  if (rules_.shortest() < 0) return kNever;
  const std::int64_t rest = std::max(std::clamp(rules_.shortest() / kRestartShare, kShortestRestart, kLongestRestart), kRestartRest * worked_);
  if (!left_unknown_ && left_due_at_ == kNever) return idle_ ? kNever : began_at_ + std::max(rest, kRestartAnyway);
  return left_unknown_ ? began_at_ + rest : std::max(left_due_at_, began_at_ + rest);
}

std::int64_t RetentionWalk::next_at() const { return under_way_ ? 0 : std::min(forward_at_, restart_at()); }

std::int64_t RetentionWalk::next_removal_at() const { return under_way_ ? 0 : std::min(forward_at_, left_due_at_); }

std::map<int, WalkMark> RetentionWalk::marks() const {
  std::map<int, WalkMark> out = left_marks_;
  for (const auto &[id, young] : young_marks_) {
    WalkMark &mark = out[id];
    if (young.oldest_finished_at && (!mark.oldest_finished_at || *young.oldest_finished_at < *mark.oldest_finished_at)) mark.oldest_finished_at = young.oldest_finished_at;
  }
  return out;
}

}  // namespace tasker::core
