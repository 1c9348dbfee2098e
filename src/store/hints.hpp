// What a transaction tells the dispatcher at its commit.
//
// Hints are collected while the transaction runs and copied into the database's ring by a transaction callback
// that allocates nothing, takes one LWLock and sets a latch: an error there would be a server PANIC. More than
// kMaxHints become one request to sweep. Rolled-back savepoints leave harmless hints behind. At PREPARE the
// hints are dropped; COMMIT PREPARED asks for a sweep (see api/utility_hook.cpp). Without the preload
// everything here does nothing.
#pragma once

#include <optional>

#include "store/shared_state.hpp"

namespace tasker::store {

void add_hint(const Hint &hint);
void request_sweep();
// Wakes wait_for_task of this task at commit.
void task_finished(std::int64_t task_id);
// CREATE EXTENSION: tells the launcher at commit that this database has the extension.
void announce_database();

// Raises the database's pause generation at commit: an order of pause_tasks began or ended, or a definition came into a
// scope (see store/pauses.hpp).
void note_pauses_changed();
// Has this transaction noted such a change? Others do not see it yet, and it may be rolled back.
bool pauses_changed_here();
// Raises it at once (workers).
void push_pauses_changed_now();
// Null: no preload, or no room for this database.
DatabaseSlot *own_database_slot();
LWLock *own_ring_lock();  // where there is one
// 0: unknown (no preload, or no room for this database): whoever asks reads the tables.
std::uint64_t pause_generation();

// Once per process, from _PG_init.
void register_hint_callback();

// Sends hints at once, outside of any transaction (workers).
void push_hints_now(const Hint *hints, int count);

// The dispatcher's side: takes up to `limit` hints. `lost` tells that some were, or that somebody asked for a sweep: none of them was
// of a task before that id.
int take_hints(int database_index, Hint *out, int limit, std::optional<std::int64_t> *lost);

}  // namespace tasker::store
