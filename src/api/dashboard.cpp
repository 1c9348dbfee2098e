// dashboard_html. What it shows is gathered by tasker.dashboard_data with the caller's own rights.
#include "core/json.hpp"
#include "insight/dashboard.hpp"
#include "pg/args.hpp"
#include "pg/security.hpp"

using namespace tasker;

namespace {

inline constexpr std::int64_t kTasksLookedAt = 20'000;  // among so many of everybody's newest a caller's finished tasks are looked for
inline constexpr int kMaxRefreshSeconds = 86'400;

constinit pg::Query select_newest{"SELECT max(t.task_id) FROM tasker.tasks t", 0, {}};
constinit pg::Query select_data{"SELECT tasker.dashboard_data($1, $2)::pg_catalog.text", 2, {INT8OID, INT8OID}};

bool shows(const core::json &data, std::int64_t task_id) {
  for (const core::json &task : data.at("tasks"))
    if (task.at("task_id").get<std::int64_t>() == task_id) return true;
  return false;
}

std::int64_t newest_task() {
  pg::OwnerScope as_owner;
  return pg::execute(select_newest, {}, pg::Access::kRead).rows.int8(0, 1);  // 0 for none
}

}  // namespace

TASKER_SQL_FUNCTION(tasker_dashboard_html) {
  return pg::entry([&]() -> Datum {
    const pg::Args args(fcinfo);
    std::optional<std::int64_t> task_id;
    if (!args.is_null(0)) task_id = args.int8(0, "task_id");
    std::optional<int> refresh_seconds;
    if (!args.is_null(1)) refresh_seconds = args.int4(1, "refresh_seconds");
    if (refresh_seconds && (*refresh_seconds < 1 || *refresh_seconds > kMaxRefreshSeconds))
      throw tasker::Error(sqlstate::kInvalidParameter, "refresh_seconds " + std::to_string(*refresh_seconds) + " is out of range", {},
                          "Give a number from 1 to " + std::to_string(kMaxRefreshSeconds) + ", or null for a page that stays as it is.");
    std::string page;
    {
      pg::Spi spi;
      pg::Params asked;
      if (task_id) asked.int8(*task_id);
      else asked.null();
      asked.int8(newest_task() - kTasksLookedAt);
      const core::json data = core::parse_json(pg::execute(select_data, asked, pg::Access::kRead).rows.text(0, 1));
      if (task_id && !shows(data, *task_id)) throw tasker::Error(sqlstate::kNoData, "task " + std::to_string(*task_id) + " does not exist");
      pg::OwnerScope as_owner;
      page = insight::dashboard_page(data, refresh_seconds);
    }
    return pg::text_datum(page);
  });
}
