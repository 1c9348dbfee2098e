// The settings, tasker.*: one variable each, defined in one table in settings.cpp.
#pragma once

namespace tasker::store {

enum class LogFormat : int { kText, kJson };
enum class LogSteps : int { kNone, kFailures, kAll };

struct Settings {
  LogFormat log_format = LogFormat::kText;
  LogSteps log_steps = LogSteps::kNone;
  int max_executors = 4;
  int executor_slots = 64;
  int reserved_worker_slots = 2;
  int ready_buffer = 50000;
  int retention_s = 90 * 86400;
  int max_databases = 64;
  int executor_idle_timeout_s = 60;
  int executor_max_memory_kb = 256 * 1024;
  int step_timeout_ms = 600000;
  int max_result_size_kb = 1024;
  int max_context_size_kb = 1024;
  int max_batch_duration_ms = 10;
  int http_max_concurrency = 256;
  int http_max_response_kb = 1024;
  int sweep_interval_s = 300;
  int crash_limit = 3;
  int priority_ageing_ms = 30'000;
  int min_concurrent_steps = 3;
  int max_concurrent_steps = 12;
  int concurrency_interval_s = 30;
  bool dynamic_concurrency = true;
  bool adaptive_batching = true;
  int breaker_failure_threshold = 5;
  int breaker_window_ms = 60'000;
  int breaker_open_time_ms = 30'000;
  int breaker_max_open_time_ms = 600'000;
  bool predictive_retry = true;
  bool intelligent_cache = true;
  bool start_held = false;
  bool host_guard = false;
  bool allow_superuser_tasks = false;
};
extern Settings settings;

// Called once from _PG_init. Those fixed at server start are defined only while preloading.
void define_settings(bool preloading);

}  // namespace tasker::store
