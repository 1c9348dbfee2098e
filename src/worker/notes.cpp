#include "worker/notes.hpp"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cstddef>
#include <cstring>

#include "store/shared_state.hpp"

extern "C" {
#include "common/pg_prng.h"
}

namespace tasker::worker {

namespace {

inline constexpr std::uint32_t kMagic = 0x7461736b;
inline constexpr off_t kPlace = 512;
constexpr const char *kFile = PG_STAT_TMP_DIR "/tasker_notes";

constinit int file = -1;
constinit off_t place = 0;
constinit Note mine = {};
constinit bool warned = false;

bool put(int fd, off_t at, const void *data, std::size_t size) noexcept {
  return pwrite(fd, data, size, at) == static_cast<ssize_t>(size);
}

// Async-signal-safe: one pwrite, then out, as Postgres's own quickdie.
extern "C" void quit_marked(int) {
  if (file >= 0 && mine.active != 0) {
    const std::uint32_t yes = 1;
    (void)put(file, place + static_cast<off_t>(offsetof(Note, bystander)), &yes, sizeof yes);
  }
  _exit(2);
}

int open_file() {
  const int fd = open(kFile, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
  if (fd < 0 && !warned) {
    warned = true;
    pg::report(pg::Level::kWarning, "tasker: could not open the file of crash notes", strerror(errno));
  }
  return fd;
}

}  // namespace

void open_note(int slot) {
  file = open_file();
  place = kPlace * slot;
  mine = {};
  mine.magic = kMagic;
  mine.database = MyDatabaseId;
  mine.server_start = PgStartTime;
}

void write_note(const store::StepKey &key, int moves) noexcept {
  if (file < 0) return;
  mine.active = 1;
  mine.bystander = 0;
  mine.nonce = pg_prng_uint64(&pg_global_prng_state);
  mine.key = key;
  mine.moves = moves;
  if (!put(file, place, &mine, sizeof mine) && !warned) {
    warned = true;
    pg::report(pg::Level::kWarning, "tasker: could not write a crash note", strerror(errno), "Work goes on; a step that crashes the server will not be recognised.");
  }
}

void clear_note() noexcept {
  if (file < 0 || mine.active == 0) return;
  mine.active = 0;
  (void)put(file, place + static_cast<off_t>(offsetof(Note, active)), &mine.active, sizeof mine.active);
}

void install_quit_handler() { pqsignal(SIGQUIT, quit_marked); }

static bool read_note(int fd, int slot, Note *note) {
  return pread(fd, note, sizeof *note, kPlace * slot) == static_cast<ssize_t>(sizeof *note) && note->magic == kMagic;
}

void collect_crash_notes(const std::vector<Oid> &databases) {
  const int fd = open_file();
  if (fd < 0) return;
  for (int i = 0; i < store::shared->executor_count; i++) {
    store::ExecutorSlot &slot = store::executor_slot(i);
    Note note;
    // A slot in use means that only the launcher was restarted.
    if (slot.state != store::ExecutorState::kFree || !read_note(fd, i, &note) || note.active == 0) continue;
    const bool known = std::find(databases.begin(), databases.end(), note.database) != databases.end();
    if (known && note.bystander == 0) {
      slot.note_pending = true;
    } else {
      const std::uint32_t zero = 0;
      (void)put(fd, kPlace * i + static_cast<off_t>(offsetof(Note, active)), &zero, sizeof zero);
    }
  }
  close(fd);
}

std::vector<CrashedRun> crashed_runs() {
  std::vector<CrashedRun> out;
  const int fd = open_file();
  if (fd < 0) return out;
  for (int i = 0; i < store::shared->executor_count; i++) {
    CrashedRun run{i, {}, false};
    if (!store::executor_slot(i).note_pending || !read_note(fd, i, &run.note) || run.note.database != MyDatabaseId) continue;
    run.same_server = run.note.server_start == PgStartTime;
    out.push_back(run);
  }
  close(fd);
  return out;
}

void forget_note(int slot) {
  const int fd = open_file();
  if (fd < 0) return;
  const std::uint32_t zero = 0;
  (void)put(fd, kPlace * slot + static_cast<off_t>(offsetof(Note, active)), &zero, sizeof zero);
  close(fd);
  store::executor_slot(slot).note_pending = false;
}

}  // namespace tasker::worker
