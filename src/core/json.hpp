// The only place that includes nlohmann's JSON. Parsing has a depth limit, so that no input can exhaust the stack.
#pragma once

#include <array>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>

namespace tasker::core {

using json = nlohmann::json;

inline constexpr int kMaxJsonDepth = 256;

// Raises 22023 on malformed text, on nesting deeper than kMaxJsonDepth, and on numbers no double can hold.
json parse_json(std::string_view text);
// RFC 6901 escaping of one reference token ("~" → "~0", "/" → "~1").
std::string pointer_token(std::string_view key);

}  // namespace tasker::core
