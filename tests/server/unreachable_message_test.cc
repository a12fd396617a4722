#include "dataplane/server/unreachable_message.h"

#include <gtest/gtest.h>

#include "dataplane/server/netlink.h"
#include "tests/core/packet_builder.h"
#include "tests/server/snapshot_builder.h"

namespace sluice {
namespace {

/// What a router says of our packets: by default the host 10.1.0.11 cannot be reached from 10.0.0.1.
struct Ipv4Error {
  uint8_t type = 3;
  uint8_t code = 1;
  uint8_t outer_protocol = 1;
  std::string receiver = "10.0.0.1";
  std::string quoted_source = "10.0.0.1";
  std::string backend = "10.1.0.11";
  uint8_t quoted_protocol = 4;
  uint8_t quoted_version = 0x45;
  size_t quoted_more = 8;  // bytes of the inner packet
};

Bytes ipv4_header(uint8_t version, uint8_t protocol, const std::string &source,
                  const std::string &destination) {
  return Bytes{version, 0, 0, 0, 0, 0, 0, 0, 64, protocol, 0, 0} + address_bytes(source) +
         address_bytes(destination);
}

Bytes bytes_of(const Ipv4Error &error) {
  const Bytes quoted =
      ipv4_header(error.quoted_version, error.quoted_protocol, error.quoted_source, error.backend) +
      Bytes(error.quoted_more, 0x45);
  const Bytes rest = Bytes(4) + quoted;
  const uint16_t sum = ones_complement_sum(Bytes{error.type, error.code, 0, 0} + rest);
  return ipv4_header(0x45, error.outer_protocol, "10.0.0.254", error.receiver) +
         Bytes{error.type, error.code} + be16_bytes(static_cast<uint16_t>(~sum)) + rest;
}

std::string backend_in(const Bytes &packet) {
  const auto backend = unreachable_backend_ipv4(packet);
  return backend ? address_text(*backend) : "none";
}

TEST(UnreachableIpv4, names_the_backend_of_the_quoted_packet) {
  EXPECT_EQ(backend_in(bytes_of({})), "10.1.0.11");
  EXPECT_EQ(backend_in(bytes_of({.quoted_protocol = 41})), "10.1.0.11") << "IPv6 in IPv4";
  EXPECT_EQ(backend_in(bytes_of({.quoted_more = 0})), "10.1.0.11");
  EXPECT_EQ(backend_in(bytes_of({.quoted_more = 7})), "10.1.0.11") << "an odd number of bytes";
}

// RFC 792, and RFC 1812 section 5.2.7.1 for the later codes.
TEST(UnreachableIpv4, counts_each_code_that_says_something_of_a_backend) {
  for (int code = 0; code < 256; code++) {
    const bool counts = code <= 15 && code != 4 && code != 5;
    EXPECT_EQ(backend_in(bytes_of({.code = static_cast<uint8_t>(code)})), counts ? "10.1.0.11" : "none")
        << "code " << code;
  }
}

TEST(UnreachableIpv4, nothing_else_counts) {
  EXPECT_EQ(backend_in(bytes_of({.type = 11})), "none") << "time exceeded";
  EXPECT_EQ(backend_in(bytes_of({.outer_protocol = 58})), "none");
  EXPECT_EQ(backend_in(bytes_of({.quoted_protocol = 6})), "none") << "the host's own connections";
  EXPECT_EQ(backend_in(bytes_of({.quoted_version = 0x65})), "none");
  EXPECT_EQ(backend_in(bytes_of({.quoted_version = 0x44})), "none") << "a header of 16 bytes";
  EXPECT_EQ(backend_in(bytes_of({.quoted_version = 0x4f, .quoted_more = 39})), "none") << "of 60, cut short";
  EXPECT_EQ(backend_in(bytes_of({.quoted_version = 0x4f, .quoted_more = 40})), "10.1.0.11");
  EXPECT_EQ(backend_in(bytes_of({.quoted_source = "10.0.0.3"})), "none") << "not sent from where it came to";
}

TEST(UnreachableIpv4, each_flipped_bit_of_the_message_is_noticed) {
  const Bytes good = bytes_of({});
  for (size_t bit = 20 * 8; bit < good.size() * 8; bit++) {
    Bytes bad = good;
    bad[bit / 8] ^= static_cast<uint8_t>(1u << bit % 8);
    EXPECT_EQ(backend_in(bad), "none") << "bit " << bit;
  }
}

TEST(UnreachableIpv4, cut_short_anywhere_is_none) {
  const Bytes good = bytes_of({.quoted_more = 0});
  for (size_t size = 0; size < good.size(); size++)
    EXPECT_EQ(backend_in(Bytes(good.begin(), good.begin() + static_cast<ptrdiff_t>(size))), "none");
}

struct Ipv6Error {
  uint8_t type = 1;
  uint8_t code = 3;
  std::string quoted_source = "fd00::1";
  uint8_t quoted_next = 41;
  uint8_t quoted_version = 0x60;
};

Bytes bytes_of(const Ipv6Error &error) {
  return Bytes{error.type, error.code, 0, 0, 0, 0, 0, 0} +
         Bytes{error.quoted_version, 0, 0, 0, 0, 0, error.quoted_next, 64} +
         address_bytes(error.quoted_source) + address_bytes("fd00:1::11");
}

std::string backend_in(const Bytes &message, const std::string &receiver) {
  const auto backend = unreachable_backend_ipv6(message, parse_address(receiver));
  return backend ? address_text(*backend) : "none";
}

TEST(UnreachableIpv6, names_the_backend_of_the_quoted_packet) {
  for (int code = 0; code <= 6; code++)
    EXPECT_EQ(backend_in(bytes_of(Ipv6Error{.code = static_cast<uint8_t>(code)}), "fd00::1"), "fd00:1::11");
  EXPECT_EQ(backend_in(bytes_of(Ipv6Error{.quoted_next = 4}), "fd00::1"), "fd00:1::11") << "IPv4 in IPv6";
  EXPECT_EQ(backend_in(bytes_of(Ipv6Error{.type = 4, .code = 1}), "fd00::1"), "fd00:1::11")
      << "a host that does not know IP in IP";
}

TEST(UnreachableIpv6, nothing_else_counts) {
  EXPECT_EQ(backend_in(bytes_of(Ipv6Error{.type = 2}), "fd00::1"), "none") << "packet too big";
  EXPECT_EQ(backend_in(bytes_of(Ipv6Error{.type = 4, .code = 0}), "fd00::1"), "none") << "a bad field";
  EXPECT_EQ(backend_in(bytes_of(Ipv6Error{.quoted_next = 6}), "fd00::1"), "none");
  EXPECT_EQ(backend_in(bytes_of(Ipv6Error{.quoted_version = 0x40}), "fd00::1"), "none");
  EXPECT_EQ(backend_in(bytes_of(Ipv6Error{}), "fd00::2"), "none") << "not sent from where it came to";
}

TEST(UnreachableIpv6, cut_short_anywhere_is_none) {
  const Bytes good = bytes_of(Ipv6Error{});
  for (size_t size = 0; size < good.size(); size++)
    EXPECT_EQ(backend_in(Bytes(good.begin(), good.begin() + static_cast<ptrdiff_t>(size)), "fd00::1"),
              "none");
}

}  // namespace
}  // namespace sluice
