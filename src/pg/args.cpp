#include "pg/args.hpp"

#include <cmath>

namespace tasker::pg {

Datum Args::datum(int n, const char *name) const {
  if (is_null(n)) throw tasker::Error("22004", std::string(name) + " must not be null");
  return info_->args[n].value;
}

std::optional<std::string> Args::text_or_null(int n) const {
  if (is_null(n)) return std::nullopt;
  return to_string(info_->args[n].value);
}

Datum Args::jsonb(int n, const char *name) const {
  const Datum value = datum(n, name);
  return call([=] { return PointerGetDatum(DatumGetJsonbP(value)); });
}

std::string Args::json_text(int n, const char *name) const {
  const Datum value = jsonb(n, name);
  const char *text = call([=] {
    Jsonb *json = DatumGetJsonbP(value);
    return JsonbToCString(nullptr, &json->root, static_cast<int>(VARSIZE(json)));
  });
  return text;
}

std::vector<NullableDatum> Args::elements(int n, Oid type) const {
  std::vector<NullableDatum> out;
  if (is_null(n)) return out;
  struct Parts {
    Datum *values;
    bool *nulls;
    int count;
  };
  const Datum value = info_->args[n].value;
  const Parts parts = call([=] {
    Parts p;
    int16 length;
    bool by_value;
    char align;
    get_typlenbyvalalign(type, &length, &by_value, &align);
    deconstruct_array(DatumGetArrayTypeP(value), type, length, by_value, align, &p.values, &p.nulls, &p.count);
    return p;
  });
  for (int i = 0; i < parts.count; i++) {
    NullableDatum element{};
    element.value = parts.values[i];
    element.isnull = parts.nulls[i];
    out.push_back(element);
  }
  return out;
}

std::vector<std::optional<std::string>> Args::texts_or_nulls(int n) const {
  std::vector<std::optional<std::string>> out;
  for (const NullableDatum &element : elements(n, TEXTOID)) {
    if (element.isnull) out.emplace_back(std::nullopt);
    else out.emplace_back(to_string(element.value));
  }
  return out;
}

std::vector<std::string> Args::texts(int n, const char *name) const {
  std::vector<std::string> out;
  for (auto &element : texts_or_nulls(n)) {
    if (!element) throw tasker::Error("22004", std::string(name) + " must not contain null");
    out.push_back(std::move(*element));
  }
  return out;
}

std::vector<std::int64_t> Args::int8s(int n, const char *name) const {
  std::vector<std::int64_t> out;
  for (const NullableDatum &element : elements(n, INT8OID)) {
    if (element.isnull) throw tasker::Error("22004", std::string(name) + " must not contain null");
    out.push_back(DatumGetInt64(element.value));
  }
  return out;
}

std::vector<Datum> Args::jsonbs(int n, const char *name) const {
  std::vector<Datum> out;
  for (const NullableDatum &element : elements(n, JSONBOID)) {
    if (element.isnull) throw tasker::Error("22004", std::string(name) + " must not contain null");
    const Datum value = element.value;
    out.push_back(call([=] { return PointerGetDatum(DatumGetJsonbP(value)); }));
  }
  return out;
}

std::int64_t Args::microseconds(int n, const char *name) const {
  const Datum interval = datum(n, name);
  const double seconds = call([=] {
    const Datum epoch = DirectFunctionCall2(extract_interval, PointerGetDatum(cstring_to_text("epoch")), interval);
    return DatumGetFloat8(DirectFunctionCall1(numeric_float8, epoch));
  });
  if (!(seconds > -1e9 && seconds < 1e9)) throw tasker::Error(sqlstate::kInvalidParameter, std::string(name) + " is out of range");
  return static_cast<std::int64_t>(seconds * 1e6);
}

RowSet::RowSet(FunctionCallInfo info) {
  call([=] { InitMaterializedSRF(info, MAT_SRF_USE_EXPECTED_DESC); });  // also for SETOF of a scalar
  result_ = reinterpret_cast<ReturnSetInfo *>(info->resultinfo);
}

void RowSet::add(const Datum *values, const bool *nulls) {
  ReturnSetInfo *r = result_;
  call([=] { tuplestore_putvalues(r->setResult, r->setDesc, const_cast<Datum *>(values), const_cast<bool *>(nulls)); });
}

RowSet &RowSet::datum(Datum value) {
  values_.push_back(value);
  nulls_.push_back(0);
  return *this;
}

RowSet &RowSet::null() {
  values_.push_back(Datum(0));
  nulls_.push_back(1);
  return *this;
}

void RowSet::end_row() {
  if (static_cast<int>(values_.size()) != result_->setDesc->natts) throw tasker::Error(sqlstate::kInternal, "a row has the wrong number of columns");
  add(values_.data(), reinterpret_cast<const bool *>(nulls_.data()));
  values_.clear();
  nulls_.clear();
}

Datum numeric_from_double(double value, int decimals) {
  const double scale = std::pow(10.0, decimals);
  const auto scaled = static_cast<std::int64_t>(std::llround(value * scale));
  return call([=] { return NumericGetDatum(int64_div_fast_to_numeric(scaled, decimals)); });
}

}  // namespace tasker::pg
