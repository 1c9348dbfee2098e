#include "store/metric_totals.hpp"

#include <tuple>
#include <utility>

#include "pg/spi.hpp"

namespace tasker::store {

namespace {

inline constexpr const char *kAttempts = "attempts";

constinit pg::Query select_names{
    "SELECT n.named_task_id, n.task_namespace_id, n.name FROM tasker.named_tasks n WHERE n.named_task_id = ANY ($1)", 1, {INT4ARRAYOID}};

constinit pg::Query upsert{
    "INSERT INTO tasker.metric_totals AS h (task_namespace_id, name, subject, number, successes, retries, total_ms, buckets, counts)"
    " SELECT u.task_namespace_id, u.name, u.subject, u.number, u.successes, u.retries, u.total_ms, u.buckets::integer[], u.counts::bigint[]"
    " FROM unnest($1, $2, $3, $4, $5, $6, $7, $8, $9) AS u(task_namespace_id, name, subject, number, successes, retries, total_ms, buckets, counts)"
    " ON CONFLICT (task_namespace_id, name, subject) DO UPDATE SET number = h.number + excluded.number, successes = h.successes + excluded.successes,"
    " retries = h.retries + excluded.retries, total_ms = h.total_ms + excluded.total_ms,"
    " (buckets, counts) = (SELECT coalesce(array_agg(x.b ORDER BY x.b), '{}'), coalesce(array_agg(x.n ORDER BY x.b), '{}')"
    "   FROM (SELECT u.b, sum(u.n)::bigint AS n FROM (SELECT * FROM unnest(h.buckets, h.counts) UNION ALL SELECT * FROM unnest(excluded.buckets, excluded.counts)) u(b, n) GROUP BY u.b) x)",
    9,
    {INT4ARRAYOID, TEXTARRAYOID, TEXTARRAYOID, INT8ARRAYOID, INT8ARRAYOID, INT8ARRAYOID, FLOAT8ARRAYOID, TEXTARRAYOID, TEXTARRAYOID}};

// A definition of which nothing was counted yet has rows of nulls: its counters begin at 0, so that a rate shows the first.
constinit pg::Query select_totals{
    "SELECT ns.name::text, x.name::text, h.subject, h.number, h.successes, h.retries"
    " FROM (SELECT n.task_namespace_id, n.name FROM tasker.named_tasks n WHERE n.retired_at IS NULL"
    "   UNION SELECT m.task_namespace_id, m.name FROM tasker.metric_totals m) x"
    " CROSS JOIN LATERAL (SELECT * FROM tasker.task_namespaces y WHERE y.task_namespace_id = x.task_namespace_id OFFSET 0) ns"
    " LEFT JOIN tasker.metric_totals h ON h.task_namespace_id = x.task_namespace_id AND h.name = x.name"
    " ORDER BY ns.name, x.name",
    0, {}};

constinit pg::Query select_durations{
    "SELECT ns.name::text, h.subject, h.successes, h.total_ms, b.bucket, b.number"
    " FROM tasker.task_namespaces ns"
    " LEFT JOIN LATERAL (SELECT m.subject, sum(m.successes)::bigint AS successes, sum(m.total_ms) AS total_ms FROM tasker.metric_totals m"
    "   WHERE m.task_namespace_id = ns.task_namespace_id AND m.subject IN ('attempts', 'complete') GROUP BY m.subject) h ON true"
    " LEFT JOIN LATERAL (SELECT u.bucket, sum(u.number)::bigint AS number FROM tasker.metric_totals m CROSS JOIN LATERAL unnest(m.buckets, m.counts) AS u(bucket, number)"
    "   WHERE m.task_namespace_id = ns.task_namespace_id AND m.subject = h.subject GROUP BY u.bucket) b ON true"
    " WHERE EXISTS (SELECT FROM tasker.named_tasks n WHERE n.task_namespace_id = ns.task_namespace_id)"
    " ORDER BY ns.name, h.subject",
    0, {}};

using TotalKey = std::tuple<int, std::string, std::string>;  // namespace, name, subject
struct Total {
  std::int64_t number = 0, successes = 0, retries = 0;
  double total_ms = 0;
  std::map<int, std::int64_t> buckets;
};
using Totals = std::map<TotalKey, Total>;

std::map<int, std::pair<int, std::string>> names_of(const std::map<HistoryKey, HistoryEntry> &counts) {
  pg::ArrayBuilder ids(INT4OID);
  int last = 0;
  for (const auto &[key, _] : counts)
    if (key.named_task_id != std::exchange(last, key.named_task_id)) ids.int4(key.named_task_id);
  const pg::Result found = pg::execute(select_names, pg::Params().datum(ids.datum()), pg::Access::kRead);
  std::map<int, std::pair<int, std::string>> out;
  for (std::uint64_t i = 0; i < found.rows.size(); i++) out[found.rows.int4(i, 1)] = {found.rows.int4(i, 2), found.rows.text(i, 3)};
  return out;
}

Totals totals_of(const std::map<HistoryKey, HistoryEntry> &counts) {
  const auto names = names_of(counts);
  Totals out;
  for (const auto &[key, entry] : counts) {
    const auto found = names.find(key.named_task_id);
    if (found == names.end()) continue;
    const bool attempts = key.step_no != 0;
    Total &total = out[{found->second.first, found->second.second, attempts ? kAttempts : core::to_string(static_cast<core::TaskState>(key.attempt))}];
    total.number += entry.attempts;
    total.successes += entry.successes;
    if (attempts && key.attempt > 1) total.retries += entry.attempts;
    total.total_ms += entry.total_ms;
    for (int i = 0; i < core::kDurationBuckets; i++)
      if (entry.durations[i] != 0) total.buckets[i] += entry.durations[i];
  }
  return out;
}

}  // namespace

void add_to_totals(const std::map<HistoryKey, HistoryEntry> &counts) {
  if (counts.empty()) return;
  const Totals totals = totals_of(counts);
  if (totals.empty()) return;
  pg::ArrayBuilder ns(INT4OID), name(TEXTOID), subject(TEXTOID), number(INT8OID), successes(INT8OID), retries(INT8OID), total_ms(FLOAT8OID), buckets(TEXTOID), in_bucket(TEXTOID);
  for (const auto &[key, total] : totals) {  // in the order of the key, as every writer: none waits for one that waits for it
    ns.int4(std::get<0>(key));
    name.text(std::get<1>(key));
    subject.text(std::get<2>(key));
    number.int8(total.number);
    successes.int8(total.successes);
    retries.int8(total.retries);
    total_ms.float8(total.total_ms);
    std::string list, numbers;
    for (const auto &[bucket, times] : total.buckets) {
      list += (list.empty() ? "" : ",") + std::to_string(bucket);
      numbers += (numbers.empty() ? "" : ",") + std::to_string(times);
    }
    buckets.text("{" + list + "}");
    in_bucket.text("{" + numbers + "}");
  }
  pg::Params params;
  params.datum(ns.datum()).datum(name.datum()).datum(subject.datum()).datum(number.datum()).datum(successes.datum()).datum(retries.datum()).datum(total_ms.datum());
  params.datum(buckets.datum()).datum(in_bucket.datum());
  pg::execute(upsert, params);
  ForceSyncCommit();  // what readers see once, no crash may take back, whatever synchronous_commit says
}

std::vector<MetricTotals> load_metric_totals() {
  const pg::Result found = pg::execute(select_totals, {}, pg::Access::kRead);
  const pg::Rows &r = found.rows;
  std::vector<MetricTotals> out;
  for (std::uint64_t i = 0; i < r.size(); i++) {
    const std::string ns = r.text(i, 1), name = r.text(i, 2);
    if (out.empty() || out.back().ns != ns || out.back().name != name) out.push_back({ns, name, 0, 0, 0, {}});
    if (r.is_null(i, 3)) continue;
    MetricTotals &total = out.back();
    if (const std::string subject = r.text(i, 3); subject == kAttempts) {
      total.attempts = r.int8(i, 4);
      total.successes = r.int8(i, 5);
      total.retries = r.int8(i, 6);
    } else if (const auto state = core::parse_task_state(subject)) {
      total.tasks[*state] = r.int8(i, 4);
    }
  }
  return out;
}

std::vector<DurationTotals> load_duration_totals() {
  const pg::Result found = pg::execute(select_durations, {}, pg::Access::kRead);
  const pg::Rows &r = found.rows;
  std::vector<DurationTotals> out;
  for (std::uint64_t i = 0; i < r.size(); i++) {
    if (const std::string ns = r.text(i, 1); out.empty() || out.back().ns != ns) out.push_back({ns, {}, {}});
    if (r.is_null(i, 2)) continue;
    core::Durations &to = r.text(i, 2) == kAttempts ? out.back().steps : out.back().tasks;
    to.count = r.int8(i, 3);
    to.total_ms = r.float8(i, 4);
    if (!r.is_null(i, 5)) to.add(r.int4(i, 5), r.int8(i, 6));
  }
  return out;
}

}  // namespace tasker::store
