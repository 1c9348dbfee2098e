// Answers by question, in a fixed piece of memory: which are kept, for how long, and who works one out.
//
// Plain data without pointers, so that it may lie in shared memory at whatever address; without a lock and a clock, which the
// caller has (store/cache). A question is compared in full, never by its hash alone. At most one turn is out per question:
// whoever has it works the answer out and publishes it or gives it up; a turn that was taken away publishes nothing.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string_view>

#include "core/cache_policy.hpp"

namespace tasker::core {

inline constexpr std::size_t kLongestArguments = 512;
inline constexpr std::size_t kCacheBlock = 4096;
inline constexpr std::size_t kLongestAnswer = 256 * 1024;

// The functions whose answers are kept.
enum class CachedFunction : std::uint8_t { kPerformanceReport, kAnalyticsMetrics, kSlowestSteps, kSlowestTasks, kTemplateAnalysis };
inline constexpr int kCachedFunctions = 5;
const char *to_string(CachedFunction function) noexcept;
double base_ttl_seconds(CachedFunction function) noexcept;

// Two of the same realm, role, function and arguments are one question; its answer is right for one epoch only (an hour), while what is
// learnt of it lasts.
struct CacheQuestion {
  std::uint32_t database = 0, extension = 0;  // the realm
  std::uint32_t role = 0;                     // who asks
  CachedFunction function = CachedFunction::kPerformanceReport;
  std::string_view arguments;
  std::int64_t epoch = 0;
};

struct CacheEntry {
  std::uint32_t database, extension, role;  // database 0: free
  CachedFunction function;
  bool unfit;               // too large, say: until expires_at the answer is not kept and nobody waits for it
  std::uint16_t argument_length;
  char arguments[kLongestArguments];
  std::int64_t epoch;
  std::int32_t block;       // the first of the answer; -1: none
  std::uint32_t length;
  std::int64_t generated_at, expires_at;
  CacheUse use;
  std::uint64_t turn;       // 0: nobody works it out
  std::int32_t worker;      // who does, as the caller numbers them
  std::int64_t waited;      // how often somebody waited for another's answer

  std::string_view asked() const noexcept { return {arguments, argument_length}; }
  // A clock that was set back must not make it last; a second of it is who looked at the clock first.
  bool has_answer(std::int64_t now) const noexcept { return block >= 0 && now < expires_at && now > generated_at - 1'000'000; }
};

enum class CacheStep : std::uint8_t {
  kAnswer,  // it is there
  kTurn,    // work it out, then publish or give_up
  kWait,    // somebody else does: ask again
  kPass,    // work it out for yourself alone
};

struct CacheReply {
  CacheStep step = CacheStep::kPass;
  std::uint64_t turn = 0;
  std::int32_t worker = 0;  // of kWait
  std::size_t length = 0;   // of kAnswer
  std::int64_t generated_at = 0, expires_at = 0;
};

struct Published {
  bool kept = false;
  std::int64_t expires_at = 0;
};

class CacheTable {
 public:
  static std::size_t size(int entries, int blocks) noexcept;
  static CacheTable *make(void *memory, int entries, int blocks) noexcept;
  CacheTable(const CacheTable &) = delete;
  CacheTable &operator=(const CacheTable &) = delete;

  // The answer is copied to `out`, which has room for kLongestAnswer. `again`: asked before by the same caller, who has waited: not
  // another access.
  CacheReply ask(const CacheQuestion &question, std::int64_t now, std::int32_t worker, bool again, char *out) noexcept;
  // Times as of the beginning of the work, which is what the answer shows. Without an answer: this one cannot be kept.
  Published publish(const CacheQuestion &question, std::uint64_t turn, std::optional<std::string_view> answer, std::int64_t begun, double seconds) noexcept;
  // False: it was taken away before.
  bool give_up(const CacheQuestion &question, std::uint64_t turn) noexcept;
  // Takes the turn from a worker that is no more.
  void take_away(const CacheQuestion &question, std::uint64_t turn) noexcept { (void)give_up(question, turn); }
  // All turns of a worker that leaves.
  bool give_up_all(std::int32_t worker) noexcept;
  // Forgets answers, not what was learnt; those under way are not published. `function` null: all. How many answers went.
  int clear(std::uint32_t database, const CachedFunction *function) noexcept;

  // Forgets all of a database, what was learnt too.
  void forget(std::uint32_t database) noexcept;

  int entry_count() const noexcept { return entry_count_; }
  const CacheEntry &entry(int index) const noexcept { return entries()[index]; }
  int free_blocks() const noexcept { return free_count_; }

 private:
  CacheTable() = default;
  CacheEntry *entries() noexcept { return reinterpret_cast<CacheEntry *>(reinterpret_cast<char *>(this) + entries_offset()); }
  const CacheEntry *entries() const noexcept { return const_cast<CacheTable *>(this)->entries(); }
  std::int32_t *next() noexcept { return reinterpret_cast<std::int32_t *>(reinterpret_cast<char *>(this) + next_offset(entry_count_)); }
  char *data(std::int32_t block) noexcept {
    return reinterpret_cast<char *>(this) + data_offset(entry_count_, block_count_) + static_cast<std::size_t>(block) * kCacheBlock;
  }
  static std::size_t entries_offset() noexcept;
  static std::size_t next_offset(int entries) noexcept;
  static std::size_t data_offset(int entries, int blocks) noexcept;

  CacheEntry *find(const CacheQuestion &question) noexcept;
  CacheEntry *place(const CacheQuestion &question, std::int64_t now) noexcept;
  void vacate(CacheEntry &entry) noexcept;
  void drop_answer(CacheEntry &entry) noexcept;
  bool make_room(int blocks, const CacheEntry &but, std::int64_t now) noexcept;
  void store(CacheEntry &entry, std::string_view answer) noexcept;
  void load(const CacheEntry &entry, char *out) noexcept;

  std::uint64_t last_turn_;
  std::int32_t entry_count_, block_count_, free_block_, free_count_;
};

}  // namespace tasker::core
