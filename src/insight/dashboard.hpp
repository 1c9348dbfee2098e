// The page of tasker.dashboard_html: fixed text from dashboard.css and dashboard.js, and what it shows as JSON.
#pragma once

#include <optional>
#include <string>

#include "core/json.hpp"

namespace tasker::insight {

// ASCII only, so that it is the same in any encoding. The browser runs no script and applies no style but ours, by their hashes,
// and reaches no other address. Precondition: inside pg::OwnerScope and pg::Spi.
std::string dashboard_page(const core::json &data, std::optional<int> refresh_seconds);

}  // namespace tasker::insight
