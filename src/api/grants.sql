-- The last piece: nothing for PUBLIC, what a dump keeps, and the one level given at install.

REVOKE ALL ON SCHEMA tasker FROM PUBLIC;
REVOKE ALL ON ALL TABLES IN SCHEMA tasker FROM PUBLIC;
REVOKE ALL ON ALL SEQUENCES IN SCHEMA tasker FROM PUBLIC;
REVOKE ALL ON ALL FUNCTIONS IN SCHEMA tasker FROM PUBLIC;
REVOKE ALL ON ALL PROCEDURES IN SCHEMA tasker FROM PUBLIC;
REVOKE ALL ON TYPE tasker.step_call FROM PUBLIC;
REVOKE ALL ON TYPE tasker.task_state FROM PUBLIC;
REVOKE ALL ON TYPE tasker.step_state FROM PUBLIC;

-- Then whatever ALTER DEFAULT PRIVILEGES of the installing role gave to others is taken back, and pg_monitor gets its
-- level.
INSERT INTO tasker.access_grants (role, level, granted_by) VALUES ('pg_monitor'::regrole, 'monitor', current_user::regrole);
SELECT tasker.apply_access();

-- A dump keeps everything but the home row: a restored copy comes up held. CREATE EXTENSION itself gives pg_monitor
-- its level again.
SELECT pg_catalog.pg_extension_config_dump('tasker.task_namespaces', '');
SELECT pg_catalog.pg_extension_config_dump('tasker.task_namespaces_task_namespace_id_seq', '');
SELECT pg_catalog.pg_extension_config_dump('tasker.dependent_systems', '');
SELECT pg_catalog.pg_extension_config_dump('tasker.dependent_systems_dependent_system_id_seq', '');
SELECT pg_catalog.pg_extension_config_dump('tasker.breakers', '');
SELECT pg_catalog.pg_extension_config_dump('tasker.breaker_transitions', '');
SELECT pg_catalog.pg_extension_config_dump('tasker.named_tasks', '');
SELECT pg_catalog.pg_extension_config_dump('tasker.named_tasks_named_task_id_seq', '');
SELECT pg_catalog.pg_extension_config_dump('tasker.named_steps', '');
SELECT pg_catalog.pg_extension_config_dump('tasker.definition_grants', '');
SELECT pg_catalog.pg_extension_config_dump('tasker.scope_pauses', '');
SELECT pg_catalog.pg_extension_config_dump('tasker.scope_pauses_pause_id_seq', '');
SELECT pg_catalog.pg_extension_config_dump('tasker.schedule_rows', '');
SELECT pg_catalog.pg_extension_config_dump('tasker.schedule_rows_schedule_id_seq', '');
SELECT pg_catalog.pg_extension_config_dump('tasker.schedule_fires', '');
SELECT pg_catalog.pg_extension_config_dump('tasker.event_subscription_rows', '');
SELECT pg_catalog.pg_extension_config_dump('tasker.event_subscription_rows_subscription_id_seq', '');
SELECT pg_catalog.pg_extension_config_dump('tasker.event_outbox', '');
SELECT pg_catalog.pg_extension_config_dump('tasker.event_outbox_event_id_seq', '');
SELECT pg_catalog.pg_extension_config_dump('tasker.access_grants', $$WHERE NOT (role = 'pg_monitor'::regrole AND level = 'monitor')$$);
SELECT pg_catalog.pg_extension_config_dump('tasker.task_id_seq', '');
SELECT pg_catalog.pg_extension_config_dump('tasker.tasks', '');
SELECT pg_catalog.pg_extension_config_dump('tasker.workflow_steps', '');
SELECT pg_catalog.pg_extension_config_dump('tasker.task_moves', '');
SELECT pg_catalog.pg_extension_config_dump('tasker.step_moves', '');
SELECT pg_catalog.pg_extension_config_dump('tasker.timers', '');
SELECT pg_catalog.pg_extension_config_dump('tasker.transfers', '');
SELECT pg_catalog.pg_extension_config_dump('tasker.queue_items', '');
SELECT pg_catalog.pg_extension_config_dump('tasker.leases', '');
SELECT pg_catalog.pg_extension_config_dump('tasker.queue_limits', '');
SELECT pg_catalog.pg_extension_config_dump('tasker.step_limit_rows', '');
SELECT pg_catalog.pg_extension_config_dump('tasker.step_limit_rows_limit_id_seq', '');
SELECT pg_catalog.pg_extension_config_dump('tasker.signals', '');
SELECT pg_catalog.pg_extension_config_dump('tasker.signals_signal_id_seq', '');
SELECT pg_catalog.pg_extension_config_dump('tasker.idempotency_keys', '');
SELECT pg_catalog.pg_extension_config_dump('tasker.task_labels', '');
SELECT pg_catalog.pg_extension_config_dump('tasker.task_annotations', '');
SELECT pg_catalog.pg_extension_config_dump('tasker.task_annotations_task_annotation_id_seq', '');
SELECT pg_catalog.pg_extension_config_dump('tasker.dead_letter_notes', '');
SELECT pg_catalog.pg_extension_config_dump('tasker.dead_letter_notes_dead_letter_note_id_seq', '');
SELECT pg_catalog.pg_extension_config_dump('tasker.tallies', '');
SELECT pg_catalog.pg_extension_config_dump('tasker.retention_rules', '');
SELECT pg_catalog.pg_extension_config_dump('tasker.task_summaries', '');
SELECT pg_catalog.pg_extension_config_dump('tasker.step_history', '');
SELECT pg_catalog.pg_extension_config_dump('tasker.task_outcomes', '');
SELECT pg_catalog.pg_extension_config_dump('tasker.metric_totals', '');
SELECT pg_catalog.pg_extension_config_dump('tasker.batch_learnings', '');
