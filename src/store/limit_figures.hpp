// How limits stand, in shared memory: the dispatcher tells, views and readiness read. With a dispatcher that is new it
// brings back the tokens of the one before.
//
// One entry for each limit, and for each value of a key that somebody runs or waits under, as long as there is room: what
// has none is told of nowhere, and still holds. Losing all of it loses nothing but tokens: buckets are full then.
#pragma once

#include <optional>
#include <vector>

#include "core/limits.hpp"
#include "pg/bridge.hpp"

namespace tasker::store {

// Its part of the server's shared memory: asked for, and made or found.
void request_limit_figures();
void attach_limit_figures();

// All of this database.
void publish_limits(const std::vector<core::GroupFigures> &figures);
std::vector<core::GroupFigures> published_limits();
// Those of limits that are no more.
void drop_limit_figures(const std::vector<int> &limits_that_stay);
// A database is dropped, or the extension in it.
void forget_limit_figures(Oid database) noexcept;

// False, without a look at a lock: no limit of the whole server is told of.
bool any_limit_figures();
std::optional<core::GroupFigures> limit_figures(const core::GroupId &id);

}  // namespace tasker::store
