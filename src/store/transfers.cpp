#include "store/transfers.hpp"

#include <set>

#include "store/key_arrays.hpp"
#include "store/shapes.hpp"

namespace tasker::store {

namespace {

constinit pg::Query select_any{"SELECT 1 FROM tasker.transfers f LIMIT 1", 0, {}};
constinit pg::Query select_page{
    "SELECT f.task_id, f.step_no, f.element, f.moves FROM tasker.transfers f WHERE (f.task_id, f.step_no, f.element) > ($1, $2, $3)"
    " ORDER BY f.task_id, f.step_no, f.element LIMIT $4",
    4, {INT8OID, INT4OID, INT4OID, INT8OID}};
constinit pg::Query select_moved{
    "SELECT (u.ord - 1)::integer FROM unnest($1, $2, $3, $4) WITH ORDINALITY AS u(task_id, step_no, element, moves, ord)"
    " WHERE NOT EXISTS (SELECT FROM tasker.workflow_steps s WHERE s.task_id = u.task_id AND s.step_no = u.step_no AND s.element = u.element"
    "  AND s.moves = u.moves AND s.state = 'in_progress')",
    4, {INT8ARRAYOID, INT4ARRAYOID, INT4ARRAYOID, INT4ARRAYOID}};

constinit pg::Query select_locked{
    "SELECT t.task_id FROM tasker.tasks t WHERE t.task_id = ANY ($1) ORDER BY t.task_id FOR NO KEY UPDATE SKIP LOCKED", 1, {INT8ARRAYOID}};
constinit pg::Query select_existing{"SELECT t.task_id FROM tasker.tasks t WHERE t.task_id = ANY ($1)", 1, {INT8ARRAYOID}};

struct TransferArrays {
  KeyArrays keys;
  pg::ArrayBuilder moves{INT4OID};

  explicit TransferArrays(const std::vector<Transfer> &transfers) {
    for (const Transfer &transfer : transfers) {
      keys.add(transfer.key);
      moves.int4(transfer.moves);
    }
  }
  pg::Params params() { return keys.params().datum(moves.datum()); }
};

}  // namespace

void add_transfers(const std::vector<Transfer> &transfers) {
  if (transfers.empty()) return;
  const Datum now = TimestampTzGetDatum(GetCurrentTimestamp());
  pg::TableRows rows;
  pg::Table table(transfers_table, pg::Table::Use::kWrite);
  for (const Transfer &transfer : transfers) {
    // What an attempt before has left there is over.
    for (pg::TableRow left = find_transfer(table, transfer.key); left;)
      if (table.remove(left) != pg::Table::Wrote::kChanged) break;
    rows.add({Int64GetDatum(transfer.key.task_id), Int32GetDatum(transfer.key.step_no), Int32GetDatum(transfer.key.element), Int32GetDatum(transfer.moves), now});
  }
  table.insert(rows);
}

void drop_transfers(const std::vector<StepKey> &keys) {
  if (keys.empty()) return;
  pg::Table table(transfers_table, pg::Table::Use::kWrite);
  for (const StepKey &key : keys)
    for (pg::TableRow row = find_transfer(table, key); row;)
      if (table.remove(row) != pg::Table::Wrote::kChanged) break;
}

bool any_transfers() { return !pg::execute(select_any).rows.empty(); }

std::vector<Transfer> transfer_page(const StepKey &after, int limit) {
  std::vector<Transfer> out;
  const pg::Result found = pg::execute(select_page, pg::Params().int8(after.task_id).int4(after.step_no).int4(after.element).int8(limit));
  for (std::uint64_t i = 0; i < found.rows.size(); i++)
    out.push_back({{found.rows.int8(i, 1), found.rows.int4(i, 2), found.rows.int4(i, 3)}, found.rows.int4(i, 4)});
  return out;
}

std::vector<std::int64_t> lock_tasks(const std::vector<std::int64_t> &task_ids) {
  std::set<std::int64_t> missing(task_ids.begin(), task_ids.end());
  const auto array = [](const std::set<std::int64_t> &ids) {
    pg::ArrayBuilder out(INT8OID);
    for (const std::int64_t id : ids) out.int8(id);
    return out.datum();
  };
  const pg::Result locked = pg::execute(select_locked, pg::Params().datum(array(missing)));
  for (std::uint64_t i = 0; i < locked.rows.size(); i++) missing.erase(locked.rows.int8(i, 1));
  std::vector<std::int64_t> out;
  if (missing.empty()) return out;
  const pg::Result existing = pg::execute(select_existing, pg::Params().datum(array(missing)));
  for (std::uint64_t i = 0; i < existing.rows.size(); i++) out.push_back(existing.rows.int8(i, 1));
  return out;
}

std::vector<std::size_t> moved_transfers(const std::vector<Transfer> &transfers) {
  std::vector<std::size_t> out;
  if (transfers.empty()) return out;
  const pg::Result found = pg::execute(select_moved, TransferArrays(transfers).params());
  for (std::uint64_t i = 0; i < found.rows.size(); i++) out.push_back(static_cast<std::size_t>(found.rows.int4(i, 1)));
  return out;
}

}  // namespace tasker::store
