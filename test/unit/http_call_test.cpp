// Handlers of type http, servers' options and users' mappings: what is refused, and the request that comes of them.
#include "http/call.hpp"

#include <gtest/gtest.h>

#include <algorithm>

#include "core/error.hpp"
#include "http/text.hpp"

namespace tasker::http {
namespace {

using core::json;

json handler(const char *text) {
  json value = core::parse_json(text);
  value["type"] = "http";
  return value;
}

std::string faults(const char *text) {
  std::string all;
  for (const core::Fault &fault : check_call(handler(text))) all += (all.empty() ? "" : "; ") + fault.pointer + ": " + fault.problem;
  return all;
}

TEST(HttpCall, Checks) {
  EXPECT_EQ(faults(R"({"server": "s"})"), "");
  EXPECT_EQ(faults(R"({"server": "s", "method": "POST", "path": "/a/${/context/id}", "query": {"a": [1, "${/context/a}"]}, "headers": {"X-A": "b"},
                       "body": {"x": "${/results/p}"}, "expect": [200, 404], "result": "/a/b", "idempotency": "key", "config": {}})"), "");
  EXPECT_EQ(faults(R"({})"), "/handler: \"server\" is missing");
  EXPECT_EQ(faults(R"({"server": "", "methods": "GET"})"), "/handler/methods: unknown key \"methods\"; /handler/server: \"server\" must name a foreign server of tasker_http");
  EXPECT_EQ(faults(R"({"server": "s", "method": "get"})").substr(0, 34), "/handler/method: \"method\" must be ");
  EXPECT_EQ(faults(R"({"server": "s", "path": "a"})"), "/handler/path: \"path\" must start with \"/\"");
  EXPECT_EQ(faults(R"({"server": "s", "path": "/a?b=c"})"), "/handler/path: \"path\" has a \"?\" or a \"#\": parameters go into \"query\"");
  EXPECT_EQ(faults(R"({"server": "s", "path": "/a/../b"})"), "/handler/path: \"path\" has a segment \".\" or \"..\"");
  EXPECT_EQ(faults(R"({"server": "s", "path": "/a/${x}"})").substr(0, 15), "/handler/path: ");
  EXPECT_EQ(faults(R"({"server": "s", "query": {"a/b": "${"}})").substr(0, 21), "/handler/query/a~1b: ");
  EXPECT_EQ(faults(R"({"server": "s", "query": []})"), "/handler/query: \"query\" must be an object of names and values");
  EXPECT_EQ(faults(R"({"server": "s", "headers": {"Host": "x"}})"), "/handler/headers/Host: header \"Host\" is set by the connection itself");
  EXPECT_EQ(faults(R"({"server": "s", "headers": {"a b": "x", "C": 1, "d": "x\ny"}})"),
            "/handler/headers/C: header \"C\" must be a string; "
            "/handler/headers/a b: header \"a b\" may have only letters, digits and !#$%&'*+-.^_`|~; "
            "/handler/headers/d: header \"d\" has a control character");
  EXPECT_EQ(faults(R"({"server": "s", "headers": {"X-a": "1", "x-A": "2"}})"), "/handler/headers/x-A: header \"x-A\" is given twice");
  EXPECT_EQ(faults(R"({"server": "s", "body": 1})"), "/handler/body: \"body\" does not go with method GET");
  for (const char *expect : {"200", "[]", "[\"200\"]", "[199]", "[600]", "[200.5]", "null"}) {
    EXPECT_NE(faults((R"({"server": "s", "expect": )" + std::string(expect) + "}").c_str()), "") << expect;
  }
  EXPECT_EQ(faults(R"({"server": "s", "result": "a"})"), "/handler/result: \"result\" must be a JSON pointer, not \"a\"");
  EXPECT_NE(faults(R"({"server": "s", "result": "/a~2"})"), "");
  EXPECT_NE(faults(R"({"server": "s", "method": "HEAD", "result": "/a"})"), "");
  EXPECT_NE(faults(R"({"server": "s", "idempotency": "always"})"), "");
  EXPECT_NE(faults(R"({"server": "s", "config": 1})"), "");
  EXPECT_THROW(Call(handler("{}")), Error);
  EXPECT_THROW(Call(json::array()), Error);
}

const json &document() {
  static const json value = core::parse_json(R"({"context": {"id": "a/b", "n": 5, "none": null, "tags": ["x y", "z&"], "tenant": "t1"},
    "results": {"price": {"total": 12.5}}, "idempotency_key": "task-1-charge-0", "correlation_id": "corr-9"})");
  return value;
}

Endpoint endpoint_at(std::string url, std::optional<double> timeout = {}) {
  Endpoint endpoint;
  endpoint.url = std::move(url);
  endpoint.timeout_seconds = timeout;
  return endpoint;
}

CallContext context_with(std::string traceparent, std::optional<double> timeout = {}) {
  CallContext context;
  context.user_agent = "tasker/1";
  context.traceparent = std::move(traceparent);
  context.timeout_seconds = timeout;
  return context;
}

Request made(const char *text, const Endpoint &endpoint = endpoint_at("https://api.example/v1"), const CallContext &context = context_with("")) {
  return Call(handler(text)).request(document(), endpoint, context);
}

std::string header(const Request &request, const std::string &name) {
  const auto found = std::find_if(request.headers.begin(), request.headers.end(), [&](const Header &one) { return one.name == name; });
  return found == request.headers.end() ? "(none)" : found->value;
}

TEST(HttpCall, Request) {
  const Request request = made(R"({"server": "s", "method": "POST", "path": "/orders/${/context/id}/charge", "query": {"n": "${/context/n}", "tag": "${/context/tags}",
    "gone": "${/context/none}", "lit": "a=b", "f": true}, "headers": {"X-Tenant": "${/context/tenant}"}, "body": {"amount": "${/results/price/total}"}})");
  EXPECT_EQ(request.method, "POST");
  EXPECT_EQ(lower(request.url), "https://api.example/v1/orders/a%2fb/charge?f=true&lit=a%3db&n=5&tag=x%20y&tag=z%26");
  EXPECT_EQ(request.body, R"({"amount":12.5})");
  EXPECT_TRUE(request.has_body);
  EXPECT_FALSE(request.repeatable);
  EXPECT_EQ(header(request, "X-Tenant"), "t1");
  EXPECT_EQ(header(request, "Content-Type"), "application/json");
  EXPECT_EQ(header(request, "Idempotency-Key"), "task-1-charge-0");
  EXPECT_EQ(header(request, "X-Correlation-ID"), "corr-9");
  EXPECT_EQ(header(request, "User-Agent"), "tasker/1");
  EXPECT_EQ(header(request, "traceparent"), "(none)");
  EXPECT_EQ(request.timeout_seconds, 30);
  EXPECT_EQ(request.max_concurrency, 16);
}

TEST(HttpCall, Defaults) {
  for (const char *method : {"GET", "HEAD", "PUT", "DELETE", "OPTIONS"}) {
    EXPECT_TRUE(Call(handler((R"({"server": "s", "method": ")" + std::string(method) + "\"}").c_str())).expectation().repeatable) << method;
  }
  EXPECT_FALSE(Call(handler(R"({"server": "s", "method": "PATCH"})")).expectation().repeatable);
  EXPECT_TRUE(Call(handler(R"({"server": "s", "method": "POST", "idempotency": "key"})")).expectation().repeatable);
  EXPECT_FALSE(Call(handler(R"({"server": "s", "idempotency": "none"})")).expectation().repeatable);
  EXPECT_FALSE(Call(handler(R"({"server": "s", "method": "HEAD"})")).expectation().has_body);
  const Request own = made(R"({"server": "s", "headers": {"idempotency-key": "mine", "user-agent": "me"}})", endpoint_at("https://h", 7), context_with("00-a-b-01"));
  EXPECT_EQ(own.url, "https://h/");
  EXPECT_EQ(header(own, "idempotency-key"), "mine");
  EXPECT_EQ(header(own, "Idempotency-Key"), "(none)");
  EXPECT_EQ(header(own, "User-Agent"), "(none)");
  EXPECT_EQ(header(own, "traceparent"), "00-a-b-01");
  EXPECT_EQ(own.timeout_seconds, 7);
  EXPECT_FALSE(own.has_body);
  EXPECT_EQ(made(R"({"server": "s"})", endpoint_at("https://h", 7), context_with("", 3)).timeout_seconds, 3);
}

TEST(HttpCall, Bodies) {
  const auto body = [](const char *type, const char *value) {
    return made((R"({"server": "s", "method": "PUT", "headers": {"content-type": ")" + std::string(type) + "\"}, \"body\": " + value + "}").c_str()).body;
  };
  EXPECT_EQ(body("application/x-www-form-urlencoded", R"({"a b": "${/context/id}", "t": "${/context/tags}", "x": null})"), "a%20b=a%2Fb&t=x%20y&t=z%26");
  EXPECT_EQ(body("text/plain; charset=utf-8", R"("id ${/context/id}")"), "id a/b");
  EXPECT_EQ(body("application/json", R"("id ${/context/id}")"), R"("id a/b")");
  EXPECT_EQ(body("application/vnd.api+json", R"("${/context/tags}")"), R"(["x y","z&"])");
  EXPECT_EQ(body("text/plain", R"({"a": 1})"), R"({"a":1})");
  EXPECT_EQ(body("application/json", "null"), "null");
}

TEST(HttpCall, References) {
  const auto read = Call(handler(R"({"server": "s", "method": "PUT", "path": "/${/context/a}", "query": {"x": "${/results/b}"}, "headers": {"h": "${/task_id}"}, "body": ["${/results/c/d}"]})")).references();
  EXPECT_EQ(read, (std::vector<std::vector<std::string>>{{"context", "a"}, {"results", "b"}, {"results", "c", "d"}, {"task_id"}}));
}

// --- options ---

std::string server_faults(std::vector<Option> options, bool superuser = true) {
  std::string all;
  for (const core::Fault &fault : check_server_options(options, superuser)) all += (all.empty() ? "" : "; ") + fault.problem;
  return all;
}

TEST(HttpEndpoint, ServerOptions) {
  const Endpoint plain = endpoint_of(std::vector<Option>{{"url", "https://h/v1"}});
  EXPECT_EQ(plain.url, "https://h/v1");
  EXPECT_FALSE(plain.allow_private || plain.allow_redirects);
  EXPECT_TRUE(plain.http2);
  const Endpoint full = endpoint_of(std::vector<Option>{{"url", "http://h"}, {"connect_timeout", "0.5"}, {"timeout", "60"}, {"max_concurrency", "4"}, {"rate", "120/min"},
                                                        {"allow_redirects", "on"}, {"allow_private", "TRUE"}, {"ca", "/etc/ca.pem"}, {"http2", "off"}});
  EXPECT_EQ(full.connect_timeout_seconds, 0.5);
  EXPECT_EQ(full.timeout_seconds, 60.0);
  EXPECT_EQ(full.max_concurrency, 4);
  EXPECT_EQ(full.rate_per_second, 2.0);
  EXPECT_TRUE(full.allow_private && full.allow_redirects);
  EXPECT_FALSE(full.http2);
  EXPECT_EQ(full.ca_file, "/etc/ca.pem");
  EXPECT_EQ(endpoint_of(std::vector<Option>{{"url", "http://h"}, {"ca", "-----BEGIN CERTIFICATE-----\nx\n-----END CERTIFICATE-----\n"}}).ca_file, "");

  EXPECT_EQ(server_faults({}), "option \"url\" is missing");
  EXPECT_EQ(server_faults({{"url", "file:///etc/passwd"}}), "option \"url\" is not usable: invalid URL: it must start with http:// or https://");
  EXPECT_EQ(server_faults({{"url", "http://h"}, {"proxy", "x"}}), "option \"proxy\" does not exist");
  EXPECT_EQ(server_faults({{"url", "http://h"}, {"url", "http://i"}}), "option \"url\" is given twice");
  EXPECT_EQ(server_faults({{"url", "http://h"}, {"allow_private", "on"}}, false), "option \"allow_private\" may be on only when a superuser sets it");
  EXPECT_EQ(server_faults({{"url", "http://h"}, {"allow_private", "off"}}, false), "");
  EXPECT_EQ(server_faults({{"url", "http://h"}, {"ca", "/etc/passwd"}}, false), "option \"ca\" may name a file only when a superuser sets it");
  for (const auto &[name, bad] : std::vector<Option>{{"connect_timeout", "0"}, {"connect_timeout", "-1"}, {"timeout", "1h"}, {"timeout", "nan"}, {"timeout", "99999"}, {"max_concurrency", "0"},
                                                     {"max_concurrency", "1.5"}, {"max_concurrency", "10001"}, {"rate", "0"}, {"rate", "5/day"}, {"rate", "x"}, {"allow_redirects", "maybe"},
                                                     {"http2", "2"}, {"ca", "relative.pem"}, {"ca", ""}}) {
    EXPECT_NE(server_faults({{"url", "http://h"}, {name, bad}}), "") << name << " " << bad;
  }
}

TEST(HttpEndpoint, MappingOptions) {
  const auto kind = [](std::vector<Option> options) { return credentials_of(options).kind; };
  EXPECT_EQ(kind({{"bearer", "t"}}), Credentials::Kind::kBearer);
  EXPECT_EQ(kind({{"username", "u"}, {"password", "p"}}), Credentials::Kind::kBasic);
  EXPECT_EQ(kind({{"header_name", "X-Api-Key"}, {"header_value", "v"}}), Credentials::Kind::kHeader);
  const auto fault = [](std::vector<Option> options) {
    std::string all;
    for (const core::Fault &one : check_mapping_options(options)) all += one.problem + one.hint + "\n";
    for (const Option &option : options) EXPECT_TRUE(option.value.size() < 6 || all.find(option.value) == std::string::npos) << all;
    return all;
  };
  for (const std::vector<Option> &bad : std::vector<std::vector<Option>>{{}, {{"bearer", ""}}, {{"bearer", "secret\nvalue"}}, {{"bearer", "secret"}, {"password", "p"}}, {{"username", "u"}},
                                                                         {{"password", "secret"}}, {{"username", "a:b"}, {"password", "p"}}, {{"header_name", "X"}}, {{"header_value", "secret"}},
                                                                         {{"header_name", "Host"}, {"header_value", "v"}}, {{"token", "secret"}}, {{"bearer", "secret"}, {"bearer", "again!"}},
                                                                         {{"header_name", "a b"}, {"header_value", "v"}}}) {
    EXPECT_NE(fault(bad), "");
    EXPECT_THROW(credentials_of(bad), Error);
  }
}

}  // namespace
}  // namespace tasker::http
