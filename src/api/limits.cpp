// set_step_limit, and what the view step_limits asks of memory.
#include <algorithm>
#include <cmath>

#include "engine/control.hpp"
#include "pg/args.hpp"
#include "pg/security.hpp"
#include "store/limit_figures.hpp"
#include "store/limits.hpp"

using namespace tasker;

namespace {

inline constexpr int kMaxRunning = 1'000'000;
inline constexpr std::size_t kMaxKey = 1000;

[[noreturn]] void refuse(const std::string &problem, const std::string &hint = {}) { throw tasker::Error(sqlstate::kInvalidParameter, problem, {}, hint); }

// Nothing: no limit.
std::optional<core::LimitRule> read_rule(const pg::Args &args, int max_running, int per_second, int burst) {
  core::LimitRule rule;
  if (!args.is_null(max_running)) {
    rule.max_running = args.int4(max_running, "max_running");
    if (*rule.max_running < 0 || *rule.max_running > kMaxRunning) refuse("max_running must be from 0 to " + std::to_string(kMaxRunning), "0 lets none of these steps begin.");
  }
  if (args.is_null(per_second)) {
    if (!args.is_null(burst)) refuse("a burst needs per_second", "burst is how many may begin at a time, within the rate.");
    if (!rule.max_running) return std::nullopt;
    return rule;
  }
  rule.per_second = DatumGetFloat8(args.datum(per_second, "per_second"));
  if (!(rule.per_second >= core::kMinRate && rule.per_second <= core::kMaxRate))
    refuse("per_second must be from 0.000001 to 1000000", "One a minute is 1/60.0; max_running => 0 lets none of these steps begin.");
  rule.burst = args.is_null(burst) ? static_cast<int>(std::ceil(std::max(1.0, rule.per_second))) : args.int4(burst, "burst");
  if (rule.burst < 1 || rule.burst > core::kMaxBurst) refuse("burst must be from 1 to " + std::to_string(core::kMaxBurst), "1: they begin evenly.");
  return rule;
}

std::string name_of(const pg::Args &args) {
  return args.text(0, "namespace") + "." + args.text_or_null(1).value_or("") + (args.is_null(2) ? "" : "." + *args.text_or_null(2));
}

store::LimitScope read_scope(const pg::Args &args) {
  store::LimitScope scope;
  const std::string ns = args.text(0, "namespace");
  scope.name = args.text_or_null(1);
  scope.step_name = args.text_or_null(2);
  scope.key = args.text_or_null(3);
  if (scope.step_name && !scope.name) refuse("a step_name needs a name", "Pass name => the definition that has the step.");
  if (scope.key) {
    const auto path = core::pointer_path(*scope.key);
    if (!path || scope.key->size() > kMaxKey)
      refuse("key must be a JSON Pointer into the context, of at most " + std::to_string(kMaxKey) + " bytes", "For example '/customer_id'; ~1 stands for a slash, ~0 for a tilde.");
    scope.key_path = *path;
  }
  const std::optional<int> id = store::find_namespace(ns);
  if (!id) throw tasker::Error(sqlstate::kNoData, "namespace " + ns + " does not exist");
  scope.namespace_id = *id;
  return scope;
}

// Only what exists is limited: a name with a slip would hold nothing.
void check_subject(const pg::Args &args, const store::LimitScope &scope) {
  if (!scope.name) return;
  if (!scope.step_name) {
    if (store::definitions_in(scope.namespace_id, scope.name).empty())
      throw tasker::Error(sqlstate::kNoData, "definition " + name_of(args) + " does not exist", {}, "tasker.named_task_list shows those there are.");
    return;
  }
  const std::vector<std::string> types = store::step_types(scope);
  if (types.empty()) throw tasker::Error(sqlstate::kNoData, "step " + name_of(args) + " does not exist", {}, "tasker.task_definition shows the steps of a definition.");
  for (const std::string &type : types)
    if (type == "sql" || type == "http") return;
  refuse("step " + name_of(args) + " is of type " + types.front() + ", which takes no limit",
         types.front() == "external" ? "tasker.set_queue_limit limits how many steps of a queue are claimed at once." : "Steps of types sql and http do.");
}

}  // namespace

TASKER_SQL_FUNCTION(tasker_set_step_limit) {
  return pg::entry([&]() -> Datum {
    const pg::Args args(fcinfo);
    (void)args.text(0, "namespace");
    const std::optional<core::LimitRule> rule = read_rule(args, 4, 5, 6);
    const Oid caller = GetUserId(), session = GetSessionUserId();
    pg::Spi spi;
    pg::OwnerScope as_owner(store::cached_extension_owner());
    if (!engine::has_level(caller, "operator"))
      throw tasker::Error(sqlstate::kInsufficientPrivilege, "permission denied to limit steps", {}, "Operators and admins may.");
    const store::LimitScope scope = read_scope(args);
    if (!rule) return BoolGetDatum(store::remove_limit(scope));  // of what does not exist any more, too
    check_subject(args, scope);
    return BoolGetDatum(store::set_limit(scope, *rule, session));
  });
}

TASKER_SQL_FUNCTION(tasker_step_limit_figures) {
  return pg::entry([&]() -> Datum {
    const int limit_id = pg::Args(fcinfo).int4(0, "limit_id");
    pg::RowSet rows(fcinfo);
    if (store::shared == nullptr) return Datum(0);
    std::int64_t running = 0, waiting = 0;
    std::optional<core::GroupFigures> plain;
    if (store::any_limit_figures()) {
      for (const core::GroupFigures &each : store::published_limits()) {
        if (each.id.limit != limit_id) continue;
        running += each.running;
        waiting += each.waiting;
        if (each.id.key == 0) plain = each;
      }
    }
    rows.int8(running).int8(waiting);
    if (plain) rows.datum(Float8GetDatum(plain->tokens)).datum(TimestampTzGetDatum(plain->as_of));
    else rows.null().null();
    rows.end_row();
    return Datum(0);
  });
}
