// Named fault points: places where tests make a process fail, die or stop. Absent from release builds.
//
// Armed by the superuser setting tasker.fault = 'name:action[:nth]', action one of error, fatal, kill (SIGKILL
// to itself, once per server), pause (waits while somebody holds pg_advisory_lock(1413829461, hashtext(name))).
// Without nth the first hit in a process counts.
#pragma once

namespace tasker::pg {

#ifdef TASKER_FAULTS
void hit_fault(const char *name);
void define_fault_setting();
#define TASKER_FAULT(name) ::tasker::pg::hit_fault(name)
#else
inline void define_fault_setting() {}
#define TASKER_FAULT(name) ((void)0)
#endif

}  // namespace tasker::pg
