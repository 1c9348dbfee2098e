// Rows of tasker's own tables, read and written by primary key without a statement.
//
// What every step needs (its rows read, moved, and its history written) costs an executor run per statement where a few
// microseconds per row would do: measured, 74 of 110 µs of a short step went into statements. This is what the server's own
// catalogue code and its logical replication do instead. The rules of a statement hold: visibility by the snapshot, waiting
// for whoever holds a row (lock_timeout counts), indexes, TOAST, replication, row triggers if somebody has added one. What it
// leaves out: privileges, row security and column defaults.
//
// Errors: those of PostgreSQL, as pg::Error (55P03, 40P01, 40001 where the transaction has one snapshot for all); 55000 when
// the table is not what this library knows.
#pragma once

#include <cstdint>
#include <initializer_list>
#include <vector>

#include "pg/bridge.hpp"

namespace tasker::pg {

inline constexpr int kMaxTableColumns = 40;

// A table of the schema tasker as this library knows it: a constant, and what this process has found out about it. Columns
// are given by their place in `column`.
struct TableShape {
  const char *name;
  const char *primary_key;     // the index: an int8, then int4s, as far as it is searched
  int key_columns;
  int columns;
  const char *column[kMaxTableColumns];
  Oid relation = InvalidOid, index = InvalidOid;
  int attributes = 0;
  AttrNumber attribute[kMaxTableColumns] = {};
};

// A row as it was read: column i is values[i], nulls[i]. Lives in the memory context that was current then.
struct TableRow {
  HeapTuple tuple = nullptr;   // null: there is none; t_self: its place
  Datum *values = nullptr;
  bool *nulls = nullptr;
  explicit operator bool() const { return tuple != nullptr; }
};

// What an update sets; everything else stays.
class RowChange {
 public:
  void set(int column, Datum value) { put(column, value, false); }
  void set_null(int column) { put(column, Datum(0), true); }
  void int4(int column, std::int32_t value) { set(column, Int32GetDatum(value)); }
  void boolean(int column, bool value) { set(column, BoolGetDatum(value)); }
  void timestamp(int column, TimestampTz value) { set(column, TimestampTzGetDatum(value)); }
  const Datum *values() const { return values_; }
  const bool *nulls() const { return nulls_; }
  const bool *changed() const { return changed_; }

 private:
  void put(int column, Datum value, bool null) {
    values_[column] = value;
    nulls_[column] = null;
    changed_[column] = true;
  }
  Datum values_[kMaxTableColumns] = {};
  bool nulls_[kMaxTableColumns] = {}, changed_[kMaxTableColumns] = {};
};

// Rows to be inserted: the values of all columns, in order, row by row.
class TableRows {
 public:
  void add(std::initializer_list<Datum> values) {
    for (const Datum value : values) put(value, false);
  }
  void add_null() { put(Datum(0), true); }
  const Datum *values() const { return values_.data(); }
  const char *nulls() const { return nulls_.data(); }
  std::size_t size() const { return values_.size(); }

 private:
  void put(Datum value, bool null) {
    values_.push_back(value);
    nulls_.push_back(null ? 1 : 0);
  }
  std::vector<Datum> values_;
  std::vector<char> nulls_;
};

// An open table, for the length of a scope; its lock stays until the end of the transaction. It sees what was committed, and
// what this transaction has written, before it was opened. Not while a handler runs.
class Table {
 public:
  enum class Use { kRead, kWrite };
  Table(TableShape &shape, Use use);
  ~Table();
  Table(const Table &) = delete;
  Table &operator=(const Table &) = delete;

  // The visible row with this key (key_columns values, of the shape's first columns).
  TableRow find(const Datum *key);
  // The same, looked for first where it was once: tuple->t_self then.
  TableRow find(const Datum *key, const ItemPointerData &place);
  // The visible rows whose keys begin with `columns` values, in order; each later one by next(), until there is none.
  TableRow find_first(const Datum *key, int columns);
  TableRow next();

  enum class Wrote { kDone, kChanged, kGone };
  // kChanged: somebody else has changed the row since, and `row` is now its newest version, locked: decide again.
  Wrote update(TableRow &row, const RowChange &change);

  Wrote remove(TableRow &row);

  // Rows of all columns, one after the other.
  void insert(const TableRows &rows);

  // The type of a column.
  Oid type(int column) const;

 private:
  struct State;
  State *state_;
};

// As nextval() of a sequence of the schema tasker; `out` has room for `count`.
void next_values(const char *sequence, std::int64_t *out, int count);

// The values of an enum type, by their place in `labels`.
struct EnumShape {
  int count;
  const char *const *labels;
  Oid type = InvalidOid;
  Oid value[8] = {};
};
Datum enum_datum(EnumShape &shape, Oid type, int place);
int enum_place(EnumShape &shape, Oid type, Datum value);

}  // namespace tasker::pg
