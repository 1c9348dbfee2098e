#include "store/schedules.hpp"

#include "store/hints.hpp"

namespace tasker::store {

namespace {

#define SCHEDULE_COLUMNS                                                                                                                    \
  "s.schedule_id, s.schedule_name, s.owner::oid, s.created_by::oid, s.cron, s.timezone, s.namespace, s.name, s.overlap,"                    \
  " (extract(epoch FROM s.catch_up) * 1000000)::bigint, (extract(epoch FROM s.jitter) * 1000000)::bigint, s.paused_at IS NOT NULL, s.fires_after"
#define QUEUED "EXISTS (SELECT FROM tasker.schedule_fires f WHERE f.schedule_id = s.schedule_id AND f.open AND f.task_id IS NULL)"

constinit pg::Query select_active{
    "SELECT " SCHEDULE_COLUMNS ", " QUEUED " FROM tasker.schedule_rows s WHERE s.paused_at IS NULL ORDER BY s.schedule_id", 0, {}};
constinit pg::Query lock_by_name{
    "SELECT " SCHEDULE_COLUMNS ", " QUEUED " FROM tasker.schedule_rows s WHERE s.schedule_name = $1 FOR NO KEY UPDATE OF s", 1, {TEXTOID}};
constinit pg::Query lock_by_id{
    "SELECT " SCHEDULE_COLUMNS ", " QUEUED " FROM tasker.schedule_rows s WHERE s.schedule_id = $1 FOR NO KEY UPDATE OF s", 1, {INT8OID}};
constinit pg::Query lock_free{
    "SELECT " SCHEDULE_COLUMNS ", " QUEUED " FROM tasker.schedule_rows s WHERE s.schedule_id = $1 FOR NO KEY UPDATE OF s SKIP LOCKED", 1, {INT8OID}};
constinit pg::Query select_context{"SELECT s.context FROM tasker.schedule_rows s WHERE s.schedule_id = $1", 1, {INT8OID}};

constinit pg::Query insert_row{
    "INSERT INTO tasker.schedule_rows (schedule_name, cron, timezone, namespace, name, overlap, context, catch_up, jitter, owner, created_by, home, fires_after)"
    " VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13) ON CONFLICT DO NOTHING RETURNING schedule_id",
    13, {TEXTOID, TEXTOID, TEXTOID, TEXTOID, TEXTOID, TEXTOID, JSONBOID, INTERVALOID, INTERVALOID, OIDOID, OIDOID, INT8OID, TIMESTAMPTZOID}};
constinit pg::Query update_row{
    "UPDATE tasker.schedule_rows s SET cron = $2, timezone = $3, namespace = $4, name = $5, overlap = $6, context = $7, catch_up = $8, jitter = $9,"
    " fires_after = CASE WHEN (s.cron, s.timezone) = ($2, $3) THEN s.fires_after ELSE greatest(s.fires_after, clock_timestamp()) END, changed_at = clock_timestamp()"
    " WHERE s.schedule_id = $1 AND (s.cron, s.timezone, s.namespace, s.name, s.overlap, s.context, s.catch_up::text, s.jitter::text)"
    " <> ($2, $3, $4, $5, $6, $7, $8::text, $9::text)",
    9, {INT8OID, TEXTOID, TEXTOID, TEXTOID, TEXTOID, TEXTOID, JSONBOID, INTERVALOID, INTERVALOID}};
constinit pg::Query delete_row{"DELETE FROM tasker.schedule_rows s WHERE s.schedule_id = $1", 1, {INT8OID}};
constinit pg::Query pause_row{
    "UPDATE tasker.schedule_rows s SET paused_at = clock_timestamp(), paused_by = $2, pause_reason = $3 WHERE s.schedule_id = $1", 3, {INT8OID, OIDOID, TEXTOID}};
constinit pg::Query resume_row{
    "UPDATE tasker.schedule_rows s SET paused_at = NULL, paused_by = NULL, pause_reason = NULL, fires_after = greatest(s.fires_after, $2)"
    " WHERE s.schedule_id = $1", 2,
    {INT8OID, TIMESTAMPTZOID}};
constinit pg::Query settle_row{
    "UPDATE tasker.schedule_rows s SET fires_after = greatest(s.fires_after, $2), missed_at = coalesce($3, s.missed_at) WHERE s.schedule_id = $1", 3,
    {INT8OID, TIMESTAMPTZOID, TIMESTAMPTZOID}};
constinit pg::Query foreign_row{"SELECT 1 FROM tasker.schedule_rows s WHERE s.home <> $1 LIMIT 1", 1, {INT8OID}};
constinit pg::Query adopt_rows{"UPDATE tasker.schedule_rows s SET home = $1 WHERE s.home <> $1", 1, {INT8OID}};

constinit pg::Query select_open{
    "SELECT f.fire_time, f.task_id, coalesce((SELECT t.live FROM tasker.tasks t WHERE t.task_id = f.task_id), false) FROM tasker.schedule_fires f"
    " WHERE f.schedule_id = $1 AND f.open ORDER BY f.fire_time",
    1, {INT8OID}};
constinit pg::Query close_rows{
    "UPDATE tasker.schedule_fires f SET open = false WHERE f.schedule_id = $1 AND f.fire_time = ANY ($2)", 2, {INT8OID, TIMESTAMPTZARRAYOID}};
constinit pg::Query insert_fire_row{
    "INSERT INTO tasker.schedule_fires (schedule_id, fire_time, outcome, open, ticked_by, message) VALUES ($1, $2, $3, $3 IN ('created', 'queued'), $4, $5)"
    " ON CONFLICT DO NOTHING",
    5, {INT8OID, TIMESTAMPTZOID, TEXTOID, TEXTOID, TEXTOID}};
constinit pg::Query update_fire_task{
    "UPDATE tasker.schedule_fires f SET outcome = 'created', task_id = $3, ticked_by = $4 WHERE f.schedule_id = $1 AND f.fire_time = $2", 4,
    {INT8OID, TIMESTAMPTZOID, INT8OID, TEXTOID}};
constinit pg::Query update_fire_failed{
    "UPDATE tasker.schedule_fires f SET outcome = 'failed', open = false, message = $3 WHERE f.schedule_id = $1 AND f.fire_time = $2", 3,
    {INT8OID, TIMESTAMPTZOID, TEXTOID}};

ScheduleRow read_row(const pg::Rows &r, std::uint64_t i) {
  ScheduleRow row;
  row.schedule_id = r.int8(i, 1);
  row.schedule_name = r.text(i, 2);
  row.owner = r.oid(i, 3);
  row.created_by = r.oid(i, 4);
  row.cron = r.text(i, 5);
  row.timezone = r.text(i, 6);
  row.ns = r.text(i, 7);
  row.name = r.text(i, 8);
  row.overlap = r.text(i, 9);
  row.catch_up = r.int8(i, 10);
  row.jitter = r.int8(i, 11);
  row.paused = r.boolean(i, 12);
  row.fires_after = r.timestamp(i, 13);
  row.queued = r.boolean(i, 14);
  return row;
}

std::optional<ScheduleRow> first_row(const pg::Result &found) {
  if (found.rows.empty()) return std::nullopt;
  return read_row(found.rows, 0);
}

const char *text_of(FireOutcome outcome) {
  switch (outcome) {
    case FireOutcome::kCreated: return "created";
    case FireOutcome::kSkipped: return "skipped";
    case FireOutcome::kQueued: return "queued";
    case FireOutcome::kFailed: return "failed";
  }
  return "";
}

}  // namespace

std::vector<ScheduleRow> active_schedules() {
  const pg::Result found = pg::execute(select_active);
  std::vector<ScheduleRow> out;
  out.reserve(found.rows.size());
  for (std::uint64_t i = 0; i < found.rows.size(); i++) out.push_back(read_row(found.rows, i));
  return out;
}

std::optional<ScheduleRow> lock_schedule(const std::string &name) { return first_row(pg::execute(lock_by_name, pg::Params().text(name))); }

std::optional<ScheduleRow> lock_schedule(std::int64_t schedule_id, bool skip_locked) {
  return first_row(pg::execute(skip_locked ? lock_free : lock_by_id, pg::Params().int8(schedule_id)));
}

Datum schedule_context(std::int64_t schedule_id) {
  const pg::Result found = pg::execute(select_context, pg::Params().int8(schedule_id));
  const Datum value = found.rows.datum(0, 1);
  return pg::call([=] { return PointerGetDatum(DatumGetJsonbP(value)); });
}

std::int64_t insert_schedule(const ScheduleValues &v, Oid owner, Oid created_by, std::int64_t home, TimestampTz fires_after) {
  const pg::Result made = pg::execute(insert_row, pg::Params().text(v.schedule_name).text(v.cron).text(v.timezone).text(v.ns).text(v.name).text(v.overlap)
                                                      .datum(v.context).datum(v.catch_up).datum(v.jitter).oid(owner).oid(created_by).int8(home)
                                                      .timestamp(fires_after));
  return made.rows.empty() ? 0 : made.rows.int8(0, 1);
}

bool update_schedule(std::int64_t schedule_id, const ScheduleValues &v) {
  return pg::execute(update_row, pg::Params().int8(schedule_id).text(v.cron).text(v.timezone).text(v.ns).text(v.name).text(v.overlap)
                                     .datum(v.context).datum(v.catch_up).datum(v.jitter)).processed > 0;
}

void delete_schedule(std::int64_t schedule_id) { pg::execute(delete_row, pg::Params().int8(schedule_id)); }

void pause_schedule(std::int64_t schedule_id, Oid actor, const std::optional<std::string> &reason) {
  pg::execute(pause_row, pg::Params().int8(schedule_id).oid(actor).text_or_null(reason));
}

void resume_schedule(std::int64_t schedule_id, TimestampTz fires_after) { pg::execute(resume_row, pg::Params().int8(schedule_id).timestamp(fires_after)); }

void settle_schedule(std::int64_t schedule_id, TimestampTz fires_after, std::optional<TimestampTz> missed_at) {
  pg::Params params;
  params.int8(schedule_id).timestamp(fires_after);
  if (missed_at) params.timestamp(*missed_at);
  else params.null();
  pg::execute(settle_row, params);
}

bool any_foreign_schedule(std::int64_t home) { return !pg::execute(foreign_row, pg::Params().int8(home)).rows.empty(); }
void adopt_schedules(std::int64_t home) { pg::execute(adopt_rows, pg::Params().int8(home)); }

std::vector<OpenFire> open_fires(std::int64_t schedule_id) {
  const pg::Result found = pg::execute(select_open, pg::Params().int8(schedule_id));
  std::vector<OpenFire> out;
  for (std::uint64_t i = 0; i < found.rows.size(); i++) {
    OpenFire fire;
    fire.fire_time = found.rows.timestamp(i, 1);
    if (!found.rows.is_null(i, 2)) fire.task_id = found.rows.int8(i, 2);
    fire.live = found.rows.boolean(i, 3);
    out.push_back(fire);
  }
  return out;
}

void close_fires(std::int64_t schedule_id, const std::vector<TimestampTz> &fire_times) {
  if (fire_times.empty()) return;
  pg::ArrayBuilder times(TIMESTAMPTZOID);
  for (const TimestampTz at : fire_times) times.timestamp(at);
  pg::execute(close_rows, pg::Params().int8(schedule_id).datum(times.datum()));
}

bool insert_fire(std::int64_t schedule_id, TimestampTz fire_time, FireOutcome outcome, const std::string &ticked_by, const std::optional<std::string> &message) {
  pg::Params params;
  params.int8(schedule_id).timestamp(fire_time).text(text_of(outcome)).text(ticked_by).text_or_null(message);
  return pg::execute(insert_fire_row, params).processed > 0;
}

void set_fire_task(std::int64_t schedule_id, TimestampTz fire_time, std::int64_t task_id, const std::string &ticked_by) {
  pg::execute(update_fire_task, pg::Params().int8(schedule_id).timestamp(fire_time).int8(task_id).text(ticked_by));
}

void fail_fire(std::int64_t schedule_id, TimestampTz fire_time, const std::string &message) {
  pg::execute(update_fire_failed, pg::Params().int8(schedule_id).timestamp(fire_time).text(message));
}

void note_schedules_changed() { add_hint({{0, 0, -1}, 0, 0, 0, InvalidOid, HintKind::kSchedules}); }

}  // namespace tasker::store
