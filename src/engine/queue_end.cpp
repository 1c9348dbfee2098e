// Ends of claims: complete, fail, release, extend. The token of a lease is the right to do so, and the moves counter of the
// step its fence: a lease whose step has moved is void.
#include <algorithm>
#include <map>
#include <unordered_map>

#include "core/json.hpp"
#include "engine/control.hpp"
#include "engine/handlers.hpp"
#include "engine/queue.hpp"
#include "engine/settle.hpp"
#include "pg/fault.hpp"
#include "pg/security.hpp"
#include "pg/xact.hpp"
#include "store/breakers.hpp"
#include "store/home.hpp"
#include "store/step_history.hpp"

namespace tasker::engine {

namespace {

using store::HeldLease;
using store::LeaseToken;
using store::StepKey;

// ---- what is told of an end when it is committed

inline constexpr int kMaxTold = 256;  // a transaction that ends more tells less
struct Told {
  int named_task_id, system, attempt;
  core::Learner learner;
  StepKey key;
  bool success, against_system;
  double duration_ms;
};
constinit Told told[kMaxTold] = {};
constinit int told_count = 0;

extern "C" void tell_at_end(XactEvent event, void *) {
  if (event == XACT_EVENT_PRE_COMMIT || event == XACT_EVENT_PRE_PREPARE || event == XACT_EVENT_PARALLEL_PRE_COMMIT) return;
  const int count = told_count;
  told_count = 0;
  if (event != XACT_EVENT_COMMIT) return;
  for (const Told *t = told; t != told + count; t++) {
    if (t->system != 0)
      store::tell_breaker(t->system, t->key, t->success ? store::SystemWord::kWorks : t->against_system ? store::SystemWord::kFails : store::SystemWord::kNothing);
    store::count_outcome(t->named_task_id, t->learner, t->key, t->attempt, t->success, t->duration_ms);
  }
}

void tell_at_commit(const Batch &batch) {
  static constinit bool registered = false;
  if (!registered) {
    pg::call([] { RegisterXactCallback(tell_at_end, nullptr); });
    registered = true;
  }
  for (const Outcome &o : batch.outcomes()) {
    if (told_count == kMaxTold || (o.kind != OutcomeKind::kSucceeded && o.kind != OutcomeKind::kFailed)) continue;
    told[told_count++] = {o.definition->named_task_id, o.step().dependent_system_id, o.attempt(), o.step().learner, o.loaded.step.key, o.kind == OutcomeKind::kSucceeded,
                          o.kind == OutcomeKind::kFailed && o.failure.against_system, o.duration_ms()};
  }
}

// ---- which step a token is for

std::string name_of(const StepToken &step) { return "step \"" + step.step_name + "\" of task " + std::to_string(step.task_id); }

// Raises 02000 for what is no external step, or of a queue that is not the caller's to work on.
std::vector<LeaseToken> locate(const std::vector<const StepToken *> &steps) {
  const Oid caller = GetUserId();
  pg::Spi spi;
  pg::OwnerScope as_owner(store::cached_extension_owner());
  std::vector<std::int64_t> ids;
  for (const StepToken *step : steps) ids.push_back(step->task_id);
  const std::unordered_map<std::int64_t, int> definitions = store::definitions_of(ids);
  std::map<std::string, bool> allowed;
  std::vector<LeaseToken> out;
  for (const StepToken *step : steps) {
    const auto unknown = [&] { return tasker::Error(sqlstate::kNoData, name_of(*step) + " does not exist"); };
    const auto task = definitions.find(step->task_id);
    if (task == definitions.end()) throw unknown();
    const store::DefinitionPtr definition = store::definition(task->second);
    const auto number = definition->step_by_name.find(step->step_name);
    if (number == definition->step_by_name.end() || definition->step(number->second).type != store::HandlerType::kExternal) throw unknown();
    const std::string &queue = definition->step(number->second).queue;
    const auto right = allowed.find(queue);
    const bool may = right != allowed.end() ? right->second : (allowed[queue] = may_work_on(caller, queue));
    if (!may) throw unknown();
    out.push_back({{step->task_id, number->second, -1}, step->token});
  }
  return out;
}

std::string uuid_text(Datum token) {
  return pg::call([=] { return DatumGetCString(DirectFunctionCall1(uuid_out, token)); });
}

std::string metadata_of(const HeldLease &lease, Datum token) {
  return "\"worker\": " + core::json(lease.worker).dump(-1, ' ', false, core::json::error_handler_t::replace) + ", \"claim_token\": \"" + uuid_text(token) + "\"";
}

std::int64_t nonce() {
  pg::Spi spi;
  pg::OwnerScope as_owner(store::cached_extension_owner());
  return store::load_home_row().nonce;
}

// The caller's own writes belong to the same transaction: its lock_timeout decides how long it waits for a row.
BatchOptions options_of(std::int64_t home) {
  BatchOptions options;
  options.nonce = home;
  options.outside = true;
  options.lock_timeout_ms = 0;
  return options;
}

store::LeaseFacts facts_of(const LeaseToken &token) {
  pg::Spi spi;
  pg::OwnerScope as_owner(store::cached_extension_owner());
  return store::lease_facts(token);
}

[[noreturn]] void stale(const StepToken &step, const LeaseToken &token) {
  const store::LeaseFacts facts = facts_of(token);
  std::string why = "The state of the step is " + facts.state + ".";
  if (facts.until && facts.state == "in_progress") {
    const TimestampTz at = *facts.until;
    why = std::string("The lease ended at ") + pg::call([=] { return timestamptz_to_str(at); }) + ".";
  } else if (facts.other) {
    why = "The step is claimed with another token.";
  }
  throw tasker::Error(sqlstate::kStaleToken, "the claim of " + name_of(step) + " is not valid (any more)", why,
                      "Drop what was done for it: somebody else does, or did, or need not do it. A longer lease, or extend_lease, keeps a claim for longer.");
}

const char *end_state(const OutsideEnd &end) { return end.error ? "error" : "complete"; }

// Without the preload nobody else looks whether a task is over.
void settle_here(const Batch &batch) {
  if (store::shared != nullptr) return;
  pg::Spi spi;
  pg::OwnerScope as_owner(store::cached_extension_owner());
  for (const Outcome &outcome : batch.outcomes()) settle_task(outcome.loaded.task.task_id);
}

class Ends {
 public:
  Ends(const std::vector<ClaimEnd> &ends, MemoryContext memory) : ends_(ends), memory_(memory), outcome_(ends.size(), EndedAs::kStale) {
    std::vector<const StepToken *> steps;
    for (const ClaimEnd &end : ends_) {
      steps.push_back(&end.step);
      check_result_size(end.step.step_name, end.end.result);
    }
    tokens_ = locate(steps);
    std::map<StepKey, int> seen;
    for (std::size_t i = 0; i < tokens_.size(); i++)
      if (seen[tokens_[i].key]++ > 0) throw tasker::Error(sqlstate::kInvalidParameter, name_of(ends_[i].step) + " is given twice");
  }

  const LeaseToken &token(std::size_t i) const { return tokens_[i]; }

  std::vector<EndedAs> run() {
    const pg::OwnerScope as_owner(store::cached_extension_owner());  // those within find the path pinned
    nonce_ = nonce();
    if (ends_.size() == 1) {
      one(0);
    } else if (ends_.size() > 1) {
      std::vector<std::size_t> all(ends_.size());
      for (std::size_t i = 0; i < all.size(); i++) all[i] = i;
      // One that is moved at this very moment spoils it for all: then each for itself.
      const auto failure = pg::in_savepoint([&] { write(all); });
      if (failure && failure->sqlstate != "40001") throw tasker::Error(failure->sqlstate.c_str(), failure->message, failure->detail, failure->hint);
      if (failure) {
        std::fill(outcome_.begin(), outcome_.end(), EndedAs::kStale);
        for (const std::size_t i : all) one_of_many(i);
      }
    }
    for (std::size_t i = 0; i < ends_.size(); i++)
      if (outcome_[i] == EndedAs::kStale && facts_of(tokens_[i]).ended_as == end_state(ends_[i].end)) outcome_[i] = EndedAs::kRepeated;
    return outcome_;
  }

 private:
  void one(std::size_t i) {
    try {
      write({i});
    } catch (const tasker::Error &error) {
      // Between its being read and written the step was moved by somebody: nothing was written then.
      if (error.sqlstate() != "40001" || error.message() != kLostRace) throw;
      stale(ends_[i].step, tokens_[i]);
    }
  }

  void one_of_many(std::size_t i) {
    const auto failure = pg::in_savepoint([&] { write({i}); });
    if (!failure) return;
    if (failure->sqlstate != "40001" || failure->message != kLostRace) throw tasker::Error(failure->sqlstate.c_str(), failure->message, failure->detail, failure->hint);
    outcome_[i] = EndedAs::kStale;
  }

  void write(const std::vector<std::size_t> &which) {
    std::vector<LeaseToken> wanted;
    std::map<StepKey, std::size_t> places;
    for (const std::size_t i : which) {
      wanted.push_back(tokens_[i]);
      places[tokens_[i].key] = i;
    }
    std::sort(wanted.begin(), wanted.end(), [](const LeaseToken &a, const LeaseToken &b) { return a.key < b.key; });
    std::vector<HeldLease> held;
    {
      pg::Spi spi;
      pg::OwnerScope as_owner(store::cached_extension_owner());
      held = store::take_leases(wanted);
    }
    TASKER_FAULT("claim.after_lease");
    std::vector<OutsideEnd> ends;
    ends.reserve(held.size());
    std::vector<Batch::Ending> endings;
    for (const HeldLease &lease : held) {
      ends.push_back(ends_[places.at(lease.key)].end);
      ends.back().metadata = metadata_of(lease, tokens_[places.at(lease.key)].token);
      endings.push_back({lease.key, lease.moves, &ends.back()});
    }
    Batch batch(options_of(nonce_), observer_, memory_);
    const std::vector<bool> ended = batch.end_outside(endings);
    batch.record();
    for (std::size_t i = 0; i < held.size(); i++)
      if (ended[i]) outcome_[places.at(held[i].key)] = EndedAs::kEnded;
    tell_at_commit(batch);
    settle_here(batch);
  }

  const std::vector<ClaimEnd> &ends_;
  MemoryContext memory_;
  std::int64_t nonce_ = 0;
  NothingRuns observer_;
  std::vector<LeaseToken> tokens_;
  std::vector<EndedAs> outcome_;
};

}  // namespace

std::vector<EndedAs> end_claims(const std::vector<ClaimEnd> &ends, MemoryContext memory) { return Ends(ends, memory).run(); }

bool end_claim(const ClaimEnd &end, MemoryContext memory) {
  const std::vector<ClaimEnd> one{end};
  Ends ends(one, memory);
  const EndedAs outcome = ends.run().front();
  if (outcome == EndedAs::kStale) stale(end.step, ends.token(0));
  return outcome == EndedAs::kEnded;
}

bool release_claim(const StepToken &step, MemoryContext memory) {
  const LeaseToken token = locate({&step}).front();
  NothingRuns observer;
  Batch batch(options_of(nonce()), observer, memory);
  std::vector<HeldLease> held;
  {
    pg::Spi spi;
    pg::OwnerScope as_owner(store::cached_extension_owner());
    held = store::take_leases({token});
  }
  bool released = false;
  try {
    released = !held.empty() && batch.return_outside(token.key, held.front().moves, false, "\"cause\": \"released\", " + metadata_of(held.front(), token.token));
    batch.record();
  } catch (const tasker::Error &error) {
    if (error.sqlstate() != "40001" || error.message() != kLostRace) throw;
    stale(step, token);
  }
  if (released) {
    const int system = batch.outcomes().front().step().dependent_system_id;
    if (system != 0) store::tell_breaker(system, token.key, store::SystemWord::kNothing);
    return true;
  }
  if (facts_of(token).ended_as == "pending") return false;
  stale(step, token);
}

TimestampTz extend_claim(const StepToken &step, TimestampTz lease) {
  const LeaseToken token = locate({&step}).front();
  std::optional<TimestampTz> until;
  {
    pg::Spi spi;
    pg::OwnerScope as_owner(store::cached_extension_owner());
    until = store::extend_lease(token, GetCurrentTimestamp() + lease);
    if (until) store::set_step_timers({{token.key, store::TimerKind::kLease, *until}});
  }
  if (!until) stale(step, token);
  return *until;
}

}  // namespace tasker::engine
