// The server as the workers leave it: who runs, who is busy, how many connections there are.
#include <csignal>

#include "insight/diagnose.hpp"
#include "pg/spi.hpp"
#include "store/concurrency.hpp"
#include "store/settings.hpp"
#include "store/shared_state.hpp"

namespace tasker::insight {

namespace {

constinit pg::Query select_connections{"SELECT count(*) FROM pg_catalog.pg_stat_get_activity(NULL) a WHERE a.backend_type = 'client backend'", 0, {}};

bool alive(int pid) { return pid > 0 && kill(pid, 0) == 0; }

const char *name_of(store::DatabaseState state) {
  switch (state) {
    case store::DatabaseState::kFree:
      return "unknown to the launcher";
    case store::DatabaseState::kUnknown:
      return "to be visited";
    case store::DatabaseState::kStarting:
      return "starting";
    case store::DatabaseState::kRunning:
      return "running";
    case store::DatabaseState::kDormant:
      return "dormant";
    case store::DatabaseState::kStopping:
      return "stopping";
  }
  return "";
}

// The databases' slots; gives the number of dispatchers there are.
int look_at_dispatchers(core::ServerCase &server, std::int64_t task_id) {
  const store::LockGuard guard(store::shared->registry, LW_SHARED);
  server.launcher_pid = store::shared->launcher_pid;
  for (const store::SessionRun &run : store::shared->sessions)
    if (run.pid != 0 && run.task_id == task_id && run.database == MyDatabaseId) server.session_pid = run.pid;
  int dispatchers = 0;
  for (int i = 0; i < store::shared->database_count; i++) {
    const store::DatabaseState state = store::database_slot(i).state;
    if (state == store::DatabaseState::kRunning || state == store::DatabaseState::kStarting) dispatchers++;
  }
  const int index = store::find_database(MyDatabaseId, false);
  server.dispatcher_known = index >= 0;
  if (index >= 0) {
    const store::DatabaseSlot &slot = store::database_slot(index);
    server.dispatcher_state = name_of(slot.state);
    server.dispatcher_pid = slot.dispatcher_pid;
    server.failed_starts = slot.failures;
  }
  return dispatchers;
}

void look_at_executors(core::ServerCase &server) {
  for (int i = 0; i < store::shared->executor_count; i++) {
    store::ExecutorSlot &slot = store::executor_slot(i);
    const store::SpinGuard guard(slot);
    if (slot.state != store::ExecutorState::kStarting && slot.state != store::ExecutorState::kRunning) continue;
    server.executors++;
    server.executors_here += slot.database == MyDatabaseId ? 1 : 0;
    server.busy_executors += slot.state == store::ExecutorState::kStarting || slot.assigned > slot.done ? 1 : 0;
  }
}

}  // namespace

void look_at_queues(core::TaskCase &task) {
  if (store::shared == nullptr) return;
  std::vector<std::pair<int, core::AssignedCase>> found;  // step numbers
  for (int i = 0; i < store::shared->executor_count; i++) {
    store::ExecutorSlot &slot = store::executor_slot(i);
    int steps[store::kMailboxSize];  // nothing is allocated under the spinlock
    int count = 0;
    core::AssignedCase place;
    {
      const store::SpinGuard guard(slot);
      if (slot.state != store::ExecutorState::kRunning || slot.database != MyDatabaseId) continue;
      for (std::uint64_t n = slot.done; n < slot.assigned && count < store::kMailboxSize; n++) {
        const store::StepKey &key = slot.mailbox[n % store::kMailboxSize];
        if (key.task_id == task.task_id && key.element == -1) steps[count++] = key.step_no;
      }
      place.pid = slot.pid;
      if (slot.run_number != 0) place.busy_since = slot.current_started;
    }
    for (int n = 0; n < count; n++) found.emplace_back(steps[n], place);
  }
  for (const auto &[step_no, place] : found)
    if (step_no >= 1 && step_no <= static_cast<int>(task.steps.size())) task.steps[static_cast<std::size_t>(step_no - 1)].assigned = place;
}

core::ServerCase look_at_server(std::int64_t task_id, bool live) {
  core::ServerCase server;
  server.standby = RecoveryInProgress();
  server.preloaded = store::shared != nullptr;
  server.max_executors = store::settings.max_executors;
  server.max_concurrent_steps = store::concurrency_in_force().limit;
  server.max_worker_processes = max_worker_processes;
  if (server.preloaded) {
    const int dispatchers = look_at_dispatchers(server, task_id);
    look_at_executors(server);
    server.launcher_alive = alive(server.launcher_pid);
    server.dispatcher_alive = alive(server.dispatcher_pid);
    server.worker_slots_left = max_worker_processes - store::settings.reserved_worker_slots - 1 - dispatchers - server.executors;
  }
  if (!live) return server;
  server.connections = pg::execute(select_connections, {}, pg::Access::kRead).rows.int8(0, 1);
  server.max_connections = MaxConnections;
  return server;
}

}  // namespace tasker::insight
