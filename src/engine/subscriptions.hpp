// Subscriptions to events: who is told of what, and how it gets there.
//
// A delivery is a task: its definition is made by subscribe, its owner is that of the subscription, its context are the
// events, and its one step calls the function or the endpoint. Retries, time limits, breakers, rights and secrets are those of
// every step. One task at a time keeps the order; one that fails makes the subscription dead until somebody resumes it.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "engine/control.hpp"
#include "pg/spi.hpp"

namespace tasker::engine {

struct NewSubscription {
  std::string name;
  std::vector<std::string> events;
  std::string kind, target;              // notify: a channel; function: schema.name; webhook, traces: a server of tasker_http
  std::optional<std::string> ns, task_name, path;
  int max_attempts = 0;
};

// The id. The same name again changes the subscription; what waits is kept. Raises 22023 for bad values, 42501 for a name that is somebody
// else's, and what define_task and create_task would raise.
std::int64_t subscribe(const NewSubscription &request);

// These raise 02000 for a subscription that does not exist or is not the caller's to control.
void unsubscribe(const std::string &name);
bool pause_subscription(const std::string &name, const Reason &reason);
// true: it was paused or dead.
bool resume_subscription(const std::string &name, const Reason &reason);
// For subscriptions of kind notify. Rows as store::take_events gives them. Precondition: inside pg::Spi.
pg::Result take_events(const std::string &name, int max_events);

// What the dispatcher does, in its transaction: settles deliveries that have ended and begins those that are due, for at most
// `limit` subscriptions. notify: tells listeners too.
struct DeliveryRound {
  bool more = false;   // there are others
  bool again = false;  // somebody holds one locked, or a trouble passes by itself
  bool traces_began = false, traces_wait = false;
};
// traces: deliveries of traces, which cost more than others, may begin.
DeliveryRound deliver_events(bool notify, bool traces, int limit);

}  // namespace tasker::engine
