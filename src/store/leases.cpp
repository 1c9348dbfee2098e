#include "store/leases.hpp"

#include <cstring>

#include "pg/spi.hpp"
#include "store/shapes.hpp"

namespace tasker::store {

namespace {

using namespace lease_column;

constinit pg::Query update_lease{
    "UPDATE tasker.leases l SET lease_until = greatest(l.lease_until, $5) WHERE l.task_id = $1 AND l.step_no = $2 AND l.element = $3 AND l.claim_token = $4"
    " AND l.lease_until > clock_timestamp() AND EXISTS (SELECT FROM tasker.workflow_steps s WHERE s.task_id = $1 AND s.step_no = $2 AND s.element = $3 AND s.moves = l.moves)"
    " RETURNING l.lease_until",
    5, {INT8OID, INT4OID, INT4OID, UUIDOID, TIMESTAMPTZOID}};
constinit pg::Query delete_lease{"DELETE FROM tasker.leases l WHERE l.task_id = $1 AND l.step_no = $2 AND l.element = $3", 3, {INT8OID, INT4OID, INT4OID}};
constinit pg::Query delete_expired_lease{
    "DELETE FROM tasker.leases l WHERE l.task_id = $1 AND l.step_no = $2 AND l.element = $3 AND l.lease_until <= clock_timestamp()", 3, {INT8OID, INT4OID, INT4OID}};
constinit pg::Query select_lease{"SELECT 1 FROM tasker.leases l WHERE l.task_id = $1 AND l.step_no = $2 AND l.element = $3", 3, {INT8OID, INT4OID, INT4OID}};
constinit pg::Query select_overdue{
    "SELECT l.task_id, l.step_no, l.element FROM tasker.leases l WHERE l.queue = $1 AND (l.lease_until <= clock_timestamp()"
    " OR EXISTS (SELECT FROM tasker.timers m WHERE m.task_id = l.task_id AND m.step_no = l.step_no AND m.element = l.element AND m.kind = 'timeout' AND m.due_at <= clock_timestamp()))"
    " ORDER BY l.task_id, l.step_no, l.element LIMIT $2 FOR UPDATE SKIP LOCKED",
    2, {TEXTOID, INT8OID}};
constinit pg::Query select_lease_facts{
    "SELECT (SELECT l.lease_until FROM tasker.leases l WHERE l.task_id = $1 AND l.step_no = $2 AND l.element = $3 AND l.claim_token = $4),"
    " EXISTS (SELECT FROM tasker.leases l WHERE l.task_id = $1 AND l.step_no = $2 AND l.element = $3 AND l.claim_token <> $4),"
    " s.state::text, coalesce((SELECT x.to_state::text FROM tasker.step_moves x WHERE x.task_id = $1 AND x.step_no = $2 AND x.element = $3"
    "   AND x.from_state = 'in_progress' AND x.metadata ->> 'claim_token' = $4::text ORDER BY x.sort_key DESC LIMIT 1), '')"
    " FROM tasker.workflow_steps s WHERE s.task_id = $1 AND s.step_no = $2 AND s.element = $3",
    4, {INT8OID, INT4OID, INT4OID, UUIDOID}};

pg::Params key_params(const StepKey &key) { return pg::Params().int8(key.task_id).int4(key.step_no).int4(key.element); }

bool same_uuid(Datum a, Datum b) { return std::memcmp(DatumGetPointer(a), DatumGetPointer(b), UUID_LEN) == 0; }

Datum new_token() {
  return pg::call([] { return OidFunctionCall0(F_GEN_RANDOM_UUID); });
}

}  // namespace

std::vector<Datum> insert_leases(const std::vector<NewLease> &leases, const LeaseTerms &terms) {
  std::vector<Datum> tokens;
  pg::TableRows rows;
  if (leases.empty()) return tokens;
  const Datum queue = pg::text_datum(terms.queue), worker = pg::text_datum(terms.worker);
  // The steps have been moved in this transaction, and their rows are locked: nobody else leases them.
  pg::Table table(leases_table, pg::Table::Use::kWrite);
  for (const NewLease &lease : leases) {
    const Datum token = new_token();
    tokens.push_back(token);
    const std::initializer_list<Datum> row = {Int64GetDatum(lease.key.task_id), Int32GetDatum(lease.key.step_no), Int32GetDatum(lease.key.element), queue,
                                              Int32GetDatum(lease.moves), token, worker, ObjectIdGetDatum(terms.claimed_by), TimestampTzGetDatum(terms.claimed_at), TimestampTzGetDatum(terms.until)};
    pg::TableRow there = find_lease(table, lease.key);
    if (!there) {
      rows.add(row);
      continue;
    }
    pg::RowChange change;
    for (int column = kQueue; column < kCount; column++) change.set(column, row.begin()[column]);
    auto wrote = pg::Table::Wrote::kChanged;
    while (wrote == pg::Table::Wrote::kChanged) wrote = table.update(there, change);
    if (wrote == pg::Table::Wrote::kGone) rows.add(row);
  }
  table.insert(rows);
  return tokens;
}

std::vector<HeldLease> take_leases(const std::vector<LeaseToken> &tokens) {
  std::vector<HeldLease> out;
  pg::Table table(leases_table, pg::Table::Use::kWrite);
  for (const LeaseToken &each : tokens) {
    pg::TableRow row = find_lease(table, each.key);
    auto wrote = pg::Table::Wrote::kChanged;
    while (row && wrote == pg::Table::Wrote::kChanged && same_uuid(row.values[kToken], each.token) &&
           DatumGetTimestampTz(row.values[kLeaseUntil]) > GetCurrentTimestamp())
      wrote = table.remove(row);
    if (wrote == pg::Table::Wrote::kDone)
      out.push_back({each.key, pg::to_string(row.values[kQueue]), pg::to_string(row.values[kWorker]), DatumGetInt32(row.values[kMoves])});
  }
  return out;
}

std::optional<TimestampTz> extend_lease(const LeaseToken &token, TimestampTz until) {
  const pg::Result extended = pg::execute(update_lease, key_params(token.key).datum(token.token).timestamp(until));
  if (extended.rows.empty()) return std::nullopt;
  return extended.rows.timestamp(0, 1);
}

void drop_lease(const StepKey &key) { pg::execute(delete_lease, key_params(key)); }

// A row that was extended while this waited for it no longer meets the condition.
bool drop_expired_lease(const StepKey &key) {
  return pg::execute(delete_expired_lease, key_params(key)).processed > 0 || pg::execute(select_lease, key_params(key)).rows.empty();
}

std::vector<StepKey> overdue_leases(const std::string &queue, int limit) {
  const pg::Result found = pg::execute(select_overdue, pg::Params().text(queue).int8(limit));
  std::vector<StepKey> out;
  for (std::uint64_t i = 0; i < found.rows.size(); i++) out.push_back({found.rows.int8(i, 1), found.rows.int4(i, 2), found.rows.int4(i, 3)});
  return out;
}

LeaseFacts lease_facts(const LeaseToken &token) {
  const pg::Result found = pg::execute(select_lease_facts, key_params(token.key).datum(token.token));
  LeaseFacts facts;
  if (found.rows.empty()) return facts;
  facts.until = found.rows.timestamp_or_null(0, 1);
  facts.other = found.rows.boolean(0, 2);
  facts.state = found.rows.text(0, 3);
  facts.ended_as = found.rows.text(0, 4);
  return facts;
}

}  // namespace tasker::store
