// Traces of tasks that have ended, as subscriptions of kind traces deliver them. Precondition: inside pg::OwnerScope and pg::Spi.
#pragma once

#include "store/subscriptions.hpp"

namespace tasker::store {

// A delivery that has failed for good: its traces are dropped, and counted; those after it go their way. Returns how many events are gone
// from the outbox.
std::int64_t drop_delivery(std::int64_t subscription_id, const std::string &why);
// A collector may take a delivery and yet refuse spans of it, which it then says in its answer: that becomes the last error.
void note_refused_spans(std::int64_t subscription_id, std::int64_t delivery_task_id);

// The first that wait, at most so many bytes, but one at least: what is too large is cut. The context is an OTLP request.
Delivery next_traces(const SubscriptionRow &row, std::int64_t nonce, int max_bytes);

}  // namespace tasker::store
