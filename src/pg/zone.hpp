// PostgreSQL's own time zones, as core::ZoneRules: schedules and AT TIME ZONE agree, whatever zone data the server has.
#pragma once

#include <string>

#include "core/cron.hpp"
#include "pg/bridge.hpp"

struct pg_tz;

namespace tasker::pg {

// The zone lives as long as the process: it is an entry of PostgreSQL's cache.
class Zone final : public core::ZoneRules {
 public:
  // Takes what SET timezone takes. Raises 22023 for a name that it does not know.
  explicit Zone(const std::string &name);
  core::ZoneOffset offset_at(std::int64_t utc) const override;
  // As PostgreSQL writes it: Europe/Berlin for europe/berlin.
  std::string name() const;

 private:
  pg_tz *zone_;
};

// Seconds since 1970, fractions rounded down; and back. Precondition: finite.
std::int64_t unix_seconds(TimestampTz at);
TimestampTz timestamp_of(std::int64_t unix_seconds);

}  // namespace tasker::pg
