// Redirects: off by default, and hop by hop what may be followed and what goes along.
#include <gtest/gtest.h>

#include "core/template.hpp"
#include "http/client.hpp"
#include "http_fixture.hpp"

namespace tasker::http {
namespace {

using core::json;

std::string redirect(const std::string &to, int status = 302) {
  return server().url("/redirect?status=" + std::to_string(status) + "&to=" + core::percent_encode(to));
}

Request following(std::string url, std::string method = "GET") {
  Request request = request_to(std::move(url), std::move(method));
  request.allow_redirects = true;
  return request;
}

TEST(HttpRedirect, NotFollowedUnlessAllowed) {
  const int before = server().command("hits echo").get<int>();
  Request request = following(redirect("/echo"));
  request.allow_redirects = false;
  const Response response = call(std::move(request));
  EXPECT_EQ(response.failure, Failure::kNone);
  EXPECT_EQ(response.status, 302);
  EXPECT_EQ(response.header("location"), "/echo");
  // Nor when the step takes the redirect for its answer.
  request = following(redirect("/echo"));
  request.expect = {302};
  EXPECT_EQ(call(std::move(request)).status, 302);
  EXPECT_EQ(server().command("hits echo").get<int>(), before);
}

TEST(HttpRedirect, Follows) {
  for (const std::string &target : {std::string("/echo?x=1"), server().url("/echo?x=1"), "//127.0.0.1:" + std::to_string(server().port("http")) + "/echo?x=1",
                                    std::string("../echo?x=1#fragment")}) {
    const Response response = call(following(redirect(target)));
    ASSERT_EQ(response.status, 200) << target << to_string(response);
    EXPECT_EQ(response.redirects, 1);
    EXPECT_EQ(core::parse_json(response.body)["target"], "/echo?x=1") << target;
  }
  EXPECT_EQ(call(following(redirect(redirect(redirect(redirect("/echo")))))).redirects, 4);
}

TEST(HttpRedirect, MethodAndBody) {
  const auto seen = [](int status, const std::string &method) {
    Request request = following(redirect("/echo", status), method);
    request.body = "{}";
    request.has_body = method != "GET";
    request.headers = {{"Content-Type", "application/json"}, {"Idempotency-Key", "k"}};
    const Response response = call(std::move(request));
    EXPECT_EQ(response.status, 200) << to_string(response);
    const json echo = core::parse_json(response.body);
    EXPECT_EQ(echoed_header(echo, "Idempotency-Key"), "k");
    return echo["method"].get<std::string>() + " " + echo["body"].get<std::string>() + " " + echoed_header(echo, "Content-Type") +
           (response.accepted ? " accepted" : "");
  };
  for (const int status : {301, 302, 303}) EXPECT_EQ(seen(status, "POST"), "GET  (none) accepted") << status;
  for (const int status : {307, 308}) EXPECT_EQ(seen(status, "POST"), "POST {} application/json") << status;
  EXPECT_EQ(seen(303, "PUT"), "GET  (none) accepted");
  EXPECT_EQ(seen(302, "PUT"), "PUT {} application/json");
  EXPECT_EQ(seen(303, "GET"), "GET  application/json");
  EXPECT_EQ(call(following(redirect("/echo", 303), "HEAD")).status, 200);
}

TEST(HttpRedirect, AnotherHostGetsNoSecrets) {
  // Another port is another origin; coming back doesn't bring them back.
  const std::string there = "http://localhost:" + std::to_string(server().port("http"));
  const auto seen = [](const std::string &target) {
    Request request = following(redirect(target, 307), "PUT");
    request.headers = {{"X-Session", "private"}, {"Authorization", "mine"}, {"Cookie", "a=b"}, {"traceparent", "00-1"}, {"Content-Type", "text/plain"}};
    request.credentials = {Credentials::Kind::kHeader, "X-Api-Key", Secret("1234567890")};
    request.body = "b";
    request.has_body = true;
    const json echo = core::parse_json(call(std::move(request)).body);
    return echoed_header(echo, "X-Session") + "," + echoed_header(echo, "Authorization") + "," + echoed_header(echo, "Cookie") + "," +
           echoed_header(echo, "x-api-key") + "," + echoed_header(echo, "traceparent") + "," + echoed_header(echo, "Content-Type");
  };
  EXPECT_EQ(seen("/echo"), "private,mine,a=b,[redacted],00-1,text/plain");
  EXPECT_EQ(seen(there + "/echo"), "(none),(none),(none),(none),00-1,text/plain");
  EXPECT_EQ(seen(there + "/redirect?status=307&to=" + core::percent_encode(server().url("/echo"))), "(none),(none),(none),(none),00-1,text/plain");
}

TEST(HttpRedirect, SomeAreRefused) {
  const int trapped = server().command("trapped").get<int>();
  const auto message = [](const std::string &url) {
    const Response response = call(following(url));
    EXPECT_EQ(response.failure, Failure::kRedirectRefused) << to_string(response);
    EXPECT_EQ(response.status, 302);
    return response.message;
  };
  EXPECT_NE(message(server().url("/loop")).find("more than 5 redirects"), std::string::npos);
  EXPECT_NE(message(server().url("/redirect")).find("says no location"), std::string::npos);
  for (const char *target : {"file:///etc/passwd", "ftp://h/x", "gopher://127.0.0.1:5432/_x", "dict://h/", "javascript:alert(1)", "data:text/plain,x", "http://u:p@h/", "http:///x",
                             "http:/x", "///x", "\\\\evil\\x", "http://h:99999/", "http://a b/", "smb://h/x", "FILE:///etc/passwd", "mailto:a@b"}) {
    EXPECT_NE(message(redirect(target)).find("can't be followed"), std::string::npos) << target;
  }
  // Out of TLS, where anybody on the way would read what was meant for the server.
  Request request = following("https" + redirect(server().url("/", "trap")).substr(4));
  request.url = server().url("/redirect?to=" + core::percent_encode(server().url("/", "trap")), "https");
  request.ca_file = server().ca();
  const Response response = call(std::move(request));
  EXPECT_EQ(response.failure, Failure::kRedirectRefused);
  EXPECT_NE(response.message.find("leads out of TLS"), std::string::npos) << response.message;
  EXPECT_EQ(server().command("trapped").get<int>(), trapped);
}

TEST(HttpRedirect, OneTimeForAllHops) {
  Request request = following(redirect(server().url("/delay/20000")));
  request.timeout_seconds = 1;
  const Response response = call(std::move(request));
  EXPECT_EQ(response.failure, Failure::kTimeoutAfterSend) << to_string(response);
  EXPECT_LT(response.timings.total, 10);
}

TEST(HttpRedirect, SentStaysSent) {
  // The first hop took the request; that the second one isn't there doesn't undo it.
  const Response response = call(following(redirect("http://127.0.0.1:1/", 303), "POST"));
  EXPECT_EQ(response.failure, Failure::kConnect) << to_string(response);
  EXPECT_TRUE(response.sent);
  EXPECT_TRUE(response.accepted);
  EXPECT_EQ(response.status, 0);
  EXPECT_EQ(response.host, "127.0.0.1:1");
}

}  // namespace
}  // namespace tasker::http
