// Reading JSON objects whose keys are known, one reader per type; what does not fit becomes a fault.
//
// Private to the parts of core that check documents. A reader never raises for bad input.
#pragma once

#include <cstddef>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "core/definition.hpp"

namespace tasker::core {

using Keys = std::span<const std::string_view>;

// A text of the document inside a message: short, on one line, never cut inside a character.
std::string shown(std::string_view text);
std::string in_quotes(std::string_view text);
// "a", "b" or "c".
std::string list_of(Keys words);
std::string child_pointer(const std::string &pointer, std::string_view key);
std::string child_pointer(const std::string &pointer, std::size_t index);

// The faults found so far, and hints for misspelt names.
class Findings {
 public:
  void add(std::string pointer, std::string problem, std::string hint = {}) {
    faults_.push_back({std::move(pointer), std::move(problem), std::move(hint), false});
  }
  void add_unsupported(std::string pointer, std::string problem, std::string hint) {
    faults_.push_back({std::move(pointer), std::move(problem), std::move(hint), true});
  }
  // "did you mean …?" for the nearest of `known`, at most two edits away; empty when none is near.
  std::string did_you_mean(std::string_view wrong, Keys known);
  std::vector<Fault> take() { return std::move(faults_); }

 private:
  std::vector<Fault> faults_;
  // Comparing costs: without an end to it, thousands of misspelt parents among thousands of steps would keep
  // a server process busy for minutes. Faults beyond it go without a hint.
  std::size_t comparisons_left_ = 20'000'000;
};

// One JSON object of the document, which must outlive it. Each reader gives the value, or nothing when the
// key is absent or faulty; JSON null is a value of the wrong type.
class Object {
 public:
  Object(const json &value, std::string pointer, Findings &findings) : value_(value), pointer_(std::move(pointer)), findings_(findings) {}

  const std::string &pointer() const { return pointer_; }
  std::string pointer_to(std::string_view key) const { return child_pointer(pointer_, key); }
  const json *find(std::string_view key) const;
  const json *require(std::string_view key) const;
  void fault(std::string_view key, const std::string &problem, std::string hint = {}) const;
  // Every other key is a fault; a reserved one says that it arrives later.
  void allow_keys(Keys known, Keys reserved = {}) const;
  std::optional<std::string> text(std::string_view key) const;
  // Given even when it is refused: what refers to a badly named step is not a second fault.
  std::optional<std::string> name(std::string_view key, std::size_t max_length) const;
  std::optional<std::string> one_of(std::string_view key, Keys words) const;
  std::optional<bool> flag(std::string_view key) const;
  std::optional<double> number(std::string_view key, double low, double high) const;
  std::optional<int> integer(std::string_view key, int low, int high) const;

 private:
  std::optional<double> bounded(std::string_view key, double low, double high, bool whole) const;

  const json &value_;
  std::string pointer_;
  Findings &findings_;
};

}  // namespace tasker::core
