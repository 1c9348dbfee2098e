// One schedule, locked, at the moment when it fires.
#pragma once

#include <deque>
#include <vector>

#include "core/schedule.hpp"
#include "pg/xact.hpp"
#include "store/schedules.hpp"

namespace tasker::engine {

// Precondition: inside pg::OwnerScope and pg::Spi, the row locked by this transaction.
class ScheduleRound {
 public:
  // Reads which of its tasks still run, and takes note of those that have ended.
  ScheduleRound(const store::ScheduleRow &row, std::string ticked_by);

  // A fire time under the overlap rule. A refusal to create the task is recorded; a passing trouble (a lock, a
  // serialization failure) is raised.
  void fire(TimestampTz at, core::Overlap overlap);
  // The same without a record of refusals: they are raised.
  std::optional<std::int64_t> fire_or_raise(TimestampTz at, core::Overlap overlap);
  // What has waited for the end of a task.
  void drain();

  int tasks() const { return tasks_; }
  int taken() const { return taken_; }  // fire times that had no row
  bool waiting() const { return !queued_.empty(); }
  std::size_t waiting_count() const { return queued_.size(); }

 private:
  std::optional<std::int64_t> take(TimestampTz at, core::Overlap overlap);
  bool create(TimestampTz at, bool cancels);
  void cancel_running();
  void record_refusal(TimestampTz at, bool was_queued, const pg::Caught &refusal);

  const store::ScheduleRow &row_;
  std::string ticked_by_;
  std::vector<std::int64_t> running_;
  std::deque<TimestampTz> queued_;
  int tasks_ = 0, taken_ = 0;
};

// Is this how trouble looks that passes by itself? Nothing is to be recorded of it, as the next tick tries again.
bool passes_by_itself(const pg::Caught &error);

}  // namespace tasker::engine
