#include "store/trace_rooms.hpp"

#include <algorithm>
#include <iterator>

#include "pg/fault.hpp"
#include "pg/spi.hpp"
#include "store/hints.hpp"

namespace tasker::store {

namespace {

inline constexpr TimestampTz kCountAgainAfter = USECS_PER_SEC;

constinit pg::Query count_waiting{
    "SELECT count(*) FROM (SELECT FROM tasker.event_outbox o WHERE o.subscription_id = $1 LIMIT $2) w", 2, {INT8OID, INT4OID}};
constinit pg::Query add_dropped{"UPDATE tasker.event_subscription_rows s SET dropped = s.dropped + $2 WHERE s.subscription_id = $1", 2, {INT8OID, INT8OID}};

// What the end of this transaction, or of a subtransaction, tells the rooms.
struct Change {
  std::int64_t subscription_id;
  int level;  // of the subtransaction
  std::int64_t taken, dropped, freed, written;
};
constinit Change changes[4 * kTraceRooms] = {};
constinit int change_count = 0;

TraceRoom *find_room(std::int64_t subscription_id) noexcept {
  DatabaseSlot *slot = own_database_slot();
  if (slot == nullptr) return nullptr;
  for (TraceRoom &room : slot->trace_rooms)
    if (pg_atomic_read_u64(&room.subscription_id) == static_cast<std::uint64_t>(subscription_id)) return &room;
  return nullptr;
}

std::int64_t signed_value(pg_atomic_uint64 &value) noexcept { return static_cast<std::int64_t>(pg_atomic_read_u64(&value)); }

// Counts may err, but never below none.
void subtract(pg_atomic_uint64 &value, std::int64_t count) noexcept {
  std::uint64_t old = pg_atomic_read_u64(&value);
  while (!pg_atomic_compare_exchange_u64(&value, &old, old - std::min(old, static_cast<std::uint64_t>(count)))) {}
}

std::int64_t count_rows(std::int64_t subscription_id) {
  return pg::execute(count_waiting, pg::Params().int8(subscription_id).int4(kMostWaitingTraces)).rows.int8(0, 1);
}

TraceRoom *make_room(std::int64_t subscription_id, const std::vector<std::int64_t> &others) {
  DatabaseSlot *slot = own_database_slot();
  if (slot == nullptr) return nullptr;
  const std::int64_t waiting = count_rows(subscription_id);
  const LockGuard guard(own_ring_lock(), LW_EXCLUSIVE);
  if (TraceRoom *made = find_room(subscription_id)) return made;
  for (TraceRoom &room : slot->trace_rooms) {
    const std::int64_t of = signed_value(room.subscription_id);
    if (of != 0 && std::find(others.begin(), others.end(), of) != others.end()) continue;
    pg_atomic_write_u64(&room.waiting, static_cast<std::uint64_t>(waiting));
    pg_atomic_write_u64(&room.unsure, 0);
    pg_atomic_write_u64(&room.dropped, 0);
    pg_atomic_write_u64(&room.subscription_id, static_cast<std::uint64_t>(subscription_id));
    return &room;
  }
  return nullptr;
}

// Null where there are too many: then nothing is counted, nor bounded.
Change *change_of(std::int64_t subscription_id, int level) noexcept {
  Change *const end = changes + change_count, *const found = std::find_if(changes, end, [=](const Change &c) { return c.subscription_id == subscription_id && c.level == level; });
  if (found != end) return found;
  if (end == std::end(changes)) return nullptr;
  change_count++;
  *found = {subscription_id, level, 0, 0, 0, 0};
  return found;
}

Change *change_of(std::int64_t subscription_id) noexcept { return change_of(subscription_id, GetCurrentTransactionNestLevel()); }

void settle(const Change &change, bool committed) noexcept {
  TraceRoom *room = find_room(change.subscription_id);
  if (room == nullptr) return;
  if (committed) {
    subtract(room->waiting, change.freed);
    subtract(room->dropped, change.written);
    pg_atomic_fetch_add_u64(&room->dropped, change.dropped);
  } else {
    subtract(room->waiting, change.taken);
  }
  subtract(room->unsure, change.taken);
}

// Loads and stores: nothing in these two can raise.
extern "C" void settle_trace_rooms(XactEvent event, void *) {
  if (event != XACT_EVENT_COMMIT && event != XACT_EVENT_ABORT && event != XACT_EVENT_PREPARE) return;
  for (int i = 0; i < change_count; i++) settle(changes[i], event != XACT_EVENT_ABORT);
  change_count = 0;
}

extern "C" void settle_inner_changes(SubXactEvent event, SubTransactionId, SubTransactionId, void *) {
  if (event != SUBXACT_EVENT_ABORT_SUB && event != SUBXACT_EVENT_COMMIT_SUB) return;
  const int level = GetCurrentTransactionNestLevel();
  for (int i = 0; i < change_count;) {
    const Change inner = changes[i];
    if (inner.level < level) {
      i++;
      continue;
    }
    changes[i] = changes[--change_count];
    if (event == SUBXACT_EVENT_ABORT_SUB) {
      settle(inner, false);
      continue;
    }
    // There is room: one has just gone.
    Change *outer = change_of(inner.subscription_id, level - 1);
    outer->taken += inner.taken;
    outer->dropped += inner.dropped;
    outer->freed += inner.freed;
    outer->written += inner.written;
  }
}

}  // namespace

bool take_trace_place(std::int64_t subscription_id, const std::vector<std::int64_t> &others) {
  TraceRoom *room = find_room(subscription_id);
  if (room == nullptr) room = make_room(subscription_id, others);
  if (room == nullptr) return true;
  // Full is told by a load: those that drop do not write to what others read.
  if (signed_value(room->waiting) >= kMostWaitingTraces) return false;
  Change *change = change_of(subscription_id);
  if (change == nullptr) return true;
  // Unsure before it waits: who counts reads these in the other order.
  pg_atomic_fetch_add_u64(&room->unsure, 1);
  if (pg_atomic_fetch_add_u64(&room->waiting, 1) < kMostWaitingTraces) {
    change->taken++;
    return true;
  }
  subtract(room->waiting, 1);
  subtract(room->unsure, 1);
  return false;
}

bool note_dropped_trace(std::int64_t subscription_id) {
  TraceRoom *room = find_room(subscription_id);
  Change *change = room == nullptr ? nullptr : change_of(subscription_id);
  if (change == nullptr) return false;
  return ++change->dropped == 1;
}

std::vector<std::int64_t> subscriptions_with_drops() {
  std::vector<std::int64_t> out;
  if (DatabaseSlot *slot = own_database_slot())
    for (TraceRoom &room : slot->trace_rooms)
      if (pg_atomic_read_u64(&room.subscription_id) != 0 && pg_atomic_read_u64(&room.dropped) != 0) out.push_back(signed_value(room.subscription_id));
  return out;
}

std::int64_t tend_trace_room(std::int64_t subscription_id) {
  TraceRoom *room = find_room(subscription_id);
  if (room == nullptr) return 0;
  const TimestampTz now = GetCurrentTimestamp();
  if (signed_value(room->waiting) >= kMostWaitingTraces && now - signed_value(room->counted_at) > kCountAgainAfter) {
    pg_atomic_write_u64(&room->counted_at, static_cast<std::uint64_t>(now));
    // In this order, whatever ends meanwhile is counted twice rather than not at all, so no place is given to two.
    const std::int64_t before = signed_value(room->waiting);
    const std::int64_t unsure = signed_value(room->unsure);
    const std::int64_t rows = count_rows(subscription_id);
    TASKER_FAULT("traces.counted");
    subtract(room->waiting, std::max<std::int64_t>(before - unsure - rows, 0));
  }
  const std::int64_t dropped = signed_value(room->dropped);
  if (dropped > 0) pg::execute(add_dropped, pg::Params().int8(subscription_id).int8(dropped));
  return dropped;
}

void settle_trace_room(std::int64_t subscription_id, std::int64_t freed, std::int64_t written) {
  if (freed == 0 && written == 0) return;
  if (Change *change = change_of(subscription_id)) {
    change->freed += freed;
    change->written += written;
  }
}

void register_trace_callbacks() {
  RegisterXactCallback(settle_trace_rooms, nullptr);
  RegisterSubXactCallback(settle_inner_changes, nullptr);
}

}  // namespace tasker::store
