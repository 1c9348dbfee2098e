#include "http/url.hpp"

#include <algorithm>
#include <new>
#include <utility>

#include "core/error.hpp"
#include "core/template.hpp"
#include "http/text.hpp"

namespace tasker::http {
namespace {

[[noreturn]] void refuse(const std::string &reason) { throw Error(sqlstate::kInvalidParameter, "invalid URL: " + reason); }

bool is_control(char c) { return static_cast<unsigned char>(c) < 0x20 || c == 0x7F; }

void check_characters(std::string_view text) {
  if (std::any_of(text.begin(), text.end(), is_control)) refuse("it has a control character");
  if (text.find(' ') != std::string_view::npos) refuse("it has a space");
  if (text.find('\\') != std::string_view::npos) refuse("it has a backslash");
}

// libcurl would also take http:/host and http:///host.
void check_start(std::string_view text) {
  const std::string start = lower(text.substr(0, 8));
  for (const std::string_view scheme : {"http://", "https://"}) {
    if (!start.starts_with(scheme)) continue;
    if (text.size() == scheme.size() || text[scheme.size()] == '/') refuse("it has no host");
    return;
  }
  refuse("it must start with http:// or https://");
}

std::string reason_of(CURLUcode code) {
  if (code == CURLUE_OUT_OF_MEMORY) throw std::bad_alloc();
  switch (code) {
    case CURLUE_USER_NOT_ALLOWED:
      return "it must not have a user or password";
    case CURLUE_BAD_PORT_NUMBER:
      return "its port is not a number from 0 to 65535";
    case CURLUE_UNSUPPORTED_SCHEME:
      return "only http and https are allowed";
    case CURLUE_NO_HOST:
      return "it has no host";
    default:
      return curl_url_strerror(code);
  }
}

constexpr unsigned int kSetFlags = CURLU_DISALLOW_USER;

void set(CURLU *handle, CURLUPart which, const std::string &text, unsigned int flags = kSetFlags) {
  const CURLUcode code = curl_url_set(handle, which, text.c_str(), flags);
  if (code != CURLUE_OK) refuse(reason_of(code));
}

// What RFC 3986 allows in a path, and "%", whose escapes stay as they are.
bool fits_path(char c) {
  const bool plain = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
  return plain || std::string_view("-._~!$&'()*+,;=:@/%").find(c) != std::string_view::npos;
}

std::string encoded_path(std::string_view path) {
  std::string result;
  for (const char c : path) result += fits_path(c) ? std::string(1, c) : core::percent_encode({&c, 1});
  return result;
}

bool leads_up(std::string_view path) {
  for (std::size_t start = 0; start <= path.size();) {
    const std::size_t end = std::min(path.find('/', start), path.size());
    const std::string segment = core::percent_decode(path.substr(start, end - start));
    if (segment == "." || segment == "..") return true;
    start = end + 1;
  }
  return false;
}

}  // namespace

Url::Url(std::string_view text) : handle_(curl_url()) {
  if (handle_ == nullptr) throw std::bad_alloc();
  check_characters(text);
  check_start(text);
  set(handle_.get(), CURLUPART_URL, std::string(text));
  read();
}

Url::Url(const Url &other) : handle_(curl_url_dup(other.handle_.get())), scheme_(other.scheme_), host_(other.host_), port_(other.port_) {
  if (handle_ == nullptr) throw std::bad_alloc();
}

Url::Url(Handle handle) : handle_(std::move(handle)) {
  if (handle_ == nullptr) throw std::bad_alloc();
}

void Url::read() {
  // Whatever the parser made of the text: user and password must not be there, and the scheme is one of ours.
  for (const CURLUPart which : {CURLUPART_USER, CURLUPART_PASSWORD, CURLUPART_OPTIONS}) {
    if (!part(which).empty()) refuse("it must not have a user or password");
  }
  (void)curl_url_set(handle_.get(), CURLUPART_FRAGMENT, nullptr, 0);
  scheme_ = lower(part(CURLUPART_SCHEME));
  if (scheme_ != "http" && scheme_ != "https") refuse("only http and https are allowed");
  host_ = lower(part(CURLUPART_HOST));
  if (host_.empty()) refuse("it has no host");
  port_ = 0;
  for (const char c : part(CURLUPART_PORT)) port_ = port_ * 10 + (c - '0');
  if (port_ < 1 || port_ > 65535) refuse("its port is not a number from 1 to 65535");
}

std::string Url::part(CURLUPart which) const {
  char *text = nullptr;
  const CURLUcode code = curl_url_get(handle_.get(), which, &text, which == CURLUPART_PORT ? CURLU_DEFAULT_PORT : 0);
  if (code == CURLUE_OUT_OF_MEMORY) throw std::bad_alloc();
  if (code != CURLUE_OK || text == nullptr) return {};
  const std::unique_ptr<char, decltype(&curl_free)> owner(text, &curl_free);
  return text;
}

std::string Url::path() const { return part(CURLUPART_PATH); }
std::string Url::query() const { return part(CURLUPART_QUERY); }
std::string Url::text() const { return part(CURLUPART_URL); }

Url Url::join(std::string_view path, std::string_view query) const {
  const std::string problem = path_problem(path);
  if (!problem.empty()) refuse("the path " + problem);
  check_characters(query);
  if (query.find('#') != std::string_view::npos) refuse("the query has a \"#\" that is not encoded");
  Url joined(Handle(curl_url_dup(handle_.get())));
  std::string whole = this->path();
  if (!path.empty()) {
    while (whole.ends_with('/')) whole.pop_back();
    whole += encoded_path(path);
  }
  set(joined.handle_.get(), CURLUPART_PATH, whole);
  if (!query.empty()) set(joined.handle_.get(), CURLUPART_QUERY, std::string(query));
  joined.read();
  if (!joined.same_origin(*this)) refuse("the path leads to another host");
  return joined;
}

Url Url::resolve(std::string_view location) const {
  if (location.empty()) refuse("the location is empty");
  check_characters(location);
  // "//host" and "/path" and "path" are relative; anything with a scheme must be ours.
  const std::size_t colon = location.find_first_of(":/?#");
  if (colon != std::string_view::npos && location[colon] == ':') check_start(location);
  if (location.starts_with("///")) refuse("the location has no host");
  Url target(Handle(curl_url_dup(handle_.get())));
  (void)curl_url_set(target.handle_.get(), CURLUPART_QUERY, nullptr, 0);
  set(target.handle_.get(), CURLUPART_URL, std::string(location));
  target.read();
  return target;
}

std::string base_url_problem(std::string_view text) {
  try {
    const Url url(text);
    if (text.find('#') != std::string_view::npos) return "must not have a fragment";
    if (text.find('?') != std::string_view::npos) return "must not have a query, which belongs to the steps";
    // Of the text: newer versions of libcurl take such segments out by themselves.
    if (leads_up(text)) return "must not have a segment \".\" or \"..\"";
    return {};
  } catch (const Error &error) {
    return "is not usable: " + error.message();
  }
}

std::string path_problem(std::string_view path) {
  if (path.empty()) return {};
  if (!path.starts_with('/')) return "must start with \"/\"";
  if (std::any_of(path.begin(), path.end(), is_control)) return "has a control character";
  if (path.find('\\') != std::string_view::npos) return "has a backslash";
  if (path.find_first_of("?#") != std::string_view::npos) return "has a \"?\" or a \"#\": parameters go into \"query\"";
  if (leads_up(path)) return "has a segment \".\" or \"..\"";
  return {};
}

}  // namespace tasker::http
