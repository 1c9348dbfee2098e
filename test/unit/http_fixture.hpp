// What the tests of src/http share: the scripted server as a child process, and a host loop over poll().
#pragma once

#include <gtest/gtest.h>
#include <poll.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "core/json.hpp"
#include "http/client.hpp"

namespace tasker::http {

// Started by test/http/world.py: every address leads to this machine, and names are what the server says.
inline bool in_own_world() { return std::getenv("TASKER_TEST_WORLD") != nullptr; }

// test/http/server.py; started once, ends with the test program, as its stdin closes then.
class TestServer {
 public:
  static TestServer &get() {
    static TestServer *server = new TestServer();
    return *server;
  }

  int port(const std::string &name) const { return ports_.at(name).get<int>(); }
  std::string url(const std::string &path, const std::string &scheme = "http", const std::string &host = "127.0.0.1") const {
    const std::string protocol = scheme == "http" || scheme == "trap" || scheme == "silent" ? "http" : "https";
    return protocol + "://" + host + ":" + std::to_string(port(scheme)) + path;
  }
  std::string ca() const { return ports_.at("ca").get<std::string>(); }
  bool has_ipv6() const { return ports_.at("ipv6").get<bool>(); }
  core::json command(const std::string &line) {
    std::fprintf(to_, "%s\n", line.c_str());
    std::fflush(to_);
    return read_line();
  }

 private:
  TestServer() {
    // A connection that the peer has reset, as in the processes this is made for.
    signal(SIGPIPE, SIG_IGN);
    directory_ = (std::filesystem::temp_directory_path() / "tasker-http.XXXXXX").string();
    if (mkdtemp(directory_.data()) == nullptr) std::abort();
    int in[2], out[2];
    if (pipe(in) != 0 || pipe(out) != 0) std::abort();
    pid_ = fork();
    if (pid_ == 0) {
      dup2(in[0], 0);
      dup2(out[1], 1);
      for (const int fd : {in[0], in[1], out[0], out[1]}) close(fd);
      execlp("python3", "python3", "../http/server.py", directory_.c_str(), in_own_world() ? "--world" : nullptr, nullptr);
      _exit(127);
    }
    close(in[0]);
    close(out[1]);
    to_ = fdopen(in[1], "w");
    from_ = fdopen(out[0], "r");
    ports_ = read_line();
    std::atexit([] { get().stop(); });
  }

  void stop() {
    std::fclose(to_);
    waitpid(pid_, nullptr, 0);
    std::filesystem::remove_all(directory_);
  }

  core::json read_line() {
    std::string line;
    for (int c = std::fgetc(from_); c != EOF && c != '\n'; c = std::fgetc(from_)) line += static_cast<char>(c);
    if (line.empty()) {
      std::fprintf(stderr, "the test server has ended\n");
      std::abort();
    }
    return core::parse_json(line);
  }

  std::string directory_;
  pid_t pid_ = 0;
  std::FILE *to_ = nullptr, *from_ = nullptr;
  core::json ports_;
};

// A client and its host's loop.
class Driver final : public SocketWatcher {
 public:
  explicit Driver(Limits limits = {}) : client(*this, std::move(limits)) {}

  void watch(int fd, unsigned events) noexcept override {
    if (events == 0) {
      watched_.erase(fd);
    } else {
      watched_[fd] = events;
    }
  }

  // One turn of the loop.
  void turn(std::chrono::milliseconds most = std::chrono::milliseconds(1000)) {
    std::vector<pollfd> fds;
    for (const auto &[fd, events] : watched_) {
      const int what = ((events & kReadable) != 0 ? POLLIN : 0) | ((events & kWritable) != 0 ? POLLOUT : 0);
      fds.push_back({fd, static_cast<short>(what), 0});
    }
    const auto due = client.timeout();
    auto wait = due && *due < most ? *due : most;
    if (client.running() == 0) wait = std::chrono::milliseconds(0);
    const int ready = poll(fds.data(), fds.size(), static_cast<int>(wait.count()));
    for (const pollfd &entry : fds) {
      if (ready <= 0 || entry.revents == 0) continue;
      client.ready(entry.fd, ((entry.revents & POLLIN) != 0 ? kReadable : 0U) | ((entry.revents & POLLOUT) != 0 ? kWritable : 0U) |
                                 ((entry.revents & (POLLERR | POLLHUP)) != 0 ? kFailed : 0U));
    }
    if (client.timeout() == std::chrono::milliseconds(0)) client.timed_out();
    for (Response &response : client.finished()) {
      order.push_back(response.id);
      EXPECT_TRUE(responses.emplace(response.id, std::move(response)).second) << "two responses of one request";
    }
  }

  // Until nothing is under way; fails after a minute.
  void run() {
    const auto end = std::chrono::steady_clock::now() + std::chrono::seconds(60);
    do {
      turn();
      if (std::chrono::steady_clock::now() > end) FAIL() << "calls that don't end";
    } while (client.running() + client.waiting() > 0);
  }

  Response call(Request request) {
    const std::uint64_t id = client.start(std::move(request));
    run();
    return std::move(responses.at(id));
  }

  std::size_t watched() const { return watched_.size(); }

  std::map<std::uint64_t, Response> responses;
  std::vector<std::uint64_t> order;  // of ending

 private:
  std::map<int, unsigned> watched_;

 public:
  Client client;  // watches from its first moment to its last
};

inline TestServer &server() { return TestServer::get(); }

// To the server on this machine, which only a request with allow_private reaches.
inline Request request_to(std::string url, std::string method = "GET") {
  Request request;
  request.method = std::move(method);
  request.url = std::move(url);
  request.repeatable = request.method != "POST" && request.method != "PATCH";
  request.allow_private = true;
  request.timeout_seconds = 20;
  return request;
}

inline Request get(const std::string &path) { return request_to(server().url(path)); }
inline Request post(const std::string &path, std::string body) {
  Request request = request_to(server().url(path), "POST");
  request.body = std::move(body);
  request.has_body = true;
  return request;
}

inline Response call(Request request) {
  Driver driver;
  return driver.call(std::move(request));
}

// What the server saw, of an answer by /echo.
inline std::string echoed_header(const core::json &echo, const std::string &name) {
  std::string found = "(none)";
  for (const core::json &header : echo.at("headers")) {
    if (header.at(0).get<std::string>() == name) found = header.at(1).get<std::string>();
  }
  return found;
}

inline std::string hex(std::string_view text) {
  std::string result;
  for (const char c : text) {
    char digits[3];
    std::snprintf(digits, sizeof digits, "%02x", static_cast<unsigned char>(c));
    result += digits;
  }
  return result;
}

inline std::string to_string(const Response &response) {
  return std::string(failure_name(response.failure)) + " " + std::to_string(response.status) + (response.sent ? " sent: " : " not sent: ") + response.message;
}

}  // namespace tasker::http
