// An endpoint: a foreign server of tasker_http with its options, and the credentials of a user mapping.
//
// Checked when they are set, and read again before each call. Faults have the option's name for a pointer; a value is never
// part of a message, as it may be a secret.
#pragma once

#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "core/definition.hpp"
#include "http/request.hpp"

namespace tasker::http {

inline constexpr int kMaxConcurrency = 10'000;

struct Option {
  std::string name, value;
};

struct Endpoint {
  std::string url;
  double connect_timeout_seconds = 10;     // 0.001 … 3600
  std::optional<double> timeout_seconds;   // for steps without timeout_seconds of their own
  int max_concurrency = 16;                // calls under way, of all users: 1 … kMaxConcurrency
  std::optional<double> rate_per_second;   // "10", "10/s", "600/min", "5000/hour"
  bool allow_redirects = false;
  bool allow_private = false;              // superuser only
  bool http2 = true;
  std::string ca_pem, ca_file;             // option ca: certificates as text, or (superuser only) an absolute file name
};

std::span<const std::string_view> server_option_names();
std::span<const std::string_view> mapping_option_names();
std::vector<core::Fault> check_server_options(std::span<const Option> options, bool superuser);
// One of: bearer; username and password; header_name and header_value.
std::vector<core::Fault> check_mapping_options(std::span<const Option> options);

// Raise 22023 with the first fault. What only superusers may set was checked when it was set.
Endpoint endpoint_of(std::span<const Option> options);
Credentials credentials_of(std::span<const Option> options);

}  // namespace tasker::http
