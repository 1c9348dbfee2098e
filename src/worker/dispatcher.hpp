// The dispatcher: one per database, connected as the bootstrap superuser, running no user code. Decides in its own
// memory which step goes to which executor; the tables stay the truth, and it rebuilds from them when it starts.
//
//   ring of hints ──▶ take_hints ──▶ queues per owner ──▶ assign ──▶ mailboxes of executors
//   timers table  ──▶ timers_ (heap) ──────▲                             │ done / exited
//   sweep pages   ──▶ ready_steps ─────────┘        collect ◀────────────┘
//
// What it must survive: being killed at any point (another one takes over live executors' mailboxes as they are),
// lost hints (sweep), executors that vanish (their entries are looked at again), a full worker table.
#pragma once

#include <deque>
#include <queue>
#include <unordered_map>
#include <unordered_set>
#include <vector>

#include "pg/bridge.hpp"
#include "pg/memory.hpp"
#include "store/facts.hpp"
#include "store/shared_state.hpp"

namespace tasker::worker {

using KeySet = std::unordered_set<store::StepKey, store::StepKeyHash>;

struct QueuedStep {
  store::StepKey key;
  std::int32_t named_task_id;
  std::int32_t priority;
  std::uint64_t sequence;
  // The top of the queue: highest priority, then first come.
  friend bool operator<(const QueuedStep &a, const QueuedStep &b) {
    return a.priority != b.priority ? a.priority < b.priority : a.sequence > b.sequence;
  }
};

struct OwnerQueue {
  std::priority_queue<QueuedStep> steps;
  TimestampTz blocked_until = 0;   // the owner cannot connect; looked at again then
  TimestampTz waiting_since = 0;   // steps wait and no executor of the owner could take one
  bool told = false;
};

struct ExecutorView {
  std::uint32_t generation = 0;
  std::uint64_t collected = 0;     // entries up to here have left in_flight_
  BackgroundWorkerHandle *handle = nullptr;
  TimestampTz started_at = 0;
  std::uint64_t interrupted_run = 0;
  TimestampTz interrupted_at = 0;
};

class Dispatcher {
 public:
  explicit Dispatcher(int database_index);
  // Until the database has had no live work for a minute, is being dropped, or has lost the extension.
  void run();

 private:
  // pass
  void take_hints();
  void enqueue(const store::Hint &hint);
  void fire_timers(TimestampTz now);
  void work_on_tables();
  TimestampTz next_sweep() const;
  void read_page();
  void settle_watched();
  void count_crashes();
  void refresh_home();
  // executors (dispatcher_executors.cpp)
  void adopt_executors();
  void collect();
  void collect_exited(int index);
  void record_lost_run(const store::ExecutorSlot &lost);
  void assign();
  bool assign_to(Oid owner, OwnerQueue &queue);
  int pick_executor(Oid owner, bool fast, int *room) const;
  bool about_to_report(Oid owner) const;
  bool start_executor(Oid owner, OwnerQueue &queue);
  bool make_room(Oid owner, bool first);
  void fail_orphans(OwnerQueue &queue);
  void recheck_runs();
  void interrupt_runs();
  void watch_runs(TimestampTz now);
  long sleep_ms(TimestampTz now) const;
  bool driven_by_session(std::int64_t task_id) const;
  bool nothing_to_do() const;

  int index_;
  store::DatabaseSlot &slot_;
  store::Home home_;
  pg::OwnedContext pass_memory_;
  std::unordered_map<Oid, OwnerQueue> owners_;
  KeySet queued_, in_flight_, again_;
  std::uint64_t sequence_ = 0;
  std::vector<std::int64_t> look_;              // tasks whose ready steps must be read
  std::vector<std::int64_t> settle_;            // tasks that may be over
  std::unordered_set<std::int64_t> watched_;    // tasks whose end is decided by looking at all steps
  std::vector<store::Hint> cancels_;
  struct Later {
    friend bool operator<(const Later &a, const Later &b) { return a.hint.due > b.hint.due; }
    store::Hint hint;
  };
  std::priority_queue<Later> timers_;
  store::TimerMark timer_mark_;
  bool more_timers_ = true;
  store::PagePosition page_;
  bool sweeping_ = true;                         // pages left to read
  bool recheck_runs_ = true;                     // cancels may have been lost: compare what runs with its rows
  bool dropped_ = false;                         // the buffer was full: sweep again when there is room
  TimestampTz swept_at_ = 0, empty_since_ = 0;
  std::vector<ExecutorView> views_;
};

}  // namespace tasker::worker
