// How much may run at once and begin in a second, and who waits for that.
//
// A limit counts what runs under it, has a bucket of tokens of which each beginning takes one, or both. A limit by key is as
// many limits as there are values of the key: each is a group of its own. A step may be under several groups, and begins when
// all of them have room.
//
// Steps of one owner under the same groups stand in one line, by rank: what one of them waits for, all do. A line waits for one
// group, the first that had no room; only when that one gets room is the head of the line looked at again. So a place that
// becomes free costs the same however many wait. Among the lines that wait for a group owners have turns, and ranks decide
// within an owner. What is let out has its place reserved until it begins, or is forgotten.
//
// No clock: moments are microseconds, passed in. A clock that was set back is followed.
#pragma once

#include <algorithm>
#include <compare>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <queue>
#include <set>
#include <string>
#include <string_view>
#include <unordered_map>
#include <unordered_set>
#include <utility>
#include <vector>

#include "core/ready_queue.hpp"

namespace tasker::core {

inline constexpr double kMaxRate = 1e6;       // a second
inline constexpr double kMinRate = 1e-6;      // one in eleven days
inline constexpr int kMaxBurst = 1'000'000;

struct LimitRule {
  std::optional<int> max_running;
  double per_second = 0;  // 0: no rate
  int burst = 1;          // tokens that are kept, at least one
  friend bool operator==(const LimitRule &, const LimitRule &) = default;
};

// One value of a limit's key; key 0: a limit without one.
struct GroupId {
  int limit = 0;
  std::uint64_t key = 0;
  friend auto operator<=>(const GroupId &, const GroupId &) = default;
};
using GroupIds = std::vector<GroupId>;
struct GroupIdHash {
  std::size_t operator()(const GroupId &id) const noexcept { return static_cast<std::size_t>((id.key ^ static_cast<std::uint64_t>(id.limit)) * 0x9E3779B97F4A7C15ull); }
};
// Of a value of a key; never 0.
std::uint64_t key_hash(std::string_view value) noexcept;

// "/customer/id" → {customer, id}, as RFC 6901 has it; nothing for what is no pointer, or the whole document.
std::optional<std::vector<std::string>> pointer_path(std::string_view pointer);

class TokenBucket {
 public:
  // Full.
  TokenBucket(const LimitRule &rule, std::int64_t now) : tokens_(rule.burst), at_(now) {}
  TokenBucket(double tokens, std::int64_t at) : tokens_(tokens), at_(at) {}

  double tokens(const LimitRule &rule, std::int64_t now) const noexcept;
  void take(const LimitRule &rule, std::int64_t now, double count = 1) noexcept;  // a negative count: they come back
  // The first moment, from now on, with so many. Precondition: a rate, count <= burst.
  std::int64_t when(const LimitRule &rule, std::int64_t now, int count) const noexcept;

 private:
  double tokens_;
  std::int64_t at_;
};
// So many may begin.
int whole_tokens(double tokens) noexcept;

struct GroupFigures {
  GroupId id;
  int running = 0;
  int let_out = 0;          // their places are reserved
  int waiting = 0;          // for this group
  double tokens = 0;        // at that moment
  std::int64_t as_of = 0;
};

// Key: of a step. Item: what waits, given back when it is let out.
template <class Key, class KeyHash, class Item>
class LimitBook {
 public:
  using Waiting = std::pair<int, Item>;  // with its owner

  // Limits by their numbers, from now on: who runs and who waits is forgotten, tokens stay. Gives those that waited.
  std::vector<Waiting> restart(std::unordered_map<int, LimitRule> rules, std::int64_t now);
  // Tokens of before, of a group that has nothing yet.
  void seed(const GroupId &id, double tokens, std::int64_t at) { buckets_.insert_or_assign(id, TokenBucket(tokens, at)); }

  bool idle() const { return rules_.empty(); }  // there are no limits
  bool waits(const Key &key) const { return !waiting_.empty() && waiting_.contains(key); }
  std::size_t waiting() const { return waiting_.size(); }
  std::size_t groups() const { return groups_.size(); }  // in memory

  // Groups without a rule do not count.
  bool admits(const Key &key, const GroupIds &groups, std::int64_t now) { return let_out_.contains(key) || lacking(groups, now) == nullptr; }
  // Precondition: it is admitted.
  void begin(const Key &key, const GroupIds &groups, std::int64_t now);
  // It runs already: its token was taken before, whether there is room or not.
  void adopt(const Key &key, const GroupIds &groups, std::int64_t now);
  void finish(const Key &key) { leave(key, 0, false); }
  // It did not begin after all: its tokens come back.
  void take_back(const Key &key, std::int64_t now) { leave(key, now, true); }
  // Precondition: it is not admitted, and does not wait already.
  void park(const Key &key, int owner, const ReadyRank &rank, const GroupIds &groups, Item item, std::int64_t now);

  // The next that may begin, its place reserved; nothing when nobody may.
  std::optional<Waiting> let_out(std::int64_t now);
  // It was let out and will not begin now: its place is free.
  void forget(const Key &key);
  void forget_owner(int owner);
  // Those that wait and are picked (bool(const Item &)) go.
  template <class Predicate>
  void remove_if(Predicate pick);

  // May let_out() give somebody at once?
  bool pending() const { return !open_.empty(); }
  // When tokens come for somebody who waits.
  std::optional<std::int64_t> next_at() const { return refills_.empty() ? std::nullopt : std::optional(refills_.begin()->first); }
  // Of the groups that have changed since the last call.
  std::vector<GroupFigures> take_changes(std::int64_t now);

 private:
  static constexpr std::size_t kKeptGroups = 256;

  struct Ticket {
    std::uint64_t line, version;
  };
  struct Group {
    Group(const GroupId &group, const LimitRule &of, const TokenBucket &tokens) : id(group), rule(of), bucket(tokens) {}
    GroupId id;
    LimitRule rule;
    TokenBucket bucket;
    int running = 0, let_out = 0, waiting = 0;
    ReadyQueue<Ticket> queue;  // of lines; those with an old version count no more
    std::optional<std::int64_t> refill_at;
    bool open = false, changed = false;
  };
  struct Entry {
    ReadyRank rank;
    Key key;
    Item item;
    friend bool operator<(const Entry &a, const Entry &b) { return a.rank > b.rank; }  // for priority_queue, whose top is the largest
  };
  struct Line {
    int owner = 0;
    GroupIds groups;
    std::priority_queue<Entry> entries;  // never empty between calls
    GroupId at;                          // waits for this one
    ReadyRank rank;                      // of its ticket there
    std::uint64_t version = 0;
  };
  struct LetOut {
    int owner;
    GroupIds groups;
  };

  Group *find(const GroupId &id, std::int64_t now);
  Group *lacking(const GroupIds &groups, std::int64_t now);
  int room(const Group &group, std::int64_t now) const;
  void enlist(std::uint64_t id, Line &line, Group &group);
  void drop_line(typename std::unordered_map<std::uint64_t, Line>::iterator line);
  void open(Group &group);
  void schedule(Group &group, std::int64_t now);
  void unschedule(Group &group);
  void change(Group &group);
  void leave(const Key &key, std::int64_t now, bool give_back);
  void forget_full_groups(std::int64_t now);
  void follow_clock(std::int64_t now);

  std::unordered_map<int, LimitRule> rules_;
  std::unordered_map<GroupId, Group, GroupIdHash> groups_;         // that run or wait, or whose bucket is not full
  std::unordered_map<GroupId, TokenBucket, GroupIdHash> buckets_;  // of groups that are not there yet
  std::unordered_map<std::uint64_t, Line> lines_;
  std::set<std::pair<std::pair<int, GroupIds>, std::uint64_t>> line_of_;  // owner and groups → line
  std::unordered_set<Key, KeyHash> waiting_;
  std::unordered_map<Key, GroupIds, KeyHash> running_;
  std::unordered_map<Key, LetOut, KeyHash> let_out_;
  std::vector<GroupId> open_, changed_;                            // each once
  std::set<std::pair<std::int64_t, GroupId>> refills_;
  std::uint64_t last_line_ = 0;
  std::size_t forget_at_ = kKeptGroups;
  std::int64_t clock_ = 0;
};

template <class Key, class KeyHash, class Item>
auto LimitBook<Key, KeyHash, Item>::restart(std::unordered_map<int, LimitRule> rules, std::int64_t now) -> std::vector<Waiting> {
  std::vector<Waiting> out;
  for (auto &[_, line] : lines_)
    for (; !line.entries.empty(); line.entries.pop()) out.emplace_back(line.owner, line.entries.top().item);
  std::unordered_map<GroupId, TokenBucket, GroupIdHash> buckets;
  const auto keep = [&](const GroupId &id, const LimitRule &before, const TokenBucket &bucket) {
    const auto rule = rules.find(id.limit);
    // A limit whose rate has come or gone begins with a full bucket.
    if (rule != rules.end() && rule->second.per_second > 0 && before.per_second > 0) buckets.insert_or_assign(id, TokenBucket(bucket.tokens(before, now), now));
  };
  for (const auto &[id, bucket] : buckets_)
    if (const auto before = rules_.find(id.limit); before != rules_.end()) keep(id, before->second, bucket);
  for (const auto &[id, group] : groups_) keep(id, group.rule, group.bucket);
  *this = LimitBook();
  rules_ = std::move(rules);
  buckets_ = std::move(buckets);
  clock_ = now;
  return out;
}

template <class Key, class KeyHash, class Item>
auto LimitBook<Key, KeyHash, Item>::find(const GroupId &id, std::int64_t now) -> Group * {
  if (const auto known = groups_.find(id); known != groups_.end()) return &known->second;
  const auto rule = rules_.find(id.limit);
  if (rule == rules_.end()) return nullptr;
  if (groups_.size() >= forget_at_) forget_full_groups(now);
  const auto before = buckets_.find(id);
  TokenBucket bucket = before != buckets_.end() ? before->second : TokenBucket(rule->second, now);
  bucket.take(rule->second, now, 0);  // from a moment to come, where the clock was set back
  if (before != buckets_.end()) buckets_.erase(before);
  return &groups_.emplace(id, Group(id, rule->second, bucket)).first->second;
}

template <class Key, class KeyHash, class Item>
int LimitBook<Key, KeyHash, Item>::room(const Group &group, std::int64_t now) const {
  int places = kMaxBurst;
  if (group.rule.max_running) places = std::min(places, *group.rule.max_running - group.running);
  if (group.rule.per_second > 0) places = std::min(places, whole_tokens(group.bucket.tokens(group.rule, now)));
  return places - group.let_out;
}

template <class Key, class KeyHash, class Item>
auto LimitBook<Key, KeyHash, Item>::lacking(const GroupIds &groups, std::int64_t now) -> Group * {
  for (const GroupId &id : groups)
    if (Group *group = find(id, now); group != nullptr && room(*group, now) <= 0) return group;
  return nullptr;
}

template <class Key, class KeyHash, class Item>
void LimitBook<Key, KeyHash, Item>::begin(const Key &key, const GroupIds &groups, std::int64_t now) {
  forget(key);
  if (!running_.emplace(key, groups).second) return;
  for (const GroupId &id : groups) {
    Group *group = find(id, now);
    if (group == nullptr) continue;
    group->running++;
    if (group->rule.per_second > 0) group->bucket.take(group->rule, now);
    change(*group);
  }
}

template <class Key, class KeyHash, class Item>
void LimitBook<Key, KeyHash, Item>::adopt(const Key &key, const GroupIds &groups, std::int64_t now) {
  if (groups.empty() || !running_.emplace(key, groups).second) return;
  for (const GroupId &id : groups) {
    Group *group = find(id, now);
    if (group == nullptr) continue;
    group->running++;
    change(*group);
  }
}

template <class Key, class KeyHash, class Item>
void LimitBook<Key, KeyHash, Item>::leave(const Key &key, std::int64_t now, bool give_back) {
  const auto run = running_.find(key);
  if (run == running_.end()) return;
  for (const GroupId &id : run->second) {
    const auto group = groups_.find(id);
    if (group == groups_.end()) continue;
    group->second.running--;
    if (give_back && group->second.rule.per_second > 0) group->second.bucket.take(group->second.rule, now, -1);
    change(group->second);
    open(group->second);
  }
  running_.erase(run);
}

template <class Key, class KeyHash, class Item>
void LimitBook<Key, KeyHash, Item>::forget(const Key &key) {
  const auto reserved = let_out_.find(key);
  if (reserved == let_out_.end()) return;
  for (const GroupId &id : reserved->second.groups) {
    const auto group = groups_.find(id);
    if (group == groups_.end()) continue;
    group->second.let_out--;
    change(group->second);
    open(group->second);
  }
  let_out_.erase(reserved);
}

template <class Key, class KeyHash, class Item>
void LimitBook<Key, KeyHash, Item>::forget_owner(int owner) {
  std::vector<Key> keys;
  for (const auto &[key, entry] : let_out_)
    if (entry.owner == owner) keys.push_back(key);
  for (const Key &key : keys) forget(key);
}

template <class Key, class KeyHash, class Item>
void LimitBook<Key, KeyHash, Item>::park(const Key &key, int owner, const ReadyRank &rank, const GroupIds &groups, Item item, std::int64_t now) {
  if (!waiting_.insert(key).second) return;
  const std::pair<int, GroupIds> who(owner, groups);
  auto known = line_of_.lower_bound({who, 0});
  const bool is_new = known == line_of_.end() || known->first != who;
  if (is_new) known = line_of_.emplace(who, ++last_line_).first;
  Line &line = lines_[known->second];
  line.entries.push({rank, key, std::move(item)});
  if (is_new) {
    line.owner = owner;
    line.groups = groups;
    Group *group = lacking(groups, now);
    if (group == nullptr) group = find(groups.front(), now);  // it has got room in this moment
    enlist(known->second, line, *group);
    schedule(*group, now);
    if (room(*group, now) > 0) open(*group);
    return;
  }
  Group &group = groups_.find(line.at)->second;
  group.waiting++;
  change(group);
  if (rank < line.rank) {
    group.waiting -= static_cast<int>(line.entries.size());
    enlist(known->second, line, group);
  }
}

// Its entries are not counted with any group.
template <class Key, class KeyHash, class Item>
void LimitBook<Key, KeyHash, Item>::enlist(std::uint64_t id, Line &line, Group &group) {
  line.at = group.id;
  line.rank = line.entries.top().rank;
  group.queue.push(line.owner, line.rank, {id, ++line.version});
  group.waiting += static_cast<int>(line.entries.size());
  change(group);
}

template <class Key, class KeyHash, class Item>
void LimitBook<Key, KeyHash, Item>::drop_line(typename std::unordered_map<std::uint64_t, Line>::iterator line) {
  line_of_.erase(std::pair(std::pair(line->second.owner, line->second.groups), line->first));
  lines_.erase(line);
}

template <class Key, class KeyHash, class Item>
auto LimitBook<Key, KeyHash, Item>::let_out(std::int64_t now) -> std::optional<Waiting> {
  follow_clock(now);
  while (!refills_.empty() && refills_.begin()->first <= now) {
    Group &group = groups_.find(refills_.begin()->second)->second;
    unschedule(group);
    open(group);
  }
  while (!open_.empty()) {
    Group &group = groups_.find(open_.back())->second;
    if (group.waiting == 0 || room(group, now) <= 0) {
      group.open = false;
      open_.pop_back();
      if (group.waiting == 0) group.queue = {};
      schedule(group, now);
      continue;
    }
    const Ticket ticket = group.queue.top();
    const auto found = lines_.find(ticket.line);
    if (found == lines_.end() || found->second.version != ticket.version) {
      group.queue.pop();
      continue;
    }
    Line &line = found->second;
    Group *other = lacking(line.groups, now);
    group.queue.pop(other == nullptr ? 1 : 0);
    group.waiting -= static_cast<int>(line.entries.size());
    change(group);
    if (other != nullptr) {
      enlist(found->first, line, *other);
      schedule(*other, now);
      continue;
    }
    const Entry &first = line.entries.top();
    const Key key = first.key;
    Waiting out(line.owner, first.item);
    line.entries.pop();
    waiting_.erase(key);
    for (const GroupId &id : line.groups) {
      Group *each = find(id, now);
      if (each == nullptr) continue;
      each->let_out++;
      change(*each);
    }
    let_out_.emplace(key, LetOut{line.owner, line.groups});
    if (line.entries.empty()) drop_line(found);
    else enlist(found->first, line, group);
    return out;
  }
  return std::nullopt;
}

template <class Key, class KeyHash, class Item>
template <class Predicate>
void LimitBook<Key, KeyHash, Item>::remove_if(Predicate pick) {
  for (auto it = lines_.begin(); it != lines_.end();) {
    const auto next = std::next(it);
    Line &line = it->second;
    Group &group = groups_.find(line.at)->second;
    std::priority_queue<Entry> rest;
    const std::size_t before = line.entries.size();
    for (; !line.entries.empty(); line.entries.pop()) {
      if (pick(line.entries.top().item)) waiting_.erase(line.entries.top().key);
      else rest.push(line.entries.top());
    }
    line.entries.swap(rest);
    if (line.entries.size() != before) {
      group.waiting -= static_cast<int>(before);
      change(group);
      if (line.entries.empty()) drop_line(it);
      else enlist(it->first, line, group);
    }
    it = next;
  }
}

template <class Key, class KeyHash, class Item>
void LimitBook<Key, KeyHash, Item>::open(Group &group) {
  if (group.open || group.waiting == 0) return;
  group.open = true;
  open_.push_back(group.id);
}

// Wakes the group when there is a token for the next one; where places are what it lacks, whoever leaves one does.
template <class Key, class KeyHash, class Item>
void LimitBook<Key, KeyHash, Item>::schedule(Group &group, std::int64_t now) {
  unschedule(group);
  const int wanted = group.let_out + 1;
  if (group.waiting == 0 || group.rule.per_second <= 0 || wanted > group.rule.burst) return;
  if (whole_tokens(group.bucket.tokens(group.rule, now)) >= wanted) return;
  group.refill_at = group.bucket.when(group.rule, now, wanted);
  refills_.emplace(*group.refill_at, group.id);
}

template <class Key, class KeyHash, class Item>
void LimitBook<Key, KeyHash, Item>::unschedule(Group &group) {
  if (!group.refill_at) return;
  refills_.erase({*group.refill_at, group.id});
  group.refill_at.reset();
}

template <class Key, class KeyHash, class Item>
void LimitBook<Key, KeyHash, Item>::change(Group &group) {
  if (group.changed) return;
  group.changed = true;
  changed_.push_back(group.id);
}

template <class Key, class KeyHash, class Item>
void LimitBook<Key, KeyHash, Item>::follow_clock(std::int64_t now) {
  if (now < clock_) {
    for (auto &[_, group] : groups_) {
      group.bucket.take(group.rule, now, 0);
      open(group);
    }
  }
  clock_ = now;
}

// A group that nobody uses and whose bucket is full is as good as new.
template <class Key, class KeyHash, class Item>
void LimitBook<Key, KeyHash, Item>::forget_full_groups(std::int64_t now) {
  std::erase_if(groups_, [&](const auto &entry) {
    const Group &group = entry.second;
    return group.running == 0 && group.let_out == 0 && group.waiting == 0 && !group.open && !group.changed && !group.refill_at &&
           (group.rule.per_second <= 0 || group.bucket.tokens(group.rule, now) >= group.rule.burst);
  });
  forget_at_ = std::max(kKeptGroups, 2 * groups_.size());
}

template <class Key, class KeyHash, class Item>
std::vector<GroupFigures> LimitBook<Key, KeyHash, Item>::take_changes(std::int64_t now) {
  std::vector<GroupFigures> out;
  out.reserve(changed_.size());
  for (const GroupId &id : changed_) {
    Group &group = groups_.find(id)->second;
    group.changed = false;
    out.push_back({id, group.running, group.let_out, group.waiting, group.bucket.tokens(group.rule, now), now});
  }
  changed_.clear();
  return out;
}

}  // namespace tasker::core
