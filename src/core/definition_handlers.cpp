// The handler of a step: each type's keys, read into the step.
#include "core/definition_handlers.hpp"

#include <algorithm>
#include <iterator>
#include <utility>

#include "core/template.hpp"

namespace tasker::core {
namespace {

constexpr std::string_view kSqlKeys[] = {"type", "function", "query", "procedure", "atomic", "config"};
constexpr std::string_view kNoopKeys[] = {"type", "config"};
constexpr std::string_view kExternalKeys[] = {"type", "queue", "config"};
constexpr std::string_view kWaitKeys[] = {"type", "seconds", "until", "config"};
constexpr std::string_view kSignalKeys[] = {"type", "name", "senders", "on_timeout", "config"};
constexpr std::string_view kHandlerTypes[] = {"sql", "noop", "http", "external", "wait", "signal", "task"};
constexpr std::string_view kRunningTypes[] = {"sql", "http", "external", "wait", "signal", "noop"};

constexpr const char *kUntilHint = "a timestamp, or a template such as \"${/context/start_at}\"";

template <typename Value>
void assign(Value &target, std::optional<Value> value) {
  if (value) target = std::move(*value);
}

bool take_identifier(std::string_view &rest) {
  if (rest.starts_with('"')) {
    std::size_t i = 1;
    while (i < rest.size() && (rest[i] != '"' || (i + 1 < rest.size() && rest[i + 1] == '"'))) i += rest[i] == '"' ? 2 : 1;
    if (i >= rest.size() || i == 1) return false;
    rest.remove_prefix(i + 1);
    return true;
  }
  std::size_t length = 0;
  for (const char c : rest) {
    const bool letter = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_' || static_cast<unsigned char>(c) >= 0x80;
    const bool later = (c >= '0' && c <= '9') || c == '$';
    if (!letter && !(later && length > 0)) break;
    ++length;
  }
  rest.remove_prefix(length);
  return length > 0;
}

// schema.name, each a plain or a quoted SQL identifier: search_path must never decide what a definition runs.
bool schema_qualified(std::string_view text) {
  if (!take_identifier(text) || !text.starts_with('.')) return false;
  text.remove_prefix(1);
  return take_identifier(text) && text.empty();
}

void check_routine(const Object &handler, std::string_view key, std::string &routine) {
  if (routine.empty() || schema_qualified(routine)) return;
  handler.fault(key, "must be a schema-qualified name, not " + in_quotes(routine), "write schema.name, without arguments");
  routine.clear();  // nobody need look for it
}

void check_sql_handler(const Object &handler, StepDefinition &step, Findings &findings) {
  handler.allow_keys(kSqlKeys);
  int given = 0;
  for (const auto &[key, target] : {std::pair{"function", &step.function}, std::pair{"query", &step.query}, std::pair{"procedure", &step.procedure}}) {
    given += handler.find(key) != nullptr ? 1 : 0;
    const std::optional<std::string> text = handler.text(key);
    if (text && text->find_first_not_of(" \t\r\n\f\v") == std::string::npos) {
      handler.fault(key, "must not be empty");
    } else if (text) {
      *target = *text;
    }
  }
  if (given != 1) {
    findings.add(handler.pointer(),
                 given == 0 ? "handler type \"sql\" needs a function, a query or a procedure"
                            : "handler type \"sql\" takes only one of function, query and procedure",
                 "give exactly one of \"function\", \"query\" and \"procedure\"");
  }
  check_routine(handler, "function", step.function);
  check_routine(handler, "procedure", step.procedure);

  assign(step.atomic, handler.flag("atomic"));
  const bool procedure = handler.find("procedure") != nullptr;
  const bool atomic_readable = handler.find("atomic") == nullptr || handler.find("atomic")->is_boolean();
  if (procedure && step.atomic && atomic_readable) {
    handler.fault("procedure", "needs \"atomic\": false", "a procedure runs at least once; a function runs exactly once");
  }
  if (!procedure && !step.atomic) {
    handler.fault("atomic", "may be false only with a procedure", "a function or a query always commits together with its step");
  }
  step.own_transaction = step.own_transaction || procedure;
}

// What the queue is for is its workers' affair.
void check_external_handler(const Object &handler, StepDefinition &step) {
  handler.allow_keys(kExternalKeys);
  handler.require("queue");
  assign(step.queue, handler.name("queue", kMaxQueueName));
}

void check_wait_handler(const Object &handler, StepDefinition &step, Findings &findings) {
  handler.allow_keys(kWaitKeys);
  const bool seconds = handler.find("seconds") != nullptr, until = handler.find("until") != nullptr;
  if (seconds == until) {
    findings.add(handler.pointer(), seconds ? "handler type \"wait\" takes only one of seconds and until" : "handler type \"wait\" needs seconds or until",
                 "give exactly one of \"seconds\" and \"until\"");
  }
  step.wait_seconds = handler.number("seconds", 0, kMaxWait);
  const std::optional<std::string> text = handler.text("until");
  if (!text) return;
  if (text->find_first_not_of(" \t\r\n\f\v") == std::string::npos) handler.fault("until", "must not be empty", kUntilHint);
  for (Fault &fault : check_template(*text, handler.pointer_to("until"))) findings.add(fault.pointer, fault.problem, fault.hint);
  step.wait_until = *text;
}

void check_senders(const Object &handler, StepDefinition &step, Findings &findings) {
  const json *value = handler.find("senders");
  if (value == nullptr) return;
  if (!value->is_array() || value->empty()) return handler.fault("senders", "must be a non-empty array of role names", "leave it out when only the owner sends");
  if (value->size() > kMaxSenders) return handler.fault("senders", "has more than " + std::to_string(kMaxSenders) + " roles", "name a group role");
  for (std::size_t i = 0; i < value->size(); ++i) {
    const json &element = (*value)[i];
    const std::string here = child_pointer(handler.pointer_to("senders"), i);
    if (!element.is_string() || element.get_ref<const std::string &>().empty()) findings.add(here, "\"senders\" must hold role names");
    else step.senders.push_back(element.get<std::string>());
  }
}

void check_signal_handler(const Object &owner, const Object &handler, StepDefinition &step, Findings &findings) {
  handler.allow_keys(kSignalKeys);
  handler.require("name");
  assign(step.signal_name, handler.name("name", kMaxStepName));
  check_senders(handler, step, findings);
  const json *value = handler.find("on_timeout");
  if (value == nullptr) return;
  const bool fails = value->is_string() && value->get_ref<const std::string &>() == "fail";
  const bool goes_on = value->is_object() && value->size() == 1 && value->contains("continue");
  if (!fails && !goes_on) return handler.fault("on_timeout", "must be \"fail\" or {\"continue\": value}", "the value becomes the result of the step");
  if (owner.find("timeout_seconds") == nullptr) handler.fault("on_timeout", "needs timeout_seconds", "give the step \"timeout_seconds\": how long it waits");
}

}  // namespace

void check_handler(const Object &owner, StepDefinition &step, Findings &findings) {
  const json *value = owner.require("handler");
  if (value == nullptr) return;
  if (!value->is_object()) return owner.fault("handler", "must be an object", "for example {\"type\": \"sql\", \"function\": \"app.f\"}");
  step.handler = *value;
  const Object handler(*value, owner.pointer_to("handler"), findings);
  handler.require("type");
  const std::optional<std::string> type = handler.text("type");
  if (!type) return;
  step.handler_type = *type;
  const bool known = std::find(std::begin(kRunningTypes), std::end(kRunningTypes), *type) != std::end(kRunningTypes);
  if (known) {
    if (*type == "sql") check_sql_handler(handler, step, findings);
    if (*type == "noop") handler.allow_keys(kNoopKeys);
    if (*type == "external") check_external_handler(handler, step);
    if (*type == "wait") check_wait_handler(handler, step, findings);
    if (*type == "signal") check_signal_handler(owner, handler, step, findings);
    if (*type == "http") {
      assign(step.server, handler.text("server"));
      if (owner.find("dependent_system") == nullptr) step.dependent_system = step.server;
    }
    const json *config = handler.find("config");
    if (config != nullptr && !config->is_object() && *type != "http") handler.fault("config", "must be an object");
  } else if (*type == "task") {
    findings.add_unsupported(handler.pointer_to("type"), "handler type \"task\" is reserved", "it arrives with a later release");
  } else {
    const std::string near = findings.did_you_mean(*type, kHandlerTypes);
    findings.add(handler.pointer_to("type"), "unknown handler type " + in_quotes(*type), near.empty() ? "types are " + list_of(kRunningTypes) : near);
  }
  if (*type == "wait" && owner.find("timeout_seconds") != nullptr) owner.fault("timeout_seconds", "does not apply to a wait");
}

}  // namespace tasker::core
