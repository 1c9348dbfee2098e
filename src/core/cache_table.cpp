#include "core/cache_table.hpp"

#include <algorithm>
#include <cstring>
#include <new>

namespace tasker::core {
namespace {

constexpr std::size_t align(std::size_t size) { return (size + 63) / 64 * 64; }
// An empty answer takes one, too: it is one.
constexpr int blocks_of(std::size_t length) { return std::max(1, static_cast<int>((length + kCacheBlock - 1) / kCacheBlock)); }
std::int64_t microseconds(double seconds) { return static_cast<std::int64_t>(seconds * 1e6); }

}  // namespace

const char *to_string(CachedFunction function) noexcept {
  switch (function) {
    case CachedFunction::kPerformanceReport: return "performance_report";
    case CachedFunction::kAnalyticsMetrics: return "get_analytics_metrics";
    case CachedFunction::kSlowestSteps: return "get_slowest_steps";
    case CachedFunction::kSlowestTasks: return "get_slowest_tasks";
    case CachedFunction::kTemplateAnalysis: return "analyze_template";
  }
  return "unknown";
}

double base_ttl_seconds(CachedFunction function) noexcept {
  switch (function) {
    case CachedFunction::kPerformanceReport:
    case CachedFunction::kAnalyticsMetrics: return 90;
    case CachedFunction::kSlowestSteps:
    case CachedFunction::kSlowestTasks:
    case CachedFunction::kTemplateAnalysis: return 120;
  }
  return kShortestTtl;
}

std::size_t CacheTable::entries_offset() noexcept { return align(sizeof(CacheTable)); }
std::size_t CacheTable::next_offset(int entries) noexcept { return align(entries_offset() + sizeof(CacheEntry) * static_cast<std::size_t>(entries)); }
std::size_t CacheTable::data_offset(int entries, int blocks) noexcept {
  return align(next_offset(entries) + sizeof(std::int32_t) * static_cast<std::size_t>(blocks));
}
std::size_t CacheTable::size(int entries, int blocks) noexcept { return data_offset(entries, blocks) + kCacheBlock * static_cast<std::size_t>(blocks); }

// The blocks themselves are not touched: memory that is never used is never paid for.
CacheTable *CacheTable::make(void *memory, int entries, int blocks) noexcept {
  auto *table = ::new (memory) CacheTable;
  table->last_turn_ = 0;
  table->entry_count_ = entries;
  table->block_count_ = table->free_count_ = blocks;
  table->free_block_ = blocks > 0 ? 0 : -1;
  for (int i = 0; i < entries; i++) {
    CacheEntry *entry = ::new (static_cast<void *>(table->entries() + i)) CacheEntry{};
    entry->block = -1;
  }
  for (int i = 0; i < blocks; i++) table->next()[i] = i + 1 < blocks ? i + 1 : -1;
  return table;
}

CacheEntry *CacheTable::find(const CacheQuestion &question) noexcept {
  for (int i = 0; i < entry_count_; i++) {
    CacheEntry &entry = entries()[i];
    if (entry.database == question.database && entry.database != 0 && entry.extension == question.extension && entry.role == question.role &&
        entry.function == question.function && entry.asked() == question.arguments)
      return &entry;
  }
  return nullptr;
}

// A free entry, or that of the question which is worth least; null when all are being worked out.
CacheEntry *CacheTable::place(const CacheQuestion &question, std::int64_t now) noexcept {
  CacheEntry *chosen = nullptr;
  for (int i = 0; i < entry_count_; i++) {
    CacheEntry &entry = entries()[i];
    if (entry.turn != 0) continue;
    if (entry.database == 0) {
      chosen = &entry;
      break;
    }
    if (chosen == nullptr || entry.use.worth(now) < chosen->use.worth(now)) chosen = &entry;
  }
  if (chosen == nullptr) return nullptr;
  vacate(*chosen);
  chosen->database = question.database;
  chosen->extension = question.extension;
  chosen->role = question.role;
  chosen->function = question.function;
  chosen->epoch = question.epoch;
  chosen->argument_length = static_cast<std::uint16_t>(question.arguments.size());
  std::memcpy(chosen->arguments, question.arguments.data(), question.arguments.size());
  return chosen;
}

CacheReply CacheTable::ask(const CacheQuestion &question, std::int64_t now, std::int32_t worker, bool again, char *out) noexcept {
  CacheReply reply;
  if (question.arguments.size() > kLongestArguments || question.database == 0) return reply;
  CacheEntry *entry = find(question);
  if (entry == nullptr) entry = place(question, now);
  if (entry == nullptr) return reply;
  if (entry->epoch == question.epoch && entry->has_answer(now)) {
    entry->use.record_question(now, true);
    load(*entry, out);
    return {CacheStep::kAnswer, 0, 0, entry->length, entry->generated_at, entry->expires_at};
  }
  const bool hopeless = entry->unfit && entry->epoch == question.epoch && now < entry->expires_at;
  if (entry->turn != 0 && entry->epoch == question.epoch && entry->worker != worker && !hopeless) {
    if (!again) entry->waited++;
    return {CacheStep::kWait, entry->turn, entry->worker, 0, 0, 0};
  }
  entry->use.record_question(now, false);
  // Of the same caller: the question is asked within its own answer.
  if (hopeless || (entry->turn != 0 && entry->worker == worker)) return reply;
  drop_answer(*entry);
  entry->epoch = question.epoch;
  entry->unfit = false;
  entry->turn = ++last_turn_;
  entry->worker = worker;
  return {CacheStep::kTurn, entry->turn, 0, 0, 0, 0};
}

Published CacheTable::publish(const CacheQuestion &question, std::uint64_t turn, std::optional<std::string_view> answer, std::int64_t begun, double seconds) noexcept {
  CacheEntry *entry = find(question);
  if (entry == nullptr || entry->turn != turn || turn == 0) return {};
  entry->turn = 0;
  entry->use.record_generation(seconds);
  drop_answer(*entry);
  const double ttl = plan_ttl(base_ttl_seconds(entry->function), entry->use, begun).ttl_seconds;
  entry->generated_at = begun;
  entry->expires_at = begun + microseconds(ttl);
  entry->unfit = !answer || answer->size() > kLongestAnswer || !make_room(blocks_of(answer->size()), *entry, begun);
  if (entry->unfit) return {};
  store(*entry, *answer);
  return {true, entry->expires_at};
}

bool CacheTable::give_up(const CacheQuestion &question, std::uint64_t turn) noexcept {
  CacheEntry *entry = find(question);
  if (entry == nullptr || turn == 0 || entry->turn != turn) return false;
  entry->turn = 0;
  return true;
}

bool CacheTable::give_up_all(std::int32_t worker) noexcept {
  bool any = false;
  for (int i = 0; i < entry_count_; i++) {
    CacheEntry &entry = entries()[i];
    if (entry.turn == 0 || entry.worker != worker) continue;
    entry.turn = 0;
    any = true;
  }
  return any;
}

int CacheTable::clear(std::uint32_t database, const CachedFunction *function) noexcept {
  int gone = 0;
  for (int i = 0; i < entry_count_; i++) {
    CacheEntry &entry = entries()[i];
    if (entry.database != database || database == 0 || (function != nullptr && entry.function != *function)) continue;
    gone += entry.block >= 0 ? 1 : 0;
    drop_answer(entry);
    entry.unfit = false;
    entry.turn = 0;
  }
  return gone;
}

void CacheTable::forget(std::uint32_t database) noexcept {
  for (int i = 0; i < entry_count_; i++)
    if (entries()[i].database == database) vacate(entries()[i]);
}

void CacheTable::vacate(CacheEntry &entry) noexcept {
  drop_answer(entry);
  entry = {};
  entry.block = -1;
}

void CacheTable::drop_answer(CacheEntry &entry) noexcept {
  while (entry.block >= 0) {
    const std::int32_t block = entry.block;
    entry.block = next()[block];
    next()[block] = free_block_;
    free_block_ = block;
    free_count_++;
  }
  entry.length = 0;
  entry.generated_at = entry.expires_at = 0;
}

// Other answers go, those that are over first, then those worth least; what was learnt of them stays.
bool CacheTable::make_room(int blocks, const CacheEntry &but, std::int64_t now) noexcept {
  if (blocks > block_count_) return false;
  const auto worth = [now](const CacheEntry &entry) { return entry.has_answer(now) ? entry.use.worth(now) : -1; };
  while (free_count_ < blocks) {
    CacheEntry *least = nullptr;
    for (int i = 0; i < entry_count_; i++) {
      CacheEntry &entry = entries()[i];
      if (entry.block < 0 || &entry == &but) continue;
      if (least == nullptr || worth(entry) < worth(*least)) least = &entry;
    }
    if (least == nullptr) return false;
    drop_answer(*least);
  }
  return true;
}

// Precondition: make_room.
void CacheTable::store(CacheEntry &entry, std::string_view answer) noexcept {
  std::int32_t *link = &entry.block;
  entry.length = static_cast<std::uint32_t>(answer.size());
  do {
    const std::int32_t block = free_block_;
    free_block_ = next()[block];
    free_count_--;
    const std::size_t part = std::min(answer.size(), kCacheBlock);
    std::memcpy(data(block), answer.data(), part);
    answer.remove_prefix(part);
    *link = block;
    link = &next()[block];
    *link = -1;
  } while (!answer.empty());
}

void CacheTable::load(const CacheEntry &entry, char *out) noexcept {
  std::size_t left = entry.length;
  for (std::int32_t block = entry.block; block >= 0 && left > 0; block = next()[block]) {
    const std::size_t part = std::min(left, kCacheBlock);
    std::memcpy(out, data(block), part);
    out += part;
    left -= part;
  }
}

}  // namespace tasker::core
