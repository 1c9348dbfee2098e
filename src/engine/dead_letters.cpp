#include "engine/dead_letters.hpp"

#include <algorithm>

#include "engine/control_call.hpp"
#include "store/dead_letters.hpp"

namespace tasker::engine {

namespace {

inline constexpr int kPage = 200;
inline constexpr std::size_t kMaxNote = 8192;

// Definitions that the filters name; nothing when they name none.
std::optional<std::vector<int>> wanted_definitions(const Redrive &wanted) {
  if (!wanted.ns) {
    if (wanted.name) throw tasker::Error(sqlstate::kInvalidParameter, "a name needs a namespace", {}, "Pass namespace => 'default' for definitions that name none.");
    return std::nullopt;
  }
  const std::optional<int> namespace_id = store::find_namespace(*wanted.ns);
  if (!namespace_id) throw tasker::Error(sqlstate::kNoData, "namespace " + *wanted.ns + " does not exist");
  std::vector<int> ids = store::definitions_in(*namespace_id, wanted.name);
  if (!wanted.name) return ids;
  const std::string full_name = *wanted.ns + "." + *wanted.name;
  if (ids.empty()) throw tasker::Error(sqlstate::kNoData, "definition " + full_name + " does not exist", {}, "tasker.named_task_list shows those there are.");
  if (wanted.step && std::none_of(ids.begin(), ids.end(), [&](int id) { return store::definition(id)->step_by_name.contains(*wanted.step); }))
    throw tasker::Error(sqlstate::kNoData, "no version of definition " + full_name + " has a step \"" + *wanted.step + "\"");
  return ids;
}

store::DeadLetterFilter filter_of(const Redrive &wanted, Oid caller) {
  if (wanted.max_tasks < 1) throw tasker::Error(sqlstate::kInvalidParameter, "max_tasks must be at least 1");
  if (wanted.sqlstate && wanted.sqlstate->size() != 5)
    throw tasker::Error(sqlstate::kInvalidParameter, "\"" + *wanted.sqlstate + "\" is not an SQLSTATE", {}, "An SQLSTATE has five characters; tasker.dead_letters shows those there are.");
  store::DeadLetterFilter filter;
  filter.role = caller;
  filter.controls_all = has_level(caller, "operator");
  filter.except_task = running_task();
  filter.named_tasks = wanted_definitions(wanted);
  filter.step = wanted.step;
  filter.category = wanted.category;
  filter.sqlstate = wanted.sqlstate;
  filter.failed_since = wanted.failed_since;
  filter.failed_before = wanted.failed_before;
  return filter;
}

int redrive_task(std::int64_t task_id, const store::DeadLetterFilter &filter, const Reason &reason) {
  ControlCall call(task_id, reason);
  std::vector<store::StepMove> moves;
  // Asked again, under the lock.
  for (int step_no : store::dead_steps(filter, task_id)) moves.push_back(call.retry_move(call.facts().steps[static_cast<std::size_t>(step_no - 1)], false, "redrive"));
  if (moves.empty()) return 0;
  call.revive();
  call.write(moves);
  return static_cast<int>(moves.size());
}

std::string state_of(const store::StepRow &row) {
  return row.state == core::StepState::kError ? "in error, but is tried again by itself" : core::to_string(row.state);
}

}  // namespace

int redrive(const Redrive &wanted) {
  const Oid caller = GetUserId();
  pg::Spi spi;
  std::optional<store::DeadLetterFilter> filter;
  {
    pg::OwnerScope as_owner(store::cached_extension_owner());
    filter = filter_of(wanted, caller);
  }
  int left = wanted.max_tasks, steps = 0;
  std::int64_t last = 0;
  for (bool more = true; more && left > 0;) {
    std::vector<std::int64_t> page;
    const int size = std::min(left, kPage);
    {
      pg::OwnerScope as_owner(store::cached_extension_owner());
      page = store::lock_dead_tasks(*filter, last, size);
    }
    for (std::int64_t task_id : page) {
      pg::check_interrupts();
      const int moved = redrive_task(task_id, *filter, wanted.reason);
      steps += moved;
      left -= moved > 0 ? 1 : 0;
    }
    more = static_cast<int>(page.size()) == size;
    if (!page.empty()) last = page.back();
  }
  if (left == 0) {
    pg::OwnerScope as_owner(store::cached_extension_owner());
    if (store::any_dead_task(*filter, last))
      pg::report(pg::Level::kNotice, "more tasks than max_tasks (" + std::to_string(wanted.max_tasks) + ") have such dead letters", {},
                 "Call redrive again; with failed_before it leaves alone what has failed again since.");
  }
  return steps;
}

std::int64_t note_dead_letter(std::int64_t task_id, const std::string &step, const std::string &status, const std::optional<std::string> &note) {
  if (status != "open" && status != "resolved" && status != "wont_fix")
    throw tasker::Error(sqlstate::kInvalidParameter, "\"" + status + "\" is not a status of a dead letter", {}, "A note says open, resolved or wont_fix.");
  if (note && note->size() > kMaxNote)
    throw tasker::Error(sqlstate::kProgramLimit, "the note is " + std::to_string(note->size()) + " bytes long, the limit is " + std::to_string(kMaxNote), {},
                        "Keep long texts elsewhere and note where.");
  ControlCall call(task_id, std::nullopt);
  const store::StepRow &row = call.step(step);
  if (!store::is_dead_letter(call.task(), row, call.definition_of(row)))
    wrong_state("step \"" + step + "\"", state_of(row), "Notes are made on dead letters: failed steps that are not tried again by themselves.");
  return store::insert_dead_letter_note(row, status, note, GetSessionUserId());
}

}  // namespace tasker::engine
