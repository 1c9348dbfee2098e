#include "http/text.hpp"

#include <string.h>

#include <algorithm>
#include <cstdint>

#include "http/request.hpp"

namespace tasker::http {
namespace {

constexpr std::string_view kForbiddenHeaders[] = {"host",    "content-length", "transfer-encoding", "connection",     "keep-alive", "te", "trailer",
                                                  "upgrade", "expect",         "http2-settings",    "accept-encoding"};

bool is_control(char c) { return (static_cast<unsigned char>(c) < 0x20 && c != '\t') || c == 0x7F; }

bool is_token_character(char c) {
  const bool plain = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
  return plain || std::string_view("!#$%&'*+-.^_`|~").find(c) != std::string_view::npos;
}

// How many bytes the character at the start takes; 0: it is none.
std::size_t character_length(std::string_view text) {
  const auto byte = [text](std::size_t i) { return i < text.size() ? static_cast<unsigned char>(text[i]) : 0U; };
  const auto follows = [&](std::size_t i) { return (byte(i) & 0xC0U) == 0x80U; };
  const unsigned first = byte(0);
  if (first < 0x80) return first == 0 ? 0 : 1;
  if (first >= 0xC2 && first <= 0xDF) return follows(1) ? 2 : 0;
  if (first >= 0xE0 && first <= 0xEF) {
    const bool shortest = first != 0xE0 || byte(1) >= 0xA0;
    const bool no_surrogate = first != 0xED || byte(1) <= 0x9F;
    return shortest && no_surrogate && follows(1) && follows(2) ? 3 : 0;
  }
  if (first >= 0xF0 && first <= 0xF4) {
    const bool in_range = (first != 0xF0 || byte(1) >= 0x90) && (first != 0xF4 || byte(1) <= 0x8F);
    return in_range && follows(1) && follows(2) && follows(3) ? 4 : 0;
  }
  return 0;
}

}  // namespace

std::string lower(std::string_view text) {
  std::string result(text);
  for (char &c : result) {
    if (c >= 'A' && c <= 'Z') c = static_cast<char>(c - 'A' + 'a');
  }
  return result;
}

bool has_control(std::string_view text) { return std::any_of(text.begin(), text.end(), is_control); }

bool is_utf8(std::string_view text) {
  while (!text.empty()) {
    const std::size_t length = character_length(text);
    if (length == 0) return false;
    text.remove_prefix(length);
  }
  return true;
}

std::string base64(std::string_view bytes) {
  constexpr char kDigits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  std::string result;
  result.reserve((bytes.size() + 2) / 3 * 4);
  for (std::size_t i = 0; i < bytes.size(); i += 3) {
    const std::size_t count = std::min<std::size_t>(3, bytes.size() - i);
    std::uint32_t group = 0;
    for (std::size_t k = 0; k < 3; ++k) group = group << 8 | (k < count ? static_cast<unsigned char>(bytes[i + k]) : 0U);
    for (std::size_t k = 0; k < 4; ++k) result += k <= count ? kDigits[group >> (18 - 6 * k) & 63U] : '=';
  }
  return result;
}

Secret base64_secret(std::string_view bytes) {
  std::string encoded = base64(bytes);
  Secret result(encoded);
  explicit_bzero(encoded.data(), encoded.size());
  return result;
}

std::string one_line(std::string_view text, std::size_t most) {
  std::string result;
  while (!text.empty()) {
    const std::size_t length = character_length(text);
    const bool plain = length > 1 || (length == 1 && !is_control(text.front()));
    if (result.size() + std::max<std::size_t>(length, 1) > most) return result + "…";
    result += plain ? text.substr(0, length) : length == 1 ? " " : "?";
    text.remove_prefix(std::max<std::size_t>(length, 1));
  }
  return result;
}

void replace_all(std::string &text, std::string_view what, std::string_view with) {
  if (what.empty() || text.find(what) == std::string::npos) return;
  std::string result;
  std::size_t start = 0;
  for (std::size_t at = text.find(what); at != std::string::npos; at = text.find(what, start)) {
    result.append(text, start, at - start).append(with);
    start = at + what.size();
  }
  text = result.append(text, start);
}

std::string json_escaped(std::string_view text, bool slashes) {
  std::string result;
  for (const char c : text) {
    if (c == '"' || c == '\\' || (slashes && c == '/')) result += '\\';
    result += c;
  }
  return result;
}

std::string header_name_problem(std::string_view name) {
  if (name.empty()) return "must not be empty";
  if (!std::all_of(name.begin(), name.end(), is_token_character)) return "may have only letters, digits and !#$%&'*+-.^_`|~";
  const std::string low = lower(name);
  const bool forbidden = std::find(std::begin(kForbiddenHeaders), std::end(kForbiddenHeaders), low) != std::end(kForbiddenHeaders);
  if (forbidden || low.starts_with("proxy-")) return "is set by the connection itself";
  return {};
}

const char *failure_name(Failure failure) noexcept {
  switch (failure) {
    case Failure::kNone:
      return "none";
    case Failure::kInvalidRequest:
      return "invalid_request";
    case Failure::kRefusedAddress:
      return "refused_address";
    case Failure::kRedirectRefused:
      return "redirect_refused";
    case Failure::kResolve:
      return "resolve";
    case Failure::kConnect:
      return "connect";
    case Failure::kCertificate:
      return "certificate";
    case Failure::kTls:
      return "tls";
    case Failure::kTimeoutBeforeSend:
      return "timeout_before_send";
    case Failure::kTimeoutAfterSend:
      return "timeout_after_send";
    case Failure::kResetAfterSend:
      return "reset_after_send";
    case Failure::kMalformed:
      return "malformed";
    case Failure::kTooLarge:
      return "too_large";
    case Failure::kCancelled:
      return "cancelled";
    case Failure::kLocal:
      return "local";
  }
  return "none";
}

const std::string &Response::header(std::string_view name) const {
  static const std::string *const kNone = new std::string();
  const auto found = std::find_if(headers.begin(), headers.end(), [name](const Header &header) { return header.name == name; });
  return found == headers.end() ? *kNone : found->value;
}

}  // namespace tasker::http
