#include "core/json.hpp"

#include <utility>
#include <vector>

#include "core/error.hpp"

namespace tasker::core {
namespace {

// What nlohmann says of a fault, without its class prefix and without the offending text: that may be long
// and need not be valid UTF-8, which PostgreSQL would refuse in an error message.
std::string reason_of(const json::exception &exception) {
  std::string reason = exception.what();
  const std::size_t start = reason.find("syntax error");
  if (start != std::string::npos) reason.erase(0, start);
  const std::size_t end = reason.find("; last read");
  if (end != std::string::npos) reason.resize(end);
  return reason;
}

// Builds the value from the events of nlohmann's parser, which is iterative. nlohmann's own builders do not
// serve: the plain one has no depth limit, and the one with a callback looks at all earlier siblings after
// each object or array, which is quadratic.
// A key that occurs twice has its last value, as in PostgreSQL's jsonb.
class Builder final : public json::json_sax_t {
 public:
  json take() { return std::move(root_); }

  bool null() override { return add(nullptr); }
  bool boolean(bool value) override { return add(value); }
  bool number_integer(json::number_integer_t value) override { return add(value); }
  bool number_unsigned(json::number_unsigned_t value) override { return add(value); }
  bool number_float(json::number_float_t value, const std::string &) override { return add(value); }
  bool string(std::string &value) override { return add(std::move(value)); }
  bool binary(json::binary_t &) override { return false; }  // no such thing in JSON text
  bool start_object(std::size_t) override { return open(json::object()); }
  bool start_array(std::size_t) override { return open(json::array()); }
  bool end_object() override { return close(); }
  bool end_array() override { return close(); }

  bool key(std::string &name) override {
    member_ = &(*open_.back())[std::move(name)];
    return true;
  }

  bool parse_error(std::size_t position, const std::string &, const json::exception &exception) override {
    const std::string place = " at byte " + std::to_string(position);
    constexpr int kNumberOverflow = 406;
    if (exception.id == kNumberOverflow) throw Error(sqlstate::kInvalidParameter, "number in JSON is out of range" + place);
    throw Error(sqlstate::kInvalidParameter, "invalid JSON" + place, reason_of(exception));
  }

 private:
  json *put(json &&value) {
    if (open_.empty()) return &(root_ = std::move(value));
    if (open_.back()->is_object()) return &(*member_ = std::move(value));
    open_.back()->push_back(std::move(value));
    return &open_.back()->back();
  }

  bool add(json value) {
    put(std::move(value));
    return true;
  }

  bool open(json &&container) {
    if (open_.size() >= std::size_t{kMaxJsonDepth}) {
      throw Error(sqlstate::kInvalidParameter, "JSON is nested deeper than " + std::to_string(kMaxJsonDepth) + " levels");
    }
    open_.push_back(put(std::move(container)));
    return true;
  }

  bool close() {
    open_.pop_back();
    return true;
  }

  json root_;
  json *member_ = nullptr;    // where the value of the key just read goes
  std::vector<json *> open_;  // the containers around the current place, outermost first
};

}  // namespace

json parse_json(std::string_view text) {
  // nlohmann takes a NUL for the end of the text and would ignore what follows.
  const std::size_t nul = text.find('\0');
  if (nul != std::string_view::npos) {
    throw Error(sqlstate::kInvalidParameter, "invalid JSON at byte " + std::to_string(nul + 1), "a null byte is not allowed");
  }
  Builder builder;
  json::sax_parse(text.begin(), text.end(), &builder);
  return builder.take();
}

std::string pointer_token(std::string_view key) {
  std::string token;
  token.reserve(key.size());
  for (const char c : key) {
    if (c == '~') {
      token += "~0";
    } else if (c == '/') {
      token += "~1";
    } else {
      token += c;
    }
  }
  return token;
}

}  // namespace tasker::core
