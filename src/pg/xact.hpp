// Transactions of background processes and savepoints, as scopes.
#pragma once

#include <functional>
#include <optional>

#include "pg/bridge.hpp"

namespace tasker::pg {

// A transaction of a background process. Left without commit() it is rolled back.
class Transaction {
 public:
  // Begins the transaction with a fresh statement timestamp and an active snapshot; at the isolation level given (XACT_*).
  explicit Transaction(int isolation = XACT_READ_COMMITTED);
  ~Transaction();
  Transaction(const Transaction &) = delete;
  Transaction &operator=(const Transaction &) = delete;
  // Raises what the commit raises (deferred constraints among it); the transaction is then rolled back.
  void commit();
  void rollback() noexcept;
  // Without an active snapshot: for procedures, which bring their own.
  void drop_snapshot();
  // Takes one again, if there is none.
  void take_snapshot();

 private:
  bool open_ = true;
  bool snapshot_ = true;
};

// Runs body in a savepoint. Returns the error that body ended with, after rolling the savepoint back; nothing
// when it was released. The only place besides worker loops and entry that stops a pg::Error.
std::optional<Caught> in_savepoint(const std::function<void()> &body);

}  // namespace tasker::pg
