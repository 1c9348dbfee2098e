#include "engine/retention.hpp"

#include "engine/control.hpp"
#include "pg/security.hpp"
#include "store/definitions.hpp"
#include "store/hints.hpp"
#include "store/retention.hpp"

namespace tasker::engine {

namespace {

// Two who remove at the same time would take summary lines in different orders.
constinit pg::Query lock_summaries{"LOCK TABLE tasker.task_summaries IN SHARE UPDATE EXCLUSIVE MODE", 0, {}};

// A look at the clock and at interrupts now and then; a page is read anew after each stop.
inline constexpr std::int64_t kBudget = 200'000;

void require_admin(Oid caller) {
  if (!has_level(caller, "admin")) throw tasker::Error(sqlstate::kInsufficientPrivilege, "permission denied to decide how long tasks are kept");
}

int namespace_of(const std::string &ns) {
  const std::optional<int> id = store::find_namespace(ns);
  if (!id) throw tasker::Error(sqlstate::kNoData, "namespace " + ns + " does not exist", {}, "tasker.named_task_list shows those there are.");
  return *id;
}

core::RetentionRules rules_of(const Removal &wanted) {
  core::RetentionRules rules;
  if (!wanted.older_than) rules = store::load_retention_rules();
  else rules.fallback = *wanted.older_than;
  if (!wanted.ns) return rules;
  const int id = namespace_of(*wanted.ns);
  core::RetentionRules one;
  one.by_namespace[id] = rules.of(id);
  return one;
}

}  // namespace

bool set_retention(const std::string &ns, std::optional<std::int64_t> keep) {
  const Oid caller = GetUserId(), session = GetSessionUserId();
  pg::Spi spi;
  pg::OwnerScope as_owner(store::cached_extension_owner());
  require_admin(caller);
  const bool changed = store::set_retention_rule(namespace_of(ns), keep, session);
  if (changed) store::request_sweep();  // the dispatcher reads the rules again
  return changed;
}

std::int64_t remove_finished(const Removal &wanted) {
  const Oid caller = GetUserId();
  pg::Spi spi;
  pg::OwnerScope as_owner(store::cached_extension_owner());
  require_admin(caller);
  if (IsolationUsesXactSnapshot())
    throw tasker::Error("0A000", "finished tasks are not removed under an isolation level with one snapshot for all", "What was written about them since would not be seen.",
                        "Call remove_finished_tasks under READ COMMITTED.");
  pg::execute(lock_summaries);
  const core::RetentionRules rules = rules_of(wanted);
  const TimestampTz now = GetCurrentTimestamp();
  std::int64_t removed = 0;
  if (rules.shortest() < 0) return 0;
  core::WalkStep step;
  while (!step.at_end && step.young.empty() && removed < wanted.max_tasks) {
    pg::check_interrupts();
    step = store::walk_tasks(step.position, rules, now, wanted.max_tasks - removed, kBudget);
    removed += step.removed;
  }
  if (!wanted.older_than && !wanted.ns) store::trim_records(rules, now);
  return removed;
}

}  // namespace tasker::engine
