// Pauses by scope: standing orders that hold every task of this database, of a namespace or of a definition, now and
// later. Ordinary transactional writes of the caller, who is an operator or an admin.
#pragma once

#include <optional>
#include <string>

#include "engine/control.hpp"

namespace tasker::engine {

// true: it is paused, or goes on, now; false: it was so already. Without a name the namespace, without both this database.
// Raise 22023 for a name without a namespace, 02000 for what does not exist, 42501 for whoever may not. resume_scope ends
// the order for exactly this scope, and tells in a NOTICE of wider and narrower ones that still hold tasks of it.
bool pause_scope(const std::optional<std::string> &ns, const std::optional<std::string> &name, const Reason &reason);
bool resume_scope(const std::optional<std::string> &ns, const std::optional<std::string> &name, const Reason &reason);

}  // namespace tasker::engine
