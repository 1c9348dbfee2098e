// cache_rows and clear_cache: what the cache of costly answers holds, and why for so long.
#include "core/json.hpp"
#include "pg/args.hpp"
#include "store/cache.hpp"
#include "store/settings.hpp"

using namespace tasker;

namespace {

std::optional<core::CachedFunction> function_of(const pg::Args &args) {
  const std::optional<std::string> name = args.text_or_null(0);
  if (!name) return std::nullopt;
  std::string known;
  for (int i = 0; i < core::kCachedFunctions; i++) {
    const auto function = static_cast<core::CachedFunction>(i);
    if (*name == core::to_string(function)) return function;
    known += std::string(i == 0 ? "" : i + 1 < core::kCachedFunctions ? ", " : " and ") + core::to_string(function);
  }
  throw tasker::Error(sqlstate::kInvalidParameter, "answers of function \"" + *name + "\" are not cached", {}, "Those of " + known + " are.");
}

void put_row(pg::RowSet &rows, const store::CacheRow &row, bool asked, TimestampTz now) {
  const core::CacheUse &use = row.use;
  const core::TtlPlan plan = core::plan_ttl(core::base_ttl_seconds(row.function), use, now);
  rows.text(core::to_string(row.function));
  if (OidIsValid(row.role)) rows.datum(ObjectIdGetDatum(row.role));
  else rows.null();
  if (asked) rows.datum(pg::jsonb_datum(row.arguments));
  else rows.null();
  rows.text(row.state).int8(use.hits).int8(use.misses).int8(row.waited);
  if (use.hits + use.misses > 0) rows.datum(pg::numeric_from_double(use.hit_rate, 3));
  else rows.null();
  if (use.generation_seconds > 0) rows.datum(pg::numeric_from_double(use.generation_seconds * 1000, 3));
  else rows.null();
  rows.datum(pg::numeric_from_double(plan.frequency, 1)).datum(pg::numeric_from_double(plan.base_seconds, 0));
  for (const double factor : {plan.hit_factor, plan.cost_factor, plan.frequency_factor}) rows.datum(pg::numeric_from_double(factor, 1));
  rows.datum(pg::numeric_from_double(plan.ttl_seconds, 3)).text(core::explain_ttl(plan, use)).int8(static_cast<std::int64_t>(row.bytes));
  rows.timestamp_or_null(row.generated_at).timestamp_or_null(row.expires_at).end_row();
}

}  // namespace

TASKER_SQL_FUNCTION(tasker_cache_strategy) {
  return pg::entry([&]() -> Datum {
    pg::RowSet rows(fcinfo);
    if (!store::settings.intelligent_cache) rows.text("off").text("every call works its answer out; what was learnt is kept");
    else if (store::cache_is_shared()) rows.text("distributed_atomic").text("one cache for all sessions of the server; one session at a time works an answer out, the others wait for it");
    else rows.text("local_only").text("a cache of this session alone: tasker is not in shared_preload_libraries");
    rows.end_row();
    return Datum(0);
  });
}

TASKER_SQL_FUNCTION(tasker_cache_rows) {
  return pg::entry([&]() -> Datum {
    pg::RowSet rows(fcinfo);
    const TimestampTz now = GetCurrentTimestamp();
    bool known[core::kCachedFunctions] = {};
    for (const store::CacheRow &row : store::cache_rows()) {
      known[static_cast<int>(row.function)] = true;
      put_row(rows, row, true, now);
    }
    for (int i = 0; i < core::kCachedFunctions; i++) {
      if (known[i]) continue;
      store::CacheRow row{};
      row.function = static_cast<core::CachedFunction>(i);
      row.state = "empty";
      put_row(rows, row, false, now);
    }
    return Datum(0);
  });
}

TASKER_SQL_FUNCTION(tasker_clear_cache) {
  return pg::entry([&]() -> Datum { return Int32GetDatum(store::clear_cache(function_of(pg::Args(fcinfo)))); });
}
