// The structures in shared memory: hints, the in-flight table, waiters. Losing all of it loses nothing: the
// tables are the truth, and a dispatcher rebuilds from them when it starts.
//
// Locks. `registry` (an LWLock) guards which database owns which DatabaseSlot and which executor slot is free.
// Each DatabaseSlot's `ring_lock` (an LWLock) guards its ring of hints. Each ExecutorSlot's spinlock guards that
// slot, and so does that of each CourierSlot and each QueueMark; they are held over loads and stores only. `breakers_lock` (an LWLock)
// guards the breakers. Order: registry, ring_lock, slot; breakers_lock is taken alone. No lock is held over a wait, a
// call that can raise, or SQL.
#pragma once

#include <cstdint>
#include <optional>

#include "core/batching.hpp"
#include "core/breaker.hpp"
#include "core/durations.hpp"
#include "core/retry.hpp"
#include "pg/bridge.hpp"
#include "store/courier_queue.hpp"
#include "store/keys.hpp"

namespace tasker::store {

enum class HintKind : std::uint8_t {
  kTask,    // look at this task: which of its steps are ready?
  kStep,    // this step is probably ready
  kTimer,   // this step or task becomes ready at `due`
  kCancel,  // interrupt what runs of this task (step_no 0) or step
  kSettle,  // a step ended and freed nothing: is the task over? (acted upon for watched tasks)
  kWatch,   // watch this task: its end is decided by looking at all its steps
  kBreakers,  // a circuit breaker has moved: in memory, or (named_task_id 1) in its row
  kSchedules,  // a schedule has changed, or a task has ended while one waited for that
};

// Where the rows of a step and of its task were when somebody read them; nowhere, where nobody has. Never a fact, either: a row is
// looked for there first, see pg::Table::find.
struct StepPlaces {
  ItemPointerData task{}, step{};
};
struct StepAt : StepKey {
  StepPlaces places;
  StepAt() = default;
  StepAt(const StepKey &key, const StepPlaces &where = {}) : StepKey(key), places(where) {}
};

// An id to look at, never a fact: whoever acts on a hint reads the tables first.
struct Hint {
  StepKey key;
  TimestampTz due;
  std::int32_t named_task_id;
  std::int32_t priority;
  Oid owner;
  HintKind kind;
  bool outside = false;  // the step is not an executor's: see store::is_outside
  bool noop = false;     // its handler does nothing: as fast as can be, measured or not
  StepPlaces places = {};
};

inline constexpr int kRingSize = 1024;
inline constexpr int kMailboxSize = 128;
inline constexpr int kWaitBuckets = 64;
inline constexpr std::int64_t kNoTask = PG_INT64_MAX;   // higher than any id
inline constexpr std::uint64_t kAwake = PG_INT64_MAX;  // later than any moment

inline constexpr int kTraceRooms = 16;
// How many traces wait for a subscription of kind traces; see store/trace_rooms.hpp.
struct TraceRoom {
  pg_atomic_uint64 subscription_id;  // 0: free
  pg_atomic_uint64 waiting, unsure, dropped, counted_at;  // unsure: those of `waiting` whose transaction has not ended; counted_at: a TimestampTz
};

enum class DatabaseState : std::uint8_t {
  kFree,      // slot unused
  kUnknown,   // to be visited: does it have the extension, and live work?
  kStarting,  // a dispatcher has been registered
  kRunning,   // a dispatcher runs
  kDormant,   // has the extension, no live work
  kStopping,  // being dropped, renamed or copied: no worker may connect
};

struct DatabaseSlot {
  Oid database;
  DatabaseState state;
  bool wanted;             // live work or a hint is waiting for a dispatcher
  bool stop;               // the dispatcher and executors must leave
  bool held;
  bool awaits_ends;        // a schedule waits for the end of a task: the dispatcher is told of every one
  bool sweep;              // hints were lost: look at everything, but at no task before sweep_from
  bool starting;           // a dispatcher is registered and has not come or gone yet
  bool forgotten;          // being dropped for good
  int dispatcher_pid;
  int dispatcher_proc;     // see pg::proc_latch; -1 when none
  std::uint32_t generation;
  int failures;            // of starts in a row
  TimestampTz retry_at;    // not before
  TimestampTz stopping_until;
  int concurrency;         // executors it may have, as its dispatcher decided last; 0: not yet
  TimestampTz concurrency_at;
  pg_atomic_uint64 wakes_at;          // a TimestampTz: when the dispatcher looks again if nobody wakes it; kAwake: it does not sleep
  pg_atomic_uint32 watched_tasks;     // how many tasks it watches: with none, nobody tells it of settled steps
  pg_atomic_uint64 pause_generation;  // raised by whoever may have changed what is paused; see store/pauses.hpp
  std::int64_t sweep_from;            // the lowest task id of a lost hint; 0: all tasks
  int ring_head, ring_count;
  Hint ring[kRingSize];
  CourierSlot courier;
  TraceRoom trace_rooms[kTraceRooms];  // made under ring_lock
};

enum class ExecutorState : std::uint8_t { kFree, kStarting, kRunning, kExited };


// One executor. `assigned`, `taken`, `done` only grow: entries [done, taken) are being run, [taken, assigned)
// wait and may be taken back by the dispatcher. The in-flight table is the union of [done, assigned).
struct ExecutorSlot {
  slock_t mutex;
  ExecutorState state;
  Oid database, owner;
  int pid, proc;
  std::uint32_t generation;
  bool stop;                    // leave as soon as the batch is done
  std::uint64_t assigned, taken, done;
  StepAt mailbox[kMailboxSize];
  // What runs now. run_number is 0 outside user code; each handler call gets the next number.
  std::uint64_t run_number, last_run;
  std::uint64_t cancel_run, preempt_run;  // runs the dispatcher wants interrupted
  bool note_pending;            // an unread crash note of an earlier executor lies in this slot's place
  StepKey current;
  std::int32_t current_moves;
  std::int32_t current_named_task;
  TimestampTz current_started, batch_started, last_active, deadline;
  int batch_size;               // steps it began with
  int batch_finished;           // steps of this batch that wait for its commit
  bool terminated;              // the dispatcher sent SIGTERM for current run
};

// Task ids driven by a session (run_task), not by executors.
struct SessionRun {
  Oid database;
  int pid;
  std::int64_t task_id;
};
inline constexpr int kSessionRuns = 64;

inline constexpr int kStatWindow = core::kBatchWindow;
inline constexpr int kStatEntries = 2048;
// Measured durations of a named step, direct-mapped by hash: a collision forgets the older one.
struct StepStats {
  std::uint64_t key;
  Oid database;
  std::int32_t named_task_id, step_no;
  std::uint32_t runs;
  std::uint32_t written_runs;  // as of which the row of tasker.batch_learnings is
  std::int32_t batch_size;     // learnt, before pressure bends it; 0: nothing yet
  std::uint64_t failed[(kStatWindow + 63) / 64];  // one bit for each of durations_ms
  std::int32_t solo_runs;  // more runs to be made alone, after a commit failure or contention
  float durations_ms[kStatWindow];
  core::RecentOutcomes recent;
};

inline constexpr int kQueueMarks = 256;
inline constexpr int kQueueNameSize = 64;
// Where claims of one queue begin to look; direct-mapped by hash: a collision forgets the older one. See store/queues.hpp.
struct QueueMark {
  slock_t mutex;
  Oid database;                // InvalidOid: free
  char queue[kQueueNameSize];
  std::uint32_t version;       // raised with every offer
  int taken;                   // since the mark was moved last
  TimestampTz set_at;
  std::int32_t rank;
  StepKey key;
};

inline constexpr int kHistoryEntries = 1024;
inline constexpr int kSlowestKept = 10;
// One that took long.
struct SlowRun {
  std::int64_t task_id;
  double ms;
};
// What is counted together: attempts of a step, or (step_no 0) moves of tasks, where attempt is the core::TaskState they came
// to, kPending for tasks that were created.
struct HistoryKey {
  Oid database;
  std::int32_t named_task_id, step_no, attempt;
  std::int64_t hour;  // since 2000-01-01 00:00 UTC
  friend auto operator<=>(const HistoryKey &, const HistoryKey &) = default;
};
// Counted since the dispatcher wrote it last; free while attempts is 0.
struct HistoryEntry {
  HistoryKey key;
  std::int64_t attempts, successes;
  // Of the successes; of tasks: of those that had been started.
  double total_ms, max_ms;
  std::int32_t slow_runs;
  SlowRun slowest[kSlowestKept];  // in no order
  std::uint32_t durations[core::kDurationBuckets];
};

inline constexpr int kBreakerSlots = 256;
inline constexpr int kBreakerMoves = 8;

// Settings of one breaker; those that are -1 follow the configuration.
struct BreakerOverrides {
  int failure_threshold = -1;
  std::int64_t window = -1, open_time = -1, max_open_time = -1;  // microseconds

  friend bool operator==(const BreakerOverrides &, const BreakerOverrides &) = default;
};

// A change of state that its row does not show yet.
struct BreakerMove {
  core::BreakerState from, to;
  core::BreakerCause cause;
  int failures;
  TimestampTz at;
};

// The breaker of one dependent system of one database; see store/breakers.hpp.
struct BreakerKey {
  Oid database;  // InvalidOid: free
  std::int32_t system;
};
struct BreakerSlot {
  core::Breaker breaker;
  BreakerOverrides overrides;
  std::int32_t row_moves;  // of the row this state goes on from
  int move_count;
  BreakerMove moves[kBreakerMoves];
  StepKey probe;           // while breaker.probing
  int probe_pid;           // of the session that runs it (run_task); 0: an executor, by way of the dispatcher
  int waiting;             // steps that the dispatcher holds back
};

struct SharedState {
  LWLock *registry;
  LWLock *stats_lock;
  LWLock *breakers_lock;
  int launcher_pid, launcher_proc;
  core::Pressure connection_pressure;  // as a dispatcher saw it last
  TimestampTz room_wanted_until;  // an owner without any executor waits for the next that leaves
  bool recovered_to_point_in_time;  // the server was started with recovery.signal
  pg_atomic_uint64 pause_clock;     // the last generation given to any database: none comes twice
  ConditionVariable finished[kWaitBuckets];
  ConditionVariable offered[kWaitBuckets];  // by queue: those that wait in claim_steps
  QueueMark queue_marks[kQueueMarks];
  SessionRun sessions[kSessionRuns];  // under registry
  StepStats stats[kStatEntries];      // under stats_lock
  HistoryEntry history[kHistoryEntries];  // under stats_lock
  BreakerKey breaker_keys[kBreakerSlots];  // under breakers_lock; apart, because they are searched
  BreakerSlot breakers[kBreakerSlots];     // breakers[i] is that of breaker_keys[i]
  pg_atomic_uint32 loud_breakers;         // of them: those that are not quiet
  int database_count, executor_count;
  // Behind this struct: LWLock pointers, DatabaseSlot[database_count], ExecutorSlot[executor_count].
};

// Null when the library was not preloaded.
extern SharedState *shared;

DatabaseSlot &database_slot(int index);
LWLock *ring_lock(int index);
ExecutorSlot &executor_slot(int index);

// shmem hooks, called from module.cpp while preloading.
void install_shared_memory_hooks();

// Index of the slot of a database, or -1; `create` makes one (in state kUnknown) when there is room. Caller holds registry (exclusive to create).
int find_database(Oid database, bool create);

// Since when an executor of this database runs this step, when its run began with a row of so many moves.
std::optional<TimestampTz> running_since(const StepKey &key, int moves);

void wake_launcher();
void wake(int proc_number);

class LockGuard {
 public:
  LockGuard(LWLock *lock, LWLockMode mode) : lock_(lock) { LWLockAcquire(lock, mode); }
  ~LockGuard() { LWLockRelease(lock_); }
  LockGuard(const LockGuard &) = delete;
  LockGuard &operator=(const LockGuard &) = delete;

 private:
  LWLock *lock_;
};

class SpinGuard {
 public:
  explicit SpinGuard(ExecutorSlot &slot) : slot_(slot) { SpinLockAcquire(&slot_.mutex); }
  ~SpinGuard() { SpinLockRelease(&slot_.mutex); }
  SpinGuard(const SpinGuard &) = delete;
  SpinGuard &operator=(const SpinGuard &) = delete;

 private:
  ExecutorSlot &slot_;
};

}  // namespace tasker::store
