// How long finished tasks are kept, and where the walk that removes them stands. Times in microseconds.
//
// The walk goes over all tasks by id, which is nearly the order of their creation: nothing created later than `now` minus
// the shortest retention can be due, so it ends there, and goes on from there when the next one may be. What it had to
// leave behind (live, not due yet, held back by an open dead letter) it comes to again when it starts over.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <unordered_map>
#include <vector>

namespace tasker::core {

inline constexpr std::int64_t kKeepForever = -1;
inline constexpr std::int64_t kNever = INT64_MAX;

struct RetentionRules {
  std::int64_t fallback = kKeepForever;                  // of namespaces without a rule of their own
  std::unordered_map<int, std::int64_t> by_namespace;

  std::int64_t of(int namespace_id) const;
  std::int64_t shortest() const;                         // kKeepForever: nothing is ever due
  friend bool operator==(const RetentionRules &, const RetentionRules &) = default;
};

struct WalkedTask {
  std::int64_t task_id = 0, created_at = 0;
  std::optional<std::int64_t> finished_at;               // nothing: live
  int namespace_id = 0;
  int steps = 0;
  bool held = false;                                     // due, and not removed
};

// What of a page, ascending by id, is due; and how much of it the walk may pass.
struct PagePlan {
  std::vector<std::size_t> due;
  std::size_t passed = 0;                                // rows; those after them are too young
};
PagePlan plan_page(const std::vector<WalkedTask> &page, const RetentionRules &rules, std::int64_t now);

// One step of a walk: from a position to the next one.
struct WalkStep {
  std::int64_t position = 0;                             // all ids up to this one have been looked at
  std::int64_t last_seen = 0;                            // the last task it came to
  std::int64_t removed = 0;
  std::vector<WalkedTask> left;                          // looked at and left behind
  std::vector<WalkedTask> young;                         // not empty: the walk ends before them
  bool at_end = false;                                   // there is no task after position
};

struct WalkMark {
  std::int64_t held = 0;                                 // due, and not removed
  std::optional<std::int64_t> oldest_finished_at;
};

class RetentionWalk {
 public:
  // From the first id on, at once.
  void restart(const RetentionRules &rules, std::int64_t now);
  std::int64_t position() const { return position_; }
  bool under_way() const { return under_way_; }
  // Begins the next walk if one is due. False: there is nothing to do now.
  bool proceed(std::int64_t now);
  // After each step that was committed; took: how long it worked.
  void record(const WalkStep &step, std::int64_t now, std::int64_t took);
  // A task may have been created.
  void note_work(std::int64_t now);
  // When the next walk begins; kNever: not before there is work. While one is under way: 0.
  std::int64_t next_at() const;
  // The same for what is known to become due then: not for looking again at what was left.
  std::int64_t next_removal_at() const;
  // By namespace, what the walk has seen and left.
  std::map<int, WalkMark> marks() const;

 private:
  std::int64_t restart_at() const;

  RetentionRules rules_;
  std::int64_t position_ = 0, last_seen_ = 0;
  bool under_way_ = false;
  std::int64_t began_at_ = 0, worked_ = 0;               // the last walk from the first id: its begin, how long it looked
  std::int64_t forward_at_ = kNever;                     // the first young task may be due
  bool idle_ = true;                                     // there was no task after position
  bool left_unknown_ = false;                            // left behind, and nobody knows when it is due
  std::int64_t left_due_at_ = kNever;                    // left behind: when the first one is due
  std::map<int, WalkMark> left_marks_, young_marks_;
};

}  // namespace tasker::core
