// The order in which steps that are ready are taken: by priority and age, and in turns among groups.
//
// Age: one level of priority is worth a fixed time of waiting. So what has waited longer by that much than another one
// counts as one level higher, whatever the moment: `since - priority * ageing` orders them for good. A rank is
// fixed when a step enters, nothing is ever sorted anew, and nothing waits for ever behind newcomers of higher priority.
//
// Turns: each group that has something has the same share of what is charged (the time of executors), whatever waits in
// it and however its priorities are set: those order the steps of one group. The group that has had least is next. One that
// comes (back) starts level with the one whose turn it is, or where its own debt left it: it neither catches up on time
// in which it had nothing, nor forgets what it has had. With one group nothing is counted.
#pragma once

#include <algorithm>
#include <cassert>
#include <compare>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <queue>
#include <set>
#include <unordered_map>
#include <utility>

namespace tasker::core {

inline constexpr std::int64_t kMaxAgeing = 3'600'000'000;  // microseconds a level: with it no rank overflows

// A place in the order of one group: the lowest is first.
struct ReadyRank {
  std::int64_t level = 0;
  std::uint64_t sequence = 0;  // first come, first served
  friend auto operator<=>(const ReadyRank &, const ReadyRank &) = default;
};

// Since when it waits and what a level is worth, in microseconds; ageing 0: priority alone.
ReadyRank ready_rank(std::int32_t priority, std::int64_t since, std::int64_t ageing, std::uint64_t sequence) noexcept;

template <class Item>
class ReadyQueue {
 public:
  bool empty() const { return size_ == 0; }
  std::size_t size() const { return size_; }
  // More than one group has something: what is charged decides whose turn it is.
  bool contended() const { return turns_.size() > 1; }

  void push(int group, const ReadyRank &rank, Item item) {
    Group &entry = groups_[group];
    if (entry.items.empty()) {
      entry.used = std::max(entry.used, clock_);
      turns_.emplace(entry.used, group);
      next_ = nullptr;
    }
    entry.items.push({rank, std::move(item)});
    size_++;
  }

  // What is next. Precondition of top, next_group and pop: not empty. They speak of the same item while nothing is pushed in between.
  const Item &top() const { return next().items.top().item; }
  int next_group() const { return turns_.begin()->second; }

  // Takes it. What it costs counts against its group while others have something, too.
  void pop(double cost = 0) {
    Group &group = next();
    const auto turn = turns_.begin();
    clock_ = std::max(clock_, group.used);
    group.items.pop();
    size_--;
    const bool charged = contended() && cost > 0;
    if (!charged && !group.items.empty()) return;
    next_ = nullptr;
    const int id = turn->second;
    turns_.erase(turn);
    if (charged) group.used += cost;
    if (!group.items.empty()) turns_.emplace(group.used, id);
    else if (group.used <= clock_) groups_.erase(id);
    if (turns_.empty()) forget();
    else if (groups_.size() > 2 * turns_.size() + kKeptDebts) forget_paid_debts();
  }

  // Visits everything: what the function gives no rank for leaves, the rest is put in order by the new ranks.
  template <class Rank>  // std::optional<ReadyRank>(const Item &)
  void rework(Rank rank) {
    size_ = 0;
    next_ = nullptr;
    turns_.clear();
    for (auto &[id, group] : groups_) {
      std::priority_queue<Entry> old;
      old.swap(group.items);
      for (; !old.empty(); old.pop())
        if (const std::optional<ReadyRank> place = rank(old.top().item)) group.items.push({*place, old.top().item});
      if (group.items.empty()) continue;
      size_ += group.items.size();
      turns_.emplace(group.used, id);
    }
    if (turns_.empty()) forget();
  }

 private:
  static constexpr std::size_t kKeptDebts = 64;

  struct Entry {
    ReadyRank rank;
    Item item;
    // For priority_queue, whose top is the largest.
    friend bool operator<(const Entry &a, const Entry &b) { return a.rank > b.rank; }
  };
  struct Group {
    std::priority_queue<Entry> items;
    double used = 0;
  };

  Group &next() const {
    assert(size_ > 0);
    if (next_ == nullptr) next_ = const_cast<Group *>(&groups_.find(turns_.begin()->second)->second);
    return *next_;
  }

  // Nobody waits: nobody is owed anything.
  void forget() {
    groups_.clear();
    clock_ = 0;
  }
  void forget_paid_debts() {
    std::erase_if(groups_, [&](const auto &entry) { return entry.second.items.empty() && entry.second.used <= clock_; });
  }

  std::unordered_map<int, Group> groups_;     // with something in them, or with a debt
  std::set<std::pair<double, int>> turns_;    // of those with something in them: what they have had
  double clock_ = 0;                          // what the group had had whose turn it was last
  mutable Group *next_ = nullptr;             // whose turn it is, when it is known
  std::size_t size_ = 0;
};

}  // namespace tasker::core
