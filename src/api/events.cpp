// Events: arguments in, engine/subscriptions.hpp does it; and what the views ask.
#include "core/events.hpp"

#include "engine/subscriptions.hpp"
#include "pg/args.hpp"

using namespace tasker;

TASKER_SQL_FUNCTION(tasker_event_kinds) {
  return pg::entry([&]() -> Datum {
    pg::RowSet rows(fcinfo);
    for (const core::EventKind &kind : core::event_kinds())
      rows.text(kind.name).text(kind.of_step ? "step" : "task").text(kind.description).datum(pg::jsonb_datum(core::event_payload_schema(kind.of_step, false))).end_row();
    return Datum(0);
  });
}

TASKER_SQL_FUNCTION(tasker_custom_event_schema) {
  return pg::entry([&]() -> Datum {
    (void)fcinfo;
    return pg::jsonb_datum(core::event_payload_schema(true, true));
  });
}

TASKER_SQL_FUNCTION(tasker_event_name) {
  return pg::entry([&]() -> Datum {
    const pg::Args args(fcinfo);
    const std::string subject = args.text(0, "subject"), from = args.text(1, "from_state"), to = args.text(2, "to_state");
    const char *name = nullptr;
    if (subject == "step") {
      const auto a = core::parse_step_state(from), b = core::parse_step_state(to);
      if (a && b) name = core::event_of(*a, *b);
    } else {
      const auto a = core::parse_task_state(from), b = core::parse_task_state(to);
      if (a && b) name = core::event_of(*a, *b);
    }
    fcinfo->isnull = name == nullptr;
    return name == nullptr ? Datum(0) : pg::text_datum(name);
  });
}

TASKER_SQL_FUNCTION(tasker_subscribe) {
  return pg::entry([&]() -> Datum {
    const pg::Args args(fcinfo);
    engine::NewSubscription request;
    request.name = args.text(0, "subscription_name");
    request.events = args.texts(1, "events");
    request.kind = args.text(2, "kind");
    request.target = args.text(3, "target");
    request.ns = args.text_or_null(4);
    request.task_name = args.text_or_null(5);
    request.path = args.text_or_null(6);
    request.max_attempts = args.int4(7, "max_attempts");
    return Int64GetDatum(engine::subscribe(request));
  });
}

TASKER_SQL_FUNCTION(tasker_unsubscribe) {
  return pg::entry([&]() -> Datum {
    engine::unsubscribe(pg::Args(fcinfo).text(0, "subscription_name"));
    return Datum(0);
  });
}

TASKER_SQL_FUNCTION(tasker_pause_subscription) {
  return pg::entry([&]() -> Datum {
    const pg::Args args(fcinfo);
    return BoolGetDatum(engine::pause_subscription(args.text(0, "subscription_name"), args.text_or_null(1)));
  });
}

TASKER_SQL_FUNCTION(tasker_resume_subscription) {
  return pg::entry([&]() -> Datum {
    const pg::Args args(fcinfo);
    return BoolGetDatum(engine::resume_subscription(args.text(0, "subscription_name"), args.text_or_null(1)));
  });
}

TASKER_SQL_FUNCTION(tasker_take_events) {
  return pg::entry([&]() -> Datum {
    const pg::Args args(fcinfo);
    const std::string name = args.text(0, "subscription_name");
    const int max_events = args.int4(1, "max_events");
    pg::RowSet rows(fcinfo);
    pg::Spi spi;
    const pg::Result taken = engine::take_events(name, max_events);
    for (std::uint64_t i = 0; i < taken.rows.size(); i++) {
      for (int column = 1; column <= 6; column++) {
        if (taken.rows.is_null(i, column)) rows.null();
        else rows.datum(taken.rows.datum(i, column));
      }
      rows.end_row();
    }
    return Datum(0);
  });
}
