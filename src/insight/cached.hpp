// Answers of costly functions, from the cache while they hold. See store/cache.hpp: whose answers may be kept, and when.
#pragma once

#include <functional>
#include <optional>
#include <string>

#include "core/json.hpp"
#include "store/cache.hpp"

namespace tasker::insight {

class Cached {
 public:
  TimestampTz generated_at = 0, expires_at = 0;  // the same where the answer is not kept
  bool cached = false;                           // it was there

  core::json value() const;
  // As text, which is not worked over again when it is what was kept; bytes that are no UTF-8 are replaced.
  std::string document() const;

 private:
  friend Cached cached(core::CachedFunction function, const core::json &arguments, std::int64_t epoch, const std::function<core::json()> &work);
  std::optional<core::json> value_;  // one of the two
  std::optional<std::string> text_;
};

// The answer of `work`, which may be older or newer than the statement's snapshot. `arguments`: all that it depends on, besides the epoch.
// Precondition: no SPI connection; `work` makes its own.
Cached cached(core::CachedFunction function, const core::json &arguments, std::int64_t epoch, const std::function<core::json()> &work);

}  // namespace tasker::insight
