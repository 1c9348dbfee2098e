#include "store/limit_figures.hpp"

#include <algorithm>
#include <cstring>

#include "store/shared_state.hpp"

namespace tasker::store {

namespace {

inline constexpr int kEntries = 1024;

struct Entry {
  Oid database;  // InvalidOid: free
  core::GroupId id;
};
struct Area {
  pg_atomic_uint32 used;
  int top;               // entries from here on have never been used
  Entry entries[kEntries];  // apart, because they are searched
  core::GroupFigures figures[kEntries];
};
constinit Area *area = nullptr;
constinit LWLock *lock = nullptr;

int find(const core::GroupId &id) {
  for (int i = 0; i < area->top; i++)
    if (area->entries[i].database == MyDatabaseId && area->entries[i].id == id) return i;
  return -1;
}

void release(int index) noexcept {
  area->entries[index].database = InvalidOid;
  pg_atomic_fetch_sub_u32(&area->used, 1);
}

int take(const core::GroupId &id) {
  for (int i = 0; i < kEntries; i++) {
    if (OidIsValid(area->entries[i].database)) continue;
    area->top = std::max(area->top, i + 1);
    area->entries[i] = {MyDatabaseId, id};
    pg_atomic_fetch_add_u32(&area->used, 1);
    return i;
  }
  return -1;
}

// A value of a key that nobody runs or waits under is told of no more.
bool is_over(const core::GroupFigures &figures) { return figures.id.key != 0 && figures.running == 0 && figures.let_out == 0 && figures.waiting == 0; }

}  // namespace

void request_limit_figures() {
  RequestAddinShmemSpace(MAXALIGN(sizeof(Area)));
  RequestNamedLWLockTranche("tasker_limits", 1);
}

void attach_limit_figures() {
  bool found = false;
  area = static_cast<Area *>(ShmemInitStruct("tasker limits", sizeof(Area), &found));
  lock = &GetNamedLWLockTranche("tasker_limits")->lock;
  if (found) return;
  std::memset(static_cast<void *>(area), 0, sizeof(Area));
  pg_atomic_init_u32(&area->used, 0);
}

void publish_limits(const std::vector<core::GroupFigures> &figures) {
  if (figures.empty()) return;
  const LockGuard guard(lock, LW_EXCLUSIVE);
  for (const core::GroupFigures &each : figures) {
    int index = find(each.id);
    if (is_over(each)) {
      if (index >= 0) release(index);
      continue;
    }
    if (index < 0) index = take(each.id);
    if (index >= 0) area->figures[index] = each;
  }
}

std::vector<core::GroupFigures> published_limits() {
  std::vector<core::GroupFigures> out;
  out.reserve(kEntries);  // nothing is allocated under the lock
  const LockGuard guard(lock, LW_SHARED);
  for (int i = 0; i < area->top; i++)
    if (area->entries[i].database == MyDatabaseId) out.push_back(area->figures[i]);
  return out;
}

void drop_limit_figures(const std::vector<int> &limits_that_stay) {
  const LockGuard guard(lock, LW_EXCLUSIVE);
  for (int i = 0; i < area->top; i++) {
    const Entry &entry = area->entries[i];
    if (entry.database == MyDatabaseId && std::find(limits_that_stay.begin(), limits_that_stay.end(), entry.id.limit) == limits_that_stay.end()) release(i);
  }
}

void forget_limit_figures(Oid database) noexcept {
  if (area == nullptr) return;
  LWLockAcquire(lock, LW_EXCLUSIVE);
  for (int i = 0; i < area->top; i++)
    if (area->entries[i].database == database) release(i);
  LWLockRelease(lock);
}

bool any_limit_figures() { return area != nullptr && pg_atomic_read_u32(&area->used) > 0; }

std::optional<core::GroupFigures> limit_figures(const core::GroupId &id) {
  if (!any_limit_figures()) return std::nullopt;
  const LockGuard guard(lock, LW_SHARED);
  const int index = find(id);
  if (index < 0) return std::nullopt;
  return area->figures[index];
}

}  // namespace tasker::store
