#include "dataplane/core/connection.h"

#include <gtest/gtest.h>

#include "tests/core/flows.h"

namespace sluice {
namespace {

const TestFlow kTcpFlow = {};
const TestFlow kTcp6Flow = {.family = kFamilyIpv6};
const TestFlow kUdpFlow = {.protocol = kProtocolUdp};
const TestFlow kUdp6Flow = {.family = kFamilyIpv6, .protocol = kProtocolUdp};

/// The state after packets with these flags, each a second after the one before.
uint32_t state_after(const TestFlow &flow, const std::vector<uint8_t> &flags) {
  TestTables tables(standard_snapshot());
  uint32_t now_s = 1000;
  for (uint8_t f : flags) send(tables.tables(), flow, f, now_s++);
  return state_of(entry_of(tables.tables(), flow));
}

TEST(ConnectionState, tcp_follows_its_flags) {
  for (const TestFlow &flow : {kTcpFlow, kTcp6Flow}) {
    EXPECT_EQ(state_after(flow, {kTcpSyn}), kConnectionEmbryonic);
    EXPECT_EQ(state_after(flow, {kTcpSyn, kTcpSyn}), kConnectionEmbryonic);
    EXPECT_EQ(state_after(flow, {kTcpSyn, kTcpSyn | kTcpAck}), kConnectionEmbryonic);
    EXPECT_EQ(state_after(flow, {kTcpSyn, kTcpAck}), kConnectionEstablished);
    EXPECT_EQ(state_after(flow, {kTcpSyn, kTcpAck, kTcpSyn}), kConnectionEstablished);
    EXPECT_EQ(state_after(flow, {kTcpSyn, kTcpAck, kTcpFin | kTcpAck}), kConnectionClosing);
    EXPECT_EQ(state_after(flow, {kTcpSyn, kTcpRst}), kConnectionClosing);
    EXPECT_EQ(state_after(flow, {kTcpSyn, kTcpAck, kTcpRst | kTcpAck, kTcpAck}), kConnectionClosing);
    EXPECT_EQ(state_after(flow, {kTcpSyn, kTcpAck, kTcpFin | kTcpAck, kTcpSyn}), kConnectionEmbryonic);
  }
}

TEST(ConnectionState, tcp_found_in_its_middle_starts_embryonic) {
  EXPECT_EQ(state_after(kTcpFlow, {kTcpAck}), kConnectionEmbryonic);
  EXPECT_EQ(state_after(kTcpFlow, {kTcpAck, kTcpAck}), kConnectionEstablished);
}

TEST(ConnectionState, packet_that_only_ends_a_connection_makes_no_entry) {
  TestTables tables(standard_snapshot());
  for (uint8_t flags : {kTcpRst, kTcpFin}) {
    EXPECT_EQ(send(tables.tables(), kTcpFlow, flags, 1000).verdict(), kVerdictForwardUntracked);
    EXPECT_EQ(tables.entries(), 0u);
  }
}

TEST(ConnectionState, udp_counts_its_packets) {
  for (const TestFlow &flow : {kUdpFlow, kUdp6Flow}) {
    EXPECT_EQ(state_after(flow, {0}), kConnectionEmbryonic);
    EXPECT_EQ(state_after(flow, {0, 0}), kConnectionEstablished);
    EXPECT_EQ(state_after(flow, {0, 0, 0}), kConnectionEstablished);
  }
}

TEST(ConnectionStamp, is_renewed_by_each_packet) {
  TestTables tables(standard_snapshot());
  send(tables.tables(), kTcpFlow, kTcpSyn, 5000);
  send(tables.tables(), kTcpFlow, kTcpAck, 5007);
  EXPECT_EQ(age_of(entry_of(tables.tables(), kTcpFlow), 5010), 3u);
}

TEST(ConnectionStamp, age_is_right_across_the_wrap_at_8192_s) {
  for (uint32_t seen_s = 8192 - 20; seen_s < 8192 + 20; seen_s++)
    for (uint32_t age_s : {0u, 1u, 19u, 900u, SLUICE_MAX_TIMEOUT_S, 8131u})
      EXPECT_EQ(age_of(make_state(0, kConnectionEstablished, seen_s, 1), seen_s + age_s), age_s);
  EXPECT_EQ(age_of(make_state(0, kConnectionEstablished, 0xffffffffu, 1), 4), 5u) << "32 bits wrap too";
}

TEST(ConnectionStamp, from_a_worker_whose_clock_is_ahead_is_of_now) {
  for (uint32_t now_s : {5000u, 8192u, 8191u})
    for (uint32_t ahead_s : {1u, 2u, 60u})
      EXPECT_EQ(age_of(make_state(0, kConnectionEstablished, now_s + ahead_s, 1), now_s), 0u);
}

TEST(ConnectionStateWord, keeps_each_of_its_fields) {
  const uint64_t key = 0x1ffffffffull;
  for (uint32_t state = 1; state <= 3; state++) {
    const uint64_t word = make_state(key, state, 8191, 65535);
    EXPECT_EQ(word & SLUICE_STATE_KEY_MASK, key);
    EXPECT_EQ(state_of(word), state);
    EXPECT_EQ(backend_of(word), 65535);
    EXPECT_EQ(age_of(word, 8191), 0u);
    EXPECT_TRUE(is_udp(word));
  }
  EXPECT_FALSE(is_udp(make_state(0xffffffffull, 1, 0, 0)));
}

// The words are the records of the ABI.
TEST(ConnectionStateWord, is_laid_out_as_the_abi_says) {
  TestTables tables(standard_snapshot());
  enter(tables.tables(), kUdpFlow, kConnectionClosing, 0x1234, 8191);
  for_each_entry(tables, [](const ConnectionKey &, uint16_t meta, uint16_t backend, const void *entry) {
    const auto *record = static_cast<const ConnectionIpv4 *>(entry);
    EXPECT_EQ(meta, 8191 << kMetaStampShift | kConnectionClosing << kMetaStateShift | 1);
    EXPECT_EQ(backend, 0x1234);
    EXPECT_EQ(record->client, host_to_be32(0x0a000001));
    EXPECT_EQ(record->vip, host_to_be32(0xc633640a));
    EXPECT_EQ(be16_to_host(record->client_port), 40000);
    EXPECT_EQ(be16_to_host(record->vip_port), 53);
  });
  TestTables ipv6(standard_snapshot());
  enter(ipv6.tables(), kTcp6Flow, kConnectionEmbryonic, 0x1234, 1);
  for_each_entry(ipv6, [](const ConnectionKey &key, uint16_t meta, uint16_t backend, const void *entry) {
    const auto *record = static_cast<const ConnectionIpv6 *>(entry);
    EXPECT_EQ(meta, 1 << kMetaStampShift | kConnectionEmbryonic << kMetaStateShift);
    EXPECT_EQ(backend, 0x1234);
    EXPECT_EQ(address_text(record->client), "2001:db8:c::1");
    EXPECT_EQ(record->vip_number, 2u);
    EXPECT_EQ(record->bucket_tag, key.tag);
  });
}

/// One rule of connection_holds.
struct HoldsCase {
  const char *what;
  uint8_t protocol;
  ConnectionState state;
  uint8_t tcp_flags;
  uint8_t egress;
  uint32_t age_s;
  bool holds;
};

constexpr uint8_t kUp = kEgressKnown | kEgressReady | kEgressTakesNew;
constexpr uint8_t kDraining = kEgressKnown | kEgressReady;
constexpr uint8_t kDown = kEgressKnown | kEgressReady | kEgressDown;
constexpr uint8_t kGone = kEgressReady;
constexpr uint8_t kTcp = kProtocolTcp, kUdp = kProtocolUdp;
constexpr auto kEmbryonic = kConnectionEmbryonic;
constexpr auto kEstablished = kConnectionEstablished;
constexpr auto kClosing = kConnectionClosing;

// Timeouts of the test's service: embryonic 10 s, established 900 s, closing 10 s, UDP 30 s.
const HoldsCase kHoldsCases[] = {
    {"within a connection", kTcp, kEstablished, kTcpAck, kUp, 0, true},
    {"within a connection whose backend drains", kTcp, kEstablished, kTcpAck, kDraining, 0, true},
    {"within a connection whose backend is down", kTcp, kEstablished, kTcpAck, kDown, 0, true},
    {"within a connection whose backend is gone", kTcp, kEstablished, kTcpAck, kGone, 0, false},
    {"within a connection past its timeout", kTcp, kEstablished, kTcpAck, kUp, 5000, true},
    {"the handshake's end", kTcp, kEmbryonic, kTcpAck, kUp, 1, true},
    {"the handshake's end while the backend drains", kTcp, kEmbryonic, kTcpAck, kDraining, 1, true},
    {"the last packets", kTcp, kClosing, kTcpAck, kDraining, 3, true},
    {"FIN", kTcp, kEstablished, kTcpFin | kTcpAck, kDown, 3, true},
    {"RST", kTcp, kEstablished, kTcpRst, kDown, 3, true},
    {"SYN again", kTcp, kEmbryonic, kTcpSyn, kUp, 10, true},
    {"SYN again, too late", kTcp, kEmbryonic, kTcpSyn, kUp, 11, false},
    {"SYN again, backend drains", kTcp, kEmbryonic, kTcpSyn, kDraining, 1, false},
    {"SYN again, backend down", kTcp, kEmbryonic, kTcpSyn, kDown, 1, false},
    {"SYN into a connection", kTcp, kEstablished, kTcpSyn, kUp, 900, true},
    {"SYN into a connection of a draining backend", kTcp, kEstablished, kTcpSyn, kDraining, 900, true},
    {"SYN into a connection past its timeout", kTcp, kEstablished, kTcpSyn, kUp, 901, false},
    {"SYN into a connection of a backend that is down", kTcp, kEstablished, kTcpSyn, kDown, 0, false},
    {"SYN after the end", kTcp, kClosing, kTcpSyn, kUp, 0, false},
    {"second datagram", kUdp, kEmbryonic, 0, kUp, 10, true},
    {"second datagram, too late", kUdp, kEmbryonic, 0, kUp, 11, false},
    {"datagram", kUdp, kEstablished, 0, kUp, 30, true},
    {"datagram after a pause", kUdp, kEstablished, 0, kUp, 31, false},
    {"datagram to a draining backend", kUdp, kEstablished, 0, kDraining, 1, true},
    {"datagram to a backend that is down", kUdp, kEstablished, 0, kDown, 1, false},
    {"datagram to a backend that is gone", kUdp, kEstablished, 0, kGone, 1, false},
};

TEST(ConnectionHolds, each_rule) {
  TestTables tables(standard_snapshot());
  for (const HoldsCase &c : kHoldsCases) {
    for (uint8_t family : {kFamilyIpv4, kFamilyIpv6}) {
      const TestFlow flow = {.family = family, .protocol = c.protocol};
      const Packet packet = packet_of(tables.tables(), flow, c.tcp_flags);
      const ConnectionKey key = key_of(tables.tables(), flow);
      const uint64_t word = make_state(key.word[key.width - 1], c.state, 1000, 1);
      Egress egress = tables.egress(1);
      egress.flags = c.egress;
      const Service &service = tables->services[service_of(flow)];
      EXPECT_EQ(connection_holds(&egress, word, &packet, &service, 1000 + c.age_s), c.holds) << c.what;
    }
  }
}

TEST(ConnectionHolds, not_without_a_backend_record) {
  TestTables tables(standard_snapshot());
  const Packet packet = packet_of(tables.tables(), kTcpFlow);
  EXPECT_FALSE(
      connection_holds(nullptr, make_state(0, kEstablished, 0, 9), &packet, &tables->services[0], 0));
}

TEST(Connection, what_does_not_hold_is_given_to_another_backend_in_its_place) {
  TestTables tables(standard_snapshot());
  ASSERT_TRUE(enter(tables.tables(), kTcpFlow, kClosing, 1, 1000));
  const Decided decided = send(tables.tables(), kTcpFlow, kTcpSyn, 1000);
  EXPECT_EQ(decided.verdict(), kVerdictForwardNew);
  EXPECT_EQ(tables.entries(), 1u);
  EXPECT_EQ(backend_of(entry_of(tables.tables(), kTcpFlow)), decided.decision.backend);
  EXPECT_EQ(state_of(entry_of(tables.tables(), kTcpFlow)), kConnectionEmbryonic);
  EXPECT_EQ(inconsistency(tables), "");
}

TEST(Connection, entry_of_a_backend_past_the_snapshots_end_is_scheduled_anew) {
  TestTables tables(standard_snapshot());
  ASSERT_TRUE(enter(tables.tables(), kTcpFlow, kEstablished, 60000, 1000));
  const Decided decided = send(tables.tables(), kTcpFlow, kTcpAck, 1000);
  EXPECT_EQ(decided.verdict(), kVerdictForwardNew);
  EXPECT_LE(decided.decision.backend, 2);
}

/// Keys that differ from the first in one field each, all with one hash: one bucket, one tag.
std::vector<ConnectionKey> keys_of_one_hash(const Tables &tables, uint8_t family) {
  const Packet first = packet_of(tables, {.family = family});
  std::vector<Packet> packets(1, first);
  for (uint32_t word = family == kFamilyIpv4 ? 3 : 0; word < 4; word++)
    for (uint32_t bit : {0u, 31u}) {
      packets.push_back(first);
      packets.back().client.word[word] ^= 1u << bit;
    }
  for (uint32_t bit : {0u, 15u}) {
    packets.push_back(first);
    packets.back().ports.client ^= static_cast<be16>(1u << bit);
    packets.push_back(first);
    packets.back().ports.vip ^= static_cast<be16>(1u << bit);
  }
  packets.push_back(first);
  packets.back().protocol = kProtocolUdp;
  std::vector<ConnectionKey> keys;
  for (const Packet &packet : packets) keys.push_back(key_of(tables, packet));
  if (family == kFamilyIpv4) {
    packets.push_back(first);
    packets.back().vip.word[3] ^= 1u << 31;
    keys.push_back(key_of(tables, packets.back()));
  } else {
    keys.emplace_back();
    make_connection_key(&tables, &first, 3, &keys.back());
  }
  return keys;
}

TEST(Connection, flows_of_one_hash_are_never_mixed_up) {
  for (uint8_t family : {kFamilyIpv4, kFamilyIpv6}) {
    TestTables tables(standard_snapshot());
    const std::vector<ConnectionKey> keys = keys_of_one_hash(tables.tables(), family);
    for (size_t one = 0; one < keys.size(); one++) {
      std::fill(tables.ipv4_buckets().begin(), tables.ipv4_buckets().end(), ConnectionBucket{});
      std::fill(tables.ipv6_buckets().begin(), tables.ipv6_buckets().end(), ConnectionBucket{});
      const ConnectionKey &key = keys[one];
      ASSERT_TRUE(connection_insert(&tables.tables(), &key,
                                    make_state(key.word[key.width - 1], kEstablished, 1000, 1), 1000));
      for (size_t other = 0; other < keys.size(); other++)
        for (const auto find : {connection_find, connection_find_likely})
          EXPECT_EQ(find(&tables.tables(), &keys[other]) != nullptr, other == one)
              << "family " << int{family} << ", key " << one << ", looked up " << other;
    }
  }
}

TEST(Connection, both_buckets_are_used_and_searched) {
  for (uint8_t family : {kFamilyIpv4, kFamilyIpv6}) {
    TestTables tables(standard_snapshot());
    const std::vector<ConnectionKey> keys = keys_of_one_hash(tables.tables(), family);
    const size_t room = family == kFamilyIpv4 ? 8 : 4;
    ASSERT_GE(keys.size(), room);
    for (size_t i = 0; i < room; i++) {
      const uint64_t state =
          make_state(keys[i].word[keys[i].width - 1], kEstablished, 1000, static_cast<uint16_t>(i % 2 + 1));
      ASSERT_TRUE(connection_insert(&tables.tables(), &keys[i], state, 1000)) << i;
    }
    for (size_t i = 0; i < room; i++) {
      const uint64_t *entry = connection_find(&tables.tables(), &keys[i]);
      ASSERT_NE(entry, nullptr);
      EXPECT_EQ(backend_of(*entry), i % 2 + 1);
      // The first one has taken the place that is likely for all of them.
      EXPECT_EQ(connection_find_likely(&tables.tables(), &keys[i]), i == 0 ? entry : nullptr) << i;
    }
  }
}

TEST(Expiry, by_the_longest_timeouts_of_the_backends_services) {
  SnapshotBuilder builder = standard_snapshot();
  builder.backend(1).embryonic_timeout_s = 5;
  builder.backend(1).established_timeout_s = 100;
  builder.backend(1).closing_timeout_s = 7;
  builder.backend(1).udp_timeout_s = 50;
  const TestTables tables(builder);
  const auto lasts = [&](uint64_t key, ConnectionState state, uint32_t age_s) {
    return !entry_expired(&tables.tables(), make_state(key, state, 9000, 1), 9000 + age_s);
  };
  constexpr uint64_t kTcpKey = 0, kUdpKey = 1ull << 32;
  for (uint64_t key : {kTcpKey, kUdpKey}) {
    EXPECT_TRUE(lasts(key, kEmbryonic, 5));
    EXPECT_FALSE(lasts(key, kEmbryonic, 6));
  }
  EXPECT_TRUE(lasts(kTcpKey, kEstablished, 100));
  EXPECT_FALSE(lasts(kTcpKey, kEstablished, 101));
  EXPECT_TRUE(lasts(kTcpKey, kClosing, 7));
  EXPECT_FALSE(lasts(kTcpKey, kClosing, 8));
  EXPECT_TRUE(lasts(kUdpKey, kEstablished, 50));
  EXPECT_FALSE(lasts(kUdpKey, kEstablished, 51));
}

TEST(Expiry, at_once_when_the_backend_is_gone_or_keeps_nothing) {
  SnapshotBuilder builder = standard_snapshot();
  builder.set_state(2, kBackendUnused);
  builder.add_backend("pool", "b3", "10.1.0.13");
  builder.set_state(builder.add_backend("pool", "b4", "10.1.0.14"), kBackendClosed);
  const TestTables tables(builder);
  EXPECT_TRUE(entry_expired(&tables.tables(), make_state(0, kEstablished, 1000, 2), 1000));
  EXPECT_TRUE(entry_expired(&tables.tables(), make_state(0, kEstablished, 1000, 4), 1000));
  EXPECT_TRUE(entry_expired(&tables.tables(), make_state(0, kEstablished, 1000, 5), 1000));
  EXPECT_FALSE(entry_expired(&tables.tables(), make_state(0, kEstablished, 1000, 1), 1000));
}

TEST(Sweep, empties_what_has_expired_and_nothing_else) {
  TestTables tables(standard_snapshot());
  for (uint8_t family : {kFamilyIpv4, kFamilyIpv6}) {
    for (uint32_t client = 1; client <= 12; client++) {
      const TestFlow flow = {.family = family, .client = client};
      const auto backend = static_cast<uint16_t>(client % 2 + 1);
      ASSERT_TRUE(enter(tables.tables(), flow, client <= 6 ? kEstablished : kEmbryonic, backend, 1000));
    }
  }
  for (uint32_t index = 0; index < 16; index++)
    for (uint8_t family : {kFamilyIpv4, kFamilyIpv6}) sweep_bucket(&tables.tables(), family, index, 1011);
  EXPECT_EQ(tables.entries(), 12u);
  EXPECT_EQ(tables.worker.expired_entries, 12u);
  EXPECT_EQ(inconsistency(tables), "");
  for (uint32_t client = 1; client <= 12; client++)
    EXPECT_EQ(entry_of(tables.tables(), {.client = client}) != 0, client <= 6);
}

TEST(Sweep, counts_a_connection_out_whose_backend_is_past_the_snapshots_end) {
  SnapshotBuilder larger = standard_snapshot();
  const uint32_t b3 = larger.add_backend("pool", "b3", "10.1.0.13");
  TestTables tables(larger);
  ASSERT_TRUE(enter(tables.tables(), kTcpFlow, kEstablished, static_cast<uint16_t>(b3), 1000));
  ASSERT_EQ(tables.counters(b3).active_connections, 1u);
  tables.use_snapshot(standard_snapshot());
  for (uint32_t index = 0; index < 16; index++) sweep_bucket(&tables.tables(), kFamilyIpv4, index, 1000);
  EXPECT_EQ(tables.entries(), 0u);
  EXPECT_EQ(tables.counters(b3).active_connections, 0u);
}

TEST(Sweep, leaves_whole_words_of_zeros_behind) {
  TestTables tables(standard_snapshot());
  ASSERT_TRUE(enter(tables.tables(), kTcp6Flow, kEmbryonic, 1, 1000));
  for (uint32_t index = 0; index < 16; index++) sweep_bucket(&tables.tables(), kFamilyIpv6, index, 2000);
  for (const ConnectionBucket &bucket : tables.ipv6_buckets())
    for (uint64_t word : bucket.word) EXPECT_EQ(word, 0u);
}

}  // namespace
}  // namespace sluice
