// Limits on steps that executors and the courier run: the rows, and what every process knows of them without asking.
//
// A limit is for a namespace, for one definition of it (all versions), or for one step of that; with a key, which is a JSON
// Pointer into the context of tasks, it holds for each value separately. Whoever begins steps knows all limits, and reads
// them anew when the database's pause generation was raised (store/hints.hpp): each change of a limit does that. A database
// without limits costs its processes one look at that number.
//
// Steps of other types take no executor's time: external ones have limits by queue (store/queues.hpp), the others do nothing.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "core/limits.hpp"
#include "store/definitions.hpp"
#include "store/keys.hpp"

namespace tasker::store {

inline constexpr int kMaxLimits = 1000;  // of a database

struct StepLimit {
  int limit_id = 0;
  int namespace_id = 0;
  std::optional<std::string> name, step_name;
  bool keyed = false;
  core::LimitRule rule;
  friend bool operator==(const StepLimit &, const StepLimit &) = default;
};

inline constexpr bool is_limitable(HandlerType type) { return type == HandlerType::kSql || type == HandlerType::kHttp; }

// Precondition of what touches tables: inside pg::OwnerScope and pg::Spi.

// As the tables have them: narrow ones first, those with a key before the one without.
std::vector<StepLimit> load_limits(pg::Access access);
// Of these limits, those that the step is under.
std::vector<const StepLimit *> limits_over(const std::vector<StepLimit> &limits, const CompiledDefinition &definition, const CompiledStep &step);

// Reads them, if they may have changed since the last call. True: they are others than before.
bool refresh_limits();
// May they have changed since the last refresh? One load from shared memory.
bool limits_changed();
// As of the last refresh.
const std::vector<StepLimit> &limits();
bool is_limited(const CompiledDefinition &definition, const CompiledStep &step);

// Groups of a task under limits with a key. A task whose context has no value there, or null, is not under that limit.
std::vector<core::GroupId> keyed_groups(std::int64_t task_id, const std::vector<int> &limit_ids, pg::Access access);
// Of those that were let wait: which may still begin, as far as their rows go?
std::vector<StepKey> startable(const std::vector<StepKey> &keys);

struct NamedRun {
  StepKey key;
  int named_task_id = 0;
};
// The definitions of these steps' tasks; and the same of all calls under way.
std::vector<NamedRun> named_runs(const std::vector<StepKey> &keys);
std::vector<NamedRun> calls_under_way();

// What a limit is for.
struct LimitScope {
  int namespace_id = 0;
  std::optional<std::string> name, step_name, key;
  std::vector<std::string> key_path;  // of key
};
// The types of the steps of this name, in all versions of the definition.
std::vector<std::string> step_types(const LimitScope &scope);
// Both false: it was so already. Told to everybody at commit.
bool set_limit(const LimitScope &scope, const core::LimitRule &rule, Oid actor);
bool remove_limit(const LimitScope &scope);

}  // namespace tasker::store
