#include "store/shared_state.hpp"

#include <unistd.h>

#include <cstring>

#include "store/cache.hpp"
#include "store/limit_figures.hpp"
#include "store/settings.hpp"

namespace tasker::store {

constinit SharedState *shared = nullptr;

namespace {

constinit DatabaseSlot *databases = nullptr;
constinit ExecutorSlot *executors = nullptr;
constinit LWLockPadded *locks = nullptr;
constinit bool started_for_recovery = false;
constinit shmem_request_hook_type previous_request = nullptr;
constinit shmem_startup_hook_type previous_startup = nullptr;

std::size_t databases_offset() { return MAXALIGN(sizeof(SharedState)); }
std::size_t executors_offset() { return databases_offset() + MAXALIGN(sizeof(DatabaseSlot) * static_cast<std::size_t>(settings.max_databases)); }
std::size_t total_size() { return executors_offset() + sizeof(ExecutorSlot) * static_cast<std::size_t>(settings.executor_slots); }

extern "C" void request_memory() {
  if (previous_request) previous_request();
  RequestAddinShmemSpace(total_size());
  RequestNamedLWLockTranche("tasker", 3 + settings.max_databases);
  request_limit_figures();
  request_cache_memory();
}

void initialise(char *memory) {
  std::memset(memory, 0, total_size());
  auto *state = reinterpret_cast<SharedState *>(memory);
  state->launcher_proc = -1;
  state->database_count = settings.max_databases;
  state->executor_count = settings.executor_slots;
  state->recovered_to_point_in_time = started_for_recovery;
  pg_atomic_init_u32(&state->loud_breakers, 0);
  for (auto &bucket : state->finished) ConditionVariableInit(&bucket);
  for (auto &bucket : state->offered) ConditionVariableInit(&bucket);
  for (auto &mark : state->queue_marks) SpinLockInit(&mark.mutex);
  pg_atomic_init_u64(&state->pause_clock, 0);
  for (int i = 0; i < state->database_count; i++) {
    auto &slot = reinterpret_cast<DatabaseSlot *>(memory + databases_offset())[i];
    slot.dispatcher_proc = -1;
    pg_atomic_init_u64(&slot.wakes_at, kAwake);
    pg_atomic_init_u32(&slot.watched_tasks, 0);
    pg_atomic_init_u64(&slot.pause_generation, 0);
    initialise_courier(slot.courier);
    for (TraceRoom &room : slot.trace_rooms) {
      pg_atomic_init_u64(&room.subscription_id, 0);
      pg_atomic_init_u64(&room.waiting, 0);
      pg_atomic_init_u64(&room.dropped, 0);
      pg_atomic_init_u64(&room.counted_at, 0);
    }
  }
  for (int i = 0; i < state->executor_count; i++) {
    auto &slot = reinterpret_cast<ExecutorSlot *>(memory + executors_offset())[i];
    SpinLockInit(&slot.mutex);
    slot.proc = -1;
  }
}

extern "C" void attach_memory() {
  if (previous_startup) previous_startup();
  LWLockAcquire(AddinShmemInitLock, LW_EXCLUSIVE);
  bool found = false;
  auto *memory = static_cast<char *>(ShmemInitStruct("tasker", total_size(), &found));
  locks = GetNamedLWLockTranche("tasker");
  if (!found) initialise(memory);
  shared = reinterpret_cast<SharedState *>(memory);
  shared->registry = &locks[0].lock;
  shared->stats_lock = &locks[1].lock;
  shared->breakers_lock = &locks[2].lock;
  databases = reinterpret_cast<DatabaseSlot *>(memory + databases_offset());
  executors = reinterpret_cast<ExecutorSlot *>(memory + executors_offset());
  attach_limit_figures();
  attach_cache_memory();
  LWLockRelease(AddinShmemInitLock);
}

}  // namespace

void install_shared_memory_hooks() {
  // The file is gone once recovery has ended; the postmaster, which reads this line, starts before that.
  started_for_recovery = access("recovery.signal", F_OK) == 0;
  previous_request = shmem_request_hook;
  shmem_request_hook = request_memory;
  previous_startup = shmem_startup_hook;
  shmem_startup_hook = attach_memory;
}

DatabaseSlot &database_slot(int index) { return databases[index]; }
ExecutorSlot &executor_slot(int index) { return executors[index]; }
LWLock *ring_lock(int index) { return &locks[3 + index].lock; }

int find_database(Oid database, bool create) {
  int vacant = -1;
  for (int i = 0; i < shared->database_count; i++) {
    if (databases[i].state != DatabaseState::kFree && databases[i].database == database) return i;
    if (vacant < 0 && databases[i].state == DatabaseState::kFree) vacant = i;
  }
  if (!create || vacant < 0) return -1;
  DatabaseSlot &slot = databases[vacant];
  slot.database = database;
  slot.state = DatabaseState::kUnknown;
  slot.sweep_from = kNoTask;
  slot.wanted = slot.sweep = slot.stop = slot.held = slot.awaits_ends = false;
  slot.dispatcher_pid = 0;
  slot.dispatcher_proc = -1;
  slot.generation++;
  slot.failures = 0;
  slot.retry_at = slot.stopping_until = 0;
  pg_atomic_write_u64(&slot.wakes_at, kAwake);
  pg_atomic_write_u32(&slot.watched_tasks, 0);
  pg_atomic_write_u64(&slot.pause_generation, pg_atomic_add_fetch_u64(&shared->pause_clock, 1));
  slot.ring_head = slot.ring_count = 0;
  forget_courier(slot.courier);
  for (TraceRoom &room : slot.trace_rooms) pg_atomic_write_u64(&room.subscription_id, 0);
  return vacant;
}

std::optional<TimestampTz> running_since(const StepKey &key, int moves) {
  if (shared == nullptr) return std::nullopt;
  for (int i = 0; i < shared->executor_count; i++) {
    const SpinGuard guard(executors[i]);
    const ExecutorSlot &slot = executors[i];
    if (slot.state == ExecutorState::kRunning && slot.database == MyDatabaseId && slot.run_number != 0 && slot.current == key && slot.current_moves == moves)
      return slot.current_started;
  }
  return std::nullopt;
}

void wake(int proc_number) {
  if (proc_number >= 0) SetLatch(pg::proc_latch(proc_number));
}

void wake_launcher() {
  if (shared) wake(shared->launcher_proc);
}

}  // namespace tasker::store
