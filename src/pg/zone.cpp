#include "pg/zone.hpp"

extern "C" {
#include "pgtime.h"
}

namespace tasker::pg {

namespace {

constexpr std::int64_t kEpoch = (static_cast<std::int64_t>(POSTGRES_EPOCH_JDATE) - UNIX_EPOCH_JDATE) * SECS_PER_DAY;

pg_tz *find_zone(const std::string &name) {
  if (name.size() > TZ_STRLEN_MAX) return nullptr;
  const char *text = name.c_str();
  // Zones with leap seconds are refused as SET timezone refuses them: no arithmetic of the server knows these.
  return call([=]() -> pg_tz * {
    pg_tz *zone = pg_tzset(text);
    return zone != nullptr && pg_tz_acceptable(zone) ? zone : nullptr;
  });
}

}  // namespace

Zone::Zone(const std::string &name) : zone_(find_zone(name)) {
  if (zone_ == nullptr)
    throw tasker::Error(sqlstate::kInvalidParameter, "time zone \"" + name + "\" is not known", {},
                        "Take a name like Europe/Berlin; the view pg_timezone_names lists them.");
}

core::ZoneOffset Zone::offset_at(std::int64_t utc) const {
  const pg_time_t moment = utc;
  const pg_time_t *at = &moment;
  pg_tz *zone = zone_;
  struct Found {
    int result, before_is_dst, after_is_dst;
    long before, after;
    pg_time_t boundary;
  };
  const Found found = call([=] {
    Found out{};
    out.result = pg_next_dst_boundary(at, &out.before, &out.before_is_dst, &out.boundary, &out.after, &out.after_is_dst, zone);
    return out;
  });
  if (found.result < 0) throw tasker::Error("22008", "time zone \"" + name() + "\" has no time at " + std::to_string(utc) + " s since 1970");
  return {static_cast<int>(found.before), found.result == 0 ? core::ZoneOffset::kForever : found.boundary};
}

std::string Zone::name() const { return pg_get_timezone_name(zone_); }

std::int64_t unix_seconds(TimestampTz at) {
  const std::int64_t seconds = at / USECS_PER_SEC - (at % USECS_PER_SEC < 0 ? 1 : 0);
  return seconds + kEpoch;
}

TimestampTz timestamp_of(std::int64_t unix_seconds) { return (unix_seconds - kEpoch) * USECS_PER_SEC; }

}  // namespace tasker::pg
