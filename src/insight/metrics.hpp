// What monitoring systems ask for: all counters, histograms and gauges of this database at one moment.
//
// Counters and histograms are read from totals that the dispatcher writes every few seconds (store/metric_totals.hpp), never from
// memory: what was told once would otherwise be taken back by a crash, and a counter that goes back looks like one that began
// again. Gauges tell of live work, from the tables and from shared memory. The cost follows live work and the number of
// definitions, never history.
#pragma once

#include "core/metrics_text.hpp"

namespace tasker::insight {

// Precondition: inside pg::OwnerScope and pg::Spi.
core::Metrics gather_metrics();

}  // namespace tasker::insight
