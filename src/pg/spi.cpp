#include "pg/spi.hpp"

#include <cstring>

#include "pg/memory.hpp"

namespace tasker::pg {

Spi::Spi() {
  call([] {
    if (SPI_connect() != SPI_OK_CONNECT) elog(ERROR, "SPI_connect failed");
  });
}

Spi::~Spi() {
  // During an error the connection belongs to the (sub)transaction that is about to be aborted, which frees it.
  if (std::uncaught_exceptions() > 0) return;
  SPI_finish();
}

CommittingSpi::CommittingSpi(bool may_commit) : may_commit_(may_commit) {
  const int options = may_commit ? SPI_OPT_NONATOMIC : 0;
  call([=] { SPI_connect_ext(options); });
}

CommittingSpi::~CommittingSpi() {
  if (std::uncaught_exceptions() == 0) SPI_finish();
}

void CommittingSpi::commit() {
  if (!may_commit_) return;
  try {
    call([] { SPI_commit(); });
  } catch (...) {
    call([] { EnsurePortalSnapshotExists(); });
    throw;
  }
  call([] { EnsurePortalSnapshotExists(); });
}

SPIPlanPtr prepare_plan(const char *text, int nargs, const Oid *types, bool keep) {
  return call([=] {
    SPIPlanPtr plan = SPI_prepare(text, nargs, const_cast<Oid *>(types));
    if (plan == nullptr) elog(ERROR, "could not prepare the step: %s", SPI_result_code_string(SPI_result));
    if (keep) SPI_keepplan(plan);
    return plan;
  });
}

void free_plan(SPIPlanPtr plan) {
  call([=] { SPI_freeplan(plan); });
}

Params &Params::push(Datum value, bool is_null) {
  if (count_ >= kMaxParams) throw tasker::Error(sqlstate::kInternal, "too many parameters");
  values_[count_] = value;
  nulls_[count_++] = is_null ? 'n' : ' ';
  return *this;
}

Params &Params::text(std::string_view value) { return push(text_datum(value), false); }

Datum text_array(const std::vector<std::string> &values) {
  ArrayBuilder array(TEXTOID);
  for (const std::string &value : values) array.text(value);
  return array.datum();
}

Datum text_datum(std::string_view value) {
  const char *data = value.data();
  const int length = static_cast<int>(value.size());
  return call([=] { return PointerGetDatum(cstring_to_text_with_len(data, length)); });
}

std::string to_string(Datum text_value) {
  text *value = call([=] { return DatumGetTextPP(text_value); });
  return std::string(VARDATA_ANY(value), static_cast<std::size_t>(VARSIZE_ANY_EXHDR(value)));
}

Datum jsonb_datum(const std::string &json) {
  const char *text = json.c_str();
  return call([=] { return DirectFunctionCall1(jsonb_in, CStringGetDatum(text)); });
}

Result execute(Query &query, Params params, Access access, long limit) {
  Query *q = &query;
  if (query.plan == nullptr) {
    query.plan = call([=] {
      SPIPlanPtr plan = SPI_prepare_cursor(q->text, q->nparams, q->types, CURSOR_OPT_GENERIC_PLAN);
      if (plan == nullptr) elog(ERROR, "could not prepare statement: %s", SPI_result_code_string(SPI_result));
      if (SPI_keepplan(plan) != 0) elog(ERROR, "could not keep plan");
      return plan;
    });
  }
  if (params.size() != query.nparams) throw tasker::Error(sqlstate::kInternal, "wrong number of parameters");
  Datum *values = params.values();
  const char *nulls = params.nulls();
  const bool read_only = access == Access::kRead;
  call([=] {
    const int code = SPI_execute_plan(q->plan, values, nulls, read_only, limit);
    if (code < 0) elog(ERROR, "could not execute statement: %s", SPI_result_code_string(code));
  });
  Result result;
  result.processed = SPI_processed;
  if (SPI_tuptable != nullptr) result.rows = Rows(SPI_tuptable, SPI_processed);
  return result;
}

bool Rows::is_null(std::uint64_t row, int column) const {
  bool null = true;
  SPI_getbinval(table_->vals[row], table_->tupdesc, column, &null);
  return null;
}

Datum Rows::datum(std::uint64_t row, int column) const {
  bool null = true;
  const Datum value = SPI_getbinval(table_->vals[row], table_->tupdesc, column, &null);
  return null ? Datum(0) : value;
}

std::optional<TimestampTz> Rows::timestamp_or_null(std::uint64_t row, int column) const {
  if (is_null(row, column)) return std::nullopt;
  return timestamp(row, column);
}

std::string Rows::text(std::uint64_t row, int column) const {
  return is_null(row, column) ? std::string() : to_string(datum(row, column));
}

std::optional<std::string> Rows::text_or_null(std::uint64_t row, int column) const {
  if (is_null(row, column)) return std::nullopt;
  return text(row, column);
}

std::vector<std::int32_t> Rows::int4s(std::uint64_t row, int column) const {
  std::vector<std::int32_t> out;
  if (is_null(row, column)) return out;
  const Datum value = datum(row, column);
  ArrayType *array = call([=] { return DatumGetArrayTypeP(value); });
  const int count = ArrayGetNItems(ARR_NDIM(array), ARR_DIMS(array));
  const auto *data = reinterpret_cast<const std::int32_t *>(ARR_DATA_PTR(array));
  out.assign(data, data + count);
  return out;
}

std::vector<std::string> Rows::texts(std::uint64_t row, int column) const {
  std::vector<std::string> out;
  if (is_null(row, column)) return out;
  const Datum value = datum(row, column);
  struct Elements {
    Datum *values;
    int count;
  };
  const Elements elements = call([=] {
    Elements e;
    deconstruct_array(DatumGetArrayTypeP(value), TEXTOID, -1, false, TYPALIGN_INT, &e.values, nullptr, &e.count);
    return e;
  });
  for (int i = 0; i < elements.count; i++) out.push_back(to_string(elements.values[i]));
  return out;
}

void ArrayBuilder::text(std::string_view value) { push(text_datum(value), false); }

Datum ArrayBuilder::datum() {
  int dims[1] = {static_cast<int>(values_.size())};
  int bounds[1] = {1};
  Datum *values = values_.data();
  bool *nulls = reinterpret_cast<bool *>(nulls_.data());
  const Oid type = type_;
  int *d = dims, *b = bounds;
  return call([=] {
    if (d[0] == 0) return PointerGetDatum(construct_empty_array(type));
    int16 length;
    bool by_value;
    char align;
    get_typlenbyvalalign(type, &length, &by_value, &align);
    return PointerGetDatum(construct_md_array(values, nulls, 1, d, b, type, length, by_value, align));
  });
}

}  // namespace tasker::pg
