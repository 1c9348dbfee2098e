// Which limit keeps a step from beginning that is ready in all else.
#pragma once

#include <vector>

#include "api/assessment.hpp"

namespace tasker::api {

// Says so in their readiness. Nothing is read while no limit of the server is told of. Precondition: inside pg::OwnerScope and pg::Spi.
void say_what_is_limited(std::vector<AssessedTask> &tasks);

}  // namespace tasker::api
