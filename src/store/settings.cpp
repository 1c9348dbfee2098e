#include "store/settings.hpp"

#include "core/breaker.hpp"
#include "core/ready_queue.hpp"
#include "pg/bridge.hpp"
#include "pg/fault.hpp"

namespace tasker::store {

constinit Settings settings;

namespace {

void integer(const char *name, const char *text, int *value, int min, int max, GucContext context, int flags = 0) {
  DefineCustomIntVariable(name, text, nullptr, value, *value, min, max, context, flags, nullptr, nullptr, nullptr);
}
void boolean(const char *name, const char *text, bool *value, GucContext context) {
  DefineCustomBoolVariable(name, text, nullptr, value, *value, context, 0, nullptr, nullptr, nullptr);
}

constexpr config_enum_entry kLogFormats[] = {{"text", static_cast<int>(LogFormat::kText), false}, {"json", static_cast<int>(LogFormat::kJson), false}, {nullptr, 0, false}};
constexpr config_enum_entry kLogSteps[] = {{"none", static_cast<int>(LogSteps::kNone), false}, {"failures", static_cast<int>(LogSteps::kFailures), false},
                                           {"all", static_cast<int>(LogSteps::kAll), false}, {nullptr, 0, false}};

template <class Value>
void choice(const char *name, const char *text, Value *value, const config_enum_entry *values, GucContext context) {
  static_assert(sizeof(Value) == sizeof(int));
  DefineCustomEnumVariable(name, text, nullptr, reinterpret_cast<int *>(value), static_cast<int>(*value), values, context, 0, nullptr, nullptr, nullptr);
}

}  // namespace

void define_settings(bool preloading) {
  Settings &s = settings;
  boolean("tasker.adaptive_batching", "Learns per step how many may share a transaction.", &s.adaptive_batching, PGC_SIGHUP);
  boolean("tasker.allow_superuser_tasks", "Lets superusers own tasks.", &s.allow_superuser_tasks, PGC_SUSET);
  constexpr int day_ms = 86'400'000;
  integer("tasker.breaker_failure_threshold", "Failures in a row that open the circuit breaker of a dependent system; 0 for never.", &s.breaker_failure_threshold, 0,
          core::kMaxBreakerThreshold, PGC_SIGHUP);
  integer("tasker.breaker_max_open_time", "Longest time a circuit breaker stays open before the next probe.", &s.breaker_max_open_time_ms, 1, day_ms, PGC_SIGHUP, GUC_UNIT_MS);
  integer("tasker.breaker_open_time", "How long a circuit breaker stays open at first; doubled with each failed probe.", &s.breaker_open_time_ms, 1, day_ms, PGC_SIGHUP, GUC_UNIT_MS);
  integer("tasker.breaker_window", "Failures further apart than this do not count as a row.", &s.breaker_window_ms, 1, day_ms, PGC_SIGHUP, GUC_UNIT_MS);
  integer("tasker.concurrency_interval", "How often the number of executors of a database is decided anew while work waits.", &s.concurrency_interval_s, 1, 86400, PGC_SIGHUP, GUC_UNIT_S);
  integer("tasker.crash_limit", "Crashes of the server process after which a step is an error.", &s.crash_limit, 1, 100, PGC_SIGHUP);
  boolean("tasker.dynamic_concurrency", "Lets connections, worker slots and load decide how many steps of a database run at once.", &s.dynamic_concurrency, PGC_SIGHUP);
  integer("tasker.executor_idle_timeout", "How long an idle executor stays.", &s.executor_idle_timeout_s, 1, 86400, PGC_SIGHUP, GUC_UNIT_S);
  integer("tasker.executor_max_memory", "Memory above which an executor is replaced between steps.", &s.executor_max_memory_kb, 16 * 1024, 1 << 30, PGC_SIGHUP, GUC_UNIT_KB);
  if (preloading) integer("tasker.executor_slots", "Most executors max_executors may ever ask for.", &s.executor_slots, 1, 1024, PGC_POSTMASTER);
  boolean("tasker.host_guard", "Holds a database whose host name or data directory has changed.", &s.host_guard, PGC_SIGHUP);
  integer("tasker.http_max_concurrency", "Most HTTP calls under way at once in a database.", &s.http_max_concurrency, 1, 10000, PGC_SIGHUP);
  integer("tasker.http_max_response", "Largest answer of an HTTP call.", &s.http_max_response_kb, 1, 1 << 20, PGC_SIGHUP, GUC_UNIT_KB);
  boolean("tasker.intelligent_cache", "Keeps answers of costly insight functions for a while.", &s.intelligent_cache, PGC_SIGHUP);
  choice("tasker.log_format", "Form of what tasker's workers write to the server's log.", &s.log_format, kLogFormats, PGC_SIGHUP);
  choice("tasker.log_steps", "Attempts of which tasker's workers write a line to the server's log when they end.", &s.log_steps, kLogSteps, PGC_SIGHUP);
  integer("tasker.max_batch_duration", "How long short steps may share a transaction.", &s.max_batch_duration_ms, 0, 1000, PGC_SIGHUP, GUC_UNIT_MS);
  integer("tasker.max_concurrent_steps", "Most steps that run at once in a database.", &s.max_concurrent_steps, 1, 1024, PGC_SIGHUP);
  integer("tasker.max_context_size", "Largest context of a task.", &s.max_context_size_kb, 1, 1 << 20, PGC_SUSET, GUC_UNIT_KB);
  if (preloading) integer("tasker.max_databases", "Most databases of this server that use tasker.", &s.max_databases, 1, 1024, PGC_POSTMASTER);
  integer("tasker.max_executors", "Most executors of the whole server.", &s.max_executors, 1, 1024, PGC_SIGHUP);
  integer("tasker.max_result_size", "Largest result of a step.", &s.max_result_size_kb, 1, 1 << 20, PGC_SUSET, GUC_UNIT_KB);
  integer("tasker.min_concurrent_steps", "Fewest steps that may run at once in a database, whatever the load.", &s.min_concurrent_steps, 1, 1024, PGC_SIGHUP);
  boolean("tasker.predictive_retry", "Bends the backoff of failed steps by error, pressure and history.", &s.predictive_retry, PGC_SIGHUP);
  integer("tasker.priority_ageing", "How long a ready step waits for one level of priority more; 0 for never.", &s.priority_ageing_ms, 0,
          static_cast<int>(core::kMaxAgeing / 1000), PGC_SIGHUP, GUC_UNIT_MS);
  integer("tasker.ready_buffer", "Most ready steps a dispatcher keeps in memory.", &s.ready_buffer, 100, 10000000, PGC_SIGHUP);
  integer("tasker.reserved_worker_slots", "Worker slots of max_worker_processes that tasker leaves to others.", &s.reserved_worker_slots, 0, 1024, PGC_SIGHUP);
  integer("tasker.retention", "How long finished tasks are kept; -1 for ever.", &s.retention_s, -1, INT_MAX, PGC_SIGHUP, GUC_UNIT_S);
  boolean("tasker.start_held", "Starts with every database held until release_hold.", &s.start_held, PGC_SIGHUP);
  integer("tasker.step_timeout", "Longest run of one attempt of a SQL step without timeout_seconds.", &s.step_timeout_ms, 1, INT_MAX, PGC_SIGHUP, GUC_UNIT_MS);
  integer("tasker.sweep_interval", "How often a dispatcher looks at all live tasks again.", &s.sweep_interval_s, 1, 86400, PGC_SIGHUP, GUC_UNIT_S);
  pg::define_fault_setting();
  MarkGUCPrefixReserved("tasker");
}

}  // namespace tasker::store
