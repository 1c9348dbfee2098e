#include "pg/deadline.hpp"

#include "pg/bridge.hpp"

namespace tasker::pg {

namespace {
constinit bool registered = false;
constinit TimeoutId timeout_id = USER_TIMEOUT;
constinit volatile sig_atomic_t passed = 0;

extern "C" void deadline_passed() {
  passed = 1;
  InterruptPending = true;
  QueryCancelPending = true;
  SetLatch(MyLatch);
}
}  // namespace

void arm_deadline(int milliseconds) {
  call([=] {
    if (!registered) {
      timeout_id = RegisterTimeout(USER_TIMEOUT, deadline_passed);
      registered = true;
    }
    passed = 0;
    enable_timeout_after(timeout_id, milliseconds);
  });
}

bool disarm_deadline() noexcept {
  if (!registered) return false;
  disable_timeout(timeout_id, false);
  const bool was = passed != 0;
  if (was) QueryCancelPending = false;
  passed = 0;
  return was;
}

}  // namespace tasker::pg
