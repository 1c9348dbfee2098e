// raise_retryable and raise_permanent: errors whose DETAIL carries the request to engine/failure.cpp.
#include "core/json.hpp"
#include "pg/args.hpp"

using namespace tasker;

TASKER_SQL_FUNCTION(tasker_raise_retryable) {
  return pg::entry([&]() -> Datum {
    const pg::Args args(fcinfo);
    core::json detail = core::json::object();
    if (!args.is_null(1)) {
      const Datum interval = args.datum(1, "retry_after");
      const double seconds = pg::call([=] {
        const Datum epoch = DirectFunctionCall2(extract_interval, PointerGetDatum(cstring_to_text("epoch")), interval);
        return DatumGetFloat8(DirectFunctionCall1(numeric_float8, epoch));
      });
      if (seconds < 0) throw tasker::Error(sqlstate::kInvalidParameter, "retry_after must not be negative");
      detail["retry_after_seconds"] = seconds;
    }
    if (!args.is_null(2)) {
      const int limit = args.int4(2, "max_attempts");
      if (limit < 1) throw tasker::Error(sqlstate::kInvalidParameter, "max_attempts must be at least 1");
      detail["max_attempts"] = limit;
    }
    if (!args.is_null(3)) detail["context"] = core::parse_json(args.json_text(3, "context"));
    throw tasker::Error(sqlstate::kRetryable, args.text(0, "message"), detail.dump());
  });
}

TASKER_SQL_FUNCTION(tasker_raise_permanent) {
  return pg::entry([&]() -> Datum {
    const pg::Args args(fcinfo);
    core::json detail = core::json::object();
    detail["reason"] = args.text_or_null(1).value_or("unspecified");
    if (!args.is_null(2)) detail["context"] = core::parse_json(args.json_text(2, "context"));
    throw tasker::Error(sqlstate::kPermanent, args.text(0, "message"), detail.dump());
  });
}
