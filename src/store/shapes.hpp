// The tables of the hot path as this library knows them, for pg::Table. A column is named by its place; the names stand in
// the same order in shapes.cpp.
#pragma once

#include <optional>
#include <string>

#include "core/state.hpp"
#include "pg/table.hpp"
#include "store/keys.hpp"

namespace tasker::store {

namespace task_column {
enum : int {
  kTaskId, kHome, kNamedTaskId, kOwner, kPriority, kState, kMoves, kSinksLeft, kLive, kRunnable, kPaused, kFailing, kUneven, kRunAt, kCreatedAt, kStartedAt,
  kFinishedAt, kDeadlineSeconds, kDeadlineAt, kContext, kError, kCorrelationId, kCreatedBy, kUntold, kCount
};
}
namespace step_column {
enum : int {
  kTaskId, kStepNo, kElement, kState, kMoves, kAttempts, kGeneration, kWaitingOn, kCrashes, kOldCrashes, kMaxAttempts, kPermanent, kStartedAt, kFinishedAt,
  kNextAttemptAt, kResult, kError, kUntold, kCount
};
}
namespace task_move_column {
enum : int { kTaskId, kSortKey, kFromState, kToState, kMetadata, kCreatedAt, kBegunAt, kCount };
}
namespace step_move_column {
enum : int { kTaskId, kStepNo, kElement, kSortKey, kFromState, kToState, kMetadata, kCreatedAt, kBegunAt, kAttempt, kCount };
}

namespace outbox_column {
enum : int { kTaskId, kStepNo, kElement, kSortKey, kEvent, kSubscriptionId, kEventId, kOccurredAt, kHandedTo, kResult, kCount };
}
namespace timer_column {
enum : int { kTaskId, kStepNo, kElement, kKind, kDueAt, kCount };
}
namespace lease_column {
enum : int { kTaskId, kStepNo, kElement, kQueue, kMoves, kToken, kWorker, kClaimedBy, kClaimedAt, kLeaseUntil, kCount };
}
namespace transfer_column {
enum : int { kTaskId, kStepNo, kElement, kMoves, kBegunAt, kCount };
}

extern pg::TableShape tasks_table, steps_table, task_moves_table, step_moves_table, outbox_table, timers_table, leases_table, transfers_table;

// `place`: where the row was once, or nowhere.
pg::TableRow find_task(pg::Table &tasks, std::int64_t task_id, const ItemPointerData &place = {});
pg::TableRow find_step(pg::Table &steps, const StepKey &key, const ItemPointerData &place = {});
pg::TableRow find_lease(pg::Table &leases, const StepKey &key);
pg::TableRow find_transfer(pg::Table &transfers, const StepKey &key);
// The first timer of a step; the others by next().
pg::TableRow find_timer(pg::Table &timers, const StepKey &key);

// `type`: that of the column, as pg::Table::type has it.
Datum state_datum(Oid type, core::TaskState state);
Datum state_datum(Oid type, core::StepState state);
core::TaskState task_state_of(Oid type, Datum value);
core::StepState step_state_of(Oid type, Datum value);

inline std::optional<TimestampTz> timestamp_or_null(const pg::TableRow &row, int column) {
  if (row.nulls[column]) return std::nullopt;
  return DatumGetTimestampTz(row.values[column]);
}

}  // namespace tasker::store
