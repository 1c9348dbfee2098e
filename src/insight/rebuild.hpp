// The hourly counts once more, from the transitions: what a crash lost, what ran without the preload, what was restored.
#pragma once

#include <optional>

#include "pg/bridge.hpp"

namespace tasker::insight {

// Replaces the counts of the hours from the one `since` lies in (nothing: all that are kept) to the last that is over. Of a definition
// whose tasks were removed by retention, hours up to that day stay as they are: the counts know more than the tables. Gives how many
// attempts and moves of tasks were counted. Reads every transition of the tasks in question. Precondition: inside pg::OwnerScope and
// pg::Spi, and statements see what was committed before them.
std::int64_t rebuild_counts(std::optional<TimestampTz> since);

}  // namespace tasker::insight
