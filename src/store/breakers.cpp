#include "store/breakers.hpp"

#include <algorithm>

#include "store/hints.hpp"
#include "store/settings.hpp"

namespace tasker::store {

namespace {

using core::BreakerCause;
using core::BreakerState;

// Of this database; -1 when the system has none.
int find_slot(int system) {
  for (int i = 0; i < kBreakerSlots; i++)
    if (shared->breaker_keys[i].system == system && shared->breaker_keys[i].database == MyDatabaseId) return i;
  return -1;
}
BreakerSlot *slot_of(int system) {
  const int index = find_slot(system);
  return index < 0 ? nullptr : &shared->breakers[index];
}

bool plain(const BreakerOverrides &o) { return o.failure_threshold < 0 && o.window < 0 && o.open_time < 0 && o.max_open_time < 0; }

// A breaker under change: the number of loud ones is kept right, and moves are noted for the dispatcher.
class Change {
 public:
  explicit Change(BreakerSlot &slot) : slot_(slot), was_quiet_(slot.breaker.quiet()), from_(slot.breaker.state) {}
  ~Change() {
    const bool quiet = slot_.breaker.quiet();
    if (was_quiet_ && !quiet) pg_atomic_fetch_add_u32(&shared->loud_breakers, 1);
    if (!was_quiet_ && quiet) pg_atomic_fetch_sub_u32(&shared->loud_breakers, 1);
  }
  Change(const Change &) = delete;
  Change &operator=(const Change &) = delete;

  // True when it moved. Where more moves wait than there is room for, the last ones become one.
  bool note(std::optional<BreakerCause> cause, int failures, TimestampTz now) {
    if (!cause) return false;
    if (slot_.move_count == kBreakerMoves) from_ = slot_.moves[--slot_.move_count].from;
    slot_.moves[slot_.move_count++] = {from_, slot_.breaker.state, *cause, failures, now};
    from_ = slot_.breaker.state;
    return true;
  }

 private:
  BreakerSlot &slot_;
  bool was_quiet_;
  BreakerState from_;
};

void free_slot(int index) {
  shared->breaker_keys[index] = {InvalidOid, 0};
  const Change change(shared->breakers[index]);
  shared->breakers[index].breaker = {};
}

// A slot for it: a free one, or that of a breaker about which nothing needs to be known; for one that is not quiet also
// that of a quiet one with settings of its own, which its first failure brings back. Null when there is none.
BreakerSlot *make_slot(const BreakerRow &row, bool quiet) {
  int place = -1, second = -1;
  for (int i = 0; i < kBreakerSlots; i++) {
    const BreakerSlot &slot = shared->breakers[i];
    const bool vacant = !OidIsValid(shared->breaker_keys[i].database);
    const bool idle = slot.breaker.quiet() && slot.move_count == 0;
    if (vacant || (place < 0 && idle && plain(slot.overrides))) place = i;
    if (second < 0 && idle) second = i;
    if (vacant) break;
  }
  if (place < 0 && !quiet) place = second;
  if (place < 0) return nullptr;
  shared->breaker_keys[place] = {MyDatabaseId, row.system};
  BreakerSlot &slot = shared->breakers[place];
  const Change change(slot);
  slot = {};
  slot.breaker = row.breaker;
  slot.overrides = row.overrides;
  slot.row_moves = row.moves;
  return &slot;
}

void warn_full() {
  static constinit bool told = false;
  if (told) return;
  told = true;
  pg::report(pg::Level::kWarning, "tasker: too many circuit breakers",
             "There is room for " + std::to_string(kBreakerSlots) + " dependent systems that fail or have settings of their own; others count as closed, or have those of the server.");
}

bool is_probe(const BreakerSlot &slot, const StepKey &key) { return slot.breaker.probing && slot.probe == key; }

// It writes what has moved, and lets out what waits; and it looks for settings in the rows.
void wake_dispatcher(bool read_rows = false) {
  Hint hint{};
  hint.kind = HintKind::kBreakers;
  hint.named_task_id = read_rows ? 1 : 0;
  push_hints_now(&hint, 1);
}

// Would this word change anything? Most successes are told of breakers that are closed and well.
bool is_news(const BreakerSlot &slot, const StepKey &key, SystemWord word) {
  if (slot.breaker.state == BreakerState::kClosed) return word == SystemWord::kWorks && !slot.breaker.quiet();
  return is_probe(slot, key);
}

// What the slot goes on from.
void follow(BreakerSlot &slot, const BreakerRow &row) {
  const Change change(slot);
  slot.breaker = row.breaker;
  slot.row_moves = row.moves;
  slot.move_count = 0;
}

// A row that was read, not only named, is committed by now, unless nothing is said. It let the step run, and memory, if
// it does not know the row yet, catches up: then the step was the probe of a half-open breaker.
void tell(const BreakerRow &row, bool was_read, const StepKey &key, SystemWord word) {
  if (shared == nullptr || row.system == 0) return;
  was_read = was_read && word != SystemWord::kNothing;
  const bool to_catch_up = was_read && !row.breaker.quiet();
  if (word != SystemWord::kFails && !to_catch_up) {
    if (all_breakers_quiet()) return;
    const LockGuard guard(shared->breakers_lock, LW_SHARED);
    const BreakerSlot *slot = slot_of(row.system);
    if (slot == nullptr || !is_news(*slot, key, word)) return;
  }
  const TimestampTz now = GetCurrentTimestamp();
  bool wake = false, full = false, is_new = false;
  {
    const LockGuard guard(shared->breakers_lock, LW_EXCLUSIVE);
    BreakerSlot *slot = slot_of(row.system);
    if (slot == nullptr) {
      // The first failure. Where breakers are switched off there is nothing to remember.
      const bool first_failure = word == SystemWord::kFails && breaker_settings(row.overrides).failure_threshold > 0;
      if (!first_failure && !to_catch_up) return;
      slot = make_slot(row, false);
      full = slot == nullptr;
      is_new = !full;
    }
    if (slot != nullptr) {
      if (was_read) slot->overrides = row.overrides;
      if (was_read && row.moves > slot->row_moves) follow(*slot, row);
      Change change(*slot);
      core::Breaker &breaker = slot->breaker;
      const core::BreakerSettings settings_now = breaker_settings(slot->overrides);
      if (was_read) wake = change.note(breaker.poll(settings_now, now), breaker.failures, now);
      if (was_read && breaker.begin_probe()) slot->probe = key;
      const bool of_probe = is_probe(*slot, key);
      std::optional<BreakerCause> cause;
      if (word == SystemWord::kWorks) cause = breaker.on_success(of_probe);
      if (word == SystemWord::kFails) cause = breaker.on_failure(settings_now, now, of_probe);
      if (word == SystemWord::kNothing && of_probe) breaker.end_probe();
      wake = change.note(cause, breaker.failures, now) || wake || (of_probe && !breaker.probing);
    }
  }
  if (full) warn_full();
  if (wake || is_new) wake_dispatcher(is_new);
}

// The probe that this process runs by its own leave, if any: given back when it exits in the middle.
constinit int probed_system = 0;
constinit StepKey probed_step{};

extern "C" void give_probe_back(int, Datum) {
  if (probed_system == 0) return;
  end_probe(probed_system, probed_step);
  wake_dispatcher();
}

void watch_exit() {
  static constinit bool watching = false;
  if (watching) return;
  pg::call([] { before_shmem_exit(give_probe_back, Datum(0)); });
  watching = true;
}

}  // namespace

core::BreakerSettings breaker_settings(const BreakerOverrides &o) {
  const auto or_else = [](std::int64_t own, int milliseconds) { return own >= 0 ? own : static_cast<std::int64_t>(milliseconds) * 1000; };
  return {o.failure_threshold >= 0 ? o.failure_threshold : settings.breaker_failure_threshold, or_else(o.window, settings.breaker_window_ms),
          or_else(o.open_time, settings.breaker_open_time_ms), or_else(o.max_open_time, settings.breaker_max_open_time_ms)};
}

bool all_breakers_quiet() { return shared == nullptr || pg_atomic_read_u32(&shared->loud_breakers) == 0; }

bool breaker_admits(int system, const StepKey &key) {
  if (system == 0 || all_breakers_quiet()) return true;
  const LockGuard guard(shared->breakers_lock, LW_SHARED);
  const BreakerSlot *slot = slot_of(system);
  return slot == nullptr || slot->breaker.state == BreakerState::kClosed || is_probe(*slot, key);
}

void tell_breaker(int system, const StepKey &key, SystemWord word) {
  BreakerRow row;
  row.system = system;
  tell(row, false, key, word);
}

bool session_admits(const BreakerRow &row, const StepKey &key) {
  const TimestampTz now = GetCurrentTimestamp();
  bool in_memory = false, admitted = false, moved = false;
  if (shared != nullptr) {
    watch_exit();
    const LockGuard guard(shared->breakers_lock, LW_EXCLUSIVE);
    BreakerSlot *slot = slot_of(row.system);
    in_memory = slot != nullptr && slot->row_moves >= row.moves;
    if (in_memory) {
      Change change(*slot);
      moved = change.note(slot->breaker.poll(breaker_settings(row.overrides), now), slot->breaker.failures, now);
      admitted = slot->breaker.state == BreakerState::kClosed || is_probe(*slot, key);
      if (!admitted && slot->breaker.begin_probe()) {
        admitted = true;
        slot->probe = key;
        slot->probe_pid = MyProcPid;
        probed_system = row.system;
        probed_step = key;
      }
    }
  }
  if (moved) wake_dispatcher();
  if (in_memory) return admitted;
  core::Breaker breaker = row.breaker;
  (void)breaker.poll(breaker_settings(row.overrides), now);
  return breaker.state != BreakerState::kOpen;
}

void tell_breaker_of_session(const BreakerRow &row, const StepKey &key, SystemWord word) {
  tell(row, true, key, word);
  probed_system = 0;
}

std::vector<BreakerView> poll_breakers(TimestampTz now) {
  std::vector<BreakerView> out;
  const LockGuard guard(shared->breakers_lock, LW_EXCLUSIVE);
  for (int i = 0; i < kBreakerSlots; i++) {
    if (shared->breaker_keys[i].database != MyDatabaseId) continue;
    BreakerSlot &slot = shared->breakers[i];
    if (slot.breaker.state == BreakerState::kClosed) continue;
    {
      Change change(slot);
      (void)change.note(slot.breaker.poll(breaker_settings(slot.overrides), now), slot.breaker.failures, now);
    }
    if (slot.breaker.state != BreakerState::kClosed) out.push_back({shared->breaker_keys[i].system, slot.breaker, slot.probe, slot.probe_pid != 0, slot.waiting});
  }
  return out;
}

bool begin_probe(int system, const StepKey &key) {
  const LockGuard guard(shared->breakers_lock, LW_EXCLUSIVE);
  BreakerSlot *slot = slot_of(system);
  if (slot == nullptr || slot->breaker.state == BreakerState::kClosed || is_probe(*slot, key)) return true;
  if (!slot->breaker.begin_probe()) return false;
  slot->probe = key;
  slot->probe_pid = 0;
  return true;
}

void end_probe(int system, const StepKey &key) {
  const LockGuard guard(shared->breakers_lock, LW_EXCLUSIVE);
  BreakerSlot *slot = slot_of(system);
  if (slot != nullptr && is_probe(*slot, key)) slot->breaker.end_probe();
}

void adopt_breakers(const std::vector<BreakerRow> &rows) {
  bool full = false;
  {
    const LockGuard guard(shared->breakers_lock, LW_EXCLUSIVE);
    for (int i = 0; i < kBreakerSlots; i++) {
      const BreakerKey key = shared->breaker_keys[i];
      const bool known = std::any_of(rows.begin(), rows.end(), [=](const BreakerRow &row) { return row.system == key.system; });
      if (key.database == MyDatabaseId && !known) free_slot(i);
    }
    for (const BreakerRow &row : rows) {
      BreakerSlot *slot = slot_of(row.system);
      if (slot == nullptr) {
        const bool quiet = row.breaker.quiet();
        if (!quiet || !plain(row.overrides)) full = make_slot(row, quiet) == nullptr || full;
        continue;
      }
      slot->overrides = row.overrides;
      if (row.moves != slot->row_moves) follow(*slot, row);
    }
  }
  if (full) warn_full();
}

std::vector<UnsavedBreaker> unsaved_breakers() {
  std::vector<UnsavedBreaker> out;
  const LockGuard guard(shared->breakers_lock, LW_SHARED);
  for (int i = 0; i < kBreakerSlots; i++) {
    const BreakerSlot &slot = shared->breakers[i];
    if (shared->breaker_keys[i].database != MyDatabaseId || slot.move_count == 0) continue;
    out.push_back({shared->breaker_keys[i].system, slot.row_moves, slot.breaker, {slot.moves, slot.moves + slot.move_count}});
  }
  return out;
}

void breaker_saved(const UnsavedBreaker &saved) {
  const int count = static_cast<int>(saved.moves.size());
  const LockGuard guard(shared->breakers_lock, LW_EXCLUSIVE);
  BreakerSlot *slot = slot_of(saved.system);
  if (slot == nullptr || slot->row_moves != saved.row_moves || slot->move_count < count) return;
  BreakerMove last = slot->moves[count - 1];
  std::copy(slot->moves + count, slot->moves + slot->move_count, slot->moves);
  slot->move_count -= count;
  slot->row_moves += count;
  if (last.at == saved.moves.back().at && last.to == saved.moves.back().to) return;
  // The last of them has meanwhile become one with later moves.
  last.from = saved.moves.back().to;
  slot->moves[slot->move_count++] = last;
}

void publish_waiting(int system, int steps) {
  const LockGuard guard(shared->breakers_lock, LW_EXCLUSIVE);
  if (BreakerSlot *slot = slot_of(system)) slot->waiting = steps;
}

std::optional<BreakerMemory> breaker_memory(int system) {
  if (shared == nullptr) return std::nullopt;
  const LockGuard guard(shared->breakers_lock, LW_SHARED);
  const BreakerSlot *slot = slot_of(system);
  if (slot == nullptr) return std::nullopt;
  return BreakerMemory{slot->breaker, slot->breaker.probing ? slot->probe : StepKey{},
                       slot->breaker.state == BreakerState::kClosed ? 0 : slot->waiting, slot->row_moves};
}

void forget_breakers(Oid database) noexcept {
  if (shared == nullptr) return;
  LWLockAcquire(shared->breakers_lock, LW_EXCLUSIVE);
  for (int i = 0; i < kBreakerSlots; i++)
    if (shared->breaker_keys[i].database == database) free_slot(i);
  LWLockRelease(shared->breakers_lock);
}

}  // namespace tasker::store
