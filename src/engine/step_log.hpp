// Lines of the server's log about attempts that ended: which of them tasker.log_steps asks for, in the form of tasker.log_format.
// Of background workers only: a session that calls run_task sees what happens.
#pragma once

#include "engine/batch.hpp"

namespace tasker::engine {

// After the commit that they were recorded with. Costs nothing when nobody asked for lines.
void log_ends(const std::vector<Outcome> &outcomes);

// For pg::report_as: what a worker says, as JSON while that is asked for; else nothing, which leaves it as it is.
std::string worker_line(const std::string &message, const std::string &detail, const std::string &hint);

}  // namespace tasker::engine
