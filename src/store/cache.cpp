#include "store/cache.hpp"

#include <algorithm>
#include <cstdlib>
#include <functional>
#include <memory>
#include <new>
#include <tuple>

#include "pg/security.hpp"
#include "store/settings.hpp"
#include "store/shared_state.hpp"

namespace tasker::store {

namespace {

inline constexpr int kSharedEntries = 128, kSharedBlocks = 1024;  // 4 MB of answers for the server
inline constexpr int kOwnEntries = 32, kOwnBlocks = 128;          // 512 kB, touched as it is used
inline constexpr int kBuckets = 16;
// One who leaves wakes those that wait; this is for one who could not.
inline constexpr long kLookMilliseconds = 5000;
// Two sessions could each hold what the other one waits for, and nobody would notice: then each works for itself.
inline constexpr std::int64_t kLongestWait = 30 * USECS_PER_SEC;

struct CacheArea {
  ConditionVariable done[kBuckets];  // by question: an answer was published, or given up
};

constinit CacheArea *area = nullptr;         // null without the preload
constinit core::CacheTable *table = nullptr;  // behind it, or of this process alone
constinit LWLock *lock = nullptr;

std::size_t area_size() { return MAXALIGN(sizeof(CacheArea)); }
std::size_t shared_size() { return area_size() + core::CacheTable::size(kSharedEntries, kSharedBlocks); }

// Of this process alone it needs none.
class TableGuard {
 public:
  TableGuard() {
    if (lock != nullptr) LWLockAcquire(lock, LW_EXCLUSIVE);
  }
  ~TableGuard() {
    if (lock != nullptr) LWLockRelease(lock);
  }
  TableGuard(const TableGuard &) = delete;
  TableGuard &operator=(const TableGuard &) = delete;
};

core::CacheTable &the_table() {
  if (table != nullptr) return *table;
  // Not cleared: pages that are never written cost nothing.
  void *memory = std::malloc(core::CacheTable::size(kOwnEntries, kOwnBlocks));
  if (memory == nullptr) throw std::bad_alloc();
  table = core::CacheTable::make(memory, kOwnEntries, kOwnBlocks);
  return *table;
}

ConditionVariable *bucket_of(const CacheQuestion &question) {
  return &area->done[std::hash<std::string>()(question.arguments) % kBuckets];
}

void wake_all() {
  for (ConditionVariable &bucket : area->done) ConditionVariableBroadcast(&bucket);
}

// A session that is terminated unwinds nothing.
extern "C" void give_up_at_exit(int, Datum) {
  if (area == nullptr) return;
  bool any = false;
  {
    const TableGuard guard;
    any = table->give_up_all(MyProcPid);
  }
  if (any) wake_all();
}

void watch_exit() {
  static constinit bool watching = false;
  if (watching || area == nullptr) return;
  pg::call([] { before_shmem_exit(give_up_at_exit, Datum(0)); });
  watching = true;
}

constinit bool clear_wanted = false;

// What the transaction changed is visible now. Nothing here can raise.
extern "C" void clear_at_end(XactEvent event, void *) {
  if (event != XACT_EVENT_COMMIT && event != XACT_EVENT_ABORT && event != XACT_EVENT_PREPARE) return;
  if (clear_wanted && event == XACT_EVENT_COMMIT) {
    {
      const TableGuard guard;
      (void)table->clear(MyDatabaseId, nullptr);
    }
    if (area != nullptr) wake_all();
  }
  clear_wanted = false;
}

bool is_gone(int pid) {
  return pg::call([=] { return BackendPidGetProc(pid) == nullptr; });
}

// Sleeps until something of the bucket is done; leaves on every path. Prepared before the table is looked at, so that no word is missed.
class Waiter {
 public:
  explicit Waiter(ConditionVariable *variable) : variable_(variable) {
    ConditionVariable *v = variable_;
    pg::call([=] { ConditionVariablePrepareToSleep(v); });
  }
  ~Waiter() { ConditionVariableCancelSleep(); }
  Waiter(const Waiter &) = delete;
  Waiter &operator=(const Waiter &) = delete;
  // False: it was long.
  bool sleep() {
    static constinit std::uint32_t event = 0;
    ConditionVariable *v = variable_;
    const std::uint32_t e = pg::wait_event(&event, "TaskerCache");
    return !pg::call([=] { return ConditionVariableTimedSleep(v, kLookMilliseconds, e); });
  }

 private:
  ConditionVariable *variable_;
};

const char *state_of(const core::CacheEntry &entry, TimestampTz now) {
  if (entry.turn != 0) return "computing";
  if (entry.has_answer(now)) return "fresh";
  return entry.unfit && now < entry.expires_at ? "unfit" : "expired";
}

}  // namespace

void request_cache_memory() {
  RequestAddinShmemSpace(shared_size());
  RequestNamedLWLockTranche("tasker_cache", 1);
}

// Caller holds AddinShmemInitLock.
void attach_cache_memory() {
  bool found = false;
  auto *memory = static_cast<char *>(ShmemInitStruct("tasker cache", shared_size(), &found));
  area = reinterpret_cast<CacheArea *>(memory);
  if (found) {
    table = reinterpret_cast<core::CacheTable *>(memory + area_size());
  } else {
    for (ConditionVariable &bucket : area->done) ConditionVariableInit(&bucket);
    table = core::CacheTable::make(memory + area_size(), kSharedEntries, kSharedBlocks);
  }
  lock = &GetNamedLWLockTranche("tasker_cache")[0].lock;
}

bool cache_is_shared() { return area != nullptr; }

bool cache_serves() {
  return settings.intelligent_cache && !IsolationUsesXactSnapshot() && !TransactionIdIsValid(GetTopTransactionIdIfAny()) && !IsInParallelMode();
}

core::CacheQuestion CacheTurn::key() const { return {MyDatabaseId, extension_, role_, question_.function, question_.arguments, question_.epoch}; }

CacheTurn::CacheTurn(const CacheQuestion &question) : question_(question), extension_(pg::extension_oid()), role_(GetUserId()) {
  core::CacheTable &cache = the_table();
  watch_exit();
  const std::unique_ptr<char[]> room(new char[core::kLongestAnswer]);  // nothing is allocated under the lock
  const TimestampTz begun = GetCurrentTimestamp();
  std::optional<Waiter> waiter;
  for (bool again = false;; again = true) {
    core::CacheReply reply;
    {
      const TableGuard guard;
      reply = cache.ask(key(), GetCurrentTimestamp(), MyProcPid, again, room.get());
    }
    if (reply.step == core::CacheStep::kAnswer) answer_ = CacheAnswer{std::string(room.get(), reply.length), reply.generated_at, reply.expires_at};
    if (reply.step == core::CacheStep::kTurn) turn_ = reply.turn;
    if (reply.step != core::CacheStep::kWait || GetCurrentTimestamp() - begun > kLongestWait) return;
    if (!waiter) {
      waiter.emplace(bucket_of(question_));
      continue;
    }
    if (waiter->sleep() || !is_gone(reply.worker)) continue;
    const TableGuard guard;
    cache.take_away(key(), reply.turn);
  }
}

CacheTurn::~CacheTurn() {
  if (turn_ == 0) return;
  {
    const TableGuard guard;
    (void)the_table().give_up(key(), turn_);
  }
  if (area != nullptr) ConditionVariableBroadcast(bucket_of(question_));
}

std::optional<TimestampTz> CacheTurn::publish(std::optional<std::string_view> text, TimestampTz begun) {
  if (turn_ == 0) return std::nullopt;
  const double seconds = static_cast<double>(GetCurrentTimestamp() - begun) / 1e6;
  core::Published published;
  {
    const TableGuard guard;
    published = the_table().publish(key(), turn_, text, begun, seconds);
  }
  turn_ = 0;
  if (area != nullptr) ConditionVariableBroadcast(bucket_of(question_));
  return published.kept ? std::optional(published.expires_at) : std::nullopt;
}

FreshSnapshot::FreshSnapshot() {
  pg::call([] { PushActiveSnapshot(GetLatestSnapshot()); });
}

FreshSnapshot::~FreshSnapshot() {
  if (std::uncaught_exceptions() == 0) PopActiveSnapshot();
}

std::vector<CacheRow> cache_rows() {
  const core::CacheTable &cache = the_table();
  const Oid extension = pg::extension_oid();
  const TimestampTz now = GetCurrentTimestamp();
  std::vector<core::CacheEntry> found;
  found.reserve(static_cast<std::size_t>(cache.entry_count()));  // nothing is allocated under the lock
  {
    const TableGuard guard;
    for (int i = 0; i < cache.entry_count(); i++)
      if (cache.entry(i).database == MyDatabaseId && cache.entry(i).extension == extension) found.push_back(cache.entry(i));
  }
  std::vector<CacheRow> out;
  for (const core::CacheEntry &entry : found) {
    CacheRow row{entry.function, entry.role, std::string(entry.asked()), state_of(entry, now), entry.use, entry.waited, entry.length, std::nullopt, std::nullopt};
    if (entry.expires_at != 0) {
      row.generated_at = entry.generated_at;
      row.expires_at = entry.expires_at;
    }
    out.push_back(std::move(row));
  }
  std::sort(out.begin(), out.end(),
            [](const CacheRow &a, const CacheRow &b) { return std::tie(a.function, a.arguments, a.role) < std::tie(b.function, b.arguments, b.role); });
  return out;
}

int clear_cache(const std::optional<core::CachedFunction> &function) {
  core::CacheTable &cache = the_table();
  int gone = 0;
  {
    const TableGuard guard;
    gone = cache.clear(MyDatabaseId, function ? &*function : nullptr);
  }
  // Those that wait for an answer from before.
  if (area != nullptr) wake_all();
  return gone;
}

void clear_cache_at_commit() {
  static constinit bool watching = false;
  if (!watching) pg::call([] { RegisterXactCallback(clear_at_end, nullptr); });
  watching = true;
  (void)the_table();
  clear_wanted = true;
}

void forget_cache(Oid database) noexcept {
  if (area == nullptr) return;
  const TableGuard guard;
  table->forget(database);
}

}  // namespace tasker::store
