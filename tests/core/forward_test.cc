#include "dataplane/core/forward.h"

#include <functional>
#include <map>
#include <set>

#include <gtest/gtest.h>

#include "tests/core/flows.h"

namespace sluice {
namespace {

constexpr uint32_t kNow = 1000;

/// A table in which every verdict can come about.
SnapshotBuilder wide_snapshot() {
  SnapshotBuilder builder = standard_snapshot();
  builder.add_vip("198.51.100.20", {{80, 80, builder.add_service("empty", builder.add_pool({}))}});
  const uint32_t least = builder.add_service("least", builder.add_pool({1, 2}), kSchedulerLeastConnection);
  builder.add_vip("198.51.100.30", {{80, 80, least}});
  builder.add_check_source("203.0.113.200", {2});
  return builder;
}

struct VerdictCase {
  Verdict verdict;
  Bytes frame;
  std::function<void(TestTables &)> prepare;
};

Bytes icmp_error(const std::string &quoted_source = "198.51.100.10") {
  const Bytes quoted = ipv4({.source = quoted_source, .destination = "10.0.0.1"},
                            tcp({.source_port = 80, .destination_port = 40000}));
  return ethernet_ipv4(ipv4({.source = "203.0.113.1"}, icmp(3, 4, quoted)));
}

void fill_both_buckets(TestTables &tables) {
  for (ConnectionBucket &bucket : tables.ipv4_buckets())
    for (uint32_t i = 0; i < kIpv4EntriesPerBucket; i++) {
      bucket.ipv4[i].client = host_to_be32(0x0b000000 + i);
      bucket.ipv4[i].vip = host_to_be32(0xc633640a);
      bucket.ipv4[i].meta =
          static_cast<uint16_t>(kNow << kMetaStampShift | kConnectionEstablished << kMetaStateShift);
      bucket.ipv4[i].backend = 1;
    }
}

/// One case for each verdict that the core gives.
std::vector<VerdictCase> cases() {
  const TestFlow flow = {};
  static TestTables peer{standard_snapshot()};
  enter(peer.tables(), flow, kConnectionEstablished, 1, kNow);
  const auto nothing = [](TestTables &) {};
  const auto not_ready = [](TestTables &tables) {
    for (uint32_t backend : {1, 2}) tables.egress(backend).flags &= static_cast<uint8_t>(~kEgressReady);
  };
  const Bytes good = frame_of_flow(flow, kTcpSyn);
  const Bytes good6 = frame_of_flow({.family = kFamilyIpv6}, kTcpSyn);
  const VlanTag tag = {kEtherTypeVlan, 1};
  const std::vector<ExtensionHeader> seven(7, extension(kProtocolDestinationOptions));
  return {
      {kVerdictForwardEstablished, good,
       [=](TestTables &tables) { enter(tables.tables(), flow, kConnectionEmbryonic, 1, kNow); }},
      {kVerdictForwardNew, good, nothing},
      {kVerdictForwardUntracked, good, fill_both_buckets},
      {kVerdictForwardAdopted, frame_of_flow(flow, kTcpAck),
       [](TestTables &tables) { tables.set_peers({&peer}); }},
      {kVerdictForwardIcmpError, icmp_error(), nothing},
      {kVerdictForwardCheck,
       ethernet_ipv4(ipv4({.source = "203.0.113.200"}, tcp({.source_port = kFirstCheckPort}))), nothing},
      {kVerdictDropCheck,
       ethernet_ipv4(
           ipv4({.source = "203.0.113.200"}, tcp({.source_port = kFirstCheckPort + kCheckPortsPerPin}))),
       nothing},
      {kVerdictPassNotIp, ethernet(0x0806, Bytes(28)), nothing},
      {kVerdictPassNotVip, ethernet_ipv4(ipv4({.destination = "203.0.113.9"}, tcp())), nothing},
      {kVerdictPassNoService, ethernet_ipv4(ipv4({}, tcp({.destination_port = 81}))), nothing},
      {kVerdictPassOtherProtocol, ethernet_ipv4(ipv4({}, icmp(8, 0, Bytes(8)))), nothing},
      {kVerdictDropEthernetTruncated, Bytes(13), nothing},
      {kVerdictDropVlanDepth, ethernet_ipv4(ipv4({}, tcp()), {tag, tag, tag}), nothing},
      {kVerdictDropIpv4Truncated, Bytes(good.begin(), good.end() - 1), nothing},
      {kVerdictDropIpv4BadHeader, ethernet_ipv4(ipv4({.version_ihl = 0x44}, tcp())), nothing},
      {kVerdictDropIpv6Truncated, Bytes(good6.begin(), good6.end() - 1), nothing},
      {kVerdictDropIpv6BadHeader, ethernet_ipv6(ipv6({.version = 5}, tcp())), nothing},
      {kVerdictDropIpv6ExtensionHeaders, ethernet_ipv6(ipv6({}, tcp(), seven)), nothing},
      {kVerdictDropL4Truncated, ethernet_ipv4(ipv4({}, raw_segment(kProtocolTcp, Bytes(19)))), nothing},
      {kVerdictDropTcpBadHeader, ethernet_ipv4(ipv4({}, tcp({.data_offset = 4}))), nothing},
      {kVerdictDropFragment, ethernet_ipv4(ipv4({.fragment = 5}, udp())), nothing},
      {kVerdictDropIcmpErrorTruncated, ethernet_ipv4(ipv4({}, icmp(3, 1, Bytes(8)))), nothing},
      {kVerdictDropHopLimit, ethernet_ipv4(ipv4({.ttl = 1}, tcp())), nothing},
      {kVerdictReplyTooBig, ethernet_ipv4(ipv4({}, tcp({.payload = Bytes(1460)}))), nothing},
      {kVerdictDropTooBig, ethernet_ipv4(ipv4({.fragment = 0}, tcp({.payload = Bytes(1460)}))), nothing},
      {kVerdictDropNoBackend, ethernet_ipv4(ipv4({.destination = "198.51.100.20"}, tcp())), nothing},
      {kVerdictDropAdoptionLimit,
       ethernet_ipv4(ipv4({.destination = "198.51.100.30"}, tcp({.flags = kTcpAck}))),
       [](TestTables &tables) {
         tables.set_peers({&peer});
         tables.adoption_budgets[kAdoptionOfTcp] = 0;
       }},
      {kVerdictDropNoNextHop, good, not_ready},
  };
}

/// Verdicts that only an engine gives, or nobody: what becomes of a frame after or instead of decide().
const std::set<uint32_t> kEngineVerdicts = {
    kVerdictPassNoSnapshot,      kVerdictDropNoHeadroom,  kVerdictDropTransmitQueueFull,
    kVerdictDropKernelQueueFull, kVerdictDropKernelLimit, kVerdictDropSteeringQueueFull,
    kVerdictDropInternal,
};

TEST(Verdicts, each_one_of_the_core_comes_about) {
  std::set<uint32_t> seen;
  for (const VerdictCase &one : cases()) {
    TestTables tables(wide_snapshot());
    one.prepare(tables);
    const Decided decided = decide_frame(tables.tables(), one.frame, kNow);
    EXPECT_EQ(verdict_name(decided.verdict()), verdict_name(one.verdict));
    seen.insert(decided.verdict());
  }
  for (uint32_t verdict = 0; verdict < kVerdictCount; verdict++)
    EXPECT_NE(seen.count(verdict), kEngineVerdicts.count(verdict))
        << verdict_name(verdict) << " needs a case here, or a place among the engine's";
}

// verdict_class() goes by the order of the list.
TEST(Verdicts, list_is_ordered_by_class) {
  enum {
    forward = kVerdictClassForward,
    reply = kVerdictClassReply,
    pass = kVerdictClassPass,
    drop = kVerdictClassDrop
  };
#define SLUICE_VERDICT(identifier, class_, metric, help)                      \
  EXPECT_EQ(int{verdict_class(kVerdict##identifier)}, int{class_}) << metric; \
  EXPECT_EQ(std::string(metric).find(#class_ "_"), 0u) << metric;
#include "dataplane/abi/verdicts.def"
#undef SLUICE_VERDICT
}

TEST(Decide, names_a_backend_if_and_only_if_it_forwards_or_an_egress_was_in_the_way) {
  for (const VerdictCase &one : cases()) {
    TestTables tables(wide_snapshot());
    one.prepare(tables);
    const Decided decided = decide_frame(tables.tables(), one.frame, kNow);
    const std::set<uint32_t> obstacles = {kVerdictDropHopLimit, kVerdictDropTooBig, kVerdictReplyTooBig,
                                          kVerdictDropNoNextHop};
    const bool chosen =
        verdict_class(decided.verdict()) == kVerdictClassForward || obstacles.count(decided.verdict()) == 1;
    EXPECT_EQ(decided.decision.backend != 0, chosen) << verdict_name(decided.verdict());
    EXPECT_EQ(decided.decision.egress != nullptr, chosen) << verdict_name(decided.verdict());
  }
}

TEST(Decide, check_is_not_misled_by_a_connection_of_before_its_address_was_a_source) {
  TestTables tables(standard_snapshot());
  const auto decide = [&](uint8_t flags) {
    const auto segment = tcp({.source_port = kFirstCheckPort, .flags = flags});
    return decide_frame(tables.tables(), ethernet_ipv4(ipv4({.source = "203.0.113.200"}, segment)), kNow);
  };
  const uint16_t before = decide(kTcpSyn).decision.backend;
  decide(kTcpAck);
  decide(kTcpRst);
  ASSERT_EQ(tables.entries(), 1u);
  const auto checked = static_cast<uint16_t>(before == 1 ? 2 : 1);
  SnapshotBuilder with_source = standard_snapshot();
  with_source.add_check_source("203.0.113.200", {checked});
  tables.use_snapshot(with_source);
  for (const uint8_t flags : {kTcpSyn, kTcpAck, kTcpFin}) {
    const Decided decided = decide(flags);
    EXPECT_EQ(verdict_name(decided.verdict()), verdict_name(kVerdictForwardCheck));
    EXPECT_EQ(decided.decision.backend, checked);
    EXPECT_EQ(tables.entries(), 0u);
  }
}

TEST(Decide, connection_stays_while_backends_come_and_go) {
  SnapshotBuilder builder = standard_snapshot();
  TestTables tables(builder, 1024);
  std::map<uint32_t, uint16_t> backends;
  for (uint32_t client = 0; client < 500; client++) {
    const TestFlow flow = {.family = static_cast<uint8_t>(client % 2 ? kFamilyIpv6 : kFamilyIpv4),
                           .client = client};
    backends[client] = send(tables.tables(), flow, kTcpSyn, kNow).decision.backend;
    send(tables.tables(), flow, kTcpAck, kNow);
  }
  // Backend 1 drains, backend 3 comes, and every slot is another's.
  SnapshotBuilder changed;
  const uint32_t b1 = changed.add_backend("pool", "b1", "10.1.0.11");
  const uint32_t b2 = changed.add_backend("pool", "b2", "10.1.0.12");
  const uint32_t b3 = changed.add_backend("pool", "b3", "fd00:1::13");
  changed.set_state(b1, kBackendDraining);
  const uint32_t pool = changed.add_pool({b3, b2});
  const uint32_t web = changed.add_service("web", pool);
  changed.add_vip("198.51.100.10", {{80, 80, web}});
  changed.add_vip("2001:db8::10", {{80, 80, web}});
  tables.use_snapshot(changed);
  for (uint32_t client = 0; client < 500; client++) {
    const TestFlow flow = {.family = static_cast<uint8_t>(client % 2 ? kFamilyIpv6 : kFamilyIpv4),
                           .client = client};
    const Decided decided = send(tables.tables(), flow, kTcpAck, kNow + 1);
    ASSERT_EQ(decided.verdict(), kVerdictForwardEstablished);
    ASSERT_EQ(decided.decision.backend, backends[client]);
  }
}

TEST(Decide, new_connections_of_one_flow_get_the_same_backend_while_nothing_changes) {
  TestTables one(standard_snapshot()), other(standard_snapshot());
  for (uint32_t client = 0; client < 200; client++)
    EXPECT_EQ(send(one.tables(), {.client = client}, kTcpSyn, kNow).decision.backend,
              send(other.tables(), {.client = client}, kTcpSyn, kNow + 5).decision.backend);
}

// Scheduled by load, each packet of a flow without an entry could go another way.
TEST(Decide, flow_without_room_for_an_entry_stays_while_the_load_shifts) {
  for (uint8_t family : {kFamilyIpv4, kFamilyIpv6}) {
    TestTables tables(standard_snapshot(kSchedulerLeastConnection), 2);
    for (uint32_t client = 1000; client < 1100; client++)
      enter(tables.tables(), {.family = family, .client = client}, kConnectionEstablished, 1, kNow);
    std::set<uint16_t> used;
    for (uint32_t client = 1; client <= 50; client++) {
      const TestFlow flow = {.family = family, .client = client};
      tables.counters(1).active_connections = 10;
      tables.counters(2).active_connections = 20;
      const Decided syn = send(tables.tables(), flow, kTcpSyn, kNow);
      ASSERT_EQ(syn.verdict(), kVerdictForwardUntracked);
      tables.counters(1).active_connections = 30;
      for (uint8_t flags : {kTcpAck, kTcpFin}) {
        const Decided later = send(tables.tables(), flow, flags, kNow);
        ASSERT_EQ(later.verdict(), kVerdictForwardUntracked);
        EXPECT_EQ(later.decision.backend, syn.decision.backend);
      }
      used.insert(syn.decision.backend);
    }
    EXPECT_EQ(used.size(), 2u);
  }
}

// What was not entered at first gets its entry once there is room, and must stay where it was.
TEST(Decide, flow_found_in_its_middle_is_entered_where_its_hash_says) {
  TestTables tables(standard_snapshot(kSchedulerLeastConnection));
  for (uint32_t client = 1; client <= 50; client++) {
    const TestFlow flow = {.client = client};
    const uint16_t of_hash =
        backend_of_hash(&tables.tables(), &tables->services[0], packet_of(tables.tables(), flow).hash);
    tables.counters(of_hash).active_connections = 1000;
    tables.counters(3 - of_hash).active_connections = 0;
    EXPECT_EQ(send(tables.tables(), flow, kTcpAck, kNow).decision.backend, of_hash);
    EXPECT_EQ(backend_of(entry_of(tables.tables(), flow)), of_hash);
  }
}

TEST(Decide, icmp_error_follows_its_connection_and_changes_nothing) {
  const TestFlow flow = {};
  for (uint16_t backend : {uint16_t{1}, uint16_t{2}}) {
    TestTables tables(standard_snapshot());
    ASSERT_TRUE(enter(tables.tables(), flow, kConnectionEstablished, backend, kNow));
    const uint64_t before = entry_of(tables.tables(), flow);
    const Decided decided = decide_frame(tables.tables(), icmp_error(), kNow + 5);
    EXPECT_EQ(decided.verdict(), kVerdictForwardIcmpError);
    EXPECT_EQ(decided.decision.backend, backend);
    EXPECT_EQ(entry_of(tables.tables(), flow), before);
    EXPECT_EQ(tables.entries(), 1u);
  }
}

TEST(Decide, icmp_error_follows_a_connection_of_another_worker) {
  const TestFlow flow = {};
  for (uint16_t backend : {uint16_t{1}, uint16_t{2}}) {
    TestTables owner(standard_snapshot()), mine(standard_snapshot());
    mine.set_peers({&owner});
    ASSERT_TRUE(enter(owner.tables(), flow, kConnectionEstablished, backend, kNow));
    EXPECT_EQ(decide_frame(mine.tables(), icmp_error(), kNow).decision.backend, backend);
    EXPECT_EQ(mine.entries(), 0u);
  }
}

TEST(Decide, icmp_error_about_an_unknown_connection_goes_where_the_connection_would) {
  TestTables tables(standard_snapshot());
  const Decided error = decide_frame(tables.tables(), icmp_error(), kNow);
  EXPECT_EQ(error.verdict(), kVerdictForwardIcmpError);
  EXPECT_EQ(error.decision.backend, send(tables.tables(), {}, kTcpSyn, kNow).decision.backend);
}

TEST(Decide, icmp_error_of_a_connection_whose_backend_is_gone_is_scheduled) {
  for (uint16_t backend : {uint16_t{2}, uint16_t{60000}}) {
    SnapshotBuilder builder = standard_snapshot();
    builder.set_state(2, kBackendUnused);
    TestTables tables(builder);
    ASSERT_TRUE(enter(tables.tables(), {}, kConnectionEstablished, backend, kNow));
    EXPECT_EQ(decide_frame(tables.tables(), icmp_error(), kNow).verdict() == kVerdictDropInternal, false);
    EXPECT_NE(decide_frame(tables.tables(), icmp_error(), kNow).decision.backend, backend == 2 ? 0 : backend);
  }
}

TEST(Decide, drop_of_a_packet_does_not_lose_its_connection) {
  TestTables tables(standard_snapshot());
  ASSERT_TRUE(enter(tables.tables(), {}, kConnectionEstablished, 1, kNow));
  const Bytes expired = ethernet_ipv4(ipv4({.source = "10.0.0.1", .ttl = 1}, tcp()));
  EXPECT_EQ(decide_frame(tables.tables(), expired, kNow).verdict(), kVerdictDropHopLimit);
  EXPECT_EQ(state_of(entry_of(tables.tables(), {})), kConnectionEstablished);
}

}  // namespace
}  // namespace sluice
