#include "core/utc.hpp"

#include <chrono>
#include <cstdio>

namespace tasker::core {

std::string utc(std::int64_t microseconds) {
  using namespace std::chrono;
  constexpr seconds epoch{946'684'800};  // 2000-01-01, since 1970
  const sys_seconds whole{floor<seconds>(std::chrono::microseconds(microseconds)) + epoch};
  const sys_days day = floor<days>(whole);
  const year_month_day date{day};
  const hh_mm_ss time{whole - day};
  char text[64];
  (void)std::snprintf(text, sizeof text, "%04d-%02u-%02uT%02d:%02d:%02dZ", static_cast<int>(date.year()), static_cast<unsigned>(date.month()),
                      static_cast<unsigned>(date.day()), static_cast<int>(time.hours().count()), static_cast<int>(time.minutes().count()),
                      static_cast<int>(time.seconds().count()));
  return text;
}

}  // namespace tasker::core
