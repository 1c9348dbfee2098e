#include "pg/xact.hpp"

#include "pg/memory.hpp"

namespace tasker::pg {

Transaction::Transaction(int isolation) {
  call([=] {
    SetCurrentStatementStartTimestamp();
    StartTransactionCommand();
    XactIsoLevel = isolation;
    PushActiveSnapshot(GetTransactionSnapshot());
  });
}

Transaction::~Transaction() { rollback(); }

void Transaction::commit() {
  if (snapshot_) {
    snapshot_ = false;
    call([] { PopActiveSnapshot(); });
  }
  call([] { CommitTransactionCommand(); });
  open_ = false;
}

void Transaction::rollback() noexcept {
  if (!open_) return;
  open_ = false;
  try {
    call([] { AbortCurrentTransaction(); });
  } catch (...) {
    // An abort that fails is a FATAL of Postgres's own; nothing is left to be done here.
  }
}

void Transaction::drop_snapshot() {
  if (!snapshot_) return;
  snapshot_ = false;
  call([] { PopActiveSnapshot(); });
}

void Transaction::take_snapshot() {
  if (snapshot_) return;
  call([] { PushActiveSnapshot(GetTransactionSnapshot()); });
  snapshot_ = true;
}

std::optional<Caught> in_savepoint(const std::function<void()> &body) {
  MemoryContext context = CurrentMemoryContext;
  ResourceOwner owner = CurrentResourceOwner;
  call([] { BeginInternalSubTransaction(nullptr); });
  MemoryContextSwitchTo(context);
  std::optional<Caught> failure;
  try {
    body();
  } catch (...) {
    failure = describe_current_exception();
  }
  if (failure) {
    call([] { RollbackAndReleaseCurrentSubTransaction(); });
  } else {
    call([] { ReleaseCurrentSubTransaction(); });
  }
  MemoryContextSwitchTo(context);
  CurrentResourceOwner = owner;
  return failure;
}

}  // namespace tasker::pg
