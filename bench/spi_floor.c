/*
 * The floor of a batch: for each step a handler in a savepoint through SPI, then the rows that tasker writes for a step,
 * row by row through saved plans. No decisions, no failures, no memory of what runs. bench/run compiles this into the
 * folder of its private server; it is no part of the extension. The tables are those of bench/spi_floor.sql.
 */
#include "postgres.h"

#include "access/xact.h"
#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "utils/builtins.h"
#include "utils/jsonb.h"
#include "utils/memutils.h"
#include "utils/resowner.h"
#include "utils/timestamp.h"

PG_MODULE_MAGIC;

PG_FUNCTION_INFO_V1(spi_floor);

typedef struct Statement {
  const char *text;
  int arguments;
  Oid types[3];
  SPIPlanPtr plan;
} Statement;

enum { HANDLER, LOAD, TASK, STEP, STATEMENTS };

static Statement statements[STATEMENTS] = {
    [HANDLER] = {"SELECT floor.nothing($1, $2)", 2, {JSONBOID, JSONBOID}},
    [LOAD] = {"SELECT t.context FROM floor.tasks t JOIN floor.workflow_steps s USING (task_id) WHERE task_id = $1 AND s.step_no = 1 AND s.element = -1", 1, {INT8OID}},
    [TASK] = {"UPDATE floor.tasks SET state = 'complete', moves = 2, sinks_left = 0, live = false, runnable = false, started_at = $2, finished_at = $3, untold = 2"
              " WHERE task_id = $1 AND moves = 0",
              3, {INT8OID, TIMESTAMPTZOID, TIMESTAMPTZOID}},
    [STEP] = {"UPDATE floor.workflow_steps SET state = 'complete', moves = 2, attempts = 1, started_at = $2, finished_at = $3, untold = 2"
              " WHERE task_id = $1 AND step_no = 1 AND element = -1 AND moves = 0",
              3, {INT8OID, TIMESTAMPTZOID, TIMESTAMPTZOID}},
};

static void run(int which, Datum *values, int expected, uint64 rows) {
  Statement *s = &statements[which];
  if (s->plan == NULL) {
    s->plan = SPI_prepare(s->text, s->arguments, s->types);
    if (s->plan == NULL || SPI_keepplan(s->plan) != 0) elog(ERROR, "could not prepare: %s", s->text);
  }
  if (SPI_execute_plan(s->plan, values, NULL, false, 0) != expected || SPI_processed != rows)
    elog(ERROR, "%s: " UINT64_FORMAT " rows", s->text, SPI_processed);
}

/* spi_floor(first bigint, steps integer) RETURNS integer: so many tasks from that id on, each of one step. */
Datum spi_floor(PG_FUNCTION_ARGS) {
  const int64 first = PG_GETARG_INT64(0);
  const int32 steps = PG_GETARG_INT32(1);
  TimestampTz(*times)[2] = palloc(sizeof(TimestampTz) * 2 * steps);
  MemoryContext each = AllocSetContextCreate(CurrentMemoryContext, "spi_floor", ALLOCSET_DEFAULT_SIZES);

  SPI_connect();
  for (int i = 0; i < steps; ++i) {
    MemoryContext before = CurrentMemoryContext;
    ResourceOwner owner = CurrentResourceOwner;
    Datum values[3] = {Int64GetDatum(first + i), (Datum) 0, (Datum) 0};
    Datum context;
    bool null;
    run(LOAD, values, SPI_OK_SELECT, 1);
    MemoryContextSwitchTo(each);
    context = PointerGetDatum(PG_DETOAST_DATUM_COPY(SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1, &null)));
    MemoryContextSwitchTo(before);
    SPI_freetuptable(SPI_tuptable);
    times[i][0] = GetCurrentTimestamp();
    BeginInternalSubTransaction(NULL);
    values[0] = values[1] = context;
    run(HANDLER, values, SPI_OK_SELECT, 1);
    SPI_freetuptable(SPI_tuptable);
    ReleaseCurrentSubTransaction();
    MemoryContextSwitchTo(before);
    CurrentResourceOwner = owner;
    times[i][1] = GetCurrentTimestamp();
    MemoryContextReset(each);
  }
  for (int i = 0; i < steps; ++i) {
    Datum values[3] = {Int64GetDatum(first + i), TimestampTzGetDatum(times[i][0]), TimestampTzGetDatum(times[i][1])};
    run(TASK, values, SPI_OK_UPDATE, 1);
    run(STEP, values, SPI_OK_UPDATE, 1);
  }
  SPI_finish();
  PG_RETURN_INT32(steps);
}
