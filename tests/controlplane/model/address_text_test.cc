#include "controlplane/model/address_text.h"

#include <gtest/gtest.h>

namespace sluice {
namespace {

TEST(AddressText, reads_and_writes_both_families) {
  for (const char *text : {"192.0.2.1", "255.255.255.255", "2001:db8::10", "::1", "fe80::1"}) {
    const auto address = parse_address(text);
    ASSERT_TRUE(address) << text;
    EXPECT_EQ(format_address(*address), text);
  }
}

TEST(AddressText, ipv4_is_kept_as_ipv4_mapped) {
  const Address address = parse_address("192.0.2.1").value();
  EXPECT_TRUE(address_is_ipv4(&address));
  EXPECT_EQ(address.word[3], host_to_be32(0xc0000201));
}

TEST(AddressText, other_texts_are_no_addresses) {
  using std::string_view_literals::operator""sv;
  for (const auto text :
       {""sv, "192.0.2"sv, "192.0.2.256"sv, "192.0.2.1 "sv, "192.0.2.1\0"sv, "::g"sv, "::ffff:192.0.2.1"sv,
        "::ffff:c000:201"sv, "2001:db8::1%eth0"sv, "[::1]"sv, "10.0.0.0/8"sv}) {
    EXPECT_FALSE(parse_address(text)) << text;
  }
  EXPECT_FALSE(parse_address(std::string(1000, '1')));
}

TEST(AddressText, sorts_in_network_order) {
  EXPECT_LT(*parse_address("9.255.255.255"), *parse_address("10.0.0.0"));
  EXPECT_LT(*parse_address("192.0.2.1"), *parse_address("2001:db8::"));
}

}  // namespace
}  // namespace sluice
