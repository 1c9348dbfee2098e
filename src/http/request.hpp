// One HTTP call: what to send, and what came of it. Plain values; Client moves them in and out.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "http/secret.hpp"

namespace tasker::http {

struct Header {
  std::string name, value;
};

// Sent to the first host only, in place of a header of that name; a redirect that leaves the host goes without. Never part
// of a Response: where an answer repeats a secret of kMinRedacted bytes or more, "[redacted]" stands instead.
struct Credentials {
  enum class Kind : std::uint8_t { kNone, kBearer, kBasic, kHeader };
  Kind kind = Kind::kNone;
  std::string name;  // the user name (kBasic), the field's name (kHeader)
  Secret secret;     // the token, the password, the field's value
};

inline constexpr std::size_t kMinRedacted = 6;
inline constexpr int kMaxRedirects = 5;

struct Request {
  // Whose concurrency limit it counts against (0: without limit): one server, whoever calls it.
  std::string server;
  int max_concurrency = 0;
  // Connections are kept and used again only among requests of equal pool, allow_private, http2 and CA: give each pair of
  // server and user its own.
  std::string pool;

  std::string method = "GET";   // upper case
  std::string url;              // absolute
  std::vector<Header> headers;  // no Host, no framing; names are tokens, values one line
  std::string body;
  bool has_body = false;
  Credentials credentials;

  // True: sending it twice does what sending it once does, so libcurl may send it again when a kept connection turns out
  // to be dead. False: it is sent at most once, over a connection of its own.
  bool repeatable = false;
  std::vector<int> expect;  // statuses that are answers; empty: 2xx. A redirect among them isn't followed

  double connect_timeout_seconds = 10;  // name, connection, TLS
  double timeout_seconds = 30;          // everything, over all redirects
  bool allow_redirects = false;         // up to kMaxRedirects
  bool allow_private = false;           // may dial what is not public
  bool http2 = true;                    // where the server offers it (TLS only)
  std::string ca_pem;                   // certificates to trust, as text …
  std::string ca_file;                  // … or the name of a file of them; neither: the system's
  std::size_t max_response = 1024 * 1024;
};

enum class Failure : std::uint8_t {
  kNone,             // there is an answer
  kInvalidRequest,   // can't be sent as it is; permanent
  kRefusedAddress,   // the name leads only to addresses that may not be dialled
  kRedirectRefused,  // an answer with a Location that may not be followed, or too many of them
  kResolve,          // before sending: no address for the name …
  kConnect,          // … nobody there …
  kCertificate,      // … whose certificate is not to be trusted …
  kTls,              // … or no TLS with it
  kTimeoutBeforeSend,
  kTimeoutAfterSend,
  kResetAfterSend,   // the connection ended before the answer did
  kMalformed,        // what came is not HTTP
  kTooLarge,         // the answer is larger than max_response (or its header than kMaxResponseHeader)
  kCancelled,
  kLocal,            // out of memory, of file descriptors or of threads here
};

const char *failure_name(Failure failure) noexcept;

// Seconds from the start of the last hop, and from the start of the call (total). 0 where it didn't come that far, or
// needed none of it (a kept connection).
struct Timings {
  double resolved = 0, connected = 0, secured = 0, sent = 0, first_byte = 0, total = 0;
};

struct Response {
  std::uint64_t id = 0;
  Failure failure = Failure::kNone;
  // Whether any byte of the request may have reached a server. Before that nothing can have happened there.
  bool sent = false;
  // A redirect made a GET of it (301, 302, 303): the server has done what was asked, whatever came later.
  bool accepted = false;
  int redirects = 0;
  int status = 0;               // of the last answer whose header came whole, 0 without; may be set beside a failure
  std::vector<Header> headers;  // of that answer; names in lower case; at most kMaxResponseHeader bytes
  std::string body;             // what came of it, at most max_response bytes
  bool truncated = false;
  int http_version = 0;         // 10, 11, 20
  std::string host;             // host:port of the last hop
  std::string message;          // of a failure: one line, valid UTF-8, without path, query or credentials
  Timings timings;

  // The first of that name (in lower case), or "".
  const std::string &header(std::string_view name) const;
};

inline constexpr std::size_t kMaxResponseHeader = 64 * 1024;

}  // namespace tasker::http
