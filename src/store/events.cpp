#include "store/events.hpp"

#include <algorithm>
#include <compare>
#include <map>
#include <set>
#include <string_view>

#include "core/events.hpp"
#include "store/hints.hpp"
#include "store/shapes.hpp"
#include "store/trace_rooms.hpp"

extern "C" {
#include "utils/inval.h"
#include "utils/syscache.h"
}

namespace tasker::store {

namespace {

inline constexpr std::size_t kMostRemembered = 10'000;

// Who is told of an event depends on these alone.
struct Question {
  Audience audience;
  std::string event;
  friend auto operator<=>(const Question &, const Question &) = default;
};
struct Target {
  std::int64_t subscription_id;
  bool traces;
};
struct CustomEvent {
  int step_no;
  std::string name, condition;
};

struct Known {
  std::uint64_t generation = 0;
  bool lasting = false;  // others see the same, and will until the generation is raised
  std::vector<std::int64_t> subscriptions;
  std::vector<std::string> patterns;
  std::vector<int> deliveries;  // definitions
  std::map<Question, std::vector<Target>> targets;
  std::map<int, std::vector<CustomEvent>> custom;  // by definition
};
constinit Known *known = nullptr;  // lives as long as the process
constinit bool roles_moved = false;

constinit pg::Query select_subscriptions{"SELECT s.subscription_id, s.events, s.named_task_id FROM tasker.event_subscription_rows s", 0, {}};

// A subscriber is told of tasks that its owner may see.
constinit pg::Query select_targets{
    "SELECT x.subscription_id, x.kind = 'traces' FROM (SELECT n.name, ns.name AS namespace FROM tasker.named_tasks n JOIN tasker.task_namespaces ns USING (task_namespace_id)"
    "   WHERE n.named_task_id = $2) d CROSS JOIN tasker.event_subscription_rows x"
    " WHERE x.subscription_id = ANY ($5) AND d.namespace <> $6 AND (x.namespace IS NULL OR x.namespace = d.namespace) AND (x.name IS NULL OR x.name = d.name)"
    " AND EXISTS (SELECT FROM unnest(x.events) AS f(pattern) WHERE f.pattern = $1 OR right(f.pattern, 1) = '*' AND starts_with($1, left(f.pattern, -1)))"
    " AND (pg_has_role(x.owner::oid, $3, 'USAGE') OR pg_has_role(x.owner::oid, $4, 'USAGE')"
    "   OR EXISTS (SELECT FROM tasker.access_grants g WHERE g.level IN ('monitor', 'operator', 'admin') AND pg_has_role(x.owner::oid, g.role::oid, 'USAGE')))"
    " ORDER BY x.subscription_id",
    6, {TEXTOID, INT4OID, OIDOID, OIDOID, INT8ARRAYOID, TEXTOID}};
constinit pg::Query select_custom{
    "SELECT d.step_no, v.event ->> 'name', v.event ->> 'condition' FROM tasker.named_steps d CROSS JOIN LATERAL jsonb_array_elements(d.events) AS v(event)"
    " WHERE d.named_task_id = $1 AND NOT starts_with(v.event ->> 'name', 'task.') AND NOT starts_with(v.event ->> 'name', 'step.') ORDER BY d.step_no, v.event ->> 'name'",
    1, {INT4OID}};
// A custom event has the result of the attempt that publishes it.
constinit pg::Query select_result{
    "SELECT CASE WHEN octet_length(y.result::text) <= 65536 THEN y.result END FROM tasker.workflow_steps y WHERE y.task_id = $1 AND y.step_no = $2 AND y.element = $3", 3,
    {INT8OID, INT4OID, INT4OID}};

extern "C" void note_roles_moved(Datum, int, uint32) { roles_moved = true; }

Known &list() {
  if (known == nullptr) {
    known = new Known;
    CacheRegisterSyscacheCallback(AUTHMEMMEMROLE, note_roles_moved, Datum(0));
    CacheRegisterSyscacheCallback(AUTHOID, note_roles_moved, Datum(0));
  }
  return *known;
}

void refresh() {
  Known &k = list();
  // The generation first: what is committed with it is in the snapshot taken after it.
  const std::uint64_t generation = pause_generation();
  if (roles_moved || k.targets.size() > kMostRemembered || k.custom.size() > kMostRemembered) k.lasting = false;
  roles_moved = false;
  if (k.lasting && k.generation == generation && !pauses_changed_here()) return;
  k.lasting = false;
  k.subscriptions.clear();
  k.patterns.clear();
  k.deliveries.clear();
  k.targets.clear();
  k.custom.clear();
  const pg::Result found = pg::execute(select_subscriptions);
  for (std::uint64_t i = 0; i < found.rows.size(); i++) {
    k.subscriptions.push_back(found.rows.int8(i, 1));
    for (std::string &pattern : found.rows.texts(i, 2)) k.patterns.push_back(std::move(pattern));
    if (!found.rows.is_null(i, 3)) k.deliveries.push_back(found.rows.int4(i, 3));
  }
  k.generation = generation;
  // An old snapshot, or changes of this very transaction, say nothing about the next one.
  k.lasting = generation != 0 && !IsolationUsesXactSnapshot() && !pauses_changed_here();
}

bool concerns_anybody(const char *event) {
  const std::string_view name = event;
  const bool ends_attempt = name == "step.completed" || name == "step.failed";
  return std::any_of(list().patterns.begin(), list().patterns.end(), [&](const std::string &pattern) {
    return core::event_matches(pattern, name) || (ends_attempt && core::names_custom_events(pattern));
  });
}

void wake_dispatcher() { add_hint({{0, 0, -1}, 0, kEventsHint, 0, InvalidOid, HintKind::kSchedules}); }

const std::vector<Target> &targets_of(const Audience &audience, const std::string &event) {
  Known &k = list();
  Question question{audience, event};
  if (const auto found = k.targets.find(question); found != k.targets.end()) return found->second;
  pg::ArrayBuilder subscriptions(INT8OID);
  for (const std::int64_t id : k.subscriptions) subscriptions.int8(id);
  const pg::Result found = pg::execute(select_targets, pg::Params().text(event).int4(audience.definition).oid(audience.owner).oid(audience.created_by)
                                                           .datum(subscriptions.datum()).text(kDeliveryNamespace));
  std::vector<Target> out;
  for (std::uint64_t i = 0; i < found.rows.size(); i++) out.push_back({found.rows.int8(i, 1), found.rows.boolean(i, 2)});
  return k.targets.emplace(std::move(question), std::move(out)).first->second;
}

const std::vector<CustomEvent> &custom_events_of(int definition) {
  Known &k = list();
  if (const auto found = k.custom.find(definition); found != k.custom.end()) return found->second;
  const pg::Result found = pg::execute(select_custom, pg::Params().int4(definition));
  std::vector<CustomEvent> out;
  for (std::uint64_t i = 0; i < found.rows.size(); i++) out.push_back({found.rows.int4(i, 1), found.rows.text(i, 2), found.rows.text(i, 3)});
  return k.custom.emplace(definition, std::move(out)).first->second;
}

void look_up_audiences(std::vector<Occurrence> &told) {
  if (std::all_of(told.begin(), told.end(), [](const Occurrence &one) { return one.audience.definition != 0; })) return;
  pg::Table tasks(tasks_table, pg::Table::Use::kRead);
  std::map<std::int64_t, Audience> found;
  for (Occurrence &one : told) {
    if (one.audience.definition != 0) continue;
    const auto [place, fresh] = found.try_emplace(one.key.task_id);
    if (fresh) {
      using namespace task_column;
      if (const pg::TableRow row = find_task(tasks, one.key.task_id))
        place->second = {DatumGetInt32(row.values[kNamedTaskId]), DatumGetObjectId(row.values[kOwner]), DatumGetObjectId(row.values[kCreatedBy])};
    }
    one.audience = place->second;
  }
}

// Rows of the outbox to be written, in order.
class Records {
 public:
  // `result`: a jsonb, or null.
  void add(const Occurrence &one, const std::string &event, std::optional<Datum> result) {
    for (const Target &target : targets_of(one.audience, event)) {
      if (target.traces && !take_trace_place(target.subscription_id, list().subscriptions)) {
        wakes_ = note_dropped_trace(target.subscription_id) || wakes_;
        continue;
      }
      records_.push_back({one.key, one.sort_key, event, target.subscription_id, one.at, result});
    }
  }
  // true: the dispatcher has something to do.
  bool write() {
    if (records_.empty()) return wakes_;
    std::vector<std::int64_t> ids(records_.size());
    pg::next_values("event_outbox_event_id_seq", ids.data(), static_cast<int>(ids.size()));
    pg::TableRows rows;
    for (std::size_t i = 0; i < records_.size(); i++) {
      const Record &r = records_[i];
      rows.add({Int64GetDatum(r.key.task_id), Int32GetDatum(r.key.step_no), Int32GetDatum(r.key.element), Int32GetDatum(r.sort_key), pg::text_datum(r.event),
                Int64GetDatum(r.subscription_id), Int64GetDatum(ids[i]), TimestampTzGetDatum(r.at)});
      rows.add_null();
      if (r.result) rows.add({*r.result});
      else rows.add_null();
    }
    pg::Table(outbox_table, pg::Table::Use::kWrite).insert(rows);
    return true;
  }

 private:
  struct Record {
    StepKey key;
    int sort_key;
    std::string event;
    std::int64_t subscription_id;
    TimestampTz at;
    std::optional<Datum> result;
  };
  std::vector<Record> records_;
  bool wakes_ = false;
};

void add_custom_events(const Occurrence &one, Records &records) {
  const bool completed = std::string_view(one.event) == "step.completed";
  if (!completed && std::string_view(one.event) != "step.failed") return;
  std::set<std::string> names;
  for (const CustomEvent &custom : custom_events_of(one.audience.definition))
    if (custom.step_no == one.key.step_no && (custom.condition == "always" || custom.condition == (completed ? "success" : "failure"))) names.insert(custom.name);
  for (const std::string &name : names) {
    if (targets_of(one.audience, name).empty()) continue;
    std::optional<Datum> result;
    if (completed) {
      const pg::Result found = pg::execute(select_result, pg::Params().int8(one.key.task_id).int4(one.key.step_no).int4(one.key.element));
      if (!found.rows.empty() && !found.rows.is_null(0, 1)) {
        const Datum value = found.rows.datum(0, 1);
        result = pg::call([=] { return PointerGetDatum(PG_DETOAST_DATUM_COPY(value)); });
      }
    }
    records.add(one, name, result);
  }
}

}  // namespace

bool events_wanted() {
  refresh();
  return !list().subscriptions.empty();
}

void record_events(const std::vector<Occurrence> &happened) {
  std::vector<Occurrence> told;
  std::copy_if(happened.begin(), happened.end(), std::back_inserter(told), [](const Occurrence &one) { return concerns_anybody(one.event); });
  if (told.empty()) return;
  std::stable_sort(told.begin(), told.end(), [](const Occurrence &a, const Occurrence &b) { return a.at < b.at; });
  look_up_audiences(told);
  Records records;
  for (const Occurrence &one : told) {
    if (one.audience.definition == 0) continue;
    records.add(one, one.event, std::nullopt);
    if (one.key.step_no > 0) add_custom_events(one, records);
  }
  if (records.write()) wake_dispatcher();
}

void record_step_events(const std::vector<StepMove> &moves) {
  std::vector<Occurrence> happened;
  for (const StepMove &move : moves) {
    core::StepState state = move.from;
    int number = move.expected_moves;
    for (const auto &hop : move.hops) {
      happened.push_back({move.key, ++number * 10, core::event_of(state, hop.to), hop.at});
      state = hop.to;
    }
  }
  record_events(happened);
}

void note_delivery_end(int named_task_id) {
  const std::vector<int> &deliveries = list().deliveries;
  if (std::find(deliveries.begin(), deliveries.end(), named_task_id) != deliveries.end()) wake_dispatcher();
}

void note_subscriptions_changed() {
  note_pauses_changed();
  wake_dispatcher();
}

}  // namespace tasker::store
