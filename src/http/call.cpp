#include "http/call.hpp"

#include <algorithm>
#include <string_view>

#include "core/error.hpp"
#include "core/object_reader.hpp"
#include "http/text.hpp"
#include "http/url.hpp"

namespace tasker::http {
namespace {

using core::Fault;
using core::json;

constexpr std::string_view kKeys[] = {"type", "server", "method", "path", "query", "headers", "body", "expect", "result", "idempotency", "config"};
constexpr std::string_view kMethods[] = {"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"};
constexpr std::string_view kIdempotency[] = {"key", "none"};
constexpr std::string_view kForm = "application/x-www-form-urlencoded";
constexpr std::size_t kMaxServerName = 63;
constexpr double kDefaultTimeoutSeconds = 30;

bool repeatable_by_default(std::string_view method) { return method != "POST" && method != "PATCH"; }

std::string media_type(std::string_view content_type) {
  std::string media = lower(content_type.substr(0, content_type.find(';')));
  while (media.ends_with(' ')) media.pop_back();
  return media;
}

bool is_json(std::string_view media) { return media == "application/json" || media == "text/json" || media.ends_with("+json"); }

// --- checking ---

class Checker {
 public:
  Checker(const json &handler, const std::string &pointer) : handler_(handler), object_(handler, pointer, findings_) {}

  std::vector<Fault> check() {
    object_.allow_keys(kKeys);
    check_server();
    const std::string method = object_.one_of("method", kMethods).value_or("GET");
    check_path();
    check_query();
    check_headers();
    check_body(method);
    check_expect();
    check_result(method);
    (void)object_.one_of("idempotency", kIdempotency);
    const json *config = object_.find("config");
    if (config != nullptr && !config->is_object()) object_.fault("config", "must be an object");
    return findings_.take();
  }

 private:
  void templates(std::string_view key, const json &value) {
    for (Fault &fault : core::check_templates(value, object_.pointer_to(key)))
      findings_.add(std::move(fault.pointer), std::move(fault.problem), std::move(fault.hint));
  }

  void check_server() {
    object_.require("server");
    const std::optional<std::string> server = object_.text("server");
    if (server && (server->empty() || server->size() > kMaxServerName || has_control(*server))) {
      object_.fault("server", "must name a foreign server of tasker_http", "CREATE SERVER billing FOREIGN DATA WRAPPER tasker_http OPTIONS (url '…')");
    }
  }

  void check_path() {
    const std::optional<std::string> path = object_.text("path");
    if (!path) return;
    const std::string problem = path_problem(*path);
    if (!problem.empty()) object_.fault("path", problem);
    templates("path", *path);
  }

  void check_query() {
    const json *query = object_.find("query");
    if (query == nullptr) return;
    if (!query->is_object()) return object_.fault("query", "must be an object of names and values");
    templates("query", *query);
  }

  void check_headers() {
    const json *headers = object_.find("headers");
    if (headers == nullptr) return;
    if (!headers->is_object()) return object_.fault("headers", "must be an object of names and values");
    std::vector<std::string> seen;
    for (const auto &[name, value] : headers->items()) {
      const std::string here = core::child_pointer(object_.pointer_to("headers"), std::string_view(name));
      const std::string problem = header_name_problem(name);
      const std::string low = lower(name);
      if (!problem.empty()) findings_.add(here, "header " + core::in_quotes(name) + " " + problem);
      if (std::find(seen.begin(), seen.end(), low) != seen.end()) findings_.add(here, "header " + core::in_quotes(name) + " is given twice");
      seen.push_back(low);
      if (!value.is_string()) {
        findings_.add(here, "header " + core::in_quotes(name) + " must be a string");
      } else if (has_control(value.get_ref<const std::string &>())) {
        findings_.add(here, "header " + core::in_quotes(name) + " has a control character");
      }
    }
    templates("headers", *headers);
  }

  void check_body(const std::string &method) {
    const json *body = object_.find("body");
    if (body == nullptr) return;
    if (method == "GET" || method == "HEAD") object_.fault("body", "does not go with method " + method);
    templates("body", *body);
  }

  void check_expect() {
    const json *expect = object_.find("expect");
    if (expect == nullptr) return;
    constexpr int kLeast = 200, kMost = 599;
    const auto is_status = [](const json &status) { return status.is_number_integer() && status >= kLeast && status <= kMost; };
    if (!expect->is_array() || expect->empty() || !std::all_of(expect->begin(), expect->end(), is_status)) {
      object_.fault("expect", "must be an array of HTTP statuses from 200 to 599", "for example [200, 404]; without it every 2xx is an answer");
    }
  }

  void check_result(const std::string &method) {
    const std::optional<std::string> result = object_.text("result");
    if (!result) return;
    if (method == "HEAD") object_.fault("result", "does not go with method HEAD, which has no body");
    try {
      const json::json_pointer pointer(*result);
    } catch (const json::exception &) {
      object_.fault("result", "must be a JSON pointer, not " + core::in_quotes(*result), "for example /items/0/id");
    }
  }

  const json &handler_;
  core::Findings findings_;
  core::Object object_;
};

// --- rendering ---

std::string scalar_text(const json &value) {
  if (value.is_string()) return value.get_ref<const std::string &>();
  return value.dump(-1, ' ', false, json::error_handler_t::replace);
}

// name=value&name=value, of a query and of a form.
std::string parameters(const json &object) {
  std::string text;
  for (const auto &[name, value] : object.items()) {
    const json values = value.is_array() ? value : json::array({value});
    for (const json &one : values) {
      if (one.is_null()) continue;
      text += (text.empty() ? "" : "&") + core::percent_encode(name) + "=" + core::percent_encode(scalar_text(one));
    }
  }
  return text;
}

const std::string *find_header(const std::vector<Header> &headers, std::string_view low_name) {
  const auto found = std::find_if(headers.begin(), headers.end(), [low_name](const Header &header) { return lower(header.name) == low_name; });
  return found == headers.end() ? nullptr : &found->value;
}

void add_default(std::vector<Header> &headers, const char *name, const std::string &value) {
  if (value.empty() || has_control(value) || find_header(headers, lower(name)) != nullptr) return;
  headers.push_back({name, value});
}

std::string text_field(const json &document, const char *name) {
  const auto found = document.find(name);
  return found != document.end() && found->is_string() ? found->get<std::string>() : std::string();
}

void set_body(const json &body, Request &request) {
  request.has_body = true;
  const std::string *type = find_header(request.headers, "content-type");
  const std::string media = type != nullptr ? media_type(*type) : "application/json";
  if (media == kForm && body.is_object()) {
    request.body = parameters(body);
  } else if (!is_json(media) && body.is_string()) {
    request.body = body.get<std::string>();
  } else {
    request.body = body.dump(-1, ' ', false, json::error_handler_t::replace);
  }
  add_default(request.headers, "Content-Type", "application/json");
}

}  // namespace

std::vector<Fault> check_call(const json &handler, const std::string &pointer) {
  if (!handler.is_object()) return {{pointer, "must be an object", {}, false}};
  return Checker(handler, pointer).check();
}

Call::Call(const json &handler) {
  const std::vector<Fault> faults = check_call(handler);
  if (!faults.empty()) throw Error(sqlstate::kInvalidParameter, "invalid http handler: " + faults.front().problem, {}, faults.front().hint);
  server_ = handler.at("server").get<std::string>();
  method_ = handler.value("method", "GET");
  path_.emplace(handler.value("path", ""));
  if (handler.contains("query")) query_.emplace(handler["query"]);
  if (handler.contains("body")) body_.emplace(handler["body"]);
  if (handler.contains("headers")) {
    for (const auto &[name, value] : handler["headers"].items()) headers_.emplace_back(name, core::Template(value.get_ref<const std::string &>()));
  }
  if (handler.contains("expect")) expectation_.expect = handler["expect"].get<std::vector<int>>();
  expectation_.repeatable = handler.contains("idempotency") ? handler["idempotency"] == "key" : repeatable_by_default(method_);
  expectation_.has_body = method_ != "HEAD";
  if (handler.contains("result")) expectation_.result = handler["result"].get<std::string>();
}

std::vector<std::vector<std::string>> Call::references() const {
  std::vector<std::vector<std::string>> all = path_->references();
  const auto add = [&all](std::vector<std::vector<std::string>> more) { std::move(more.begin(), more.end(), std::back_inserter(all)); };
  if (query_) add(query_->references());
  if (body_) add(body_->references());
  for (const auto &[name, value] : headers_) add(value.references());
  return all;
}

Request Call::request(const json &document, const Endpoint &endpoint, const CallContext &context) const {
  Request request;
  request.method = method_;
  request.url = Url(endpoint.url).join(path_->text(document, core::Landing::kPath), query_ ? parameters(query_->render(document)) : std::string()).text();
  for (const auto &[name, value] : headers_) request.headers.push_back({name, value.text(document, core::Landing::kHeader)});
  if (body_) set_body(body_->render(document), request);
  add_default(request.headers, "Accept", "application/json, */*;q=0.5");
  add_default(request.headers, "User-Agent", context.user_agent);
  add_default(request.headers, "Idempotency-Key", text_field(document, "idempotency_key"));
  add_default(request.headers, "X-Correlation-ID", text_field(document, "correlation_id"));
  add_default(request.headers, "traceparent", context.traceparent);
  request.repeatable = expectation_.repeatable;
  request.expect = expectation_.expect;
  request.max_concurrency = endpoint.max_concurrency;
  request.connect_timeout_seconds = endpoint.connect_timeout_seconds;
  request.timeout_seconds = context.timeout_seconds.value_or(endpoint.timeout_seconds.value_or(kDefaultTimeoutSeconds));
  request.allow_redirects = endpoint.allow_redirects;
  request.allow_private = endpoint.allow_private;
  request.http2 = endpoint.http2;
  request.ca_pem = endpoint.ca_pem;
  request.ca_file = endpoint.ca_file;
  request.max_response = context.max_response;
  return request;
}

}  // namespace tasker::http
