// The server that bench/http calls: answers GET /N after 10 ms, or after 500 ms when N is a multiple of 20, and keeps
// connections. Threads share one port, each with its own listener, epoll and queue of answers to come.
//
//   http_server CALLS THREADS
//
// Prints its port; at the end of its stdin prints one JSON line: requests, distinct N, most requests of one N, most at once.
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <queue>
#include <string>
#include <thread>
#include <unordered_map>
#include <vector>

namespace {

using Clock = std::chrono::steady_clock;
constexpr auto kFast = std::chrono::milliseconds(10), kSlow = std::chrono::milliseconds(500);
constexpr long kSlowOneIn = 20;
constexpr std::string_view kAnswer = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 12\r\n\r\n{\"ok\": true}";

std::vector<std::atomic<int>> counts;
std::atomic<int> under_way = 0, most_under_way = 0;

[[noreturn]] void die(const char *what) {
  perror(what);
  exit(1);
}

// The port: 0 for a free one.
int listener(std::uint16_t &port) {
  const int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0), on = 1;
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = htons(port);
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t size = sizeof address;
  if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_REUSEPORT, &on, sizeof on) < 0 || bind(fd, reinterpret_cast<sockaddr *>(&address), size) < 0 ||
      listen(fd, 1024) < 0 || getsockname(fd, reinterpret_cast<sockaddr *>(&address), &size) < 0)
    die("listen");
  port = ntohs(address.sin_port);
  return fd;
}

class Worker {
 public:
  explicit Worker(int listener) : listener_(listener), epoll_(epoll_create1(EPOLL_CLOEXEC)) { watch(listener_); }

  [[noreturn]] void run() {
    for (;;) {
      epoll_event events[256];
      const int count = epoll_wait(epoll_, events, 256, patience());
      for (int i = 0; i < count; i++) {
        if (events[i].data.fd == listener_) accept_all();
        else read(events[i].data.fd);
      }
      answer_due();
    }
  }

 private:
  struct Connection {
    std::string input;
    std::uint64_t serial;  // a number of its own: descriptors are used again
  };
  struct Answer {
    Clock::time_point at;
    int fd;
    std::uint64_t serial;
    friend bool operator>(const Answer &a, const Answer &b) { return a.at > b.at; }
  };

  void watch(int fd) {
    epoll_event event{};
    event.events = EPOLLIN;
    event.data.fd = fd;
    if (epoll_ctl(epoll_, EPOLL_CTL_ADD, fd, &event) < 0) die("epoll_ctl");
  }

  int patience() const {
    if (answers_.empty()) return -1;
    const auto left = std::chrono::ceil<std::chrono::milliseconds>(answers_.top().at - Clock::now()).count();
    return left < 0 ? 0 : static_cast<int>(left);
  }

  void accept_all() {
    for (int fd; (fd = accept4(listener_, nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC)) >= 0;) {
      const int on = 1;
      setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
      connections_[fd] = {"", serial_++};
      watch(fd);
    }
  }

  void read(int fd) {
    Connection &connection = connections_.at(fd);
    char buffer[16384];
    ssize_t size;
    while ((size = recv(fd, buffer, sizeof buffer, 0)) > 0) connection.input.append(buffer, static_cast<std::size_t>(size));
    const bool ended = size == 0 || (errno != EAGAIN && errno != EINTR);
    for (std::size_t end; (end = connection.input.find("\r\n\r\n")) != std::string::npos; connection.input.erase(0, end + 4)) take(fd, connection);
    if (!ended) return;
    connections_.erase(fd);
    close(fd);
  }

  void take(int fd, const Connection &connection) {
    const std::size_t slash = connection.input.find('/');
    const long number = slash == std::string::npos ? -1 : strtol(connection.input.c_str() + slash + 1, nullptr, 10);
    if (number < 0 || static_cast<std::size_t>(number) >= counts.size()) {
      fprintf(stderr, "http_server: %s\n", connection.input.c_str());
      exit(1);
    }
    counts[static_cast<std::size_t>(number)]++;
    const int now = ++under_way;
    for (int most = most_under_way; most < now && !most_under_way.compare_exchange_weak(most, now);) {}
    answers_.push({Clock::now() + (number % kSlowOneIn == 0 ? kSlow : kFast), fd, connection.serial});
  }

  void answer_due() {
    for (const auto now = Clock::now(); !answers_.empty() && answers_.top().at <= now; answers_.pop()) {
      under_way--;
      const auto found = connections_.find(answers_.top().fd);
      // Who has left wants no answer.
      if (found != connections_.end() && found->second.serial == answers_.top().serial) (void)!send(found->first, kAnswer.data(), kAnswer.size(), MSG_NOSIGNAL);
    }
  }

  int listener_, epoll_;
  std::uint64_t serial_ = 0;
  std::unordered_map<int, Connection> connections_;
  std::priority_queue<Answer, std::vector<Answer>, std::greater<>> answers_;
};

}  // namespace

int main(int count, char **arguments) {
  if (count != 3) return 2;
  counts = std::vector<std::atomic<int>>(static_cast<std::size_t>(atol(arguments[1])) + 1);
  std::uint16_t port = 0;
  std::vector<int> listeners;
  for (int i = 0; i < atoi(arguments[2]); i++) listeners.push_back(listener(port));
  for (const int fd : listeners) std::thread([fd] { Worker(fd).run(); }).detach();
  printf("%d\n", port);
  fflush(stdout);
  while (getchar() != EOF) {}
  long requests = 0, distinct = 0, most = 0;
  for (const std::atomic<int> &of_one : counts) {
    requests += of_one;
    distinct += of_one > 0;
    most = std::max<long>(most, of_one);
  }
  printf("{\"requests\": %ld, \"distinct\": %ld, \"most_of_one\": %ld, \"most_at_once\": %d}\n", requests, distinct, most, most_under_way.load());
  fflush(stdout);
  _exit(0);  // whatever is still being served
}
