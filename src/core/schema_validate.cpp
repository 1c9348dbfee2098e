#include <algorithm>
#include <array>
#include <functional>

#include "core/error.hpp"
#include "core/schema_validator.hpp"

namespace tasker::core {
namespace schema {
namespace {

// One level is a schema applied inside another one. Measured, it takes up to 580 bytes of C stack with -O2 and 740
// with -O0, so that 700 levels stay within or about PostgreSQL's STACK_DEPTH_SLOP of 512 kB, which is there whatever
// max_stack_depth is and however deep the caller. The deepest JSON (256) fits with two levels for each of its own.
constexpr int kMaxLevels = 700;
// statement_too_complex, which PostgreSQL itself raises when its stack depth limit is exceeded.
constexpr const char *kTooDeep = "54001";

constexpr std::size_t kRegexCost = 32;    // of one match, in units of Work, and one unit for each byte
constexpr std::size_t kBytesPerUnit = 4;  // of a string that is read once

Kinds kind_of(const json &value) noexcept {
  if (value.is_number()) return kNumbers;
  if (value.is_string()) return kStrings;
  if (value.is_array()) return kArrays;
  return value.is_object() ? kObjects : kOthers;
}

std::size_t code_points(std::string_view text) {
  return static_cast<std::size_t>(
      std::ranges::count_if(text, [](char c) { return (static_cast<unsigned char>(c) & 0xC0U) != 0x80U; }));
}

bool has_type(const json &value, std::string_view type) {
  if (type == "integer") return is_integer(value);
  if (type == "number") return value.is_number();
  return type == value.type_name();  // nlohmann's names are JSON Schema's but for these two
}

}  // namespace

// Keywords that judge by themselves. The others are arguments of these (then, minContains …), annotations, or
// unevaluatedItems and unevaluatedProperties, which come after all of these.
const Validator::Rule *Validator::find_rule(std::string_view name) noexcept {
  using V = Validator;
  static constexpr auto kRules = std::to_array<Rule>({
      {"$ref", kAll, &V::reference},
      {"additionalProperties", kObjects, &V::additional_properties},
      {"allOf", kAll, &V::all_of},
      {"anyOf", kAll, &V::any_of},
      {"const", kAll, &V::constant, "must be "},
      {"contains", kArrays, &V::contains},
      {"dependentRequired", kObjects, &V::dependent_required},
      {"dependentSchemas", kObjects, &V::dependent_schemas},
      {"enum", kAll, &V::enumeration},
      {"exclusiveMaximum", kNumbers, &V::below, "must be less than "},
      {"exclusiveMinimum", kNumbers, &V::above, "must be greater than "},
      {"format", kStrings, &V::format, "does not have the format "},
      {"if", kAll, &V::condition},
      {"items", kArrays, &V::items},
      {"maxItems", kArrays, &V::max_size, "must have at most ", " item", " items"},
      {"maxLength", kStrings, &V::max_length, "must have at most ", " character", " characters"},
      {"maxProperties", kObjects, &V::max_size, "must have at most ", " property", " properties"},
      {"maximum", kNumbers, &V::at_most, "must be at most "},
      {"minItems", kArrays, &V::min_size, "must have at least ", " item", " items"},
      {"minLength", kStrings, &V::min_length, "must have at least ", " character", " characters"},
      {"minProperties", kObjects, &V::min_size, "must have at least ", " property", " properties"},
      {"minimum", kNumbers, &V::at_least, "must be at least "},
      {"multipleOf", kNumbers, &V::multiple_of, "must be a multiple of "},
      {"not", kAll, &V::negation},
      {"oneOf", kAll, &V::one_of},
      {"pattern", kStrings, &V::pattern, "does not match the pattern "},
      {"patternProperties", kObjects, &V::pattern_properties},
      {"prefixItems", kArrays, &V::prefix_items},
      {"properties", kObjects, &V::properties},
      {"propertyNames", kObjects, &V::property_names},
      {"required", kObjects, &V::required},
      {"type", kAll, &V::type},
      {"uniqueItems", kArrays, &V::unique_items},
  });
  static_assert(std::ranges::is_sorted(kRules, {}, &Rule::keyword));
  const auto *found = std::ranges::lower_bound(kRules, name, {}, &Rule::keyword);
  return found != kRules.end() && found->keyword == name ? found : nullptr;
}

bool Validator::evaluate(const json &schema, const json &value, const Place *place, Mode mode) {
  work_.spend(kEvaluationCost);
  if (schema.is_boolean()) return schema.get<bool>() || fail(place, mode, "is not allowed");
  if (level_ == kMaxLevels) throw Error(kTooDeep, "context_schema is nested too deeply to evaluate");
  ++level_;
  const std::size_t mark = evaluated_.size();
  const bool fits = evaluate_keywords(schema, value, place, mode);
  if (!fits || !mode.collect) evaluated_.resize(mark);
  --level_;
  return fits;
}

bool Validator::evaluate_keywords(const json &schema, const json &value, const Place *place, Mode mode) {
  const Kinds kind = kind_of(value);
  const json *last = nullptr;
  if (kind == kObjects) last = find_member(schema, "unevaluatedProperties");
  if (kind == kArrays) last = find_member(schema, "unevaluatedItems");
  const std::size_t mark = evaluated_.size();
  mode.collect = mode.collect || last != nullptr;
  bool fits = true;
  for (const auto &[name, argument] : members(schema)) {
    work_.spend(kEvaluationCost);
    const Rule *rule = find_rule(name);
    if (rule == nullptr || (rule->kinds & kind) == 0) continue;
    fits &= evaluate_rule(*rule, {schema, argument, value, place, mode});
    if (!fits && !go_on(mode)) return false;
  }
  // After another violation it is not known what would have been evaluated, and a report would mislead.
  if (!fits || last == nullptr) return fits;
  const Frame frame{schema, *last, value, place, mode};
  return kind == kObjects ? unevaluated_properties(frame, mark) : unevaluated_items(frame, mark);
}

bool Validator::evaluate_rule(const Rule &rule, const Frame &frame) {
  if (rule.kinds == kStrings) work_.spend(text_of(frame.value).size() / kBytesPerUnit);
  return (this->*rule.holds)(frame) || (!rule.before.empty() && fail_rule(rule, frame));
}

// An evaluation of a part leaves no traces in the journal but the part itself: nobody further out asks for its parts.
bool Validator::descend(const Frame &f, const json &schema, const json &child, const Place &place) {
  const bool fits = evaluate(schema, child, &place, {f.mode.report, false});
  if (f.mode.collect) evaluated_.push_back(&child);
  return fits;
}

bool Validator::occurs(std::string_view pattern, std::string_view text) {
  work_.spend(kRegexCost + text.size());
  return regex_.matches(pattern, text);
}

// The members or items that nothing has evaluated since the journal had this length.
std::vector<const json *> Validator::unevaluated(const json &value, std::size_t since) {
  std::vector<const json *> seen(evaluated_.begin() + static_cast<std::ptrdiff_t>(since), evaluated_.end());
  work_.spend(seen.size() + value.size());
  std::ranges::sort(seen, std::less<>());
  std::vector<const json *> missing;
  for (const json &part : value) {
    if (!std::ranges::binary_search(seen, &part, std::less<>())) missing.push_back(&part);
  }
  return missing;
}

bool Validator::max_length(const Frame &f) { return compare_numbers(code_points(text_of(f.value)), f.argument) <= 0; }

bool Validator::min_length(const Frame &f) { return compare_numbers(code_points(text_of(f.value)), f.argument) >= 0; }

bool Validator::format(const Frame &f) {
  work_.spend(kRegexCost + text_of(f.value).size());
  return has_format(text_of(f.argument), text_of(f.value), regex_);
}

bool Validator::enumeration(const Frame &f) {
  const auto is_value = [&](const json &option) { return compare(f.value, option, work_) == 0; };
  return std::ranges::any_of(f.argument, is_value) || fail_enum(f);
}

bool Validator::type(const Frame &f) {
  const auto is_it = [&](const json &name) { return has_type(f.value, text_of(name)); };
  return (f.argument.is_array() ? std::ranges::any_of(f.argument, is_it) : is_it(f.argument)) || fail_type(f);
}

// By sorting: comparing each with each would be quadratic.
bool Validator::unique_items(const Frame &f) {
  if (!f.argument.get<bool>()) return true;
  work_.spend(f.value.size());
  std::vector<const json *> sorted;
  for (const json &item : f.value) sorted.push_back(&item);
  std::ranges::sort(sorted, [&](const json *left, const json *right) { return compare(*left, *right, work_) < 0; });
  const auto same = [&](const json *left, const json *right) { return compare(*left, *right, work_) == 0; };
  return std::ranges::adjacent_find(sorted, same) == sorted.end() || fail(f.place, f.mode, "must not have equal items");
}

bool Validator::dependent_required(const Frame &f) {
  bool fits = true;
  for (const auto &[name, names] : members(f.argument)) {
    work_.spend(kEvaluationCost);
    if (!f.value.contains(name)) continue;
    fits &= has_all(f, names, name);
    if (!fits && !go_on(f.mode)) break;
  }
  return fits;
}

bool Validator::has_all(const Frame &f, const json &names, std::string_view because_of) {
  work_.spend(names.size() * kEvaluationCost);
  bool fits = true;
  for (const json &name : names) {
    if (f.value.contains(text_of(name))) continue;
    fits = fail_required(f, text_of(name), because_of);
    if (!go_on(f.mode)) break;
  }
  return fits;
}

bool Validator::properties(const Frame &f) {
  bool fits = true;
  for (const auto &[name, schema] : members(f.argument)) {
    work_.spend(kEvaluationCost);
    const json *child = find_member(f.value, name);
    if (child == nullptr) continue;
    fits &= descend(f, schema, *child, {f.place, name});
    if (!fits && !go_on(f.mode)) break;
  }
  return fits;
}

bool Validator::pattern_properties(const Frame &f) {
  bool fits = true;
  for (const auto &[pattern, schema] : members(f.argument)) {
    for (const auto &[name, child] : members(f.value)) {
      if (!occurs(pattern, name)) continue;
      fits &= descend(f, schema, child, {f.place, name});
      if (!fits && !go_on(f.mode)) return false;
    }
  }
  return fits;
}

bool Validator::additional_properties(const Frame &f) {
  const json *named = find_member(f.schema, "properties");
  const json *patterns = find_member(f.schema, "patternProperties");
  bool fits = true;
  for (const auto &[name, child] : members(f.value)) {
    work_.spend(kEvaluationCost);
    if (named != nullptr && named->contains(name)) continue;
    const auto covers = [&, &key = name](const auto &entry) { return occurs(entry.first, key); };
    if (patterns != nullptr && std::ranges::any_of(members(*patterns), covers)) continue;
    fits &= descend(f, f.argument, child, {f.place, name});
    if (!fits && !go_on(f.mode)) break;
  }
  return fits;
}

bool Validator::property_names(const Frame &f) {
  bool fits = true;
  for (const auto &[name, child] : members(f.value)) {
    const std::size_t first_violation = violations_.size();
    const Place place{f.place, name};
    if (evaluate(f.argument, json(name), &place, {f.mode.report, false})) continue;
    fits = false;
    blame_names(first_violation);
    if (!go_on(f.mode)) break;
  }
  return fits;
}

bool Validator::prefix_items(const Frame &f) {
  bool fits = true;
  for (std::size_t i = 0; i < std::min(f.argument.size(), f.value.size()); ++i) {
    fits &= descend_to_item(f, f.argument[i], i);
    if (!fits && !go_on(f.mode)) break;
  }
  return fits;
}

bool Validator::items(const Frame &f) {
  const json *prefix = find_member(f.schema, "prefixItems");
  bool fits = true;
  for (std::size_t i = prefix == nullptr ? 0 : prefix->size(); i < f.value.size(); ++i) {
    fits &= descend_to_item(f, f.argument, i);
    if (!fits && !go_on(f.mode)) break;
  }
  return fits;
}

bool Validator::contains(const Frame &f) {
  std::size_t count = 0;
  for (const json &item : f.value) {
    if (!evaluate(f.argument, item, f.place, {false, false})) continue;
    ++count;
    if (f.mode.collect) evaluated_.push_back(&item);
  }
  const json *least = find_member(f.schema, "minContains");
  const json *most = find_member(f.schema, "maxContains");
  const bool enough = least == nullptr ? count > 0 : compare_numbers(count, *least) >= 0;
  return (enough && (most == nullptr || compare_numbers(count, *most) <= 0)) || fail_contains(f, count);
}

bool Validator::unevaluated_properties(const Frame &f, std::size_t since) {
  const std::vector<const json *> missing = unevaluated(f.value, since);
  auto next = missing.begin();
  bool fits = true;
  for (const auto &[name, child] : members(f.value)) {
    if (next == missing.end() || *next != &child) continue;
    ++next;
    fits &= descend(f, f.argument, child, {f.place, name});
    if (!fits && !go_on(f.mode)) break;
  }
  return fits;
}

bool Validator::unevaluated_items(const Frame &f, std::size_t since) {
  bool fits = true;
  for (const json *item : unevaluated(f.value, since)) {
    fits &= descend_to_item(f, f.argument, static_cast<std::size_t>(item - &f.value.front()));
    if (!fits && !go_on(f.mode)) break;
  }
  return fits;
}

bool Validator::reference(const Frame &f) {
  const json *target = references_.resolve(f.argument);
  return target == nullptr ? fail(f.place, f.mode, "is under a $ref to nothing") : in_place(f, *target);
}

bool Validator::all_of(const Frame &f) {
  bool fits = true;
  for (const json &schema : f.argument) {
    fits &= in_place(f, schema);
    if (!fits && !go_on(f.mode)) break;
  }
  return fits;
}

bool Validator::any_of(const Frame &f) {
  bool fits = false;
  for (const json &schema : f.argument) {
    fits |= in_place_silently(f, schema);
    if (fits && !f.mode.collect) break;
  }
  return fits || fail_alternatives(f);
}

bool Validator::one_of(const Frame &f) {
  const std::size_t none = f.argument.size();
  std::size_t fitting = none;
  for (std::size_t i = 0; i < f.argument.size(); ++i) {
    if (!in_place_silently(f, f.argument[i])) continue;
    if (fitting != none) return fail_one_of(f, fitting, i);
    fitting = i;
  }
  return fitting != none || fail_alternatives(f);
}

bool Validator::negation(const Frame &f) {
  return !evaluate(f.argument, f.value, f.place, {false, false}) || fail(f.place, f.mode, "must not fit the schema in \"not\"");
}

bool Validator::condition(const Frame &f) {
  const json *branch = find_member(f.schema, in_place_silently(f, f.argument) ? "then" : "else");
  return branch == nullptr || in_place(f, *branch);
}

bool Validator::dependent_schemas(const Frame &f) {
  bool fits = true;
  for (const auto &[name, schema] : members(f.argument)) {
    work_.spend(kEvaluationCost);
    if (!f.value.contains(name)) continue;
    fits &= in_place(f, schema);
    if (!fits && !go_on(f.mode)) break;
  }
  return fits;
}

}  // namespace schema

std::vector<Violation> validate(const json &schema, const json &value, const SchemaRegex &regex, std::size_t limit) {
  return schema::Validator(schema, regex, limit).run(schema, value);
}

}  // namespace tasker::core
