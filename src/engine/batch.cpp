#include "engine/batch.hpp"

#include <algorithm>
#include <map>

#include "engine/create.hpp"
#include "pg/deadline.hpp"
#include "pg/fault.hpp"
#include "pg/memory.hpp"
#include "pg/security.hpp"
#include "pg/xact.hpp"
#include "store/limits.hpp"
#include "store/pauses.hpp"
#include "store/settings.hpp"

namespace tasker::engine {

namespace {

constinit bool set_constraints_seen = false;

// Of those that have written. Past 64 of them the server's snapshots overflow.
inline constexpr int kMaxSubtransactions = 48;
bool many_subtransactions() { return MyProc->subxidStatus.overflowed || MyProc->subxidStatus.count > kMaxSubtransactions; }

int timeout_of(const store::CompiledStep &step) {
  if (!step.timeout_seconds) return store::settings.step_timeout_ms;
  return static_cast<int>(std::clamp(*step.timeout_seconds * 1000.0, 1.0, static_cast<double>(INT_MAX)));
}

// No attempt outlives its task's deadline by more than this: the dispatcher ends it in time, where there is one.
inline constexpr TimestampTz kDeadlineGrace = 500 * 1000;
int time_left(const store::LoadedStep &loaded, const store::CompiledStep &step) {
  const int timeout = timeout_of(step);
  if (!loaded.task.deadline_at) return timeout;
  return static_cast<int>(std::clamp<TimestampTz>((*loaded.task.deadline_at + kDeadlineGrace - GetCurrentTimestamp()) / 1000, 1, timeout));
}

// Deferred constraints of a step that runs alone are checked before its record is written, so that their error
// is that of the attempt.
void fire_deferred_constraints() {
  pg::call([] {
    ConstraintsSetStmt *statement = makeNode(ConstraintsSetStmt);
    statement->constraints = NIL;
    statement->deferred = false;
    AfterTriggerSetState(statement);
  });
}

}  // namespace

void note_set_constraints() { set_constraints_seen = true; }

std::string step_idempotency_key(std::int64_t nonce, const store::StepKey &key, int generation) {
  char text[96];
  snprintf(text, sizeof text, "%016llx-%lld-%d-%d-%d", static_cast<unsigned long long>(nonce), static_cast<long long>(key.task_id), key.step_no,
           key.element, generation);
  return text;
}

Batch::Batch(BatchOptions options, RunObserver &observer, MemoryContext memory)
    : options_(std::move(options)), observer_(observer), memory_(memory) {}

bool Batch::runnable(const store::LoadedStep &l) const {
  const core::TaskState task = l.task.state;
  if (!l.task.live || l.task.paused || store::scope_paused(l.task.named_task_id) || l.task.home != options_.nonce) return false;
  if (task != core::TaskState::kPending && task != core::TaskState::kInProgress) return false;
  if (l.step.state != core::StepState::kPending && l.step.state != core::StepState::kError) return false;
  const TimestampTz now = GetCurrentTimestamp();
  if (l.task.deadline_at && *l.task.deadline_at <= now) return false;
  if (options_.skip_waits) return true;
  return l.task.run_at <= now && (!l.step.next_attempt_at || *l.step.next_attempt_at <= now);
}

void Batch::load(const std::vector<store::StepAt> &steps) {
  std::vector<Outcome> candidates;
  {
    pg::OwnerScope as_owner(store::cached_extension_owner());
    pg::Spi spi;
    store::refresh_pauses();
    if (!options_.solo && !options_.outside) (void)store::refresh_limits();  // of children: see queue_children
    for (store::LoadedStep &loaded : store::load_steps(steps, memory_)) {
      if (!runnable(loaded)) continue;
      Outcome outcome;
      outcome.definition = store::definition(loaded.task.named_task_id);
      outcome.loaded = std::move(loaded);
      const core::StepFacts facts = store::step_facts(outcome.loaded.step, outcome.step());
      const bool eligible = facts.state == core::StepState::kPending ||
                            (facts.attempts < facts.max_attempts && facts.retryable && !facts.failed_permanently);
      if (eligible && store::is_outside(outcome.step().type) == options_.outside) candidates.push_back(std::move(outcome));
    }
    load_parents(candidates);
    std::erase_if(candidates, [&](const Outcome &candidate) {
      const int system = candidate.step().dependent_system_id;
      if (system == 0 || options_.admits(system, candidate.loaded.step.key)) return false;
      refused_.push_back(candidate.loaded.step.key);
      return true;
    });
  }
  ready_.insert(ready_.end(), std::make_move_iterator(candidates.rbegin()), std::make_move_iterator(candidates.rend()));
}

// Reads the parents that this batch does not know yet and drops candidates with one that is not done.
void Batch::load_parents(std::vector<Outcome> &candidates) {
  std::vector<store::StepKey> wanted;
  for (const Outcome &c : candidates)
    for (int parent : c.step().parents) {
      const store::StepKey key{c.loaded.task.task_id, parent, -1};
      if (!satisfied_.contains(key)) wanted.push_back(key);
    }
  for (const store::ParentResult &parent : store::load_results(wanted, memory_))
    if (core::satisfies_children(parent.state)) satisfied_.emplace(parent.key, Satisfied{parent.result});
  const auto unready = [&](const Outcome &c) {
    return std::any_of(c.step().parents.begin(), c.step().parents.end(),
                       [&](int parent) { return !satisfied_.contains({c.loaded.task.task_id, parent, -1}); });
  };
  std::erase_if(candidates, unready);
}

Datum Batch::results_of_parents(const Outcome &outcome) const {
  pg::ContextScope scope(memory_);
  JsonbParseState *state = nullptr;
  JsonbParseState **s = &state;
  pg::call([=] { pushJsonbValue(s, WJB_BEGIN_OBJECT, nullptr); });
  for (int parent : outcome.step().parents) {
    const std::string &name = outcome.definition->step(parent).name;
    const Datum result = satisfied_.at({outcome.loaded.task.task_id, parent, -1}).result;
    char *text = const_cast<char *>(name.data());
    const int length = static_cast<int>(name.size());
    pg::call([=] {
      JsonbValue key;
      key.type = jbvString;
      key.val.string.val = text;
      key.val.string.len = length;
      pushJsonbValue(s, WJB_KEY, &key);
      JsonbValue value;
      if (result == Datum(0)) {
        value.type = jbvNull;
      } else {
        Jsonb *jsonb = DatumGetJsonbP(result);
        value.type = jbvBinary;
        value.val.binary.data = &jsonb->root;
        value.val.binary.len = static_cast<int>(VARSIZE(jsonb) - VARHDRSZ);
      }
      pushJsonbValue(s, WJB_VALUE, &value);
    });
  }
  return pg::call([=] { return JsonbPGetDatum(JsonbValueToJsonb(pushJsonbValue(s, WJB_END_OBJECT, nullptr))); });
}

// A failure counts for the circuit breaker when it is committed: meanwhile no other step of that system starts here.
bool Batch::awaits_word(const Outcome &next) const {
  const int system = next.step().dependent_system_id;
  return system != 0 && std::any_of(outcomes_.begin(), outcomes_.end(), [=](const Outcome &o) {
    return o.step().dependent_system_id == system && o.kind == OutcomeKind::kFailed && o.failure.against_system;
  });
}

// A fan-out that fits a batch, but not the rest of this one, begins the next: else its children are handed round, and meet again
// in the row of the step that joins them.
bool Batch::opens_too_wide(const Outcome &next) const {
  const int used = static_cast<int>(outcomes_.size()), wanted = static_cast<int>(next.step().children.size()) + 1;
  return wanted > 2 && wanted <= max_steps_ && used + wanted > max_steps_ && used * 2 >= max_steps_;
}

bool Batch::must_close(const Outcome &next) const {
  if (outcomes_.empty()) return false;
  if (close_ || options_.solo || static_cast<int>(outcomes_.size()) >= max_steps_) return true;
  if (next.step().parents.empty() && opens_too_wide(next)) return true;
  if (GetCurrentTimestamp() - begun_at_ > static_cast<TimestampTz>(options_.max_duration_ms) * 1000) return true;
  const store::CompiledStep &step = next.step();
  if (step.type == store::HandlerType::kNoop) return false;
  if (awaits_word(next)) return true;
  if (many_subtransactions() || options_.full()) return true;
  return next.loaded.step.crashes > 0 || step.own_transaction || !options_.batchable(*next.definition, step);
}

void Batch::run() {
  begun_at_ = GetCurrentTimestamp();
  if (options_.size && !ready_.empty()) max_steps_ = options_.size(*ready_.back().definition, ready_.back().step());
  while (!ready_.empty()) {
    if (must_close(ready_.back()) || store::pauses_changed()) break;
    Outcome next = std::move(ready_.back());
    ready_.pop_back();
    in_batch_.emplace(next.loaded.step.key, true);
    outcomes_.push_back(std::move(next));
    run_one(outcomes_.back());
    Outcome &done = outcomes_.back();
    if (done.kind == OutcomeKind::kSucceeded && !options_.solo) queue_children(done);
    if (done.step().type != store::HandlerType::kNoop && !options_.batchable(*done.definition, done.step())) close_ = true;
    pg::check_interrupts();
  }
  if (!options_.solo) fire_deferred();
  // Children that did not get their turn are not leftovers: their parents' commit announces them.
  for (auto it = ready_.rbegin(); it != ready_.rend(); ++it) {
    const bool child_of_batch = std::any_of(it->step().parents.begin(), it->step().parents.end(), [&](int parent) {
      return in_batch_.contains({it->loaded.task.task_id, parent, -1});
    });
    if (!child_of_batch) leftovers_.push_back(it->loaded.step.key);
  }
  ready_.clear();
}

// Deferred triggers are user code: they run here, under a deadline and before any row of tasker is locked. An error has
// no culprit in a shared transaction; the caller then runs each step alone.
void Batch::fire_deferred() {
  if (outcomes_.empty()) return;
  pg::arm_deadline(store::settings.step_timeout_ms);
  try {
    fire_deferred_constraints();
  } catch (...) {
    pg::disarm_deadline();
    throw;
  }
  pg::disarm_deadline();
}

void Batch::run_one(Outcome &outcome) {
  const store::CompiledStep &step = outcome.step();
  outcome.started_at = GetCurrentTimestamp();
  if (step.type == store::HandlerType::kNoop) {
    outcome.kind = OutcomeKind::kSucceeded;
    outcome.finished_at = outcome.started_at;
    satisfied_.insert_or_assign(outcome.loaded.step.key, Satisfied{0});
    return;
  }
  HandlerCall call;
  call.definition = outcome.definition.get();
  call.step = &step;
  call.task_id = outcome.loaded.task.task_id;
  call.attempt = outcome.loaded.step.attempts + 1;
  call.context = outcome.loaded.context;
  call.results = results_of_parents(outcome);
  call.correlation_id = outcome.loaded.correlation_id ? &*outcome.loaded.correlation_id : nullptr;
  call.idempotency_key = step_idempotency_key(options_.nonce, outcome.loaded.step.key, outcome.loaded.step.generation);

  const Oid session_user = GetSessionUserId();
  Oid user;
  int security;
  GetUserIdAndSecContext(&user, &security);
  set_constraints_seen = false;
  Interruption why = Interruption::kNone;
  SetCurrentStatementStartTimestamp();
  const std::optional<pg::Caught> error = run_handler(outcome, call, why);
  outcome.finished_at = GetCurrentTimestamp();
  clean_session();
  check_identity(session_user, user, security);
  if ((MyXactFlags & XACT_FLAGS_ACCESSEDTEMPNAMESPACE) != 0) touched_temp_ = close_ = true;
  if (set_constraints_seen) close_ = true;

  if (!error) {
    outcome.kind = OutcomeKind::kSucceeded;
    satisfied_.insert_or_assign(outcome.loaded.step.key, Satisfied{outcome.result});
  } else {
    forget_plan(*outcome.definition, step);
    settle_failure(outcome, *error, why);
  }
}

// In a savepoint and a nest level of settings, both gone before anything else happens; a procedure that commits
// by itself can have neither.
std::optional<pg::Caught> Batch::run_handler(Outcome &outcome, const HandlerCall &call, Interruption &why) {
  bool ended = false;
  const auto guarded = [&](auto &&body) {
    try {
      observer_.begin(outcome.loaded, time_left(outcome.loaded, outcome.step()));
      TASKER_FAULT("run.before_handler");
      body();
      TASKER_FAULT("run.after_handler");
      why = observer_.end();
      ended = true;
    } catch (...) {
      if (!ended) why = observer_.end();
      throw;
    }
  };
  if (!outcome.step().procedure.empty()) {
    try {
      guarded([&] { call_procedure(call); });
    } catch (...) {
      if (!options_.restart_transaction) throw;  // run_task: the transaction is the caller's, and lost
      const pg::Caught error = pg::describe_current_exception();
      options_.restart_transaction();
      return error;
    }
    return std::nullopt;
  }
  return pg::in_savepoint([&] {
    const int nest = NewGUCNestLevel();
    guarded([&] {
      outcome.result = call_handler(call, memory_);
      if (options_.solo) fire_deferred_constraints();
    });
    pg::call([=] { AtEOXact_GUC(false, nest); });
  });
}

void Batch::check_identity(Oid session_user, Oid user, int security) const {
  Oid user_now;
  int security_now;
  GetUserIdAndSecContext(&user_now, &security_now);
  if (GetSessionUserId() != session_user || user_now != user || security_now != security)
    pg::fatal("a step changed the identity of its session");
}

void Batch::fail_all(const pg::Caught &error) {
  for (Outcome &outcome : outcomes_) {
    if (outcome.kind != OutcomeKind::kSucceeded && outcome.kind != OutcomeKind::kDropped) continue;
    outcome.failure = decide_failure(error, outcome.loaded.step, outcome.step(), outcome.loaded.step.attempts + 1);
    outcome.kind = OutcomeKind::kFailed;
    outcome.result = 0;
  }
}

void Batch::settle_failure(Outcome &outcome, const pg::Caught &error, Interruption why) {
  const bool interrupted = error.sqlstate == "57014";
  if (interrupted && why == Interruption::kCancelled) {
    outcome.kind = OutcomeKind::kDropped;  // the row is cancelled already; the effects are gone with the savepoint
    return;
  }
  if (interrupted && why == Interruption::kPreempted) {
    outcome.kind = OutcomeKind::kRunAlone;
    run_alone_.push_back(outcome.loaded.step.key);
    close_ = true;
    return;
  }
  if (interrupted && why == Interruption::kForeign && options_.propagate_cancel)
    throw tasker::Error("57014", "canceling statement due to user request");
  pg::Caught told = error;
  // A role that is dropped under its running step makes catalog look-ups fail in many ways; this is what they mean.
  if (role_is_gone(GetSessionUserId())) told = gone_owner(error.message);
  const char *category = nullptr;
  bool may_retry = true;
  const std::optional<TimestampTz> deadline = outcome.loaded.task.deadline_at;
  if (interrupted && why == Interruption::kTimeout && deadline && *deadline <= outcome.finished_at) {
    category = "timeout";
    may_retry = false;
    told = deadline_passed(*deadline);
  } else if (interrupted && why == Interruption::kTimeout) {
    category = "timeout";
    told.message = "step \"" + outcome.step().name + "\" ran longer than " + std::to_string(timeout_of(outcome.step())) + " ms";
    told.hint = "Raise timeout_seconds of the step or tasker.step_timeout, or make the step shorter.";
  } else if (interrupted && why == Interruption::kForeign) {
    category = "cancelled";
  } else if (error.sqlstate == "2D000" && error.hint.empty()) {
    told.hint = "A step commits by itself only in a procedure, with \"atomic\": false.";
  }
  const int attempts = outcome.loaded.step.attempts + 1;
  outcome.failure = decide_failure(told, outcome.loaded.step, outcome.step(), attempts, category, may_retry);
  if (outcome.failure.contention && (!options_.solo || (error.sqlstate == "40P01" && options_.deadlock_of_a_batch()))) {
    outcome.kind = OutcomeKind::kRunAlone;
    run_alone_.push_back(outcome.loaded.step.key);
    close_ = true;
    return;
  }
  outcome.kind = OutcomeKind::kFailed;
}

// Those under a limit are left to the dispatcher, who counts.
void Batch::queue_children(const Outcome &parent) {
  if (store::limits_changed()) return;
  std::vector<store::StepAt> children;
  for (int child : parent.step().children) {
    const auto &parents = parent.definition->step(child).parents;
    const bool all = std::all_of(parents.begin(), parents.end(), [&](int p) { return satisfied_.contains({parent.loaded.task.task_id, p, -1}); });
    const store::CompiledStep &step = parent.definition->step(child);
    const bool joins = step.type == store::HandlerType::kNoop || (options_.batchable(*parent.definition, step) && !step.own_transaction);
    if (all && joins && !store::is_limited(*parent.definition, step)) children.emplace_back(store::StepKey{parent.loaded.task.task_id, child, -1}, store::StepPlaces{parent.loaded.task.place, {}});
  }
  // A wide fan-out is shared with other executors: only as many as this batch could still take.
  const std::size_t room = static_cast<std::size_t>(std::max(0, max_steps_ - static_cast<int>(outcomes_.size())));
  if (children.size() > room) children.resize(room);
  if (!children.empty() && !close_) load(children);
}

bool Batch::first_is_solo() const {
  if (ready_.empty()) return false;
  const Outcome &next = ready_.back();
  const store::CompiledStep &step = next.step();
  if (step.type == store::HandlerType::kNoop) return false;
  return next.loaded.step.crashes > 0 || step.own_transaction || !options_.batchable(*next.definition, step);
}

bool Batch::fail_lost_run(const store::StepKey &key, int moves, const pg::Caught &error, const char *category, bool retry) {
  {
    pg::OwnerScope as_owner(store::cached_extension_owner());
    pg::Spi spi;
    for (store::LoadedStep &loaded : store::load_steps({key}, memory_)) {
      if ((loaded.step.moves != moves && moves != kAnyMoves) || !loaded.task.live || loaded.task.home != options_.nonce) return false;
      if (loaded.step.state != core::StepState::kPending && loaded.step.state != core::StepState::kError) return false;
      Outcome outcome;
      outcome.definition = store::definition(loaded.task.named_task_id);
      outcome.loaded = std::move(loaded);
      outcome.started_at = outcome.finished_at = GetCurrentTimestamp();
      outcome.kind = OutcomeKind::kFailed;
      const int attempts = outcome.loaded.step.attempts + 1;
      outcome.failure = decide_failure(error, outcome.loaded.step, outcome.step(), attempts, category, retry);
      outcomes_.push_back(std::move(outcome));
    }
  }
  return !outcomes_.empty();
}

void Batch::begin_outside(const std::function<Begin(Outcome &, OutsideEnd &)> &decide) {
  for (auto it = ready_.rbegin(); it != ready_.rend(); ++it) {
    OutsideEnd end;
    it->started_at = it->finished_at = GetCurrentTimestamp();
    const Begin begin = decide(*it, end);
    if (begin == Begin::kLeave) continue;
    if (begin == Begin::kEnd) end_with(*it, end);
    else it->kind = OutcomeKind::kBegun;
    outcomes_.push_back(std::move(*it));
  }
  ready_.clear();
}

void Batch::end_with(Outcome &outcome, const OutsideEnd &end) const {
  outcome.metadata = end.metadata;
  outcome.result = end.result;
  outcome.kind = end.error ? OutcomeKind::kFailed : OutcomeKind::kSucceeded;
  if (end.error) outcome.failure = decide_failure(*end.error, outcome.loaded.step, outcome.step(), outcome.attempt(), end.category, end.may_retry);
}

// Those that are under way in the run that began with so many moves.
std::vector<Outcome> Batch::load_under_way(const std::vector<std::pair<store::StepKey, int>> &runs) {
  std::vector<store::StepAt> keys;
  std::unordered_map<store::StepKey, int, store::StepKeyHash> wanted;
  for (const auto &[key, moves] : runs) {
    keys.emplace_back(key);
    wanted.emplace(key, moves);
  }
  std::vector<Outcome> out;
  pg::OwnerScope as_owner(store::cached_extension_owner());
  pg::Spi spi;
  for (store::LoadedStep &loaded : store::load_steps(keys, memory_)) {
    const int moves = wanted.at(loaded.step.key);
    if ((loaded.step.moves != moves && moves != kAnyMoves) || !loaded.task.live || loaded.task.home != options_.nonce) continue;
    if (loaded.step.state != core::StepState::kInProgress) continue;
    Outcome outcome;
    outcome.definition = store::definition(loaded.task.named_task_id);
    outcome.loaded = std::move(loaded);
    outcome.finished_at = GetCurrentTimestamp();
    outcome.started_at = outcome.loaded.step.started_at.value_or(outcome.finished_at);
    out.push_back(std::move(outcome));
  }
  return out;
}

bool Batch::end_outside(const store::StepKey &key, int moves, const OutsideEnd &end) {
  return end_outside({{key, moves, &end}}).front();
}

std::vector<bool> Batch::end_outside(const std::vector<Ending> &endings) {
  std::vector<std::pair<store::StepKey, int>> runs;
  std::unordered_map<store::StepKey, std::size_t, store::StepKeyHash> places;
  for (const Ending &each : endings) {
    places.emplace(each.key, runs.size());
    runs.emplace_back(each.key, each.moves);
  }
  std::vector<bool> ended(endings.size(), false);
  for (Outcome &outcome : load_under_way(runs)) {
    const std::size_t place = places.at(outcome.loaded.step.key);
    end_with(outcome, *endings[place].end);
    outcomes_.push_back(std::move(outcome));
    ended[place] = true;
  }
  return ended;
}

bool Batch::return_outside(const store::StepKey &key, int moves, bool count_attempt, const std::string &metadata) {
  for (Outcome &outcome : load_under_way({{key, moves}})) {
    outcome.metadata = metadata;
    outcome.kind = OutcomeKind::kReturned;
    outcome.attempts_back = count_attempt ? 0 : 1;
    outcomes_.push_back(std::move(outcome));
    return true;
  }
  return false;
}

std::string Batch::idempotency_key(const Outcome &outcome) const {
  return step_idempotency_key(options_.nonce, outcome.loaded.step.key, outcome.loaded.step.generation);
}

core::json Batch::document(const Outcome &outcome) const {
  const auto json_of = [](Datum value) -> core::json {
    if (value == Datum(0)) return nullptr;
    return core::parse_json(pg::call([=] {
      Jsonb *jsonb = DatumGetJsonbP(value);
      return JsonbToCString(nullptr, &jsonb->root, static_cast<int>(VARSIZE(jsonb)));
    }));
  };
  const store::TaskRow &task = outcome.loaded.task;
  core::json out = {{"task_id", task.task_id},
                    {"step_name", outcome.step().name},
                    {"attempt", outcome.attempt()},
                    {"context", json_of(outcome.loaded.context)},
                    {"results", json_of(results_of_parents(outcome))},
                    {"config", core::parse_json(outcome.step().handler)},
                    {"correlation_id", nullptr},
                    {"idempotency_key", idempotency_key(outcome)}};
  if (outcome.loaded.correlation_id) out["correlation_id"] = *outcome.loaded.correlation_id;
  return out;
}

std::vector<store::StepKey> Batch::begun() const {
  std::vector<store::StepKey> keys;
  for (const Outcome &outcome : outcomes_) keys.push_back(outcome.loaded.step.key);
  return keys;
}

}  // namespace tasker::engine
