// Reading a definition: each key is read by its type into the plain struct, and what does not fit becomes a
// fault instead of an exception. What is left of a faulty document is read on, so that one call tells everything.
//
// A definition is hostile until checked: nothing recurses over it, and no comparison of all with all happens.
#include "core/definition.hpp"

#include <algorithm>
#include <iterator>
#include <map>
#include <utility>

#include "core/definition_handlers.hpp"
#include "core/events.hpp"
#include "core/graph.hpp"
#include "core/object_reader.hpp"
#include "core/schema.hpp"

namespace tasker::core {
namespace {

constexpr std::string_view kTaskKeys[] = {"name",             "namespace", "version", "description", "context_schema",
                                          "deadline_seconds", "run_as",    "steps"};
constexpr std::string_view kReservedTaskKeys[] = {"on_error", "on_complete"};
constexpr std::string_view kStepKeys[] = {"name",         "handler", "depends_on", "description", "dependent_system", "retryable",
                                          "max_attempts", "backoff", "retry_on",   "fail_on",     "timeout_seconds",  "skippable",
                                          "own_transaction", "isolation", "priority", "events"};
constexpr std::string_view kReservedStepKeys[] = {"when", "map", "compensate_with", "cache_seconds"};
constexpr std::string_view kBackoffKeys[] = {"base_seconds", "multiplier", "max_seconds", "jitter"};
constexpr std::string_view kEventKeys[] = {"name", "condition", "description"};
constexpr std::string_view kIsolations[] = {"read committed", "read uncommitted", "repeatable read", "serializable"};
constexpr std::string_view kRunAs[] = {"invoker", "definer"};
constexpr std::string_view kConditions[] = {"success", "failure", "always"};

constexpr std::size_t kMaxShownCycle = 50;  // steps of a cycle written out
constexpr int kMaxShownCycles = 20;

template <typename Value>
void assign(Value &target, std::optional<Value> value) {
  if (value) target = std::move(*value);
}

// --- steps ---

void check_backoff(const Object &owner, Backoff &backoff, Findings &findings) {
  const json *value = owner.find("backoff");
  if (value == nullptr) return;
  if (!value->is_object()) return owner.fault("backoff", "must be an object with " + list_of(kBackoffKeys));
  const Object object(*value, owner.pointer_to("backoff"), findings);
  object.allow_keys(kBackoffKeys);
  assign(backoff.base_seconds, object.number("base_seconds", 0, kMaxBackoffBase));
  assign(backoff.multiplier, object.number("multiplier", 1, kMaxBackoffMultiplier));
  assign(backoff.max_seconds, object.number("max_seconds", 0, kMaxBackoff));
  assign(backoff.jitter, object.number("jitter", 0, 1));
}

// A five-character SQLSTATE or its class.
bool sqlstate_pattern(std::string_view code) {
  const auto digit_or_capital = [](char c) { return (c >= '0' && c <= '9') || (c >= 'A' && c <= 'Z'); };
  return (code.size() == 5 || code.size() == 2) && std::all_of(code.begin(), code.end(), digit_or_capital);
}

// Fills `target` with one list of codes; an entry of `opposite` is a fault.
void check_codes(const Object &owner, std::string_view key, const std::vector<std::string> &opposite, std::vector<std::string> &target,
                 Findings &findings) {
  constexpr const char *kCodeHint = "write a five-character SQLSTATE or its two-character class";
  const json *value = owner.find(key);
  if (value == nullptr) return;
  if (!value->is_array()) return owner.fault(key, "must be an array of SQLSTATEs", kCodeHint);
  if (value->size() > kMaxOverrides) {
    return owner.fault(key, "has " + std::to_string(value->size()) + " entries, more than " + std::to_string(kMaxOverrides), "name whole classes");
  }
  for (std::size_t i = 0; i < value->size(); ++i) {
    const json &element = (*value)[i];
    const std::string here = child_pointer(owner.pointer_to(key), i);
    if (!element.is_string()) {
      findings.add(here, in_quotes(key) + " must hold SQLSTATEs", kCodeHint);
      continue;
    }
    const std::string &code = element.get_ref<const std::string &>();
    if (!sqlstate_pattern(code)) {
      findings.add(here, in_quotes(code) + " is not an SQLSTATE", kCodeHint);
    } else if (code.starts_with("00")) {
      findings.add(here, in_quotes(code) + " means success", "remove it: only errors are classified");
    } else if (std::find(target.begin(), target.end(), code) != target.end()) {
      findings.add(here, in_quotes(code) + " is listed twice", "remove one of the two");
    } else if (std::find(opposite.begin(), opposite.end(), code) != opposite.end()) {
      findings.add(here, in_quotes(code) + " is in both \"retry_on\" and \"fail_on\"", "keep it in one of them");
    } else {
      target.push_back(code);
    }
  }
}

// Plain strings become objects, so that whoever publishes reads one form only.
void check_events(const Object &owner, json &events, Findings &findings) {
  const json *value = owner.find("events");
  if (value == nullptr) return;
  if (!value->is_array()) return owner.fault("events", "must be an array of names or objects");
  const std::string pointer = owner.pointer_to("events");
  for (std::size_t i = 0; i < value->size(); ++i) {
    const json &element = (*value)[i];
    const std::string here = child_pointer(pointer, i);
    if (!element.is_string() && !element.is_object()) {
      findings.add(here, "an event must be a name or an object with " + list_of(kEventKeys));
      continue;
    }
    json event = element.is_string() ? json::object({{"name", element}}) : element;
    const Object object(event, here, findings);
    object.allow_keys(kEventKeys);
    object.require("name");
    // Of a plain string the fault is the string itself, which has no key in the document.
    const std::string problem = element.is_string() ? name_problem(element.get_ref<const std::string &>(), kMaxStepName) : std::string();
    if (!problem.empty()) findings.add(here, "event name " + in_quotes(element.get_ref<const std::string &>()) + " " + problem);
    if (element.is_object()) object.name("name", kMaxStepName);
    const std::string condition = object.one_of("condition", kConditions).value_or("success");
    object.text("description");
    if (event.contains("name") && event["name"].is_string() && is_reserved_event(event["name"].get_ref<const std::string &>()))
      findings.add(here, "event name " + in_quotes(event["name"].get_ref<const std::string &>()) + " begins as those of tasks and steps do", "begin it with something of your own");
    event["condition"] = condition;
    events.push_back(std::move(event));
  }
}

// A label of another system, perhaps with spaces: the strict rules are for names that are typed as arguments.
void check_dependent_system(const Object &owner, std::string &target) {
  assign(target, owner.text("dependent_system"));
  const json *value = owner.find("dependent_system");
  if (value == nullptr || !value->is_string()) return;
  const bool control = std::any_of(target.begin(), target.end(), [](char c) { return static_cast<unsigned char>(c) < 0x20 || c == 0x7F; });
  if (target.empty() || target.size() > kMaxTaskName || control) {
    owner.fault("dependent_system", "must have 1 to " + std::to_string(kMaxTaskName) + " bytes and no control characters, not " + in_quotes(target));
  }
}

StepDefinition check_step(const json &value, const std::string &pointer, Findings &findings) {
  StepDefinition step;
  const Object object(value, pointer, findings);
  object.allow_keys(kStepKeys, kReservedStepKeys);
  object.require("name");
  assign(step.name, object.name("name", kMaxStepName));
  assign(step.description, object.text("description"));
  check_dependent_system(object, step.dependent_system);
  assign(step.own_transaction, object.flag("own_transaction"));
  check_handler(object, step, findings);
  assign(step.retryable, object.flag("retryable"));
  assign(step.max_attempts, object.integer("max_attempts", 0, kMaxAttempts));
  check_backoff(object, step.backoff, findings);
  check_codes(object, "retry_on", {}, step.overrides.retry_on, findings);
  check_codes(object, "fail_on", step.overrides.retry_on, step.overrides.fail_on, findings);
  step.timeout_seconds = object.number("timeout_seconds", kMinDuration, kMaxTimeout);
  assign(step.skippable, object.flag("skippable"));
  assign(step.isolation, object.one_of("isolation", kIsolations));
  step.own_transaction = step.own_transaction || step.isolation != kIsolations[0];
  assign(step.priority, object.integer("priority", -kMaxPriority, kMaxPriority));
  check_events(object, step.events, findings);
  return step;
}

// --- the graph ---

using StepNumbers = std::map<std::string_view, int>;

StepNumbers number_steps(const std::vector<StepDefinition> &steps, Findings &findings) {
  StepNumbers numbers;
  for (std::size_t i = 0; i < steps.size(); ++i) {
    if (steps[i].name.empty()) continue;
    const auto [first, added] = numbers.emplace(steps[i].name, static_cast<int>(i));
    if (added) continue;
    findings.add("/steps/" + std::to_string(i) + "/name", "duplicate step name " + in_quotes(steps[i].name),
                 "first used at /steps/" + std::to_string(first->second));
  }
  return numbers;
}

// Fills `parents` (as written, repeats included) of one step.
void check_parents(const json &document_step, const std::string &pointer, int self, const StepNumbers &numbers, Keys names, StepDefinition &step,
                   Findings &findings) {
  const Object object(document_step, pointer, findings);
  const json *value = object.find("depends_on");
  if (value == nullptr) return;
  if (!value->is_array()) return object.fault("depends_on", "must be an array of step names");
  const std::string list_pointer = object.pointer_to("depends_on");
  for (std::size_t i = 0; i < value->size(); ++i) {
    const json &element = (*value)[i];
    if (!element.is_string()) {
      findings.add(child_pointer(list_pointer, i), "\"depends_on\" must hold step names");
      continue;
    }
    const std::string &parent = element.get_ref<const std::string &>();
    const auto found = numbers.find(parent);
    if (found == numbers.end()) {
      findings.add(child_pointer(list_pointer, i), "unknown step " + in_quotes(parent), findings.did_you_mean(parent, names));
    } else if (found->second == self) {
      findings.add(child_pointer(list_pointer, i), "step " + in_quotes(parent) + " depends on itself", "remove it from its own depends_on");
    } else {
      step.parents.push_back(found->second);
    }
  }
}

std::string cycle_text(const std::vector<StepDefinition> &steps, const std::vector<int> &cycle) {
  std::string text;
  for (std::size_t i = 0; i < std::min(cycle.size(), kMaxShownCycle); ++i) text += shown(steps[static_cast<std::size_t>(cycle[i])].name) + " → ";
  if (cycle.size() > kMaxShownCycle) text += "(" + std::to_string(cycle.size() - kMaxShownCycle) + " more) → ";
  return text + shown(steps[static_cast<std::size_t>(cycle.front())].name);
}

// Tells cycles that share no step, a few of them: each is cut out before the next is looked for.
void check_cycles(std::vector<StepDefinition> &steps, Findings &findings) {
  std::vector<std::vector<int>> parents;
  parents.reserve(steps.size());
  for (const StepDefinition &step : steps) parents.push_back(step.parents);
  for (int told = 0; told < kMaxShownCycles; ++told) {
    const Graph graph(parents);
    const std::vector<int> cycle = find_cycle(graph);
    if (cycle.empty()) {
      if (told > 0) return;
      const std::vector<int> level = levels(graph);
      for (int i = 0; i < graph.size(); ++i) {
        steps[static_cast<std::size_t>(i)].parents = graph.parents(i);
        steps[static_cast<std::size_t>(i)].level = level[static_cast<std::size_t>(i)];
      }
      return;
    }
    findings.add("/steps/" + std::to_string(cycle.front()) + "/depends_on", "steps depend on each other: " + cycle_text(steps, cycle),
                 "remove one of these dependencies");
    for (const int step : cycle) parents[static_cast<std::size_t>(step)].clear();
  }
}

void check_steps(const Object &document, std::vector<StepDefinition> &steps, Findings &findings) {
  const json *value = document.require("steps");
  if (value == nullptr) return;
  if (!value->is_array()) return document.fault("steps", "must be an array of objects");
  if (value->empty()) return document.fault("steps", "must not be empty", "a task needs at least one step");
  if (value->size() > kMaxSteps) {
    return document.fault("steps", "has " + std::to_string(value->size()) + " steps, more than " + std::to_string(kMaxSteps));
  }
  steps.resize(value->size());
  for (std::size_t i = 0; i < steps.size(); ++i) {
    const json &element = (*value)[i];
    const std::string pointer = child_pointer("/steps", i);
    if (element.is_object()) {
      steps[i] = check_step(element, pointer, findings);
    } else {
      findings.add(pointer, "a step must be an object");
    }
  }
  const StepNumbers numbers = number_steps(steps, findings);
  std::vector<std::string_view> names;
  for (const auto &entry : numbers) names.push_back(entry.first);
  for (std::size_t i = 0; i < steps.size(); ++i) {
    const json &element = (*value)[i];
    if (element.is_object()) check_parents(element, child_pointer("/steps", i), static_cast<int>(i), numbers, names, steps[i], findings);
  }
  check_cycles(steps, findings);
}

void check_context_schema(const Object &document, json &target, const SchemaRegex &regex, Findings &findings) {
  const json *value = document.find("context_schema");
  if (value == nullptr) return;
  if (!value->is_object() && !value->is_boolean()) return document.fault("context_schema", "must be a JSON Schema: an object, true or false");
  target = *value;
  for (const Violation &violation : check_schema(*value, regex)) {
    findings.add(document.pointer_to("context_schema") + violation.pointer, "context_schema: " + violation.problem);
  }
}

}  // namespace

CheckedDefinition check_definition(const json &document, const SchemaRegex &regex) {
  CheckedDefinition checked;
  Definition &definition = checked.definition;
  Findings findings;
  if (!document.is_object()) {
    findings.add("", "a definition must be a JSON object");
    checked.faults = findings.take();
    return checked;
  }
  const Object object(document, "", findings);
  object.allow_keys(kTaskKeys, kReservedTaskKeys);
  object.require("name");
  assign(definition.name, object.name("name", kMaxTaskName));
  assign(definition.ns, object.name("namespace", kMaxTaskName));
  assign(definition.version, object.text("version"));
  if (!parse_version(definition.version)) {
    object.fault("version", "must be three numbers N.N.N, each below 1000000000, not " + in_quotes(definition.version));
  }
  assign(definition.description, object.text("description"));
  check_context_schema(object, definition.context_schema, regex, findings);
  definition.deadline_seconds = object.number("deadline_seconds", kMinDuration, kMaxDeadline);
  assign(definition.run_as, object.one_of("run_as", kRunAs));
  check_steps(object, definition.steps, findings);
  checked.faults = findings.take();
  return checked;
}

std::optional<std::array<int, 3>> parse_version(std::string_view text) {
  constexpr std::size_t kMaxDigits = 9;
  std::array<int, 3> numbers{};
  for (std::size_t part = 0; part < numbers.size(); ++part) {
    if (part > 0) {
      if (!text.starts_with('.')) return std::nullopt;
      text.remove_prefix(1);
    }
    std::size_t digits = 0;
    while (digits < text.size() && text[digits] >= '0' && text[digits] <= '9') {
      if (digits == kMaxDigits) return std::nullopt;
      numbers[part] = numbers[part] * 10 + (text[digits++] - '0');
    }
    if (digits == 0) return std::nullopt;
    text.remove_prefix(digits);
  }
  return text.empty() ? std::optional(numbers) : std::nullopt;
}

std::string name_problem(std::string_view name, std::size_t max_length) {
  if (name.empty()) return "must not be empty";
  if (name.size() > max_length) return "is " + std::to_string(name.size()) + " bytes long, more than " + std::to_string(max_length);
  for (const char c : name) {
    const auto byte = static_cast<unsigned char>(c);
    const bool plain = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || byte >= 0x80;
    if (plain || c == '_' || c == '.' || c == ':' || c == '-') continue;
    if (c == ' ') return "contains a space";
    if (byte < 0x20 || byte == 0x7F) return "contains a control character";
    if (c == '[' || c == ']') return "contains a bracket, kept for the elements of mapped steps";
    return "contains " + in_quotes({&c, 1});
  }
  return {};
}

}  // namespace tasker::core
