#include "worker/utility_hook.hpp"

#include <signal.h>

#include <cstring>

#include "engine/batch.hpp"
#include "engine/control.hpp"
#include "pg/bridge.hpp"
#include "pg/security.hpp"
#include "store/breakers.hpp"
#include "store/cache.hpp"
#include "store/hints.hpp"
#include "store/limit_figures.hpp"

namespace tasker::worker {

namespace {

using store::DatabaseState;

constinit ProcessUtility_hook_type previous = nullptr;
constinit Oid stopped_database = InvalidOid;  // by this transaction: told how it ended
constinit Oid created_database = InvalidOid;  // by this transaction

bool owns_database(Oid database) {
  struct Row {
    Oid owner;
    bool found;
  };
  const Row row = pg::call([=] {
    HeapTuple tuple = SearchSysCache1(DATABASEOID, ObjectIdGetDatum(database));
    Row out{InvalidOid, HeapTupleIsValid(tuple)};
    if (out.found) {
      out.owner = reinterpret_cast<Form_pg_database>(GETSTRUCT(tuple))->datdba;
      ReleaseSysCache(tuple);
    }
    return out;
  });
  return row.found && pg::has_privileges_of(GetUserId(), row.owner);
}

Oid database_by_name(const char *name) {
  return name == nullptr ? InvalidOid : pg::call([=] { return get_database_oid(name, true); });
}

bool names_tasker(List *names) {
  ListCell *cell;
  foreach (cell, names)
    if (strcmp(strVal(lfirst(cell)), "tasker") == 0) return true;
  return false;
}

bool may_change_extension() {
  const Oid extension = pg::extension_oid();
  return OidIsValid(extension) && pg::has_privileges_of(GetUserId(), pg::extension_owner());
}

// The database whose workers must leave before this command, or InvalidOid.
Oid database_to_stop(Node *statement) {
  switch (nodeTag(statement)) {
    case T_DropdbStmt: {
      const Oid database = database_by_name(castNode(DropdbStmt, statement)->dbname);
      return OidIsValid(database) && owns_database(database) ? database : InvalidOid;
    }
    case T_RenameStmt: {
      auto *rename = castNode(RenameStmt, statement);
      if (rename->renameType != OBJECT_DATABASE) return InvalidOid;
      const Oid database = database_by_name(rename->subname);
      return OidIsValid(database) && owns_database(database) ? database : InvalidOid;
    }
    case T_AlterDatabaseStmt: {
      auto *alter = castNode(AlterDatabaseStmt, statement);
      ListCell *cell;
      bool moves = false;
      foreach (cell, alter->options) moves = moves || strcmp(lfirst_node(DefElem, cell)->defname, "tablespace") == 0;
      const Oid database = moves ? database_by_name(alter->dbname) : InvalidOid;
      return OidIsValid(database) && owns_database(database) ? database : InvalidOid;
    }
    case T_CreatedbStmt: {
      ListCell *cell;
      foreach (cell, castNode(CreatedbStmt, statement)->options) {
        auto *option = lfirst_node(DefElem, cell);
        if (strcmp(option->defname, "template") != 0 || option->arg == nullptr) continue;
        const Oid database = database_by_name(strVal(option->arg));
        return OidIsValid(database) && owns_database(database) ? database : InvalidOid;
      }
      return InvalidOid;
    }
    case T_DropStmt: {
      auto *drop = castNode(DropStmt, statement);
      const bool extension = drop->removeType == OBJECT_EXTENSION && names_tasker(drop->objects);
      const bool schema = drop->removeType == OBJECT_SCHEMA && names_tasker(drop->objects);
      return (extension || schema) && may_change_extension() ? MyDatabaseId : InvalidOid;
    }
    case T_AlterExtensionStmt:
      return strcmp(castNode(AlterExtensionStmt, statement)->extname, "tasker") == 0 && may_change_extension() ? MyDatabaseId : InvalidOid;
    case T_DropOwnedStmt:
      return may_change_extension() ? MyDatabaseId : InvalidOid;
    default:
      return InvalidOid;
  }
}

void signal_executors(Oid database, int signal) {
  for (int i = 0; i < store::shared->executor_count; i++) {
    store::ExecutorSlot &slot = store::executor_slot(i);
    int pid = 0, proc = -1;
    {
      const store::SpinGuard guard(slot);
      if (slot.database != database || slot.state == store::ExecutorState::kFree || slot.state == store::ExecutorState::kExited) continue;
      slot.stop = true;
      slot.terminated = slot.terminated || signal == SIGTERM;
      pid = slot.pid;
      proc = slot.proc;
    }
    if (signal != 0 && pid != 0) kill(pid, signal);
    store::wake(proc);
  }
}

bool any_worker(Oid database, store::DatabaseSlot &slot) {
  if (slot.starting || slot.dispatcher_pid != 0 || store::look_at_courier(slot.courier).state != store::CourierState::kNone) return true;
  for (int i = 0; i < store::shared->executor_count; i++) {
    const store::ExecutorSlot &executor = store::executor_slot(i);
    if (executor.database == database && (executor.state == store::ExecutorState::kStarting || executor.state == store::ExecutorState::kRunning)) return true;
  }
  return false;
}

// Asks them to leave; running handlers are terminated after half a second. At most four seconds: Postgres itself waits five.
void stop_workers(Oid database) {
  if (store::shared == nullptr) return;
  int index;
  {
    const store::LockGuard guard(store::shared->registry, LW_EXCLUSIVE);
    index = store::find_database(database, false);
    if (index < 0) return;
    store::DatabaseSlot &slot = store::database_slot(index);
    slot.stop = true;
    slot.state = DatabaseState::kStopping;
    slot.stopping_until = GetCurrentTimestamp() + 60 * USECS_PER_SEC;
  }
  stopped_database = database;
  store::DatabaseSlot &slot = store::database_slot(index);
  const TimestampTz begun = GetCurrentTimestamp();
  bool terminated = false;
  signal_executors(database, 0);
  store::stop_courier(slot.courier);
  store::wake(slot.dispatcher_proc);
  while (any_worker(database, slot) && GetCurrentTimestamp() - begun < 4 * USECS_PER_SEC) {
    if (!terminated && GetCurrentTimestamp() - begun > USECS_PER_SEC / 2) {
      terminated = true;
      signal_executors(database, SIGTERM);
      if (slot.dispatcher_pid != 0) kill(slot.dispatcher_pid, SIGTERM);
      if (const int courier = store::look_at_courier(slot.courier).pid; courier != 0) kill(courier, SIGTERM);
    }
    pg::call([] {
      (void)WaitLatch(MyLatch, WL_TIMEOUT | WL_LATCH_SET | WL_EXIT_ON_PM_DEATH, 20, PG_WAIT_EXTENSION);
      ResetLatch(MyLatch);
      CHECK_FOR_INTERRUPTS();
    });
  }
  // Slots of executors that have left, with no dispatcher to collect them.
  for (int i = 0; i < store::shared->executor_count; i++) {
    store::ExecutorSlot &executor = store::executor_slot(i);
    const store::SpinGuard guard(executor);
    if (executor.database == database && executor.state == store::ExecutorState::kExited) executor.state = store::ExecutorState::kFree;
  }
}

// Committed or not, the launcher looks again: a database that is gone, or has lost the extension, frees its slot.
void let_go() noexcept {
  if (!OidIsValid(stopped_database) || store::shared == nullptr) return;
  LWLockAcquire(store::shared->registry, LW_EXCLUSIVE);
  const int index = store::find_database(stopped_database, false);
  if (index >= 0) {
    store::DatabaseSlot &slot = store::database_slot(index);
    slot.stop = false;
    slot.state = slot.forgotten ? DatabaseState::kFree : DatabaseState::kUnknown;
    slot.forgotten = false;
    slot.retry_at = 0;
  }
  LWLockRelease(store::shared->registry);
  stopped_database = InvalidOid;
  store::wake_launcher();
}

// A copy of a database with tasker has it too: the launcher looks at every new database once.
void look_at_created() noexcept {
  if (!OidIsValid(created_database) || store::shared == nullptr) return;
  LWLockAcquire(store::shared->registry, LW_EXCLUSIVE);
  (void)store::find_database(created_database, true);
  LWLockRelease(store::shared->registry);
  store::wake_launcher();
}

extern "C" void at_end(XactEvent event, void *) {
  if (event != XACT_EVENT_COMMIT && event != XACT_EVENT_ABORT && event != XACT_EVENT_PREPARE) return;
  if (event == XACT_EVENT_COMMIT) look_at_created();
  created_database = InvalidOid;
  let_go();
}

void forget_slot(Oid database) {
  if (store::shared == nullptr) return;
  store::forget_breakers(database);
  store::forget_limit_figures(database);
  store::forget_cache(database);
  const store::LockGuard guard(store::shared->registry, LW_EXCLUSIVE);
  const int index = store::find_database(database, false);
  if (index >= 0) store::database_slot(index).forgotten = true;
}

void before(Node *statement) {
  if (IsA(statement, ConstraintsSetStmt)) engine::note_set_constraints();
  if (IsA(statement, ListenStmt) && engine::running_task() != 0)
    throw tasker::Error(sqlstate::kFeatureNotSupported, "a step cannot LISTEN", {}, "Nobody would read what arrives: the session belongs to many steps.");
  if (IsA(statement, TransactionStmt) && castNode(TransactionStmt, statement)->kind == TRANS_STMT_COMMIT_PREPARED) {
    store::request_sweep();
    store::note_pauses_changed();
  }
  if (store::shared == nullptr || RecoveryInProgress() || !IsTransactionState()) return;
  const Oid database = database_to_stop(statement);
  if (OidIsValid(database)) stop_workers(database);
  if (!OidIsValid(database) || database != MyDatabaseId) return;
  store::forget_breakers(database);  // they are read again from the rows, if any
  store::forget_limit_figures(database);
  store::forget_cache(database);
}

extern "C" void on_utility(PlannedStmt *plan, const char *text, bool read_only, ProcessUtilityContext context, ParamListInfo params,
                           QueryEnvironment *environment, DestReceiver *destination, QueryCompletion *completion) {
  Node *statement = plan->utilityStmt;
  pg::entry([=] { before(statement); });
  const bool drops = IsA(statement, DropdbStmt), creates = IsA(statement, CreatedbStmt);
  const char *created = creates ? castNode(CreatedbStmt, statement)->dbname : nullptr;
  const Oid database = stopped_database;
  if (previous) previous(plan, text, read_only, context, params, environment, destination, completion);
  else standard_ProcessUtility(plan, text, read_only, context, params, environment, destination, completion);
  if (drops && OidIsValid(database)) pg::entry([=] { forget_slot(database); });
  if (creates) pg::entry([=] { created_database = database_by_name(created); });
}

}  // namespace

void install_utility_hook() {
  previous = ProcessUtility_hook;
  ProcessUtility_hook = on_utility;
  RegisterXactCallback(at_end, nullptr);
}

}  // namespace tasker::worker
