// What the number of executors of this database is decided by, and what its dispatcher decided last.
#pragma once

#include "core/concurrency.hpp"
#include "pg/bridge.hpp"

namespace tasker::store {

// Slots of max_worker_processes that tasker may still take while so many executors are there; others' workers beyond
// the reserve are found out by trying.
int worker_slots_left(int executors);

// Connections, worker slots, load, as they are now. Open tasks are counted up to ten thousand and estimated beyond, their
// steps by the oldest two hundred. Precondition: preloaded, inside pg::OwnerScope and pg::Spi.
core::ConcurrencyInputs concurrency_inputs();

// The limit in force for this database: what its dispatcher decided last, or the fixed one.
struct ConcurrencyInForce {
  int limit = 0;
  bool decided = false;        // by its dispatcher; else tasker.max_concurrent_steps holds
  TimestampTz decided_at = 0;
};
ConcurrencyInForce concurrency_in_force();

}  // namespace tasker::store
