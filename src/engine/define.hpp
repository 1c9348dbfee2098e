// Stores definitions: checks them with core and the server's catalogs, writes them once, keeps them immutable.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "core/definition.hpp"
#include "pg/spi.hpp"

namespace tasker::engine {

// All faults: core's, and those only the server can see (functions that do not exist, queries that do not parse).
core::CheckedDefinition check_with_catalog(const core::json &document);

// The id; an identical definition is returned, not written again. Raises 22023 (0A000 when all faults are features of
// later releases) with every fault in DETAIL, TK006 when the version is taken by a different body.
int define_task(const core::json &document, Datum document_jsonb, bool replace);

std::optional<Datum> find_document(const std::string &ns, const std::string &name, const std::optional<std::string> &version);
// false: it was retired already. Raises 02000 when it does not exist, 42501 when it is somebody else's.
bool retire_definition(const std::string &ns, const std::string &name, const std::string &version);

}  // namespace tasker::engine
