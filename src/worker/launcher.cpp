#include "worker/launcher.hpp"

#include <cstring>
#include <vector>

#include "pg/fault.hpp"
#include "pg/memory.hpp"
#include "pg/xact.hpp"
#include "store/settings.hpp"
#include "store/shared_state.hpp"
#include "worker/loop.hpp"
#include "worker/notes.hpp"

namespace tasker::worker {

namespace {

using store::DatabaseSlot;
using store::DatabaseState;

constinit std::uint32_t wait_event = 0;

extern "C" void launcher_exit(int, Datum) {
  store::shared->launcher_proc = -1;
  store::shared->launcher_pid = 0;
}

long backoff_ms(int failures) {
  const long delay = 500L << std::min(failures, 7);
  return std::min(delay, 60000L);
}

class Launcher {
 public:
  Launcher() : handles_(static_cast<std::size_t>(store::shared->database_count), nullptr) {}

  void run() {
    TASKER_FAULT("launcher.start");
    std::vector<Oid> databases = connectable_databases();
    collect_crash_notes(databases);
    {
      store::LockGuard guard(store::shared->registry, LW_EXCLUSIVE);
      for (Oid database : databases)
        if (store::find_database(database, true) < 0) skipped_++;
    }
    if (skipped_ > 0)
      pg::report(pg::Level::kWarning, "tasker: more databases than tasker.max_databases", std::to_string(skipped_) + " databases were not looked at.", "Raise tasker.max_databases.");
    for (;;) wait_for_work(pass(), pg::wait_event(&wait_event, "TaskerLauncherMain"));
  }

 private:
  static std::vector<Oid> connectable_databases() {
    std::vector<Oid> out;
    pg::Transaction transaction;
    std::vector<Oid> *found = &out;
    struct Scan {
      Relation relation;
      TableScanDesc scan;
    };
    const Scan s = pg::call([] {
      Scan opened;
      opened.relation = table_open(DatabaseRelationId, AccessShareLock);
      opened.scan = table_beginscan_catalog(opened.relation, 0, nullptr);
      return opened;
    });
    for (;;) {
      HeapTuple tuple = pg::call([=] { return heap_getnext(s.scan, ForwardScanDirection); });
      if (!HeapTupleIsValid(tuple)) break;
      const auto *row = reinterpret_cast<Form_pg_database>(GETSTRUCT(tuple));
      if (row->datallowconn && !row->datistemplate) found->push_back(row->oid);
    }
    pg::call([=] {
      table_endscan(s.scan);
      table_close(s.relation, AccessShareLock);
    });
    transaction.commit();
    return out;
  }

  // One look at every slot; how long to sleep, -1 for until somebody wakes us.
  long pass() {
    const TimestampTz now = GetCurrentTimestamp();
    long sleep = -1;
    const auto not_before = [&](TimestampTz at) {
      const long ms = std::max(1L, static_cast<long>((at - now) / 1000) + 1);
      sleep = sleep < 0 ? ms : std::min(sleep, ms);
    };
    bool starting = false;
    for (int i = 0; i < store::shared->database_count; i++) {
      DatabaseSlot &slot = store::database_slot(i);
      auto *&handle = handles_[static_cast<std::size_t>(i)];
      if (slot.state == DatabaseState::kStarting || slot.state == DatabaseState::kRunning) {
        // A dispatcher that an earlier launcher started has no handle here: known by its pid, or by not coming in time.
        const bool lost = slot.state == DatabaseState::kRunning ? slot.dispatcher_pid == 0 : slot.retry_at <= now;
        const bool gone = handle != nullptr ? worker_stopped(handle) : lost;
        if (gone) {
          slot.dispatcher_proc = -1;
          slot.starting = false;
          slot.dispatcher_pid = 0;
          slot.retry_at = now + backoff_ms(slot.failures++) * 1000;
          slot.state = DatabaseState::kUnknown;
          handle = nullptr;
        } else {
          starting = starting || slot.state == DatabaseState::kStarting;
          if (handle == nullptr && slot.state == DatabaseState::kStarting) not_before(slot.retry_at);
        }
      }
      if (slot.state == DatabaseState::kStopping && slot.stopping_until <= now) {
        slot.stop = false;
        slot.state = DatabaseState::kUnknown;
      } else if (slot.state == DatabaseState::kStopping) {
        not_before(slot.stopping_until);
      }
    }
    // One visit at a time: fifty databases need one worker slot, not fifty.
    for (int i = 0; i < store::shared->database_count && !starting; i++) {
      DatabaseSlot &slot = store::database_slot(i);
      const bool due = slot.state == DatabaseState::kUnknown || (slot.state == DatabaseState::kDormant && slot.wanted);
      if (!due) continue;
      if (slot.retry_at > now) {
        not_before(slot.retry_at);
        continue;
      }
      start_dispatcher(i, now);
      starting = true;
      if (slot.state != DatabaseState::kStarting) not_before(slot.retry_at);
    }
    return sleep;
  }

  void start_dispatcher(int index, TimestampTz now) {
    DatabaseSlot &slot = store::database_slot(index);
    slot.state = DatabaseState::kStarting;
    slot.starting = true;
    slot.wanted = false;
    slot.retry_at = now + 30 * USECS_PER_SEC;
    BackgroundWorkerHandle *handle = start_worker("tasker_dispatcher_main", "tasker dispatcher", index);
    if (handle == nullptr) {
      slot.starting = false;
      slot.state = DatabaseState::kUnknown;
      slot.retry_at = now + 5 * USECS_PER_SEC;
      return;
    }
    handles_[static_cast<std::size_t>(index)] = handle;
  }

  std::vector<BackgroundWorkerHandle *> handles_;
  int skipped_ = 0;
};

}  // namespace

void register_launcher() {
  BackgroundWorker worker;
  std::memset(&worker, 0, sizeof worker);
  worker.bgw_flags = BGWORKER_SHMEM_ACCESS | BGWORKER_BACKEND_DATABASE_CONNECTION;
  worker.bgw_start_time = BgWorkerStart_RecoveryFinished;
  worker.bgw_restart_time = 1;
  strlcpy(worker.bgw_library_name, "tasker", sizeof worker.bgw_library_name);
  strlcpy(worker.bgw_function_name, "tasker_launcher_main", sizeof worker.bgw_function_name);
  strlcpy(worker.bgw_name, "tasker launcher", sizeof worker.bgw_name);
  strlcpy(worker.bgw_type, "tasker launcher", sizeof worker.bgw_type);
  RegisterBackgroundWorker(&worker);
}

}  // namespace tasker::worker

extern "C" TASKER_EXPORT void tasker_launcher_main(Datum);
void tasker_launcher_main(Datum) {
  using namespace tasker;
  pg::entry([] {
    before_shmem_exit(worker::launcher_exit, Datum(0));
    worker::begin_process(SIG_IGN);
    pg::call([] { BackgroundWorkerInitializeConnection(nullptr, nullptr, 0); });
    store::shared->launcher_pid = MyProcPid;
    store::shared->launcher_proc = pg::my_proc_number();
    worker::Launcher().run();
  });
}
