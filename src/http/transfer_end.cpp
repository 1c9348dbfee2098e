// How a hop ended: libcurl's word for it turned into ours, what a message may say of it, and what it must not.
#include <string.h>

#include <cerrno>
#include <system_error>
#include <utility>
#include <vector>

#include "http/text.hpp"
#include "http/transfer.hpp"

namespace tasker::http {
namespace {

void redact_text(std::string &text, std::string_view needle) {
  replace_all(text, needle, "[redacted]");
  for (const bool slashes : {false, true}) {
    std::string escaped = json_escaped(needle, slashes);
    if (escaped != needle) replace_all(text, escaped, "[redacted]");
    explicit_bzero(escaped.data(), escaped.size());
  }
}

}  // namespace

Failure Transfer::failure_of(CURLcode code) const {
  constexpr int kTooLarge = 100;  // CURLE_TOO_LARGE, which libcurl has since 8.6
  if (local_error_ == ENOMEM) return Failure::kLocal;
  if (resend_refused_) return Failure::kResetAfterSend;
  if (static_cast<int>(code) == kTooLarge) return requests_ > 0 ? Failure::kTooLarge : Failure::kInvalidRequest;
  const bool refused = refused_.has_value() && sockets_ == 0;
  switch (code) {
    case CURLE_OK:
      return header_done_ ? Failure::kNone : Failure::kMalformed;
    case CURLE_URL_MALFORMAT:
    case CURLE_BAD_FUNCTION_ARGUMENT:
      return Failure::kInvalidRequest;
    case CURLE_COULDNT_RESOLVE_HOST:
      return Failure::kResolve;
    case CURLE_ABORTED_BY_CALLBACK:
    case CURLE_COULDNT_CONNECT:
      if (refused || (refused_ && code == CURLE_ABORTED_BY_CALLBACK)) return Failure::kRefusedAddress;
      return local_error_ != 0 && sockets_ == 0 ? Failure::kLocal : Failure::kConnect;
    case CURLE_OPERATION_TIMEDOUT:
      if (refused) return Failure::kRefusedAddress;
      return response_.sent ? Failure::kTimeoutAfterSend : Failure::kTimeoutBeforeSend;
    case CURLE_PEER_FAILED_VERIFICATION:
    case CURLE_SSL_CACERT_BADFILE:
    case CURLE_SSL_ISSUER_ERROR:
    case CURLE_SSL_INVALIDCERTSTATUS:
    case CURLE_SSL_PINNEDPUBKEYNOTMATCH:
      return requests_ > 0 ? Failure::kResetAfterSend : Failure::kCertificate;
    case CURLE_SSL_CONNECT_ERROR:
    case CURLE_USE_SSL_FAILED:
    case CURLE_SSL_CIPHER:
    case CURLE_SSL_CERTPROBLEM:
      return requests_ > 0 ? Failure::kResetAfterSend : Failure::kTls;
    case CURLE_OUT_OF_MEMORY:
      // Before 8.6 also said of a header line longer than libcurl takes.
      return requests_ > 0 && !header_done_ ? Failure::kTooLarge : Failure::kLocal;
    case CURLE_FAILED_INIT:
      return Failure::kLocal;
    case CURLE_WRITE_ERROR:
      // Ours, or libcurl's word for a header line that is too long.
      return header_overflow_ || response_.truncated || !header_done_ ? Failure::kTooLarge : Failure::kResetAfterSend;
    case CURLE_UNSUPPORTED_PROTOCOL:  // HTTP/0.9, or none of ours
    case CURLE_WEIRD_SERVER_REPLY:
    case CURLE_BAD_CONTENT_ENCODING:
      return requests_ > 0 ? Failure::kMalformed : Failure::kInvalidRequest;
    default:
      return requests_ > 0 ? Failure::kResetAfterSend : Failure::kConnect;
  }
}

std::string Transfer::message_of(Failure failure, CURLcode code) const {
  const std::string &host = response_.host;
  const std::string reason = error_[0] != '\0' ? error_ : curl_easy_strerror(code);
  const Timings &timings = response_.timings;
  switch (failure) {
    case Failure::kRefusedAddress:
      return "address of " + host + " is refused: it is " + address_kind_name(*refused_);
    case Failure::kResolve:
      return "could not resolve " + url_->host();
    case Failure::kCertificate:
      return "certificate of " + host + " can't be trusted: " + reason;
    case Failure::kTls:
      return "could not agree on TLS with " + host + ": " + reason;
    case Failure::kTimeoutBeforeSend:
      return std::string("timeout while ") + (timings.resolved == 0 ? "resolving " : timings.connected == 0 ? "connecting to " : "starting TLS with ") + host;
    case Failure::kTimeoutAfterSend:
      return std::string("timeout while ") + (header_done_ ? "reading the answer of " : "waiting for the answer of ") + host;
    case Failure::kResetAfterSend:
      return "connection to " + host + " ended before the answer did: " + (resend_refused_ ? "it was dead" : reason);
    case Failure::kMalformed:
      return "answer of " + host + " is not HTTP: " + reason;
    case Failure::kTooLarge:
      return "answer of " + host + " is larger than " +
             (response_.truncated ? std::to_string(request_.max_response) + " bytes"
                                  : "allowed: its header has more than " + std::to_string(kMaxResponseHeader) + " bytes");
    case Failure::kLocal:
      return local_error_ != 0 && local_error_ != ENOMEM ? std::string("could not open a socket: ") + std::generic_category().message(local_error_)
                                                         : "out of memory";
    default:
      return "could not connect to " + host + ": " + reason;
  }
}

void Transfer::read_timings() {
  if (easy_ == nullptr) return;
  const auto seconds = [this](CURLINFO info) {
    curl_off_t microseconds = 0;
    (void)curl_easy_getinfo(easy_.get(), info, &microseconds);
    return static_cast<double>(microseconds) / 1e6;
  };
  response_.timings = {seconds(CURLINFO_NAMELOOKUP_TIME_T),    seconds(CURLINFO_CONNECT_TIME_T),
                       seconds(CURLINFO_APPCONNECT_TIME_T),    seconds(CURLINFO_PRETRANSFER_TIME_T),
                       seconds(CURLINFO_STARTTRANSFER_TIME_T), std::chrono::duration<double>(Clock::now() - started_).count()};
  long version = 0;
  (void)curl_easy_getinfo(easy_.get(), CURLINFO_HTTP_VERSION, &version);
  response_.http_version = version == CURL_HTTP_VERSION_1_0 ? 10 : version == CURL_HTTP_VERSION_1_1 ? 11 : version == CURL_HTTP_VERSION_2_0 ? 20 : 0;
}

// Servers that repeat what they were sent: in the header, in the body as it is or as JSON may write it.
void Transfer::redact() {
  const Credentials &credentials = request_.credentials;
  if (credentials.kind == Credentials::Kind::kNone) return;
  std::vector<Secret> needles;
  const std::string_view secret = credentials.secret.text();
  needles.emplace_back(secret);
  if (credentials.kind == Credentials::Kind::kBasic) {
    Secret pair(credentials.name + ":");
    pair.append(secret);
    needles.push_back(base64_secret(pair.text()));
  }
  // A field's value may be a scheme and a token.
  const std::size_t space = secret.rfind(' ');
  if (credentials.kind == Credentials::Kind::kHeader && space != std::string_view::npos) needles.emplace_back(secret.substr(space + 1));
  for (const Secret &needle : needles) {
    if (needle.text().size() < kMinRedacted) continue;
    redact_text(response_.body, needle.text());
    redact_text(response_.message, needle.text());
    for (Header &header : response_.headers) redact_text(header.value, needle.text());
  }
}

}  // namespace tasker::http
