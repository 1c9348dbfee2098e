// Reading the handler of a step. Private to the check of definitions.
#pragma once

#include "core/object_reader.hpp"

namespace tasker::core {

// Fills the step from its key "handler"; `owner` is the step's object. The keys of type http are the business of
// http/call.hpp: core reads only whose server it is.
void check_handler(const Object &owner, StepDefinition &step, Findings &findings);

}  // namespace tasker::core
