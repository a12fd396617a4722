#include "dataplane/core/encapsulate.h"

#include <gtest/gtest.h>

#include "dataplane/core/parse.h"
#include "tests/core/test_tables.h"

namespace sluice {
namespace {

constexpr uint64_t kHash = 0x123456789abcdef0ull;
constexpr size_t kOuter = kEthernetHeaderSize;  // where the outer header starts

const EgressFields kIpv4Backend = {.backend = "10.1.0.11"};
const EgressFields kIpv6Backend = {.backend = "fd00:1::11"};

Packet parsed(const Bytes &frame_bytes) {
  Packet packet = {};
  const Frame frame = frame_of(frame_bytes);
  if (parse(&frame, &packet) != kVerdictUndecided) std::abort();
  packet.hash = kHash;
  return packet;
}

/// The frame as it leaves towards the backend.
Bytes encapsulated(const Bytes &frame_bytes, const EgressFields &backend) {
  Decided decided = {};
  decided.packet = parsed(frame_bytes);
  const Egress egress = make_egress(backend);
  decided.decision.egress = &egress;
  return encapsulated_frame(frame_bytes, decided);
}

size_t inner_offset(const EgressFields &backend) {
  return kOuter + (backend.backend == kIpv4Backend.backend ? 20 : 40);
}

Bytes slice(const Bytes &bytes, size_t offset, size_t size) {
  return Bytes(bytes.begin() + offset, bytes.begin() + offset + size);
}

Segment four_bytes_of_udp() { return udp({.payload = {0xde, 0xad, 0xbe, 0xef}}); }
Bytes ipv4_frame() { return ethernet_ipv4(ipv4({.traffic_class = 0xb9}, four_bytes_of_udp())); }
Bytes ipv6_frame() { return ethernet_ipv6(ipv6({.traffic_class = 0xb9}, four_bytes_of_udp())); }

// The inner packets of the four pairings, their TTL and hop limit one less than they came with.
const char *const kInnerIpv4 =
    "45b90020123440003f113ca1c0000201c633640a"
    "9c400035000cd983deadbeef";
const char *const kInnerIpv6 =
    "6b954321000c113f20010db8000c0000000000000000000120010db8000000000000000000000010"
    "9c400035000c6a34deadbeef";

TEST(Encapsulate, ipv4_in_ipv4) {
  EXPECT_EQ(encapsulated(ipv4_frame(), kIpv4Backend),
            hex_bytes("020000000b01020000000a010800") +
                hex_bytes("45b9003400004000400426010a0000010a01000b") + hex_bytes(kInnerIpv4));
}

TEST(Encapsulate, ipv6_in_ipv4) {
  EXPECT_EQ(encapsulated(ipv6_frame(), kIpv4Backend),
            hex_bytes("020000000b01020000000a010800") +
                hex_bytes("45b9004800004000402925c80a0000010a01000b") + hex_bytes(kInnerIpv6));
}

TEST(Encapsulate, ipv4_in_ipv6) {
  EXPECT_EQ(
      encapsulated(ipv4_frame(), kIpv6Backend),
      hex_bytes("020000000b01020000000a0186dd") +
          hex_bytes("6b91234500200440fd000000000000000000000000000001fd000001000000000000000000000011") +
          hex_bytes(kInnerIpv4));
}

TEST(Encapsulate, ipv6_in_ipv6) {
  EXPECT_EQ(
      encapsulated(ipv6_frame(), kIpv6Backend),
      hex_bytes("020000000b01020000000a0186dd") +
          hex_bytes("6b91234500342940fd000000000000000000000000000001fd000001000000000000000000000011") +
          hex_bytes(kInnerIpv6));
}

TEST(Encapsulate, vlan_tags_and_link_padding_stay_behind) {
  const VlanTag tag = {kEtherTypeVlan, 7};
  const Bytes bare = ethernet_ipv4(ipv4({}, four_bytes_of_udp()));
  const Bytes tagged = ethernet_ipv4(ipv4({}, four_bytes_of_udp()), {tag, tag}) + Bytes(10, 0xee);
  EXPECT_EQ(encapsulated(tagged, kIpv4Backend), encapsulated(bare, kIpv4Backend));
}

// The identification runs through all values, and with it the checksums of both headers do.
TEST(Encapsulate, ipv4_checksums_are_right_whatever_the_identification) {
  for (uint32_t id = 0; id <= 0xffff; id++) {
    const Bytes out = encapsulated(
        ethernet_ipv4(ipv4({.id = static_cast<uint16_t>(id), .fragment = 0}, udp())), kIpv4Backend);
    ASSERT_EQ(ones_complement_sum(slice(out, kOuter, 20)), 0xffff) << id;
    ASSERT_EQ(ones_complement_sum(slice(out, kOuter + 20, 20)), 0xffff) << id;
  }
}

TEST(Encapsulate, inner_ipv4_checksum_is_what_a_fresh_one_would_be_for_every_ttl) {
  for (uint32_t ttl = 2; ttl <= 255; ttl++) {
    const Bytes out =
        encapsulated(ethernet_ipv4(ipv4({.ttl = static_cast<uint8_t>(ttl)}, udp())), kIpv6Backend);
    const Bytes fresh = ipv4({.ttl = static_cast<uint8_t>(ttl - 1)}, udp());
    EXPECT_EQ(slice(out, kOuter + 40, 20), slice(fresh, 0, 20)) << ttl;
  }
}

TEST(Encapsulate, a_wrong_inner_checksum_stays_wrong) {
  Bytes frame = ethernet_ipv4(ipv4({}, udp()));
  const uint16_t right = get_be16(frame, 14 + 10);
  for (uint32_t checksum = 0; checksum <= 0xffff; checksum++) {
    put_be16(&frame, 14 + 10, static_cast<uint16_t>(checksum));
    const Bytes out = encapsulated(frame, kIpv4Backend);
    const bool right_after = ones_complement_sum(slice(out, kOuter + 20, 20)) == 0xffff;
    ASSERT_EQ(right_after, checksum == right) << checksum;
  }
}

TEST(Encapsulate, decrement_is_right_from_every_checksum) {
  // A header of nothing but TTL, protocol, checksum and one word that makes the sum come out right.
  for (uint32_t checksum = 0; checksum <= 0xffff; checksum++) {
    Bytes header(20);
    header[8] = 17;
    header[9] = kProtocolTcp;
    put_be16(&header, 10, static_cast<uint16_t>(checksum));
    put_be16(&header, 12, static_cast<uint16_t>(~ones_complement_sum(header)));
    ASSERT_EQ(ones_complement_sum(header), 0xffff);
    decrement_hop_limit(header.data(), kFamilyIpv4);
    ASSERT_EQ(header[8], 16);
    ASSERT_EQ(ones_complement_sum(header), 0xffff) << checksum;
  }
}

// RFC 6040 section 4.1 (normal mode) and RFC 2983 (uniform model): all eight bits, both ways.
TEST(Encapsulate, traffic_class_is_copied_for_all_values_and_pairings) {
  for (uint32_t value = 0; value < 256; value++) {
    const auto tc = static_cast<uint8_t>(value);
    for (const Bytes &frame : {ethernet_ipv4(ipv4({.traffic_class = tc}, udp())),
                               ethernet_ipv6(ipv6({.traffic_class = tc}, udp()))}) {
      const Bytes over_ipv4 = encapsulated(frame, kIpv4Backend);
      EXPECT_EQ(over_ipv4[kOuter + 1], tc);
      EXPECT_EQ(ones_complement_sum(slice(over_ipv4, kOuter, 20)), 0xffff);
      const Bytes over_ipv6 = encapsulated(frame, kIpv6Backend);
      EXPECT_EQ(get_be16(over_ipv6, kOuter) >> 4, 0x600 | tc);
    }
    const Bytes out4 = encapsulated(ethernet_ipv4(ipv4({.traffic_class = tc}, udp())), kIpv4Backend);
    EXPECT_EQ(out4[kOuter + 20 + 1], tc) << "the inner one does not change";
  }
}

TEST(Encapsulate, dont_fragment_is_the_inner_packets) {
  const auto fragment_field = [](const Bytes &frame) {
    return get_be16(encapsulated(frame, kIpv4Backend), kOuter + 6);
  };
  EXPECT_EQ(fragment_field(ethernet_ipv4(ipv4({.fragment = 0x4000}, udp()))), 0x4000);
  EXPECT_EQ(fragment_field(ethernet_ipv4(ipv4({.fragment = 0}, udp()))), 0);
  EXPECT_EQ(fragment_field(ethernet_ipv4(ipv4({.fragment = 0x2000}, udp()))), 0)
      << "the outer packet of a fragment is none itself";
  EXPECT_EQ(fragment_field(ethernet_ipv6(ipv6({}, udp()))), 0x4000) << "no router fragments IPv6";
}

// With DF the datagram is atomic: its identification is 0 (RFC 6864). Without, it is the client's, to
// which the low 16 bits of the hash are added as both lie in memory: 0x3412 + 0xdef0 = 0x1302.
TEST(Encapsulate, identification) {
  const auto id = [](uint16_t fragment) {
    return get_be16(
        encapsulated(ethernet_ipv4(ipv4({.id = 0x1234, .fragment = fragment}, udp())), kIpv4Backend),
        kOuter + 4);
  };
  EXPECT_EQ(id(0x4000), 0);
  EXPECT_EQ(id(0), 0x0213);
}

TEST(Encapsulate, flow_label_is_the_hash_and_not_the_inner_label) {
  const Bytes one = encapsulated(ethernet_ipv6(ipv6({.flow_label = 0}, udp())), kIpv6Backend);
  const Bytes other = encapsulated(ethernet_ipv6(ipv6({.flow_label = 0xfffff}, udp())), kIpv6Backend);
  EXPECT_EQ(slice(one, kOuter, 40), slice(other, kOuter, 40));
  EXPECT_EQ(get_be16(one, kOuter + 2), 0x2345);
  EXPECT_EQ(one[kOuter + 1] & 0xf, 0x1);
}

TEST(Encapsulate, transport_bytes_are_untouched) {
  const Bytes payload(1200, 0x5a);
  const Bytes frame = ethernet_ipv4(ipv4({.options = Bytes(12, 1)}, tcp({.payload = payload})));
  for (const EgressFields &backend : {kIpv4Backend, kIpv6Backend}) {
    const Bytes out = encapsulated(frame, backend);
    const size_t transport = inner_offset(backend) + 32;
    EXPECT_EQ(slice(out, transport, out.size() - transport), slice(frame, 14 + 32, 20 + payload.size()));
  }
}

TEST(CheckEgress, next_hop_unknown) {
  EgressFields fields = kIpv4Backend;
  fields.flags = kEgressKnown | kEgressTakesNew;
  const Egress egress = make_egress(fields);
  const Packet packet = parsed(ipv4_frame());
  EXPECT_EQ(check_egress(&egress, &packet), kVerdictDropNoNextHop);
}

TEST(CheckEgress, hop_limit_runs_out_at_one) {
  const Egress egress = make_egress(kIpv6Backend);
  for (uint32_t hops = 0; hops <= 255; hops++) {
    const auto limit = static_cast<uint8_t>(hops);
    const Packet ipv4_packet = parsed(ethernet_ipv4(ipv4({.ttl = limit}, udp())));
    const Packet ipv6_packet = parsed(ethernet_ipv6(ipv6({.hop_limit = limit}, udp())));
    const uint32_t expected = hops <= 1 ? uint32_t{kVerdictDropHopLimit} : uint32_t{kVerdictUndecided};
    EXPECT_EQ(check_egress(&egress, &ipv4_packet), expected) << hops;
    EXPECT_EQ(check_egress(&egress, &ipv6_packet), expected) << hops;
  }
}

TEST(CheckEgress, mtu_is_kept_to_the_byte) {
  for (const EgressFields &backend : {kIpv4Backend, kIpv6Backend}) {
    const size_t header = inner_offset(backend) - kOuter;
    const Egress egress = make_egress(backend);  // MTU 1500
    const size_t fits = 1500 - header - 28;
    const Packet exact = parsed(ethernet_ipv4(ipv4({}, udp({.payload = Bytes(fits)}))));
    const Packet over = parsed(ethernet_ipv4(ipv4({}, udp({.payload = Bytes(fits + 1)}))));
    EXPECT_EQ(check_egress(&egress, &exact), kVerdictUndecided);
    EXPECT_EQ(check_egress(&egress, &over), kVerdictDropTooBig);
  }
}

// No outer length field can overflow, whatever the MTU says.
TEST(CheckEgress, longest_packets_are_too_big) {
  EgressFields fields = kIpv4Backend;
  fields.mtu = 65535;
  const Egress egress = make_egress(fields);
  Packet packet = parsed(ipv4_frame());
  packet.l3_length = 65535;
  EXPECT_EQ(check_egress(&egress, &packet), kVerdictDropTooBig);
  packet.l3_length = 65515;
  EXPECT_EQ(check_egress(&egress, &packet), kVerdictUndecided);
}

}  // namespace
}  // namespace sluice
