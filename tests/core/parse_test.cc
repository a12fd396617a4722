#include "dataplane/core/parse.h"

#include <cstring>

#include <gtest/gtest.h>
#include <sys/mman.h>
#include <unistd.h>

#include "tests/core/test_tables.h"

namespace sluice {
namespace {

constexpr uint8_t kMoreFragments = 1;
constexpr uint16_t kDontFragment = 0x4000;
constexpr uint16_t kIpv4MoreFragments = 0x2000;

struct Parsed {
  uint32_t verdict = kVerdictUndecided;
  Packet packet = {};
  uint32_t l4() const { return packet.l4_verdict; }
};

Parsed parse_bytes(const Bytes &bytes) {
  Parsed parsed;
  const Frame frame = frame_of(bytes);
  parsed.verdict = parse(&frame, &parsed.packet);
  return parsed;
}

/// A page whose end is followed by memory that must not be read.
class GuardedPage {
 public:
  GuardedPage() : size_(static_cast<size_t>(sysconf(_SC_PAGESIZE)) * 2) {
    void *memory = mmap(nullptr, size_ * 2, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED) std::abort();
    start_ = static_cast<uint8_t *>(memory);
    if (mprotect(start_ + size_, size_, PROT_NONE) != 0) std::abort();
  }
  ~GuardedPage() { munmap(start_, size_ * 2); }
  GuardedPage(const GuardedPage &) = delete;
  GuardedPage &operator=(const GuardedPage &) = delete;

  /// A frame of the first `readable` bytes, at the very end of the page, of a frame of `length` bytes.
  Frame place(const Bytes &bytes, size_t readable, size_t length) {
    uint8_t *at = start_ + size_ - readable;
    std::memcpy(at, bytes.data(), readable);
    return {at, at + readable, static_cast<uint32_t>(length)};
  }

 private:
  size_t size_;
  uint8_t *start_;
};

std::string address_of(const Address &address) { return address_text(address); }

TEST(Parse, ipv4_tcp_key_and_fields) {
  const Parsed parsed = parse_bytes(ethernet_ipv4(
      ipv4({.traffic_class = 0xb9, .id = 0xbeef, .ttl = 7}, tcp({.flags = kTcpSyn, .payload = Bytes(11)}))));
  ASSERT_EQ(parsed.verdict, kVerdictUndecided);
  EXPECT_EQ(parsed.l4(), kVerdictUndecided);
  EXPECT_EQ(parsed.packet.family, kFamilyIpv4);
  EXPECT_EQ(parsed.packet.protocol, kProtocolTcp);
  EXPECT_EQ(address_of(parsed.packet.client), "192.0.2.1");
  EXPECT_EQ(address_of(parsed.packet.vip), "198.51.100.10");
  EXPECT_EQ(be16_to_host(parsed.packet.ports.client), 40000);
  EXPECT_EQ(be16_to_host(parsed.packet.ports.vip), 80);
  EXPECT_EQ(parsed.packet.tcp_flags, kTcpSyn);
  EXPECT_EQ(parsed.packet.l3_offset, 14);
  EXPECT_EQ(parsed.packet.l3_length, 20 + 20 + 11);
  EXPECT_EQ(be16_to_host(parsed.packet.ipv4_id), 0xbeef);
  EXPECT_EQ(parsed.packet.traffic_class, 0xb9);
  EXPECT_EQ(parsed.packet.hop_limit, 7);
  EXPECT_EQ(parsed.packet.flags, kPacketDontFragment);
}

TEST(Parse, ipv4_without_dont_fragment) {
  EXPECT_EQ(parse_bytes(ethernet_ipv4(ipv4({.fragment = 0}, tcp()))).packet.flags, 0);
}

TEST(Parse, ipv6_udp_key_and_fields) {
  const Parsed parsed =
      parse_bytes(ethernet_ipv6(ipv6({.traffic_class = 0xb9, .hop_limit = 9}, udp({.payload = Bytes(5)}))));
  ASSERT_EQ(parsed.verdict, kVerdictUndecided);
  EXPECT_EQ(parsed.l4(), kVerdictUndecided);
  EXPECT_EQ(parsed.packet.family, kFamilyIpv6);
  EXPECT_EQ(parsed.packet.protocol, kProtocolUdp);
  EXPECT_EQ(address_of(parsed.packet.client), "2001:db8:c::1");
  EXPECT_EQ(address_of(parsed.packet.vip), "2001:db8::10");
  EXPECT_EQ(be16_to_host(parsed.packet.ports.client), 40000);
  EXPECT_EQ(be16_to_host(parsed.packet.ports.vip), 53);
  EXPECT_EQ(parsed.packet.tcp_flags, 0);
  EXPECT_EQ(parsed.packet.l3_length, 40 + 8 + 5);
  EXPECT_EQ(parsed.packet.ipv4_id, 0);
  EXPECT_EQ(parsed.packet.traffic_class, 0xb9);
  EXPECT_EQ(parsed.packet.hop_limit, 9);
  EXPECT_EQ(parsed.packet.flags, kPacketDontFragment);
}

TEST(Parse, arp_is_for_the_kernel) {
  EXPECT_EQ(parse_bytes(ethernet(0x0806, Bytes(28))).verdict, kVerdictPassNotIp);
}

TEST(Parse, ieee_802_3_length_is_not_ip) {
  EXPECT_EQ(parse_bytes(ethernet(46, Bytes(46))).verdict, kVerdictPassNotIp);
}

TEST(Parse, two_vlan_tags_are_followed) {
  const VlanTag customer = {kEtherTypeVlan, 0x2064}, provider = {kEtherTypeQinq, 0x0fff};
  const Parsed one = parse_bytes(ethernet_ipv4(ipv4({}, tcp()), {customer}));
  EXPECT_EQ(one.verdict, kVerdictUndecided);
  EXPECT_EQ(one.packet.l3_offset, 18);
  const Parsed two = parse_bytes(ethernet_ipv6(ipv6({}, tcp()), {provider, customer}));
  EXPECT_EQ(two.verdict, kVerdictUndecided);
  EXPECT_EQ(two.l4(), kVerdictUndecided);
  EXPECT_EQ(two.packet.l3_offset, 22);
  EXPECT_EQ(two.packet.l3_length, 60);
}

TEST(Parse, three_vlan_tags_are_not) {
  const VlanTag tag = {kEtherTypeVlan, 1};
  EXPECT_EQ(parse_bytes(ethernet_ipv4(ipv4({}, tcp()), {tag, tag, tag})).verdict, kVerdictDropVlanDepth);
  EXPECT_EQ(parse_bytes(ethernet(0x0806, Bytes(28), {tag, tag, tag})).verdict, kVerdictDropVlanDepth);
}

TEST(Parse, link_padding_is_no_part_of_the_packet) {
  const Parsed parsed = parse_bytes(ethernet_ipv4(ipv4({}, udp())) + Bytes(18, 0xee));
  EXPECT_EQ(parsed.verdict, kVerdictUndecided);
  EXPECT_EQ(parsed.packet.l3_length, 28);
}

TEST(Parse, transport_header_in_link_padding_is_truncated) {
  // Total length says that the packet ends before its transport header does; the frame goes on.
  for (uint16_t total_length = 20; total_length < 40; total_length++) {
    const Parsed parsed = parse_bytes(ethernet_ipv4(ipv4({.total_length = total_length}, tcp())));
    EXPECT_EQ(parsed.verdict, kVerdictUndecided);
    EXPECT_EQ(parsed.l4(), kVerdictDropL4Truncated) << total_length;
  }
  for (uint16_t payload_length = 0; payload_length < 8; payload_length++) {
    const Parsed parsed = parse_bytes(ethernet_ipv6(ipv6({.payload_length = payload_length}, udp())));
    EXPECT_EQ(parsed.l4(), kVerdictDropL4Truncated) << payload_length;
  }
}

TEST(Parse, ipv4_options_are_skipped) {
  const Parsed parsed = parse_bytes(ethernet_ipv4(ipv4({.options = Bytes(40, 1)}, tcp())));
  EXPECT_EQ(parsed.l4(), kVerdictUndecided);
  EXPECT_EQ(be16_to_host(parsed.packet.ports.vip), 80);
  EXPECT_EQ(parsed.packet.l3_length, 80);
}

TEST(Parse, ipv4_impossible_headers) {
  EXPECT_EQ(parse_bytes(ethernet_ipv4(ipv4({.version_ihl = 0x55}, tcp()))).verdict,
            kVerdictDropIpv4BadHeader);
  EXPECT_EQ(parse_bytes(ethernet_ipv4(ipv4({.version_ihl = 0x44}, tcp()))).verdict,
            kVerdictDropIpv4BadHeader);
  EXPECT_EQ(parse_bytes(ethernet_ipv4(ipv4({.total_length = 19}, tcp()))).verdict, kVerdictDropIpv4BadHeader);
  EXPECT_EQ(parse_bytes(ethernet_ipv4(ipv4({.version_ihl = 0x46, .total_length = 23}, tcp()))).verdict,
            kVerdictDropIpv4BadHeader);
}

TEST(Parse, ipv4_total_length_past_the_frame) {
  EXPECT_EQ(parse_bytes(ethernet_ipv4(ipv4({.total_length = 41}, tcp()))).verdict, kVerdictDropIpv4Truncated);
  EXPECT_EQ(parse_bytes(ethernet_ipv4(ipv4({.total_length = 40}, tcp()))).verdict, kVerdictUndecided);
}

TEST(Parse, ipv4_header_length_past_the_frame) {
  const Bytes frame = ethernet_ipv4(ipv4({.version_ihl = 0x4f, .total_length = 60}, tcp()));
  EXPECT_EQ(parse_bytes(frame).verdict, kVerdictDropIpv4Truncated);
}

TEST(Parse, ipv6_impossible_headers) {
  EXPECT_EQ(parse_bytes(ethernet_ipv6(ipv6({.version = 4}, tcp()))).verdict, kVerdictDropIpv6BadHeader);
  EXPECT_EQ(parse_bytes(ethernet_ipv6(ipv6({.payload_length = 21}, tcp()))).verdict,
            kVerdictDropIpv6Truncated);
}

TEST(Parse, ipv6_packet_too_long_for_an_outer_header) {
  // 65,535 bytes of payload are legal, but header and payload are then more than 16 bits can say.
  const Bytes head = ethernet_ipv6(ipv6({.payload_length = 0xffff}, tcp()));
  Frame frame = frame_of(head);
  frame.length = 14 + 40 + 0xffff;
  Packet packet;
  EXPECT_EQ(parse(&frame, &packet), kVerdictDropIpv6BadHeader);
}

TEST(Parse, ipv4_mapped_destination_on_the_wire_is_no_vip) {
  EXPECT_EQ(parse_bytes(ethernet_ipv6(ipv6({.destination = "::ffff:198.51.100.10"}, tcp()))).verdict,
            kVerdictPassNotVip);
}

TEST(Parse, tcp_data_offset) {
  EXPECT_EQ(parse_bytes(ethernet_ipv4(ipv4({}, tcp({.data_offset = 4})))).l4(), kVerdictDropTcpBadHeader);
  EXPECT_EQ(parse_bytes(ethernet_ipv4(ipv4({}, tcp({.data_offset = 6})))).l4(), kVerdictDropTcpBadHeader);
  EXPECT_EQ(parse_bytes(ethernet_ipv4(ipv4({}, tcp({.data_offset = 15, .options = Bytes(40)})))).l4(),
            kVerdictUndecided);
  EXPECT_EQ(parse_bytes(ethernet_ipv6(ipv6({}, tcp({.data_offset = 6})))).l4(), kVerdictDropTcpBadHeader);
}

TEST(Parse, protocols_that_are_not_balanced) {
  EXPECT_EQ(parse_bytes(ethernet_ipv4(ipv4({}, raw_segment(89, Bytes(24))))).l4(), kVerdictPassOtherProtocol);
  EXPECT_EQ(parse_bytes(ethernet_ipv4(ipv4({}, icmp(8, 0, Bytes(8))))).l4(), kVerdictPassOtherProtocol);
  EXPECT_EQ(parse_bytes(ethernet_ipv6(ipv6({}, icmpv6(128, 0, Bytes(8))))).l4(), kVerdictPassOtherProtocol);
  // ICMP of the other family is nothing special.
  EXPECT_EQ(parse_bytes(ethernet_ipv4(ipv4({}, raw_segment(kProtocolIcmpv6, Bytes(8, 1))))).l4(),
            kVerdictPassOtherProtocol);
  EXPECT_EQ(parse_bytes(ethernet_ipv6(ipv6({}, raw_segment(kProtocolIcmp, Bytes(8, 3))))).l4(),
            kVerdictPassOtherProtocol);
  EXPECT_EQ(parse_bytes(ethernet_ipv6(ipv6({}, raw_segment(59, {})))).l4(), kVerdictPassOtherProtocol);
}

TEST(Parse, ipv4_first_fragment_has_ports) {
  const Parsed parsed = parse_bytes(ethernet_ipv4(ipv4({.fragment = kIpv4MoreFragments}, udp())));
  EXPECT_EQ(parsed.l4(), kVerdictUndecided);
  EXPECT_EQ(be16_to_host(parsed.packet.ports.vip), 53);
}

TEST(Parse, ipv4_later_fragment_has_no_ports) {
  for (uint16_t fragment : {uint16_t{1}, uint16_t{0x1fff}, uint16_t{kIpv4MoreFragments | 185}}) {
    EXPECT_EQ(parse_bytes(ethernet_ipv4(ipv4({.fragment = fragment}, udp()))).l4(), kVerdictDropFragment);
    EXPECT_EQ(parse_bytes(ethernet_ipv4(ipv4({.fragment = fragment}, tcp()))).l4(), kVerdictDropFragment);
    EXPECT_EQ(parse_bytes(ethernet_ipv4(ipv4({.fragment = fragment}, icmp(8, 0, Bytes(8))))).l4(),
              kVerdictPassOtherProtocol);
  }
  EXPECT_EQ(parse_bytes(ethernet_ipv4(ipv4({.fragment = kDontFragment}, udp()))).l4(), kVerdictUndecided);
}

TEST(Parse, ipv6_first_and_atomic_fragments_have_ports) {
  for (uint8_t more : {uint8_t{0}, kMoreFragments}) {
    const Parsed parsed = parse_bytes(ethernet_ipv6(ipv6({}, tcp(), {fragment_header(0, more)})));
    EXPECT_EQ(parsed.l4(), kVerdictUndecided);
    EXPECT_EQ(parsed.packet.protocol, kProtocolTcp);
    EXPECT_EQ(be16_to_host(parsed.packet.ports.vip), 80);
  }
}

TEST(Parse, ipv6_later_fragment_has_no_ports) {
  for (uint16_t offset : {uint16_t{1}, uint16_t{0x1fff}}) {
    EXPECT_EQ(parse_bytes(ethernet_ipv6(ipv6({}, tcp(), {fragment_header(offset, 0)}))).l4(),
              kVerdictDropFragment);
    EXPECT_EQ(parse_bytes(ethernet_ipv6(ipv6({}, udp(), {fragment_header(offset, kMoreFragments)}))).l4(),
              kVerdictDropFragment);
    EXPECT_EQ(
        parse_bytes(ethernet_ipv6(ipv6({}, icmpv6(128, 0, Bytes(8)), {fragment_header(offset, 0)}))).l4(),
        kVerdictPassOtherProtocol);
  }
}

TEST(Parse, ipv6_extension_headers_of_every_kind_are_followed) {
  ExtensionHeader authentication = {kProtocolAuthentication, Bytes(23)};  // 24 bytes: (4 + 2) units of 4
  authentication.rest[0] = 4;
  const Parsed parsed =
      parse_bytes(ethernet_ipv6(ipv6({}, udp(),
                                     {extension(kProtocolHopByHop), extension(kProtocolDestinationOptions, 2),
                                      extension(kProtocolRouting, 1), fragment_header(0, 0), authentication,
                                      extension(kProtocolDestinationOptions)})));
  EXPECT_EQ(parsed.l4(), kVerdictUndecided);
  EXPECT_EQ(parsed.packet.protocol, kProtocolUdp);
  EXPECT_EQ(be16_to_host(parsed.packet.ports.vip), 53);
}

TEST(Parse, ipv6_extension_headers_have_a_bound) {
  std::vector<ExtensionHeader> chain(kMaxExtensionHeaders, extension(kProtocolDestinationOptions));
  EXPECT_EQ(parse_bytes(ethernet_ipv6(ipv6({}, udp(), chain))).l4(), kVerdictUndecided);
  chain.push_back(extension(kProtocolDestinationOptions));
  EXPECT_EQ(parse_bytes(ethernet_ipv6(ipv6({}, udp(), chain))).l4(), kVerdictDropIpv6ExtensionHeaders);

  const ExtensionHeader longest = extension(kProtocolDestinationOptions, kMaxExtensionHeaderBytes / 8 - 1);
  EXPECT_EQ(parse_bytes(ethernet_ipv6(ipv6({}, udp(), {longest}))).l4(), kVerdictUndecided);
  EXPECT_EQ(parse_bytes(ethernet_ipv6(ipv6({}, udp(), {longest, extension(kProtocolRouting)}))).l4(),
            kVerdictDropIpv6ExtensionHeaders);
}

TEST(Parse, ipv6_extension_header_past_the_packet) {
  ExtensionHeader header = extension(kProtocolHopByHop);
  header.rest[0] = 2;  // 24 bytes, of which the packet has 16
  EXPECT_EQ(parse_bytes(ethernet_ipv6(ipv6({}, udp(), {header}))).l4(), kVerdictDropIpv6ExtensionHeaders);
  EXPECT_EQ(
      parse_bytes(ethernet_ipv6(ipv6({.payload_length = 7}, udp(), {extension(kProtocolHopByHop)}))).l4(),
      kVerdictDropIpv6ExtensionHeaders);
}

/// The start of a packet from the VIP to the client, as an ICMP error quotes it.
Bytes quoted_ipv4(const Ipv4Fields &fields = {.source = "198.51.100.10", .destination = "192.0.2.1"},
                  const Segment &segment = tcp({.source_port = 80, .destination_port = 40000})) {
  Bytes packet = ipv4(fields, segment);
  packet.resize(fields.options.size() + 28);
  return packet;
}

Bytes icmp_error_frame(uint8_t type, const Bytes &quoted) {
  return ethernet_ipv4(ipv4({.source = "203.0.113.1"}, icmp(type, 0, quoted)));
}

TEST(Parse, icmp_errors_name_the_connection_in_reverse) {
  for (uint8_t type : {uint8_t{3}, uint8_t{11}, uint8_t{12}}) {
    const Parsed parsed = parse_bytes(icmp_error_frame(type, quoted_ipv4()));
    ASSERT_EQ(parsed.l4(), kVerdictUndecided) << int{type};
    EXPECT_EQ(address_of(parsed.packet.client), "192.0.2.1");
    EXPECT_EQ(address_of(parsed.packet.vip), "198.51.100.10");
    EXPECT_EQ(be16_to_host(parsed.packet.ports.client), 40000);
    EXPECT_EQ(be16_to_host(parsed.packet.ports.vip), 80);
    EXPECT_EQ(parsed.packet.protocol, kProtocolTcp);
    EXPECT_EQ(parsed.packet.flags, kPacketDontFragment | kPacketIcmpError);
    EXPECT_EQ(parsed.packet.tcp_flags, 0);
  }
}

TEST(Parse, icmp_other_types_are_for_the_kernel) {
  for (int type = 0; type < 256; type++) {
    if (type == 3 || type == 11 || type == 12) continue;
    EXPECT_EQ(parse_bytes(icmp_error_frame(static_cast<uint8_t>(type), quoted_ipv4())).l4(),
              kVerdictPassOtherProtocol);
  }
}

TEST(Parse, icmp_error_quoting_options) {
  const Ipv4Fields fields = {.source = "198.51.100.10", .destination = "192.0.2.1", .options = Bytes(8, 1)};
  EXPECT_EQ(be16_to_host(parse_bytes(icmp_error_frame(3, quoted_ipv4(fields))).packet.ports.client), 40000);
}

TEST(Parse, icmp_error_about_another_sender_is_for_the_kernel) {
  const Ipv4Fields fields = {.source = "198.51.100.11", .destination = "192.0.2.1"};
  EXPECT_EQ(parse_bytes(icmp_error_frame(3, quoted_ipv4(fields))).l4(), kVerdictPassOtherProtocol);
}

TEST(Parse, icmp_error_about_another_protocol_is_for_the_kernel) {
  const Bytes quoted =
      quoted_ipv4({.source = "198.51.100.10", .destination = "192.0.2.1"}, icmp(8, 0, Bytes(8)));
  EXPECT_EQ(parse_bytes(icmp_error_frame(3, quoted)).l4(), kVerdictPassOtherProtocol);
}

TEST(Parse, icmp_error_about_a_later_fragment) {
  const Ipv4Fields fields = {.source = "198.51.100.10", .destination = "192.0.2.1", .fragment = 100};
  EXPECT_EQ(parse_bytes(icmp_error_frame(11, quoted_ipv4(fields))).l4(), kVerdictDropFragment);
}

TEST(Parse, icmp_error_quoting_nonsense) {
  Ipv4Fields fields = {.source = "198.51.100.10", .destination = "192.0.2.1", .version_ihl = 0x65};
  EXPECT_EQ(parse_bytes(icmp_error_frame(3, quoted_ipv4(fields))).l4(), kVerdictDropIcmpErrorTruncated);
  fields.version_ihl = 0x44;
  EXPECT_EQ(parse_bytes(icmp_error_frame(3, quoted_ipv4(fields))).l4(), kVerdictDropIcmpErrorTruncated);
}

TEST(Parse, icmp_error_quoting_too_little) {
  const Bytes quoted = quoted_ipv4();
  for (size_t size = 0; size <= quoted.size(); size++) {
    const Bytes piece(quoted.begin(), quoted.begin() + size);
    EXPECT_EQ(parse_bytes(icmp_error_frame(3, piece)).l4(),
              size < 24 ? uint32_t{kVerdictDropIcmpErrorTruncated} : uint32_t{kVerdictUndecided})
        << size;
  }
}

TEST(Parse, icmp_error_quoted_in_link_padding) {
  // The quoted ports lie behind the end that total length gives: they are whatever padded the frame.
  for (uint16_t total_length = 20; total_length < 20 + 8 + 24; total_length++) {
    const Bytes frame = ethernet_ipv4(
        ipv4({.source = "203.0.113.1", .total_length = total_length}, icmp(3, 0, quoted_ipv4())));
    EXPECT_EQ(parse_bytes(frame).l4(), total_length < 28 ? uint32_t{kVerdictDropL4Truncated}
                                                         : uint32_t{kVerdictDropIcmpErrorTruncated})
        << total_length;
  }
  for (uint16_t length = 0; length < 8 + 44; length++) {
    const Bytes quoted = ipv6({.source = "2001:db8::10", .destination = "2001:db8:c::1"}, udp());
    const Bytes frame =
        ethernet_ipv6(ipv6({.source = "2001:db8:f::1", .payload_length = length}, icmpv6(1, 0, quoted)));
    EXPECT_EQ(parse_bytes(frame).l4(),
              length < 8 ? uint32_t{kVerdictDropL4Truncated} : uint32_t{kVerdictDropIcmpErrorTruncated})
        << length;
  }
}

TEST(Parse, icmpv6_errors_name_the_connection_in_reverse) {
  const Bytes quoted = ipv6({.source = "2001:db8::10", .destination = "2001:db8:c::1"},
                            udp({.source_port = 53, .destination_port = 40000}));
  for (int type = 0; type < 256; type++) {
    const Parsed parsed = parse_bytes(
        ethernet_ipv6(ipv6({.source = "2001:db8:f::1"}, icmpv6(static_cast<uint8_t>(type), 0, quoted))));
    if (type < 1 || type > 4) {
      EXPECT_EQ(parsed.l4(), kVerdictPassOtherProtocol) << type;
      continue;
    }
    ASSERT_EQ(parsed.l4(), kVerdictUndecided) << type;
    EXPECT_EQ(address_of(parsed.packet.client), "2001:db8:c::1");
    EXPECT_EQ(address_of(parsed.packet.vip), "2001:db8::10");
    EXPECT_EQ(be16_to_host(parsed.packet.ports.client), 40000);
    EXPECT_EQ(be16_to_host(parsed.packet.ports.vip), 53);
    EXPECT_EQ(parsed.packet.protocol, kProtocolUdp);
    EXPECT_EQ(parsed.packet.flags, kPacketDontFragment | kPacketIcmpError);
  }
}

TEST(Parse, icmpv6_error_about_another_sender_is_for_the_kernel) {
  const Bytes quoted = ipv6({.source = "2001:db8::11", .destination = "2001:db8:c::1"}, udp());
  EXPECT_EQ(parse_bytes(ethernet_ipv6(ipv6({}, icmpv6(1, 0, quoted)))).l4(), kVerdictPassOtherProtocol);
}

/// Frames of which every beginning is parsed below.
std::vector<Bytes> frames_of_every_kind() {
  const VlanTag tag = {kEtherTypeVlan, 5};
  const Bytes quoted6 = ipv6({.source = "2001:db8::10", .destination = "2001:db8:c::1"}, udp());
  return {
      ethernet_ipv4(ipv4({}, tcp({.data_offset = 6, .options = Bytes(4)}))),
      ethernet_ipv4(ipv4({.options = Bytes(40)}, udp()), {tag, tag}),
      ethernet_ipv4(ipv4({.fragment = 3}, udp())),
      ethernet_ipv4(ipv4({}, icmp(3, 4, quoted_ipv4()))),
      ethernet_ipv6(ipv6({}, tcp()), {tag}),
      ethernet_ipv6(ipv6({}, udp(), {extension(kProtocolHopByHop, 3), fragment_header(0, 1)})),
      ethernet_ipv6(ipv6({}, udp(), {extension(kProtocolRouting), fragment_header(9, 1)})),
      ethernet_ipv6(ipv6({}, icmpv6(2, 0, quoted6))),
      ethernet(0x0806, Bytes(28)),
  };
}

bool is_named(uint32_t verdict) { return verdict < kVerdictCount || verdict == kVerdictUndecided; }

TEST(Parse, every_truncation_ends_in_a_verdict_and_reads_nothing_past_the_end) {
  GuardedPage page;
  for (const Bytes &bytes : frames_of_every_kind()) {
    const uint32_t whole = parse_bytes(bytes).verdict;
    for (size_t size = 0; size <= bytes.size(); size++) {
      Packet packet = {};
      Frame frame = page.place(bytes, size, size);
      const uint32_t verdict = parse(&frame, &packet);
      ASSERT_TRUE(is_named(verdict)) << size;
      if (whole != kVerdictUndecided) continue;
      // Without its last byte, an IP packet is never taken for a whole one.
      EXPECT_EQ(verdict == kVerdictUndecided, size == bytes.size()) << size << " of " << bytes.size();
    }
  }
}

TEST(Parse, frame_in_pieces_is_read_in_its_first_piece_only) {
  GuardedPage page;
  for (const Bytes &bytes : frames_of_every_kind()) {
    for (size_t readable = 0; readable <= bytes.size(); readable++) {
      Packet packet = {};
      Frame frame = page.place(bytes, readable, bytes.size());
      const uint32_t verdict = parse(&frame, &packet);
      ASSERT_TRUE(is_named(verdict));
      EXPECT_TRUE(verdict != kVerdictUndecided || is_named(packet.l4_verdict));
    }
  }
}

TEST(Parse, first_piece_that_ends_within_ipv4_options) {
  GuardedPage page;
  const Bytes bytes = ethernet_ipv4(ipv4({.options = Bytes(40)}, udp()));
  Packet packet = {};
  Frame frame = page.place(bytes, 14 + 59, bytes.size());
  EXPECT_EQ(parse(&frame, &packet), kVerdictDropIpv4Truncated);
  frame = page.place(bytes, 14 + 60, bytes.size());
  EXPECT_EQ(parse(&frame, &packet), kVerdictUndecided);
}

TEST(Parse, ethernet_truncation_is_named_for_each_tag) {
  const VlanTag tag = {kEtherTypeVlan, 5};
  const Bytes bytes = ethernet_ipv4(ipv4({}, tcp()), {tag, tag});
  for (size_t size = 0; size < 22; size++) {
    const Bytes piece(bytes.begin(), bytes.begin() + size);
    EXPECT_EQ(parse_bytes(piece).verdict, kVerdictDropEthernetTruncated) << size;
  }
  EXPECT_EQ(parse_bytes(Bytes(bytes.begin(), bytes.begin() + 22)).verdict, kVerdictDropIpv4Truncated);
}

}  // namespace
}  // namespace sluice
