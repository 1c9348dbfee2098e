#include "http/socket_set.hpp"

#include <sys/epoll.h>
#include <unistd.h>

#include <cerrno>

#include "core/error.hpp"

namespace tasker::http {

SocketSet::SocketSet() : fd_(epoll_create1(EPOLL_CLOEXEC)) {
  if (fd_ < 0) throw Error("53000", "could not create an epoll descriptor for HTTP calls");
}

SocketSet::~SocketSet() { close(fd_); }

void SocketSet::watch(int fd, unsigned events) noexcept {
  epoll_event event = {};
  event.data.fd = fd;
  event.events = ((events & kReadable) != 0 ? EPOLLIN : 0U) | ((events & kWritable) != 0 ? EPOLLOUT : 0U);
  if (events == 0) {
    // It may be gone already: closing takes a descriptor out by itself.
    (void)epoll_ctl(fd_, EPOLL_CTL_DEL, fd, nullptr);
  } else if (epoll_ctl(fd_, EPOLL_CTL_MOD, fd, &event) != 0 && errno == ENOENT) {
    (void)epoll_ctl(fd_, EPOLL_CTL_ADD, fd, &event);  // without memory for it, the call ends by its timeout
  }
}

void SocketSet::dispatch(Client &client) {
  constexpr int kAtOnce = 64;
  epoll_event events[kAtOnce];
  const int count = epoll_wait(fd_, events, kAtOnce, 0);
  for (int i = 0; i < count; ++i) {
    const unsigned ready = ((events[i].events & EPOLLIN) != 0 ? kReadable : 0U) | ((events[i].events & EPOLLOUT) != 0 ? kWritable : 0U) |
                           ((events[i].events & (EPOLLERR | EPOLLHUP)) != 0 ? kFailed : 0U);
    client.ready(events[i].data.fd, ready);
  }
}

}  // namespace tasker::http
