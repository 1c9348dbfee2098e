// What kind of place an IP address is: the egress policy's only question, asked of the address that is being dialled.
//
// The tables are IANA's special-purpose registries for IPv4 and IPv6, and the addresses at which clouds offer credentials
// to their machines. Whatever is not known to be public is not public: in IPv6 that is everything outside 2000::/3.
#pragma once

#include <sys/socket.h>

#include <cstdint>
#include <optional>
#include <string_view>

namespace tasker::http {

enum class AddressKind : std::uint8_t {
  kPublic,
  kUnspecified,   // 0.0.0.0, ::, which the kernel takes for this machine
  kLoopback,
  kPrivate,       // RFC 1918, unique local, site-local
  kLinkLocal,
  kCgnat,         // 100.64.0.0/10
  kMulticast,
  kMetadata,      // a cloud's metadata or platform service
  kReserved,      // documentation, benchmarking, protocol assignments, unallocated
  kEmbeddedIpv4,  // IPv4 inside IPv6: mapped, compatible, translated, NAT64, 6to4, Teredo, ISATAP; whatever is inside
  kOther,         // not an IP address at all
};

AddressKind judge_address(const sockaddr *address, socklen_t length) noexcept;
// Of the text that inet_ntop writes; empty when it is no such text.
std::optional<AddressKind> judge_address(std::string_view text) noexcept;
// For messages: "a loopback address", "a private address" …
const char *address_kind_name(AddressKind kind) noexcept;

}  // namespace tasker::http
