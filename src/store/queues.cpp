#include "store/queues.hpp"

#include <algorithm>
#include <cstring>

#include "store/key_arrays.hpp"
#include "store/settings.hpp"

namespace tasker::store {

namespace {

constinit pg::Query insert_queue_items{
    "INSERT INTO tasker.queue_items (task_id, step_no, element, queue, rank, system) SELECT * FROM unnest($1, $2, $3, $4, $5, $6)"
    " ON CONFLICT (task_id, step_no, element) DO NOTHING",
    6, {INT8ARRAYOID, INT4ARRAYOID, INT4ARRAYOID, TEXTARRAYOID, INT4ARRAYOID, INT4ARRAYOID}};

#define ITEMS_FROM                                                                                                     \
  " FROM tasker.queue_items q"                                                                                          \
  " WHERE q.queue = $1 AND (q.rank, q.task_id, q.step_no, q.element) >= ($2, $3, $4, $5) AND q.system <> ALL ($7)"      \
  " ORDER BY q.rank, q.task_id, q.step_no, q.element LIMIT $6"
constinit pg::Query select_items{"SELECT q.rank, q.system, q.task_id, q.step_no, q.element" ITEMS_FROM, 7, {TEXTOID, INT4OID, INT8OID, INT4OID, INT4OID, INT8OID, INT4ARRAYOID}};
// An item is never updated: where it was locked, it is.
constinit pg::Query delete_items{
    "DELETE FROM tasker.queue_items i WHERE i.ctid = ANY (ARRAY(SELECT q.ctid" ITEMS_FROM " FOR UPDATE SKIP LOCKED))"
    " RETURNING i.rank, i.system, i.task_id, i.step_no, i.element",
    7, {TEXTOID, INT4OID, INT8OID, INT4OID, INT4OID, INT8OID, INT4ARRAYOID}};
constinit pg::Query delete_item{
    "DELETE FROM tasker.queue_items i WHERE i.ctid = ANY (ARRAY(SELECT q.ctid FROM tasker.queue_items q WHERE q.task_id = $1 AND q.step_no = $2 AND q.element = $3"
    " FOR UPDATE SKIP LOCKED))",
    3, {INT8OID, INT4OID, INT4OID}};



constinit pg::Query select_limit{"SELECT l.max_claimed FROM tasker.queue_limits l WHERE l.queue = $1", 1, {TEXTOID}};
constinit pg::Query lock_limit{"SELECT l.max_claimed FROM tasker.queue_limits l WHERE l.queue = $1 FOR NO KEY UPDATE", 1, {TEXTOID}};
constinit pg::Query count_claimed{
    "SELECT count(*) FROM tasker.leases l WHERE l.queue = $1 AND EXISTS (SELECT FROM tasker.workflow_steps s WHERE s.task_id = l.task_id AND s.step_no = l.step_no"
    " AND s.element = l.element AND s.moves = l.moves)",
    1, {TEXTOID}};
constinit pg::Query upsert_limit{
    "INSERT INTO tasker.queue_limits AS l (queue, max_claimed, changed_by) VALUES ($1, $2, $3::oid::regrole)"
    " ON CONFLICT (queue) DO UPDATE SET max_claimed = excluded.max_claimed, changed_by = excluded.changed_by, changed_at = clock_timestamp()"
    " WHERE l.max_claimed <> excluded.max_claimed",
    3, {TEXTOID, INT4OID, OIDOID}};
constinit pg::Query delete_limit{"DELETE FROM tasker.queue_limits l WHERE l.queue = $1", 1, {TEXTOID}};

// ---- marks and waiters

inline constexpr int kMoveAfter = 200;  // items taken: the mark is worth a look
inline constexpr int kMaxOffers = 16;

std::uint64_t hash_of(const std::string &queue) {
  std::uint64_t h = 0xCBF29CE484222325ull ^ MyDatabaseId;
  for (const char c : queue) h = (h ^ static_cast<unsigned char>(c)) * 0x100000001B3ull;
  return h ^ (h >> 29);
}
ConditionVariable *bucket_of(const std::string &queue) { return &shared->offered[hash_of(queue) % kWaitBuckets]; }
QueueMark &mark_of(const std::string &queue) { return shared->queue_marks[hash_of(queue) % kQueueMarks]; }

class MarkGuard {
 public:
  explicit MarkGuard(QueueMark &mark) : mark_(mark) { SpinLockAcquire(&mark_.mutex); }
  ~MarkGuard() { SpinLockRelease(&mark_.mutex); }
  MarkGuard(const MarkGuard &) = delete;
  MarkGuard &operator=(const MarkGuard &) = delete;

 private:
  QueueMark &mark_;
};

bool is_of(const QueueMark &mark, const char *queue) { return mark.database == MyDatabaseId && std::strcmp(mark.queue, queue) == 0; }
QueuePosition position_of(const QueueMark &mark) { return {mark.rank, mark.key}; }
void set_position(QueueMark &mark, const QueuePosition &position) {
  mark.rank = position.rank;
  mark.key = position.key;
}

// What this transaction offers, told at its commit. Where there is no room for one more queue, all marks go back.
struct NotedOffer {
  QueueMark *mark;
  ConditionVariable *bucket;  // null: nobody is woken
  char queue[kQueueNameSize];
  QueuePosition first;
};
constinit NotedOffer noted[kMaxOffers] = {};
constinit int noted_count = 0;
constinit bool noted_more = false;

// queue null: whichever it is.
void take_back_mark(QueueMark &mark, const char *queue, const QueuePosition &to) noexcept {
  const MarkGuard guard(mark);
  if (queue == nullptr ? mark.database != MyDatabaseId : !is_of(mark, queue)) return;
  mark.version++;
  if (to < position_of(mark)) set_position(mark, to);
}

// Loads, stores, spinlocks and latches: nothing here can raise.
extern "C" void tell_of_offers(XactEvent event, void *) {
  if (event == XACT_EVENT_PRE_COMMIT || event == XACT_EVENT_PRE_PREPARE || event == XACT_EVENT_PARALLEL_PRE_COMMIT) return;
  if (event == XACT_EVENT_COMMIT && shared != nullptr) {
    for (int i = 0; i < noted_count; i++) {
      take_back_mark(*noted[i].mark, noted[i].queue, noted[i].first);
      if (noted[i].bucket != nullptr) ConditionVariableBroadcast(noted[i].bucket);
    }
    if (noted_more) {
      for (QueueMark &mark : shared->queue_marks) take_back_mark(mark, nullptr, {});
      for (ConditionVariable &bucket : shared->offered) ConditionVariableBroadcast(&bucket);
    }
  }
  noted_count = 0;
  noted_more = false;
}

void note_offer(const QueueItem &item, Telling telling) {
  if (shared == nullptr) return;
  static constinit bool registered = false;
  if (!registered) {
    pg::call([] { RegisterXactCallback(tell_of_offers, nullptr); });
    registered = true;
  }
  const QueuePosition position = item.position();
  for (int i = 0; i < noted_count; i++) {
    if (item.queue != noted[i].queue) continue;
    noted[i].first = std::min(noted[i].first, position);
    if (telling == Telling::kAll) noted[i].bucket = bucket_of(item.queue);
    return;
  }
  if (noted_count == kMaxOffers) {
    noted_more = true;
    return;
  }
  NotedOffer &offer = noted[noted_count++];
  offer = {&mark_of(item.queue), telling == Telling::kAll ? bucket_of(item.queue) : nullptr, {}, position};
  item.queue.copy(offer.queue, sizeof offer.queue - 1);
}

pg::Params place(const std::string &queue, const QueuePosition &from, int limit, const std::vector<int> &without) {
  pg::ArrayBuilder systems(INT4OID);
  for (const int system : without) systems.int4(system);
  return pg::Params().text(queue).int4(from.rank).int8(from.key.task_id).int4(from.key.step_no).int4(from.key.element).int8(limit).datum(systems.datum());
}

std::vector<QueueItem> read_items(const std::string &queue, const pg::Rows &rows) {
  std::vector<QueueItem> out;
  out.reserve(rows.size());
  for (std::uint64_t i = 0; i < rows.size(); i++) out.push_back({{rows.int8(i, 3), rows.int4(i, 4), rows.int4(i, 5)}, queue, rows.int4(i, 1), rows.int4(i, 2)});
  std::sort(out.begin(), out.end(), [](const QueueItem &a, const QueueItem &b) { return a.position() < b.position(); });
  return out;
}

pg::Params key_params(const StepKey &key) { return pg::Params().int8(key.task_id).int4(key.step_no).int4(key.element); }

}  // namespace

void insert_items(const std::vector<QueueItem> &items, Telling telling) {
  if (items.empty()) return;
  KeyArrays arrays;
  pg::ArrayBuilder queue(TEXTOID), rank(INT4OID), system(INT4OID);
  for (const QueueItem &item : items) {
    arrays.add(item.key);
    queue.text(item.queue);
    rank.int4(item.rank);
    system.int4(item.system);
    note_offer(item, telling);
  }
  pg::execute(insert_queue_items, arrays.params().datum(queue.datum()).datum(rank.datum()).datum(system.datum()));
}

std::vector<QueueItem> take_items(const std::string &queue, const QueuePosition &from, int limit, const std::vector<int> &without) {
  return read_items(queue, pg::execute(delete_items, place(queue, from, limit, without)).rows);
}

std::vector<QueueItem> peek_items(const std::string &queue, const QueuePosition &from, int limit, const std::vector<int> &without) {
  return read_items(queue, pg::execute(select_items, place(queue, from, limit, without)).rows);
}

bool take_item(const StepKey &key) { return pg::execute(delete_item, key_params(key)).processed == 1; }

// What this transaction itself has taken is no longer in its snapshots and yet may come back: then the mark stays.
QueuePosition queue_start(const std::string &queue) {
  if (shared == nullptr || queue.size() >= static_cast<std::size_t>(kQueueNameSize)) return {};
  QueueMark &mark = mark_of(queue);
  const TimestampTz now = GetCurrentTimestamp();
  const TimestampTz oldest = now - static_cast<TimestampTz>(settings.sweep_interval_s) * USECS_PER_SEC;
  const char *name = queue.c_str();
  const bool may_move = !TransactionIdIsValid(GetTopTransactionIdIfAny());
  QueuePosition start;
  std::uint32_t version = 0;
  bool move = false;
  {
    const MarkGuard guard(mark);
    if (!is_of(mark, name) || mark.set_at < oldest) {
      mark.database = MyDatabaseId;
      std::strcpy(mark.queue, name);
      mark.version++;
      mark.set_at = now;
      mark.taken = kMoveAfter;  // a look is worth while at once
      set_position(mark, {});
    }
    start = position_of(mark);
    version = mark.version;
    move = may_move && mark.taken >= kMoveAfter;
    if (move) mark.taken = 0;
  }
  if (!move) return start;
  const std::vector<QueueItem> found = peek_items(queue, start, 1);
  if (found.empty()) return start;
  const QueuePosition first = found.front().position();
  const MarkGuard guard(mark);
  if (is_of(mark, name) && mark.version == version && position_of(mark) < first) set_position(mark, first);
  return first;
}

void count_taken(const std::string &queue, int items) {
  if (shared == nullptr) return;
  QueueMark &mark = mark_of(queue);
  const MarkGuard guard(mark);
  if (is_of(mark, queue.c_str())) mark.taken += items;
}

QueueWaiter::QueueWaiter(const std::string &queue) : variable_(bucket_of(queue)) {
  ConditionVariable *v = variable_;
  pg::call([=] { ConditionVariablePrepareToSleep(v); });
}

QueueWaiter::~QueueWaiter() { ConditionVariableCancelSleep(); }

void QueueWaiter::sleep(long milliseconds) {
  static constinit std::uint32_t event = 0;
  ConditionVariable *v = variable_;
  const std::uint32_t e = pg::wait_event(&event, "TaskerClaimSteps");
  pg::call([=] { (void)ConditionVariableTimedSleep(v, milliseconds, e); });
}

void QueueWaiter::pause(long milliseconds) {
  static constinit std::uint32_t event = 0;
  const std::uint32_t e = pg::wait_event(&event, "TaskerClaimSteps");
  pg::call([=] {
    (void)WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH, milliseconds, e);
    ResetLatch(MyLatch);
    CHECK_FOR_INTERRUPTS();
  });
}

std::optional<int> queue_limit(const std::string &queue, bool lock) {
  const pg::Result found = pg::execute(lock ? lock_limit : select_limit, pg::Params().text(queue));
  if (found.rows.empty()) return std::nullopt;
  return found.rows.int4(0, 1);
}

int claimed_steps(const std::string &queue) {
  return static_cast<int>(std::min<std::int64_t>(pg::execute(count_claimed, pg::Params().text(queue)).rows.int8(0, 1), INT_MAX));
}

bool set_queue_limit(const std::string &queue, std::optional<int> max_claimed, Oid actor) {
  if (!max_claimed) return pg::execute(delete_limit, pg::Params().text(queue)).processed > 0;
  return pg::execute(upsert_limit, pg::Params().text(queue).int4(*max_claimed).oid(actor)).processed > 0;
}

}  // namespace tasker::store
