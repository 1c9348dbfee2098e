-- The tables: the truth of everything tasker does. Shared memory holds hints and caches only.
--
-- Keys of what belongs to a task start with task_id. Hot tables (tasks, steps, transitions, timers) carry no
-- foreign keys and no triggers: each would cost a lock or a trigger per row at every step; tasker.check()
-- proves referential integrity instead. No column that changes while a step lives is in an index.

CREATE TYPE tasker.task_state AS ENUM ('pending', 'in_progress', 'complete', 'error', 'cancelled', 'resolved_manually');
COMMENT ON TYPE tasker.task_state IS 'State of a task';
CREATE TYPE tasker.step_state AS ENUM ('pending', 'in_progress', 'complete', 'error', 'cancelled', 'resolved_manually', 'skipped');
COMMENT ON TYPE tasker.step_state IS 'State of a step';

CREATE TABLE tasker.home (
  singleton boolean PRIMARY KEY DEFAULT true CHECK (singleton),
  nonce bigint NOT NULL,
  database_oid oid NOT NULL,
  held_reason text,
  held_at timestamptz,
  checked_start timestamptz,
  host text,
  accepted_up_to bigint NOT NULL DEFAULT 0
);
COMMENT ON TABLE tasker.home IS 'One row, never dumped: which database these tasks belong to. A task runs only under the nonce it was created with; a restored copy comes up held';

CREATE TABLE tasker.task_namespaces (
  task_namespace_id integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  name text NOT NULL UNIQUE,
  description text,
  created_at timestamptz NOT NULL DEFAULT clock_timestamp()
);
COMMENT ON TABLE tasker.task_namespaces IS 'Namespaces of definitions, created on first use';

CREATE TABLE tasker.dependent_systems (
  dependent_system_id integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  name text NOT NULL UNIQUE,
  description text
);
COMMENT ON TABLE tasker.dependent_systems IS 'Systems that steps depend on, named by definitions';

-- Breakers: settings that are null follow the configuration; the rest is the state. Rows are made with those of the
-- systems, so that the dispatcher only ever updates them and can pass over one that somebody holds locked.
CREATE TABLE tasker.breakers (
  dependent_system_id integer PRIMARY KEY REFERENCES tasker.dependent_systems ON DELETE CASCADE,
  failure_threshold integer,
  failure_window interval,
  open_time interval,
  max_open_time interval,
  state text NOT NULL DEFAULT 'closed' CHECK (state IN ('closed', 'open', 'half_open')),
  moves integer NOT NULL DEFAULT 0,
  by_hand boolean NOT NULL DEFAULT false,
  failures integer NOT NULL DEFAULT 0,
  opens integer NOT NULL DEFAULT 0,
  last_failure_at timestamptz,
  opened_at timestamptz,
  open_until timestamptz,
  reason text,
  actor text,
  changed_at timestamptz,
  CHECK ((state = 'open') = (open_until IS NOT NULL)),
  CHECK ((state = 'closed') = (opened_at IS NULL))
);
COMMENT ON TABLE tasker.breakers IS 'The circuit breaker of each dependent system, as far as it was written: what survives a restart. moves counts changes of state; opens counts openings since it was closed last; open_until is infinity for one that only reset_breaker closes';

CREATE TABLE tasker.breaker_transitions (
  dependent_system_id integer NOT NULL REFERENCES tasker.dependent_systems ON DELETE CASCADE,
  sort_key integer NOT NULL,
  from_state text NOT NULL,
  to_state text NOT NULL,
  metadata jsonb NOT NULL DEFAULT '{}',
  created_at timestamptz NOT NULL,
  PRIMARY KEY (dependent_system_id, sort_key)
);
COMMENT ON TABLE tasker.breaker_transitions IS 'Every change of state of every breaker, append-only; sort_key is the move number';

CREATE TABLE tasker.named_tasks (
  named_task_id integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  task_namespace_id integer NOT NULL REFERENCES tasker.task_namespaces,
  name text NOT NULL,
  version text NOT NULL,
  version_order integer[] NOT NULL,
  description text,
  definition jsonb NOT NULL,
  context_schema jsonb,
  run_as text NOT NULL CHECK (run_as IN ('invoker', 'definer')),
  author regrole NOT NULL,
  deadline_seconds float8,
  step_count integer NOT NULL,
  sink_count integer NOT NULL,
  created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
  retired_at timestamptz,
  UNIQUE (task_namespace_id, name, version)
);
COMMENT ON TABLE tasker.named_tasks IS 'Definitions: versioned workflow templates, immutable once a task has used them';

CREATE TABLE tasker.named_steps (
  named_task_id integer NOT NULL REFERENCES tasker.named_tasks ON DELETE CASCADE,
  step_no integer NOT NULL,
  name text NOT NULL,
  description text,
  dependent_system_id integer REFERENCES tasker.dependent_systems,
  handler_type text NOT NULL,
  handler jsonb NOT NULL,
  parents integer[] NOT NULL,
  children integer[] NOT NULL,
  level integer NOT NULL,
  retryable boolean NOT NULL,
  max_attempts integer NOT NULL,
  backoff_base float8 NOT NULL,
  backoff_multiplier float8 NOT NULL,
  backoff_max float8 NOT NULL,
  backoff_jitter float8 NOT NULL,
  retry_on text[] NOT NULL DEFAULT '{}',
  fail_on text[] NOT NULL DEFAULT '{}',
  timeout_seconds float8,
  skippable boolean NOT NULL,
  own_transaction boolean NOT NULL,
  isolation text NOT NULL,
  priority integer NOT NULL,
  events jsonb NOT NULL,
  PRIMARY KEY (named_task_id, step_no),
  UNIQUE (named_task_id, name)
);
COMMENT ON TABLE tasker.named_steps IS 'The steps of each definition, numbered from 1 in the order written; parents and children are step numbers; retry_on and fail_on override the classification of SQLSTATEs';

CREATE TABLE tasker.definition_grants (
  task_namespace_id integer NOT NULL REFERENCES tasker.task_namespaces,
  name text NOT NULL,
  role regrole NOT NULL,
  granted_by regrole NOT NULL,
  granted_at timestamptz NOT NULL DEFAULT clock_timestamp(),
  PRIMARY KEY (task_namespace_id, name, role)
);
COMMENT ON TABLE tasker.definition_grants IS 'Who may create tasks from a definition that runs as its definer';

CREATE TABLE tasker.scope_pauses (
  pause_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  task_namespace_id integer REFERENCES tasker.task_namespaces,
  name text,
  paused_by regrole NOT NULL,
  paused_at timestamptz NOT NULL DEFAULT clock_timestamp(),
  reason text,
  resumed_by regrole,
  resumed_at timestamptz,
  resume_reason text,
  CHECK (name IS NULL OR task_namespace_id IS NOT NULL),
  CHECK ((resumed_by IS NULL) = (resumed_at IS NULL))
);
COMMENT ON TABLE tasker.scope_pauses IS 'Orders of pause_tasks, kept after their end: without a name a whole namespace, without a namespace this database. One open order per scope holds every task in it, those created later too';
CREATE UNIQUE INDEX scope_pauses_open ON tasker.scope_pauses (coalesce(task_namespace_id, 0), coalesce(name, '')) WHERE resumed_at IS NULL;

CREATE TABLE tasker.access_grants (
  role regrole NOT NULL,
  level text NOT NULL CHECK (level IN ('viewer', 'monitor', 'submitter', 'author', 'worker', 'operator', 'admin')),
  queue text NOT NULL DEFAULT '',
  granted_by regrole NOT NULL,
  granted_at timestamptz NOT NULL DEFAULT clock_timestamp(),
  PRIMARY KEY (role, level, queue)
);
COMMENT ON TABLE tasker.access_grants IS 'Levels given by grant_access';

CREATE SEQUENCE tasker.task_id_seq AS bigint CACHE 1;
COMMENT ON SEQUENCE tasker.task_id_seq IS 'Task ids';

CREATE TABLE tasker.tasks (
  task_id bigint PRIMARY KEY,
  home bigint NOT NULL,
  named_task_id integer NOT NULL,
  owner regrole NOT NULL,
  created_by regrole NOT NULL,
  priority integer NOT NULL DEFAULT 0,
  state tasker.task_state NOT NULL DEFAULT 'pending',
  moves integer NOT NULL DEFAULT 0,
  sinks_left integer NOT NULL,
  live boolean NOT NULL DEFAULT true,
  runnable boolean NOT NULL DEFAULT true,
  paused boolean NOT NULL DEFAULT false,
  failing boolean NOT NULL DEFAULT false,
  uneven boolean NOT NULL DEFAULT false,
  run_at timestamptz NOT NULL,
  created_at timestamptz NOT NULL,
  started_at timestamptz,
  finished_at timestamptz,
  deadline_seconds float8,
  deadline_at timestamptz,
  context jsonb NOT NULL DEFAULT '{}',
  error text,
  initiator text,
  source_system text,
  reason text,
  correlation_id text,
  idempotency_key text,
  tags text[] NOT NULL DEFAULT '{}',
  bypass_steps text[] NOT NULL DEFAULT '{}',
  untold integer NOT NULL DEFAULT 0
) WITH (fillfactor = 70, autovacuum_vacuum_scale_factor = 0.01, autovacuum_vacuum_cost_delay = 0);
COMMENT ON TABLE tasker.tasks IS 'One row per task. moves counts state changes; live and runnable are index predicates flipped at the end and at parking; failing: a step can no longer succeed by itself; uneven: a step was skipped, resolved or cancelled, so completion is decided by a full count instead of by sinks; untold: so many of its last moves are told by this row alone, see task_moves';
CREATE INDEX tasks_runnable ON tasker.tasks ((- priority), task_id) WHERE runnable;
-- Also for dead letters: live tasks and failed ones, never those that are done.
CREATE INDEX tasks_open ON tasker.tasks (task_id) WHERE live OR failing;

CREATE TABLE tasker.workflow_steps (
  task_id bigint NOT NULL,
  step_no integer NOT NULL,
  element integer NOT NULL DEFAULT -1,
  state tasker.step_state NOT NULL DEFAULT 'pending',
  moves integer NOT NULL DEFAULT 0,
  attempts integer NOT NULL DEFAULT 0,
  generation integer NOT NULL DEFAULT 0,
  waiting_on integer NOT NULL DEFAULT 0,
  crashes integer NOT NULL DEFAULT 0,
  old_crashes integer NOT NULL DEFAULT 0,
  crash_nonce bigint,
  max_attempts integer,
  permanent boolean NOT NULL DEFAULT false,
  started_at timestamptz,
  finished_at timestamptz,
  next_attempt_at timestamptz,
  result jsonb,
  error jsonb,
  untold integer NOT NULL DEFAULT 0,
  PRIMARY KEY (task_id, step_no, element)
) WITH (fillfactor = 45, autovacuum_vacuum_scale_factor = 0.01, autovacuum_vacuum_cost_delay = 0);
COMMENT ON TABLE tasker.workflow_steps IS 'One row per step of a task. element is -1 but for mapped steps; moves is the fence of every completing update; waiting_on counts unsatisfied parents of steps with two or more; permanent: the last failure forbids another attempt; untold: so many of its last moves are told by this row alone, see step_moves';

-- What begins and ends in one transaction is one row. And what began and completed in one, with nothing more to say of it, has none:
-- the row of the task or step says when it began and ended. Before that row moves again, its history is written. Most steps go well
-- and never move again, and most of what was written of a step was its history.
CREATE TABLE tasker.task_moves (
  task_id bigint NOT NULL,
  sort_key integer NOT NULL,
  from_state tasker.task_state,
  to_state tasker.task_state NOT NULL,
  metadata jsonb NOT NULL DEFAULT '{}',
  created_at timestamptz NOT NULL,
  begun_at timestamptz,
  PRIMARY KEY (task_id, sort_key)
) WITH (autovacuum_vacuum_insert_scale_factor = 0.1);
COMMENT ON TABLE tasker.task_moves IS 'Every state change of every task, append-only; sort_key is ten times the move number. A row with begun_at stands for two: from from_state to in_progress then (sort_key less ten), and on to to_state at created_at. A task with untold = 2 has told its last two moves itself: begun at started_at, complete at finished_at. The view task_transitions shows each move';

CREATE TABLE tasker.step_moves (
  task_id bigint NOT NULL,
  step_no integer NOT NULL,
  element integer NOT NULL DEFAULT -1,
  sort_key integer NOT NULL,
  from_state tasker.step_state,
  to_state tasker.step_state NOT NULL,
  metadata jsonb NOT NULL DEFAULT '{}',
  created_at timestamptz NOT NULL,
  begun_at timestamptz,
  attempt integer,
  PRIMARY KEY (task_id, step_no, element, sort_key)
) WITH (autovacuum_vacuum_insert_scale_factor = 0.1);
COMMENT ON TABLE tasker.step_moves IS 'Every state change of every step, append-only; sort_key is ten times the move number. A row with begun_at stands for two: from from_state to in_progress then (sort_key less ten, metadata the attempt), and on to to_state at created_at. A step with untold = 2 has told its last two moves itself: begun at started_at, its attempts-th attempt, complete at finished_at. The view workflow_step_transitions shows each move';

CREATE TABLE tasker.timers (
  task_id bigint NOT NULL,
  step_no integer NOT NULL DEFAULT 0,
  element integer NOT NULL DEFAULT -1,
  kind text NOT NULL,
  due_at timestamptz NOT NULL,
  PRIMARY KEY (task_id, step_no, element, kind)
) WITH (autovacuum_vacuum_scale_factor = 0.01, autovacuum_vacuum_cost_delay = 0);
COMMENT ON TABLE tasker.timers IS 'What becomes due by itself: run_at and deadline of a task (step_no 0), backoff of a step, wait, timeout and lease of one that is under way outside of executors; read by watermark';
CREATE INDEX timers_due ON tasker.timers (due_at, task_id, step_no, element);

CREATE TABLE tasker.queue_items (
  task_id bigint NOT NULL,
  step_no integer NOT NULL,
  element integer NOT NULL DEFAULT -1,
  queue text NOT NULL,
  rank integer NOT NULL,
  system integer NOT NULL DEFAULT 0,
  offered_at timestamptz NOT NULL DEFAULT clock_timestamp(),
  PRIMARY KEY (task_id, step_no, element)
) WITH (autovacuum_vacuum_scale_factor = 0.01, autovacuum_vacuum_cost_delay = 0);
COMMENT ON TABLE tasker.queue_items IS 'External steps that are ready and wait for a worker: inserted by the dispatcher, deleted by claim_steps, never updated. rank is minus the priority; system the dependent system of the step, 0 for none';
CREATE INDEX queue_items_claim ON tasker.queue_items (queue, rank, task_id, step_no, element);

CREATE TABLE tasker.leases (
  task_id bigint NOT NULL,
  step_no integer NOT NULL,
  element integer NOT NULL DEFAULT -1,
  queue text NOT NULL,
  moves integer NOT NULL,
  claim_token uuid NOT NULL,
  worker text NOT NULL,
  claimed_by regrole NOT NULL,
  claimed_at timestamptz NOT NULL,
  lease_until timestamptz NOT NULL,
  PRIMARY KEY (task_id, step_no, element)
) WITH (fillfactor = 70, autovacuum_vacuum_scale_factor = 0.01, autovacuum_vacuum_cost_delay = 0);
COMMENT ON TABLE tasker.leases IS 'External steps that a worker has claimed. moves is the step''s after the claim: a lease whose step has moved is void';
CREATE INDEX leases_queue ON tasker.leases (queue);

CREATE TABLE tasker.queue_limits (
  queue text PRIMARY KEY,
  max_claimed integer NOT NULL CHECK (max_claimed >= 0),
  changed_by regrole NOT NULL,
  changed_at timestamptz NOT NULL DEFAULT clock_timestamp()
);
COMMENT ON TABLE tasker.queue_limits IS 'How many steps of a queue may be claimed at the same time; a queue without a row has no limit';

CREATE TABLE tasker.step_limit_rows (
  limit_id integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  task_namespace_id integer NOT NULL REFERENCES tasker.task_namespaces,
  name text,
  step_name text,
  key text,
  key_path text[],
  max_running integer CHECK (max_running >= 0),
  per_second float8 CHECK (per_second > 0),
  burst integer CHECK (burst > 0),
  changed_by regrole NOT NULL,
  changed_at timestamptz NOT NULL DEFAULT clock_timestamp(),
  CHECK (step_name IS NULL OR name IS NOT NULL),
  CHECK ((key IS NULL) = (key_path IS NULL)),
  CHECK ((per_second IS NULL) = (burst IS NULL)),
  CHECK (max_running IS NOT NULL OR per_second IS NOT NULL)
);
COMMENT ON TABLE tasker.step_limit_rows IS 'Limits on sql and http steps: of a namespace, of a definition of it, or of one step of that; with a key (a JSON Pointer into the context, and its path) for each value separately';
CREATE UNIQUE INDEX step_limit_rows_scope ON tasker.step_limit_rows (task_namespace_id, coalesce(name, ''), coalesce(step_name, ''), coalesce(key, ''));

CREATE TABLE tasker.signals (
  task_id bigint NOT NULL,
  signal_id bigint GENERATED ALWAYS AS IDENTITY,
  name text NOT NULL,
  payload jsonb NOT NULL,
  steps integer[] NOT NULL,
  sender regrole NOT NULL,
  sent_at timestamptz NOT NULL DEFAULT clock_timestamp(),
  used_by integer,
  PRIMARY KEY (task_id, signal_id)
);
COMMENT ON TABLE tasker.signals IS 'What send_signal was called with. steps: those of the task that wait for this name and accept this sender; used_by: the step that took it';

CREATE TABLE tasker.transfers (
  task_id bigint NOT NULL,
  step_no integer NOT NULL,
  element integer NOT NULL DEFAULT -1,
  moves integer NOT NULL,
  begun_at timestamptz NOT NULL DEFAULT clock_timestamp(),
  PRIMARY KEY (task_id, step_no, element)
) WITH (autovacuum_vacuum_scale_factor = 0.01, autovacuum_vacuum_cost_delay = 0);
COMMENT ON TABLE tasker.transfers IS 'HTTP calls under way: inserted before a request is sent, deleted with its end. A courier that starts ends what the one before it has left here';

CREATE TABLE tasker.idempotency_keys (
  owner regrole NOT NULL,
  task_namespace_id integer NOT NULL,
  name text NOT NULL,
  idempotency_key text NOT NULL,
  task_id bigint NOT NULL,
  PRIMARY KEY (owner, task_namespace_id, name, idempotency_key)
);
COMMENT ON TABLE tasker.idempotency_keys IS 'One task per owner, namespace, name and key; inserted before the task';

CREATE TABLE tasker.task_labels (
  label text NOT NULL,
  kind text NOT NULL CHECK (kind IN ('tag', 'correlation_id')),
  task_id bigint NOT NULL,
  PRIMARY KEY (label, kind, task_id)
);
COMMENT ON TABLE tasker.task_labels IS 'Index of tags and given correlation ids to tasks';

CREATE TABLE tasker.task_annotations (
  task_annotation_id bigint GENERATED ALWAYS AS IDENTITY,
  task_id bigint NOT NULL,
  annotation_type text NOT NULL,
  annotation jsonb NOT NULL,
  created_by regrole NOT NULL,
  created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
  PRIMARY KEY (task_id, task_annotation_id)
);
COMMENT ON TABLE tasker.task_annotations IS 'Notes attached to tasks by annotate_task';

CREATE TABLE tasker.dead_letter_notes (
  task_id bigint NOT NULL,
  step_no integer NOT NULL,
  element integer NOT NULL DEFAULT -1,
  dead_letter_note_id bigint GENERATED ALWAYS AS IDENTITY,
  moves integer NOT NULL,
  status text NOT NULL CHECK (status IN ('open', 'resolved', 'wont_fix')),
  note text,
  created_by regrole NOT NULL,
  created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
  PRIMARY KEY (task_id, step_no, element, dead_letter_note_id)
);
COMMENT ON TABLE tasker.dead_letter_notes IS 'What people found out about dead letters, append-only. moves is the step''s at that time: what was said of one failure is not said of the next';

CREATE TABLE tasker.tallies (
  named_task_id integer NOT NULL,
  tasks_complete bigint NOT NULL DEFAULT 0,
  tasks_error bigint NOT NULL DEFAULT 0,
  tasks_cancelled bigint NOT NULL DEFAULT 0,
  tasks_resolved_manually bigint NOT NULL DEFAULT 0,
  steps_pending bigint NOT NULL DEFAULT 0,
  steps_complete bigint NOT NULL DEFAULT 0,
  steps_error bigint NOT NULL DEFAULT 0,
  steps_cancelled bigint NOT NULL DEFAULT 0,
  steps_resolved_manually bigint NOT NULL DEFAULT 0,
  steps_skipped bigint NOT NULL DEFAULT 0,
  error_steps_retryable bigint NOT NULL DEFAULT 0,
  error_steps_exhausted bigint NOT NULL DEFAULT 0
);
COMMENT ON TABLE tasker.tallies IS 'Counts of the finished tasks that are there, and of their steps, as differences, summed by readers and folded by the dispatcher, so that health counts cost nothing with history';

CREATE TABLE tasker.retention_rules (
  task_namespace_id integer PRIMARY KEY REFERENCES tasker.task_namespaces,
  keep interval CHECK (keep >= '0'),
  changed_by regrole NOT NULL,
  changed_at timestamptz NOT NULL DEFAULT clock_timestamp()
);
COMMENT ON TABLE tasker.retention_rules IS 'How long finished tasks of a namespace are kept, where set_retention has said so; null: for ever. A namespace without a row follows tasker.retention';

CREATE TABLE tasker.retention_marks (
  task_namespace_id integer PRIMARY KEY REFERENCES tasker.task_namespaces,
  held_back bigint NOT NULL,
  oldest_finished_at timestamptz,
  passed_at timestamptz NOT NULL
);
COMMENT ON TABLE tasker.retention_marks IS 'What the dispatcher saw when it last looked for finished tasks to remove: how many are due and stay, because somebody still has to decide about a failed step or holds them locked; and the oldest that stay';

CREATE TABLE tasker.task_summaries (
  named_task_id integer NOT NULL REFERENCES tasker.named_tasks,
  day date NOT NULL,
  state tasker.task_state NOT NULL,
  tasks bigint NOT NULL,
  steps bigint NOT NULL,
  attempts bigint NOT NULL,
  total_seconds float8 NOT NULL,
  max_seconds float8 NOT NULL,
  PRIMARY KEY (named_task_id, day, state)
) WITH (fillfactor = 70);
COMMENT ON TABLE tasker.task_summaries IS 'What is left of removed tasks: how many of a definition finished on a day (UTC) in which state, their steps and attempts, and how long they took from start to end';

CREATE TABLE tasker.step_history (
  named_task_id integer NOT NULL,
  step_no integer NOT NULL,
  hour timestamptz NOT NULL,
  attempt integer NOT NULL,
  attempts bigint NOT NULL,
  successes bigint NOT NULL,
  total_ms float8 NOT NULL,
  max_ms float8 NOT NULL,
  buckets integer[] NOT NULL DEFAULT '{}',
  counts integer[] NOT NULL DEFAULT '{}',
  slow_tasks bigint[] NOT NULL DEFAULT '{}',
  slow_ms float8[] NOT NULL DEFAULT '{}',
  PRIMARY KEY (named_task_id, step_no, hour, attempt)
) WITH (fillfactor = 70);
CREATE INDEX step_history_hour ON tasker.step_history (hour);
COMMENT ON TABLE tasker.step_history IS 'How attempts ended, by step, hour and attempt number (10 stands for 10 and more): what retries are predicted from and analytics made of. total_ms, max_ms and the lists measure the successes: counts[i] of them lay in bucket buckets[i] (bucket n ends at 0.1 ms times 2^(n/8)), and slow_tasks[i] took slow_ms[i], the longest ten. Gathered in memory and written by the dispatcher every few seconds';

CREATE TABLE tasker.task_outcomes (
  hour timestamptz NOT NULL,
  named_task_id integer NOT NULL,
  state tasker.task_state NOT NULL,
  tasks bigint NOT NULL,
  started bigint NOT NULL,
  total_ms float8 NOT NULL,
  max_ms float8 NOT NULL,
  buckets integer[] NOT NULL DEFAULT '{}',
  counts integer[] NOT NULL DEFAULT '{}',
  slow_tasks bigint[] NOT NULL DEFAULT '{}',
  slow_ms float8[] NOT NULL DEFAULT '{}',
  PRIMARY KEY (hour, named_task_id, state)
) WITH (fillfactor = 70);
COMMENT ON TABLE tasker.task_outcomes IS 'How many tasks of a definition came to a state in an hour; pending counts those that were created. started: those of them that had been started, whose time from start to end total_ms, max_ms and the lists measure, as in step_history. Gathered in memory and written by the dispatcher every few seconds';

-- What counters are read from: no hour in it, so that nothing that ages, is removed or is counted again makes one smaller.
CREATE TABLE tasker.metric_totals (
  task_namespace_id integer NOT NULL REFERENCES tasker.task_namespaces,
  name text NOT NULL,
  subject text NOT NULL CHECK (subject IN ('attempts', 'pending', 'complete', 'error', 'cancelled', 'resolved_manually')),
  number bigint NOT NULL,
  successes bigint NOT NULL,
  retries bigint NOT NULL,
  total_ms float8 NOT NULL,
  buckets integer[] NOT NULL DEFAULT '{}',
  counts bigint[] NOT NULL DEFAULT '{}',
  PRIMARY KEY (task_namespace_id, name, subject)
) WITH (fillfactor = 50);
COMMENT ON TABLE tasker.metric_totals IS 'All that was ever counted of a definition, all versions together, for the view metrics: attempts of its steps, or (subject a state) its tasks that came to that state; pending: that were created. successes: attempts that succeeded, or tasks that had been started; retries: attempts after the first. total_ms and the lists measure the successes, as in step_history. Written in the same transaction as that; never smaller, whatever is removed or rebuilt';

CREATE TABLE tasker.batch_learnings (
  named_task_id integer NOT NULL,
  step_no integer NOT NULL,
  durations_ms float8[] NOT NULL,
  failed boolean[] NOT NULL,
  solo_runs integer NOT NULL,
  written_at timestamptz NOT NULL,
  PRIMARY KEY (named_task_id, step_no)
) WITH (fillfactor = 50);
COMMENT ON TABLE tasker.batch_learnings IS 'The last runs of each step, how long they took and whether they failed, oldest first: what batches are sized by. Learnt in memory and written by the dispatcher every few seconds, so that a restart forgets none of it; see batch_statistics. A negative step_no: of all steps of the definition with the handler of that step';

CREATE TABLE tasker.schedule_rows (
  schedule_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  schedule_name text NOT NULL UNIQUE,
  home bigint NOT NULL,
  owner regrole NOT NULL,
  created_by regrole NOT NULL,
  cron text NOT NULL,
  timezone text NOT NULL,
  namespace text NOT NULL,
  name text NOT NULL,
  context jsonb NOT NULL,
  overlap text NOT NULL CHECK (overlap IN ('skip', 'queue', 'cancel_running', 'allow')),
  catch_up interval NOT NULL,
  jitter interval NOT NULL,
  paused_at timestamptz,
  paused_by regrole,
  pause_reason text,
  fires_after timestamptz NOT NULL,
  missed_at timestamptz,
  created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
  changed_at timestamptz NOT NULL DEFAULT clock_timestamp(),
  CHECK ((paused_at IS NULL) = (paused_by IS NULL))
) WITH (fillfactor = 70);
COMMENT ON TABLE tasker.schedule_rows IS 'Schedules. Fire times up to fires_after are settled; missed_at is the first of those that were passed over last, because they were older than catch_up. home is the database it fires in, as for tasks';

CREATE TABLE tasker.schedule_fires (
  schedule_id bigint NOT NULL REFERENCES tasker.schedule_rows ON DELETE CASCADE,
  fire_time timestamptz NOT NULL,
  outcome text NOT NULL CHECK (outcome IN ('created', 'skipped', 'queued', 'failed')),
  open boolean NOT NULL,
  task_id bigint,
  message text,
  ticked_by text NOT NULL,
  created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
  PRIMARY KEY (schedule_id, fire_time)
) WITH (fillfactor = 90);
COMMENT ON TABLE tasker.schedule_fires IS 'What came of each fire time. The row is inserted before the task is created: its key is why there is one task per schedule and fire time, whoever ticks. open: it waits in the queue, or its task had not ended when it was looked at last';
CREATE INDEX schedule_fires_open ON tasker.schedule_fires (schedule_id, fire_time) WHERE open;

CREATE TABLE tasker.event_subscription_rows (
  subscription_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  subscription_name text NOT NULL UNIQUE,
  owner regrole NOT NULL,
  created_by regrole NOT NULL,
  kind text NOT NULL CHECK (kind IN ('notify', 'function', 'webhook', 'traces')),
  target text NOT NULL,
  path text,
  max_attempts integer NOT NULL,
  events text[] NOT NULL CHECK (cardinality(events) > 0),
  namespace text,
  name text,
  named_task_id integer,
  version text,
  revision integer NOT NULL DEFAULT 0,
  paused_at timestamptz,
  paused_by regrole,
  pause_reason text,
  dead_at timestamptz,
  delivery_task_id bigint,
  delivery_until timestamptz,
  in_flight integer NOT NULL DEFAULT 0,
  delivered bigint NOT NULL DEFAULT 0,
  failures bigint NOT NULL DEFAULT 0,
  dropped bigint NOT NULL DEFAULT 0,
  last_delivered_at timestamptz,
  last_failed_at timestamptz,
  last_error text,
  created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
  changed_at timestamptz NOT NULL DEFAULT clock_timestamp(),
  CHECK ((paused_at IS NULL) = (paused_by IS NULL))
) WITH (fillfactor = 50);
COMMENT ON TABLE tasker.event_subscription_rows IS 'Subscriptions to events. named_task_id and version are the definition that delivers; delivery_task_id is the task that does so now, for in_flight events up to delivery_until; dead_at: the last delivery has failed, and none follows until resume_subscription. dropped counts traces that were never delivered: of failed deliveries, and those that came while too many waited';

CREATE TABLE tasker.event_outbox (
  task_id bigint NOT NULL,
  step_no integer NOT NULL,
  element integer NOT NULL,
  sort_key integer NOT NULL,
  event text NOT NULL,
  subscription_id bigint NOT NULL,
  event_id bigint GENERATED ALWAYS AS IDENTITY,
  occurred_at timestamptz NOT NULL,
  handed_to bigint,
  result jsonb,
  PRIMARY KEY (task_id, step_no, element, sort_key, event, subscription_id)
) WITH (fillfactor = 80, autovacuum_vacuum_scale_factor = 0.01, autovacuum_vacuum_cost_delay = 0);
COMMENT ON TABLE tasker.event_outbox IS 'Events on their way to subscribers, written with the moves they tell of and deleted when they are delivered; step_no 0: of the task. handed_to: the task that delivers it; result: of the step that published a custom event';
CREATE INDEX event_outbox_waiting ON tasker.event_outbox (subscription_id, occurred_at, event_id);
