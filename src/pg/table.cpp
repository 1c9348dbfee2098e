#include "pg/table.hpp"

#include <algorithm>

extern "C" {
#include "catalog/pg_enum.h"
#include "commands/sequence.h"
#include "commands/trigger.h"
#include "storage/bufmgr.h"
}

namespace tasker::pg {

namespace {

inline constexpr int kRowsAtOnce = 64;
inline constexpr int kMaxAttributes = 64;  // dropped ones, too
inline constexpr int kMaxKeyColumns = 4;

void look_up(TableShape &shape, Relation relation, Oid index) {
  TupleDesc columns = RelationGetDescr(relation);
  for (int i = 0; i < shape.columns; i++) {
    AttrNumber found = InvalidAttrNumber;
    for (int a = 0; a < columns->natts && found == InvalidAttrNumber; a++) {
      Form_pg_attribute attribute = TupleDescAttr(columns, a);
      if (!attribute->attisdropped && strcmp(NameStr(attribute->attname), shape.column[i]) == 0) found = attribute->attnum;
    }
    if (found == InvalidAttrNumber)
      ereport(ERROR, (errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE), errmsg("column \"%s\" of table tasker.%s does not exist", shape.column[i], shape.name),
                      errhint("Run ALTER EXTENSION tasker UPDATE.")));
    shape.attribute[i] = found;
  }
  shape.relation = RelationGetRelid(relation);
  shape.index = index;
  shape.attributes = columns->natts;
}

Relation open_relation(TableShape &shape, LOCKMODE lock) {
  const Oid schema = get_namespace_oid("tasker", true);
  const Oid oid = OidIsValid(schema) ? get_relname_relid(shape.name, schema) : InvalidOid;
  const Oid index = OidIsValid(schema) ? get_relname_relid(shape.primary_key, schema) : InvalidOid;
  if (!OidIsValid(oid) || !OidIsValid(index))
    ereport(ERROR, (errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE), errmsg("table tasker.%s does not exist", shape.name),
                    errhint("Run CREATE EXTENSION tasker.")));
  Relation relation = table_open(oid, lock);
  if (shape.relation != oid || shape.index != index || shape.attributes != RelationGetDescr(relation)->natts) look_up(shape, relation, index);
  return relation;
}

bool has_row_triggers(Relation relation) {
  const TriggerDesc *t = relation->trigdesc;
  return t != nullptr && (t->trig_insert_before_row || t->trig_insert_after_row || t->trig_update_before_row || t->trig_update_after_row ||
                          t->trig_delete_before_row || t->trig_delete_after_row);
}

}  // namespace

struct Table::State {
  TableShape *shape;
  Relation relation;
  Snapshot snapshot;
  int exceptions;          // in flight when it was opened
  bool identity_checked;
  // Made when first needed.
  Relation index;
  IndexScanDesc scan;
  TupleTableSlot *found, *changed;
  BlockNumber pages;
  EState *executor;
  ResultRelInfo *result;

  void open_slot() {
    if (found == nullptr) found = MakeSingleTupleTableSlot(RelationGetDescr(relation), table_slot_callbacks(relation));
  }

  void open_scan(int keys) {
    open_slot();
    if (index == nullptr) index = index_open(shape->index, AccessShareLock);
    if (scan != nullptr && scan->numberOfKeys == keys) return;
    if (scan != nullptr) index_endscan(scan);
    scan = begin_index_scan(relation, index, snapshot, keys);
  }

  void open_indexes() {
    if (executor != nullptr) return;
    executor = CreateExecutorState();
    result = makeNode(ResultRelInfo);
    InitResultRelInfo(result, relation, 0, nullptr, 0);
    ExecOpenIndices(result, false);
  }

  void read(TableRow &row, TupleTableSlot *slot) const {
    TupleDesc columns = RelationGetDescr(relation);
    row.tuple = ExecCopySlotHeapTuple(slot);
    Datum values[kMaxAttributes];
    bool nulls[kMaxAttributes];
    heap_deform_tuple(row.tuple, columns, values, nulls);
    if (row.values == nullptr) {
      row.values = static_cast<Datum *>(palloc(static_cast<Size>(shape->columns) * (sizeof(Datum) + sizeof(bool))));
      row.nulls = reinterpret_cast<bool *>(row.values + shape->columns);
    }
    for (int i = 0; i < shape->columns; i++) {
      row.values[i] = values[shape->attribute[i] - 1];
      row.nulls[i] = nulls[shape->attribute[i] - 1];
    }
  }

  [[noreturn]] static void serialization_failure() {
    ereport(ERROR, (errcode(ERRCODE_T_R_SERIALIZATION_FAILURE), errmsg("could not serialize access due to concurrent update")));
  }

  // Waits for whoever changes the row and locks its newest version into `found`. Where the transaction has one snapshot for
  // all there is no newer version for it.
  Wrote lock_newest(TableRow &row, LockTupleMode mode) const {
    const bool one_snapshot = IsolationUsesXactSnapshot();
    TM_FailureData failure;
    ExecClearTuple(found);
    const TM_Result locked = table_tuple_lock(relation, &row.tuple->t_self, snapshot, found, GetCurrentCommandId(true), mode, LockWaitBlock,
                                              one_snapshot ? 0 : TUPLE_LOCK_FLAG_FIND_LAST_VERSION, &failure);
    if (one_snapshot && (locked == TM_Updated || locked == TM_Deleted)) serialization_failure();
    if (locked == TM_Deleted) return Wrote::kGone;
    if (locked != TM_Ok) elog(ERROR, "unexpected result %d of a row lock", static_cast<int>(locked));
    const bool same = ItemPointerEquals(&found->tts_tid, &row.tuple->t_self);
    read(row, found);
    return same ? Wrote::kDone : Wrote::kChanged;
  }

  void store_changed(const TableRow &row, const Datum *values, const bool *nulls, const bool *changes) {
    TupleDesc columns = RelationGetDescr(relation);
    Datum all[kMaxAttributes] = {};
    bool all_nulls[kMaxAttributes] = {}, replaced[kMaxAttributes] = {};
    for (int i = 0; i < shape->columns; i++) {
      if (!changes[i]) continue;
      const int a = shape->attribute[i] - 1;
      all[a] = values[i];
      all_nulls[a] = nulls[i];
      replaced[a] = true;
    }
    if (changed == nullptr) changed = MakeSingleTupleTableSlot(columns, &TTSOpsHeapTuple);
    ExecStoreHeapTuple(heap_modify_tuple(row.tuple, columns, all, all_nulls, replaced), changed, true);
  }

  void check(TupleTableSlot *slot) const {
    if (RelationGetDescr(relation)->constr != nullptr) ExecConstraints(result, slot, executor);
  }

  // An update or delete that a publication could not tell of is refused.
  void check_identity(CmdType command) {
    if (!identity_checked) CheckCmdReplicaIdentity(relation, command);
    identity_checked = true;
  }

  // Row triggers look at the rows as of this command.
  void begin_triggers() const {
    executor->es_output_cid = GetCurrentCommandId(true);
    executor->es_snapshot = snapshot;
    AfterTriggerBeginQuery();
  }

  // As logical replication does: with somebody's row triggers.
  Wrote update_with_triggers(TableRow &row, const Datum *values, const bool *nulls, const bool *changes) {
    if (const Wrote locked = lock_newest(row, LockTupleNoKeyExclusive); locked != Wrote::kDone) return locked;
    store_changed(row, values, nulls, changes);
    EPQState newest;
    init_plan_qual(&newest, executor);
    begin_triggers();
    ExecSimpleRelationUpdate(result, executor, &newest, found, changed);
    AfterTriggerEndQuery(executor);
    EvalPlanQualEnd(&newest);
    return Wrote::kDone;
  }

  Wrote changed_meanwhile(TableRow &row, LockTupleMode mode) const {
    if (IsolationUsesXactSnapshot()) serialization_failure();
    return lock_newest(row, mode) == Wrote::kGone ? Wrote::kGone : Wrote::kChanged;
  }

  Wrote update(TableRow &row, const Datum *values, const bool *nulls, const bool *changes) {
    check_identity(CMD_UPDATE);
    open_indexes();
    if (has_row_triggers(relation)) return update_with_triggers(row, values, nulls, changes);
    store_changed(row, values, nulls, changes);
    check(changed);
    TM_FailureData failure;
    LockTupleMode mode;
    UpdatedIndexes indexes{};
    const TM_Result updated = table_tuple_update(relation, &row.tuple->t_self, changed, GetCurrentCommandId(true), snapshot, InvalidSnapshot, true,
                                                 &failure, &mode, &indexes);
    if (updated == TM_Ok) {
      if (indexes != UpdatedIndexes{}) insert_index_tuples(result, changed, executor, indexes);
      ResetPerTupleExprContext(executor);
      return Wrote::kDone;
    }
    if (updated == TM_Updated) return changed_meanwhile(row, mode);
    if (updated != TM_Deleted) elog(ERROR, "unexpected result %d of a row update", static_cast<int>(updated));
    if (IsolationUsesXactSnapshot()) serialization_failure();
    return Wrote::kGone;
  }

  Wrote remove(TableRow &row) {
    check_identity(CMD_DELETE);
    if (has_row_triggers(relation)) {
      open_indexes();
      if (const Wrote locked = lock_newest(row, LockTupleExclusive); locked != Wrote::kDone) return locked;
      EPQState newest;
      init_plan_qual(&newest, executor);
      begin_triggers();
      ExecSimpleRelationDelete(result, executor, &newest, found);
      AfterTriggerEndQuery(executor);
      EvalPlanQualEnd(&newest);
      return Wrote::kDone;
    }
    TM_FailureData failure;
    const TM_Result removed = table_tuple_delete(relation, &row.tuple->t_self, GetCurrentCommandId(true), snapshot, InvalidSnapshot, true, &failure, false);
    if (removed == TM_Ok) return Wrote::kDone;
    if (removed == TM_SelfModified) return Wrote::kGone;  // named twice
    if (removed == TM_Updated) return changed_meanwhile(row, LockTupleExclusive);
    if (removed != TM_Deleted) elog(ERROR, "unexpected result %d of a row's removal", static_cast<int>(removed));
    if (IsolationUsesXactSnapshot()) serialization_failure();
    return Wrote::kGone;
  }

  TableRow next() {
    TableRow row;
    if (index_getnext_slot(scan, ForwardScanDirection, found)) read(row, found);
    return row;
  }

  TableRow find(const Datum *key, int columns) {
    open_scan(columns);
    ScanKeyData keys[kMaxKeyColumns];
    for (int i = 0; i < columns; i++)
      ScanKeyInit(&keys[i], static_cast<AttrNumber>(i + 1), BTEqualStrategyNumber, i == 0 ? F_INT8EQ : F_INT4EQ, key[i]);
    index_rescan(scan, keys, columns, nullptr, 0);
    return next();
  }

  bool has_key(const TableRow &row, const Datum *key) const {
    if (DatumGetInt64(row.values[0]) != DatumGetInt64(key[0])) return false;
    for (int i = 1; i < shape->key_columns; i++)
      if (DatumGetInt32(row.values[i]) != DatumGetInt32(key[i])) return false;
    return true;
  }

  // A place may hold another row by now, or none: the row was changed, and its old version is gone.
  TableRow find_at(const Datum *key, ItemPointerData place) {
    TableRow row;
    if (pages == 0) pages = RelationGetNumberOfBlocks(relation);
    if (ItemPointerGetBlockNumberNoCheck(&place) >= pages) return row;
    open_slot();
    ExecClearTuple(found);
    if (table_tuple_fetch_row_version(relation, &place, snapshot, found)) read(row, found);
    return row && has_key(row, key) ? row : TableRow{};
  }

  void insert(const Datum *values, const char *nulls, int count) {
    open_indexes();
    TupleDesc columns = RelationGetDescr(relation);
    TupleTableSlot *slots[kRowsAtOnce] = {};
    const bool triggers = has_row_triggers(relation);
    for (int done = 0; done < count; done += kRowsAtOnce) {
      const int here = std::min(count - done, kRowsAtOnce);
      for (int i = 0; i < here; i++) {
        if (slots[i] == nullptr) slots[i] = MakeSingleTupleTableSlot(columns, table_slot_callbacks(relation));
        TupleTableSlot *slot = slots[i];
        ExecClearTuple(slot);
        std::fill_n(slot->tts_isnull, columns->natts, true);
        std::fill_n(slot->tts_values, columns->natts, Datum(0));
        for (int c = 0; c < shape->columns; c++) {
          slot->tts_values[shape->attribute[c] - 1] = values[(done + i) * shape->columns + c];
          slot->tts_isnull[shape->attribute[c] - 1] = nulls[(done + i) * shape->columns + c] != 0;
        }
        ExecStoreVirtualTuple(slot);
        if (!triggers) {
          check(slot);
          continue;
        }
        begin_triggers();
        ExecSimpleRelationInsert(result, executor, slot);
        AfterTriggerEndQuery(executor);
      }
      if (triggers) continue;
      table_multi_insert(relation, slots, here, GetCurrentCommandId(true), 0, nullptr);
      for (int i = 0; i < here; i++) {
        insert_index_tuples(result, slots[i], executor);
        ResetPerTupleExprContext(executor);
      }
    }
    for (TupleTableSlot *slot : slots)
      if (slot != nullptr) ExecDropSingleTupleTableSlot(slot);
  }

  void close() {
    if (scan != nullptr) index_endscan(scan);
    if (found != nullptr) ExecDropSingleTupleTableSlot(found);
    if (index != nullptr) index_close(index, NoLock);
    if (changed != nullptr) ExecDropSingleTupleTableSlot(changed);
    if (executor != nullptr) {
      // Both are of row triggers only.
      ExecResetTupleTable(executor->es_tupleTable, false);
      ExecCloseResultRelations(executor);
      ExecCloseIndices(result);
      FreeExecutorState(executor);
    }
    table_close(relation, NoLock);
    PopActiveSnapshot();
  }
};

Table::Table(TableShape &shape, Use use) {
  TableShape *s = &shape;
  const bool writes = use == Use::kWrite;
  const int exceptions = std::uncaught_exceptions();
  state_ = call([=] {
    if (writes) PreventCommandIfReadOnly("UPDATE");
    Relation relation = open_relation(*s, writes ? RowExclusiveLock : AccessShareLock);
    if (RelationGetDescr(relation)->natts > kMaxAttributes) elog(ERROR, "table tasker.%s has too many columns", s->name);
    CommandCounterIncrement();
    PushActiveSnapshot(GetTransactionSnapshot());
    auto *state = static_cast<State *>(palloc0(sizeof(State)));
    state->shape = s;
    state->relation = relation;
    state->snapshot = GetActiveSnapshot();
    state->exceptions = exceptions;
    return state;
  });
}

Table::~Table() {
  // In flight of an error all of it belongs to the (sub)transaction that is about to be aborted.
  if (std::uncaught_exceptions() == state_->exceptions) state_->close();
}

TableRow Table::find(const Datum *key) { return find_first(key, state_->shape->key_columns); }

TableRow Table::find(const Datum *key, const ItemPointerData &place) {
  State *s = state_;
  const ItemPointerData at = place;
  if (at.ip_posid == InvalidOffsetNumber) return find(key);
  const TableRow row = call([=] { return s->find_at(key, at); });
  return row ? row : find(key);
}

TableRow Table::find_first(const Datum *key, int columns) {
  State *s = state_;
  return call([=] { return s->find(key, columns); });
}

TableRow Table::next() {
  State *s = state_;
  return call([=] { return s->next(); });
}

Table::Wrote Table::update(TableRow &row, const RowChange &change) {
  State *s = state_;
  TableRow *r = &row;
  const Datum *values = change.values();
  const bool *nulls = change.nulls(), *changed = change.changed();
  return call([=] { return s->update(*r, values, nulls, changed); });
}

Table::Wrote Table::remove(TableRow &row) {
  State *s = state_;
  TableRow *r = &row;
  return call([=] { return s->remove(*r); });
}

void Table::insert(const TableRows &rows) {
  State *s = state_;
  const Datum *values = rows.values();
  const char *nulls = rows.nulls();
  const int count = static_cast<int>(rows.size()) / s->shape->columns;
  if (count > 0) call([=] { s->insert(values, nulls, count); });
}

void next_values(const char *sequence, std::int64_t *out, int count) {
  call([=] {
    const Oid oid = get_relname_relid(sequence, get_namespace_oid("tasker", false));
    for (int i = 0; i < count; i++) out[i] = nextval_internal(oid, false);
  });
}

Oid Table::type(int column) const { return TupleDescAttr(RelationGetDescr(state_->relation), state_->shape->attribute[column] - 1)->atttypid; }

namespace {

void look_up(EnumShape &shape, Oid type) {
  for (int i = 0; i < shape.count; i++) {
    HeapTuple label = SearchSysCache2(ENUMTYPOIDNAME, ObjectIdGetDatum(type), CStringGetDatum(shape.labels[i]));
    if (!HeapTupleIsValid(label)) elog(ERROR, "value \"%s\" of enum type %u does not exist", shape.labels[i], type);
    shape.value[i] = reinterpret_cast<Form_pg_enum>(GETSTRUCT(label))->oid;
    ReleaseSysCache(label);
  }
  shape.type = type;
}

}  // namespace

Datum enum_datum(EnumShape &shape, Oid type, int place) {
  EnumShape *s = &shape;
  if (shape.type != type) call([=] { look_up(*s, type); });
  return ObjectIdGetDatum(shape.value[place]);
}

int enum_place(EnumShape &shape, Oid type, Datum value) {
  EnumShape *s = &shape;
  if (shape.type != type) call([=] { look_up(*s, type); });
  const Oid *end = shape.value + shape.count, *found = std::find(static_cast<const Oid *>(shape.value), end, DatumGetObjectId(value));
  if (found == end) throw tasker::Error(sqlstate::kInternal, "an unknown value of an enum type");
  return static_cast<int>(found - shape.value);
}

}  // namespace tasker::pg
