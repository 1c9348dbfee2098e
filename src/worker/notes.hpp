// Crash notes: which handler each executor was in, kept in a small file that outlives the process.
//
// Before a handler the executor writes its slot of the file, over the handler before it; after the last one of a batch it clears it.
// A process that is told to quit because another one crashed marks its note first (bystander). What the launcher finds unmarked after
// a restart names the culprit. Plain pwrite: a full disk costs a warning, never the server.
#pragma once

#include <vector>

#include "pg/bridge.hpp"
#include "store/keys.hpp"

namespace tasker::worker {

struct Note {
  std::uint32_t magic;
  std::uint32_t active;
  std::uint32_t bystander;
  Oid database;
  TimestampTz server_start;
  std::uint64_t nonce;   // of this one run: counted once
  store::StepKey key;
  std::int32_t moves;
};

// The executor's side.
void open_note(int slot);
void write_note(const store::StepKey &key, int moves) noexcept;
void clear_note() noexcept;
void install_quit_handler();  // SIGQUIT, from a postmaster that clears the field, marks the note and leaves

// The launcher's: forgets notes of databases that are gone, flags the slots of the others.
void collect_crash_notes(const std::vector<Oid> &databases);
// The dispatcher's: notes of crashed runs of this database. forget_note after their count is committed.
struct CrashedRun {
  int slot;
  Note note;
  bool same_server;  // the postmaster that still runs; else an older one (power loss, kill -9 of the postmaster)
};
std::vector<CrashedRun> crashed_runs();
void forget_note(int slot);

}  // namespace tasker::worker
