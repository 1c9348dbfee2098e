#include "insight/dashboard.hpp"

#include <string_view>

#include "pg/spi.hpp"

namespace tasker::insight {

namespace {

// Made from the files next to this one; see the Makefile.
constexpr std::string_view kStyle =
#include "src/insight/dashboard.css.literal"
    ;
constexpr std::string_view kScript =
#include "src/insight/dashboard.js.literal"
    ;

constinit pg::Query select_hash{"SELECT 'sha256-' || pg_catalog.encode(pg_catalog.sha256(pg_catalog.convert_to($1, 'UTF8')), 'base64')", 1, {TEXTOID}};

std::string hash_of(std::string_view text) { return pg::execute(select_hash, pg::Params().text(text), pg::Access::kRead).rows.text(0, 1); }

// No end tag, comment or entity can be in it, whatever people called things.
std::string inert(const core::json &data) {
  std::string out;
  for (const char c : data.dump(-1, ' ', true, core::json::error_handler_t::replace)) {
    if (c == '<') out += "\\u003c";
    else if (c == '>') out += "\\u003e";
    else if (c == '&') out += "\\u0026";
    else out += c;
  }
  return out;
}

}  // namespace

std::string dashboard_page(const core::json &data, std::optional<int> refresh_seconds) {
  std::string out = "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src '";
  out += hash_of(kStyle) + "'; script-src '" + hash_of(kScript) + "'; base-uri 'none'; form-action 'none'\">\n";
  if (refresh_seconds) out += "<meta http-equiv=\"refresh\" content=\"" + std::to_string(*refresh_seconds) + "\">\n";
  out += "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n<meta name=\"referrer\" content=\"no-referrer\">\n<title>tasker</title>\n<style>";
  out += kStyle;
  out += "</style>\n</head>\n<body>\n<noscript>This page draws itself: it needs scripts to be allowed.</noscript>\n<script type=\"application/json\" id=\"data\">";
  out += inert(data);
  out += "</script>\n<script>";
  out += kScript;
  out += "</script>\n</body>\n</html>\n";
  return out;
}

}  // namespace tasker::insight
