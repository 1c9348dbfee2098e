#include "store/courier_queue.hpp"

#include <algorithm>

#include "store/shared_state.hpp"

namespace tasker::store {

namespace {

class Guard {
 public:
  explicit Guard(CourierSlot &slot) : slot_(slot) { SpinLockAcquire(&slot_.mutex); }
  ~Guard() { SpinLockRelease(&slot_.mutex); }
  Guard(const Guard &) = delete;
  Guard &operator=(const Guard &) = delete;

 private:
  CourierSlot &slot_;
};

void clear(CourierSlot &slot) {
  slot.state = CourierState::kNone;
  slot.stop = false;
  slot.pid = 0;
  slot.proc = -1;
  slot.running = slot.waiting = 0;
  slot.given = slot.taken = slot.reported = slot.collected = 0;
}

}  // namespace

void initialise_courier(CourierSlot &slot) {
  SpinLockInit(&slot.mutex);
  slot.rechecks = 0;
  slot.since = 0;
  clear(slot);
}

void forget_courier(CourierSlot &slot) {
  const Guard guard(slot);
  clear(slot);
}

bool reserve_courier(CourierSlot &slot) {
  const TimestampTz now = GetCurrentTimestamp();
  const Guard guard(slot);
  if (slot.state != CourierState::kNone) return false;
  clear(slot);
  slot.state = CourierState::kStarting;
  slot.since = now;
  return true;
}

int give_to_courier(CourierSlot &slot, const CourierEntry *entries, int count) {
  int given = 0, proc;
  {
    const Guard guard(slot);
    if (slot.state == CourierState::kNone || slot.stop) return 0;
    for (; given < count && slot.given - slot.taken < kCourierRing; given++) slot.ring[slot.given++ % kCourierRing] = entries[given];
    proc = slot.proc;
  }
  if (given > 0) wake(proc);
  return given;
}

int collect_from_courier(CourierSlot &slot, StepKey *out, int limit) {
  int count = 0;
  bool was_full;
  int proc;
  {
    const Guard guard(slot);
    was_full = slot.reported - slot.collected == kCourierRing;
    proc = slot.proc;
    for (; count < limit && slot.collected < slot.reported; count++) out[count] = slot.reports[slot.collected++ % kCourierRing];
  }
  if (was_full) wake(proc);  // it may have more
  return count;
}

void ask_courier_to_recheck(CourierSlot &slot) {
  int proc;
  {
    const Guard guard(slot);
    slot.rechecks++;
    proc = slot.proc;
  }
  wake(proc);
}

bool courier_came(CourierSlot &slot) {
  const TimestampTz now = GetCurrentTimestamp();
  const Guard guard(slot);
  if (slot.state != CourierState::kStarting || slot.stop) return false;
  slot.state = CourierState::kRunning;
  slot.pid = MyProcPid;
  slot.proc = pg::my_proc_number();
  slot.since = now;
  return true;
}

bool courier_leaves(CourierSlot &slot, bool idle) noexcept {
  const Guard guard(slot);
  if (slot.pid != MyProcPid && !(slot.state == CourierState::kStarting && slot.pid == 0)) return true;
  if (idle && (slot.given != slot.taken)) return false;
  // What the dispatcher has not collected it counts as lost, and looks at.
  slot.state = CourierState::kNone;
  slot.stop = false;
  slot.pid = 0;
  slot.proc = -1;
  slot.running = slot.waiting = 0;
  return true;
}

int take_calls(CourierSlot &slot, CourierEntry *out, int limit) {
  const Guard guard(slot);
  int count = 0;
  for (; count < limit && slot.taken < slot.given; count++) out[count] = slot.ring[slot.taken++ % kCourierRing];
  return count;
}

int report_to_dispatcher(CourierSlot &slot, const StepKey *keys, int count) {
  const Guard guard(slot);
  int reported = 0;
  for (; reported < count && slot.reported - slot.collected < kCourierRing; reported++) slot.reports[slot.reported++ % kCourierRing] = keys[reported];
  return reported;
}

CourierView look_at_courier(CourierSlot &slot) {
  const Guard guard(slot);
  return {slot.state, slot.pid, slot.proc, slot.running, slot.waiting, slot.stop, slot.given == slot.taken, slot.rechecks, slot.since};
}

void stop_courier(CourierSlot &slot) {
  int proc;
  {
    const Guard guard(slot);
    if (slot.state == CourierState::kNone) return;
    slot.stop = true;
    proc = slot.proc;
  }
  wake(proc);
}

void publish_calls(CourierSlot &slot, int running, int waiting) {
  const Guard guard(slot);
  slot.running = running;
  slot.waiting = waiting;
}

}  // namespace tasker::store
