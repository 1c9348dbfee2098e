// What all of tasker's processes share: their start, their wait, their names.
#pragma once

#include <signal.h>

#include <cstdint>

#include "pg/bridge.hpp"

namespace tasker::worker {

// For SIGINT of a process that runs no user code: a lock timeout arrives as one, pg_cancel_backend's is not for us.
extern "C" void lock_timeouts_only(int);

// From a dispatcher to an executor: look whether the run under way is to be interrupted. SIGINT is everybody's.
inline constexpr int kRunSignal = SIGUSR2;

// Signal handlers of a process that serves interrupts in its loop; SIGINT as given. Call before the connection.
void begin_process(pqsigfunc on_interrupt);
// Sleeps on the latch for at most milliseconds (-1: without limit), serves interrupts and setting reloads.
void wait_for_work(long milliseconds, std::uint32_t event);

// The same for a process that also waits for a file descriptor to be readable: made once, after the connection.
WaitEventSet *make_wait_set(int fd);
void wait_for_work(WaitEventSet *set, long milliseconds, std::uint32_t event);

// Registers a dynamic worker whose argument is a slot number. Null when the worker table is full: then work goes on with
// what there is.
BackgroundWorkerHandle *start_worker(const char *function, const char *type, int slot);
// One WARNING that says what to do: once until a worker can be started again, and at most once a minute.
void warn_full_worker_table();
bool worker_stopped(BackgroundWorkerHandle *handle);

inline constexpr int kExitForGood = 0;  // unregisters
inline constexpr int kExitRestart = 1;  // static workers only: started again

}  // namespace tasker::worker
