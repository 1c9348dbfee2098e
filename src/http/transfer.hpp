// One call on its way: libcurl's handle, hop after hop, and what has come in so far.
//
// Redirects are followed here, not by libcurl, which would send our own headers on to any host. Each hop is a new handle
// with everything checked and set anew. Private to Client, which calls it with signals blocked.
#pragma once

#include <curl/curl.h>

#include <chrono>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>

#include "http/address.hpp"
#include "http/request.hpp"
#include "http/url.hpp"

namespace tasker::http {

class Transfer {
 public:
  using Clock = std::chrono::steady_clock;

  // What all transfers of a client share, and what outlives them.
  struct Shared {
    std::uint64_t dialled = 0;      // sockets opened
    curl_slist *resolve = nullptr;  // of CURLOPT_RESOLVE
  };

  Transfer(std::uint64_t id, Request request, Shared &shared);
  Transfer(const Transfer &) = delete;
  Transfer &operator=(const Transfer &) = delete;

  std::uint64_t id() const noexcept { return response_.id; }
  const Request &request() const noexcept { return request_; }
  CURL *easy() const noexcept { return easy_.get(); }

  // The time runs from here. False: the request can't be sent, and the response says why.
  bool begin();
  // What libcurl says of the hop, its handle taken out of the multi. True: it goes on, with a new handle.
  bool hop_ended(CURLcode code);
  void cancel();
  void fail(Failure failure, std::string message);
  Response take_response();

 private:
  struct EasyCloser {
    void operator()(CURL *easy) const { curl_easy_cleanup(easy); }
  };
  // Its texts are wiped: credentials are among them.
  struct ListCloser {
    void operator()(curl_slist *list) const;
  };

  static curl_socket_t open_socket(void *self, curlsocktype purpose, curl_sockaddr *address) noexcept;
  static int before_request(void *self, char *peer, char *local, int peer_port, int local_port) noexcept;
  static std::size_t take_header(char *data, std::size_t size, std::size_t count, void *self) noexcept;
  static std::size_t take_body(char *data, std::size_t size, std::size_t count, void *self) noexcept;

  bool prepare_hop();
  void set_policy();
  void set_request();
  void set_headers();
  void add_header(std::string_view name, std::string_view value);
  bool header_line(std::string_view line);
  bool is_answer() const;
  bool redirected();
  void follow(const Url &target);
  Failure failure_of(CURLcode code) const;
  std::string message_of(Failure failure, CURLcode code) const;
  void read_timings();
  void redact();

  Request request_;
  Response response_;
  Shared &shared_;
  std::optional<Url> url_;
  Clock::time_point started_, deadline_;
  std::unique_ptr<curl_slist, ListCloser> headers_;
  std::unique_ptr<CURL, EasyCloser> easy_;
  bool first_origin_ = true;

  // Of the present hop.
  char error_[CURL_ERROR_SIZE] = {};
  std::optional<AddressKind> refused_;
  int sockets_ = 0;         // opened
  int local_error_ = 0;     // errno of a socket that could not be opened
  int requests_ = 0;        // how often libcurl was about to send
  bool resend_refused_ = false;
  std::size_t header_bytes_ = 0;
  bool header_overflow_ = false;
  bool header_done_ = false;
  int hop_status_ = 0;
};

}  // namespace tasker::http
