// Applies a schema to a value by recursion, one keyword at a time. Private to src/core/schema_validate.cpp (what
// the keywords ask) and src/core/schema_report.cpp (what is said when a value does not fit).
#pragma once

#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "core/schema_keywords.hpp"

namespace tasker::core::schema {

// Units of Work: one is a few nanoseconds, so that the whole budget is a second or two.
inline constexpr std::size_t kEvaluationCost = 16;  // of one keyword against one value
inline constexpr std::int64_t kBudget = 10'000'000 * kEvaluationCost;

// Types of values, as a set.
using Kinds = unsigned;
inline constexpr Kinds kNumbers = 1, kStrings = 2, kArrays = 4, kObjects = 8, kOthers = 16, kAll = 31;

// How far to go with one schema and one value.
struct Mode {
  bool report;   // note each violation; else the first one ends it
  bool collect;  // note which members and items were evaluated, for an unevaluated… further out
};

// One keyword, what it is applied to, and where.
struct Frame {
  const json &schema;
  const json &argument;
  const json &value;
  const Place *place;
  Mode mode;
};

class Validator {
 public:
  Validator(const json &root, const SchemaRegex &regex, std::size_t limit) : references_(root), regex_(regex), limit_(limit) {}

  std::vector<Violation> run(const json &root, const json &value) && {
    evaluate(root, value, nullptr, {true, false});
    return std::move(violations_);
  }

 private:
  struct Rule {
    std::string_view keyword;
    Kinds kinds;  // values of other types always fit
    bool (Validator::*holds)(const Frame &);
    // The violation: before, argument, after (after_many when the argument is not 1). Empty: holds() reports by itself.
    std::string_view before = {}, after = {}, after_many = {};
  };

  static const Rule *find_rule(std::string_view name) noexcept;

  bool evaluate(const json &schema, const json &value, const Place *place, Mode mode);
  bool evaluate_keywords(const json &schema, const json &value, const Place *place, Mode mode);
  bool evaluate_rule(const Rule &rule, const Frame &frame);
  bool go_on(Mode mode) const { return mode.report && violations_.size() < limit_; }
  bool in_place(const Frame &f, const json &schema) { return evaluate(schema, f.value, f.place, f.mode); }
  bool in_place_silently(const Frame &f, const json &schema) {
    return evaluate(schema, f.value, f.place, {false, f.mode.collect});
  }
  bool descend(const Frame &f, const json &schema, const json &child, const Place &place);
  bool descend_to_item(const Frame &f, const json &schema, std::size_t index) {
    return descend(f, schema, f.value[index], {f.place, {}, index});
  }
  bool occurs(std::string_view pattern, std::string_view text);

  // Leaf functions: kept out of line, so that their strings take no room in the frames that recursion repeats.
  [[gnu::noinline]] bool fail(const Place *place, Mode mode, std::string_view problem);
  [[gnu::noinline]] bool fail_rule(const Rule &rule, const Frame &f);
  [[gnu::noinline]] bool fail_enum(const Frame &f);
  [[gnu::noinline]] bool fail_type(const Frame &f);
  [[gnu::noinline]] bool fail_required(const Frame &f, std::string_view name, std::string_view because_of);
  [[gnu::noinline]] bool fail_contains(const Frame &f, std::size_t count);
  [[gnu::noinline]] bool fail_one_of(const Frame &f, std::size_t first, std::size_t second);
  [[gnu::noinline]] void blame_names(std::size_t first_violation);
  [[gnu::noinline]] bool fail_alternatives(const Frame &f);
  [[gnu::noinline]] void append_reason(const Frame &f, const json &alternative, std::string &reasons);
  [[gnu::noinline]] std::vector<const json *> unevaluated(const json &value, std::size_t since);

  // Assertions; the rule has the text of the violation, or they report it themselves.
  bool at_most(const Frame &f) { return compare_numbers(f.value, f.argument) <= 0; }
  bool below(const Frame &f) { return compare_numbers(f.value, f.argument) < 0; }
  bool at_least(const Frame &f) { return compare_numbers(f.value, f.argument) >= 0; }
  bool above(const Frame &f) { return compare_numbers(f.value, f.argument) > 0; }
  bool multiple_of(const Frame &f) { return is_multiple(f.value, f.argument); }
  bool max_size(const Frame &f) { return compare_numbers(f.value.size(), f.argument) <= 0; }
  bool min_size(const Frame &f) { return compare_numbers(f.value.size(), f.argument) >= 0; }
  bool max_length(const Frame &f);
  bool min_length(const Frame &f);
  bool pattern(const Frame &f) { return occurs(text_of(f.argument), text_of(f.value)); }
  bool format(const Frame &f);
  bool constant(const Frame &f) { return compare(f.value, f.argument, work_) == 0; }
  bool enumeration(const Frame &f);
  bool type(const Frame &f);
  bool unique_items(const Frame &f);
  bool required(const Frame &f) { return has_all(f, f.argument, {}); }
  bool dependent_required(const Frame &f);
  bool has_all(const Frame &f, const json &names, std::string_view because_of);

  // Schemas for parts of the value.
  bool properties(const Frame &f);
  bool pattern_properties(const Frame &f);
  bool additional_properties(const Frame &f);
  bool property_names(const Frame &f);
  bool prefix_items(const Frame &f);
  bool items(const Frame &f);
  bool contains(const Frame &f);
  bool unevaluated_properties(const Frame &f, std::size_t since);
  bool unevaluated_items(const Frame &f, std::size_t since);

  // Schemas for the value itself.
  bool reference(const Frame &f);
  bool all_of(const Frame &f);
  bool any_of(const Frame &f);
  bool one_of(const Frame &f);
  bool negation(const Frame &f);
  bool condition(const Frame &f);
  bool dependent_schemas(const Frame &f);

  References references_;
  const SchemaRegex &regex_;
  std::size_t limit_;
  std::vector<Violation> violations_;
  Work work_{kBudget};
  int level_ = 0;
  bool explaining_ = false;  // inside the reasons of a violation, which have none of their own
  // Members and items that some schema has evaluated successfully, by address: a journal, cut back where a
  // schema fails or nobody further out asks.
  std::vector<const json *> evaluated_;
};

}  // namespace tasker::core::schema
