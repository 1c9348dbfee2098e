// What checking a schema and validating a value share: the keywords, places, references, comparison and formats.
// Private to src/core/schema*.cpp.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <unordered_map>

#include "core/json.hpp"
#include "core/schema.hpp"

namespace tasker::core::schema {

// Precondition of all three: the value is of that type.
inline const json::object_t &members(const json &object) { return object.get_ref<const json::object_t &>(); }
inline const std::string &text_of(const json &string) { return string.get_ref<const std::string &>(); }

// Null when there is no such member.
const json *find_member(const json &object, std::string_view name);

// What the argument of a keyword looks like.
enum class Shape : std::uint8_t {
  kAnything, kBoolean, kString, kNumber, kPositiveNumber, kCount, kArray, kNames, kNamesByName, kTypes,
  kPattern, kFormat, kSchema, kSchemas, kSchemaByName, kSchemaByPattern, kReference, kAnchor, kRootId, kDialect, kUnsupported,
};

struct Keyword {
  std::string_view name;
  Shape shape;
  bool in_place = false;  // its schemas apply to the value itself, not to a part of it
};

const Keyword *find_keyword(std::string_view name) noexcept;

// One step of a JSON pointer; a place is the chain up to the root. The text is built only when it is reported.
struct Place {
  const Place *parent;      // null for the first step
  std::string_view name;    // of a member; without data for an item
  std::size_t index = 0;    // of an item
};
std::string pointer_of(const Place *place);

// A schema directly inside another one.
struct Inside {
  const Keyword *keyword;
  std::string_view name;  // of the member of the argument; without data when there is none
  std::size_t index;      // of the item of the argument
  const json *schema;
};
// Calls visit(const Inside &) for each. Arguments of the wrong type are passed over.
template <typename Visit>
void for_each_subschema(const json &schema, const Visit &visit) {
  if (!schema.is_object()) return;
  for (const auto &[name, argument] : members(schema)) {
    const Keyword *keyword = find_keyword(name);
    if (keyword == nullptr) continue;
    if (keyword->shape == Shape::kSchema) {
      visit(Inside{keyword, {}, 0, &argument});
    } else if (keyword->shape == Shape::kSchemas && argument.is_array()) {
      for (std::size_t i = 0; i < argument.size(); ++i) visit(Inside{keyword, {}, i, &argument[i]});
    } else if ((keyword->shape == Shape::kSchemaByName || keyword->shape == Shape::kSchemaByPattern) && argument.is_object()) {
      for (const auto &[member, subschema] : members(argument)) visit(Inside{keyword, member, 0, &subschema});
    }
  }
}

// Finds what a local $ref names: "#", "#/…" (a JSON pointer, percent-encoded) or "#name" (an $anchor).
class References {
 public:
  explicit References(const json &root) : root_(root) {}
  // Null when nothing is there. The result need not be a schema: check_schema sees to that.
  const json *resolve(const json &reference);

 private:
  const json *look_up(const std::string &reference);
  void collect_anchors();

  const json &root_;
  std::unordered_map<const json *, const json *> resolved_;  // by the place of the $ref: resolved once each
  std::map<std::string_view, const json *> anchors_;
  bool anchors_collected_ = false;
};

// A budget of computing time, in units of a few nanoseconds.
class Work {
 public:
  explicit Work(std::int64_t units) : left_(units) {}
  // Raises 54000 when the budget is used up.
  void spend(std::size_t units) {
    left_ -= static_cast<std::int64_t>(units);
    if (left_ < 0) exhausted();
  }

 private:
  [[noreturn]] static void exhausted();
  std::int64_t left_;
};

// Negative, zero or positive. Numbers compare by their mathematical value, exactly, whatever their C++ type.
int compare_numbers(const json &left, const json &right) noexcept;
// A total order over all values, in which equal means equal as JSON Schema defines it (1 is 1.0, members have no order).
int compare(const json &left, const json &right, Work &work);

bool is_integer(const json &value) noexcept;
// Exact for the decimal numbers written in the texts, as long as a double tells them apart (about 15 digits).
bool is_multiple(const json &value, const json &divisor);

bool known_format(std::string_view name) noexcept;
bool has_format(std::string_view name, std::string_view text, const SchemaRegex &regex);

}  // namespace tasker::core::schema
