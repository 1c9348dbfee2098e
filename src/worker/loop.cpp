#include "worker/loop.hpp"

#include <malloc.h>

#include <cstring>

#include "engine/step_log.hpp"

namespace tasker::worker {

namespace {
inline constexpr int kKeptFree = 4 << 20;  // bytes

constinit bool told_full = false;
constinit TimestampTz told_full_at = 0;
}  // namespace

extern "C" void lock_timeouts_only(int) {
  if (!get_timeout_indicator(LOCK_TIMEOUT, false)) return;
  InterruptPending = true;
  QueryCancelPending = true;
  SetLatch(MyLatch);
}

void begin_process(pqsigfunc on_interrupt) {
  // What a pass frees the next one needs; given back to the kernel each time, it comes again as page faults (three calls of
  // brk a batch of 32 steps).
  mallopt(M_TRIM_THRESHOLD, kKeptFree);
  mallopt(M_TOP_PAD, kKeptFree / 4);
  pg::report_as = engine::worker_line;
  pqsignal(SIGHUP, SignalHandlerForConfigReload);
  pqsignal(SIGTERM, die);
  pqsignal(SIGINT, on_interrupt);
  BackgroundWorkerUnblockSignals();
}

namespace {

// In pg::call.
void serve_interrupts() {
  ResetLatch(MyLatch);
  CHECK_FOR_INTERRUPTS();
  if (ConfigReloadPending) {
    ConfigReloadPending = false;
    ProcessConfigFile(PGC_SIGHUP);
  }
}

}  // namespace

void wait_for_work(long milliseconds, std::uint32_t event) {
  pg::call([=] {
    const int flags = WL_LATCH_SET | WL_EXIT_ON_PM_DEATH | (milliseconds >= 0 ? WL_TIMEOUT : 0);
    (void)WaitLatch(MyLatch, flags, milliseconds, event);
    serve_interrupts();
  });
}

WaitEventSet *make_wait_set(int fd) {
  return pg::call([=] {
    WaitEventSet *set = pg::create_wait_set(TopMemoryContext, 3);
    AddWaitEventToSet(set, WL_LATCH_SET, PGINVALID_SOCKET, MyLatch, nullptr);
    AddWaitEventToSet(set, WL_EXIT_ON_PM_DEATH, PGINVALID_SOCKET, nullptr, nullptr);
    AddWaitEventToSet(set, WL_SOCKET_READABLE, fd, nullptr, nullptr);
    return set;
  });
}

void wait_for_work(WaitEventSet *set, long milliseconds, std::uint32_t event) {
  pg::call([=] {
    WaitEvent happened[3];
    (void)WaitEventSetWait(set, milliseconds, happened, 3, event);
    serve_interrupts();
  });
}

BackgroundWorkerHandle *start_worker(const char *function, const char *type, int slot) {
  BackgroundWorker worker;
  std::memset(&worker, 0, sizeof worker);
  worker.bgw_flags = BGWORKER_SHMEM_ACCESS | BGWORKER_BACKEND_DATABASE_CONNECTION;
  worker.bgw_start_time = BgWorkerStart_RecoveryFinished;
  worker.bgw_restart_time = BGW_NEVER_RESTART;
  strlcpy(worker.bgw_library_name, "tasker", sizeof worker.bgw_library_name);
  strlcpy(worker.bgw_function_name, function, sizeof worker.bgw_function_name);
  strlcpy(worker.bgw_type, type, sizeof worker.bgw_type);
  snprintf(worker.bgw_name, sizeof worker.bgw_name, "%s %d", type, slot);
  worker.bgw_main_arg = Int32GetDatum(slot);
  worker.bgw_notify_pid = MyProcPid;
  BackgroundWorkerHandle *handle = nullptr;
  BackgroundWorker *w = &worker;
  BackgroundWorkerHandle **h = &handle;
  const bool registered = pg::call([=] {
    MemoryContext old = MemoryContextSwitchTo(TopMemoryContext);
    const bool ok = RegisterDynamicBackgroundWorker(w, h);
    MemoryContextSwitchTo(old);
    return ok;
  });
  if (!registered) {
    warn_full_worker_table();
    return nullptr;
  }
  told_full = false;
  return handle;
}

void warn_full_worker_table() {
  const TimestampTz now = GetCurrentTimestamp();
  if (told_full || now - told_full_at < 60 * USECS_PER_SEC) return;
  told_full = true;
  told_full_at = now;
  pg::report(pg::Level::kWarning, "tasker: no free background worker slot", "Steps go on with the workers there are.", "Raise max_worker_processes.");
}

bool worker_stopped(BackgroundWorkerHandle *handle) {
  return pg::call([=] {
    pid_t pid;
    return GetBackgroundWorkerPid(handle, &pid) == BGWH_STOPPED;
  });
}

}  // namespace tasker::worker
