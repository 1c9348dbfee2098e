// A time limit on user code, armed by the process itself: when it passes, the running statement is cancelled
// (SQLSTATE 57014) as if by statement_timeout, which Postgres arms only for statements of clients.
#pragma once

namespace tasker::pg {

// Arms; replaces one that is armed.
void arm_deadline(int milliseconds);
// Disarms. True when it had passed. Clears a cancel that came too late to be served.
bool disarm_deadline() noexcept;

}  // namespace tasker::pg
