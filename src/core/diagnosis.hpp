// Why a task isn't done, and what there is to do about it: findings, made from facts.
//
// Whoever asks has read rows, shared memory and catalogs into a TaskCase; here are the rules alone. A finding has
// evidence (numbers, names, SQLSTATEs, times), one sentence that says what was found, advice, and the place in the
// documents. No evidence holds a payload (context, result, DETAIL or CONTEXT of an error): who may see a task may
// see all of its findings. Every state of a task gives at least one.
//
//   finding                     about   what was found
//   blocked                     both    something it waits for; evidence.reason names the rule and its object
//   ready, running              step    nothing is wrong: it runs in a moment, or now
//   run_by_session              task    a session in run_task has the task for itself
//   transient_failure           step    the last attempt failed, the next comes by itself
//   failed                      step    failed for good, and nothing more is known about it
//   always_fails_at_this_input  step    the same error at each attempt, while other tasks pass this step
//   fails_everywhere            step    nearly all recent attempts fail, of other tasks too: the handler, not the input
//   retry_limit_too_low         step    out of attempts by a failure that passes
//   timeout_too_short           step    timed out, and successful runs take nearly as long as the limit
//   timed_out                   step    timed out, though successful runs are far from the limit, or there are none
//   outcome_unknown             step    a call was sent and its answer lost
//   crashed                     step    it took its server process down
//   handler_missing             step    the function or procedure isn't there, or can't be called that way
//   privilege_missing           both    the owner lacks a privilege: EXECUTE, USAGE, CONNECT, LOGIN, or inside the handler
//   breaker_open                step    the circuit breaker of its dependent system is open
//   assigned                    step    an executor has it in its queue, behind another step
//   worker_shortage             step    ready, but every executor there may be is busy
//   locked                      task    another transaction holds its row
//   not_dispatched              step    ready for a while, and nothing explains why it doesn't run
//   long_running                step    runs far longer than it usually does
//   parent_cancelled            step    an ancestor was cancelled
//   cancelled, skipped          both    by whom and why
//   complete, resolved_manually both    done
//   not_run                     step    the task ended before its turn came
//   finishing                   task    all steps have ended, the task follows
//   held                        task    the database or the task is held
//   no_preload, standby         task    nothing runs in the background here
//   owner_gone                  task    the owner was dropped
//   superuser_owner_barred      task    the owner is a superuser, which tasker.allow_superuser_tasks forbids
//   deadline_passed, _near      task    the deadline of the whole run
//   connection_pressure         task    over 80 % of the connections are in use
//   definition_retired          task    new tasks need another version
//   inconsistent                task    its rows don't fit its definition
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "core/json.hpp"
#include "core/readiness.hpp"
#include "core/retry.hpp"

namespace tasker::core {

enum class Severity : std::uint8_t {
  kCritical,  // nothing of this kind runs until somebody acts
  kHigh,      // this task or step stands still until somebody acts
  kMedium,    // it goes on, late or not for long
  kLow,       // passes by itself
  kInfo,      // as it should be
};
const char *to_string(Severity severity) noexcept;

// All times are microseconds since 2000-01-01 00:00 UTC.
using Moment = std::int64_t;

// Who moved something, and the reason given.
struct Mover {
  std::string actor, reason;
  Moment at = 0;
};

struct AttemptFailure {
  int attempt = 0;
  std::string sqlstate, message, category;
  Moment at = 0;
  bool by_deadline = false;  // ended by the deadline of the whole run
};

// How attempts of a step ended, in all tasks of the definition.
struct StepOutcomes {
  SuccessHistory recent;  // first attempts of late, from memory
  SuccessHistory day, week;
  SuccessHistory later;   // second and further attempts, in a week
  double max_ms = 0;      // of the successes of a week
};

struct StepDurations {
  int runs = 0;
  double p95_ms = 0, max_ms = 0;
};

// The function or procedure behind a step, with the owner's rights.
struct HandlerCase {
  std::string kind, name;           // "function", "shop.charge"
  std::string problem;              // why it can't be called; "" when it is there
  std::string signature, schema;    // shop.charge(jsonb,jsonb), shop: quoted as in SQL
  bool may_execute = true, may_use_schema = true;
};

struct RunningCase {
  int pid = 0;
  Moment since = 0;
  std::string waits_for;         // wait event, "Lock: transactionid"; "" when it works
  std::vector<int> blocked_by;   // processes that hold the lock it waits for; 0: a prepared transaction
};

// An executor has the step in its queue, behind what it runs.
struct AssignedCase {
  int pid = 0;
  std::optional<Moment> busy_since;
};

struct BreakerCase {
  std::string system, state;
  int failures = 0;
  bool by_hand = false;
  std::string actor, reason;           // of one opened by hand
  std::optional<Moment> since, until;  // until: nothing for one that does not end by itself
};

struct StepCase {
  std::string name;
  StepFacts facts;       // in_progress when a worker runs it now
  Readiness readiness;
  std::string reason;    // the readiness reason with its object
  bool skippable = false;
  int defined_max_attempts = 3, crashes = 0;
  double timeout_ms = 0;  // 0: none
  std::optional<Moment> ready_since;
  std::optional<Mover> mover;            // of a step that was moved by hand
  std::vector<AttemptFailure> failures;  // of the present generation, newest first; the last few
  StepOutcomes outcomes;
  StepDurations durations;
  std::optional<HandlerCase> handler;
  std::optional<RunningCase> running;
  std::optional<AssignedCase> assigned;
  int dependent_system_id = 0;
  std::optional<BreakerCase> breaker;
};

struct ServerCase {
  bool preloaded = true, standby = false;
  bool launcher_alive = true, dispatcher_known = true, dispatcher_alive = true;
  std::string dispatcher_state;
  int launcher_pid = 0, dispatcher_pid = 0, failed_starts = 0;
  int executors = 0, busy_executors = 0, executors_here = 0, max_executors = 0, max_concurrent_steps = 0;
  int max_worker_processes = 0, worker_slots_left = 0;
  std::int64_t connections = 0, max_connections = 0;
  int session_pid = 0;  // in run_task for this task
};

struct LockCase {
  int pid = 0;
  std::string prepared;  // the name of a prepared transaction, which has no process
  Moment since = 0;
  bool own = false;  // the session that asks
};

struct TaskCase {
  std::int64_t task_id = 0;
  std::string ns, name, version;
  std::string owner, owner_identifier, database_identifier;  // the identifiers quoted as in SQL
  TaskFacts facts;
  std::string held, connect_problem;    // "" when all is well
  bool owner_gone = false, superuser_barred = false, retired = false;
  Moment now = 0;
  std::optional<Moment> created_at, finished_at, deadline_at;
  std::string error;
  std::optional<Mover> paused_by, ended_by;
  std::optional<LockCase> lock;
  const Graph *graph = nullptr;  // one node a step
  std::vector<StepCase> steps;   // steps[step_no - 1]
  ServerCase server;
};

struct Finding {
  Severity severity = Severity::kInfo;
  const char *code = "";
  int step_no = 0;         // 0: about the task, or about several steps
  std::vector<int> steps;  // the steps of one about several, ascending
  std::vector<int> waits_for;  // other steps; their names are in the evidence
  json evidence = json::object();
  std::string summary;     // a sentence without full stop
  std::string advice;
  // One finding for all steps that share code and group; "" for each alone. everybody: about the task even when one step says so.
  std::string group;
  bool everybody = false;
};

// Page and heading of the project's documents that explain a finding.
const char *doc_of(const char *code) noexcept;

// The worst first, then in the order of steps. only_step 0: the whole task, with steps that share a cause in one
// finding; else that step, and what is about the task. Never empty.
std::vector<Finding> diagnose(const TaskCase &task, int only_step = 0);

// The finding for a task whose steps don't fit its definition.
Finding inconsistent_task(std::int64_t task_id);

// What people read: how the task stands, then each finding with its advice.
std::string explain(const TaskCase &task, const std::vector<Finding> &findings);

}  // namespace tasker::core
