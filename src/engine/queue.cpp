#include "engine/queue.hpp"

#include <algorithm>

#include "engine/control.hpp"
#include "pg/security.hpp"

extern "C" {
#include "commands/async.h"
}

namespace tasker::engine {

namespace {

inline constexpr int kLockTimeoutMs = 100;

constinit pg::Query works_on{
    "SELECT 1 FROM tasker.access_grants g WHERE (g.level = 'admin' OR g.level = 'worker' AND g.queue IN ($2, '')) AND pg_has_role($1, g.role::oid, 'USAGE') LIMIT 1", 2,
    {OIDOID, TEXTOID}};

// Equal ones of a transaction are sent once. No payload: whoever listens asks for steps.
void notify(const std::string &queue) {
  const std::string channel = "tasker_queue_" + queue;
  const char *name = channel.c_str();
  if (channel.size() < NAMEDATALEN) pg::call([=] { Async_Notify(name, ""); });
}

}  // namespace

void offer_steps(const std::vector<Offer> &offers) {
  if (offers.empty()) return;
  pg::OwnerScope as_owner(store::cached_extension_owner(), kLockTimeoutMs);
  pg::Spi spi;
  std::vector<store::QueueItem> items;
  std::vector<std::string> queues;
  for (const Offer &offer : offers) {
    items.push_back({offer.key, offer.queue, -offer.priority, offer.system});
    if (std::find(queues.begin(), queues.end(), offer.queue) == queues.end()) queues.push_back(offer.queue);
  }
  store::insert_items(items);
  for (const std::string &queue : queues) notify(queue);
}

void take_back(Batch &batch, const store::LoadedStep &loaded, const store::CompiledStep &step, store::TimerKind why) {
  const store::StepKey &key = loaded.step.key;
  const bool lease = why == store::TimerKind::kLease;
  {
    pg::OwnerScope as_owner(store::cached_extension_owner(), kLockTimeoutMs);
    pg::Spi spi;
    if (!lease) store::drop_lease(key);
    else if (!store::drop_expired_lease(key)) return;
  }
  const int limit = loaded.step.max_attempts.value_or(step.max_attempts);
  if (lease && step.retryable && loaded.step.attempts < limit) {
    batch.return_outside(key, loaded.step.moves, true, "\"cause\": \"lease_expired\"");
    return;
  }
  const pg::Caught late{"57014", lease ? "the lease of the worker ended before the step did" : "the step was not completed within its timeout", {},
                        lease ? "Claim with a longer lease, or extend it while the work goes on." : "Raise timeout_seconds of the step.", {}};
  batch.end_outside(key, loaded.step.moves, {.result = 0, .error = late, .category = "timeout", .may_retry = true, .metadata = {}});
}

bool may_work_on(Oid role, const std::string &queue) {
  return pg::is_superuser(role) || pg::has_privileges_of(role, store::cached_extension_owner()) || !pg::execute(works_on, pg::Params().oid(role).text(queue)).rows.empty();
}

}  // namespace tasker::engine
