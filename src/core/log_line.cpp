#include "core/log_line.hpp"

#include <cmath>

#include "core/json.hpp"

namespace tasker::core {

namespace {

using ordered = nlohmann::ordered_json;

inline constexpr std::size_t kLongestMessage = 500;  // bytes of an error's message

const char *event_of(StepEnd end) noexcept {
  switch (end) {
    case StepEnd::kComplete: return "step.complete";
    case StepEnd::kRetry: return "step.retry";
    case StepEnd::kError: break;
  }
  return "step.error";
}

std::string cut(std::string_view message) { return std::string(message.substr(0, kLongestMessage)); }

double rounded(double seconds) { return std::round(seconds * 1e6) / 1e6; }

std::string dump(const ordered &object) { return object.dump(-1, ' ', true, ordered::error_handler_t::replace); }

std::string on_one_line(std::string_view text) {
  std::string out(text);
  for (char &c : out)
    if (static_cast<unsigned char>(c) < ' ' || c == 0x7f) c = ' ';
  return out;
}

}  // namespace

const char *duration_class(double seconds) noexcept {
  if (seconds <= 0.1) return "fast";
  if (seconds <= 1) return "moderate";
  return seconds <= 5 ? "slow" : "very_slow";
}

LogLevel level_of(StepEnd end) noexcept { return end == StepEnd::kError ? LogLevel::kWarning : LogLevel::kLog; }

std::string json_line(const StepLine &line) {
  ordered out;
  out["event"] = event_of(line.end);
  out["task_id"] = line.task_id;
  out["namespace"] = line.ns;
  out["name"] = line.name;
  out["version"] = line.version;
  out["step"] = line.step;
  out["attempt"] = line.attempt;
  if (line.correlation_id) out["correlation_id"] = *line.correlation_id;
  else out["correlation_id"] = nullptr;
  out["duration_seconds"] = rounded(line.seconds);
  out["duration_class"] = duration_class(line.seconds);
  if (line.end != StepEnd::kComplete) out["error"] = {{"sqlstate", line.sqlstate}, {"category", line.category}, {"message", cut(line.message)}};
  if (line.retry_seconds) out["retry_seconds"] = rounded(*line.retry_seconds);
  if (line.suppressed > 0) out["suppressed"] = line.suppressed;
  return dump(out);
}

std::string text_line(const StepLine &line) {
  std::string out = std::string("tasker: ") + event_of(line.end) + ": task " + std::to_string(line.task_id) + " (" + std::string(line.ns) + "." + std::string(line.name) + " " +
                    std::string(line.version) + "), step " + std::string(line.step) + ", attempt " + std::to_string(line.attempt) + ", " +
                    std::to_string(std::llround(line.seconds * 1000)) + " ms (" + duration_class(line.seconds) + ")";
  if (line.correlation_id) out += ", correlation id " + std::string(*line.correlation_id);
  if (line.end != StepEnd::kComplete) out += ": " + std::string(line.sqlstate) + " " + cut(line.message);
  if (line.retry_seconds) out += ", again in " + std::to_string(std::llround(*line.retry_seconds * 1000)) + " ms";
  if (line.suppressed > 0) out += "; " + std::to_string(line.suppressed) + " such lines left out before";
  return on_one_line(out);
}

std::string json_line(std::string_view worker, std::string_view message, std::string_view detail, std::string_view hint) {
  ordered out;
  out["event"] = "worker.message";
  out["worker"] = worker;
  out["message"] = message;
  if (!detail.empty()) out["detail"] = detail;
  if (!hint.empty()) out["hint"] = hint;
  return dump(out);
}

bool LogSampler::admits(std::int64_t now_microseconds, std::int64_t *suppressed) noexcept {
  const std::int64_t second = now_microseconds / 1'000'000;
  if (second != second_) {
    second_ = second;
    seen_ = 0;
  }
  seen_++;
  if (seen_ > kLinesASecond && (seen_ - kLinesASecond) % kOneOf != 0) {
    suppressed_++;
    return false;
  }
  *suppressed = suppressed_;
  suppressed_ = 0;
  return true;
}

}  // namespace tasker::core
