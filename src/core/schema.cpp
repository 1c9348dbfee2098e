#include "core/schema.hpp"

#include <algorithm>
#include <array>
#include <cfloat>
#include <charconv>
#include <cmath>
#include <optional>
#include <vector>

#include "core/error.hpp"
#include "core/schema_keywords.hpp"

namespace tasker::core::schema {
namespace {

constexpr auto kKeywords = std::to_array<Keyword>({
    {"$anchor", Shape::kAnchor},
    {"$comment", Shape::kString},
    {"$defs", Shape::kSchemaByName},
    {"$dynamicAnchor", Shape::kUnsupported},
    {"$dynamicRef", Shape::kUnsupported},
    {"$id", Shape::kRootId},
    {"$ref", Shape::kReference},
    {"$schema", Shape::kDialect},
    {"$vocabulary", Shape::kUnsupported},
    {"additionalProperties", Shape::kSchema},
    {"allOf", Shape::kSchemas, true},
    {"anyOf", Shape::kSchemas, true},
    {"const", Shape::kAnything},
    {"contains", Shape::kSchema},
    {"contentEncoding", Shape::kString},
    {"contentMediaType", Shape::kString},
    {"contentSchema", Shape::kSchema},
    {"default", Shape::kAnything},
    {"definitions", Shape::kSchemaByName},
    {"dependentRequired", Shape::kNamesByName},
    {"dependentSchemas", Shape::kSchemaByName, true},
    {"deprecated", Shape::kBoolean},
    {"description", Shape::kString},
    {"else", Shape::kSchema, true},
    {"enum", Shape::kArray},
    {"examples", Shape::kArray},
    {"exclusiveMaximum", Shape::kNumber},
    {"exclusiveMinimum", Shape::kNumber},
    {"format", Shape::kFormat},
    {"if", Shape::kSchema, true},
    {"items", Shape::kSchema},
    {"maxContains", Shape::kCount},
    {"maxItems", Shape::kCount},
    {"maxLength", Shape::kCount},
    {"maxProperties", Shape::kCount},
    {"maximum", Shape::kNumber},
    {"minContains", Shape::kCount},
    {"minItems", Shape::kCount},
    {"minLength", Shape::kCount},
    {"minProperties", Shape::kCount},
    {"minimum", Shape::kNumber},
    {"multipleOf", Shape::kPositiveNumber},
    {"not", Shape::kSchema, true},
    {"oneOf", Shape::kSchemas, true},
    {"pattern", Shape::kPattern},
    {"patternProperties", Shape::kSchemaByPattern},
    {"prefixItems", Shape::kSchemas},
    {"properties", Shape::kSchemaByName},
    {"propertyNames", Shape::kSchema},
    {"readOnly", Shape::kBoolean},
    {"required", Shape::kNames},
    {"then", Shape::kSchema, true},
    {"title", Shape::kString},
    {"type", Shape::kTypes},
    {"unevaluatedItems", Shape::kSchema},
    {"unevaluatedProperties", Shape::kSchema},
    {"uniqueItems", Shape::kBoolean},
    {"writeOnly", Shape::kBoolean},
});
static_assert(std::ranges::is_sorted(kKeywords, {}, &Keyword::name));

std::optional<std::string> percent_decoded(std::string_view text) {
  std::string decoded;
  for (std::size_t i = 0; i < text.size(); ++i) {
    if (text[i] != '%') {
      decoded += text[i];
      continue;
    }
    unsigned byte = 0;
    if (text.size() - i < 3) return std::nullopt;
    const char *end = text.data() + i + 3;
    if (std::from_chars(text.data() + i + 1, end, byte, 16).ptr != end) return std::nullopt;
    decoded += static_cast<char>(byte);
    i += 2;
  }
  return decoded;
}

// Undoes pointer_token.
std::optional<std::string> key_of_token(std::string_view token) {
  std::string key;
  for (std::size_t i = 0; i < token.size(); ++i) {
    if (token[i] != '~') {
      key += token[i];
    } else if (++i < token.size() && (token[i] == '0' || token[i] == '1')) {
      key += token[i] == '0' ? '~' : '/';
    } else {
      return std::nullopt;
    }
  }
  return key;
}

const json *child_at(const json &parent, std::string_view token) {
  if (parent.is_array()) {
    std::size_t index = 0;
    const char *end = token.data() + token.size();
    const auto [stop, error] = std::from_chars(token.data(), end, index);
    const bool padded = token.size() > 1 && token.front() == '0';
    if (error != std::errc{} || stop != end || padded || index >= parent.size()) return nullptr;
    return &parent[index];
  }
  const std::optional<std::string> key = key_of_token(token);
  if (!parent.is_object() || !key) return nullptr;
  const auto found = parent.find(*key);
  return found == parent.end() ? nullptr : &*found;
}

// The value at an RFC 6901 pointer; null when there is none.
const json *at_pointer(const json &root, std::string_view pointer) {
  const json *place = &root;
  while (!pointer.empty() && place != nullptr) {
    if (pointer.front() != '/') return nullptr;
    pointer.remove_prefix(1);
    const std::string_view token = pointer.substr(0, pointer.find('/'));
    place = child_at(*place, token);
    pointer.remove_prefix(token.size());
  }
  return place;
}

template <typename T>
int sign_of_difference(const T &left, const T &right) noexcept {
  return static_cast<int>(left > right) - static_cast<int>(left < right);
}

// Every number that JSON text can give (int64, uint64 or double) fits a long double without loss.
static_assert(LDBL_MANT_DIG >= 64);
long double exact(const json &number) noexcept { return number.get<long double>(); }

// A place in the order of types; all numbers are of one type.
int rank(const json &value) noexcept {
  switch (value.type()) {
    case json::value_t::null: return 0;
    case json::value_t::boolean: return 1;
    case json::value_t::number_integer:
    case json::value_t::number_unsigned:
    case json::value_t::number_float: return 2;
    case json::value_t::string: return 3;
    case json::value_t::array: return 4;
    default: return 5;
  }
}

constexpr std::size_t kComparisonCost = 4;  // in units of Work

int compare_strings(const std::string &left, const std::string &right, Work &work) {
  constexpr std::size_t kBytesPerUnit = 8;
  work.spend(kComparisonCost + std::min(left.size(), right.size()) / kBytesPerUnit);
  return left.compare(right);
}

int compare_arrays(const json &left, const json &right, Work &work) {
  int order = sign_of_difference(left.size(), right.size());
  for (std::size_t i = 0; order == 0 && i < left.size(); ++i) order = compare(left[i], right[i], work);
  return order;
}

// Members are sorted by name in both, so that they pair up.
int compare_objects(const json &left, const json &right, Work &work) {
  int order = sign_of_difference(left.size(), right.size());
  for (auto l = left.begin(), r = right.begin(); order == 0 && l != left.end(); ++l, ++r) {
    order = compare_strings(l.key(), r.key(), work);
    if (order == 0) order = compare(*l, *r, work);
  }
  return order;
}

__extension__ using Wide = unsigned __int128;

// digits · 10^exponent, digits not divisible by 10 unless it is 0. The sign does not matter to divisibility.
struct Decimal {
  std::uint64_t digits = 0;
  int exponent = 0;
};

// The shortest decimal that reads back as this number, which is the one that was written if it had 15 digits or less.
Decimal decimal_of(const json &number) {
  Decimal decimal;
  if (number.is_number_float()) {
    std::array<char, 32> text;
    const double magnitude = std::fabs(number.get<double>());
    const char *end = std::to_chars(text.data(), text.data() + text.size(), magnitude, std::chars_format::scientific).ptr;
    const char *c = text.data();
    for (bool fraction = false; c != end && *c != 'e'; ++c) {
      if (*c == '.') {
        fraction = true;
      } else {
        decimal.digits = decimal.digits * 10 + static_cast<std::uint64_t>(*c - '0');
        decimal.exponent -= fraction ? 1 : 0;
      }
    }
    int power = 0;
    c += c[1] == '+' ? 2 : 1;  // from_chars takes no plus sign
    std::from_chars(c, end, power);
    decimal.exponent += power;
  } else if (number.is_number_unsigned()) {
    decimal.digits = number.get<std::uint64_t>();
  } else {
    decimal.digits = static_cast<std::uint64_t>(number.get<std::int64_t>());
    if (number.get<std::int64_t>() < 0) decimal.digits = 0 - decimal.digits;
  }
  while (decimal.digits != 0 && decimal.digits % 10 == 0) {
    decimal.digits /= 10;
    ++decimal.exponent;
  }
  return decimal;
}

std::uint64_t power_of_ten_modulo(int exponent, std::uint64_t modulus) {
  Wide result = 1 % modulus;
  Wide square = 10 % modulus;
  for (; exponent > 0; exponent /= 2) {
    if (exponent % 2 == 1) result = result * square % modulus;
    square = square * square % modulus;
  }
  return static_cast<std::uint64_t>(result);
}

}  // namespace

const json *find_member(const json &object, std::string_view name) {
  const auto found = members(object).find(name);
  return found == members(object).end() ? nullptr : &found->second;
}

const Keyword *find_keyword(std::string_view name) noexcept {
  const auto *found = std::ranges::lower_bound(kKeywords, name, {}, &Keyword::name);
  return found != kKeywords.end() && found->name == name ? found : nullptr;
}

std::string pointer_of(const Place *place) {
  std::vector<const Place *> steps;
  for (; place != nullptr; place = place->parent) steps.push_back(place);
  std::string pointer;
  for (auto step = steps.rbegin(); step != steps.rend(); ++step) {
    pointer += '/';
    pointer += (*step)->name.data() == nullptr ? std::to_string((*step)->index) : pointer_token((*step)->name);
  }
  return pointer;
}

const json *References::resolve(const json &reference) {
  const auto [entry, is_new] = resolved_.try_emplace(&reference, nullptr);
  if (is_new) entry->second = look_up(text_of(reference));
  return entry->second;
}

const json *References::look_up(const std::string &reference) {
  if (!reference.starts_with('#')) return nullptr;
  const std::optional<std::string> fragment = percent_decoded(std::string_view(reference).substr(1));
  if (!fragment) return nullptr;
  if (fragment->empty() || fragment->front() == '/') return at_pointer(root_, *fragment);
  collect_anchors();
  const auto anchor = anchors_.find(*fragment);
  return anchor == anchors_.end() ? nullptr : anchor->second;
}

void References::collect_anchors() {
  if (anchors_collected_) return;
  anchors_collected_ = true;
  std::vector<const json *> pending{&root_};
  while (!pending.empty()) {
    const json *schema = pending.back();
    pending.pop_back();
    for_each_subschema(*schema, [&](const Inside &inside) { pending.push_back(inside.schema); });
    if (!schema->is_object()) continue;
    const auto anchor = schema->find("$anchor");
    if (anchor != schema->end() && anchor->is_string()) anchors_.emplace(anchor->get_ref<const std::string &>(), schema);
  }
}

void Work::exhausted() { throw Error(sqlstate::kProgramLimit, "context_schema is too costly to evaluate"); }

int compare_numbers(const json &left, const json &right) noexcept { return sign_of_difference(exact(left), exact(right)); }

int compare(const json &left, const json &right, Work &work) {
  work.spend(kComparisonCost);
  const int type = rank(left);
  if (type != rank(right)) return sign_of_difference(type, rank(right));
  switch (left.type()) {
    case json::value_t::null: return 0;
    case json::value_t::boolean: return sign_of_difference(left.get<bool>(), right.get<bool>());
    case json::value_t::string: return compare_strings(text_of(left), text_of(right), work);
    case json::value_t::array: return compare_arrays(left, right, work);
    case json::value_t::object: return compare_objects(left, right, work);
    default: return compare_numbers(left, right);
  }
}

bool is_integer(const json &value) noexcept {
  if (!value.is_number_float()) return value.is_number();
  const double number = value.get<double>();
  return std::trunc(number) == number;
}

bool is_multiple(const json &value, const json &divisor) {
  const Decimal dividend = decimal_of(value);
  const Decimal unit = decimal_of(divisor);
  if (dividend.digits == 0) return true;
  const int shift = dividend.exponent - unit.exponent;
  if (shift >= 0) {
    const Wide remainder = dividend.digits % unit.digits;
    return remainder * power_of_ten_modulo(shift, unit.digits) % unit.digits == 0;
  }
  // digits has no factor 10, so it cannot be a multiple of unit · 10^-shift.
  return false;
}

}  // namespace tasker::core::schema
