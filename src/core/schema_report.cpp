#include <algorithm>

#include "core/schema_validator.hpp"

namespace tasker::core::schema {
namespace {

// Cut at a character boundary: messages quote patterns and values of any length.
std::string shorten(std::string_view text, std::size_t most = 120) {
  if (text.size() <= most) return std::string(text);
  const auto continues = [](char c) { return (static_cast<unsigned char>(c) & 0xC0U) == 0x80U; };
  while (most > 0 && continues(text[most])) --most;
  return std::string(text.substr(0, most)) + "…";
}

// A value as a message shows it. Objects and arrays are not spelled out: they may be of any size.
std::string show(const json &value) {
  if (value.is_array()) return value.empty() ? "[]" : "[…]";
  if (value.is_object()) return value.empty() ? "{}" : "{…}";
  const json shown = value.is_string() ? json(shorten(text_of(value))) : value;
  return shown.dump(-1, ' ', false, json::error_handler_t::replace);
}

}  // namespace

bool Validator::fail(const Place *place, Mode mode, std::string_view problem) {
  if (go_on(mode)) violations_.push_back({pointer_of(place), std::string(problem)});
  return false;
}

bool Validator::fail_rule(const Rule &rule, const Frame &f) {
  if (!go_on(f.mode)) return false;
  const bool one = f.argument.is_number() && compare_numbers(f.argument, 1) == 0;
  return fail(f.place, f.mode, std::string(rule.before) + show(f.argument) + std::string(one ? rule.after : rule.after_many));
}

bool Validator::fail_enum(const Frame &f) {
  if (!go_on(f.mode)) return false;
  if (f.argument.empty()) return fail(f.place, f.mode, "is not allowed");
  constexpr std::size_t kShown = 10;
  std::string problem = "is not one of ";
  for (std::size_t i = 0; i < std::min(f.argument.size(), kShown); ++i) problem += (i == 0 ? "" : ", ") + show(f.argument[i]);
  return fail(f.place, f.mode, problem + (f.argument.size() > kShown ? ", …" : ""));
}

bool Validator::fail_type(const Frame &f) {
  if (!go_on(f.mode)) return false;
  const json types = f.argument.is_array() ? f.argument : json::array({f.argument});
  std::string problem = "must be ";
  for (std::size_t i = 0; i < types.size(); ++i) {
    const std::string &name = text_of(types[i]);
    if (i > 0) problem += i + 1 == types.size() ? " or " : ", ";
    if (name != "null") problem += std::string_view("aio").find(name.front()) == std::string_view::npos ? "a " : "an ";
    problem += name;
  }
  return fail(f.place, f.mode, problem);
}

bool Validator::fail_required(const Frame &f, std::string_view name, std::string_view because_of) {
  if (!go_on(f.mode)) return false;
  const Place missing{f.place, name};
  if (because_of.data() == nullptr) return fail(&missing, f.mode, "is required");
  return fail(&missing, f.mode, "is required because " + show(json(because_of)) + " is present");
}

bool Validator::fail_contains(const Frame &f, std::size_t count) {
  if (!go_on(f.mode)) return false;
  const json *least = find_member(f.schema, "minContains");
  const json *most = find_member(f.schema, "maxContains");
  const bool too_few = least == nullptr ? count == 0 : compare_numbers(count, *least) < 0;
  const std::string bound = too_few ? "at least " + (least == nullptr ? "1" : show(*least)) : "at most " + show(*most);
  return fail(f.place, f.mode, "must have " + bound + " of the items that \"contains\" asks for, but has " + std::to_string(count));
}

bool Validator::fail_one_of(const Frame &f, std::size_t first, std::size_t second) {
  if (!go_on(f.mode)) return false;
  return fail(f.place, f.mode, "must fit exactly one of the " + std::to_string(f.argument.size()) + " alternatives, but fits number " +
                                   std::to_string(first + 1) + " and number " + std::to_string(second + 1));
}

// Violations by the name of a property stand at the property.
void Validator::blame_names(std::size_t first_violation) {
  for (std::size_t i = first_violation; i < violations_.size(); ++i) violations_[i].problem.insert(0, "property name ");
}

// None of the alternatives of an anyOf or oneOf fits: one violation, with the first reason of each.
bool Validator::fail_alternatives(const Frame &f) {
  if (!go_on(f.mode)) return false;
  const std::string count = std::to_string(f.argument.size());
  if (explaining_) return fail(f.place, f.mode, "fits none of the " + count + " alternatives");
  constexpr std::size_t kShown = 3;
  std::string reasons;
  explaining_ = true;
  for (std::size_t i = 0; i < std::min(f.argument.size(), kShown); ++i) append_reason(f, f.argument[i], reasons);
  explaining_ = false;
  if (f.argument.size() > kShown) reasons += "; …";
  if (f.argument.size() == 1) return fail(f.place, f.mode, reasons);
  return fail(f.place, f.mode, "fits none of the " + count + " alternatives (" + reasons + ")");
}

void Validator::append_reason(const Frame &f, const json &alternative, std::string &reasons) {
  const std::size_t before = violations_.size();
  const std::size_t outer_limit = std::exchange(limit_, before + 1);
  evaluate(alternative, f.value, f.place, {true, false});
  limit_ = outer_limit;
  if (violations_.size() == before) return;
  const Violation violation = std::move(violations_.back());
  violations_.pop_back();
  const std::string deeper = violation.pointer.substr(pointer_of(f.place).size());
  if (!reasons.empty()) reasons += "; ";
  reasons += shorten(deeper.empty() ? violation.problem : deeper + ' ' + violation.problem, 200);
}

}  // namespace tasker::core::schema
