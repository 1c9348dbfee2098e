// What dispatcher and courier of a database tell each other in shared memory: steps to be called, steps that left the
// courier's hands, requests to stop or to look at rows again.
//
// Both rings are bounded. What doesn't fit stays with the sender; nobody waits for room, and nothing is lost but with its
// process: then the tables tell what was begun (store/transfers.hpp), and the dispatcher looks again at what it had given.
#pragma once

#include <cstddef>
#include <cstdint>

#include "pg/bridge.hpp"
#include "store/keys.hpp"

namespace tasker::store {

inline constexpr int kCourierRing = 512;

enum class CourierState : std::uint8_t { kNone, kStarting, kRunning };

struct CourierEntry {
  StepKey key;
  std::int32_t named_task_id;
  std::int32_t priority;
};

// Guarded by its spinlock, which is held over loads and stores only.
struct CourierSlot {
  slock_t mutex;
  CourierState state;
  bool stop;                 // leave at once
  int pid, proc;             // 0, -1: none
  TimestampTz since;         // of the state
  std::uint32_t rechecks;    // raised: rows of what is under way may have moved
  int running, waiting;      // for views
  std::uint64_t given, taken;
  CourierEntry ring[kCourierRing];
  std::uint64_t reported, collected;
  StepKey reports[kCourierRing];
};

void initialise_courier(CourierSlot &slot);  // of new shared memory
void forget_courier(CourierSlot &slot);      // the slot gets another database

// ---- the dispatcher's side ----

// kNone → kStarting, with both rings empty. False: there is one.
bool reserve_courier(CourierSlot &slot);
// How many of these fit; the courier is woken.
int give_to_courier(CourierSlot &slot, const CourierEntry *entries, int count);
// Steps that left the courier's hands: ended, or given back.
int collect_from_courier(CourierSlot &slot, StepKey *out, int limit);
void ask_courier_to_recheck(CourierSlot &slot);

// ---- the courier's side ----

// kStarting → kRunning. False: it is not wanted, or another one is there.
bool courier_came(CourierSlot &slot);
// Unless something was given in the meantime (`idle`), or always.
bool courier_leaves(CourierSlot &slot, bool idle) noexcept;
int take_calls(CourierSlot &slot, CourierEntry *out, int limit);
// How many of these fit.
int report_to_dispatcher(CourierSlot &slot, const StepKey *keys, int count);

// ---- anybody ----

struct CourierView {
  CourierState state = CourierState::kNone;
  int pid = 0, proc = -1, running = 0, waiting = 0;
  bool stop = false, empty = true;
  std::uint32_t rechecks = 0;
  TimestampTz since = 0;
};
CourierView look_at_courier(CourierSlot &slot);
void stop_courier(CourierSlot &slot);
void publish_calls(CourierSlot &slot, int running, int waiting);

}  // namespace tasker::store
