// Both families are judged by tables of prefixes over the bytes of the address; the first that fits decides.
#include "http/address.hpp"

#include <arpa/inet.h>
#include <netinet/in.h>

#include <array>
#include <cstddef>
#include <cstring>

namespace tasker::http {
namespace {

using enum AddressKind;

struct Prefix4 {
  std::uint8_t a, b, c, d;
  int bits;
  AddressKind kind;
};

// Longer prefixes before those that hold them.
constexpr Prefix4 kIpv4[] = {
    {0, 0, 0, 0, 32, kUnspecified},
    {0, 0, 0, 0, 8, kReserved},  // "this network"
    {10, 0, 0, 0, 8, kPrivate},
    {100, 100, 100, 200, 32, kMetadata},  // Alibaba Cloud
    {100, 64, 0, 0, 10, kCgnat},
    {127, 0, 0, 0, 8, kLoopback},
    {168, 63, 129, 16, 32, kMetadata},  // Azure's platform service, in public space
    {169, 254, 169, 254, 32, kMetadata},  // most clouds
    {169, 254, 170, 2, 32, kMetadata},  // credentials of AWS containers
    {169, 254, 170, 23, 32, kMetadata},  // credentials of AWS pods
    {169, 254, 0, 0, 16, kLinkLocal},
    {172, 16, 0, 0, 12, kPrivate},
    {192, 0, 0, 192, 32, kMetadata},  // Oracle Cloud
    {192, 0, 0, 0, 24, kReserved},  // protocol assignments
    {192, 0, 2, 0, 24, kReserved},  // documentation
    {192, 88, 99, 0, 24, kReserved},  // 6to4 relays, withdrawn
    {192, 168, 0, 0, 16, kPrivate},
    {198, 18, 0, 0, 15, kReserved},  // benchmarking
    {198, 51, 100, 0, 24, kReserved},  // documentation
    {203, 0, 113, 0, 24, kReserved},  // documentation
    {224, 0, 0, 0, 4, kMulticast},
    {240, 0, 0, 0, 4, kReserved},  // and the broadcast address
};

struct Prefix6 {
  std::array<std::uint16_t, 8> groups;
  int bits;
  AddressKind kind;
};

constexpr Prefix6 kIpv6[] = {
    {{0, 0, 0, 0, 0, 0, 0, 0}, 128, kUnspecified},
    {{0, 0, 0, 0, 0, 0, 0, 1}, 128, kLoopback},
    {{0, 0, 0, 0, 0, 0xffff}, 96, kEmbeddedIpv4},           // mapped
    {{0, 0, 0, 0, 0xffff, 0}, 96, kEmbeddedIpv4},           // translated
    {{0, 0, 0, 0, 0, 0}, 96, kEmbeddedIpv4},                // compatible
    {{0x64, 0xff9b, 0, 0, 0, 0}, 96, kEmbeddedIpv4},        // NAT64
    {{0x64, 0xff9b, 1}, 48, kEmbeddedIpv4},                 // NAT64, local
    {{0x2001, 0}, 32, kEmbeddedIpv4},                       // Teredo
    {{0x2002}, 16, kEmbeddedIpv4},                          // 6to4
    {{0x2001, 0}, 23, kReserved},                           // protocol assignments: benchmarking, ORCHID, anycast …
    {{0x2001, 0xdb8}, 32, kReserved},                       // documentation
    {{0x3fff, 0}, 20, kReserved},                           // documentation
    {{0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254}, 128, kMetadata},  // AWS
    {{0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x23}, 128, kMetadata},   // AWS pods
    {{0xfd20, 0xce, 0, 0, 0, 0, 0, 0x254}, 128, kMetadata},   // Google Cloud
    {{0xfc00}, 7, kPrivate},
    {{0xfe80}, 10, kLinkLocal},
    {{0xfec0}, 10, kPrivate},  // site-local, withdrawn
    {{0xff00}, 8, kMulticast},
};

bool has_prefix(const std::uint8_t *address, const std::uint8_t *prefix, int bits) noexcept {
  const int bytes = bits / 8;
  if (std::memcmp(address, prefix, static_cast<std::size_t>(bytes)) != 0) return false;
  const int rest = bits % 8;
  return rest == 0 || ((address[bytes] ^ prefix[bytes]) >> (8 - rest)) == 0;
}

AddressKind judge_ipv4(const std::uint8_t *bytes) noexcept {
  for (const Prefix4 &entry : kIpv4) {
    const std::uint8_t prefix[] = {entry.a, entry.b, entry.c, entry.d};
    if (has_prefix(bytes, prefix, entry.bits)) return entry.kind;
  }
  return kPublic;
}

AddressKind judge_ipv6(const std::uint8_t *bytes) noexcept {
  for (const Prefix6 &entry : kIpv6) {
    std::uint8_t prefix[16];
    for (std::size_t i = 0; i < entry.groups.size(); ++i) {
      prefix[2 * i] = static_cast<std::uint8_t>(entry.groups[i] >> 8);
      prefix[2 * i + 1] = static_cast<std::uint8_t>(entry.groups[i] & 0xff);
    }
    if (has_prefix(bytes, prefix, entry.bits)) return entry.kind;
  }
  constexpr std::uint8_t kGlobalUnicast[] = {0x20};
  if (!has_prefix(bytes, kGlobalUnicast, 3)) return kReserved;
  // ISATAP: the interface's part of any prefix is [02]00:5efe and an IPv4 address.
  const bool isatap = (bytes[8] & 0xfd) == 0 && bytes[9] == 0 && bytes[10] == 0x5e && bytes[11] == 0xfe;
  return isatap ? kEmbeddedIpv4 : kPublic;
}

}  // namespace

AddressKind judge_address(const sockaddr *address, socklen_t length) noexcept {
  if (address == nullptr || length < static_cast<socklen_t>(sizeof address->sa_family)) return kOther;
  // Copied: the memory need not be aligned for the larger types.
  if (address->sa_family == AF_INET && length >= static_cast<socklen_t>(sizeof(sockaddr_in))) {
    sockaddr_in v4;
    std::memcpy(&v4, address, sizeof v4);
    std::uint8_t bytes[4];
    std::memcpy(bytes, &v4.sin_addr, sizeof bytes);
    return judge_ipv4(bytes);
  }
  if (address->sa_family == AF_INET6 && length >= static_cast<socklen_t>(sizeof(sockaddr_in6))) {
    sockaddr_in6 v6;
    std::memcpy(&v6, address, sizeof v6);
    return judge_ipv6(v6.sin6_addr.s6_addr);
  }
  return kOther;
}

std::optional<AddressKind> judge_address(std::string_view text) noexcept {
  char copy[INET6_ADDRSTRLEN];
  if (text.size() >= sizeof copy) return std::nullopt;
  text.copy(copy, text.size());
  copy[text.size()] = '\0';
  std::uint8_t bytes[16];
  if (inet_pton(AF_INET, copy, bytes) == 1) return judge_ipv4(bytes);
  if (inet_pton(AF_INET6, copy, bytes) == 1) return judge_ipv6(bytes);
  return std::nullopt;
}

const char *address_kind_name(AddressKind kind) noexcept {
  switch (kind) {
    case kPublic:
      return "a public address";
    case kUnspecified:
      return "the unspecified address";
    case kLoopback:
      return "a loopback address";
    case kPrivate:
      return "a private address";
    case kLinkLocal:
      return "a link-local address";
    case kCgnat:
      return "a carrier's shared address";
    case kMulticast:
      return "a multicast address";
    case kMetadata:
      return "a cloud's metadata address";
    case kReserved:
      return "a reserved address";
    case kEmbeddedIpv4:
      return "an IPv4 address inside an IPv6 one";
    case kOther:
      break;
  }
  return "no IP address";
}

}  // namespace tasker::http
