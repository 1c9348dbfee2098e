// The queues of external steps: what waits in them, who has claimed what, and where claims begin to look.
//
// A claim takes the first items of its queue off an index whose head may be full of entries that are dead to everybody but
// to a snapshot held open somewhere. So shared memory keeps a mark per queue: no item lies below it. It is moved by claims,
// to the first item their snapshot shows (one that somebody else is taking shows, too, and counts), and only when no offer
// was committed since they had looked at it; an offer below it takes it back at its commit. Every sweep_interval it starts
// again from the beginning: items that came by no commit of ours (a restore) are found then.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "pg/spi.hpp"
#include "store/leases.hpp"
#include "store/shared_state.hpp"

namespace tasker::store {

// A place in the order of claims.
struct QueuePosition {
  std::int32_t rank = INT_MIN;
  StepKey key{0, 0, -1};
  friend auto operator<=>(const QueuePosition &, const QueuePosition &) = default;
  QueuePosition next() const { return {rank, {key.task_id, key.step_no, key.element + 1}}; }
};

struct QueueItem {
  StepKey key;
  std::string queue;
  std::int32_t rank = 0;
  int system = 0;  // that the step depends on; 0: none
  QueuePosition position() const { return {rank, key}; }
};
// Precondition of what follows, unless it says otherwise: inside pg::OwnerScope and pg::Spi.

// Those that are there stay as they are. At commit the marks follow, and kAll wakes those that wait for a queue.
enum class Telling : bool { kAll, kMarkOnly };
void insert_items(const std::vector<QueueItem> &items, Telling telling = Telling::kAll);
// The first items from a place on, in the order of claims, that nobody else is taking: they leave the queue. Those of
// the systems `without` are passed over.
std::vector<QueueItem> take_items(const std::string &queue, const QueuePosition &from, int limit, const std::vector<int> &without = {});
// The first items, taken by somebody or not; nothing is taken or locked.
std::vector<QueueItem> peek_items(const std::string &queue, const QueuePosition &from, int limit, const std::vector<int> &without = {});
// False: it is not there, or somebody else is taking it.
bool take_item(const StepKey &key);

// Where a claim begins. Without the preload at the beginning.
QueuePosition queue_start(const std::string &queue);
void count_taken(const std::string &queue, int items);

// Sleeps until something is offered to the queue, or milliseconds have passed; leaves on every path. Needs the preload,
// and no precondition.
class QueueWaiter {
 public:
  explicit QueueWaiter(const std::string &queue);
  ~QueueWaiter();
  QueueWaiter(const QueueWaiter &) = delete;
  QueueWaiter &operator=(const QueueWaiter &) = delete;
  void sleep(long milliseconds);
  // Without being woken: where a savepoint of the claim was rolled back, and with it the place among those to be woken.
  static void pause(long milliseconds);

 private:
  ConditionVariable *variable_;
};

// How many steps of the queue may be claimed at once: nothing when there is no limit. `lock`: no other claim of this queue
// until the end of the transaction.
std::optional<int> queue_limit(const std::string &queue, bool lock);
int claimed_steps(const std::string &queue);
// False: it was so already.
bool set_queue_limit(const std::string &queue, std::optional<int> max_claimed, Oid actor);

}  // namespace tasker::store
