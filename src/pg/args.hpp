// Arguments and results of functions callable from SQL.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "pg/spi.hpp"

namespace tasker::pg {

// Reads the arguments of one call. An argument that must not be null and is raises 22004 naming it.
class Args {
 public:
  explicit Args(FunctionCallInfo info) : info_(info) {}
  bool is_null(int n) const { return n >= info_->nargs || info_->args[n].isnull; }
  Datum datum(int n, const char *name) const;
  std::string text(int n, const char *name) const { return to_string(datum(n, name)); }
  std::optional<std::string> text_or_null(int n) const;
  std::int64_t int8(int n, const char *name) const { return DatumGetInt64(datum(n, name)); }
  std::int32_t int4(int n, const char *name) const { return DatumGetInt32(datum(n, name)); }
  bool boolean(int n, const char *name) const { return DatumGetBool(datum(n, name)); }
  Datum jsonb(int n, const char *name) const;         // detoasted
  std::string json_text(int n, const char *name) const;
  std::vector<std::string> texts(int n, const char *name) const;      // no nulls inside
  std::vector<std::optional<std::string>> texts_or_nulls(int n) const;  // empty when the array is null
  std::vector<std::int64_t> int8s(int n, const char *name) const;
  std::vector<Datum> jsonbs(int n, const char *name) const;
  std::int64_t microseconds(int n, const char *name) const;           // of an interval
  // Of an array, nulls too; none when the array is null.
  std::vector<NullableDatum> elements(int n, Oid type) const;

 private:
  FunctionCallInfo info_;
};

// A set of rows, materialised. Values and nulls as in heap_form_tuple.
class RowSet {
 public:
  explicit RowSet(FunctionCallInfo info);
  void add(const Datum *values, const bool *nulls);
  // Starts and fills one row, column by column.
  RowSet &datum(Datum value);
  RowSet &null();
  RowSet &text(std::string_view value) { return datum(text_datum(value)); }
  RowSet &text_or_null(const std::optional<std::string> &value) { return value ? text(*value) : null(); }
  RowSet &int4(int value) { return datum(Int32GetDatum(value)); }
  RowSet &int8(std::int64_t value) { return datum(Int64GetDatum(value)); }
  RowSet &boolean(bool value) { return datum(BoolGetDatum(value)); }
  RowSet &timestamp_or_null(std::optional<TimestampTz> value) { return value ? datum(TimestampTzGetDatum(*value)) : null(); }
  void end_row();

 private:
  ReturnSetInfo *result_;
  std::vector<Datum> values_;
  std::vector<char> nulls_;
};

Datum numeric_from_double(double value, int decimals);

}  // namespace tasker::pg
