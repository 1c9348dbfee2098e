// What people do to tasks and steps: cancel, pause, retry, skip, resolve. Ordinary transactional writes of the
// caller, idempotent (false: it was there already), each leaving a transition with actor and reason.
//
// All raise 02000 for a task that does not exist or is not the caller's to control, TK004 naming the state for a
// move that is not allowed from it, and TK004 from inside a step of the task itself.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "store/facts.hpp"

namespace tasker::engine {

using Reason = std::optional<std::string>;

bool cancel_task(std::int64_t task_id, const Reason &reason);
bool pause_task(std::int64_t task_id, const Reason &reason);
bool resume_task(std::int64_t task_id, const Reason &reason);
bool retry_task(std::int64_t task_id, const Reason &reason);
bool resolve_task_manually(std::int64_t task_id, const Reason &reason);

bool cancel_step(std::int64_t task_id, const std::string &step, const Reason &reason);
bool retry_step(std::int64_t task_id, const std::string &step, const Reason &reason);
bool reset_step(std::int64_t task_id, const std::string &step, const Reason &reason);
bool skip_step(std::int64_t task_id, const std::string &step, const Reason &reason);
// Raises 54000 for a result over tasker.max_result_size.
bool resolve_step_manually(std::int64_t task_id, const std::string &step, Datum result_or_zero, const Reason &reason);

// The step and its descendants run again; their earlier results stay in the history, their idempotency keys are new.
bool rerun_task_from(std::int64_t task_id, const std::string &step, const Reason &reason);

// At creation: these steps (checked to be skippable) are skipped. Precondition: inside pg::OwnerScope and pg::Spi.
void bypass_steps(std::int64_t task_id, const std::vector<std::string> &names);

// Whether this role may control, or see, tasks of that owner. An operator or admin may control all.
bool may_control(Oid role, Oid owner, Oid created_by);
bool has_level(Oid role, const char *level);

// The task whose step this process runs right now, or 0: control functions on it would wait for themselves.
void set_running_task(std::int64_t task_id);
std::int64_t running_task();

}  // namespace tasker::engine
