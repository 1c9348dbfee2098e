// The catalogue of events: what each move of a task or a step is called, and what a subscription asks for.
//
// An event is a move. No list of events is kept beside the history: whoever has the two states has the name.
#pragma once

#include <span>
#include <string>
#include <string_view>

#include "core/state.hpp"

namespace tasker::core {

struct EventKind {
  const char *name;
  bool of_step;
  const char *description;
};
// In the order of a life.
std::span<const EventKind> event_kinds() noexcept;

// The event of a move that the table in core/state.cpp allows; of two equal states: of an order to pause or to go on.
const char *event_of(StepState from, StepState to) noexcept;
const char *event_of(TaskState from, TaskState to) noexcept;

// Has a task ended with it?
bool ends_a_task(std::string_view name) noexcept;
// Names that custom events cannot have.
bool is_reserved_event(std::string_view name) noexcept;

// A pattern is the name of an event, or the beginning of one and a '*'.
bool event_matches(std::string_view pattern, std::string_view name) noexcept;
// Can it name a custom event?
bool names_custom_events(std::string_view pattern) noexcept;
// "" or what is wrong with it: a name that is none, or a reserved one that no event has.
std::string event_pattern_problem(std::string_view pattern);

// JSON Schema of what a subscriber gets of one event.
const char *event_payload_schema(bool of_step, bool custom) noexcept;

}  // namespace tasker::core
