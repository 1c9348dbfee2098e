#include "core/failure.hpp"

#include <algorithm>
#include <iterator>

namespace tasker::core {
namespace {

constexpr bool kRetry = true, kFinal = false;
constexpr bool kAlone = true, kNotNeighbours = false;  // contention

// The line between the two: would the same call, made later, have a chance without anybody changing the data,
// the code or a grant? What no rule speaks of is retried, since a needless attempt costs less than work left undone.
constexpr FailureRule kRules[] = {
    {"02", {"validation", kFinal, kNotNeighbours}, "no data: the named row is not there, or not visible"},
    {"03", {"code", kFinal, kNotNeighbours}, "SQL statement not yet complete"},
    {"08", {"connection", kRetry, kNotNeighbours}, "connection to another server failed"},
    // Retried like every lost connection. No rule can know whether a repeat would do harm: fail_on says it.
    {"08007", {"connection", kRetry, kNotNeighbours}, "outcome of a transaction on another server unknown"},
    {"09", {"code", kFinal, kNotNeighbours}, "triggered action exception"},
    {"0A", {"code", kFinal, kNotNeighbours}, "feature not supported"},
    {"0B", {"code", kFinal, kNotNeighbours}, "invalid start of a transaction"},
    {"0F", {"code", kFinal, kNotNeighbours}, "locator exception"},
    {"0L", {"privilege", kFinal, kNotNeighbours}, "invalid grantor"},
    {"0P", {"privilege", kFinal, kNotNeighbours}, "invalid role"},
    {"0Z", {"code", kFinal, kNotNeighbours}, "diagnostics exception"},
    {"10", {"validation", kFinal, kNotNeighbours}, "invalid argument for XQuery"},
    {"20", {"validation", kFinal, kNotNeighbours}, "no branch of a CASE fits the value"},
    {"21", {"validation", kFinal, kNotNeighbours}, "more rows than the statement allows"},
    {"22", {"validation", kFinal, kNotNeighbours}, "data exception: a value is out of range, malformed or null"},
    {"23", {"validation", kFinal, kNotNeighbours}, "integrity constraint violated"},
    {"24", {"code", kFinal, kNotNeighbours}, "invalid cursor state"},
    {"25", {"code", kFinal, kNotNeighbours}, "invalid transaction state"},
    // Only another server's can arrive here as errors: its session was waiting for us.
    {"25P03", {"timeout", kRetry, kNotNeighbours}, "idle-in-transaction timeout on another server"},
    {"25P04", {"timeout", kRetry, kNotNeighbours}, "transaction timeout on another server"},
    {"26", {"code", kFinal, kNotNeighbours}, "prepared statement does not exist"},
    {"27", {"code", kFinal, kNotNeighbours}, "row was changed by a trigger of the same statement"},
    {"28", {"privilege", kFinal, kNotNeighbours}, "invalid user name or password"},
    {"2B", {"code", kFinal, kNotNeighbours}, "other objects depend on this one"},
    {"2D", {"code", kFinal, kNotNeighbours}, "COMMIT or ROLLBACK inside a step"},
    {"2F", {"code", kFinal, kNotNeighbours}, "SQL routine exception"},
    {"34", {"code", kFinal, kNotNeighbours}, "cursor does not exist"},
    // Python, Perl and Tcl report an uncaught exception as 38000: their plain RAISE, retried like that of PL/pgSQL.
    {"38", {"code", kFinal, kNotNeighbours}, "routine in another language did what it may not"},
    {"38000", {"unknown", kRetry, kNotNeighbours}, "uncaught exception of a routine in Python, Perl or Tcl"},
    {"39", {"code", kFinal, kNotNeighbours}, "routine in another language broke the call protocol"},
    {"3B", {"code", kFinal, kNotNeighbours}, "savepoint exception"},
    {"3D", {"code", kFinal, kNotNeighbours}, "database does not exist"},
    {"3F", {"code", kFinal, kNotNeighbours}, "schema does not exist"},
    {"40", {"conflict", kRetry, kAlone}, "transaction rolled back by the server"},
    {"40001", {"conflict", kRetry, kAlone}, "serialization failure"},
    {"40002", {"validation", kFinal, kNotNeighbours}, "integrity constraint violated at commit"},
    {"40P01", {"conflict", kRetry, kAlone}, "deadlock"},
    {"42", {"code", kFinal, kNotNeighbours}, "syntax error, or an object that is undefined, duplicate or of the wrong type"},
    {"42501", {"privilege", kFinal, kNotNeighbours}, "insufficient privilege"},
    {"44", {"validation", kFinal, kNotNeighbours}, "WITH CHECK OPTION of a view violated"},
    {"53", {"resource", kRetry, kAlone}, "insufficient resources: memory, disk, connections, locks"},
    // The same work meets the same limit again.
    {"54", {"resource", kFinal, kNotNeighbours}, "limit of the server or of tasker exceeded, for example max_result_size"},
    {"55", {"conflict", kRetry, kNotNeighbours}, "object is not in the state that the operation needs"},
    {"55006", {"conflict", kRetry, kAlone}, "object in use"},
    {"55P02", {"code", kFinal, kNotNeighbours}, "setting cannot be changed now"},
    {"55P03", {"conflict", kRetry, kAlone}, "lock timeout, or NOWAIT"},
    {"55P04", {"conflict", kRetry, kAlone}, "new value of an enum used before its commit"},
    {"57", {"connection", kRetry, kNotNeighbours}, "operator intervention: a server stops, starts or ended the connection"},
    {"57014", {"timeout", kRetry, kNotNeighbours}, "statement timeout, the step's own timeout, or a cancelled statement"},
    {"58", {"resource", kRetry, kNotNeighbours}, "error of the operating system: input, output, files"},
    {"58P03", {"code", kFinal, kNotNeighbours}, "file name too long"},
    {"72", {"conflict", kRetry, kAlone}, "snapshot too old"},
    {"F0", {"server_error", kRetry, kNotNeighbours}, "configuration file of a server is broken or locked"},
    {"HV", {"code", kFinal, kNotNeighbours}, "foreign data wrapper: options, columns or types do not fit"},
    {"HV000", {"server_error", kRetry, kNotNeighbours}, "foreign data wrapper: error of the foreign server"},
    {"HV001", {"resource", kRetry, kAlone}, "foreign data wrapper: out of memory"},
    {"HV00L", {"server_error", kRetry, kNotNeighbours}, "foreign data wrapper: the foreign server did not execute the statement"},
    {"HV00M", {"server_error", kRetry, kNotNeighbours}, "foreign data wrapper: the foreign server gave no reply"},
    {"HV00N", {"connection", kRetry, kNotNeighbours}, "foreign data wrapper: no connection to the foreign server"},
    {"HV014", {"resource", kRetry, kAlone}, "foreign data wrapper: too many handles"},
    {"P0", {"unknown", kRetry, kNotNeighbours}, "PL/pgSQL error"},
    {"P0001", {"unknown", kRetry, kNotNeighbours}, "plain RAISE"},
    // SELECT INTO STRICT and ASSERT state what must be so; the data or the code is wrong, not the moment.
    {"P0002", {"validation", kFinal, kNotNeighbours}, "INTO STRICT found no row"},
    {"P0003", {"validation", kFinal, kNotNeighbours}, "INTO STRICT found several rows"},
    {"P0004", {"code", kFinal, kNotNeighbours}, "ASSERT failed"},
    {"TK001", {"unknown", kRetry, kNotNeighbours}, "raise_retryable"},
    {"TK002", {"unknown", kFinal, kNotNeighbours}, "raise_permanent"},
    {"TK003", {"validation", kFinal, kNotNeighbours}, "stale or wrong claim token"},
    {"TK004", {"conflict", kRetry, kNotNeighbours}, "move not allowed from the present state"},
    {"TK005", {"code", kFinal, kNotNeighbours}, "needs tasker in shared_preload_libraries"},
    {"TK006", {"code", kFinal, kNotNeighbours}, "definition retired or in use"},
    // Concurrent DDL ends as an internal error ("tuple concurrently updated", "cache lookup failed") and may be a neighbour's.
    {"XX", {"server_error", kRetry, kAlone}, "internal error of the server"},
    // A damaged page stays damaged, and each attempt writes on beside it: somebody must look first.
    {"XX001", {"server_error", kFinal, kNotNeighbours}, "data corrupted"},
    {"XX002", {"server_error", kFinal, kNotNeighbours}, "index corrupted"},
};

constexpr FailureClass kUnlisted = {"unknown", kRetry, kNotNeighbours};

static_assert(std::is_sorted(std::begin(kRules), std::end(kRules), [](const FailureRule &a, const FailureRule &b) { return a.code < b.code; }));

const FailureRule *find_rule(std::string_view code) noexcept {
  const auto before = [](const FailureRule &rule, std::string_view wanted) { return rule.code < wanted; };
  const auto *rule = std::lower_bound(std::begin(kRules), std::end(kRules), code, before);
  return rule != std::end(kRules) && rule->code == code ? rule : nullptr;
}

bool holds(const std::vector<std::string> &list, std::string_view code) noexcept { return std::find(list.begin(), list.end(), code) != list.end(); }

}  // namespace

std::span<const FailureRule> failure_rules() noexcept { return kRules; }

FailureClass classify_failure(std::string_view sqlstate) noexcept {
  if (const FailureRule *rule = find_rule(sqlstate)) return rule->verdict;
  if (const FailureRule *rule = find_rule(sqlstate.substr(0, 2))) return rule->verdict;
  return kUnlisted;
}

FailureClass classify_failure(std::string_view sqlstate, const FailureOverrides &overrides) noexcept {
  FailureClass verdict = classify_failure(sqlstate);
  for (const std::string_view code : {sqlstate, sqlstate.substr(0, 2)}) {
    if (holds(overrides.fail_on, code)) {
      verdict.retryable = false;
      break;
    }
    if (holds(overrides.retry_on, code)) {
      verdict.retryable = true;
      break;
    }
  }
  return verdict;
}

bool counts_for_breaker(std::string_view category, bool retryable) noexcept {
  constexpr std::string_view kOfTheSystem[] = {"timeout", "connection", "resource", "server_error", "rate_limit", "unknown"};
  // Not retried for fear of doing it twice, but the answer was lost all the same.
  if (category == "outcome_unknown") return true;
  return retryable && std::find(std::begin(kOfTheSystem), std::end(kOfTheSystem), category) != std::end(kOfTheSystem);
}

}  // namespace tasker::core
