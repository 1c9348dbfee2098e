// Steps that wait: for a time (type wait) or for somebody's word (type signal).
#pragma once

#include <optional>
#include <vector>

#include "engine/batch.hpp"

namespace tasker::engine {

// When a wait that begins now is over. Raises 22023 when its template finds no value, 22007 or 22008 for what is no timestamp.
TimestampTz wait_until(const Batch &batch, const Outcome &outcome);
OutsideEnd wait_is_over(TimestampTz until, MemoryContext memory);

// A signal that was sent and that no step has taken.
struct SentSignal {
  std::int64_t signal_id = 0;
  Datum payload = 0;  // jsonb
  Oid sender = InvalidOid;
};
// Takes the first one for this step, if there is one. Precondition: inside pg::OwnerScope and pg::Spi.
std::optional<SentSignal> take_signal(const store::StepKey &key, MemoryContext memory);
OutsideEnd signal_came(const SentSignal &signal);
// What on_timeout says.
OutsideEnd signal_stayed_out(const store::CompiledStep &step, MemoryContext memory);

// send_signal. Raises 02000 for a task the caller may neither see nor send to, 42501 when no step accepts him, 22023 when
// no step waits for this name, TK004 for a task that is over.
std::int64_t send_signal(std::int64_t task_id, const std::string &name, Datum payload);
// May this role send this step's signal?
bool accepts_sender(const store::CompiledStep &step, Oid owner, Oid role);

}  // namespace tasker::engine
