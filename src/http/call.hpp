// The http handler of a step: what it says, checked when it is defined, and the request that an attempt makes of it.
//
//   {"type": "http", "server": "billing", "method": "POST", "path": "/orders/${/context/id}/charge",
//    "query": {"notify": "${/context/notify}"}, "headers": {"X-Tenant": "${/context/tenant}"},
//    "body": {"amount": "${/results/price/total}"}, "expect": [200, 409], "result": "/charge", "idempotency": "key"}
//
// query   values are rendered; null leaves the parameter out, an array repeats it, an object is its JSON
// body    JSON; with the Content-Type application/x-www-form-urlencoded an object is a form (as query is), and with any
//         other type that isn't JSON a string is sent as it is
// sent by default, unless the handler says otherwise: Accept, Content-Type, User-Agent, Idempotency-Key (stable across the
// step's attempts), X-Correlation-ID, traceparent
#pragma once

#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "core/definition.hpp"
#include "core/json.hpp"
#include "core/template.hpp"
#include "http/endpoint.hpp"
#include "http/outcome.hpp"
#include "http/request.hpp"

namespace tasker::http {

// Every fault of a handler of type http, its pointer below `pointer`. Whether the server exists is not known here.
std::vector<core::Fault> check_call(const core::json &handler, const std::string &pointer = "/handler");

// Of one attempt, beside the document.
struct CallContext {
  std::string user_agent;                 // "tasker/1.0.0"
  std::string traceparent;                // may be empty
  std::optional<double> timeout_seconds;  // the step's own; else the server's, else 30
  std::size_t max_response = 1024 * 1024;
};

// Parsed once per definition.
class Call {
 public:
  // Raises 22023 with the first fault that check_call finds.
  explicit Call(const core::json &handler);

  const std::string &server() const { return server_; }
  const Expectation &expectation() const { return expectation_; }
  // What the templates read, as lists of unescaped tokens.
  std::vector<std::vector<std::string>> references() const;

  // document: the fields of step_call. Without credentials, server and pool, which the caller knows. Raises 22023 when a
  // template finds no value or a forbidden one, 54000 when it grows too large.
  Request request(const core::json &document, const Endpoint &endpoint, const CallContext &context) const;

 private:
  std::string server_, method_;
  std::optional<core::Template> path_;
  std::optional<core::JsonTemplate> query_, body_;
  std::vector<std::pair<std::string, core::Template>> headers_;
  Expectation expectation_;
};

}  // namespace tasker::http
