// URLs: what is refused, and that a step's path never leaves its server.
#include "http/url.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <random>

#include "core/error.hpp"
#include "core/template.hpp"
#include "http/text.hpp"

namespace tasker::http {
namespace {

using namespace std::string_literals;

template <typename Action>
std::string refused(const Action &action) {
  try {
    return "-> " + action().text();
  } catch (const Error &error) {
    EXPECT_EQ(error.sqlstate(), "22023");
    return error.message();
  }
}

std::string parsed(const std::string &text) {
  return refused([&] { return Url(text); });
}
std::string joined(const std::string &base, const std::string &path, const std::string &query = {}) {
  return refused([&] { return Url(base).join(path, query); });
}
std::string resolved(const std::string &from, const std::string &location) {
  return refused([&] { return Url(from).resolve(location); });
}

TEST(HttpUrl, Parts) {
  const Url url("HTTPS://API.Example:8443/v1/x%20y?a=b#fragment");
  EXPECT_EQ(url.scheme(), "https");
  EXPECT_EQ(url.host(), "api.example");
  EXPECT_EQ(url.port(), 8443);
  EXPECT_EQ(url.path(), "/v1/x%20y");
  EXPECT_EQ(url.query(), "a=b");
  EXPECT_EQ(url.origin(), "https://api.example:8443");
  EXPECT_EQ(url.text().find('#'), std::string::npos);
  EXPECT_EQ(Url("http://h").port(), 80);
  EXPECT_EQ(Url("https://h").port(), 443);
  EXPECT_EQ(Url("http://0x7f.1/").host(), "127.0.0.1");
  EXPECT_EQ(Url("http://[::1]:81/").host(), "[::1]");
  EXPECT_TRUE(Url("http://h/a").same_origin(Url("http://H:80/b")));
  EXPECT_FALSE(Url("http://h/").same_origin(Url("https://h/")));
  EXPECT_FALSE(Url("http://h/").same_origin(Url("http://h:81/")));
}

TEST(HttpUrl, Refused) {
  EXPECT_EQ(parsed("ftp://h/"), "invalid URL: it must start with http:// or https://");
  EXPECT_EQ(parsed("http://u:p@h/"), "invalid URL: it must not have a user or password");
  EXPECT_EQ(parsed("http://u@h/"), "invalid URL: it must not have a user or password");
  EXPECT_EQ(parsed("http://h\\@e/"), "invalid URL: it has a backslash");
  EXPECT_EQ(parsed("http://h/a b"), "invalid URL: it has a space");
  EXPECT_EQ(parsed("http://h/\n"), "invalid URL: it has a control character");
  EXPECT_EQ(parsed("http://h/\0x"s), "invalid URL: it has a control character");
  EXPECT_EQ(parsed("http:///h"), "invalid URL: it has no host");
  EXPECT_EQ(parsed("http:/h"), "invalid URL: it must start with http:// or https://");
  EXPECT_EQ(parsed("https://"), "invalid URL: it has no host");
  for (const char *bad : {"", "h", "//h/", "http://:80/", "http://h:0/", "http://h:65536/", "http://h:x/", "http://[::1/", "http://[x]/", "http://@h/", "http://h:@e/", "http://?x", "http://#x"}) {
    EXPECT_EQ(parsed(bad).substr(0, 12), "invalid URL:") << bad;
  }
}

TEST(HttpUrl, BasesOfServers) {
  for (const char *good : {"http://h", "https://h/", "https://h:1/v1/", "http://10.0.0.1", "http://[::1]/x"}) EXPECT_EQ(base_url_problem(good), "") << good;
  EXPECT_EQ(base_url_problem("https://h/?a=b"), "must not have a query, which belongs to the steps");
  EXPECT_EQ(base_url_problem("https://h/#f"), "must not have a fragment");
  EXPECT_EQ(base_url_problem("https://h/a/%2e%2e/b"), "must not have a segment \".\" or \"..\"");
  EXPECT_EQ(base_url_problem("file:///etc/passwd"), "is not usable: invalid URL: it must start with http:// or https://");
  EXPECT_NE(base_url_problem("http://user:password@h/").find("must not have a user"), std::string::npos);
  EXPECT_EQ(base_url_problem("http://user:password@h/").find("password@"), std::string::npos);
}

TEST(HttpUrl, Joins) {
  EXPECT_EQ(joined("https://h", ""), "-> https://h/");
  EXPECT_EQ(joined("https://h", "/a"), "-> https://h/a");
  EXPECT_EQ(joined("https://h/", "/a", "x=1&y=%26"), "-> https://h/a?x=1&y=%26");
  EXPECT_EQ(joined("https://h:81/v1", "/a/b"), "-> https://h:81/v1/a/b");
  EXPECT_EQ(joined("https://h/v1/", "/a/"), "-> https://h/v1/a/");
  EXPECT_EQ(joined("https://h/v1/", ""), "-> https://h/v1/");
  EXPECT_EQ(lower(joined("https://h", "/ü <x>/a%2Fb")), "-> https://h/%c3%bc%20%3cx%3e/a%2fb");
  // Nothing of a path is ever a host.
  EXPECT_EQ(joined("https://h", "//evil/x"), "-> https://h//evil/x");
  EXPECT_EQ(joined("https://h", "/@evil"), "-> https://h/@evil");
  EXPECT_EQ(joined("https://h", "/:80@evil/http://evil"), "-> https://h/:80@evil/http://evil");
  for (const char *bad : {"a", "@evil/", ":81/x", ".evil/", "/..", "/a/../b", "/a/./b", "/%2e%2E/b", "/.%2e", "/a?b", "/a#b", "/a\\b", "\\\\evil", "/a\tb", "/a\r\nHost: evil"}) {
    EXPECT_EQ(joined("https://h/v1", bad).substr(0, 12), "invalid URL:") << bad;
  }
  EXPECT_EQ(joined("https://h", "/a", "b#c"), "invalid URL: the query has a \"#\" that is not encoded");
  EXPECT_EQ(joined("https://h", "/a", "b\nc"), "invalid URL: it has a control character");
}

TEST(HttpUrl, Resolves) {
  EXPECT_EQ(resolved("http://h/a/b?q", "c"), "-> http://h/a/c");
  EXPECT_EQ(resolved("http://h/a/b?q", "/c?d#e"), "-> http://h/c?d");
  EXPECT_EQ(resolved("http://h/a/b?q", "?d"), "-> http://h/a/b?d");
  EXPECT_EQ(resolved("http://h/a/b", "../../../c"), "-> http://h/c");
  EXPECT_EQ(resolved("https://h/a", "//other:81/c"), "-> https://other:81/c");
  EXPECT_EQ(resolved("https://h/a", "HTTP://other/c"), "-> http://other/c");
  for (const char *bad : {"", "file:///etc/passwd", "javascript:x", "http:/x", "http:///x", "///x", "\\\\x", "//u:p@x/", "http://u@x/", "a b", "a\r\nb", "http://x:0/", "gopher://x/_"}) {
    EXPECT_EQ(resolved("https://h/a", bad).substr(0, 12), "invalid URL:") << bad;
  }
}

// Whatever a step's data holds, its URL stays on its server, below the server's path.
TEST(HttpUrl, NoDataLeavesTheServer) {
  std::mt19937 random(7);
  const std::string_view pieces[] = {"/", "\\", ".", "..", "%2e", "%2f", "@", ":", "?", "#", "//evil.example", "http://evil.example", " ", "\r\n", "a", "ü", "[::1]", "127.0.0.1", ";", "&", "="};
  const core::Template path("/items/${/context/v}/x");
  const core::Template query("${/context/v}");
  const Url base("https://api.example:8443/v1");
  int sent = 0;
  for (int round = 0; round < 20'000; ++round) {
    std::string v;
    for (std::size_t count = random() % 5; count > 0; --count) v += pieces[random() % std::size(pieces)];
    const core::json document = {{"context", {{"v", v}}}};
    try {
      const Url url = base.join(path.text(document, core::Landing::kPath), "q=" + query.text(document, core::Landing::kQuery));
      // Read again from its text, as whoever gets it on the wire does.
      const Url again(url.text());
      ASSERT_TRUE(again.same_origin(base)) << v;
      const std::string seen = again.path();
      ASSERT_TRUE(seen.starts_with("/v1/items/")) << v;
      ASSERT_TRUE(seen.ends_with("/x")) << v;
      ASSERT_EQ(std::count(seen.begin(), seen.end(), '/'), 4) << v;
      ASSERT_EQ(core::percent_decode(again.query()), "q=" + v);
      ++sent;
    } catch (const Error &) {
    }
  }
  EXPECT_GT(sent, 10'000);
}

}  // namespace
}  // namespace tasker::http
