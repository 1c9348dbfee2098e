// What must not be reached isn't, whatever it is called: spellings × (literal, name, rebound name, redirect), counted by a
// listener on every address.
//
// Each test runs as a process in a network of its own, where all addresses lead to that listener (test/http/world.py): each
// spelling is first reached with allow_private, which proves that the listener would have noticed. Where no such world can
// be made (some containers forbid it), they run with what this machine reaches: loopback.
#include <gtest/gtest.h>

#include <dirent.h>

#include <fstream>
#include <set>
#include <sstream>

#include "core/template.hpp"
#include "http/client.hpp"
#include "http_fixture.hpp"

namespace tasker::http {
namespace {

struct Spelling {
  const char *host;
  const char *address;  // which it means
};

constexpr Spelling kSpellings[] = {
    // loopback
    {"127.0.0.1", "127.0.0.1"},
    {"127.1", "127.0.0.1"},
    {"127.0.1", "127.0.0.1"},
    {"2130706433", "127.0.0.1"},
    {"0x7f000001", "127.0.0.1"},
    {"0X7F000001", "127.0.0.1"},
    {"0x7f.1", "127.0.0.1"},
    {"0x7f.0x0.0x0.0x1", "127.0.0.1"},
    {"017700000001", "127.0.0.1"},
    {"0177.1", "127.0.0.1"},
    {"0177.0.0.01", "127.0.0.1"},
    {"00000177.0x0.1", "127.0.0.1"},
    {"127.0.0.1.", "127.0.0.1"},
    {"127%2e0%2E0%2e1", "127.0.0.1"},
    {"127.9.9.9", "127.9.9.9"},
    {"127.255.255.254", "127.255.255.254"},
    {"localhost", "127.0.0.1"},
    {"LocalHost", "127.0.0.1"},
    {"localhost.", "127.0.0.1"},
    {"①②⑦.⓪.⓪.①", "127.0.0.1"},
    {"127。0。0。1", "127.0.0.1"},
    {"０x7f.1", "127.0.0.1"},
    {"[::1]", "::1"},
    {"[0:0:0:0:0:0:0:1]", "::1"},
    {"[0000:0000::0001]", "::1"},
    {"[::0.0.0.1]", "::1"},
    // this machine
    {"0", "0.0.0.0"},
    {"0.0.0.0", "0.0.0.0"},
    {"0x0", "0.0.0.0"},
    {"00000", "0.0.0.0"},
    {"0.0", "0.0.0.0"},
    {"[::]", "::"},
    {"[0::0]", "::"},
    // metadata
    {"169.254.169.254", "169.254.169.254"},
    {"2852039166", "169.254.169.254"},
    {"0xa9fea9fe", "169.254.169.254"},
    {"0xA9.0xFE.0xA9.0xFE", "169.254.169.254"},
    {"0251.0376.0251.0376", "169.254.169.254"},
    {"169.254.43518", "169.254.169.254"},
    {"169.16689662", "169.254.169.254"},
    {"169.254.170.2", "169.254.170.2"},
    {"169.254.170.23", "169.254.170.23"},
    {"100.100.100.200", "100.100.100.200"},
    {"168.63.129.16", "168.63.129.16"},
    {"192.0.0.192", "192.0.0.192"},
    {"[fd00:ec2::254]", "fd00:ec2::254"},
    {"[fd20:ce::254]", "fd20:ce::254"},
    // link-local, private, shared
    {"169.254.0.1", "169.254.0.1"},
    {"10.0.0.1", "10.0.0.1"},
    {"0xa000001", "10.0.0.1"},
    {"167772161", "10.0.0.1"},
    {"012.1", "10.0.0.1"},
    {"10.255.255.254", "10.255.255.254"},
    {"172.16.0.1", "172.16.0.1"},
    {"172.31.255.254", "172.31.255.254"},
    {"192.168.0.1", "192.168.0.1"},
    {"3232235521", "192.168.0.1"},
    {"0300.0250.1", "192.168.0.1"},
    {"100.64.0.1", "100.64.0.1"},
    {"100.127.255.254", "100.127.255.254"},
    {"[fc00::1]", "fc00::1"},
    {"[fd12:3456::1]", "fd12:3456::1"},
    {"[fe80::1%25lo]", "fe80::1"},
    {"[fec0::1]", "fec0::1"},
    // reserved, multicast
    {"0.0.0.1", "0.0.0.1"},
    {"192.0.0.8", "192.0.0.8"},
    {"192.0.2.1", "192.0.2.1"},
    {"192.88.99.1", "192.88.99.1"},
    {"198.18.0.1", "198.18.0.1"},
    {"198.19.255.254", "198.19.255.254"},
    {"198.51.100.1", "198.51.100.1"},
    {"203.0.113.1", "203.0.113.1"},
    {"224.0.0.1", "224.0.0.1"},
    {"240.0.0.1", "240.0.0.1"},
    {"255.255.255.255", "255.255.255.255"},
    {"[100::1]", "100::1"},
    {"[2001:2::1]", "2001:2::1"},
    {"[2001:20::1]", "2001:20::1"},
    {"[2001:db8::1]", "2001:db8::1"},
    {"[3fff::1]", "3fff::1"},
    {"[5f00::1]", "5f00::1"},
    {"[ff02::1]", "ff02::1"},
    // IPv4 inside IPv6
    {"[::ffff:127.0.0.1]", "::ffff:127.0.0.1"},
    {"[::ffff:7f00:1]", "::ffff:127.0.0.1"},
    {"[0:0:0:0:0:ffff:127.0.0.1]", "::ffff:127.0.0.1"},
    {"[::ffff:169.254.169.254]", "::ffff:169.254.169.254"},
    {"[::ffff:a9fe:a9fe]", "::ffff:169.254.169.254"},
    {"[::ffff:10.0.0.1]", "::ffff:10.0.0.1"},
    {"[::ffff:8.8.8.8]", "::ffff:8.8.8.8"},
    {"[::ffff:0:127.0.0.1]", "::ffff:0:127.0.0.1"},
    {"[::127.0.0.1]", "::127.0.0.1"},
    {"[64:ff9b::127.0.0.1]", "64:ff9b::127.0.0.1"},
    {"[64:ff9b::a9fe:a9fe]", "64:ff9b::169.254.169.254"},
    {"[64:ff9b:1::7f00:1]", "64:ff9b:1::7f00:1"},
    {"[2002:7f00:1::]", "2002:7f00:1::"},
    {"[2002:a9fe:a9fe::1]", "2002:a9fe:a9fe::1"},
    {"[2001:0:4136:e378:8000:63bf:80ff:fffe]", "2001:0:4136:e378:8000:63bf:80ff:fffe"},
    {"[2606:4700::5efe:10.0.0.1]", "2606:4700::5efe:10.0.0.1"},
};

constexpr const char *kPublic = "93.184.216.34";

std::string at(const std::string &host, const std::string &port = "trap", const std::string &path = "/") {
  return "http://" + host + ":" + std::to_string(server().port(port)) + path;
}
int trapped() { return server().command("trapped").get<int>(); }

// True: the present test has run in a world of its own, and nothing is left to do here.
bool ran_in_own_world() {
  if (in_own_world()) return false;
  const std::string world = "unshare --user --map-root-user --net --mount python3 ../http/world.py ";
  static const bool possible = std::system((world + "true >/dev/null 2>&1").c_str()) == 0;
  if (!possible) return false;
  char self[4096] = {};
  EXPECT_GT(readlink("/proc/self/exe", self, sizeof self - 1), 0);
  const ::testing::TestInfo *test = ::testing::UnitTest::GetInstance()->current_test_info();
  const std::string filter = " --gtest_filter=" + std::string(test->test_suite_name()) + "." + test->name();
  std::FILE *output = popen((world + self + filter + " 2>&1").c_str(), "r");
  std::string text;
  for (int c = std::fgetc(output); c != EOF; c = std::fgetc(output)) text += static_cast<char>(c);
  EXPECT_EQ(pclose(output), 0) << text;
  return true;
}

// Does the call get through? With private addresses allowed it shows what the policy alone keeps away.
struct Attempt {
  bool reached;
  Response response;
  std::uint64_t dialled;
};

Attempt attempt(const std::string &url, bool allow_private, std::vector<std::string> resolve = {}) {
  Driver driver({.max_running = 1, .idle = std::chrono::seconds(1), .resolve = std::move(resolve)});
  Request request = request_to(url);
  request.allow_private = allow_private;
  request.allow_redirects = true;
  request.connect_timeout_seconds = 5;
  request.timeout_seconds = 10;
  const int before = trapped();
  Response response = driver.call(std::move(request));
  return {trapped() > before, std::move(response), driver.client.dialled()};
}

// A way to send a call to an address: one URL (and answers for names, where there is no name server) a spelling.
using Way = std::pair<std::string, std::vector<std::string>> (*)(const Spelling &spelling, int number);

// Outside a world of our own nothing but this machine itself is ever dialled.
bool harmless(const Spelling &spelling) {
  const std::string address = spelling.address;
  return in_own_world() || address.starts_with("127.") || address == "0.0.0.0" || address == "::1" || address == "::" || address == "::ffff:127.0.0.1";
}

// How many spellings are reached when they may be; none otherwise. `hops`: how many come before, with a socket each.
int refused_when_private(Way way, std::uint64_t hops) {
  int reachable = 0, number = 0;
  for (const Spelling &spelling : kSpellings) {
    const auto [open_url, open_names] = way(spelling, ++number);
    const bool reached = harmless(spelling) && attempt(open_url, true, open_names).reached;
    reachable += reached ? 1 : 0;
    const auto [url, names] = way(spelling, ++number);
    const Attempt shut = attempt(url, false, names);
    EXPECT_FALSE(shut.reached) << spelling.host;
    EXPECT_EQ(shut.dialled, hops) << spelling.host;
    EXPECT_EQ(shut.response.status, 0) << spelling.host;
    const Failure failure = shut.response.failure;
    // Some spellings are no addresses to some versions of libcurl, and lead nowhere.
    EXPECT_TRUE(failure == Failure::kRefusedAddress || failure == Failure::kResolve || failure == Failure::kInvalidRequest || failure == Failure::kRedirectRefused)
        << spelling.host << ": " << to_string(shut.response);
    if (reached) {
      EXPECT_EQ(failure, Failure::kRefusedAddress) << spelling.host << ": " << to_string(shut.response);
    }
  }
  return reachable;
}

// In a world of our own nearly all of them can be reached; multicast and the like can't be dialled by TCP at all.
void expect_reachable(int reachable, int in_world, int outside) {
  const int least = in_own_world() ? in_world : outside;
  EXPECT_GE(reachable, least);
  ::testing::Test::RecordProperty("reachable", reachable);
}

TEST(EgressPolicy, Literals) {
  if (ran_in_own_world()) return;
  static_assert(std::size(kSpellings) >= 90);
  expect_reachable(refused_when_private([](const Spelling &spelling, int) { return std::pair(at(spelling.host), std::vector<std::string>()); }, 0), 85, 25);
}

TEST(EgressPolicy, Names) {
  if (ran_in_own_world()) return;
  const Way way = [](const Spelling &spelling, int number) {
    const std::string name = "n" + std::to_string(number) + ".test";
    std::vector<std::string> answers;
    if (in_own_world()) {
      server().command("dns " + name + " " + spelling.address);
    } else {
      const std::string address = spelling.address;
      answers = {name + ":" + std::to_string(server().port("trap")) + ":" + (address.find(':') == std::string::npos ? address : "[" + address + "]")};
    }
    return std::pair(at(name), answers);
  };
  expect_reachable(refused_when_private(way, 0), 85, 25);
}

// The name is public when it is asked for first, and something else the next time, within one call.
TEST(EgressPolicy, ReboundNames) {
  if (ran_in_own_world()) return;
  if (!in_own_world()) GTEST_SKIP() << "needs a world of its own, where public addresses can be reached";
  const Way way = [](const Spelling &spelling, int number) {
    const std::string name = "r" + std::to_string(number) + ".test";
    server().command("dns " + name + " " + kPublic + "|" + spelling.address);
    return std::pair(at(name, "http", "/redirect?to=" + core::percent_encode(at(name))), std::vector<std::string>());
  };
  expect_reachable(refused_when_private(way, 1), 85, 0);
}

TEST(EgressPolicy, Redirects) {
  if (ran_in_own_world()) return;
  if (!in_own_world()) GTEST_SKIP() << "needs a world of its own, where public addresses can be reached";
  const Way way = [](const Spelling &spelling, int) {
    return std::pair(at(kPublic, "http", "/redirect?to=" + core::percent_encode(at(spelling.host))), std::vector<std::string>());
  };
  expect_reachable(refused_when_private(way, 1), 85, 0);
}

TEST(EgressPolicy, PublicAddressesAreReached) {
  if (ran_in_own_world()) return;
  if (!in_own_world()) GTEST_SKIP() << "needs a world of its own, where public addresses can be reached";
  for (const char *host : {"93.184.216.34", "8.8.8.8", "[2606:4700::1111]", "[2a00:1450::1]"}) {
    const Attempt open = attempt(at(host), false);
    EXPECT_TRUE(open.reached) << host << to_string(open.response);
    EXPECT_EQ(open.response.status, 200);
  }
  server().command("dns mixed.test 10.0.0.1,93.184.216.34");
  const Attempt mixed = attempt(at("mixed.test"), false);
  EXPECT_EQ(mixed.response.status, 200) << to_string(mixed.response);
  EXPECT_EQ(mixed.dialled, 1U) << "only the public one";
  // Kept connections don't carry the permission over.
  Driver driver;
  Request request = request_to(at("10.0.0.1", "http", "/echo"));
  EXPECT_EQ(driver.call(std::move(request)).status, 200);
  request = request_to(at("10.0.0.1", "http", "/echo"));
  request.allow_private = false;
  EXPECT_EQ(driver.call(std::move(request)).failure, Failure::kRefusedAddress);
}

std::set<std::string> threads() {
  std::set<std::string> names;
  DIR *directory = opendir("/proc/self/task");
  while (const dirent *entry = readdir(directory)) {
    if (entry->d_name[0] != '.') names.insert(entry->d_name);
  }
  closedir(directory);
  return names;
}

// A name server that says nothing: nobody waits for it, and the thread that asks it takes no signals.
TEST(EgressPolicy, SlowNames) {
  if (ran_in_own_world()) return;
  if (!in_own_world()) GTEST_SKIP() << "needs a world of its own, with a name server";
  const auto slow = [] {
    Request request = request_to(at("silent.test"));
    request.connect_timeout_seconds = 0.2;
    return request;
  };
  const Response unknown = call(request_to(at("unknown.test")));
  EXPECT_EQ(unknown.failure, Failure::kResolve) << to_string(unknown);
  EXPECT_EQ(unknown.message, "could not resolve unknown.test");
  EXPECT_FALSE(unknown.sent);
  const auto started = std::chrono::steady_clock::now();
  const std::set<std::string> before = threads();
  {
    Driver driver;
    const Response late = driver.call(slow());
    EXPECT_EQ(late.failure, Failure::kTimeoutBeforeSend);
    EXPECT_EQ(late.message.substr(0, 23), "timeout while resolving");
    const std::uint64_t id = driver.client.start(slow());
    driver.turn(std::chrono::milliseconds(20));
    int masked = 0;
    for (const std::string &thread : threads()) {
      if (before.contains(thread)) continue;
      std::ifstream status("/proc/self/task/" + thread + "/status");
      for (std::string line; std::getline(status, line);) {
        if (!line.starts_with("SigBlk:")) continue;
        std::istringstream digits(line.substr(7));
        std::uint64_t blocked = 0;
        digits >> std::hex >> blocked;
        for (const int signal : {SIGTERM, SIGINT, SIGHUP, SIGUSR1, SIGUSR2, SIGALRM, SIGCHLD, SIGQUIT, SIGPIPE}) EXPECT_TRUE((blocked >> (signal - 1) & 1U) != 0) << signal;
        ++masked;
      }
    }
    EXPECT_GE(masked, 1) << "the thread that looks the name up";
    EXPECT_TRUE(driver.client.cancel(id));
    driver.client.start(slow());
    driver.turn(std::chrono::milliseconds(20));
  }
  EXPECT_LT(std::chrono::steady_clock::now() - started, std::chrono::milliseconds(4000)) << "somebody waited for the name server";
}

}  // namespace
}  // namespace tasker::http
