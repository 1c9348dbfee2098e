#include "core/failure.hpp"

namespace tasker::core {

namespace {

struct Rule {
  std::string_view code;  // five characters, or two for a class
  FailureClass verdict;
};

constexpr Rule kRules[] = {
    {"40001", {"conflict", true, true}},    // serialization failure
    {"40P01", {"conflict", true, true}},    // deadlock
    {"55P03", {"conflict", true, true}},    // lock timeout
    {"57014", {"timeout", true, false}},    // statement timeout, or the step's own
    {"TK001", {"unknown", true, false}},    // raise_retryable
    {"TK002", {"unknown", false, false}},   // raise_permanent
    {"P0001", {"unknown", true, false}},    // plain RAISE
    {"54000", {"resource", false, false}},  // result too large
    {"2D000", {"code", false, false}},      // COMMIT inside a step
    {"08", {"connection", true, false}},
    {"40", {"conflict", true, true}},
    {"53", {"resource", true, true}},
    {"57", {"connection", true, false}},
    {"22", {"validation", false, false}},
    {"23", {"validation", false, false}},
    {"28", {"privilege", false, false}},
    {"42501", {"privilege", false, false}},
    {"42", {"code", false, false}},
    {"3F", {"code", false, false}},
    {"0A", {"code", false, false}},
    {"25", {"code", false, false}},
};

constexpr FailureClass kUnknown = {"unknown", true, false};

}  // namespace

FailureClass classify_failure(std::string_view sqlstate) noexcept {
  for (const Rule &rule : kRules)
    if (rule.code.size() == 5 && rule.code == sqlstate) return rule.verdict;
  for (const Rule &rule : kRules)
    if (rule.code.size() == 2 && sqlstate.substr(0, 2) == rule.code) return rule.verdict;
  return kUnknown;
}

}  // namespace tasker::core
