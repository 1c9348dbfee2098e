// The view metrics, prometheus_metrics, metrics_json, metrics_csv. Nothing in them is a payload.
#include "insight/metrics.hpp"

#include "core/utc.hpp"
#include "pg/args.hpp"
#include "pg/security.hpp"
#include "store/facts.hpp"

using namespace tasker;

namespace {

using core::json;

core::Metrics gather() {
  pg::Spi spi;
  pg::OwnerScope scope(store::cached_extension_owner());
  return insight::gather_metrics();
}

std::string now_text() { return core::utc(GetCurrentTimestamp()); }

std::string database_name() {
  const char *name = pg::call([] { return get_database_name(MyDatabaseId); });
  return name ? name : "";
}

json labels_json(const core::MetricLabels &labels) {
  json out = json::object();
  for (const auto &[name, value] : labels) out[name] = value;
  return out;
}

}  // namespace

TASKER_SQL_FUNCTION(tasker_metric_rows) {
  return pg::entry([&]() -> Datum {
    pg::RowSet rows(fcinfo);
    const core::Metrics metrics = gather();
    for (const auto &[_, family] : metrics.families())
      for (const core::MetricSample &sample : family.samples)
        rows.text(sample.name).text(core::to_string(family.type)).datum(pg::jsonb_datum(labels_json(sample.labels).dump(-1, ' ', false, json::error_handler_t::replace)))
            .datum(Float8GetDatum(sample.value)).text(family.help).end_row();
    return Datum(0);
  });
}

TASKER_SQL_FUNCTION(tasker_prometheus_metrics) {
  return pg::entry([&]() -> Datum {
    const std::string out = core::prometheus_text(gather());
    return pg::text_datum(out);
  });
}

TASKER_SQL_FUNCTION(tasker_metrics_json) {
  return pg::entry([&]() -> Datum {
    json rows = core::metrics_array(gather());
    json out = {{"timestamp", now_text()}, {"total_metrics", rows.size()}, {"metadata", {{"database", database_name()}, {"version", TASKER_VERSION}}}};
    out["metrics"] = std::move(rows);
    return pg::jsonb_datum(out.dump(-1, ' ', false, json::error_handler_t::replace));
  });
}

TASKER_SQL_FUNCTION(tasker_metrics_csv) {
  return pg::entry([&]() -> Datum {
    const std::string out = core::metrics_csv(gather(), now_text());
    return pg::text_datum(out);
  });
}
