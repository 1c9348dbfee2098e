// The one exception type of tasker's own code.
//
// A fault carries what PostgreSQL will report: a five-character SQLSTATE, a message in PostgreSQL's error
// style (lower-case start, no full stop), and optionally DETAIL and HINT. Raised by every room; turned into
// an ereport only at the border (src/pg/bridge.hpp).
#pragma once

#include <exception>
#include <string>
#include <utility>

namespace tasker {

class Error : public std::exception {
 public:
  Error(const char *sqlstate, std::string message, std::string detail = {}, std::string hint = {})
      : sqlstate_(sqlstate), message_(std::move(message)), detail_(std::move(detail)), hint_(std::move(hint)) {}

  const std::string &sqlstate() const noexcept { return sqlstate_; }
  const std::string &message() const noexcept { return message_; }
  const std::string &detail() const noexcept { return detail_; }
  const std::string &hint() const noexcept { return hint_; }
  const char *what() const noexcept override { return message_.c_str(); }

 private:
  std::string sqlstate_, message_, detail_, hint_;
};

// SQLSTATEs that tasker raises. The TK class is published in doc/reference.md.
namespace sqlstate {
inline constexpr const char *kInvalidParameter = "22023";
inline constexpr const char *kProgramLimit = "54000";
inline constexpr const char *kFeatureNotSupported = "0A000";
inline constexpr const char *kNoData = "02000";
inline constexpr const char *kInsufficientPrivilege = "42501";
inline constexpr const char *kObjectNotReady = "55000";
inline constexpr const char *kReadOnly = "25006";
inline constexpr const char *kInternal = "XX000";
inline constexpr const char *kRetryable = "TK001";
inline constexpr const char *kPermanent = "TK002";
inline constexpr const char *kStaleToken = "TK003";
inline constexpr const char *kIllegalMove = "TK004";
inline constexpr const char *kNeedsPreload = "TK005";
inline constexpr const char *kDefinitionInUse = "TK006";
}  // namespace sqlstate

}  // namespace tasker
