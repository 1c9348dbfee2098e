#include "worker/courier.hpp"

#include <algorithm>

#include "pg/fault.hpp"
#include "pg/security.hpp"
#include "pg/xact.hpp"
#include "store/definitions.hpp"
#include "store/facts.hpp"
#include "store/hints.hpp"
#include "store/settings.hpp"
#include "worker/loop.hpp"

namespace tasker::worker {

namespace {

using store::Hint;
using store::HintKind;
using store::StepKey;

inline constexpr int kTakeAtOnce = 256;
inline constexpr TimestampTz kIdleBeforeLeaving = 60 * USECS_PER_SEC;
constinit std::uint32_t wait_event = 0;
constinit store::CourierSlot *my_slot = nullptr;
constinit store::DatabaseSlot *my_database = nullptr;

extern "C" void courier_exit(int, Datum) {
  (void)store::courier_leaves(*my_slot, false);
  store::wake(my_database->dispatcher_proc);
}

}  // namespace

Courier::Courier(store::CourierSlot &slot, std::int64_t nonce)
    : slot_(slot), nonce_(nonce), memory_(TopMemoryContext, "tasker courier pass"), client_(sockets_, {.max_running = 10'000, .idle = std::chrono::seconds(30), .resolve = {}}),
      wait_set_(make_wait_set(sockets_.fd())) {}

void Courier::run() {
  recover();
  for (;;) {
    memory_.reset();
    const pg::ContextScope scope(memory_.get());
    if (store::look_at_courier(slot_).stop) return;
    TASKER_FAULT("courier.pass");
    collect();
    write();
    take();
    begin();
    const TimestampTz now = GetCurrentTimestamp();
    recheck(now);
    collect();  // what ended at once, or was aborted
    report();
    publish();
    pg::call([] { pgstat_report_stat(false); });
    if (leave(now)) return;
    wait_for_work(wait_set_, sleep_ms(GetCurrentTimestamp()), pg::wait_event(&wait_event, "TaskerCourierMain"));
    sockets_.dispatch(client_);
    if (const auto timeout = client_.timeout(); timeout && timeout->count() <= 0) client_.timed_out();
  }
}

// As much as tasker.ready_buffer allows; the rest stays where it is.
void Courier::take() {
  store::CourierEntry entries[kTakeAtOnce];
  while (waiting_ + unsorted_.size() < static_cast<std::size_t>(store::settings.ready_buffer)) {
    const int count = store::take_calls(slot_, entries, kTakeAtOnce);
    for (int i = 0; i < count; i++) {
      const auto [known, is_new] = known_.emplace(entries[i].key, false);
      if (is_new) unsorted_.push_back(entries[i]);
      else known->second = true;
    }
    if (count > 0) store::wake(my_database->dispatcher_proc);  // there is room again
    if (count < kTakeAtOnce) return;
  }
}

// Out of our hands: the dispatcher is told, and looks at the task again where there is a reason.
void Courier::let_go(const StepKey &key, bool look_again) {
  const auto known = known_.find(key);
  if (known != known_.end()) {
    look_again = look_again || known->second;
    known_.erase(known);
  }
  left_.push_back(key);
  if (!look_again) return;
  Hint hint{};
  hint.kind = HintKind::kTask;
  hint.key = {key.task_id, 0, -1};
  store::push_hints_now(&hint, 1);
}

// Looked at again in a second, without an attempt being counted.
void Courier::set_aside(const StepKey &key) {
  let_go(key, false);
  const Hint hint{key, GetCurrentTimestamp() + USECS_PER_SEC, 0, 0, InvalidOid, HintKind::kTimer, true};
  store::push_hints_now(&hint, 1);
}

void Courier::report() {
  bool any = false;
  while (!left_.empty()) {
    StepKey keys[kTakeAtOnce];
    const int count = static_cast<int>(std::min<std::size_t>(left_.size(), kTakeAtOnce));
    std::copy_n(left_.begin(), count, keys);
    const int reported = store::report_to_dispatcher(slot_, keys, count);
    any = any || reported > 0;
    left_.erase(left_.begin(), left_.begin() + reported);
    if (reported < count) break;  // it wakes us when it has made room
  }
  if (any) store::wake(my_database->dispatcher_proc);
}

void Courier::publish() {
  store::publish_calls(slot_, static_cast<int>(runs_.size()), static_cast<int>(waiting_ + unsorted_.size()));
}

bool Courier::leave(TimestampTz now) {
  if (!idle() || !unsorted_.empty()) {
    idle_since_ = 0;
    return false;
  }
  if (idle_since_ == 0) idle_since_ = now;
  // A rate is counted in this process: it stays until each server may be called again.
  for (auto &[_, lane] : lanes_) {
    lane.count_tokens(now);
    if (lane.rate && lane.tokens < 1) return false;
  }
  return now - idle_since_ > kIdleBeforeLeaving && store::courier_leaves(slot_, true);
}

long Courier::sleep_ms(TimestampTz now) const {
  TimestampTz until = DT_NOEND;
  if (!runs_.empty()) until = std::min(until, rechecked_at_ + (store::look_at_courier(slot_).rechecks == seen_rechecks_ ? kRecheckEvery : kRecheckPause));
  for (const Ended &ended : ended_) until = std::min(until, std::max(ended.not_before, now));
  if (waiting_ > 0 || !unsorted_.empty()) {
    const bool full = static_cast<int>(runs_.size()) >= store::settings.http_max_concurrency;
    TimestampTz begin_at = unsorted_.empty() ? DT_NOEND : now;
    for (const auto &[_, lane] : lanes_) {
      if (lane.steps.empty()) continue;
      begin_at = std::min(begin_at, lane.read_at + USECS_PER_SEC);
      if (!full && lane.running < lane.max_concurrency) begin_at = std::min(begin_at, lane.next_token());
    }
    until = std::min(until, begin_at);
  }
  if (idle_since_ != 0) until = std::min(until, idle_since_ + kIdleBeforeLeaving + USECS_PER_SEC);
  long ms = until == DT_NOEND ? -1 : std::max<long>(0, static_cast<long>((until - now + 999) / 1000));
  if (const auto timeout = client_.timeout()) ms = ms < 0 ? static_cast<long>(timeout->count()) : std::min(ms, static_cast<long>(timeout->count()));
  return ms;
}

namespace {

// The database's settings must not reach our bookkeeping.
void pin_session() {
  pg::Transaction transaction;
  pg::call([] {
    SetConfigOption("default_transaction_read_only", "off", PGC_USERSET, PGC_S_SESSION);
    SetConfigOption("default_transaction_deferrable", "off", PGC_USERSET, PGC_S_SESSION);
    SetConfigOption("lock_timeout", "0", PGC_USERSET, PGC_S_SESSION);
    SetConfigOption("statement_timeout", "0", PGC_USERSET, PGC_S_SESSION);
    if (pg::kHasTransactionTimeout) SetConfigOption("transaction_timeout", "0", PGC_USERSET, PGC_S_SESSION);
  });
  transaction.commit();
}

void courier_main(int index) {
  my_database = &store::database_slot(index);
  my_slot = &my_database->courier;
  // First, so that it runs last: whoever comes next finds no transaction of ours open.
  before_shmem_exit(courier_exit, Datum(0));
  begin_process(lock_timeouts_only);
  const Oid database = my_database->database;
  pg::call([=] { BackgroundWorkerInitializeConnectionByOid(database, InvalidOid, 0); });
  TASKER_FAULT("courier.start");
  if (my_database->stop || !store::courier_came(*my_slot)) return;
  pin_session();
  std::int64_t nonce;
  {
    pg::Transaction transaction;
    if (!OidIsValid(pg::extension_oid())) return;
    {
      pg::OwnerScope as_owner;
      pg::Spi spi;
      nonce = store::load_home(false).nonce;
    }
    transaction.commit();
  }
  store::wake(my_database->dispatcher_proc);
  pgstat_report_activity(STATE_IDLE, nullptr);
  Courier(*my_slot, nonce).run();
}

}  // namespace

}  // namespace tasker::worker

extern "C" TASKER_EXPORT void tasker_courier_main(Datum);
void tasker_courier_main(Datum argument) {
  using namespace tasker;
  pg::entry([=] { worker::courier_main(DatumGetInt32(argument)); });
  proc_exit(worker::kExitForGood);
}
