// The payload columns. No role has SELECT on them: the views call these functions, which ask for each task whether
// the caller may see what is in it. NULL when the row does not exist or is not the caller's.
#include "api/visibility.hpp"
#include "pg/args.hpp"
#include "pg/security.hpp"
#include "store/definitions.hpp"
#include "store/settings.hpp"

extern "C" {
#include "access/detoast.h"
}

using namespace tasker;
using api::FoundRow;
using api::RowKey;
using api::Sight;

namespace {

constexpr api::TableShape kTaskMoves{"task_moves", "task_moves_pkey", {"task_id", "sort_key"}};
constexpr api::TableShape kStepMoves{"step_moves", "step_moves_pkey", {"task_id", "step_no", "element", "sort_key"}};

constinit pg::Query select_leaf_results{
    "SELECT s.result, d.name::text FROM tasker.tasks t JOIN tasker.named_steps d ON d.named_task_id = t.named_task_id AND d.children = '{}'"
    " JOIN tasker.workflow_steps s ON s.task_id = t.task_id AND s.step_no = d.step_no AND s.element = -1 WHERE t.task_id = $1 AND NOT t.live",
    1, {INT8OID}};
constinit pg::Query select_annotation{
    "SELECT a.annotation FROM tasker.task_annotations a WHERE a.task_id = $1 AND a.task_annotation_id = $2", 2, {INT8OID, INT8OID}};

Datum nothing(FunctionCallInfo fcinfo) {
  fcinfo->isnull = true;
  return Datum(0);
}

Datum value_or_null(FunctionCallInfo fcinfo, const FoundRow &row) {
  return row.found && !row.null[0] ? row.value[0] : nothing(fcinfo);
}

RowKey step_key(const pg::Args &args) {
  return {.count = 3, .first = args.int8(0, "task_id"), .rest = {args.int4(1, "step_no"), args.int4(2, "element")}};
}

// Where values of the task may show: PostgreSQL's own context, and the one the step gave.
constexpr const char *kErrorContext[] = {"context", "stack"};

// The same error without its contexts: what a monitor sees.
Datum without_context(Datum error) {
  return pg::call([=] {
    Datum rest = error;
    for (const char *key : kErrorContext) rest = DirectFunctionCall2(jsonb_delete, rest, PointerGetDatum(cstring_to_text(key)));
    return rest;
  });
}

// A failed attempt's transition keeps the error under "error".
Datum without_error_context(Datum metadata) {
  return pg::call([=] {
    Datum rest = metadata;
    for (const char *key : kErrorContext) {
      Datum path[2] = {PointerGetDatum(cstring_to_text("error")), PointerGetDatum(cstring_to_text(key))};
      rest = DirectFunctionCall2(jsonb_delete_path, rest, PointerGetDatum(construct_array(path, 2, TEXTOID, -1, false, TYPALIGN_INT)));
    }
    return rest;
  });
}

Datum copy_to(MemoryContext context, Datum jsonb) {
  return pg::call([=] {
    MemoryContext old = MemoryContextSwitchTo(context);
    const Datum copy = PointerGetDatum(PG_DETOAST_DATUM_COPY(jsonb));
    MemoryContextSwitchTo(old);
    return copy;
  });
}

// The size of the results together, without reading those that are stored apart.
std::int64_t total_size(const pg::Rows &rows) {
  std::int64_t size = 0;
  for (std::uint64_t i = 0; i < rows.size(); i++) {
    if (rows.is_null(i, 1)) continue;
    const Datum value = rows.datum(i, 1);
    size += static_cast<std::int64_t>(pg::call([=] { return toast_raw_datum_size(value); }));
  }
  return size;
}

// {name: result, …}; a leaf without a result gives null.
Datum leaf_object(const pg::Rows &rows, MemoryContext context) {
  struct Leaf {
    Datum name, result;
    bool null;
  };
  std::vector<Leaf> leaves;
  for (std::uint64_t i = 0; i < rows.size(); i++) leaves.push_back({rows.datum(i, 2), rows.datum(i, 1), rows.is_null(i, 1)});
  const Leaf *first = leaves.data();
  const std::size_t count = leaves.size();
  return pg::call([=] {
    JsonbParseState *state = nullptr;
    pushJsonbValue(&state, WJB_BEGIN_OBJECT, nullptr);
    for (std::size_t i = 0; i < count; i++) {
      text *name = DatumGetTextPP(first[i].name);
      JsonbValue key, value;
      key.type = jbvString;
      key.val.string.val = VARDATA_ANY(name);
      key.val.string.len = static_cast<int>(VARSIZE_ANY_EXHDR(name));
      pushJsonbValue(&state, WJB_KEY, &key);
      value.type = jbvNull;
      if (!first[i].null) JsonbToJsonbValue(DatumGetJsonbP(first[i].result), &value);
      pushJsonbValue(&state, WJB_VALUE, &value);
    }
    JsonbValue *object = pushJsonbValue(&state, WJB_END_OBJECT, nullptr);
    MemoryContext old = MemoryContextSwitchTo(context);
    const Datum result = JsonbPGetDatum(JsonbValueToJsonb(object));
    MemoryContextSwitchTo(old);
    return result;
  });
}

std::int64_t size_limit() { return static_cast<std::int64_t>(store::settings.max_result_size_kb) * 1024; }

}  // namespace

TASKER_SQL_FUNCTION(tasker_task_context) {
  return pg::entry([&]() -> Datum {
    const pg::Args args(fcinfo);
    const FoundRow row = api::read_row(api::kTasks, {.count = 1, .first = args.int8(0, "task_id")}, {"context", "owner", "created_by"});
    if (!row.found || api::memo_of(fcinfo).sight(DatumGetObjectId(row.value[1]), DatumGetObjectId(row.value[2])) != Sight::kPayload) return nothing(fcinfo);
    return value_or_null(fcinfo, row);
  });
}

TASKER_SQL_FUNCTION(tasker_task_result) {
  return pg::entry([&]() -> Datum {
    const pg::Args args(fcinfo);
    const std::int64_t task_id = args.int8(0, "task_id");
    if (api::memo_of(fcinfo).sight_of(task_id) != Sight::kPayload) return nothing(fcinfo);
    MemoryContext caller = CurrentMemoryContext;
    pg::Spi spi;
    pg::OwnerScope as_owner(store::cached_extension_owner());
    const pg::Result leaves = pg::execute(select_leaf_results, pg::Params().int8(task_id), pg::Access::kRead);
    if (leaves.rows.empty() || total_size(leaves.rows) > size_limit()) return nothing(fcinfo);
    return leaf_object(leaves.rows, caller);
  });
}

TASKER_SQL_FUNCTION(tasker_task_result_problem) {
  return pg::entry([&]() -> Datum {
    const pg::Args args(fcinfo);
    const std::int64_t task_id = args.int8(0, "task_id");
    if (api::memo_of(fcinfo).sight_of(task_id) != Sight::kPayload) return nothing(fcinfo);
    std::int64_t size = 0;
    {
      pg::Spi spi;
      pg::OwnerScope as_owner(store::cached_extension_owner());
      size = total_size(pg::execute(select_leaf_results, pg::Params().int8(task_id), pg::Access::kRead).rows);
    }
    if (size <= size_limit()) return nothing(fcinfo);
    return pg::text_datum("the results together are " + std::to_string(size) + " bytes, over tasker.max_result_size: read them step by step in tasker.step_status");
  });
}

TASKER_SQL_FUNCTION(tasker_step_result) {
  return pg::entry([&]() -> Datum {
    const RowKey key = step_key(pg::Args(fcinfo));
    if (api::memo_of(fcinfo).sight_of(key.first) != Sight::kPayload) return nothing(fcinfo);
    return value_or_null(fcinfo, api::read_row(api::kSteps, key, {"result"}));
  });
}

TASKER_SQL_FUNCTION(tasker_step_error) {
  return pg::entry([&]() -> Datum {
    const RowKey key = step_key(pg::Args(fcinfo));
    const Sight sight = api::memo_of(fcinfo).sight_of(key.first);
    if (sight == Sight::kNothing) return nothing(fcinfo);
    const FoundRow row = api::read_row(api::kSteps, key, {"error"});
    if (!row.found || row.null[0]) return nothing(fcinfo);
    return sight == Sight::kPayload ? row.value[0] : without_context(row.value[0]);
  });
}

TASKER_SQL_FUNCTION(tasker_transition_metadata) {
  return pg::entry([&]() -> Datum {
    const pg::Args args(fcinfo);
    const std::int64_t task_id = args.int8(0, "task_id");
    const Sight sight = api::memo_of(fcinfo).sight_of(task_id);
    if (sight == Sight::kNothing) return nothing(fcinfo);
    const int step_no = args.int4(1, "step_no"), sort_key = args.int4(3, "sort_key");
    const FoundRow row = step_no == 0
        ? api::read_row(kTaskMoves, {.count = 2, .first = task_id, .rest = {sort_key}}, {"metadata"})
        : api::read_row(kStepMoves, {.count = 4, .first = task_id, .rest = {step_no, args.int4(2, "element"), sort_key}}, {"metadata"});
    if (!row.found || row.null[0]) return nothing(fcinfo);
    return sight == Sight::kPayload ? row.value[0] : without_error_context(row.value[0]);
  });
}

TASKER_SQL_FUNCTION(tasker_task_annotation) {
  return pg::entry([&]() -> Datum {
    const pg::Args args(fcinfo);
    const std::int64_t task_id = args.int8(0, "task_id"), annotation_id = args.int8(1, "task_annotation_id");
    if (api::memo_of(fcinfo).sight_of(task_id) != Sight::kPayload) return nothing(fcinfo);
    MemoryContext caller = CurrentMemoryContext;
    pg::Spi spi;
    pg::OwnerScope as_owner(store::cached_extension_owner());
    const pg::Result found = pg::execute(select_annotation, pg::Params().int8(task_id).int8(annotation_id), pg::Access::kRead);
    return found.rows.empty() ? nothing(fcinfo) : copy_to(caller, found.rows.datum(0, 1));
  });
}
