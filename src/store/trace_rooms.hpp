// Places for the traces that wait: so many for each subscription of kind traces, counted in shared memory. A move whose trace finds no
// place writes nothing of it, so that a collector that is slow, or gone, costs the steps nothing; what was dropped is counted.
//
// A place is taken before the row is written and given back when the row is rolled back, or at the commit of what deletes it. Rows that
// go otherwise keep their places until these are counted again, which the dispatcher does where all are taken. Without the preload, and
// while no room is free for one more subscription, nothing is bounded. A crash of the server loses what was dropped since the dispatcher
// looked last.
// Precondition of all that read or write tables: inside pg::OwnerScope and pg::Spi.
#pragma once

#include <cstdint>
#include <vector>

#include "store/shared_state.hpp"

namespace tasker::store {

inline constexpr int kMostWaitingTraces = 10'000;

// false: all places are taken. `others`: subscriptions there are; a room of any other may be used anew.
bool take_trace_place(std::int64_t subscription_id, const std::vector<std::int64_t> &others);
// At the commit of this transaction one more has been dropped. true: its first one, of which the dispatcher must hear.
bool note_dropped_trace(std::int64_t subscription_id);

// The dispatcher's side. Subscriptions of which traces were dropped since it looked last.
std::vector<std::int64_t> subscriptions_with_drops();
// Writes down what was dropped, and counts the places again where all are taken (but not all the time). Returns what it has written.
std::int64_t tend_trace_room(std::int64_t subscription_id);
// At the commit of this transaction so many places are free again, and so many that were dropped are written down.
void settle_trace_room(std::int64_t subscription_id, std::int64_t freed, std::int64_t written);

// Once per process, from _PG_init, after register_hint_callback: the last that registers is called first, and the dispatcher hears of
// drops when they have been counted.
void register_trace_callbacks();

}  // namespace tasker::store
