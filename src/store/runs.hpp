// What an executor reads before it runs steps, and writes beside the moves afterwards. Precondition: inside
// pg::OwnerScope and pg::Spi.
#pragma once

#include <unordered_map>
#include <vector>

#include "store/facts.hpp"

namespace tasker::store {

// A step to run, as its rows stood when it was read. Datums live in the context given.
struct LoadedStep {
  TaskRow task;
  StepRow step;
  Datum context = 0;                       // jsonb
  std::optional<std::string> correlation_id;
  bool delayed = false;                    // created with a later run_at: a timer row exists until the start
};
// Rows that no longer exist are left out; order as given.
std::vector<LoadedStep> load_steps(const std::vector<StepAt> &wanted, MemoryContext context);

// task_id → named_task_id of the tasks that exist.
std::unordered_map<std::int64_t, int> definitions_of(const std::vector<std::int64_t> &task_ids);

struct ParentResult {
  StepKey key;
  core::StepState state;
  Datum result = 0;  // jsonb, or 0 for null
};
std::vector<ParentResult> load_results(const std::vector<StepKey> &keys, MemoryContext context);

struct CounterChange {
  StepKey child;
  int parents_done;
};
// Takes satisfied parents off the counters; gives the children whose counter got zero and that are pending.
std::vector<StepKey> count_down(const std::vector<CounterChange> &changes);

}  // namespace tasker::store
