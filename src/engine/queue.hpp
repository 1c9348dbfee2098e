// External steps: offered to workers of a queue, claimed by them under a lease and a token, and ended with that token.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "engine/batch.hpp"
#include "store/queues.hpp"
#include "store/timers.hpp"

namespace tasker::engine {

struct Offer {
  store::StepKey key;
  std::string queue;
  int priority = 0;
  int system = 0;  // that the step depends on
};
// Into the queues; those that are there stay as they are. Workers are notified and woken at commit.
void offer_steps(const std::vector<Offer> &offers);

// A claimed step whose lease or timeout is over: makes it go back to its queue, or fail when no attempt is left or its time
// is up; the end is recorded with the batch. Raises 55P03 while a worker is about to end it.
void take_back(Batch &batch, const store::LoadedStep &loaded, const store::CompiledStep &step, store::TimerKind why);

// May this role claim steps of the queue, and end those it has claimed? Precondition: inside pg::OwnerScope and pg::Spi.
bool may_work_on(Oid role, const std::string &queue);

// ---- for workers (queue_claim.cpp). Precondition of what follows: not inside pg::OwnerScope; SPI is connected as needed.

struct ClaimRequest {
  std::string queue, worker;
  int max_steps = 1;
  TimestampTz lease = 0;  // microseconds
};
struct ClaimedStep {
  std::int64_t task_id = 0;
  std::string step_name;
  int attempt = 0;
  Datum token = 0, context = 0, results = 0;  // uuid, jsonb, jsonb
  std::string config;                         // JSON
  std::optional<std::string> correlation_id;
  TimestampTz lease_until = 0;
};
// The first steps of the queue that are ready, highest priority first; those whose rows somebody holds locked are passed
// over. Values live in `memory`. *limited: the queue has a limit. Raises 42501 for who may not, 55000 in a database that is
// held and in a step.
std::vector<ClaimedStep> claim_steps(const ClaimRequest &request, MemoryContext memory, bool *limited);

// ---- ends (queue_end.cpp), by whoever knows the token and may work on the queue

struct StepToken {
  std::int64_t task_id = 0;
  std::string step_name;
  Datum token = 0;  // uuid
};
// kRepeated: this very token has ended the step so before. kStale: it is not valid (any more).
enum class EndedAs { kEnded, kRepeated, kStale };
struct ClaimEnd {
  StepToken step;
  OutsideEnd end;
};
// All: raise 02000 for a step that does not exist, or is not of a queue the caller works on. The writes are the caller's
// transaction's.
//
// Each in order; stale ones change nothing and leave the others alone. Raises 54000 for a result over
// tasker.max_result_size, 22023 for a step that is given twice.
std::vector<EndedAs> end_claims(const std::vector<ClaimEnd> &ends, MemoryContext memory);
// The same for one, which raises TK003 instead of being stale. False: repeated.
bool end_claim(const ClaimEnd &end, MemoryContext memory);
// Back to the queue, without an attempt spent. False: it was released with this token before. Raises TK003.
bool release_claim(const StepToken &step, MemoryContext memory);
// The end of the lease, `lease` from now or as it was if that is later. Raises TK003.
TimestampTz extend_claim(const StepToken &step, TimestampTz lease);

}  // namespace tasker::engine
