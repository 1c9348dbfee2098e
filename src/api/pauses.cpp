// pause_tasks, resume_tasks: arguments in, engine/pauses.hpp does it; and what the views ask.
#include "engine/pauses.hpp"

#include <algorithm>

#include "api/visibility.hpp"
#include "pg/args.hpp"
#include "pg/security.hpp"
#include "store/definitions.hpp"
#include "store/pauses.hpp"

using namespace tasker;

namespace {

// What is paused as the running statement sees it, kept from row to row.
struct PausedMemo {
  MemoryContext memory;
  api::SnapshotKey snapshot;
  bool fresh, everything;
  int count;
  int *named_tasks;  // ascending
};

// Mostly there is none, and the index of open orders is empty: read below SQL, in a few microseconds.
bool any_open_order() {
  return pg::call([] {
    const Oid schema = get_namespace_oid("tasker", false);
    Relation table = table_open(get_relname_relid("scope_pauses", schema), AccessShareLock);
    SysScanDesc scan = systable_beginscan(table, get_relname_relid("scope_pauses_open", schema), true, GetActiveSnapshot(), 0, nullptr);
    const bool found = HeapTupleIsValid(systable_getnext(scan));
    systable_endscan(scan);
    table_close(table, AccessShareLock);
    return found;
  });
}

void fill(PausedMemo &memo) {
  memo.fresh = true;
  memo.snapshot = api::current_snapshot();
  memo.everything = false;
  memo.count = 0;
  if (!any_open_order()) return;
  pg::Spi spi;
  pg::OwnerScope as_owner(store::cached_extension_owner());
  const store::Paused paused = store::read_paused(pg::Access::kRead);
  memo.everything = paused.everything;
  MemoryContextReset(memo.memory);
  MemoryContext memory = memo.memory;
  const std::size_t bytes = sizeof(int) * (paused.named_tasks.size() + 1);
  memo.named_tasks = static_cast<int *>(pg::call([=] { return MemoryContextAllocHuge(memory, bytes); }));
  std::copy(paused.named_tasks.begin(), paused.named_tasks.end(), memo.named_tasks);
  memo.count = static_cast<int>(paused.named_tasks.size());
}

PausedMemo &memo_of(FunctionCallInfo fcinfo) {
  FmgrInfo *function = fcinfo->flinfo;
  if (function->fn_extra == nullptr) {
    function->fn_extra = pg::call([=] {
      auto *memo = static_cast<PausedMemo *>(MemoryContextAllocZero(function->fn_mcxt, sizeof(PausedMemo)));
      memo->memory = AllocSetContextCreate(function->fn_mcxt, "tasker paused memo", ALLOCSET_SMALL_SIZES);
      return memo;
    });
  }
  return *static_cast<PausedMemo *>(function->fn_extra);
}

}  // namespace

TASKER_SQL_FUNCTION(tasker_pause_scope) {
  return pg::entry([&]() -> Datum {
    const pg::Args args(fcinfo);
    return BoolGetDatum(engine::pause_scope(args.text_or_null(0), args.text_or_null(1), args.text_or_null(2)));
  });
}

TASKER_SQL_FUNCTION(tasker_resume_scope) {
  return pg::entry([&]() -> Datum {
    const pg::Args args(fcinfo);
    return BoolGetDatum(engine::resume_scope(args.text_or_null(0), args.text_or_null(1), args.text_or_null(2)));
  });
}

TASKER_SQL_FUNCTION(tasker_scope_paused) {
  return pg::entry([&]() -> Datum {
    const int named_task_id = pg::Args(fcinfo).int4(0, "named_task_id");
    PausedMemo &memo = memo_of(fcinfo);
    if (!memo.fresh || !(memo.snapshot == api::current_snapshot())) fill(memo);
    return BoolGetDatum(memo.everything || std::binary_search(memo.named_tasks, memo.named_tasks + memo.count, named_task_id));
  });
}
