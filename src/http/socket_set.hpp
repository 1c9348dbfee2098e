// The client's sockets behind one file descriptor, so that a host waits on one socket event whatever the number of calls.
//
// Linux: an epoll instance, which is itself readable when one of its sockets is ready. PostgreSQL's WaitEventSet takes it
// like any socket, beside latch and postmaster death; that set is built once, as PostgreSQL can't remove an event from one.
#pragma once

#include "http/client.hpp"

namespace tasker::http {

class SocketSet final : public SocketWatcher {
 public:
  SocketSet();  // raises 53000 when the process has no descriptor left
  SocketSet(const SocketSet &) = delete;
  SocketSet &operator=(const SocketSet &) = delete;
  ~SocketSet() override;

  int fd() const noexcept { return fd_; }
  void watch(int fd, unsigned events) noexcept override;
  // Tells the client what is ready now; doesn't wait.
  void dispatch(Client &client);

 private:
  int fd_;
};

}  // namespace tasker::http
