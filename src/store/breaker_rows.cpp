#include "store/breaker_rows.hpp"

#include "core/json.hpp"
#include "pg/security.hpp"
#include "store/moves.hpp"

namespace tasker::store {

namespace {

using core::BreakerCause;
using core::BreakerState;

static_assert(core::kUntilReset == DT_NOEND, "open for good is infinity in a row");

#define BREAKER_COLUMNS                                                                                                            \
  "b.dependent_system_id, b.state, b.by_hand, b.failures, b.opens, b.last_failure_at, b.opened_at, b.open_until, b.moves,"        \
  " b.failure_threshold, (extract(epoch FROM b.failure_window) * 1000000)::bigint, (extract(epoch FROM b.open_time) * 1000000)::bigint," \
  " (extract(epoch FROM b.max_open_time) * 1000000)::bigint"

constinit pg::Query select_all{"SELECT " BREAKER_COLUMNS " FROM tasker.breakers b ORDER BY b.dependent_system_id", 0, {}};
constinit pg::Query select_one{"SELECT " BREAKER_COLUMNS " FROM tasker.breakers b WHERE b.dependent_system_id = $1", 1, {INT4OID}};
constinit pg::Query select_by_name{
    "SELECT " BREAKER_COLUMNS " FROM tasker.breakers b WHERE b.dependent_system_id = (SELECT d.dependent_system_id FROM tasker.dependent_systems d WHERE d.name = $1)"
    " FOR NO KEY UPDATE",
    1, {TEXTOID}};
constinit pg::Query select_troubled{
    "SELECT " BREAKER_COLUMNS " FROM tasker.breakers b WHERE b.dependent_system_id = ANY ($1) AND b.state <> 'closed'", 1, {INT4ARRAYOID}};
constinit pg::Query lock_moves{
    "SELECT b.moves FROM tasker.breakers b WHERE b.dependent_system_id = $1 FOR NO KEY UPDATE SKIP LOCKED", 1, {INT4OID}};
constinit pg::Query update_state{
    "UPDATE tasker.breakers b SET state = $2, moves = $3, by_hand = $4, failures = $5, opens = $6, last_failure_at = $7, opened_at = $8, open_until = $9,"
    " reason = $10, actor = $11, changed_at = $12 WHERE b.dependent_system_id = $1",
    12, {INT4OID, TEXTOID, INT4OID, BOOLOID, INT4OID, INT4OID, TIMESTAMPTZOID, TIMESTAMPTZOID, TIMESTAMPTZOID, TEXTOID, TEXTOID, TIMESTAMPTZOID}};
constinit pg::Query insert_transition{
    "INSERT INTO tasker.breaker_transitions (dependent_system_id, sort_key, from_state, to_state, metadata, created_at) VALUES ($1, $2, $3, $4, $5::jsonb, $6)", 6,
    {INT4OID, INT4OID, TEXTOID, TEXTOID, TEXTOID, TIMESTAMPTZOID}};
constinit pg::Query update_settings{
    "UPDATE tasker.breakers b SET failure_threshold = $2, failure_window = make_interval(secs => $3 / 1000000.0), open_time = make_interval(secs => $4 / 1000000.0),"
    " max_open_time = make_interval(secs => $5 / 1000000.0) WHERE b.dependent_system_id = $1",
    5, {INT4OID, INT4OID, INT8OID, INT8OID, INT8OID}};
// A noop touches no system.
constinit pg::Query select_systems{
    "SELECT s.step_no, s.dependent_system_id FROM tasker.named_steps s WHERE s.named_task_id = $1 AND s.dependent_system_id IS NOT NULL AND s.handler_type <> 'noop'", 1,
    {INT4OID}};

BreakerRow read_row(const pg::Rows &r, std::uint64_t i) {
  BreakerRow row;
  row.system = r.int4(i, 1);
  core::Breaker &breaker = row.breaker;
  breaker.state = core::parse_breaker_state(r.text(i, 2)).value();
  breaker.by_hand = r.boolean(i, 3);
  breaker.failures = r.int4(i, 4);
  breaker.opens = r.int4(i, 5);
  breaker.last_failure_at = r.timestamp_or_null(i, 6).value_or(0);
  breaker.opened_at = r.timestamp_or_null(i, 7).value_or(0);
  breaker.open_until = r.timestamp_or_null(i, 8).value_or(0);
  row.moves = r.int4(i, 9);
  if (!r.is_null(i, 10)) row.overrides.failure_threshold = r.int4(i, 10);
  if (!r.is_null(i, 11)) row.overrides.window = r.int8(i, 11);
  if (!r.is_null(i, 12)) row.overrides.open_time = r.int8(i, 12);
  if (!r.is_null(i, 13)) row.overrides.max_open_time = r.int8(i, 13);
  return row;
}

std::vector<BreakerRow> read_rows(const pg::Rows &r) {
  std::vector<BreakerRow> out;
  out.reserve(r.size());
  for (std::uint64_t i = 0; i < r.size(); i++) out.push_back(read_row(r, i));
  return out;
}

std::optional<BreakerRow> first_row(const pg::Rows &r) { return r.empty() ? std::nullopt : std::optional(read_row(r, 0)); }

pg::Params &timestamp_unless_zero(pg::Params &params, TimestampTz at) { return at == 0 ? params.null() : params.timestamp(at); }

struct Word {
  std::optional<std::string> reason, actor;
  TimestampTz at;
};

void write_state(int system, const core::Breaker &breaker, int moves, const Word &word) {
  pg::Params params;
  params.int4(system).text(core::to_string(breaker.state)).int4(moves).boolean(breaker.by_hand).int4(breaker.failures).int4(breaker.opens);
  timestamp_unless_zero(params, breaker.last_failure_at);
  timestamp_unless_zero(params, breaker.opened_at);
  timestamp_unless_zero(params, breaker.state == BreakerState::kOpen ? breaker.open_until : 0);
  pg::execute(update_state, params.text_or_null(word.reason).text_or_null(word.actor).timestamp(word.at));
}

void add_transition(int system, int move, BreakerState from, BreakerState to, const std::string &metadata, TimestampTz at) {
  pg::execute(insert_transition, pg::Params().int4(system).int4(move).text(core::to_string(from)).text(core::to_string(to)).text(metadata).timestamp(at));
}

std::string told(const BreakerMove &move) {
  switch (move.cause) {
    case BreakerCause::kFailures: return std::to_string(move.failures) + (move.failures == 1 ? " failure" : " failures in a row");
    case BreakerCause::kProbeFailed: return "the probe failed";
    case BreakerCause::kTimeOver: return "the open time is over";
    case BreakerCause::kProbeSucceeded: return "the probe succeeded";
    case BreakerCause::kSwitchedOff: return "its failure threshold is 0";
    default: return core::to_string(move.cause);
  }
}

}  // namespace

std::vector<BreakerRow> load_breakers() { return read_rows(pg::execute(select_all).rows); }

std::optional<BreakerRow> load_breaker(int system) { return first_row(pg::execute(select_one, pg::Params().int4(system)).rows); }

std::optional<BreakerRow> lock_breaker(const std::string &system_name) {
  return first_row(pg::execute(select_by_name, pg::Params().text(system_name)).rows);
}

std::vector<BreakerRow> troubled_breakers(const std::vector<int> &systems) {
  if (systems.empty()) return {};
  pg::ArrayBuilder ids(INT4OID);
  for (const int system : systems) ids.int4(system);
  return read_rows(pg::execute(select_troubled, pg::Params().datum(ids.datum()), pg::Access::kRead).rows);
}

void write_breaker(const BreakerRow &row, BreakerState from, BreakerCause cause, const std::optional<std::string> &reason) {
  const TimestampTz now = GetCurrentTimestamp();
  write_state(row.system, row.breaker, row.moves + 1, {reason, pg::role_name(GetSessionUserId()), now});
  add_transition(row.system, row.moves + 1, from, row.breaker.state, actor_metadata(reason, {{"cause", core::to_string(cause)}}), now);
}

bool write_overrides(const BreakerRow &row, const BreakerOverrides &o) {
  if (o == row.overrides) return false;
  pg::Params params;
  params.int4(row.system);
  if (o.failure_threshold < 0) params.null();
  else params.int4(o.failure_threshold);
  for (const std::int64_t microseconds : {o.window, o.open_time, o.max_open_time}) {
    if (microseconds < 0) params.null();
    else params.int8(microseconds);
  }
  pg::execute(update_settings, params);
  return true;
}

Saved save_breaker(const UnsavedBreaker &unsaved) {
  const pg::Result locked = pg::execute(lock_moves, pg::Params().int4(unsaved.system));
  if (locked.rows.empty()) return Saved::kLocked;
  if (locked.rows.int4(0, 1) != unsaved.row_moves) return Saved::kNewerRow;
  int move = unsaved.row_moves;
  for (const BreakerMove &m : unsaved.moves) {
    core::json metadata = {{"cause", core::to_string(m.cause)}, {"reason", told(m)}};
    if (m.cause == BreakerCause::kFailures) metadata["failures"] = m.failures;
    add_transition(unsaved.system, ++move, m.from, m.to, metadata.dump(), m.at);
  }
  const BreakerMove &last = unsaved.moves.back();
  write_state(unsaved.system, unsaved.breaker, move, {told(last), std::nullopt, last.at});
  return Saved::kSaved;
}

std::unordered_map<int, int> systems_of(int named_task_id) {
  const pg::Result found = pg::execute(select_systems, pg::Params().int4(named_task_id));
  std::unordered_map<int, int> out;
  for (std::uint64_t i = 0; i < found.rows.size(); i++) out.emplace(found.rows.int4(i, 1), found.rows.int4(i, 2));
  return out;
}

}  // namespace tasker::store
