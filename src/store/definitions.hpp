// Definitions as the engine uses them: compiled once per process, cached, never changed (a definition that a
// task has used is immutable, and a replaced one gets a new id).
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "core/backoff.hpp"
#include "core/failure.hpp"
#include "core/graph.hpp"
#include "core/kin.hpp"
#include "pg/spi.hpp"

namespace tasker::store {

enum class HandlerType : std::uint8_t { kSql, kNoop, kHttp, kExternal, kWait, kSignal };
// Steps whose work is not done by an executor: they begin in one transaction and end in another.
inline constexpr bool is_outside(HandlerType type) { return type != HandlerType::kSql && type != HandlerType::kNoop; }

struct CompiledStep {
  int step_no = 0;
  std::string name;
  HandlerType type = HandlerType::kNoop;
  std::string type_name;
  std::string function, query, procedure;
  std::string server, queue, signal_name;  // of http, external, signal
  std::string handler;  // the handler object as JSON text (step_call.config)
  std::string dependent_system;
  int dependent_system_id = 0;  // 0: none, or a noop, which touches none
  std::vector<int> parents, children;  // step numbers
  bool retryable = true;
  int max_attempts = 3;
  core::Backoff backoff;
  core::FailureOverrides overrides;
  std::optional<double> timeout_seconds;
  bool skippable = false;
  bool own_transaction = false;
  std::string isolation;
  int priority = 0;
  int level = 0;
  core::Learner learner;  // whose measured runs decide whether it may share a transaction
};

struct CompiledDefinition {
  int named_task_id = 0;
  int namespace_id = 0;
  std::string ns, name, version;
  Oid author = InvalidOid;
  bool runs_as_definer = false;
  int sink_count = 0;
  std::optional<double> deadline_seconds;
  std::string context_schema;       // JSON text, empty when there is none
  std::vector<CompiledStep> steps;  // steps[step_no - 1]
  std::unordered_map<std::string, int> step_by_name;
  core::Graph graph{{}};            // node = step_no - 1

  const CompiledStep &step(int step_no) const { return steps.at(static_cast<std::size_t>(step_no - 1)); }
};
using DefinitionPtr = std::shared_ptr<const CompiledDefinition>;

// Precondition of all: inside pg::OwnerScope and pg::Spi.
// Raises XX000 when the id is unknown (a task without its definition).
DefinitionPtr definition(int named_task_id);

struct FoundDefinition {
  int named_task_id = 0;
  bool retired = false;
};
// version empty: the numerically highest that is not retired (a retired one is found only by its version).
std::optional<FoundDefinition> find_definition(std::string_view ns, std::string_view name, const std::optional<std::string> &version);
std::optional<int> find_namespace(std::string_view ns);
// Ids of the definitions of a namespace, or of one of its names: all versions, retired ones too.
std::vector<int> definitions_in(int namespace_id, const std::optional<std::string> &name);

// Once per process, from _PG_init: forgets everything cached when a schema changes (DROP EXTENSION).
void register_cache_invalidation();
// The extension's owner, cached until a schema changes.
Oid cached_extension_owner();
// The oid of type tasker.step_call.
Oid step_call_type();

}  // namespace tasker::store
