// All that was ever counted, by namespace and name of the definition: what counters are read from.
//
// Written with the hourly counts (store/step_history.hpp), in the same transaction. Nothing makes a total smaller: it has no
// hour, no version and no task in it, so neither the trimming of hours nor retention, rebuild_analytics or a replaced
// definition touches one. What a crash loses of the hourly counts is missing here too; what was told once stays.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "core/durations.hpp"
#include "core/state.hpp"
#include "store/shared_state.hpp"

namespace tasker::store {

// Precondition of all: inside pg::OwnerScope and pg::Spi.

// Counts of definitions that are gone are dropped.
void add_to_totals(const std::map<HistoryKey, HistoryEntry> &counts);

// Attempts of the steps of one definition, and its tasks by the state they came to; kPending: that were created.
struct MetricTotals {
  std::string ns, name;
  std::int64_t attempts = 0, successes = 0, retries = 0;
  std::map<core::TaskState, std::int64_t> tasks;
};
// One for each definition that is not retired or of which something was counted, in order; all versions together.
std::vector<MetricTotals> load_metric_totals();

// How long attempts that succeeded, and tasks that are complete, took.
struct DurationTotals {
  std::string ns;
  core::Durations steps, tasks;
};
// One for each namespace with a definition, in order.
std::vector<DurationTotals> load_duration_totals();

}  // namespace tasker::store
