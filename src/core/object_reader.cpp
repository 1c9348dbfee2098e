// Readers of JSON objects, and the hints that misspelt keys and names get.
#include "core/object_reader.hpp"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <numeric>

namespace tasker::core {
namespace {

// What other workflow engines call our keys, where the spelling alone would not lead there.
constexpr std::pair<std::string_view, std::string_view> kOtherNames[] = {
    {"namespace_name", "namespace"},
    {"schema", "context_schema"},
    {"deadline", "deadline_seconds"},
    {"step_templates", "steps"},
    {"handler_class", "handler"},
    {"handler_config", "handler"},
    {"depends_on_step", "depends_on"},
    {"depends_on_steps", "depends_on"},
    {"needs", "depends_on"},
    {"parents", "depends_on"},
    {"retry_limit", "max_attempts"},
    {"default_retry_limit", "max_attempts"},
    {"default_retryable", "retryable"},
    {"timeout", "timeout_seconds"},
    {"custom_events", "events"},
};

constexpr std::size_t kMaxShown = 128;  // bytes of a text repeated in a message

std::size_t edit_distance(std::string_view left, std::string_view right) {
  std::vector<std::size_t> row(right.size() + 1);
  std::iota(row.begin(), row.end(), std::size_t{0});
  for (std::size_t i = 0; i < left.size(); ++i) {
    std::size_t diagonal = std::exchange(row[0], i + 1);
    for (std::size_t j = 0; j < right.size(); ++j) {
      const std::size_t changed = diagonal + (left[i] == right[j] ? 0 : 1);
      diagonal = row[j + 1];
      row[j + 1] = std::min({changed, row[j] + 1, diagonal + 1});
    }
  }
  return row.back();
}

}  // namespace

std::string shown(std::string_view text) {
  std::size_t length = std::min(text.size(), kMaxShown);
  while (length > 0 && length < text.size() && (static_cast<unsigned char>(text[length]) & 0xC0) == 0x80) --length;
  std::string result(text.substr(0, length));
  for (char &c : result) {
    if (static_cast<unsigned char>(c) < 0x20 || c == 0x7F) c = '?';
  }
  return length < text.size() ? result + "…" : result;
}

std::string in_quotes(std::string_view text) { return "\"" + shown(text) + "\""; }

std::string list_of(Keys words) {
  std::string text;
  for (std::size_t i = 0; i < words.size(); ++i) text += (i == 0 ? "" : i + 1 == words.size() ? " or " : ", ") + in_quotes(words[i]);
  return text;
}

std::string child_pointer(const std::string &pointer, std::string_view key) { return pointer + "/" + pointer_token(key); }
std::string child_pointer(const std::string &pointer, std::size_t index) { return pointer + "/" + std::to_string(index); }

std::string Findings::did_you_mean(std::string_view wrong, Keys known) {
  constexpr std::size_t kNear = 2;
  std::string_view best;
  std::size_t best_distance = kNear + 1;
  for (const std::string_view candidate : known) {
    if (comparisons_left_ == 0) break;
    const bool similar_length = wrong.size() <= candidate.size() + kNear && candidate.size() <= wrong.size() + kNear;
    comparisons_left_ -= std::min(comparisons_left_, similar_length ? wrong.size() * candidate.size() + 1 : 1);
    if (!similar_length) continue;
    const std::size_t distance = edit_distance(wrong, candidate);
    // Half of a short name changed is another name.
    if (distance < best_distance && distance * 2 <= candidate.size()) {
      best = candidate;
      best_distance = distance;
    }
  }
  for (const auto &[other, ours] : kOtherNames) {
    if (best.empty() && wrong == other && std::find(known.begin(), known.end(), ours) != known.end()) best = ours;
  }
  return best.empty() ? std::string() : "did you mean " + in_quotes(best) + "?";
}

const json *Object::find(std::string_view key) const {
  const auto found = value_.find(key);
  return found == value_.end() ? nullptr : &*found;
}

const json *Object::require(std::string_view key) const {
  const json *value = find(key);
  if (value == nullptr) findings_.add(pointer_, in_quotes(key) + " is missing");
  return value;
}

void Object::fault(std::string_view key, const std::string &problem, std::string hint) const {
  findings_.add(pointer_to(key), in_quotes(key) + " " + problem, std::move(hint));
}

void Object::allow_keys(Keys known, Keys reserved) const {
  for (const auto &item : value_.items()) {
    const std::string &key = item.key();
    if (std::find(known.begin(), known.end(), key) != known.end()) continue;
    if (std::find(reserved.begin(), reserved.end(), key) != reserved.end()) {
      findings_.add_unsupported(pointer_to(key), "key " + in_quotes(key) + " is reserved", "it arrives with a later release");
    } else {
      findings_.add(pointer_to(key), "unknown key " + in_quotes(key), findings_.did_you_mean(key, known));
    }
  }
}

std::optional<std::string> Object::text(std::string_view key) const {
  const json *value = find(key);
  if (value == nullptr) return std::nullopt;
  if (value->is_string()) return value->get<std::string>();
  fault(key, "must be a string");
  return std::nullopt;
}

std::optional<std::string> Object::name(std::string_view key, std::size_t max_length) const {
  std::optional<std::string> value = text(key);
  if (!value) return std::nullopt;
  const std::string problem = name_problem(*value, max_length);
  if (!problem.empty()) {
    findings_.add(pointer_to(key), std::string(key) + " " + in_quotes(*value) + " " + problem, "use letters, digits and _ . : -");
  }
  return value;
}

std::optional<std::string> Object::one_of(std::string_view key, Keys words) const {
  std::optional<std::string> value = text(key);
  if (!value || std::find(words.begin(), words.end(), *value) != words.end()) return value;
  fault(key, "must be " + list_of(words) + ", not " + in_quotes(*value), findings_.did_you_mean(*value, words));
  return std::nullopt;
}

std::optional<bool> Object::flag(std::string_view key) const {
  const json *value = find(key);
  if (value == nullptr) return std::nullopt;
  if (value->is_boolean()) return value->get<bool>();
  fault(key, "must be true or false");
  return std::nullopt;
}

std::optional<double> Object::bounded(std::string_view key, double low, double high, bool whole) const {
  const json *value = find(key);
  if (value == nullptr) return std::nullopt;
  if (value->is_number()) {
    const double number = value->get<double>();
    // Written 3.0, an integer is still one: jsonb keeps the fraction digits of what a client sent.
    if (number >= low && number <= high && (!whole || number == std::floor(number))) return number;
  }
  char bounds[64];
  std::snprintf(bounds, sizeof bounds, "from %.15g to %.15g", low, high);
  fault(key, std::string(whole ? "must be an integer " : "must be a number ") + bounds);
  return std::nullopt;
}

std::optional<double> Object::number(std::string_view key, double low, double high) const { return bounded(key, low, high, false); }

std::optional<int> Object::integer(std::string_view key, int low, int high) const {
  const std::optional<double> value = bounded(key, low, high, true);
  return value ? std::optional<int>(static_cast<int>(*value)) : std::nullopt;
}

}  // namespace tasker::core
