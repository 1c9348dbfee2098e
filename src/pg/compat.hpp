// Every difference between PostgreSQL 15 … 18 that tasker meets, one line each, nowhere else.
#pragma once

// Included by pg.hpp after Postgres's headers.
namespace tasker::pg {

// 15 hides nothing by itself and its PGDLLEXPORT is empty; with -fvisibility=hidden we must say it.
#define TASKER_EXPORT __attribute__((visibility("default")))

// The number by which other processes find this one's PGPROC (and its latch).
#if PG_VERSION_NUM >= 170000
inline int my_proc_number() { return MyProcNumber; }
#else
inline int my_proc_number() { return MyProc->pgprocno; }
#endif
inline Latch *proc_latch(int number) { return &ProcGlobal->allProcs[number].procLatch; }

#if PG_VERSION_NUM >= 170000
inline std::uint32_t wait_event(std::uint32_t *cache, const char *name) {
  if (*cache == 0) *cache = WaitEventExtensionNew(name);
  return *cache;
}
#else
inline std::uint32_t wait_event(std::uint32_t *, const char *) { return PG_WAIT_EXTENSION; }
#endif

// From 17 on a worker may log in as a role without LOGIN.
#if PG_VERSION_NUM >= 170000
inline constexpr bool kWorkersNeedLogin = false;
inline constexpr std::uint32_t kBypassRoleLoginCheck = BGWORKER_BYPASS_ROLELOGINCHECK;
#else
inline constexpr bool kWorkersNeedLogin = true;
inline constexpr std::uint32_t kBypassRoleLoginCheck = 0;
#endif

// From 17 on a set belongs to a resource owner, or with none to nobody; it is made in TopMemoryContext.
#if PG_VERSION_NUM >= 170000
inline WaitEventSet *create_wait_set(MemoryContext, int count) { return CreateWaitEventSet(nullptr, count); }
#else
inline WaitEventSet *create_wait_set(MemoryContext context, int count) { return CreateWaitEventSet(context, count); }
#endif

inline constexpr bool kHasTransactionTimeout = PG_VERSION_NUM >= 170000;

#if PG_VERSION_NUM >= 160000
inline bool database_allows_connect(Oid database, Oid role) { return object_aclcheck(DatabaseRelationId, database, role, ACL_CONNECT) == ACLCHECK_OK; }
inline bool function_allows_execute(Oid function, Oid role) { return object_aclcheck(ProcedureRelationId, function, role, ACL_EXECUTE) == ACLCHECK_OK; }
inline bool schema_allows_usage(Oid schema, Oid role) { return object_aclcheck(NamespaceRelationId, schema, role, ACL_USAGE) == ACLCHECK_OK; }
inline bool server_allows_usage(Oid server, Oid role) { return object_aclcheck(ForeignServerRelationId, server, role, ACL_USAGE) == ACLCHECK_OK; }
#else
inline bool database_allows_connect(Oid database, Oid role) { return pg_database_aclcheck(database, role, ACL_CONNECT) == ACLCHECK_OK; }
inline bool function_allows_execute(Oid function, Oid role) { return pg_proc_aclcheck(function, role, ACL_EXECUTE) == ACLCHECK_OK; }
inline bool schema_allows_usage(Oid schema, Oid role) { return pg_namespace_aclcheck(schema, role, ACL_USAGE) == ACLCHECK_OK; }
inline bool server_allows_usage(Oid server, Oid role) { return pg_foreign_server_aclcheck(server, role, ACL_USAGE) == ACLCHECK_OK; }
#endif

// Index scans, and what an update says of the indexes it concerns.
#if PG_VERSION_NUM >= 180000
inline IndexScanDesc begin_index_scan(Relation table, Relation index, Snapshot snapshot, int keys) { return index_beginscan(table, index, snapshot, nullptr, keys, 0); }
#else
inline IndexScanDesc begin_index_scan(Relation table, Relation index, Snapshot snapshot, int keys) { return index_beginscan(table, index, snapshot, keys, 0); }
#endif
#if PG_VERSION_NUM >= 160000
using UpdatedIndexes = TU_UpdateIndexes;
inline void insert_index_tuples(ResultRelInfo *result, TupleTableSlot *slot, EState *state) { ExecInsertIndexTuples(result, slot, state, false, false, nullptr, NIL, false); }
inline void insert_index_tuples(ResultRelInfo *result, TupleTableSlot *slot, EState *state, UpdatedIndexes which) {
  ExecInsertIndexTuples(result, slot, state, true, false, nullptr, NIL, which == TU_Summarizing);
}
inline void init_plan_qual(EPQState *newest, EState *state) { EvalPlanQualInit(newest, state, nullptr, NIL, -1, NIL); }
#else
using UpdatedIndexes = bool;
inline void insert_index_tuples(ResultRelInfo *result, TupleTableSlot *slot, EState *state) { ExecInsertIndexTuples(result, slot, state, false, false, nullptr, NIL); }
inline void insert_index_tuples(ResultRelInfo *result, TupleTableSlot *slot, EState *state, UpdatedIndexes) { ExecInsertIndexTuples(result, slot, state, true, false, nullptr, NIL); }
inline void init_plan_qual(EPQState *newest, EState *state) { EvalPlanQualInit(newest, state, nullptr, NIL, -1); }
#endif

}  // namespace tasker::pg
