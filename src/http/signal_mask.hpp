// Entering libcurl: all signals wait until it is left.
//
// A thread inherits the mask of whoever starts it, and libcurl's look-ups of names start threads. A handler of the host
// running on such a thread would use the host's state from two threads at once.
#pragma once

#include <csignal>
#include <initializer_list>

namespace tasker::http {

class SignalMask {
 public:
  SignalMask() noexcept {
    sigset_t all;
    sigfillset(&all);
    // Faults of the code that runs: blocked, they would only lose their handlers.
    for (const int fault : {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGABRT, SIGTRAP, SIGSYS}) sigdelset(&all, fault);
    pthread_sigmask(SIG_SETMASK, &all, &before_);
  }
  ~SignalMask() { pthread_sigmask(SIG_SETMASK, &before_, nullptr); }
  SignalMask(const SignalMask &) = delete;
  SignalMask &operator=(const SignalMask &) = delete;

 private:
  sigset_t before_;
};

}  // namespace tasker::http
