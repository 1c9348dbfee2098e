// Moments as text: what messages, reasons and evidence print.
#pragma once

#include <cstdint>
#include <string>

namespace tasker::core {

// microseconds: since 2000-01-01 00:00 UTC, as PostgreSQL counts. 2026-03-12T09:30:00Z; fractions are cut off.
std::string utc(std::int64_t microseconds);

}  // namespace tasker::core
