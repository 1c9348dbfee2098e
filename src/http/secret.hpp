// A text that is wiped from memory when it is no longer needed, and that nothing prints by accident.
#pragma once

#include <string.h>

#include <cstddef>
#include <string>
#include <string_view>

namespace tasker::http {

class Secret {
 public:
  Secret() = default;
  explicit Secret(std::string_view text) : text_(text) {}
  // A moved-from std::string may keep a copy of a short text in itself.
  Secret(Secret &&other) noexcept { text_.swap(other.text_); }
  Secret &operator=(Secret &&other) noexcept {
    text_.swap(other.text_);
    other.wipe();
    return *this;
  }
  Secret(const Secret &) = delete;
  Secret &operator=(const Secret &) = delete;
  ~Secret() { wipe(); }

  bool empty() const noexcept { return text_.empty(); }
  std::string_view text() const noexcept { return text_; }
  const char *c_str() const noexcept { return text_.c_str(); }
  // Growing would leave the old memory behind: one allocation for both.
  void append(std::string_view more) {
    Secret longer;
    longer.text_.reserve(text_.size() + more.size());
    longer.text_.append(text_).append(more);
    *this = std::move(longer);
  }
  void wipe() noexcept {
    explicit_bzero(text_.data(), text_.capacity());
    text_.clear();
  }

 private:
  std::string text_;
};

}  // namespace tasker::http
