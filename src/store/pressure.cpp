#include "store/pressure.hpp"

#include <algorithm>

#include "pg/spi.hpp"

namespace tasker::store {

namespace {

inline constexpr TimestampTz kKeptFor = 5 * USECS_PER_SEC;
constinit double kept = 0;
constinit TimestampTz measured_at = 0;

constinit pg::Query count_clients{
    "SELECT count(*) FROM pg_catalog.pg_stat_get_activity(NULL) AS a WHERE a.backend_type = 'client backend'", 0, {}};

}  // namespace

double connection_utilisation() {
  const TimestampTz now = GetCurrentTimestamp();
  if (measured_at != 0 && now - measured_at < kKeptFor) return kept;
  measured_at = now;
  const pg::Result counted = pg::execute(count_clients);
  kept = std::min(1.0, static_cast<double>(counted.rows.int8(0, 1)) / std::max(1, MaxConnections));
  return kept;
}

}  // namespace tasker::store
