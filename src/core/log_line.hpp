// What tasker's workers write to the server's log: how a line looks, of which level it is, and how many there may be.
//
// A line is one line whatever the names in it: JSON is written in ASCII, with everything else escaped; in text such characters are
// replaced. Nothing of a context or a result is ever in one.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace tasker::core {

enum class LogLevel : std::uint8_t { kLog, kWarning };

// fast up to 0.1 s, moderate up to 1, slow up to 5, very_slow.
const char *duration_class(double seconds) noexcept;

enum class StepEnd : std::uint8_t { kComplete, kRetry, kError };  // kRetry: failed, to be tried again; kError: failed for good

// An attempt that ended.
struct StepLine {
  StepEnd end = StepEnd::kComplete;
  std::int64_t task_id = 0;
  std::string_view ns, name, version, step;
  int attempt = 1;
  std::optional<std::string_view> correlation_id;
  double seconds = 0;
  // Of a failure.
  std::string_view sqlstate, category, message;
  std::optional<double> retry_seconds;
  std::int64_t suppressed = 0;  // lines that were left out before this one
};
LogLevel level_of(StepEnd end) noexcept;
std::string json_line(const StepLine &line);
std::string text_line(const StepLine &line);

// Anything else a worker says; `worker`: its kind.
std::string json_line(std::string_view worker, std::string_view message, std::string_view detail, std::string_view hint);

// At most kLinesASecond in a second; then one of every kOneOf.
class LogSampler {
 public:
  static constexpr int kLinesASecond = 100, kOneOf = 100;
  // False: leave it out. True: write it, and say how many were left out since the last that was written.
  bool admits(std::int64_t now_microseconds, std::int64_t *suppressed) noexcept;

 private:
  std::int64_t second_ = -1, seen_ = 0, suppressed_ = 0;
};

}  // namespace tasker::core
