// Statements of tasker's own: fixed texts, prepared once per process, run with typed parameters.
//
// A Query is a constant with a slot for its plan. Plans are generic: made once, revalidated by Postgres itself,
// under the pinned search_path of pg::OwnerScope. Parameters are bound; no text is ever pasted into SQL.
#pragma once

#include <initializer_list>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "pg/bridge.hpp"

namespace tasker::pg {

inline constexpr int kMaxParams = 24;

struct Query {
  const char *text;
  int nparams = 0;
  Oid types[kMaxParams] = {};
  SPIPlanPtr plan = nullptr;  // of this process
};

// Connects SPI for a scope.
class Spi {
 public:
  Spi();
  ~Spi();
  Spi(const Spi &) = delete;
  Spi &operator=(const Spi &) = delete;
};

// The connection of a procedure that ends transactions as it goes (only where its CALL was not in a transaction block).
class CommittingSpi {
 public:
  explicit CommittingSpi(bool may_commit);
  ~CommittingSpi();
  CommittingSpi(const CommittingSpi &) = delete;
  CommittingSpi &operator=(const CommittingSpi &) = delete;
  bool may_commit() const { return may_commit_; }
  // Commits and begins again; nothing when it may not. A failed commit has rolled back and begun again when it raises.
  void commit();

 private:
  bool may_commit_;
};

// Plans of the user's statements. keep: until free_plan; else for the present connection.
SPIPlanPtr prepare_plan(const char *text, int nargs, const Oid *types, bool keep);
void free_plan(SPIPlanPtr plan);

// One parameter list, in order.
class Params {
 public:
  Params &datum(Datum value) { return push(value, false); }
  Params &null() { return push(Datum(0), true); }
  Params &int4(std::int32_t value) { return push(Int32GetDatum(value), false); }
  Params &int8(std::int64_t value) { return push(Int64GetDatum(value), false); }
  Params &oid(Oid value) { return push(ObjectIdGetDatum(value), false); }
  Params &boolean(bool value) { return push(BoolGetDatum(value), false); }
  Params &float8(double value) { return push(Float8GetDatum(value), false); }
  Params &timestamp(TimestampTz value) { return push(TimestampTzGetDatum(value), false); }
  Params &text(std::string_view value);
  Params &text_or_null(const std::optional<std::string> &value) { return value ? text(*value) : null(); }
  int size() const { return count_; }
  Datum *values() { return values_; }
  const char *nulls() const { return nulls_; }

 private:
  Params &push(Datum value, bool is_null);
  int count_ = 0;
  Datum values_[kMaxParams];
  char nulls_[kMaxParams];
};

// The rows of the last query of this SPI connection, copied out of SPI's globals; freed with the connection.
class Rows {
 public:
  Rows() = default;
  Rows(SPITupleTable *table, std::uint64_t count) : table_(table), count_(count) {}
  std::uint64_t size() const { return count_; }
  bool empty() const { return count_ == 0; }
  // Columns count from 1, as in SPI.
  bool is_null(std::uint64_t row, int column) const;
  Datum datum(std::uint64_t row, int column) const;  // Datum(0) for null; points into the row
  std::int32_t int4(std::uint64_t row, int column) const { return DatumGetInt32(datum(row, column)); }
  std::int64_t int8(std::uint64_t row, int column) const { return DatumGetInt64(datum(row, column)); }
  Oid oid(std::uint64_t row, int column) const { return DatumGetObjectId(datum(row, column)); }
  bool boolean(std::uint64_t row, int column) const { return DatumGetBool(datum(row, column)); }
  double float8(std::uint64_t row, int column) const { return DatumGetFloat8(datum(row, column)); }
  TimestampTz timestamp(std::uint64_t row, int column) const { return DatumGetTimestampTz(datum(row, column)); }
  std::optional<TimestampTz> timestamp_or_null(std::uint64_t row, int column) const;
  std::string text(std::uint64_t row, int column) const;  // "" for null
  std::optional<std::string> text_or_null(std::uint64_t row, int column) const;
  std::vector<std::int32_t> int4s(std::uint64_t row, int column) const;  // an integer[] without nulls
  std::vector<std::string> texts(std::uint64_t row, int column) const;   // a text[] without nulls

 private:
  SPITupleTable *table_ = nullptr;
  std::uint64_t count_ = 0;
};

struct Result {
  Rows rows;
  std::uint64_t processed = 0;
};

enum class Access : bool { kWrite = false, kRead = true };
// Runs a query under the present identity. Precondition: an Spi is alive. limit 0: all rows.
Result execute(Query &query, Params params = {}, Access access = Access::kWrite, long limit = 0);

// Arrays as parameters, built element by element in the current memory context.
class ArrayBuilder {
 public:
  explicit ArrayBuilder(Oid element_type) : type_(element_type) {}
  void add(Datum value) { push(value, false); }
  void null() { push(Datum(0), true); }
  void int4(std::int32_t value) { push(Int32GetDatum(value), false); }
  void int8(std::int64_t value) { push(Int64GetDatum(value), false); }
  void oid(Oid value) { push(ObjectIdGetDatum(value), false); }
  void boolean(bool value) { push(BoolGetDatum(value), false); }
  void float8(double value) { push(Float8GetDatum(value), false); }
  void timestamp(TimestampTz value) { push(TimestampTzGetDatum(value), false); }
  void text(std::string_view value);
  std::size_t size() const { return values_.size(); }
  Datum datum();

 private:
  void push(Datum value, bool is_null) {
    values_.push_back(value);
    nulls_.push_back(is_null);
  }
  Oid type_;
  std::vector<Datum> values_;
  std::vector<char> nulls_;
};

Datum text_datum(std::string_view value);    // in the current memory context
Datum jsonb_datum(const std::string &json);  // raises 22P02 for what is no JSON
Datum text_array(const std::vector<std::string> &values);
std::string to_string(Datum text_value);     // of a non-null text

}  // namespace tasker::pg
