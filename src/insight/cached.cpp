#include "insight/cached.hpp"

#include "pg/fault.hpp"

namespace tasker::insight {

namespace {

// Nothing for what is no UTF-8, which a database in another encoding may hold: two such texts could not be told apart, nor given back
// as they were.
std::optional<std::string> text_of(const core::json &value) {
  try {
    return value.dump();
  } catch (const core::json::type_error &) {
    return std::nullopt;
  }
}

}  // namespace

core::json Cached::value() const { return value_ ? *value_ : core::parse_json(*text_); }
std::string Cached::document() const { return text_ ? *text_ : value_->dump(-1, ' ', false, core::json::error_handler_t::replace); }

Cached cached(core::CachedFunction function, const core::json &arguments, std::int64_t epoch, const std::function<core::json()> &work) {
  Cached out;
  const auto work_out = [&] {
    out.generated_at = out.expires_at = GetCurrentTimestamp();
    out.value_ = work();
  };
  std::optional<std::string> asked = store::cache_serves() ? text_of(arguments) : std::nullopt;
  if (!asked) {
    work_out();
    return out;
  }
  store::CacheTurn turn({function, std::move(*asked), epoch});
  if (turn.answer()) {
    out.text_ = turn.answer()->text;
    out.generated_at = turn.answer()->generated_at;
    out.expires_at = turn.answer()->expires_at;
    out.cached = true;
    return out;
  }
  TASKER_FAULT("cache.turn");
  {
    const store::FreshSnapshot fresh;
    work_out();
  }
  const std::optional<std::string> text = text_of(*out.value_);
  out.expires_at = turn.publish(text ? std::optional<std::string_view>(*text) : std::nullopt, out.generated_at).value_or(out.generated_at);
  return out;
}

}  // namespace tasker::insight
