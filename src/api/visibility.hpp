// What the caller of a function may see: rows of its own tasks (as owner or creator), or everybody's by level.
#pragma once

#include <optional>

#include "pg/bridge.hpp"
#include "store/keys.hpp"

namespace tasker::api {

// The rights of one role. Its levels are read when first asked for, under the extension owner's identity. A plain
// value: it may be kept in memory that Postgres frees.
class Viewer {
 public:
  Viewer() = default;
  explicit Viewer(Oid role) : role_(role) {}
  Oid role() const { return role_; }
  bool sees_all();  // all rows: superuser, extension owner, or level monitor, operator, admin
  bool operates();  // all payloads too: the same without monitor
  bool sees(Oid owner, Oid created_by);
  bool sees_payload(Oid owner, Oid created_by);

 private:
  void read_levels();
  Oid role_ = InvalidOid;
  bool known_ = false, sees_all_ = false, operates_ = false;
};

// Two equal keys: the statements saw the same rows. For memos that outlive one call.
struct SnapshotKey {
  TransactionId xmin = 0, xmax = 0;
  std::uint32_t running = 0;
  CommandId command = 0;
  friend bool operator==(const SnapshotKey &, const SnapshotKey &) = default;
};
SnapshotKey current_snapshot();

enum class Sight : std::uint8_t { kNothing, kRow, kPayload };

// What the caller sees, remembered from row to row of a query: the next row is mostly of the same task, or at least
// of the same owner.
class Memo {
 public:
  Sight sight(Oid owner, Oid created_by);
  Sight sight_of(std::int64_t task_id);  // kNothing when there is no such task

 private:
  friend Memo &memo_of(FunctionCallInfo fcinfo);
  Viewer viewer_;
  SnapshotKey snapshot_;
  Oid owner_ = InvalidOid, created_by_ = InvalidOid;
  std::int64_t task_id_ = 0;
  Sight of_owners_ = Sight::kNothing, of_task_ = Sight::kNothing;
};
// That of this call's place in the query; empty again when the role or what it sees has changed.
Memo &memo_of(FunctionCallInfo fcinfo);

// One row of one of tasker's tables by its primary key, as the running statement's snapshot shows it: what a view
// that calls us for a column shows beside it. Read below SQL, which is ten times cheaper than a prepared
// statement and needs no other identity: no code but btree's own comparison of integers runs.
inline constexpr int kMaxColumns = 3;
struct FoundRow {
  bool found = false;
  bool null[kMaxColumns] = {};
  Datum value[kMaxColumns] = {};  // detoasted copies in the current memory context
};
// key: the first is bigint, the others integers, for the columns named.
struct RowKey {
  int count = 1;
  std::int64_t first = 0;
  std::int32_t rest[3] = {};
};
struct TableShape {
  const char *table, *index;
  const char *key[4];
};
FoundRow read_row(const TableShape &shape, const RowKey &key, std::initializer_list<const char *> columns);

inline constexpr TableShape kTasks{"tasks", "tasks_pkey", {"task_id"}};
inline constexpr TableShape kSteps{"workflow_steps", "workflow_steps_pkey", {"task_id", "step_no", "element"}};

}  // namespace tasker::api
