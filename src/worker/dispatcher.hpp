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
#include <map>
#include <queue>
#include <unordered_map>
#include <unordered_set>
#include <vector>

#include "core/kin.hpp"
#include "core/limits.hpp"
#include "core/ready_queue.hpp"
#include "core/retention.hpp"
#include "pg/bridge.hpp"
#include "pg/memory.hpp"
#include "store/breakers.hpp"
#include "store/facts.hpp"
#include "store/limits.hpp"
#include "store/shared_state.hpp"
#include "store/timers.hpp"

namespace tasker::worker {

using KeySet = std::unordered_set<store::StepKey, store::StepKeyHash>;

inline constexpr TimestampTz kEvictBusyAfter = 250 * 1000;  // who waits so long for an executor gets one of somebody who has more

// An executor that was told to leave does so after what it has begun: when that takes long, it is not waited for.
inline bool is_held_up(const store::ExecutorSlot &slot, TimestampTz now) { return slot.run_number != 0 && now - slot.current_started > USECS_PER_SEC; }

struct QueuedStep {
  store::StepKey key;
  std::int32_t named_task_id;
  std::int32_t priority;
  std::uint64_t sequence;
  bool outside = false;  // not an executor's: see store::is_outside
  bool noop = false;
  core::Learner learner = {};
  TimestampTz since = 0;  // it came into a queue; what a breaker holds back goes on ageing
  store::StepPlaces places = {};
};

inline core::ReadyRank rank_of(const QueuedStep &step, int ageing_ms) { return core::ready_rank(step.priority, step.since, ageing_ms * std::int64_t{1000}, step.sequence); }

struct OwnerQueue {
  core::ReadyQueue<QueuedStep> steps;  // its groups are namespaces
  TimestampTz blocked_until = 0;   // the owner cannot connect; looked at again then
  TimestampTz waiting_since = 0;   // steps wait and no executor of the owner could take one
  TimestampTz backlog_since = 0;   // more waits than one mailbox holds
  TimestampTz short_since = 0;     // there is always something left that no executor has
  TimestampTz share_checked_at = 0;
  TimestampTz start_at = 0;        // no executor is started before: there was no worker slot, or the last ones failed
  int failed_starts = 0;           // executors in a row that ended by themselves before they had done anything
  bool told = false;
};

// Steps of one system that wait for its circuit breaker.
struct HeldSteps {
  std::map<Oid, std::deque<QueuedStep>> by_owner;  // no empty ones
  int count = 0;
  bool more = false;  // than there was room for: a sweep finds them when the breaker closes
};

// Who waits for a limit, and who runs under one; owners are those of the lines.
using Limits = core::LimitBook<store::StepKey, store::StepKeyHash, QueuedStep>;

// The limits that the steps of a definition are under, narrow ones first.
struct LimitsOfDefinition {
  std::unordered_map<int, std::vector<std::pair<int, bool>>> by_step;  // limit, and has it a key? None for most steps
  std::vector<int> keyed;                                              // all of them that have one
};

struct ExecutorView {
  std::uint32_t generation = 0;
  std::uint64_t collected = 0;     // entries up to here have left in_flight_
  BackgroundWorkerHandle *handle = nullptr;
  TimestampTz started_at = 0;
  std::uint64_t interrupted_run = 0;
  TimestampTz interrupted_at = 0;
  TimestampTz left_run_at = 0;     // it was seen gone in the middle of a step
};

class Dispatcher {
 public:
  explicit Dispatcher(int database_index);
  // Until the database has had no live work for a minute, is being dropped, or has lost the extension.
  void run();

 private:
  // pass
  void restore_learnings();
  void take_hints();
  void enqueue(const store::Hint &hint);
  void fire_timers(TimestampTz now);
  void work_on_tables();
  void look_at(std::vector<std::int64_t> &tasks);
  TimestampTz next_sweep() const;
  void sweep(std::int64_t from);
  void drop(std::int64_t task_id);
  void read_page();
  void settle_watched();
  void publish_watched();
  void read_timers(TimestampTz now);
  void restart_timers();
  void count_crashes();
  void refresh_home();
  void drop_paused();
  // executors (dispatcher_executors.cpp)
  void adopt_executors();
  void collect();
  void collect_exited(int index);
  static bool is_judged_later(ExecutorView &view, const store::ExecutorSlot &slot);
  void record_lost_run(const store::ExecutorSlot &lost);
  void assign();
  bool assign_to(Oid owner, OwnerQueue &queue);
  void tend_backlog(Oid owner, OwnerQueue &queue);
  std::uint64_t backlog_of(const QueuedStep &step) const;
  int free_places(int index) const;
  int pick_executor(Oid owner, std::uint64_t limit, int *room) const;
  int pick_place_behind(Oid owner, const QueuedStep &step) const;
  bool about_to_report(Oid owner) const;
  bool start_executor(Oid owner, OwnerQueue &queue);
  bool make_room(Oid owner, bool first, bool here_only);
  void fail_orphans(OwnerQueue &queue);
  void recheck_runs();
  void interrupt_runs();
  void follow_cancels(TimestampTz now);
  void watch_runs(TimestampTz now);
  // who is next (dispatcher_order.cpp)
  void enter(Oid owner, QueuedStep step);
  void place_newcomers();
  void follow_ageing();
  void load_newcomers();
  core::Learner learner_of(const QueuedStep &step) const;
  double cost_of(const QueuedStep &step);
  int executors_of(Oid owner) const;
  bool yields_last_place(Oid owner, const OwnerQueue &queue, int mine) const;
  void tend_share(Oid owner, OwnerQueue &queue);
  // steps whose work is not an executor's (dispatcher_outside.cpp)
  void put_outside(Oid owner, const QueuedStep &step);
  void tend_outside();
  void tend_outside(const std::vector<store::StepKey> &keys);
  // the courier (dispatcher_courier.cpp)
  void call(Oid owner, const QueuedStep &step);
  void tend_courier();
  void collect_calls();
  void start_courier();
  void give_calls();
  // circuit breakers (dispatcher_breakers.cpp)
  void tend_breakers();
  void publish_held();
  void take_over_breakers();
  void save_breakers(TimestampTz now);
  int system_of(const QueuedStep &step);
  bool hold(Oid owner, const QueuedStep &step);
  bool hold_top(Oid owner, OwnerQueue &queue);
  void requeue(Oid owner, const QueuedStep &step);
  bool let_go(const HeldSteps &held);
  bool is_blocked(Oid owner, TimestampTz now) const;
  Oid next_probe_owner(int system, TimestampTz now) const;
  bool probe_is_under_way(const store::BreakerView &view, TimestampTz now) const;
  void drop_paused(HeldSteps &held);
  void tend_probe(const store::BreakerView &view, TimestampTz now);
  TimestampTz breakers_due(TimestampTz now) const;
  // limits on steps (dispatcher_limits.cpp)
  void tend_limits();
  void follow_limits();
  std::vector<store::NamedRun> runs_under_way();
  void end_adopted_calls();
  const LimitsOfDefinition &limits_of(int named_task_id);
  const core::GroupIds &keys_of(std::int64_t task_id, const std::vector<int> &limit_ids);
  core::GroupIds groups_of(const store::StepKey &key, int named_task_id);
  bool park(Oid owner, const QueuedStep &step);
  bool park_top(Oid owner, OwnerQueue &queue);
  void begin_limited(const QueuedStep &step);
  static KeySet startable(const std::vector<Limits::Waiting> &steps);
  void let_out_parked();
  void let_go_on(Oid owner, const QueuedStep &step, TimestampTz now);
  void publish_limits();
  TimestampTz limits_due(TimestampTz now) const;
  // how many executors (dispatcher_concurrency.cpp)
  int concurrency_limit() const;
  void tend_concurrency();
  void decide_concurrency(TimestampTz now);
  void shed_executors();
  // schedules (dispatcher_schedules.cpp)
  void tend_schedules();
  TimestampTz schedules_due(TimestampTz now) const;
  // delivery of events (dispatcher_events.cpp)
  void tend_events();
  TimestampTz events_due() const;
  // retention (dispatcher_retention.cpp)
  void tend_retention();
  void tell_retention(TimestampTz now);
  TimestampTz retention_due() const;
  bool retention_stays() const;
  long sleep_ms(TimestampTz now) const;
  bool driven_by_session(std::int64_t task_id) const;
  bool nothing_to_do() const;

  int index_;
  store::DatabaseSlot &slot_;
  store::Home home_;
  pg::OwnedContext pass_memory_;
  std::unordered_map<Oid, OwnerQueue> owners_;
  KeySet queued_, in_flight_, again_;
  std::vector<std::pair<Oid, QueuedStep>> newcomers_;  // of queued_: their namespaces are yet to be looked up
  std::unordered_map<int, int> namespaces_;            // by definition
  std::unordered_map<int, std::vector<core::Learner>> learners_;  // by definition, of those with kin among their steps
  std::map<std::pair<int, int>, double> costs_;        // by definition and step, of this pass
  int ageing_ms_ = -1;                                 // by which the queues are in order
  TimestampTz entered_at_ = 0;                         // the clock of this pass: 0 before it is asked
  std::uint64_t sequence_ = 0;
  std::vector<std::int64_t> look_;              // tasks whose ready steps must be read
  std::vector<std::int64_t> relook_;            // because a step of theirs was asked for while it ran
  bool relooking_ = false;
  std::vector<std::int64_t> settle_;            // tasks that may be over
  std::unordered_set<std::int64_t> watched_;    // tasks whose end is decided by looking at all steps
  std::vector<store::Hint> cancels_;
  std::unordered_map<store::StepKey, std::pair<Oid, QueuedStep>, store::StepKeyHash> outside_;  // to be tended
  core::ReadyQueue<QueuedStep> calls_;          // of queued_: for the courier; its groups are owners
  KeySet with_courier_;                         // of in_flight_
  BackgroundWorkerHandle *courier_ = nullptr;
  TimestampTz courier_start_at_ = 0;            // none is started before
  int courier_failures_ = 0;                    // lost in a row, without a step that came back
  bool transfers_left_ = true;                  // calls may have been left behind
  // Told to stop while an executor had their rows in hand: until they leave the in-flight table, a run that began too
  // late to be interrupted is looked for.
  std::unordered_set<std::int64_t> cancelled_tasks_;
  TimestampTz rechecked_at_ = 0;
  struct Later {
    friend bool operator<(const Later &a, const Later &b) { return a.hint.due > b.hint.due; }
    store::Hint hint;
  };
  // What becomes due before timers_until_; later ones are read by the sweep before that.
  std::priority_queue<Later> timers_;
  store::TimerMark timer_mark_;
  TimestampTz timers_until_ = 0;
  bool more_timers_ = true;
  bool history_counted_ = false;                 // outcomes wait in shared memory to be written
  TimestampTz history_written_at_ = 0;
  store::PagePosition page_;
  bool sweeping_ = true;                         // pages left to read
  bool recheck_runs_ = true;                     // cancels may have been lost: compare what runs with its rows
  bool dropped_ = false;                         // the buffer was full: sweep again when there is room,
  std::int64_t dropped_from_ = store::kNoTask;   // from that task on
  TimestampTz swept_at_ = 0, empty_since_ = 0;
  std::vector<ExecutorView> views_;
  TimestampTz concurrency_at_ = 0;               // when the server was looked at last
  std::unordered_map<int, store::BreakerView> breakers_;  // not closed, by system, as of this pass
  std::unordered_map<int, HeldSteps> held_;               // by system
  KeySet held_keys_;
  std::unordered_map<int, Oid> probe_owners_;             // of probes that went through the queues, by system
  std::unordered_map<int, std::unordered_map<int, int>> systems_;  // definition → step → system
  std::size_t known_systems_ = 0;
  bool breakers_written_ = true;                 // rows may be newer than memory
  bool breakers_moved_ = true;                   // memory may be newer than rows
  TimestampTz save_breakers_at_ = 0;             // rows could not be written: not before
  Limits limits_;
  bool limits_seen_ = false;                     // they were read once
  bool parked_more_ = false;                     // than there was room for: a sweep finds them
  std::unordered_map<int, LimitsOfDefinition> known_limits_;
  std::size_t known_limited_ = 0;                // definitions and steps in it
  std::unordered_map<std::int64_t, core::GroupIds> known_keys_;  // by task
  KeySet adopted_calls_;                         // the courier has them from a dispatcher before this one
  bool schedules_changed_ = true;                // since they were looked at
  bool schedules_active_ = false;                // there are some that will fire: the dispatcher stays
  TimestampTz schedules_due_ = 0;                // when the next one fires
  bool events_recorded_ = true;                  // some may wait, or a delivery may have ended
  bool events_again_ = false;                    // not all were handed over
  TimestampTz events_resume_at_ = 0;
  bool traces_wait_ = false;                     // a delivery of traces may begin, but not before traces_at_
  TimestampTz traces_at_ = 0;
  core::RetentionWalk retention_;
  core::RetentionRules retention_rules_;
  int retention_setting_ = 0;
  bool retention_changed_ = true;                // the rules may be
  TimestampTz retention_resume_at_ = 0, trimmed_at_ = 0;
};

}  // namespace tasker::worker
