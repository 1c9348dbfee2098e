// A workflow definition: checked JSON in, plain values out.
//
// check() never stops at the first fault and never raises for bad input: each fault has the JSON pointer of
// the place, what is wrong, and what to do. Whether SQL functions exist is the server's knowledge and is
// checked by the caller (api/definitions.cpp), which adds its faults to the list.
#pragma once

#include <array>
#include <cstddef>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "core/backoff.hpp"
#include "core/failure.hpp"
#include "core/json.hpp"

namespace tasker::core {

// Limits of a definition, all inclusive. Names are measured in bytes.
inline constexpr std::size_t kMaxTaskName = 64;         // name, namespace, dependent_system
inline constexpr std::size_t kMaxStepName = 128;        // steps, events
inline constexpr std::size_t kMaxSteps = 100'000;
inline constexpr int kMaxAttempts = 1000;               // from 0, which like 1 gives one attempt: the first is always allowed
inline constexpr std::size_t kMaxOverrides = 100;      // of retry_on, and of fail_on
inline constexpr int kMaxPriority = 1'000'000;          // and down to -kMaxPriority
inline constexpr double kMaxBackoffBase = 86'400;       // a day, from 0
inline constexpr double kMaxBackoffMultiplier = 100;    // from 1
inline constexpr double kMaxBackoff = 30 * 86'400.0;    // 30 days, from 0
inline constexpr double kMinDuration = 0.001;           // of timeout_seconds and deadline_seconds: less would round to "none"
inline constexpr double kMaxTimeout = 7 * 86'400.0;     // a week: a timer in the server counts milliseconds in 31 bits
inline constexpr double kMaxWait = 3650 * 86'400.0;     // of wait: ten years
inline constexpr std::size_t kMaxQueueName = 50;        // with "tasker_queue_" before it a name of a notification channel
inline constexpr std::size_t kMaxSenders = 100;
inline constexpr double kMaxDeadline = 3650 * 86'400.0; // ten years

struct Fault {
  std::string pointer;  // RFC 6901, "" is the whole document
  std::string problem;
  std::string hint;     // may be empty
  bool unsupported = false;  // true: valid, but arrives with a later release (SQLSTATE 0A000 rather than 22023)
};

struct StepDefinition {
  std::string name;
  std::string description;
  std::string dependent_system;
  std::string handler_type;             // sql, noop, http, external, wait, signal
  json handler;                         // the whole handler object
  std::string function, query, procedure;  // of type sql: one of the three is set
  bool atomic = true;
  std::string server;                   // of type http
  std::string queue;                    // of type external
  std::optional<double> wait_seconds;   // of type wait: this or a template for a timestamp
  std::string wait_until;
  std::string signal_name;              // of type signal
  std::vector<std::string> senders;     // roles that may send it; empty: the owner alone
  std::vector<int> parents;             // indices into Definition::steps, ascending, each once
  bool retryable = true;
  int max_attempts = 3;
  Backoff backoff;
  FailureOverrides overrides;           // keys retry_on and fail_on
  std::optional<double> timeout_seconds;
  bool skippable = false;
  bool own_transaction = false;         // also set when isolation or a procedure implies it
  std::string isolation = "read committed";  // one of the four levels, lower case
  int priority = 0;
  json events = json::array();          // of objects: name, condition (success, failure, always), perhaps description
  int level = 0;                        // longest distance from a root
};

struct Definition {
  std::string ns = "default";
  std::string name;
  std::string version = "0.1.0";
  std::string description;
  json context_schema;                  // null when absent
  std::optional<double> deadline_seconds;
  std::string run_as = "invoker";
  std::vector<StepDefinition> steps;
};

struct CheckedDefinition {
  Definition definition;      // usable only when faults is empty
  std::vector<Fault> faults;  // in document order as far as possible
};

CheckedDefinition check_definition(const json &document, const struct SchemaRegex &regex);

// "1.10.2" → {1, 10, 2}; empty when it is not N.N.N with numbers below 10^9.
std::optional<std::array<int, 3>> parse_version(std::string_view text);

// Names of namespaces, tasks, steps, queues: letters (any script), digits, _ . : -. The brackets of mapped
// elements (load[0]) are refused: the engine alone makes such names.
// Returns why a name is refused, worded to follow the name ("contains a space"), or empty.
std::string name_problem(std::string_view name, std::size_t max_length);

}  // namespace tasker::core
