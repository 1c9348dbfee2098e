#include "http/endpoint.hpp"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <string_view>
#include <utility>

#include "core/error.hpp"
#include "core/object_reader.hpp"
#include "http/text.hpp"
#include "http/url.hpp"

namespace tasker::http {
namespace {

constexpr std::string_view kServerOptions[] = {"url",  "connect_timeout", "timeout", "max_concurrency", "rate", "allow_redirects", "allow_private", "ca",
                                               "http2"};
constexpr std::string_view kMappingOptions[] = {"bearer", "username", "password", "header_name", "header_value"};

constexpr double kMinSeconds = 0.001;
constexpr double kMaxSeconds = 3600;
constexpr double kMinRate = 1.0 / 86'400, kMaxRate = 100'000;

using core::Fault;

class Faults {
 public:
  void add(const std::string &option, const std::string &problem, std::string hint = {}) {
    faults_.push_back({option, "option " + core::in_quotes(option) + " " + problem, std::move(hint), false});
  }
  std::vector<Fault> take() { return std::move(faults_); }

 private:
  std::vector<Fault> faults_;
};

// Spellings of PostgreSQL's own options.
std::optional<bool> read_flag(const std::string &text) {
  const std::string word = lower(text);
  for (const std::string_view yes : {"true", "on", "yes", "1"}) {
    if (word == yes) return true;
  }
  for (const std::string_view no : {"false", "off", "no", "0"}) {
    if (word == no) return false;
  }
  return std::nullopt;
}

std::optional<double> read_number(std::string_view text) {
  double value = 0;
  const auto [end, fault] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (fault != std::errc() || end != text.data() + text.size() || !std::isfinite(value)) return std::nullopt;
  return value;
}

std::optional<double> read_rate(std::string_view text) {
  const std::size_t slash = text.find('/');
  const std::optional<double> count = read_number(text.substr(0, slash));
  if (!count || slash == std::string_view::npos) return count;
  const std::string_view unit = text.substr(slash + 1);
  if (unit == "s") return count;
  if (unit == "min") return *count / 60;
  if (unit == "hour") return *count / 3600;
  return std::nullopt;
}

void check_names(std::span<const Option> options, core::Keys known, Faults &faults) {
  for (std::size_t i = 0; i < options.size(); ++i) {
    const std::string &name = options[i].name;
    if (std::find(known.begin(), known.end(), name) == known.end()) {
      core::Findings findings;
      const std::string near = findings.did_you_mean(name, known);
      faults.add(name, "does not exist", near.empty() ? "valid options are " + core::list_of(known) : near);
    }
    const auto same = [&](const Option &other) { return other.name == name; };
    if (std::any_of(options.begin(), options.begin() + static_cast<std::ptrdiff_t>(i), same)) faults.add(name, "is given twice");
  }
}

void read_seconds(const Option &option, Faults &faults, double &target) {
  const std::optional<double> seconds = read_number(option.value);
  if (seconds && *seconds >= kMinSeconds && *seconds <= kMaxSeconds) {
    target = *seconds;
  } else {
    faults.add(option.name, "must be a number of seconds from 0.001 to 3600");
  }
}

void read_switch(const Option &option, Faults &faults, bool &target) {
  const std::optional<bool> flag = read_flag(option.value);
  if (flag) {
    target = *flag;
  } else {
    faults.add(option.name, "must be true or false");
  }
}

void read_ca(const Option &option, bool superuser, Faults &faults, Endpoint &endpoint) {
  if (option.value.find("-----BEGIN CERTIFICATE-----") != std::string::npos) {
    endpoint.ca_pem = option.value;
  } else if (option.value.starts_with('/')) {
    endpoint.ca_file = option.value;
    if (!superuser) faults.add(option.name, "may name a file only when a superuser sets it", "give the certificates themselves, in PEM format");
  } else {
    faults.add(option.name, "must be certificates in PEM format, or the absolute name of a file of them");
  }
}

Endpoint read_endpoint(std::span<const Option> options, bool superuser, Faults &faults) {
  Endpoint endpoint;
  check_names(options, kServerOptions, faults);
  bool has_url = false;
  for (const Option &option : options) {
    if (option.name == "url") {
      has_url = true;
      endpoint.url = option.value;
      const std::string problem = base_url_problem(option.value);
      if (!problem.empty()) faults.add(option.name, problem);
    } else if (option.name == "connect_timeout") {
      read_seconds(option, faults, endpoint.connect_timeout_seconds);
    } else if (option.name == "timeout") {
      read_seconds(option, faults, endpoint.timeout_seconds.emplace(0));
    } else if (option.name == "max_concurrency") {
      const std::optional<double> count = read_number(option.value);
      if (count && *count >= 1 && *count <= kMaxConcurrency && *count == std::floor(*count)) {
        endpoint.max_concurrency = static_cast<int>(*count);
      } else {
        faults.add(option.name, "must be an integer from 1 to " + std::to_string(kMaxConcurrency));
      }
    } else if (option.name == "rate") {
      endpoint.rate_per_second = read_rate(option.value);
      if (!endpoint.rate_per_second || *endpoint.rate_per_second < kMinRate || *endpoint.rate_per_second > kMaxRate) {
        faults.add(option.name, "must be a number of calls, from one a day to 100000/s", "for example 10/s, 600/min or 5000/hour");
      }
    } else if (option.name == "allow_redirects") {
      read_switch(option, faults, endpoint.allow_redirects);
    } else if (option.name == "allow_private") {
      read_switch(option, faults, endpoint.allow_private);
      if (endpoint.allow_private && !superuser) {
        faults.add(option.name, "may be on only when a superuser sets it", "it opens the network that the database server stands in");
      }
    } else if (option.name == "ca") {
      read_ca(option, superuser, faults, endpoint);
    } else if (option.name == "http2") {
      read_switch(option, faults, endpoint.http2);
    }
  }
  if (!has_url) faults.add("url", "is missing", "for example url 'https://api.example/v1'");
  return endpoint;
}

Credentials read_credentials(std::span<const Option> options, Faults &faults) {
  Credentials credentials;
  check_names(options, kMappingOptions, faults);
  const auto value_of = [&](std::string_view name) -> const std::string * {
    const auto found = std::find_if(options.begin(), options.end(), [name](const Option &option) { return option.name == name; });
    return found == options.end() ? nullptr : &found->value;
  };
  for (const Option &option : options) {
    if (option.value.empty()) faults.add(option.name, "must not be empty");
    if (has_control(option.value)) faults.add(option.name, "must not have control characters");
  }
  const std::string *bearer = value_of("bearer"), *user = value_of("username"), *password = value_of("password");
  const std::string *header = value_of("header_name"), *value = value_of("header_value");
  const int ways = (bearer != nullptr ? 1 : 0) + (user != nullptr || password != nullptr ? 1 : 0) + (header != nullptr || value != nullptr ? 1 : 0);
  if (ways != 1) faults.add("bearer", "or username and password, or header_name and header_value: give exactly one of the three");
  if ((user == nullptr) != (password == nullptr)) faults.add(user == nullptr ? "username" : "password", "is missing");
  if ((header == nullptr) != (value == nullptr)) faults.add(header == nullptr ? "header_name" : "header_value", "is missing");
  if (user != nullptr && user->find(':') != std::string::npos) faults.add("username", "must not have a colon");
  if (header != nullptr) {
    const std::string problem = header_name_problem(*header);
    if (!problem.empty()) faults.add("header_name", problem);
  }
  if (bearer != nullptr) credentials = {Credentials::Kind::kBearer, {}, Secret(*bearer)};
  if (user != nullptr && password != nullptr) credentials = {Credentials::Kind::kBasic, *user, Secret(*password)};
  if (header != nullptr && value != nullptr) credentials = {Credentials::Kind::kHeader, *header, Secret(*value)};
  return credentials;
}

void raise_first(Faults &faults) {
  const std::vector<Fault> found = faults.take();
  if (!found.empty()) throw Error(sqlstate::kInvalidParameter, found.front().problem, {}, found.front().hint);
}

}  // namespace

std::span<const std::string_view> server_option_names() { return kServerOptions; }
std::span<const std::string_view> mapping_option_names() { return kMappingOptions; }

std::vector<Fault> check_server_options(std::span<const Option> options, bool superuser) {
  Faults faults;
  (void)read_endpoint(options, superuser, faults);
  return faults.take();
}

std::vector<Fault> check_mapping_options(std::span<const Option> options) {
  Faults faults;
  (void)read_credentials(options, faults);
  return faults.take();
}

Endpoint endpoint_of(std::span<const Option> options) {
  Faults faults;
  Endpoint endpoint = read_endpoint(options, true, faults);
  raise_first(faults);
  return endpoint;
}

Credentials credentials_of(std::span<const Option> options) {
  Faults faults;
  Credentials credentials = read_credentials(options, faults);
  raise_first(faults);
  return credentials;
}

}  // namespace tasker::http
