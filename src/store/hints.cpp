#include "store/hints.hpp"

#include <algorithm>

namespace tasker::store {

namespace {

inline constexpr int kMaxHints = 256;
constinit Hint pending[kMaxHints] = {};
constinit int pending_count = 0;
constinit std::int64_t finished[kMaxHints] = {};
constinit int finished_count = 0;
constinit bool sweep_wanted = false;
constinit std::int64_t lost_from = kNoTask;  // of what is to be swept: the lowest task id
constinit bool announce = false;
constinit bool pauses_moved = false;
constinit int my_database = -1;  // cached index, checked before use

void clear() noexcept {
  pending_count = finished_count = 0;
  sweep_wanted = announce = pauses_moved = false;
  lost_from = kNoTask;
}

// Those that name no task are of something every sweep looks at.
std::int64_t lowest(std::int64_t id, const Hint &lost) noexcept { return lost.key.task_id > 0 ? std::min(id, lost.key.task_id) : id; }

bool knows_database() noexcept {
  return my_database >= 0 && database_slot(my_database).database == MyDatabaseId && database_slot(my_database).state != DatabaseState::kFree;
}

// Nobody would act upon it. What the dispatcher watches it counts before it looks at it with a new snapshot, and whoever
// asks here has committed before: either it is told, or its look sees this commit.
bool is_idle(const Hint &hint, DatabaseSlot &slot) noexcept {
  return hint.kind == HintKind::kSettle && pg_atomic_read_u32(&slot.watched_tasks) == 0;
}

// Fills the ring and wakes whoever must look at it: the dispatcher not for a timer that is due after it wakes by itself.
// It publishes that moment after its last look at the ring, and takes it back before the next: see Dispatcher::run.
// Loads, stores, one lock, latches: nothing here can raise.
// `sweep`: of tasks from the id `from` on.
void deliver(const Hint *hints, int count, bool sweep, std::int64_t from, bool create, bool pauses) noexcept {
  bool wake_up_launcher = false;
  if (!knows_database()) {
    LWLockAcquire(shared->registry, LW_EXCLUSIVE);
    my_database = find_database(MyDatabaseId, true);
    LWLockRelease(shared->registry);
    if (my_database < 0) return;  // more databases than tasker.max_databases: the launcher says so
  }
  const int index = my_database;
  DatabaseSlot &slot = database_slot(index);
  if (!sweep && !create && !pauses && std::all_of(hints, hints + count, [&](const Hint &hint) { return is_idle(hint, slot); })) return;
  LWLockAcquire(ring_lock(index), LW_EXCLUSIVE);
  // Before the sweep that finds again what was paused: whoever sees that one knows of the change.
  if (pauses) pg_atomic_write_u64(&slot.pause_generation, pg_atomic_add_fetch_u64(&shared->pause_clock, 1));
  const std::uint64_t wakes_at = pg_atomic_read_u64(&slot.wakes_at);
  bool urgent = sweep || create || pauses;
  for (int i = 0; i < count; i++) {
    if (is_idle(hints[i], slot)) continue;
    urgent = urgent || hints[i].kind != HintKind::kTimer || static_cast<std::uint64_t>(hints[i].due) < wakes_at || slot.ring_count >= kRingSize / 2;
    if (slot.ring_count == kRingSize) {
      slot.sweep = true;
      slot.sweep_from = lowest(slot.sweep_from, hints[i]);
      continue;
    }
    slot.ring[(slot.ring_head + slot.ring_count) % kRingSize] = hints[i];
    slot.ring_count++;
  }
  if (sweep) {
    slot.sweep = true;
    slot.sweep_from = std::min(slot.sweep_from, from);
  }
  const int dispatcher = slot.dispatcher_proc;
  const bool pauses_only = pauses && count == 0 && !sweep;
  if ((dispatcher < 0 && !pauses_only) || create) {
    slot.wanted = true;
    wake_up_launcher = true;
  }
  LWLockRelease(ring_lock(index));
  if (urgent) wake(dispatcher);
  if (wake_up_launcher) wake_launcher();
}

void broadcast_finished() noexcept {
  if (shared == nullptr) return;
  for (int i = 0; i < finished_count; i++)
    ConditionVariableBroadcast(&shared->finished[static_cast<std::uint64_t>(finished[i]) % kWaitBuckets]);
}

// Mostly nobody waits for the end of a task, and this is one load.
void tell_of_ends() noexcept {
  if (shared == nullptr || finished_count == 0) return;
  if (!knows_database()) {
    LWLockAcquire(shared->registry, LW_SHARED);
    my_database = find_database(MyDatabaseId, false);
    LWLockRelease(shared->registry);
  }
  if (my_database < 0 || !database_slot(my_database).awaits_ends) return;
  const Hint hint{{0, 0, -1}, 0, 0, 0, InvalidOid, HintKind::kSchedules};
  deliver(&hint, 1, false, kNoTask, false, false);
}

extern "C" void at_transaction_end(XactEvent event, void *) {
  switch (event) {
    case XACT_EVENT_COMMIT:
      if (pending_count > 0 || sweep_wanted || announce || pauses_moved) deliver(pending, pending_count, sweep_wanted, lost_from, announce, pauses_moved);
      tell_of_ends();
      broadcast_finished();
      clear();
      break;
    case XACT_EVENT_ABORT:
    case XACT_EVENT_PREPARE:
    case XACT_EVENT_PARALLEL_ABORT:
      clear();
      break;
    default:
      break;
  }
}

}  // namespace

void add_hint(const Hint &hint) {
  if (shared == nullptr) return;
  if (!sweep_wanted && pending_count == kMaxHints) {
    sweep_wanted = true;
    for (const Hint &lost : pending) lost_from = lowest(lost_from, lost);
    pending_count = 0;
  }
  if (sweep_wanted) {
    lost_from = lowest(lost_from, hint);
    return;
  }
  pending[pending_count++] = hint;
}

void request_sweep() {
  sweep_wanted = shared != nullptr;
  lost_from = 0;
}

void task_finished(std::int64_t task_id) {
  if (shared == nullptr) return;
  // Past the limit the last entry is overwritten: its waiters wake by their own timeout of re-checks.
  if (finished_count < kMaxHints) finished[finished_count++] = task_id;
}

void announce_database() {
  announce = shared != nullptr;
  note_pauses_changed();  // an extension made anew has no orders, whatever a session knows of the old one's
}

void note_pauses_changed() { pauses_moved = shared != nullptr; }
bool pauses_changed_here() { return pauses_moved; }

void push_pauses_changed_now() {
  if (shared != nullptr) deliver(nullptr, 0, false, kNoTask, false, true);
}

DatabaseSlot *own_database_slot() {
  if (shared == nullptr) return nullptr;
  if (!knows_database()) {
    const LockGuard guard(shared->registry, LW_SHARED);
    my_database = find_database(MyDatabaseId, false);
  }
  return my_database < 0 ? nullptr : &database_slot(my_database);
}

LWLock *own_ring_lock() { return ring_lock(my_database); }

std::uint64_t pause_generation() {
  DatabaseSlot *slot = own_database_slot();
  return slot == nullptr ? 0 : pg_atomic_read_u64(&slot->pause_generation);
}

void register_hint_callback() { RegisterXactCallback(at_transaction_end, nullptr); }

void push_hints_now(const Hint *hints, int count) {
  if (shared != nullptr) deliver(hints, count, false, kNoTask, false, false);
}

int take_hints(int database_index, Hint *out, int limit, std::optional<std::int64_t> *lost) {
  DatabaseSlot &slot = database_slot(database_index);
  LockGuard guard(ring_lock(database_index), LW_EXCLUSIVE);
  const int count = slot.ring_count < limit ? slot.ring_count : limit;
  for (int i = 0; i < count; i++) out[i] = slot.ring[(slot.ring_head + i) % kRingSize];
  slot.ring_head = (slot.ring_head + count) % kRingSize;
  slot.ring_count -= count;
  if (slot.sweep) *lost = slot.sweep_from;
  slot.sweep = false;
  slot.sweep_from = kNoTask;
  return count;
}

}  // namespace tasker::store
