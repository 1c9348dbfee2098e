// The address tables, prefix by prefix.
#include <arpa/inet.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <sys/un.h>

#include <cstring>
#include <string>

#include "http/address.hpp"

namespace tasker::http {
namespace {

using enum AddressKind;

AddressKind kind(const std::string &text) {
  const auto judged = judge_address(std::string_view(text));
  EXPECT_TRUE(judged.has_value()) << text;
  // The way of a dialled address must say the same.
  sockaddr_storage storage = {};
  if (text.find(':') == std::string::npos) {
    auto *v4 = reinterpret_cast<sockaddr_in *>(&storage);
    v4->sin_family = AF_INET;
    EXPECT_EQ(inet_pton(AF_INET, text.c_str(), &v4->sin_addr), 1);
    EXPECT_EQ(judge_address(reinterpret_cast<sockaddr *>(&storage), sizeof *v4), *judged) << text;
  } else {
    auto *v6 = reinterpret_cast<sockaddr_in6 *>(&storage);
    v6->sin6_family = AF_INET6;
    EXPECT_EQ(inet_pton(AF_INET6, text.c_str(), &v6->sin6_addr), 1);
    EXPECT_EQ(judge_address(reinterpret_cast<sockaddr *>(&storage), sizeof *v6), *judged) << text;
  }
  return judged.value_or(kOther);
}

TEST(EgressAddress, Ipv4) {
  const std::pair<AddressKind, std::vector<const char *>> expected[] = {
      {kUnspecified, {"0.0.0.0"}},
      {kReserved, {"0.0.0.1", "0.255.255.255"}},
      {kPublic, {"1.0.0.0", "9.255.255.255"}},
      {kPrivate, {"10.0.0.0", "10.255.255.255"}},
      {kPublic, {"11.0.0.0", "100.63.255.255"}},
      {kCgnat, {"100.64.0.0", "100.127.255.255", "100.100.100.199"}},
      {kMetadata, {"100.100.100.200"}},
      {kPublic, {"100.128.0.0", "126.255.255.255"}},
      {kLoopback, {"127.0.0.0", "127.0.0.1", "127.255.255.255"}},
      {kPublic, {"128.0.0.0", "168.63.129.15", "168.63.129.17", "169.253.255.255"}},
      {kMetadata, {"168.63.129.16", "169.254.169.254", "169.254.170.2", "169.254.170.23"}},
      {kLinkLocal, {"169.254.0.0", "169.254.169.253", "169.254.255.255"}},
      {kPublic, {"169.255.0.0", "172.15.255.255"}},
      {kPrivate, {"172.16.0.0", "172.31.255.255"}},
      {kPublic, {"172.32.0.0", "191.255.255.255"}},
      {kReserved, {"192.0.0.0", "192.0.0.10", "192.0.0.255", "192.0.2.0", "192.0.2.255"}},
      {kMetadata, {"192.0.0.192"}},
      {kPublic, {"192.0.1.0", "192.0.3.0", "192.31.196.1", "192.52.193.1", "192.88.98.255", "192.175.48.1"}},
      {kReserved, {"192.88.99.0", "192.88.99.255"}},
      {kPublic, {"192.88.100.0", "192.167.255.255"}},
      {kPrivate, {"192.168.0.0", "192.168.255.255"}},
      {kPublic, {"192.169.0.0", "198.17.255.255"}},
      {kReserved, {"198.18.0.0", "198.19.255.255"}},
      {kPublic, {"198.20.0.0", "198.51.99.255"}},
      {kReserved, {"198.51.100.0", "198.51.100.255"}},
      {kPublic, {"198.51.101.0", "203.0.112.255"}},
      {kReserved, {"203.0.113.0", "203.0.113.255"}},
      {kPublic, {"203.0.114.0", "223.255.255.255", "8.8.8.8"}},
      {kMulticast, {"224.0.0.0", "239.255.255.255"}},
      {kReserved, {"240.0.0.0", "255.255.255.254", "255.255.255.255"}},
  };
  for (const auto &[what, texts] : expected) {
    for (const char *text : texts) EXPECT_EQ(kind(text), what) << text;
  }
}

TEST(EgressAddress, Ipv6) {
  const std::pair<AddressKind, std::vector<const char *>> expected[] = {
      {kUnspecified, {"::"}},
      {kLoopback, {"::1"}},
      {kEmbeddedIpv4, {"::2", "::127.0.0.1", "::8.8.8.8", "::ffff:127.0.0.1", "::ffff:8.8.8.8", "::ffff:0:127.0.0.1", "64:ff9b::8.8.8.8", "64:ff9b::169.254.169.254", "64:ff9b:1::1",
                       "64:ff9b:1:ffff::", "2001::1", "2001:0:ffff::1", "2002::", "2002:7f00:1::", "2002:ffff::1", "2606:4700::5efe:10.0.0.1", "2606:4700::200:5efe:8.8.8.8"}},
      {kReserved, {"::1:0:0:0:1", "64:ff9a::1", "64:ff9b:2::1", "64:ff9b::1:0:0", "100::", "100::1", "100:0:0:1::1", "1fff::1", "2001:1::1", "2001:2::1", "2001:20::1", "2001:30::1",
                   "2001:1ff:ffff::", "2001:db8::1", "2001:db8:ffff::", "3fff::1", "3fff:fff::1", "4000::1", "5f00::1", "8000::1", "f000::1", "fbff::1", "fe00::1"}},
      {kPublic, {"2000::1", "2001:200::1", "2001:4860:4860::8888", "2001:db7::1", "2001:db9::1", "2003::1", "2606:4700::1111", "2620:4f:8000::1", "2a00::1", "3ffe::1", "3fff:1000::1"}},
      {kPrivate, {"fc00::", "fd00::1", "fdff:ffff::1", "fec0::1", "feff::1"}},
      {kMetadata, {"fd00:ec2::254", "fd00:ec2::23", "fd20:ce::254"}},
      {kLinkLocal, {"fe80::", "fe80::1", "febf:ffff::1"}},
      {kMulticast, {"ff00::", "ff02::1", "ffff::1"}},
  };
  for (const auto &[what, texts] : expected) {
    for (const char *text : texts) EXPECT_EQ(kind(text), what) << text;
  }
}

TEST(EgressAddress, WhatIsNoAddress) {
  for (const char *text : {"", "127.1", "0x7f.0.0.1", "localhost", "1.2.3.4.5", "[::1]", "::1%lo", " 127.0.0.1", "1.2.3.4/32"}) EXPECT_EQ(judge_address(std::string_view(text)), std::nullopt) << text;
  EXPECT_EQ(judge_address(std::string_view(std::string(1000, '1'))), std::nullopt);
  EXPECT_EQ(judge_address(nullptr, 0), kOther);
  sockaddr_in v4 = {};
  v4.sin_family = AF_INET;
  v4.sin_addr.s_addr = htonl(0x08080808);
  EXPECT_EQ(judge_address(reinterpret_cast<sockaddr *>(&v4), sizeof v4), kPublic);
  EXPECT_EQ(judge_address(reinterpret_cast<sockaddr *>(&v4), sizeof v4 - 1), kOther);
  EXPECT_EQ(judge_address(reinterpret_cast<sockaddr *>(&v4), 1), kOther);
  sockaddr_un path = {};
  path.sun_family = AF_UNIX;
  EXPECT_EQ(judge_address(reinterpret_cast<sockaddr *>(&path), sizeof path), kOther);
}

TEST(EgressAddress, KindsHaveNames) {
  for (int i = 0; i <= static_cast<int>(kOther); ++i) EXPECT_NE(std::string(address_kind_name(static_cast<AddressKind>(i))), "");
}

}  // namespace
}  // namespace tasker::http
