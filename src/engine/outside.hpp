// What the dispatcher itself does with outside steps (store::is_outside) that a hint, a timer or the sweep names: waits and
// signals begin and end here, external steps are offered to workers and taken back from them, and those of type http are
// told to the caller, who has a courier for them.
#pragma once

#include <vector>

#include "engine/batch.hpp"
#include "store/timers.hpp"

namespace tasker::engine {

// One transaction's worth. Raises what Batch::record raises.
class OutsideRound {
 public:
  // skip_waits: of run_task, for which every wait is over.
  OutsideRound(std::int64_t nonce, MemoryContext memory, bool skip_waits = false);

  // Inside a transaction of the caller's; each key once. A key whose step is neither ready nor over does nothing. Tasks that
  // somebody else holds locked are not waited for: their steps are left to busy().
  void tend(const std::vector<store::StepKey> &keys);
  const std::vector<store::StepKey> &busy() const { return busy_; }
  // After its commit.
  void count_outcomes() const { batch_.count_outcomes(); }
  bool moved() const { return !batch_.empty(); }
  // Ready steps of type http, to be called.
  struct Call {
    store::StepKey key;
    int named_task_id, priority;
    Oid owner;
  };
  const std::vector<Call> &calls() const { return calls_; }

 private:
  std::vector<store::StepKey> without_busy(const std::vector<store::StepKey> &keys);
  void begin();
  void end_due(const std::vector<store::StepKey> &keys);
  void set_timers();

  MemoryContext memory_;
  bool skip_waits_;
  NothingRuns observer_;
  Batch batch_;
  std::vector<Call> calls_;
  std::vector<store::StepKey> busy_;
  std::vector<store::StepTimer> timers_;
};

}  // namespace tasker::engine
