// What a client sends and what it makes of answers, against the scripted server.
#include "http/client.hpp"

#include <gtest/gtest.h>
#include <sys/resource.h>

#include <cstdlib>
#include <fstream>

#include "http/socket_set.hpp"
#include "http_fixture.hpp"

namespace tasker::http {
namespace {

using namespace std::string_literals;
using core::json;

json echo(Request request) {
  const Response response = call(std::move(request));
  EXPECT_EQ(response.failure, Failure::kNone) << to_string(response);
  EXPECT_EQ(response.status, 200);
  return core::parse_json(response.body);
}

TEST(HttpClient, SendsAndReceives) {
  const Response response = call(get("/echo/a%20b?x=1&y=%26"));
  ASSERT_EQ(response.failure, Failure::kNone) << to_string(response);
  EXPECT_TRUE(response.sent);
  EXPECT_FALSE(response.truncated);
  EXPECT_EQ(response.http_version, 11);
  EXPECT_EQ(response.header("content-type"), "application/json");
  EXPECT_EQ(response.header("x-none"), "");
  EXPECT_EQ(response.host, "127.0.0.1:" + std::to_string(server().port("http")));
  EXPECT_GT(response.timings.total, 0);
  EXPECT_GT(response.timings.first_byte, 0);
  const json seen = core::parse_json(response.body);
  EXPECT_EQ(seen["method"], "GET");
  EXPECT_EQ(seen["target"], "/echo/a%20b?x=1&y=%26");
}

TEST(HttpClient, MethodsAndBodies) {
  for (const char *method : {"POST", "PUT", "PATCH", "DELETE", "OPTIONS"}) {
    Request request = request_to(server().url("/echo"), method);
    request.body = R"({"a": "ü"})";
    request.has_body = true;
    request.headers = {{"Content-Type", "application/json"}};
    const json seen = echo(std::move(request));
    EXPECT_EQ(seen["method"], method);
    EXPECT_EQ(seen["body"], R"({"a": "ü"})");
    EXPECT_EQ(echoed_header(seen, "Content-Type"), "application/json");
  }
  for (const char *method : {"GET", "DELETE", "OPTIONS"}) {
    const json seen = echo(request_to(server().url("/echo"), method));
    EXPECT_EQ(seen["method"], method);
    EXPECT_EQ(echoed_header(seen, "Content-Length"), "(none)");
  }
  const json empty = echo(request_to(server().url("/echo"), "POST"));
  EXPECT_EQ(echoed_header(empty, "Content-Length"), "0");
  EXPECT_EQ(echoed_header(empty, "Content-Type"), "(none)") << "libcurl's own would call it a form";
  const Response head = call(request_to(server().url("/echo"), "HEAD"));
  EXPECT_EQ(head.status, 200);
  EXPECT_EQ(head.body, "");
}

TEST(HttpClient, LargeBodiesAreSentAtOnce) {
  Request request = post("/echo", std::string(3'000'000, 'b'));
  request.max_response = 8'000'000;
  const json seen = echo(std::move(request));
  EXPECT_EQ(seen["body"].get_ref<const std::string &>().size(), 3'000'000U);
  EXPECT_EQ(echoed_header(seen, "Expect"), "(none)");
}

TEST(HttpClient, HeadersArriveAsGiven) {
  Request request = get("/echo");
  request.headers = {{"User-Agent", "tasker/test"}, {"X-Empty", ""}, {"Idempotency-Key", "a b\tc"}, {"X-Utf8", "Zoë"}};
  const json seen = echo(std::move(request));
  EXPECT_EQ(echoed_header(seen, "User-Agent"), "tasker/test");
  EXPECT_EQ(echoed_header(seen, "X-Empty"), "");
  EXPECT_EQ(echoed_header(seen, "Idempotency-Key"), "a b\tc");
  EXPECT_EQ(echoed_header(seen, "X-Utf8"), "Zo\xC3\x83\xC2\xAB") << "the server reads Latin-1";
  EXPECT_EQ(echoed_header(seen, "Accept-Encoding"), "(none)") << "no bombs";
  EXPECT_EQ(echoed_header(seen, "Cookie"), "(none)");
}

TEST(HttpClient, WhatCantBeSentComesBack) {
  const auto refused = [](auto change) {
    Request request = get("/echo");
    change(request);
    const Response response = call(std::move(request));
    EXPECT_EQ(response.failure, Failure::kInvalidRequest) << to_string(response);
    EXPECT_FALSE(response.sent);
    return response.message;
  };
  const int before = server().command("hits echo").get<int>();
  for (const char *url : {"", "x", "/echo", "file:///etc/passwd", "ftp://h/x", "gopher://h:70/x", "http:/127.0.0.1/", "http:///x", "http://u:p@127.0.0.1/", "http://u@127.0.0.1/",
                          "http://127.0.0.1\\@evil/", "http://a b/", "http://h/a b", "http://h/\r\nX: y", "http://h:99999/", "http://h:0/", "http://", "javascript:alert(1)"}) {
    EXPECT_NE(refused([&](Request &request) { request.url = url; }), "") << url;
  }
  refused([](Request &request) { request.headers = {{"X", "a\r\nY: b"}}; });
  refused([](Request &request) { request.headers = {{"X\r\nY", "b"}}; });
  refused([](Request &request) { request.headers = {{"Host", "evil"}}; });
  refused([](Request &request) { request.headers = {{"Content-Length", "5"}}; });
  refused([](Request &request) { request.headers = {{"Transfer-Encoding", "chunked"}}; });
  refused([](Request &request) { request.credentials = {Credentials::Kind::kBearer, "", Secret("a\nX: y")}; });
  EXPECT_EQ(server().command("hits echo").get<int>(), before);
}

TEST(HttpClient, CredentialsGoOutAndNeverComeBack) {
  const std::string token = "tok/en-1234567890+==";
  const auto seen = [&](Credentials::Kind kind, const std::string &name, const std::string &secret) {
    Request request = get("/echo");
    request.headers = {{"authorization", "overridden"}, {"X-Api-Key", "overridden"}, {"X-Kept", "1"}};
    request.credentials = {kind, name, Secret(secret)};
    const Response response = call(std::move(request));
    EXPECT_EQ(response.body.find(secret), std::string::npos) << response.body;
    return core::parse_json(response.body);
  };
  EXPECT_EQ(echoed_header(seen(Credentials::Kind::kBearer, "", token), "authorization"), "Bearer [redacted]");
  EXPECT_EQ(echoed_header(seen(Credentials::Kind::kBasic, "al", "open sesame"), "authorization"), "Basic [redacted]");
  const json key = seen(Credentials::Kind::kHeader, "X-Api-Key", "Token " + token);
  EXPECT_EQ(echoed_header(key, "x-api-key"), "[redacted]");
  EXPECT_EQ(echoed_header(key, "authorization"), "overridden");
  EXPECT_EQ(echoed_header(key, "X-Kept"), "1");
  // Too short to be told from ordinary words: what was sent shows that it did arrive.
  EXPECT_EQ(echoed_header(echo([] {
              Request request = get("/echo");
              request.credentials = {Credentials::Kind::kBasic, "a", Secret("b")};
              return request;
            }()), "authorization"), "Basic YTpi");

  Request escaped = get("/bytes?type=application/json&hex=" + hex(R"({"a": "x tok\/en-1234567890+== y", "b": "en-1234567890"})"));
  escaped.credentials = {Credentials::Kind::kHeader, "X-Key", Secret("Token " + token)};
  EXPECT_EQ(call(std::move(escaped)).body, R"({"a": "x [redacted] y", "b": "en-1234567890"})");
}

TEST(HttpClient, NothingFromTheEnvironment) {
  const std::string home = std::filesystem::temp_directory_path() / "tasker-home";
  std::filesystem::create_directories(home);
  std::ofstream(home + "/.netrc") << "default login me password fromfile\n";
  const std::string trap = "http://127.0.0.1:" + std::to_string(server().port("trap"));
  const int before = server().command("trapped").get<int>();
  const std::string old_home = std::getenv("HOME") != nullptr ? std::getenv("HOME") : "/";
  setenv("HOME", home.c_str(), 1);
  setenv("SSLKEYLOGFILE", (home + "/keys").c_str(), 1);
  for (const char *name : {"http_proxy", "https_proxy", "ALL_PROXY", "all_proxy"}) setenv(name, trap.c_str(), 1);
  const json seen = echo(get("/echo"));
  Request secured = request_to(server().url("/echo", "https"));
  secured.ca_file = server().ca();
  EXPECT_EQ(call(std::move(secured)).status, 200);
  EXPECT_FALSE(std::filesystem::exists(home + "/keys"));
  for (const char *name : {"http_proxy", "https_proxy", "ALL_PROXY", "all_proxy"}) unsetenv(name);
  setenv("HOME", old_home.c_str(), 1);
  std::filesystem::remove_all(home);
  EXPECT_EQ(echoed_header(seen, "Authorization"), "(none)");
  EXPECT_EQ(server().command("trapped").get<int>(), before);
}

TEST(HttpClient, ConnectionsAreKept) {
  Driver driver;
  const json first = core::parse_json(driver.call(get("/echo")).body), second = core::parse_json(driver.call(get("/echo")).body);
  EXPECT_EQ(first["connection"], second["connection"]);
  EXPECT_EQ(second["request"], 2);
  EXPECT_EQ(driver.client.dialled(), 1U);

  Request other = get("/echo");
  other.pool = "another user";
  EXPECT_NE(core::parse_json(driver.call(std::move(other)).body)["connection"], first["connection"]);
  Request public_only = get("/echo");
  public_only.allow_private = false;
  EXPECT_EQ(driver.call(std::move(public_only)).failure, Failure::kRefusedAddress) << "a connection that another was allowed to make";
  EXPECT_EQ(driver.client.dialled(), 2U);
}

TEST(HttpClient, IdlePoolsAreClosed) {
  Driver driver({.max_running = 4, .idle = std::chrono::seconds(0), .resolve = {}});
  driver.call(get("/echo"));
  if (driver.client.timeout()) driver.turn();
  EXPECT_EQ(driver.client.timeout(), std::nullopt) << "nothing left to wait for";
  EXPECT_EQ(driver.watched(), 0U);
  driver.call(get("/echo"));
  EXPECT_EQ(driver.client.dialled(), 2U);
}

std::size_t open_descriptors() {
  const std::filesystem::directory_iterator all("/proc/self/fd");
  return static_cast<std::size_t>(std::distance(begin(all), end(all)));
}

TEST(HttpClient, PoolsAreBounded) {
  Driver driver;
  driver.call(get("/echo"));
  const std::size_t before = open_descriptors();
  for (int i = 0; i < 150; ++i) {
    Request request = get("/echo");
    request.pool = "user " + std::to_string(i);
    ASSERT_EQ(driver.call(std::move(request)).status, 200);
  }
  EXPECT_EQ(driver.client.dialled(), 151U);
  EXPECT_LT(open_descriptors(), before + 150) << "the oldest are closed";
}

TEST(HttpClient, RequestsThatAreNotRepeatableLeaveOnce) {
  Driver driver;
  const json seen = core::parse_json(driver.call(get("/echo")).body);
  // Never over a kept connection …
  const Response answer = driver.call(post("/echo", "x"));
  const json posted = core::parse_json(answer.body);
  EXPECT_NE(posted["connection"], seen["connection"]);
  EXPECT_EQ(echoed_header(posted, "Connection"), "close");
  // … as that may be dead: here libcurl sends the GET again, by itself.
  driver.call(get("/stale"));
  int before = server().command("hits echo").get<int>();
  EXPECT_EQ(driver.call(get("/echo")).status, 200);
  EXPECT_EQ(server().command("hits echo").get<int>(), before + 2);
  driver.call(get("/stale"));
  before = server().command("hits echo").get<int>();
  EXPECT_EQ(driver.call(post("/echo", "x")).status, 200);
  EXPECT_EQ(server().command("hits echo").get<int>(), before + 1);
}

TEST(HttpClient, ServersThatCloseInSilence) {
  Driver driver;
  for (int i = 0; i < 20; ++i) {
    EXPECT_EQ(driver.call(get("/hangup")).status, 200);
    EXPECT_EQ(driver.call(post("/hangup", "x")).status, 200);
  }
}

TEST(HttpClient, SocketSetIsOneDescriptor) {
  SocketSet set;
  Client client(set, {});
  for (int i = 0; i < 50; ++i) client.start(get("/delay/20"));
  std::size_t answers = 0;
  // Without events, libcurl's own timers would bring the answers in the end, but not so soon.
  const auto end = std::chrono::steady_clock::now() + std::chrono::seconds(5);
  while (answers < 50 && std::chrono::steady_clock::now() < end) {
    pollfd entry = {set.fd(), POLLIN, 0};
    const auto due = client.timeout();
    (void)poll(&entry, 1, due ? static_cast<int>(due->count()) : 1000);
    set.dispatch(client);
    if (client.timeout() == std::chrono::milliseconds(0)) client.timed_out();
    for (const Response &response : client.finished()) answers += response.status == 200 ? 1 : 0;
  }
  EXPECT_EQ(answers, 50U);
  EXPECT_LT(std::chrono::steady_clock::now(), end);
}

TEST(HttpClient, ManyAtOnce) {
  Driver driver({.max_running = 200, .idle = std::chrono::seconds(30), .resolve = {}});
  for (int i = 0; i < 300; ++i) driver.client.start(get("/delay/50"));
  EXPECT_EQ(driver.client.running(), 200U);
  EXPECT_EQ(driver.client.waiting(), 100U);
  driver.run();
  ASSERT_EQ(driver.responses.size(), 300U);
  for (const auto &[id, response] : driver.responses) EXPECT_EQ(response.status, 200) << to_string(response);
  EXPECT_LE(driver.client.dialled(), 200U);
}

TEST(HttpClient, ServersHaveLimits) {
  Driver driver;
  const auto limited = [](const std::string &name) {
    Request request = get("/delay/30");
    request.server = name;
    request.max_concurrency = 2;
    return request;
  };
  for (int i = 0; i < 6; ++i) driver.client.start(limited("a"));
  const std::uint64_t other = driver.client.start(limited("b"));
  EXPECT_EQ(driver.client.running(), 3U) << "nobody waits behind another server's calls";
  EXPECT_EQ(driver.client.waiting(), 4U);
  while (driver.client.running() > 0) {
    EXPECT_LE(driver.client.running(), 3U);
    driver.turn();
  }
  EXPECT_EQ(driver.responses.size(), 7U);
  const auto place = std::find(driver.order.begin(), driver.order.end(), other) - driver.order.begin();
  EXPECT_LT(place, 3);
}

TEST(HttpClient, TimeRunsFromTheTurnOn) {
  Driver driver;
  for (int i = 0; i < 3; ++i) {
    Request request = get("/delay/700");
    request.server = "a";
    request.max_concurrency = 1;
    request.timeout_seconds = 1.9;  // shorter than the three of them
    driver.client.start(std::move(request));
  }
  driver.run();
  ASSERT_EQ(driver.responses.size(), 3U);
  for (const auto &[id, response] : driver.responses) EXPECT_EQ(response.status, 200) << to_string(response);
}

// Those who hope to share a connection that is being made find out that this server speaks HTTP/1.1 only.
TEST(HttpClient, ManyAtOnceOverTls) {
  Driver driver;
  for (int i = 0; i < 30; ++i) {
    Request request = request_to(server().url("/delay/300", "https"));
    request.ca_file = server().ca();
    driver.client.start(std::move(request));
  }
  const auto started = std::chrono::steady_clock::now();
  driver.run();
  ASSERT_EQ(driver.responses.size(), 30U);
  for (const auto &[id, response] : driver.responses) EXPECT_EQ(response.status, 200) << to_string(response);
  EXPECT_LT(std::chrono::steady_clock::now() - started, std::chrono::milliseconds(30 * 300 / 2)) << "one after the other";
}

TEST(HttpClient, WithoutDescriptors) {
  Driver driver;
  rlimit before = {};
  ASSERT_EQ(getrlimit(RLIMIT_NOFILE, &before), 0);
  EXPECT_EQ(driver.call(get("/echo")).status, 200) << "the pool is there";
  rlimit none = before;
  none.rlim_cur = 3;
  ASSERT_EQ(setrlimit(RLIMIT_NOFILE, &none), 0);
  const Response response = driver.call(post("/echo", "x"));
  ASSERT_EQ(setrlimit(RLIMIT_NOFILE, &before), 0);
  EXPECT_EQ(response.failure, Failure::kLocal) << to_string(response);
  EXPECT_FALSE(response.sent);
  EXPECT_NE(response.message.find("could not open a socket: Too many open files"), std::string::npos) << response.message;
  EXPECT_EQ(driver.call(post("/echo", "x")).status, 200) << "it gets better";
}

TEST(HttpClient, Cancels) {
  Driver driver;
  const std::uint64_t under_way = driver.client.start(request_to(server().url("/x", "silent")));
  Request next = get("/echo");
  next.server = "a";
  next.max_concurrency = 1;
  Request blocking = request_to(server().url("/x", "silent"));
  blocking.server = "a";
  blocking.max_concurrency = 1;
  const std::uint64_t blocked = driver.client.start(std::move(blocking));
  const std::uint64_t waiting = driver.client.start(std::move(next));
  next = get("/echo");
  next.server = "a";
  next.max_concurrency = 1;
  const std::uint64_t last = driver.client.start(std::move(next));
  EXPECT_EQ(driver.client.waiting(), 2U);
  for (int i = 0; i < 10; ++i) driver.turn(std::chrono::milliseconds(20));
  EXPECT_TRUE(driver.client.cancel(under_way));
  EXPECT_FALSE(driver.client.cancel(under_way));
  EXPECT_FALSE(driver.client.cancel(12345));
  EXPECT_TRUE(driver.client.cancel(waiting));
  EXPECT_TRUE(driver.client.cancel(blocked));
  EXPECT_EQ(driver.client.waiting(), 0U) << "the next one starts at once";
  EXPECT_EQ(driver.client.running(), 1U);
  driver.run();
  EXPECT_EQ(driver.responses.at(under_way).failure, Failure::kCancelled);
  EXPECT_TRUE(driver.responses.at(under_way).sent) << "it was waiting for its answer";
  EXPECT_EQ(driver.responses.at(waiting).failure, Failure::kCancelled);
  EXPECT_FALSE(driver.responses.at(waiting).sent);
  EXPECT_EQ(driver.responses.at(last).status, 200) << "the place is free again";
}

TEST(HttpClient, EndsWithCallsUnderWay) {
  Driver driver;
  for (int i = 0; i < 3; ++i) driver.client.start(request_to(server().url("/x", "silent")));
  driver.client.start(request_to("http://localhost:" + std::to_string(server().port("silent"))));
  driver.turn(std::chrono::milliseconds(20));
}

TEST(HttpClient, SignalsStayBlockedOnlyInside) {
  sigset_t mask;
  call(get("/echo"));
  pthread_sigmask(SIG_SETMASK, nullptr, &mask);
  EXPECT_FALSE(sigismember(&mask, SIGTERM));
  EXPECT_FALSE(sigismember(&mask, SIGUSR1));
}

}  // namespace
}  // namespace tasker::http
