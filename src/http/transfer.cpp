#include "http/transfer.hpp"

#include <string.h>
#include <sys/socket.h>

#include <algorithm>
#include <cerrno>
#include <new>
#include <type_traits>
#include <utility>

#include "core/error.hpp"
#include "http/text.hpp"

static_assert(LIBCURL_VERSION_NUM >= 0x075700, "libcurl 7.87 or later: CURLOPT_QUICK_EXIT");

namespace tasker::http {
namespace {

// What goes along to another host: nothing that could be a credential.
constexpr std::string_view kHarmlessHeaders[] = {"accept",          "accept-language", "content-type", "content-language", "user-agent",
                                                 "idempotency-key", "traceparent",     "tracestate",   "x-correlation-id"};

constexpr long kMaxConnectionSeconds = 300;

template <typename Value>
void set(CURL *easy, CURLoption option, Value value) {
  static_assert(std::is_same_v<Value, long> || std::is_same_v<Value, curl_off_t> || std::is_pointer_v<Value>);
  const CURLcode code = curl_easy_setopt(easy, option, value);
  if (code == CURLE_OUT_OF_MEMORY) throw std::bad_alloc();
  if (code != CURLE_OK) throw Error(sqlstate::kInvalidParameter, std::string("HTTP request can't be made: ") + curl_easy_strerror(code));
}

long milliseconds(double seconds) {
  constexpr double kMost = 7 * 86'400.0;
  return std::max(1L, static_cast<long>(std::clamp(seconds, 0.0, kMost) * 1000));
}

bool is_redirect(int status) { return status == 301 || status == 302 || status == 303 || status == 307 || status == 308; }

std::string with_port(const Url &url) { return url.host() + ":" + std::to_string(url.port()); }

}  // namespace

void Transfer::ListCloser::operator()(curl_slist *list) const {
  for (curl_slist *node = list; node != nullptr; node = node->next) {
    if (node->data != nullptr) explicit_bzero(node->data, strlen(node->data));
  }
  curl_slist_free_all(list);
}

Transfer::Transfer(std::uint64_t id, Request request, Shared &shared) : request_(std::move(request)), shared_(shared) { response_.id = id; }

bool Transfer::begin() {
  try {
    started_ = Clock::now();
    deadline_ = started_ + std::chrono::milliseconds(milliseconds(request_.timeout_seconds));
    url_.emplace(request_.url);
  } catch (const Error &error) {
    fail(Failure::kInvalidRequest, error.message());
    return false;
  }
  return prepare_hop();
}

void Transfer::cancel() {
  read_timings();
  fail(Failure::kCancelled, "the call was cancelled");
}

void Transfer::fail(Failure failure, std::string message) {
  response_.failure = failure;
  response_.message = one_line(message);
}

Response Transfer::take_response() {
  redact();
  return std::move(response_);
}

// --- a hop's handle ---

bool Transfer::prepare_hop() {
  try {
    const auto left = std::chrono::duration_cast<std::chrono::milliseconds>(deadline_ - Clock::now()).count();
    easy_.reset(curl_easy_init());
    if (easy_ == nullptr) throw std::bad_alloc();
    response_.host = with_port(*url_);
    error_[0] = '\0';
    refused_.reset();
    sockets_ = local_error_ = requests_ = hop_status_ = 0;
    resend_refused_ = header_overflow_ = header_done_ = false;
    header_bytes_ = 0;
    set_policy();
    set_request();
    set_headers();
    set(easy_.get(), CURLOPT_TIMEOUT_MS, std::max(1L, static_cast<long>(left)));
    set(easy_.get(), CURLOPT_CONNECTTIMEOUT_MS, milliseconds(request_.connect_timeout_seconds));
    return true;
  } catch (const Error &error) {
    fail(Failure::kInvalidRequest, error.message());
  } catch (const std::bad_alloc &) {
    fail(Failure::kLocal, "out of memory");
  }
  easy_.reset();
  return false;
}

void Transfer::set_policy() {
  CURL *easy = easy_.get();
  set(easy, CURLOPT_PRIVATE, static_cast<void *>(this));
  set(easy, CURLOPT_ERRORBUFFER, error_);
  set(easy, CURLOPT_NOSIGNAL, 1L);
  set(easy, CURLOPT_QUICK_EXIT, 1L);  // doesn't wait for a look-up that is under way
  set(easy, CURLOPT_NOPROGRESS, 1L);
  set(easy, CURLOPT_PROTOCOLS_STR, "http,https");
  set(easy, CURLOPT_REDIR_PROTOCOLS_STR, "http,https");
  set(easy, CURLOPT_FOLLOWLOCATION, 0L);
  set(easy, CURLOPT_UNRESTRICTED_AUTH, 0L);
  set(easy, CURLOPT_PROXY, "");  // not even one that the environment names
  set(easy, CURLOPT_NETRC, static_cast<long>(CURL_NETRC_IGNORED));
  set(easy, CURLOPT_TCP_KEEPALIVE, 1L);
  if (shared_.resolve != nullptr) set(easy, CURLOPT_RESOLVE, shared_.resolve);
  set(easy, CURLOPT_OPENSOCKETFUNCTION, &Transfer::open_socket);
  set(easy, CURLOPT_OPENSOCKETDATA, static_cast<void *>(this));
  set(easy, CURLOPT_PREREQFUNCTION, &Transfer::before_request);
  set(easy, CURLOPT_PREREQDATA, static_cast<void *>(this));
  set(easy, CURLOPT_SSL_VERIFYPEER, 1L);
  set(easy, CURLOPT_SSL_VERIFYHOST, 2L);
  set(easy, CURLOPT_SSLVERSION, static_cast<long>(CURL_SSLVERSION_TLSv1_2));
  if (!request_.ca_pem.empty()) {
    curl_blob blob = {request_.ca_pem.data(), request_.ca_pem.size(), CURL_BLOB_NOCOPY};
    set(easy, CURLOPT_CAINFO_BLOB, &blob);
  } else if (!request_.ca_file.empty()) {
    set(easy, CURLOPT_CAINFO, request_.ca_file.c_str());
  }
  set(easy, CURLOPT_HTTP_VERSION, static_cast<long>(request_.http2 ? CURL_HTTP_VERSION_2TLS : CURL_HTTP_VERSION_1_1));
  if (request_.repeatable) {
    // Rather share a connection that is just being made than make one each.
    set(easy, CURLOPT_PIPEWAIT, request_.http2 && url_->scheme() == "https" ? 1L : 0L);
    // Under load a connection would live for ever, at an address that the name has left.
    set(easy, CURLOPT_MAXLIFETIME_CONN, kMaxConnectionSeconds);
  } else {
    // A kept connection may be dead, which shows only when the request has left: then nobody knows whether it arrived.
    set(easy, CURLOPT_FRESH_CONNECT, 1L);
    set(easy, CURLOPT_FORBID_REUSE, 1L);
  }
}

void Transfer::set_request() {
  CURL *easy = easy_.get();
  set(easy, CURLOPT_CURLU, url_->handle());
  set(easy, CURLOPT_HEADERFUNCTION, &Transfer::take_header);
  set(easy, CURLOPT_HEADERDATA, static_cast<void *>(this));
  set(easy, CURLOPT_WRITEFUNCTION, &Transfer::take_body);
  set(easy, CURLOPT_WRITEDATA, static_cast<void *>(this));
  const std::string &method = request_.method;
  const bool sends = request_.has_body || method == "POST" || method == "PUT" || method == "PATCH";
  if (method == "HEAD") {
    set(easy, CURLOPT_NOBODY, 1L);
  } else if (sends) {
    // Not copied: it stays where it is until the call has ended.
    set(easy, CURLOPT_POSTFIELDSIZE_LARGE, static_cast<curl_off_t>(request_.body.size()));
    set(easy, CURLOPT_POSTFIELDS, request_.body.c_str());
  } else {
    set(easy, CURLOPT_HTTPGET, 1L);
  }
  if (method != "HEAD") set(easy, CURLOPT_CUSTOMREQUEST, method.c_str());
}

void Transfer::set_headers() {
  headers_.reset();
  bool has_type = false;
  const Credentials &credentials = request_.credentials;
  const std::string credential_name = credentials.kind == Credentials::Kind::kHeader ? lower(credentials.name) : "authorization";
  const bool send_credentials = credentials.kind != Credentials::Kind::kNone && first_origin_;
  for (const Header &header : request_.headers) {
    const std::string name = lower(header.name);
    if (!header_name_problem(name).empty() || has_control(header.value)) {
      throw Error(sqlstate::kInvalidParameter, "HTTP request can't be made: a header's name or value is not allowed");
    }
    if (send_credentials && name == credential_name) continue;
    if (!first_origin_ && std::find(std::begin(kHarmlessHeaders), std::end(kHarmlessHeaders), name) == std::end(kHarmlessHeaders)) continue;
    has_type = has_type || name == "content-type";
    add_header(header.name, header.value);
  }
  if (send_credentials) {
    Secret value;
    if (has_control(credentials.secret.text()) || has_control(credentials.name)) {
      throw Error(sqlstate::kInvalidParameter, "HTTP request can't be made: the credentials have a control character");
    }
    if (credentials.kind == Credentials::Kind::kBearer) value = Secret("Bearer ");
    if (credentials.kind == Credentials::Kind::kBasic) {
      Secret pair(credentials.name + ":");
      pair.append(credentials.secret.text());
      value = Secret("Basic ");
      value.append(base64_secret(pair.text()).text());
    } else {
      value.append(credentials.secret.text());
    }
    add_header(credential_name, value.text());
  }
  // What libcurl would add by itself: a form's type, and a question before large bodies that few servers answer.
  if (!has_type) add_header("Content-Type", {});
  add_header("Expect", {});
  // Asked to close first, the server keeps the remains of the connection, not we.
  if (!request_.repeatable) add_header("Connection", "close");
  set(easy_.get(), CURLOPT_HTTPHEADER, headers_.get());
}

// An empty value of Content-Type or Expect takes libcurl's own header away; any other is sent empty.
void Transfer::add_header(std::string_view name, std::string_view value) {
  Secret line(name);
  const bool removes = value.empty() && (name == "Content-Type" || name == "Expect");
  line.append(value.empty() ? (removes ? ":" : ";") : ": ");
  line.append(value);
  curl_slist *longer = curl_slist_append(headers_.get(), line.c_str());
  if (longer == nullptr) throw std::bad_alloc();
  (void)headers_.release();
  headers_.reset(longer);
}

// --- what libcurl asks and brings; it must never see an exception ---

curl_socket_t Transfer::open_socket(void *self, curlsocktype purpose, curl_sockaddr *address) noexcept {
  auto &transfer = *static_cast<Transfer *>(self);
  const bool whole = purpose == CURLSOCKTYPE_IPCXN && address->family == address->addr.sa_family;
  const AddressKind kind = whole ? judge_address(&address->addr, static_cast<socklen_t>(address->addrlen)) : AddressKind::kOther;
  if (kind == AddressKind::kOther || (kind != AddressKind::kPublic && !transfer.request_.allow_private)) {
    transfer.refused_ = kind;
    return CURL_SOCKET_BAD;
  }
  const int fd = socket(address->family, address->socktype | SOCK_CLOEXEC, address->protocol);
  if (fd < 0) {
    transfer.local_error_ = errno;
    return CURL_SOCKET_BAD;
  }
  ++transfer.sockets_;
  ++transfer.shared_.dialled;
  return fd;
}

int Transfer::before_request(void *self, char *peer, char *, int, int) noexcept {
  auto &transfer = *static_cast<Transfer *>(self);
  // Judged when it was dialled. Asked again, as a connection may also be a kept one.
  const std::optional<AddressKind> kind = judge_address(std::string_view(peer != nullptr ? peer : ""));
  if (kind && *kind != AddressKind::kPublic && !transfer.request_.allow_private) {
    transfer.refused_ = *kind;
    return CURL_PREREQFUNC_ABORT;
  }
  // libcurl sends again by itself what it believes to have gone into a dead connection.
  if (++transfer.requests_ > 1 && !transfer.request_.repeatable) {
    transfer.resend_refused_ = true;
    return CURL_PREREQFUNC_ABORT;
  }
  transfer.response_.sent = true;
  return CURL_PREREQFUNC_OK;
}

std::size_t Transfer::take_header(char *data, std::size_t size, std::size_t count, void *self) noexcept {
  auto &transfer = *static_cast<Transfer *>(self);
  try {
    return transfer.header_line({data, size * count}) ? size * count : 0;
  } catch (...) {
    transfer.local_error_ = ENOMEM;
    return 0;
  }
}

bool Transfer::header_line(std::string_view line) {
  header_bytes_ += line.size();
  if (header_bytes_ > kMaxResponseHeader) {
    header_overflow_ = true;
    return false;
  }
  while (line.ends_with('\n') || line.ends_with('\r')) line.remove_suffix(1);
  if (line.starts_with("HTTP/")) {
    response_.headers.clear();
    response_.status = hop_status_ = 0;
    header_done_ = false;
    const std::size_t space = line.find(' ');
    for (std::size_t i = space; i != std::string_view::npos && i + 1 < line.size() && i < space + 3; ++i) {
      const char c = line[i + 1];
      if (c < '0' || c > '9') break;
      hop_status_ = hop_status_ * 10 + (c - '0');
    }
  } else if (line.empty()) {
    // 1xx are not answers; after them comes another header.
    header_done_ = hop_status_ >= 200;
    if (header_done_) response_.status = hop_status_;
  } else if (!header_done_) {  // else it is a trailer
    const std::size_t colon = std::min(line.find(':'), line.size());
    std::string_view value = line.substr(std::min(colon + 1, line.size()));
    while (value.starts_with(' ') || value.starts_with('\t')) value.remove_prefix(1);
    while (value.ends_with(' ') || value.ends_with('\t')) value.remove_suffix(1);
    response_.headers.push_back({lower(line.substr(0, colon)), std::string(value)});
  }
  return true;
}

std::size_t Transfer::take_body(char *data, std::size_t size, std::size_t count, void *self) noexcept {
  auto &transfer = *static_cast<Transfer *>(self);
  const std::size_t length = size * count;
  std::string &body = transfer.response_.body;
  const std::size_t room = transfer.request_.max_response - std::min(body.size(), transfer.request_.max_response);
  try {
    body.append(data, std::min(length, room));
  } catch (...) {
    transfer.local_error_ = ENOMEM;
    return 0;
  }
  if (length <= room) return length;
  transfer.response_.truncated = true;
  return 0;
}

// --- the end of a hop ---

bool Transfer::is_answer() const {
  if (request_.expect.empty()) return response_.status >= 200 && response_.status < 300;
  return std::find(request_.expect.begin(), request_.expect.end(), response_.status) != request_.expect.end();
}

bool Transfer::hop_ended(CURLcode code) {
  read_timings();
  const Failure failure = failure_of(code);
  // Whether libcurl came to the end of a body that nobody needs is no matter.
  const bool status_known = header_done_ && (code == CURLE_OK || !is_answer());
  if (status_known && is_redirect(response_.status) && !is_answer() && request_.allow_redirects) {
    if (redirected()) return true;
  } else if (failure != Failure::kNone) {
    fail(failure, message_of(failure, code));
  }
  easy_.reset();
  return false;
}

// Follows the Location, or leaves the response as it is to end with.
bool Transfer::redirected() {
  const std::string location = response_.header("location");
  try {
    if (location.empty()) {
      fail(Failure::kRedirectRefused, "redirect from " + response_.host + " says no location");
      return false;
    }
    const Url target = url_->resolve(location);
    if (response_.redirects == kMaxRedirects) {
      fail(Failure::kRedirectRefused, "more than " + std::to_string(kMaxRedirects) + " redirects, the last one from " + response_.host);
      return false;
    }
    if (url_->scheme() == "https" && target.scheme() != "https") {
      fail(Failure::kRedirectRefused, "redirect from " + response_.host + " leads out of TLS to " + with_port(target));
      return false;
    }
    follow(target);
  } catch (const Error &error) {
    fail(Failure::kRedirectRefused, "redirect from " + response_.host + " can't be followed: " + error.message());
    return false;
  } catch (const std::bad_alloc &) {
    fail(Failure::kLocal, "out of memory");
    return false;
  }
  return prepare_hop();
}

void Transfer::follow(const Url &target) {
  const int status = response_.status;
  const bool becomes_get = status == 303 ? request_.method != "HEAD" && request_.method != "GET" : status < 303 && request_.method == "POST";
  if (becomes_get) {
    request_.method = "GET";
    request_.body.clear();
    request_.has_body = false;
    std::erase_if(request_.headers, [](const Header &header) { return lower(header.name).starts_with("content-"); });
    response_.accepted = true;
  }
  first_origin_ = first_origin_ && target.same_origin(*url_);
  easy_.reset();  // it refers to the old URL
  url_.emplace(target);
  ++response_.redirects;
  response_.status = 0;
  response_.headers.clear();
  response_.body.clear();
  response_.truncated = false;
}

}  // namespace tasker::http
