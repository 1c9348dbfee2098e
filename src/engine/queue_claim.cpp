// Claims: the head of a queue, begun and leased in the caller's transaction.
#include <algorithm>
#include <set>

#include "engine/control.hpp"
#include "engine/queue.hpp"
#include "engine/settle.hpp"
#include "pg/fault.hpp"
#include "pg/memory.hpp"
#include "pg/security.hpp"
#include "pg/xact.hpp"
#include "store/breaker_rows.hpp"
#include "store/hints.hpp"
#include "store/home.hpp"
#include "store/pauses.hpp"

namespace tasker::engine {

namespace {

using store::QueueItem;
using store::QueuePosition;
using store::StepKey;

inline constexpr int kLockTimeoutMs = 100;
inline constexpr int kMaxPages = 20;        // of items that cannot be begun, before a claim gives up
inline constexpr int kTaskPage = 1000;      // without the preload: tasks looked at for ready steps,
inline constexpr int kMaxTaskPages = 20;    // and how often
inline constexpr int kMaxTakenBack = 100;

// A task that somebody is just starting or controlling is passed over at once.
constinit pg::Query lock_pending{
    "SELECT t.task_id FROM tasker.tasks t WHERE t.task_id = ANY ($1) FOR NO KEY UPDATE SKIP LOCKED", 1, {INT8ARRAYOID}};

bool contention(const pg::Caught &error) { return error.sqlstate == "55P03" || error.sqlstate == "40001" || error.sqlstate == "40P01"; }
[[noreturn]] void raise_again(const pg::Caught &error) { throw tasker::Error(error.sqlstate.c_str(), error.message, error.detail, error.hint); }

// A claim may become the probe of a half-open breaker; one that comes to nothing is none.
bool admits(int system, const StepKey &key) {
  if (store::shared != nullptr && store::breaker_admits(system, key)) return true;
  const auto row = store::load_breaker(system);
  return !row || store::session_admits(*row, key);
}

class Claim {
 public:
  Claim(const ClaimRequest &request, std::int64_t nonce, MemoryContext memory) : request_(request), nonce_(nonce), memory_(memory) {}

  std::vector<ClaimedStep> run(bool *limited) {
    if (store::shared == nullptr) stand_in_for_dispatcher();
    const std::optional<int> limit = read_limit();
    *limited = limit.has_value();
    if (limit) {
      if (*limit <= 0) return {};
      // The lock on the limit goes with the savepoint when nothing came of it.
      const auto failure = pg::in_savepoint([&] {
        const int room = locked_room();
        if (room > 0) claim(std::min(room, request_.max_steps));
        if (claimed_.empty()) throw tasker::Error("55P03", "nothing to claim");
      });
      if (failure && !contention(*failure)) raise_again(*failure);
      if (failure) claimed_.clear();
    } else {
      claim(request_.max_steps);
    }
    return std::move(claimed_);
  }

 private:
  // Room under the limit as it looks now, and only when something waits: nobody is held up for a look. Nothing: no limit.
  std::optional<int> read_limit() {
    pg::OwnerScope as_owner(store::cached_extension_owner());
    pg::Spi spi;
    const std::optional<int> limit = store::queue_limit(request_.queue, false);
    if (!limit) return limit;
    if (store::peek_items(request_.queue, store::queue_start(request_.queue), 1).empty()) return 0;
    return *limit - store::claimed_steps(request_.queue);
  }

  int locked_room() {
    pg::OwnerScope as_owner(store::cached_extension_owner(), kLockTimeoutMs);
    pg::Spi spi;
    const std::optional<int> limit = store::queue_limit(request_.queue, true);
    return limit ? *limit - store::claimed_steps(request_.queue) : request_.max_steps;
  }

  void claim(int wanted) {
    QueuePosition from = start();
    for (int page = 0; page < kMaxPages && static_cast<int>(claimed_.size()) < wanted; page++) {
      const int missing = wanted - static_cast<int>(claimed_.size());
      const std::size_t before = claimed_.size();
      std::vector<QueueItem> seen;
      const auto failure = pg::in_savepoint([&] { seen = claim_page(from, missing); });
      if (failure) {
        if (!contention(*failure)) raise_again(*failure);
        claimed_.resize(before);
        seen = claim_one_by_one(from, missing);
      }
      if (static_cast<int>(seen.size()) < missing) break;
      from = seen.back().position().next();
    }
    store::count_taken(request_.queue, static_cast<int>(claimed_.size()));
  }

  QueuePosition start() {
    pg::OwnerScope as_owner(store::cached_extension_owner());
    pg::Spi spi;
    return store::queue_start(request_.queue);
  }

  // The items that were there.
  std::vector<QueueItem> claim_page(const QueuePosition &from, int limit) {
    std::vector<QueueItem> items;
    {
      pg::OwnerScope as_owner(store::cached_extension_owner(), kLockTimeoutMs);
      pg::Spi spi;
      items = store::take_items(request_.queue, from, limit, refused_);
    }
    if (!items.empty()) begin(items);
    return items;
  }

  std::vector<QueueItem> claim_one_by_one(const QueuePosition &from, int limit) {
    std::vector<QueueItem> items;
    {
      pg::OwnerScope as_owner(store::cached_extension_owner());
      pg::Spi spi;
      items = store::peek_items(request_.queue, from, limit, refused_);
    }
    for (const QueueItem &item : items) {
      const std::size_t before = claimed_.size();
      const auto failure = pg::in_savepoint([&] {
        {
          pg::OwnerScope as_owner(store::cached_extension_owner(), kLockTimeoutMs);
          pg::Spi spi;
          if (!store::take_item(item.key)) return;
        }
        begin({item});
      });
      if (!failure) continue;
      if (!contention(*failure)) raise_again(*failure);
      claimed_.resize(before);
    }
    return items;
  }

  // Items that were taken: their steps begin, or go back to the queue, or are looked at again by the dispatcher, which
  // offers again what has only become ready later (a task that was paused).
  void begin(const std::vector<QueueItem> &items) {
    BatchOptions options;
    options.nonce = nonce_;
    options.outside = true;
    options.admits = admits;
    Batch batch(options, observer_, memory_);
    std::vector<store::StepAt> keys;
    for (const QueueItem &item : items) keys.emplace_back(item.key);
    batch.load(keys);
    std::set<StepKey> back(batch.refused().begin(), batch.refused().end()), begun;
    for (const QueueItem &item : items)
      if (back.contains(item.key) && item.system != 0 && !std::count(refused_.begin(), refused_.end(), item.system)) refused_.push_back(item.system);
    const std::set<std::int64_t> busy = busy_tasks(batch);
    std::vector<store::StepTimer> timers;
    const std::string metadata = "\"worker\": " + core::json(request_.worker).dump(-1, ' ', false, core::json::error_handler_t::replace);
    batch.begin_outside([&](Outcome &outcome, OutsideEnd &) {
      const store::CompiledStep &step = outcome.step();
      const StepKey &key = outcome.loaded.step.key;
      if (step.type != store::HandlerType::kExternal || step.queue != request_.queue) return Batch::Begin::kLeave;
      if (busy.contains(outcome.loaded.task.task_id)) {
        back.insert(key);
        return Batch::Begin::kLeave;
      }
      begun.insert(key);
      outcome.metadata = metadata;
      timers.push_back({key, store::TimerKind::kLease, outcome.started_at + request_.lease});
      if (step.timeout_seconds)
        timers.push_back({key, store::TimerKind::kTimeout, outcome.started_at + static_cast<TimestampTz>(*step.timeout_seconds * USECS_PER_SEC)});
      return Batch::Begin::kBegin;
    });
    batch.record();
    TASKER_FAULT("claim.after_record");
    pg::OwnerScope as_owner(store::cached_extension_owner(), kLockTimeoutMs);
    pg::Spi spi;
    lease(batch);
    store::set_step_timers(timers);
    put_back(items, back, begun);
  }

  // Of those that have not begun: they are locked here, so that this claim starts them, or left to whoever holds them.
  std::set<std::int64_t> busy_tasks(const Batch &batch) {
    std::set<std::int64_t> pending;
    for (const Outcome &outcome : batch.loaded())
      if (outcome.loaded.task.state == core::TaskState::kPending) pending.insert(outcome.loaded.task.task_id);
    if (pending.empty()) return pending;
    pg::OwnerScope as_owner(store::cached_extension_owner());
    pg::Spi spi;
    pg::ArrayBuilder ids(INT8OID);
    for (const std::int64_t id : pending) ids.int8(id);
    const pg::Result locked = pg::execute(lock_pending, pg::Params().datum(ids.datum()));
    for (std::uint64_t i = 0; i < locked.rows.size(); i++) pending.erase(locked.rows.int8(i, 1));
    return pending;
  }

  void lease(const Batch &batch) {
    if (batch.outcomes().empty()) return;
    store::LeaseTerms terms{request_.queue, request_.worker, GetSessionUserId(), batch.outcomes().front().started_at, 0};
    terms.until = terms.claimed_at + request_.lease;
    std::vector<store::NewLease> leases;
    for (const Outcome &outcome : batch.outcomes()) {
      const store::StepRow &row = outcome.loaded.step;
      leases.push_back({row.key, row.moves + (row.state == core::StepState::kError ? 2 : 1)});
    }
    const pg::ContextScope scope(memory_);
    const std::vector<Datum> tokens = store::insert_leases(leases, terms);
    for (std::size_t i = 0; i < tokens.size(); i++) {
      const Outcome &outcome = batch.outcomes()[i];
      ClaimedStep step;
      step.task_id = outcome.loaded.task.task_id;
      step.step_name = outcome.step().name;
      step.attempt = outcome.attempt();
      step.token = tokens[i];
      step.context = outcome.loaded.context;
      step.results = batch.results(outcome);
      step.config = outcome.step().handler;
      step.correlation_id = outcome.loaded.correlation_id;
      step.lease_until = terms.until;
      claimed_.push_back(std::move(step));
    }
  }

  void put_back(const std::vector<QueueItem> &items, const std::set<StepKey> &back, const std::set<StepKey> &begun) {
    std::vector<store::QueueItem> again;
    std::set<std::int64_t> look;
    for (const QueueItem &item : items) {
      if (back.contains(item.key)) again.push_back(item);
      else if (!begun.contains(item.key)) look.insert(item.key.task_id);
    }
    store::insert_items(again, store::Telling::kMarkOnly);
    for (const std::int64_t task_id : look) {
      store::Hint hint{};
      hint.kind = store::HintKind::kTask;
      hint.key = {task_id, 0, -1};
      store::add_hint(hint);
    }
  }

  // Without the preload nobody else moves steps: what is over by time is taken back here, and what is ready offered.
  void stand_in_for_dispatcher() {
    std::vector<StepKey> overdue;
    {
      pg::OwnerScope as_owner(store::cached_extension_owner());
      pg::Spi spi;
      overdue = store::overdue_leases(request_.queue, kMaxTakenBack);
    }
    for (const StepKey &key : overdue) {
      const auto failure = pg::in_savepoint([&] { take_back_here(key); });
      if (failure && !contention(*failure)) raise_again(*failure);
    }
    offer_here();
  }

  void take_back_here(const StepKey &key) {
    BatchOptions options;
    options.nonce = nonce_;
    options.outside = true;
    Batch batch(options, observer_, memory_);
    std::vector<store::LoadedStep> loaded;
    store::TimerKind why = store::TimerKind::kLease;
    {
      pg::OwnerScope as_owner(store::cached_extension_owner());
      pg::Spi spi;
      loaded = store::load_steps({key}, memory_);
      for (const store::StepTimer &timer : store::due_step_timers({key}, GetCurrentTimestamp()))
        if (timer.kind == store::TimerKind::kTimeout) why = timer.kind;
      if (loaded.empty() || !loaded.front().task.live || loaded.front().step.state != core::StepState::kInProgress) {
        store::drop_lease(key);
        return;
      }
    }
    store::DefinitionPtr definition;
    {
      pg::OwnerScope as_owner(store::cached_extension_owner());
      pg::Spi spi;
      definition = store::definition(loaded.front().task.named_task_id);
    }
    take_back(batch, loaded.front(), definition->step(key.step_no), why);
    batch.record();
    pg::OwnerScope as_owner(store::cached_extension_owner(), kLockTimeoutMs);
    pg::Spi spi;
    settle_task(key.task_id);
  }

  void offer_here() {
    std::vector<Offer> offers;
    {
      pg::OwnerScope as_owner(store::cached_extension_owner());
      pg::Spi spi;
      store::refresh_pauses();
      store::PagePosition position;
      for (int page = 0; page < kMaxTaskPages && static_cast<int>(offers.size()) < request_.max_steps; page++) {
        const std::vector<std::int64_t> tasks = store::runnable_page(nonce_, position, kTaskPage);
        for (const store::Hint &hint : store::ready_steps(tasks, nonce_)) {
          if (hint.kind != store::HintKind::kStep || !hint.outside) continue;
          const store::DefinitionPtr definition = store::definition(hint.named_task_id);
          const store::CompiledStep &step = definition->step(hint.key.step_no);
          if (step.type == store::HandlerType::kExternal && step.queue == request_.queue) offers.push_back({hint.key, step.queue, hint.priority, step.dependent_system_id});
        }
        if (static_cast<int>(tasks.size()) < kTaskPage) break;
      }
    }
    offer_steps(offers);
  }

  const ClaimRequest &request_;
  std::int64_t nonce_;
  MemoryContext memory_;
  NothingRuns observer_;
  std::vector<int> refused_;  // systems whose breaker let no step of theirs start: the rest of theirs is passed over
  std::vector<ClaimedStep> claimed_;
};

}  // namespace

std::vector<ClaimedStep> claim_steps(const ClaimRequest &request, MemoryContext memory, bool *limited) {
  if (running_task() != 0)
    throw tasker::Error(sqlstate::kObjectNotReady, "a step cannot claim steps", {}, "Workers are clients of the database; a step of a queue is for them.");
  const Oid caller = GetUserId();
  store::Home home;
  {
    pg::Spi spi;
    pg::OwnerScope as_owner(store::cached_extension_owner());
    if (!may_work_on(caller, request.queue))
      throw tasker::Error(sqlstate::kInsufficientPrivilege, "permission denied to claim steps of queue \"" + request.queue + "\"", {},
                          "An admin gives it with tasker.grant_access(role, 'worker', queue).");
    home = store::load_home_row();
  }
  if (home.held) throw tasker::Error(sqlstate::kObjectNotReady, "this database is held: " + home.reason, {}, "Call tasker.release_hold() when its tasks may run here.");
  // Those within find the path pinned.
  const pg::OwnerScope as_owner(store::cached_extension_owner());
  return Claim(request, home.nonce, memory).run(limited);
}

}  // namespace tasker::engine
