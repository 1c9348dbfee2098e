// URLs as libcurl reads them: what is checked here is what is dialled, as the same parser and the same handle serve both.
//
// Allowed: http and https, a host, no user or password. Refused before parsing: control characters, spaces and backslashes
// (which parsers read differently), and fewer or more than two slashes after the scheme. Fragments are dropped.
//
// The rules of joining: the base's scheme, host and port always stay, as only the path and the query are set. The path of a
// step is appended to the base's path and starts with "/"; it has no "?", no "#" and, decoded, no segment "." or "..".
#pragma once

#include <curl/curl.h>

#include <memory>
#include <string>
#include <string_view>

namespace tasker::http {

class Url {
 public:
  // Raises 22023 and says why; never repeats the user, the password or the query.
  explicit Url(std::string_view text);
  Url(const Url &other);
  Url &operator=(const Url &) = delete;

  const std::string &scheme() const { return scheme_; }  // lower case
  const std::string &host() const { return host_; }      // as libcurl normalises it: 0x7f.1 is 127.0.0.1
  int port() const { return port_; }                     // with the scheme's default
  std::string path() const;
  std::string query() const;
  std::string text() const;
  // scheme://host:port, for messages: without anything that may be secret.
  std::string origin() const { return scheme_ + "://" + host_ + ":" + std::to_string(port_); }
  bool same_origin(const Url &other) const { return scheme_ == other.scheme_ && host_ == other.host_ && port_ == other.port_; }

  // A step's URL: this one is the server's. The query comes encoded, without "?"; bytes of the path that no URL may hold
  // are encoded here.
  Url join(std::string_view path, std::string_view query) const;
  // Where a Location header leads, seen from here.
  Url resolve(std::string_view location) const;

  CURLU *handle() const { return handle_.get(); }

 private:
  struct Closer {
    void operator()(CURLU *handle) const { curl_url_cleanup(handle); }
  };
  using Handle = std::unique_ptr<CURLU, Closer>;

  explicit Url(Handle handle);
  void read();
  std::string part(CURLUPart which) const;

  Handle handle_;
  std::string scheme_, host_;
  int port_ = 0;
};

// Why a URL can't be a server's (it must also have neither query nor fragment); empty when it can.
std::string base_url_problem(std::string_view text);
// Why a text can't be a step's path; empty when it can. Of a template it is asked before rendering, and again after.
std::string path_problem(std::string_view path);

}  // namespace tasker::http
