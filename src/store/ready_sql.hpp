// Which steps could run and do not, as conditions of statements that count them; t, s, d, n are the task, the step, and the
// definitions of both. What decides about one step for good is core/readiness.hpp; these leave out what only a dispatcher knows.
#pragma once

#include "store/pauses.hpp"

// Is nothing in the tables in its way, and no breaker?
#define TASKER_STEP_COULD_RUN                                                                                                                       \
  "t.runnable AND NOT t.paused AND NOT EXISTS (SELECT FROM tasker.scope_pauses p WHERE " TASKER_SCOPE_HOLDS ") AND t.run_at <= clock_timestamp()"   \
  " AND s.state IN ('pending', 'error') AND NOT s.permanent AND s.waiting_on = 0"                                                                   \
  " AND (s.state = 'pending' OR d.retryable AND s.attempts < coalesce(s.max_attempts, d.max_attempts))"                                             \
  " AND (s.next_attempt_at IS NULL OR s.next_attempt_at <= clock_timestamp())"                                                                      \
  " AND (cardinality(d.parents) <> 1 OR EXISTS (SELECT FROM tasker.workflow_steps p WHERE p.task_id = s.task_id AND p.step_no = d.parents[1]"       \
  "      AND p.element = -1 AND p.state IN ('complete', 'resolved_manually', 'skipped')))"                                                          \
  " AND NOT EXISTS (SELECT FROM tasker.breakers b WHERE b.dependent_system_id = d.dependent_system_id AND b.state <> 'closed')"
// May a limit of set_step_limit be what it waits for?
#define TASKER_STEP_IS_LIMITED                                                                                                            \
  "EXISTS (SELECT FROM tasker.step_limit_rows l WHERE l.task_namespace_id = n.task_namespace_id AND coalesce(l.name = n.name, true)"     \
  "      AND coalesce(l.step_name = d.name, true))"
// Since when it could.
#define TASKER_STEP_READY_SINCE \
  "greatest(t.run_at, s.next_attempt_at, (SELECT max(p.finished_at) FROM tasker.workflow_steps p WHERE p.task_id = s.task_id AND p.step_no = ANY (d.parents)))"
