#include "dataplane/core/too_big.h"

#include <gtest/gtest.h>

#include "tests/core/test_tables.h"

namespace sluice {
namespace {

const Bytes kClientMac = {0x02, 0, 0, 0, 0, 0x02};    // packet_builder's source
const Bytes kBalancerMac = {0x02, 0, 0, 0, 0, 0x01};  // and its destination

Segment large_tcp(size_t payload) { return tcp({.payload = Bytes(payload, 0x5a)}); }

/// The answer as an engine sends it: what it does after decide() said ReplyTooBig.
Bytes answer_to(const Bytes &frame, const Decided &decided) {
  Bytes bytes = Bytes(too_big_growth(&decided.packet), 0xee) + frame;
  write_too_big(bytes.data(), decided.decision.egress, &decided.packet);
  bytes.resize(too_big_frame_size(&decided.packet));
  return bytes;
}

Bytes quoted(const Bytes &packet) { return Bytes(packet.begin(), packet.begin() + 256); }

class TooBig : public testing::Test {
 protected:
  Verdict verdict_of(const Bytes &frame) { return decide_frame(tables_.tables(), frame).verdict(); }

  TestTables tables_{standard_snapshot()};  // outer MTU 1500, so 1480 bytes of either family fit
};

TEST_F(TooBig, a_packet_of_the_exact_size_is_forwarded_and_one_byte_more_is_answered) {
  const Bytes fits = ethernet_ipv4(ipv4({}, large_tcp(1440)));
  const Bytes too_big = ethernet_ipv4(ipv4({}, large_tcp(1441)));
  EXPECT_EQ(verdict_class(verdict_of(fits)), kVerdictClassForward);
  EXPECT_EQ(verdict_of(too_big), kVerdictReplyTooBig);
}

TEST_F(TooBig, ipv4_is_answered_with_fragmentation_needed_from_the_vip) {
  const Bytes packet = ipv4({.traffic_class = 0x2e}, large_tcp(1460));
  const Bytes frame = ethernet_ipv4(packet);
  const Decided decided = decide_frame(tables_.tables(), frame);
  ASSERT_EQ(decided.verdict(), kVerdictReplyTooBig);

  Bytes message = Bytes{3, 4, 0, 0} + be16_bytes(0) + be16_bytes(1480) + quoted(packet);
  put_be16(&message, 2, static_cast<uint16_t>(~ones_complement_sum(message)));
  const Bytes expected = kClientMac + kBalancerMac + be16_bytes(kEtherTypeIpv4) +
                         ipv4({.source = "198.51.100.10",
                               .destination = "192.0.2.1",
                               .traffic_class = 0xc0,
                               .id = 0,
                               .fragment = 0x4000},
                              raw_segment(kProtocolIcmp, message));
  EXPECT_EQ(answer_to(frame, decided), expected);
}

TEST_F(TooBig, ipv6_is_answered_with_packet_too_big_from_the_vip) {
  const Bytes packet = ipv6({}, large_tcp(1440));
  const Bytes frame = ethernet_ipv6(packet);
  const Decided decided = decide_frame(tables_.tables(), frame);
  ASSERT_EQ(decided.verdict(), kVerdictReplyTooBig);

  const Bytes message = Bytes{2, 0, 0, 0} + be32_bytes(1480) + quoted(packet);
  const Bytes expected =
      kClientMac + kBalancerMac + be16_bytes(kEtherTypeIpv6) +
      ipv6({.source = "2001:db8::10", .destination = "2001:db8:c::1", .traffic_class = 0xc0, .flow_label = 0},
           {kProtocolIcmpv6, message, 2});
  EXPECT_EQ(answer_to(frame, decided), expected);
}

TEST_F(TooBig, an_ipv6_outer_header_leaves_twenty_bytes_less) {
  for (uint32_t backend : {1u, 2u}) tables_.egress(backend) = make_egress({.backend = "fd00:1::11"});
  const Bytes frame = ethernet_ipv4(ipv4({}, large_tcp(1421)));
  const Decided decided = decide_frame(tables_.tables(), frame);
  ASSERT_EQ(decided.verdict(), kVerdictReplyTooBig);
  const Bytes answer = answer_to(frame, decided);
  EXPECT_EQ(get_be16(answer, 14 + 20 + 6), 1460);
}

TEST_F(TooBig, vlan_tags_go_back_with_the_answer) {
  const std::vector<VlanTag> tags = {{kEtherTypeQinq, 100}, {kEtherTypeVlan, 7}};
  const Bytes frame = ethernet_ipv4(ipv4({}, large_tcp(1460)), tags);
  const Decided decided = decide_frame(tables_.tables(), frame);
  ASSERT_EQ(decided.verdict(), kVerdictReplyTooBig);
  const Bytes answer = answer_to(frame, decided);
  EXPECT_EQ(Bytes(answer.begin(), answer.begin() + 6), kClientMac);
  EXPECT_EQ(Bytes(answer.begin() + 12, answer.begin() + 22), Bytes(frame.begin() + 12, frame.begin() + 22));
  EXPECT_EQ(answer[22], 0x45);
}

TEST_F(TooBig, what_may_be_fragmented_is_dropped_without_an_answer) {
  EXPECT_EQ(verdict_of(ethernet_ipv4(ipv4({.fragment = 0}, large_tcp(1460)))), kVerdictDropTooBig);
}

TEST_F(TooBig, an_icmp_error_is_never_answered) {
  const Bytes from_vip = ipv4({.source = "198.51.100.10", .destination = "192.0.2.1"},
                              tcp({.source_port = 80, .destination_port = 40000, .payload = Bytes(1440)}));
  EXPECT_EQ(verdict_of(ethernet_ipv4(ipv4({}, icmp(3, 1, from_vip)))), kVerdictDropTooBig);
}

TEST_F(TooBig, what_has_no_single_sender_is_never_answered) {
  for (const char *source :
       {"0.0.0.0", "127.0.0.1", "224.0.0.1", "239.1.2.3", "240.0.0.1", "255.255.255.255"})
    EXPECT_EQ(verdict_of(ethernet_ipv4(ipv4({.source = source}, large_tcp(1460)))), kVerdictDropTooBig)
        << source;
  for (const char *source : {"::", "::1", "ff02::1", "ff0e::1234"})
    EXPECT_EQ(verdict_of(ethernet_ipv6(ipv6({.source = source}, large_tcp(1440)))), kVerdictDropTooBig)
        << source;
  for (const char *source : {"1.0.0.0", "126.255.255.255", "128.0.0.1", "223.255.255.255"})
    EXPECT_EQ(verdict_of(ethernet_ipv4(ipv4({.source = source}, large_tcp(1460)))), kVerdictReplyTooBig)
        << source;
  for (const char *source : {"::2", "fe80::1", "2001:db8::"})
    EXPECT_EQ(verdict_of(ethernet_ipv6(ipv6({.source = source}, large_tcp(1440)))), kVerdictReplyTooBig)
        << source;
}

TEST_F(TooBig, answers_stop_at_the_rate_limit) {
  tables_.icmp_reply_budget = 2;
  const Bytes frame = ethernet_ipv4(ipv4({}, large_tcp(1460)));
  EXPECT_EQ(verdict_of(frame), kVerdictReplyTooBig);
  EXPECT_EQ(verdict_of(frame), kVerdictReplyTooBig);
  EXPECT_EQ(verdict_of(frame), kVerdictDropTooBig);
  EXPECT_EQ(tables_.icmp_reply_budget, 0u);
}

}  // namespace
}  // namespace sluice
