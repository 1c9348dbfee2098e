// Many HTTP calls at once over libcurl's multi interface, without a thread of ours and without waiting: the host's loop
// waits, and tells what happened.
//
//   Client client(watcher, limits);
//   client.start(request);
//   for (;;) {
//     wait until a watched socket is ready, or client.timeout() has passed;
//     client.ready(fd, events) for each such socket; client.timed_out() when the time is up;
//     for (Response &response : client.finished()) …
//   }
//
// What it promises:
// - Only http and https; no proxy, netrc, cookies, alt-svc, HSTS or any other file but the CA's; nothing from the environment.
// - Every address is judged when it is dialled, so that names, literals, odd spellings and redirects all meet the same rule.
// - TLS is verified, always.
// - A request that isn't repeatable leaves this machine at most once.
// - libcurl resolves names in threads of its own. It is entered with all signals blocked, which these threads inherit, and
//   nothing here waits for them: ending a call during a look-up leaves the thread behind, which ends by itself.
// - Nothing raised by libcurl's callbacks, nothing logged. Every request ends in exactly one Response.
//
// One per process. SIGPIPE must be ignored by the process (in PostgreSQL's workers it is).
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "http/request.hpp"

namespace tasker::http {

// Events of a socket.
inline constexpr unsigned kReadable = 1;
inline constexpr unsigned kWritable = 2;
inline constexpr unsigned kFailed = 4;  // to Client::ready only

// The host's part. Called from inside libcurl: must not raise, and must not call the client.
class SocketWatcher {
 public:
  virtual ~SocketWatcher() = default;
  // From now on watch fd for these events; 0: forget it, it is about to be closed.
  virtual void watch(int fd, unsigned events) noexcept = 0;
};

struct Limits {
  int max_running = 256;  // further requests wait their turn; their time starts with it
  // Kept connections are closed when their pool has had no call for so long.
  std::chrono::seconds idle{30};
  // Answers for names, as libcurl's CURLOPT_RESOLVE takes them ("name:port:address"): for tests, which have no DNS of their own.
  std::vector<std::string> resolve;
};

class Client {
 public:
  Client(SocketWatcher &watcher, Limits limits);
  Client(const Client &) = delete;
  Client &operator=(const Client &) = delete;
  ~Client();

  // Never refuses: what is wrong with the request comes back as its response.
  std::uint64_t start(Request request);
  // False: it is not under way. Its response says kCancelled.
  bool cancel(std::uint64_t id);

  void ready(int fd, unsigned events);
  void timed_out();
  // How long until timed_out() is due; empty: never, as things are.
  std::optional<std::chrono::milliseconds> timeout() const;

  // In the order in which they ended; each once.
  std::vector<Response> finished();

  std::size_t running() const noexcept;
  std::size_t waiting() const noexcept;
  // Sockets ever opened: what the egress policy refuses never counts.
  std::uint64_t dialled() const noexcept;

 private:
  class Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace tasker::http
