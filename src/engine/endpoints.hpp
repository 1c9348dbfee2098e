// HTTP endpoints as the catalogue has them: foreign servers of the wrapper tasker_http, and user mappings.
//
// Read for each attempt anew, so that what is revoked, dropped or changed counts at once. Values of options may be secrets:
// they are wiped where we hold copies, and no message has them.
#pragma once

#include <optional>
#include <span>
#include <string>
#include <vector>

#include "http/endpoint.hpp"
#include "pg/bridge.hpp"

namespace tasker::engine {

// Options as a catalogue column or a validator's argument has them, text[] of "name=value"; wiped at the end.
class Options {
 public:
  explicit Options(Datum array);  // 0: none
  ~Options();
  Options(const Options &) = delete;
  Options &operator=(const Options &) = delete;
  std::span<const http::Option> list() const { return options_; }

 private:
  std::vector<http::Option> options_;
};

struct EndpointRead {
  Oid server = InvalidOid;
  http::Endpoint endpoint;
  http::Credentials credentials;  // of the owner's mapping, or of PUBLIC's; without either none
};
// For a call of a step that `owner` owns. Raises 42704 when there is no such server of ours, 42501 when the owner may not
// use it, 22023 when its options are not (any more) what a call needs.
EndpointRead read_endpoint(const std::string &server, Oid owner);

// What holds for all calls of a server, whoever makes them. Without such a server, or with options that no call can use,
// nothing holds them back: they fail, each for its reason.
struct EndpointLimits {
  int max_concurrency = http::kMaxConcurrency;
  std::optional<double> rate_per_second;
};
EndpointLimits read_limits(const std::string &server);

struct ServerProblem {
  std::string problem;  // empty: none
  std::string hint;
  bool denied = false;  // the server is there, and not his to use
};
// Why steps of this role can't call a server: it doesn't exist, is of another wrapper, or USAGE is missing.
ServerProblem find_server_problem(const std::string &server, Oid role);

}  // namespace tasker::engine
