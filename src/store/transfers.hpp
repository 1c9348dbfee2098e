// Calls under way: one row each, from the commit before a request is sent to the commit of its end. A courier that starts
// finds here, and nowhere else, what one before it has left behind. Precondition of all: inside pg::OwnerScope and pg::Spi.
#pragma once

#include <vector>

#include "pg/spi.hpp"
#include "store/keys.hpp"

namespace tasker::store {

struct Transfer {
  StepKey key;
  int moves = 0;  // of the step's row while the call is under way: another number means that somebody has moved it
};

void add_transfers(const std::vector<Transfer> &transfers);
void drop_transfers(const std::vector<StepKey> &keys);
bool any_transfers();
// The next ones behind `after`, in the order of keys.
std::vector<Transfer> transfer_page(const StepKey &after, int limit);
// Locks those of these tasks that nobody else holds, until the end of the transaction; gives the others that exist.
std::vector<std::int64_t> lock_tasks(const std::vector<std::int64_t> &task_ids);
// Those whose step is not as it was when the call began, by their place in the list.
std::vector<std::size_t> moved_transfers(const std::vector<Transfer> &transfers);

}  // namespace tasker::store
