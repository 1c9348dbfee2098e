// The end of a batch: what happened is written, tasks first, then steps, each in key order.
#include <algorithm>
#include <map>
#include <set>

#include "engine/batch.hpp"
#include "engine/step_log.hpp"
#include "pg/fault.hpp"
#include "pg/security.hpp"
#include "store/hints.hpp"
#include "store/step_history.hpp"
#include "store/timers.hpp"

namespace tasker::engine {

namespace {

inline constexpr std::size_t kMaxChildHints = 8;

[[noreturn]] void lost_race() {
  throw tasker::Error("40001", kLostRace);
}

std::string attempt_member(int attempt) { return "\"attempt\": " + std::to_string(attempt); }

bool recordable(const Outcome &outcome) {
  return outcome.kind == OutcomeKind::kSucceeded || outcome.kind == OutcomeKind::kFailed || outcome.kind == OutcomeKind::kBegun ||
         outcome.kind == OutcomeKind::kReturned;
}

// The members of a JSON object, one after the other.
std::string object_of(std::initializer_list<std::string> members) {
  std::string out;
  for (const std::string &member : members)
    if (!member.empty()) out += (out.empty() ? "" : ", ") + member;
  return out.empty() ? out : "{" + out + "}";
}

store::StepMove step_move(const Outcome &outcome) {
  const store::StepRow &row = outcome.loaded.step;
  store::StepMove move;
  move.key = row.key;
  move.expected_moves = row.moves;
  move.place = row.place;
  move.from = row.state;
  move.attempts = outcome.attempt();
  move.generation = row.generation;
  move.started_at = outcome.started_at;
  if (outcome.step().parents.size() >= 2) move.waiting_on = 0;
  if (row.state == core::StepState::kError) move.hops.push_back({core::StepState::kPending, outcome.started_at, "{\"cause\": \"retry\"}"});
  const bool begun = outcome.kind == OutcomeKind::kBegun;
  if (!outcome.under_way()) move.hops.push_back(store::begin_attempt(outcome.started_at, move.attempts));
  if (begun && !outcome.metadata.empty()) move.hops.back() = {core::StepState::kInProgress, outcome.started_at, object_of({attempt_member(move.attempts), outcome.metadata})};
  if (begun) return move;
  if (outcome.kind == OutcomeKind::kReturned) {
    move.cause = core::MoveCause::kLease;
    move.attempts -= outcome.attempts_back;
    move.hops.push_back({core::StepState::kPending, outcome.finished_at, object_of({outcome.metadata})});
    return move;
  }
  if (outcome.kind == OutcomeKind::kSucceeded) {
    move.hops.push_back({core::StepState::kComplete, outcome.finished_at, object_of({outcome.metadata})});
    move.finished_at = outcome.finished_at;
    if (outcome.result != Datum(0)) move.result = outcome.result;
  } else {
    const FailureDecision &failure = outcome.failure;
    move.hops.push_back({core::StepState::kError, outcome.finished_at, object_of({"\"error\": " + failure.error, outcome.metadata})});
    move.error = failure.error;
    move.permanent = failure.permanent;
    move.max_attempts = failure.max_attempts;
    if (failure.retry) move.next_attempt_at = failure.next_attempt_at;
    else move.finished_at = outcome.finished_at;
  }
  return move;
}

// What the end of a step says about the system it depends on.
store::SystemWord word_of(const Outcome &outcome) {
  if (outcome.kind == OutcomeKind::kSucceeded) return store::SystemWord::kWorks;
  return outcome.kind == OutcomeKind::kFailed && outcome.failure.against_system ? store::SystemWord::kFails : store::SystemWord::kNothing;
}

// One task row's share of a batch.
struct TaskShare {
  store::TaskMove move;
  const Outcome *first = nullptr;
  bool touched() const { return !move.hops.empty() || move.sinks_done > 0 || move.set_failing; }
};

}  // namespace

bool Batch::recorded(const store::StepKey &key) const {
  return std::any_of(outcomes_.begin(), outcomes_.end(), [&](const Outcome &o) {
    return o.loaded.step.key == key && recordable(o);
  });
}

void Batch::record() {
  if (std::none_of(outcomes_.begin(), outcomes_.end(), recordable)) return;
  TASKER_FAULT("record.before");
  pg::OwnerScope as_owner(store::cached_extension_owner(), options_.lock_timeout_ms);
  pg::Spi spi;
  for (Outcome &o : outcomes_)
    if (o.kind == OutcomeKind::kFailed) plan_attempt(o.failure, o.definition->named_task_id, o.step(), o.finished_at);
  record_tasks();
  record_steps();
  record_children();
  TASKER_FAULT("record.after");
}

void Batch::count_outcomes() const {
  for (const Outcome &o : outcomes_) {
    if (o.step().dependent_system_id != 0 && o.kind != OutcomeKind::kRunAlone && o.kind != OutcomeKind::kBegun) options_.tell(o.step().dependent_system_id, o.loaded.step.key, word_of(o));
    if ((o.kind != OutcomeKind::kSucceeded && o.kind != OutcomeKind::kFailed) || o.step().type == store::HandlerType::kNoop) continue;
    store::count_outcome(o.definition->named_task_id, o.step().learner, o.loaded.step.key, o.attempt(), o.kind == OutcomeKind::kSucceeded, o.duration_ms());
  }
  log_ends(outcomes_);
}

void Batch::record_tasks() {
  std::map<std::int64_t, TaskShare> shares;
  std::vector<store::StepKey> started_late;
  for (const Outcome &o : outcomes_) {
    if (!recordable(o)) continue;
    TaskShare &share = shares[o.loaded.task.task_id];
    if (share.first == nullptr) {
      share.first = &o;
      share.move.task_id = o.loaded.task.task_id;
      share.move.expected_moves = o.loaded.task.moves;
      share.move.place = o.loaded.task.place;
      share.move.from = o.loaded.task.state;
      if (o.loaded.task.state == core::TaskState::kPending) {
        share.move.hops.push_back({core::TaskState::kInProgress, o.started_at, {}});
        share.move.started_at = o.started_at;
        share.move.unpark = o.loaded.delayed;
        if (o.loaded.delayed) started_late.push_back({o.loaded.task.task_id, 0, -1});
      }
    }
    if (o.kind == OutcomeKind::kSucceeded && o.step().children.empty()) {
      share.move.sinks_done++;
      share.move.complete_at_zero = true;
    }
    if (o.kind == OutcomeKind::kFailed && !o.failure.retry) {
      share.move.set_failing = true;
      if (!share.move.error) share.move.error = o.step().name + ": " + o.failure.message;
    }
  }
  std::vector<store::TaskMove> moves;
  for (auto &[_, share] : shares)
    if (share.touched()) moves.push_back(share.move);
  moved_ = store::move_tasks(moves);
  store::drop_timers(started_late);
  if (moved_.size() == moves.size()) return;

  // Another executor started the task, or somebody controlled it: look at the rows that did not move, under lock.
  for (store::TaskMove &move : moves) {
    if (std::any_of(moved_.begin(), moved_.end(), [&](const store::MovedTask &m) { return m.task_id == move.task_id; })) continue;
    const auto row = store::load_task(move.task_id, store::RowLock::kUpdate);
    if (!row || core::finished(row->state)) lost_race();
    move.expected_moves = row->moves;
    move.from = row->state;
    if (row->state == core::TaskState::kInProgress) move.hops.clear();
    const auto again = store::move_tasks({move});
    if (again.empty()) lost_race();
    moved_.push_back(again.front());
  }
}

void Batch::record_steps() {
  std::vector<store::StepMove> moves;
  std::vector<store::StepKey> timers_over;
  std::vector<std::pair<store::StepKey, TimestampTz>> timers;
  for (const Outcome &o : outcomes_) {
    if (!recordable(o)) continue;
    moves.push_back(step_move(o));
    if (o.loaded.step.next_attempt_at || o.under_way()) timers_over.push_back(o.loaded.step.key);
    if (moves.back().next_attempt_at) timers.emplace_back(o.loaded.step.key, *moves.back().next_attempt_at);
  }
  std::sort(moves.begin(), moves.end(), [](const store::StepMove &a, const store::StepMove &b) { return a.key < b.key; });
  if (store::move_steps(moves) != moves.size()) lost_race();
  store::drop_timers(timers_over);
  store::add_timers(timers);
}

// A wide fan-out is one hint to look at the task: a transaction carries a bounded number of them.
void Batch::hint_children(const Outcome &parent, const std::vector<int> &children) {
  const store::TaskRow &task = parent.loaded.task;
  store::Hint hint{{task.task_id, 0, -1}, 0, task.named_task_id, task.priority, task.owner, store::HintKind::kTask};
  if (children.size() > kMaxChildHints) {
    store::add_hint(hint);
    return;
  }
  hint.kind = store::HintKind::kStep;
  for (int child : children) {
    hint.key.step_no = child;
    hint.priority = task.priority + parent.definition->step(child).priority;
    hint.outside = store::is_outside(parent.definition->step(child).type);
    hint.noop = parent.definition->step(child).type == store::HandlerType::kNoop;
    store::add_hint(hint);
  }
}

void Batch::record_children() {
  std::map<std::int64_t, std::pair<const Outcome *, std::vector<int>>> children;  // newly ready, by task
  std::map<store::StepKey, std::pair<int, const Outcome *>> counters;
  std::set<std::int64_t> freed, ended, watch;
  std::map<int, std::pair<int, int>> completed;  // named task → tasks, steps each
  const auto alone = [&](const store::StepKey &key) { return std::find(run_alone_.begin(), run_alone_.end(), key) != run_alone_.end(); };
  for (const Outcome &o : outcomes_) {
    const std::int64_t task_id = o.loaded.task.task_id;
    if (o.kind == OutcomeKind::kFailed) {
      if (o.failure.retry) {
        store::Hint hint{o.loaded.step.key, o.failure.next_attempt_at, o.loaded.task.named_task_id,
                         o.loaded.task.priority + o.step().priority, o.loaded.task.owner, store::HintKind::kTimer};
        hint.outside = store::is_outside(o.step().type);
        store::add_hint(hint);
      } else {
        watch.insert(task_id);
      }
    }
    if (o.kind == OutcomeKind::kReturned)
      store::add_hint({o.loaded.step.key, 0, o.loaded.task.named_task_id, o.loaded.task.priority + o.step().priority, o.loaded.task.owner, store::HintKind::kStep, true});
    if (o.kind != OutcomeKind::kSucceeded) continue;
    ended.insert(task_id);
    for (int child : o.step().children) {
      const store::StepKey key{task_id, child, -1};
      if (recorded(key)) continue;
      if (o.definition->step(child).parents.size() >= 2) {
        auto &entry = counters[key];
        entry.first++;
        entry.second = &o;
      } else if (!alone(key)) {
        children[task_id].first = &o;
        children[task_id].second.push_back(child);
        freed.insert(task_id);
      }
    }
  }
  std::vector<store::CounterChange> changes;
  for (const auto &[key, entry] : counters) changes.push_back({key, entry.first});
  for (const store::StepKey &key : store::count_down(changes)) {
    freed.insert(key.task_id);
    if (alone(key)) continue;
    children[key.task_id].first = counters.at(key).second;
    children[key.task_id].second.push_back(key.step_no);
  }
  for (const auto &[_, entry] : children) hint_children(*entry.first, entry.second);
  for (const store::MovedTask &moved : moved_) {
    if (moved.completed_now) {
      ended.erase(moved.task_id);
      const auto owner = std::find_if(outcomes_.begin(), outcomes_.end(), [&](const Outcome &o) { return o.loaded.task.task_id == moved.task_id; });
      auto &entry = completed[owner->loaded.task.named_task_id];
      entry.first++;
      entry.second = static_cast<int>(owner->definition->steps.size());
    } else if (moved.failing || moved.uneven) {
      watch.insert(moved.task_id);
    }
  }
  for (const auto &[named_task_id, count] : completed) store::tally_complete(named_task_id, count.first, count.second);
  store::Hint hint{};
  for (std::int64_t task_id : ended) {
    if (freed.contains(task_id) || watch.contains(task_id)) continue;
    hint.kind = store::HintKind::kSettle;
    hint.key = {task_id, 0, -1};
    store::add_hint(hint);
  }
  for (std::int64_t task_id : watch) {
    hint.kind = store::HintKind::kWatch;
    hint.key = {task_id, 0, -1};
    store::add_hint(hint);
  }
}

}  // namespace tasker::engine
