// Templates: text with placeholders `${/json/pointer}` over one document, the fields of step_call.
//
//   "${/results/price/total}"            exactly one placeholder: the JSON value, with its type
//   "/users/${/context/user}/orders"     inside longer text: the value's text, encoded for the place it lands in
//   "$${HOME}"                           a literal "${HOME}"
//
// The text of a string is its content, of null nothing, of anything else its JSON. A pointer that leads nowhere is an
// error which names it; null is a value. A pointer can't contain "}", and a "$" right before a placeholder makes it a literal.
//
// What a template renders never leaves its place: a value in a path stays one segment of it (never ".", ".." or nothing),
// a value in a query stays one value, a header stays one line, and a string of a JSON document stays that string.
//
// Pure; parsed once, rendered often. Rendering raises tasker::Error: 22023 for a missing or forbidden value, 54000 for
// more than kMaxRendered bytes (a template that repeats a large value would otherwise fill the memory).
#pragma once

#include <cstddef>
#include <optional>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "core/definition.hpp"
#include "core/json.hpp"

namespace tasker::core {

inline constexpr std::size_t kMaxRendered = 16 * 1024 * 1024;

enum class Landing {
  kText,    // as it is; also the content of a JSON string, which whoever writes the JSON escapes
  kPath,    // of a URL; the template's own text is written as in a URL
  kQuery,   // the name or the value of a query parameter, or of a form field
  kHeader,  // the value of a header field: control characters are refused
};

// What is wrong with a template's text, and with the templates inside a JSON value: the fault's pointer leads to the string.
std::vector<Fault> check_template(std::string_view text, const std::string &pointer = {});
std::vector<Fault> check_templates(const json &value, const std::string &pointer = {});

class Template {
 public:
  // Raises 22023 with the first problem that check_template finds.
  explicit Template(std::string_view text);

  // No placeholder in it: renders the same always.
  bool constant() const noexcept;
  // The pointers, as lists of their unescaped tokens: what the template reads.
  std::vector<std::vector<std::string>> references() const;

  json value(const json &document) const;
  std::string text(const json &document, Landing landing) const;

 private:
  struct Placeholder {
    std::string pointer;
    std::vector<std::string> tokens;
  };
  using Piece = std::variant<std::string, Placeholder>;
  struct Problem {
    std::string text, hint;
  };

  Template() = default;
  // Reads all of the text into pieces_, or as far as its first problem.
  std::optional<Problem> parse(std::string_view text);
  friend std::vector<Fault> check_template(std::string_view text, const std::string &pointer);

  std::vector<Piece> pieces_;
};

// A JSON value whose strings are templates; names of members are plain text.
class JsonTemplate {
 public:
  explicit JsonTemplate(const json &value);

  json render(const json &document) const;
  std::vector<std::vector<std::string>> references() const;

 private:
  json render(const json &document, std::size_t &budget) const;

  json constant_;  // when nothing below it has a placeholder
  std::optional<Template> string_;
  bool is_object_ = false;
  std::vector<std::string> names_;  // of an object's members
  std::vector<JsonTemplate> children_;
};

// RFC 3986: every byte but letters, digits and - . _ ~ becomes %XX.
std::string percent_encode(std::string_view text);
// The opposite; a % without two hex digits stays as it is.
std::string percent_decode(std::string_view text);

}  // namespace tasker::core
