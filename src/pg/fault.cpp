#include "pg/fault.hpp"

#ifdef TASKER_FAULTS

#include <fcntl.h>
#include <signal.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>

#include "pg/bridge.hpp"

extern "C" {
#include "common/hashfn.h"
}

namespace tasker::pg {

namespace {
char *fault_setting = nullptr;
int hits = 0;
char counted_for[256] = "";

// A bounded wait on an advisory lock: the tester holds it, and lets go when the process may go on.
void pause_here(const char *name) {
  const auto *bytes = reinterpret_cast<const unsigned char *>(name);
  const std::uint32_t key = DatumGetUInt32(hash_any(bytes, static_cast<int>(std::strlen(name))));  // = hashtext(name)
  LOCKTAG tag;
  SET_LOCKTAG_ADVISORY(tag, MyDatabaseId, 1413829461u, key, 2);
  const LOCKTAG *lock = &tag;
  call([=] {
    (void)LockAcquire(lock, ShareLock, true, false);
    LockRelease(lock, ShareLock, true);
  });
}
}  // namespace

void define_fault_setting() {
  DefineCustomStringVariable("tasker.fault", "Fault point to trigger: name:action[:nth] (test builds only).", nullptr, &fault_setting, "",
                             PGC_SUSET, GUC_NOT_IN_SAMPLE, nullptr, nullptr, nullptr);
}

void hit_fault(const char *name) {
  if (fault_setting == nullptr || *fault_setting == '\0') return;
  const std::size_t length = std::strlen(name);
  if (std::strncmp(fault_setting, name, length) != 0 || fault_setting[length] != ':') return;
  if (std::strncmp(counted_for, fault_setting, sizeof counted_for) != 0) {
    std::snprintf(counted_for, sizeof counted_for, "%s", fault_setting);
    hits = 0;
  }
  const std::string action(fault_setting + length + 1);
  const std::size_t colon = action.find(':');
  const int nth = colon == std::string::npos ? 1 : std::atoi(action.c_str() + colon + 1);
  if (++hits != nth) return;
  const std::string what = action.substr(0, colon);
  if (what == "kill") {
    // Once per server: without the marker every restart would die again before the test can disarm it.
    const std::string marker = std::string(PG_STAT_TMP_DIR "/tasker_fault_") + name;
    const int fd = open(marker.c_str(), O_CREAT | O_EXCL | O_WRONLY | O_CLOEXEC, 0600);
    if (fd < 0) return;
    close(fd);
    kill(getpid(), SIGKILL);
  }
  if (what == "pause") return pause_here(name);
  const int level = what == "fatal" ? FATAL : ERROR;
  call([=] { ereport(level, (errcode(ERRCODE_INTERNAL_ERROR), errmsg("fault point %s", name))); });
}

}  // namespace tasker::pg

#endif
