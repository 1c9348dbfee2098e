// Parsing is one pass from left to right; rendering appends piece by piece. JSON is never nested deeper than
// kMaxJsonDepth, which bounds the recursion over it.
#include "core/template.hpp"

#include <algorithm>
#include <charconv>
#include <utility>

#include "core/error.hpp"
#include "core/object_reader.hpp"

namespace tasker::core {
namespace {

// The document's members: the fields of step_call.
constexpr std::string_view kFields[] = {"task_id", "step_name", "attempt", "context", "results", "config", "correlation_id", "idempotency_key"};

constexpr std::string_view kOpening = "${";
constexpr std::string_view kLiteralOpening = "$${";

constexpr bool is_unreserved(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' || c == '.' || c == '_' || c == '~';
}

constexpr int hex_digit(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  if (c >= 'A' && c <= 'F') return c - 'A' + 10;
  return -1;
}

std::string placeholder_text(std::string_view pointer) { return "${" + shown(pointer) + "}"; }

// RFC 6901. Empty when a "~" is followed by neither 0 nor 1.
std::optional<std::vector<std::string>> pointer_tokens(std::string_view pointer) {
  std::vector<std::string> tokens;
  for (std::size_t i = 0; i < pointer.size(); ++i) {
    if (pointer[i] == '/') {
      tokens.emplace_back();
    } else if (pointer[i] != '~') {
      tokens.back() += pointer[i];
    } else if (i + 1 < pointer.size() && (pointer[i + 1] == '0' || pointer[i + 1] == '1')) {
      tokens.back() += pointer[++i] == '0' ? '~' : '/';
    } else {
      return std::nullopt;
    }
  }
  return tokens;
}

const json *element_at(const json &array, const std::string &token) {
  std::size_t index = 0;
  const auto [end, fault] = std::from_chars(token.data(), token.data() + token.size(), index);
  const bool plain = fault == std::errc() && end == token.data() + token.size() && (token.size() == 1 || token[0] != '0');
  return plain && index < array.size() ? &array[index] : nullptr;
}

[[noreturn]] void raise_missing(std::string_view pointer, const std::vector<std::string> &tokens, std::size_t depth, const json &parent) {
  std::string place;
  for (std::size_t i = 0; i < depth; ++i) place += "/" + pointer_token(tokens[i]);
  const std::string where = place.empty() ? "The document" : "The value at " + shown(place);
  std::string detail = where + " has no member " + in_quotes(tokens[depth]) + ".";
  if (parent.is_array()) detail = where + " is an array of " + std::to_string(parent.size()) + " elements.";
  if (!parent.is_structured()) detail = where + " is neither an object nor an array.";
  const bool step_missing = depth == 1 && tokens[0] == "results";
  throw Error(sqlstate::kInvalidParameter, "template has no value at " + shown(pointer), std::move(detail),
              step_missing ? "A step reads the results of the steps that its depends_on names." : "");
}

const json &look_up(std::string_view pointer, const std::vector<std::string> &tokens, const json &document) {
  const json *value = &document;
  for (std::size_t depth = 0; depth < tokens.size(); ++depth) {
    const json *next = nullptr;
    if (value->is_object()) {
      const auto found = value->find(tokens[depth]);
      if (found != value->end()) next = &*found;
    } else if (value->is_array()) {
      next = element_at(*value, tokens[depth]);
    }
    if (next == nullptr) raise_missing(pointer, tokens, depth, *value);
    value = next;
  }
  return *value;
}

std::string plain_text(const json &value) {
  if (value.is_string()) return value.get_ref<const std::string &>();
  if (value.is_null()) return {};
  return value.dump(-1, ' ', false, json::error_handler_t::replace);
}

void check_header(std::string_view pointer, std::string_view text) {
  const bool forbidden = std::any_of(text.begin(), text.end(), [](char c) { return (static_cast<unsigned char>(c) < 0x20 && c != '\t') || c == 0x7F; });
  if (!forbidden) return;
  throw Error(sqlstate::kInvalidParameter, "value of " + placeholder_text(pointer) + " has a control character, which a header can't carry");
}

// Percent-encoding doesn't help against dots: "%2E%2E" is "..", and some servers take "..%2F.." for a way up.
void check_segment(std::string_view segment) {
  if (segment.empty()) {
    throw Error(sqlstate::kInvalidParameter, "template leaves a segment of the path empty", {},
                "An empty value would turn the path of one thing into the path of all; give the value, or leave out the segment.");
  }
  const std::string decoded = percent_decode(segment);
  for (std::size_t start = 0; start <= decoded.size();) {
    const std::size_t end = std::min(decoded.find_first_of("/\\", start), decoded.size());
    const std::string_view part = std::string_view(decoded).substr(start, end - start);
    if (part == "." || part == "..") {
      throw Error(sqlstate::kInvalidParameter, "template makes " + in_quotes(decoded) + " a segment of the path, which would lead elsewhere");
    }
    start = end + 1;
  }
}

[[noreturn]] void raise_too_long() {
  throw Error(sqlstate::kProgramLimit, "template renders more than " + std::to_string(kMaxRendered) + " bytes", {}, "Send a key instead of the value itself.");
}

// About as many bytes as its JSON takes, counted against what is left.
void spend(const json &value, std::size_t &budget) {
  constexpr std::size_t kNode = 8;
  const std::size_t own = kNode + (value.is_string() ? value.get_ref<const std::string &>().size() : 0);
  if (own > budget) raise_too_long();
  budget -= own;
  if (!value.is_structured()) return;
  for (const auto &item : value.items()) {
    if (item.key().size() > budget) raise_too_long();
    budget -= item.key().size();
    spend(item.value(), budget);
  }
}

// The path's segments that hold a placeholder.
class TouchedSegments {
 public:
  void literal(std::string_view text) {
    const auto slashes = static_cast<std::size_t>(std::count(text.begin(), text.end(), '/'));
    segment_ += slashes;
  }
  void placeholder() {
    if (touched_.empty() || touched_.back() != segment_) touched_.push_back(segment_);
  }
  void check(std::string_view path) const {
    std::size_t index = 0;
    auto next = touched_.begin();
    for (std::size_t start = 0; next != touched_.end(); ++index) {
      const std::size_t end = std::min(path.find('/', start), path.size());
      if (index == *next) {
        check_segment(path.substr(start, end - start));
        ++next;
      }
      start = end + 1;
    }
  }

 private:
  std::size_t segment_ = 0;
  std::vector<std::size_t> touched_;
};

}  // namespace

std::optional<Template::Problem> Template::parse(std::string_view text) {
  std::string literal;
  const auto finish_literal = [&] {
    if (!literal.empty()) pieces_.emplace_back(std::exchange(literal, {}));
  };
  while (!text.empty()) {
    if (text.starts_with(kLiteralOpening)) {
      literal += kOpening;
      text.remove_prefix(kLiteralOpening.size());
      continue;
    }
    if (!text.starts_with(kOpening)) {
      literal += text.front();
      text.remove_prefix(1);
      continue;
    }
    const std::size_t end = text.find('}');
    if (end == std::string_view::npos) {
      return Problem{"has a placeholder without an end: " + in_quotes(text), "write ${/json/pointer}, or $${ for a literal ${"};
    }
    const std::string_view pointer = text.substr(kOpening.size(), end - kOpening.size());
    if (!pointer.starts_with('/')) {
      return Problem{"has a placeholder that is no JSON pointer: " + in_quotes(text.substr(0, end + 1)),
                     "a pointer starts with \"/\", for example ${/context/order_id}; write $${ for a literal ${"};
    }
    std::optional<std::vector<std::string>> tokens = pointer_tokens(pointer);
    if (!tokens) {
      return Problem{"has a placeholder with a \"~\" that is neither ~0 nor ~1: " + in_quotes(text.substr(0, end + 1)),
                     "in a JSON pointer ~0 stands for \"~\" and ~1 for \"/\""};
    }
    if (std::find(std::begin(kFields), std::end(kFields), tokens->front()) == std::end(kFields)) {
      Findings findings;
      const std::string near = findings.did_you_mean(tokens->front(), kFields);
      return Problem{"refers to " + in_quotes(tokens->front()) + ", which no document has", near.empty() ? "the document has " + list_of(kFields) : near};
    }
    finish_literal();
    pieces_.emplace_back(Placeholder{std::string(pointer), std::move(*tokens)});
    text.remove_prefix(end + 1);
  }
  finish_literal();
  return std::nullopt;
}

Template::Template(std::string_view text) {
  const std::optional<Problem> problem = parse(text);
  if (problem) throw Error(sqlstate::kInvalidParameter, "template " + problem->text, {}, problem->hint);
}

bool Template::constant() const noexcept {
  return std::none_of(pieces_.begin(), pieces_.end(), [](const Piece &piece) { return std::holds_alternative<Placeholder>(piece); });
}

std::vector<std::vector<std::string>> Template::references() const {
  std::vector<std::vector<std::string>> result;
  for (const Piece &piece : pieces_) {
    if (const auto *placeholder = std::get_if<Placeholder>(&piece)) result.push_back(placeholder->tokens);
  }
  return result;
}

json Template::value(const json &document) const {
  const auto *only = pieces_.size() == 1 ? std::get_if<Placeholder>(&pieces_.front()) : nullptr;
  if (only == nullptr) return text(document, Landing::kText);
  return look_up(only->pointer, only->tokens, document);
}

std::string Template::text(const json &document, Landing landing) const {
  std::string result;
  TouchedSegments segments;
  for (const Piece &piece : pieces_) {
    if (const auto *literal = std::get_if<std::string>(&piece)) {
      segments.literal(*literal);
      result += *literal;
    } else {
      const auto &placeholder = std::get<Placeholder>(piece);
      std::string text = plain_text(look_up(placeholder.pointer, placeholder.tokens, document));
      segments.placeholder();
      if (landing == Landing::kHeader) check_header(placeholder.pointer, text);
      result += landing == Landing::kPath || landing == Landing::kQuery ? percent_encode(text) : std::move(text);
    }
    if (result.size() > kMaxRendered) raise_too_long();
  }
  if (landing == Landing::kPath) segments.check(result);
  return result;
}

JsonTemplate::JsonTemplate(const json &value) {
  if (value.is_string()) {
    Template string(value.get_ref<const std::string &>());
    if (string.constant()) {
      constant_ = string.value(nullptr);  // "$${" is still to be unescaped
    } else {
      string_ = std::move(string);
    }
    return;
  }
  if (!value.is_structured()) {
    constant_ = value;
    return;
  }
  is_object_ = value.is_object();
  bool all_constant = true;
  for (const auto &item : value.items()) {
    if (is_object_) names_.push_back(item.key());
    children_.emplace_back(item.value());
    const JsonTemplate &child = children_.back();
    all_constant = all_constant && !child.string_ && child.children_.empty();
  }
  if (!all_constant) return;
  std::size_t budget = kMaxRendered;
  constant_ = children_.empty() ? value : render(nullptr, budget);
  children_.clear();
}

json JsonTemplate::render(const json &document) const {
  std::size_t budget = kMaxRendered;
  return render(document, budget);
}

json JsonTemplate::render(const json &document, std::size_t &budget) const {
  if (string_) {
    json value = string_->value(document);
    spend(value, budget);
    return value;
  }
  if (children_.empty()) return constant_;
  json result = is_object_ ? json::object() : json::array();
  for (std::size_t i = 0; i < children_.size(); ++i) {
    json child = children_[i].render(document, budget);
    if (is_object_) {
      result[names_[i]] = std::move(child);
    } else {
      result.push_back(std::move(child));
    }
  }
  return result;
}

std::vector<std::vector<std::string>> JsonTemplate::references() const {
  std::vector<std::vector<std::string>> result;
  if (string_) result = string_->references();
  for (const JsonTemplate &child : children_) {
    for (std::vector<std::string> &reference : child.references()) result.push_back(std::move(reference));
  }
  return result;
}

std::vector<Fault> check_template(std::string_view text, const std::string &pointer) {
  Template parsed;
  const std::optional<Template::Problem> problem = parsed.parse(text);
  if (!problem) return {};
  return {{pointer, "template " + problem->text, problem->hint, false}};
}

std::vector<Fault> check_templates(const json &value, const std::string &pointer) {
  if (value.is_string()) return check_template(value.get_ref<const std::string &>(), pointer);
  std::vector<Fault> faults;
  if (!value.is_structured()) return faults;
  for (const auto &item : value.items()) {
    for (Fault &fault : check_templates(item.value(), child_pointer(pointer, std::string_view(item.key())))) faults.push_back(std::move(fault));
  }
  return faults;
}

std::string percent_encode(std::string_view text) {
  constexpr char kDigits[] = "0123456789ABCDEF";
  std::string result;
  result.reserve(text.size());
  for (const char c : text) {
    if (is_unreserved(c)) {
      result += c;
    } else {
      const auto byte = static_cast<unsigned char>(c);
      result += {'%', kDigits[byte >> 4], kDigits[byte & 15]};
    }
  }
  return result;
}

std::string percent_decode(std::string_view text) {
  std::string result;
  result.reserve(text.size());
  for (std::size_t i = 0; i < text.size(); ++i) {
    const int high = text[i] == '%' && i + 2 < text.size() ? hex_digit(text[i + 1]) : -1;
    const int low = high >= 0 ? hex_digit(text[i + 2]) : -1;
    if (low >= 0) {
      result += static_cast<char>(high * 16 + low);
      i += 2;
    } else {
      result += text[i];
    }
  }
  return result;
}

}  // namespace tasker::core
