// Connections that another worker's table has: found, copied, and never taken for another flow's.
#include <atomic>
#include <thread>

#include <gtest/gtest.h>

#include "tests/core/flows.h"

namespace sluice {
namespace {

constexpr uint32_t kNow = 1000;

class Adoption : public testing::TestWithParam<uint8_t> {
 protected:
  Adoption() { mine_.set_peers({&empty_, &owner_}); }

  TestFlow tcp_flow() const { return {.family = GetParam()}; }
  TestFlow udp_flow() const { return {.family = GetParam(), .protocol = kProtocolUdp}; }

  /// A backend that the flow would not be scheduled to.
  uint16_t another_backend(const TestFlow &flow) {
    const Packet packet = packet_of(mine_.tables(), flow);
    return scheduled(mine_, &mine_->services[service_of(flow)], packet.hash) == 1 ? 2 : 1;
  }

  TestTables empty_{standard_snapshot()};
  TestTables owner_{standard_snapshot()};
  TestTables mine_{standard_snapshot()};
};

TEST_P(Adoption, packet_within_a_connection_is_copied_with_its_backend) {
  const uint16_t backend = another_backend(tcp_flow());
  ASSERT_TRUE(enter(owner_.tables(), tcp_flow(), kConnectionEstablished, backend, kNow - 100));
  const Decided first = send(mine_.tables(), tcp_flow(), kTcpAck, kNow);
  EXPECT_EQ(first.verdict(), kVerdictForwardAdopted);
  EXPECT_EQ(first.decision.backend, backend);
  const uint64_t copy = entry_of(mine_.tables(), tcp_flow());
  EXPECT_EQ(state_of(copy), kConnectionEstablished);
  EXPECT_EQ(age_of(copy, kNow), 0u);
  EXPECT_EQ(send(mine_.tables(), tcp_flow(), kTcpAck, kNow).verdict(), kVerdictForwardEstablished);
  EXPECT_EQ(mine_.worker.adoption_lookups, 1u);
  EXPECT_EQ(inconsistency(mine_), "");
}

TEST_P(Adoption, entry_in_the_peers_other_bucket_is_found) {
  const ConnectionKey key = key_of(owner_.tables(), tcp_flow());
  const uint64_t state = make_state(key.word[key.width - 1], kConnectionEstablished, kNow, 2);
  ConnectionKey in_other = key;
  in_other.bucket = other_bucket(key.bucket, key.tag, tables_bucket_mask(&owner_.tables(), key.family));
  ASSERT_TRUE(connection_insert(&owner_.tables(), &in_other, state, kNow));
  EXPECT_EQ(connection_find_in_peers(&mine_.tables(), &key), state);
}

TEST_P(Adoption, syn_does_not_look) {
  ASSERT_TRUE(enter(owner_.tables(), tcp_flow(), kConnectionEstablished, 1, kNow));
  EXPECT_EQ(send(mine_.tables(), tcp_flow(), kTcpSyn, kNow).verdict(), kVerdictForwardNew);
  EXPECT_EQ(mine_.worker.adoption_lookups, 0u);
}

TEST_P(Adoption, syn_again_of_a_least_connection_service_keeps_its_backend) {
  TestTables mine(standard_snapshot(kSchedulerLeastConnection));
  mine.set_peers({&owner_});
  for (uint32_t client = 1; client <= 20; client++) {
    const TestFlow flow = {.family = GetParam(), .client = client};
    const auto backend = static_cast<uint16_t>(client % 2 + 1);
    ASSERT_TRUE(enter(owner_.tables(), flow, kConnectionEmbryonic, backend, kNow - 1));
    mine.counters(backend).active_connections = 1000;
    mine.counters(3 - backend).active_connections = 0;
    const Decided decided = send(mine.tables(), flow, kTcpSyn, kNow);
    EXPECT_EQ(decided.verdict(), kVerdictForwardAdopted);
    EXPECT_EQ(decided.decision.backend, backend);
    EXPECT_EQ(state_of(entry_of(mine.tables(), flow)), kConnectionEmbryonic);
  }
  mine.adoption_budgets[kAdoptionOfOthers] = 0;
  EXPECT_EQ(send(mine.tables(), {.family = GetParam(), .client = 99}, kTcpSyn, kNow).verdict(),
            kVerdictForwardNew);
  EXPECT_EQ(mine.adoption_budgets[kAdoptionOfTcp], 1000u);
}

TEST_P(Adoption, of_a_connection_that_ends_is_not_counted_as_active) {
  ASSERT_TRUE(enter(owner_.tables(), tcp_flow(), kConnectionEstablished, 1, kNow));
  EXPECT_EQ(send(mine_.tables(), tcp_flow(), kTcpFin | kTcpAck, kNow).verdict(), kVerdictForwardAdopted);
  EXPECT_EQ(state_of(entry_of(mine_.tables(), tcp_flow())), kConnectionClosing);
  EXPECT_EQ(inconsistency(mine_), "");
}

TEST_P(Adoption, not_of_a_backend_that_is_gone) {
  ASSERT_TRUE(enter(owner_.tables(), tcp_flow(), kConnectionEstablished, 999, kNow));
  const Decided decided = send(mine_.tables(), tcp_flow(), kTcpAck, kNow);
  EXPECT_EQ(decided.verdict(), kVerdictForwardNew);
  EXPECT_LE(decided.decision.backend, 2);
}

TEST_P(Adoption, of_datagrams_within_their_timeout) {
  const uint16_t backend = another_backend(udp_flow());
  ASSERT_TRUE(enter(owner_.tables(), udp_flow(), kConnectionEstablished, backend, kNow));
  EXPECT_EQ(send(mine_.tables(), udp_flow(), 0, kNow + 30).decision.backend, backend);
}

TEST_P(Adoption, not_of_datagrams_after_a_pause) {
  const uint16_t backend = another_backend(udp_flow());
  ASSERT_TRUE(enter(owner_.tables(), udp_flow(), kConnectionEstablished, backend, kNow));
  const Decided decided = send(mine_.tables(), udp_flow(), 0, kNow + 31);
  EXPECT_EQ(decided.verdict(), kVerdictForwardNew);
  EXPECT_NE(decided.decision.backend, backend);
}

TEST_P(Adoption, over_the_limit_tcp_goes_where_its_hash_says_and_is_not_entered) {
  ASSERT_TRUE(enter(owner_.tables(), tcp_flow(), kConnectionEstablished, another_backend(tcp_flow()), kNow));
  mine_.adoption_budgets[kAdoptionOfTcp] = 0;
  EXPECT_EQ(send(mine_.tables(), tcp_flow(), kTcpAck, kNow).verdict(), kVerdictForwardUntracked);
  EXPECT_EQ(mine_.entries(), 0u);
  mine_.adoption_budgets[kAdoptionOfTcp] = 2;  // both peers' tables
  EXPECT_EQ(send(mine_.tables(), tcp_flow(), kTcpAck, kNow).verdict(), kVerdictForwardAdopted);
}

TEST_P(Adoption, over_the_limit_least_connection_tcp_is_dropped_and_not_sent_astray) {
  TestTables mine(standard_snapshot(kSchedulerLeastConnection));
  mine.set_peers({&owner_});
  ASSERT_TRUE(enter(owner_.tables(), tcp_flow(), kConnectionEstablished, 1, kNow));
  mine.adoption_budgets[kAdoptionOfTcp] = 0;
  const Decided decided = send(mine.tables(), tcp_flow(), kTcpAck, kNow);
  EXPECT_EQ(decided.verdict(), kVerdictDropAdoptionLimit);
  EXPECT_EQ(decided.decision.egress, nullptr);
  EXPECT_EQ(mine.entries(), 0u);
}

TEST_P(Adoption, what_is_found_does_not_count_against_the_limit) {
  mine_.adoption_budgets[kAdoptionOfTcp] = 2;
  for (uint32_t client = 1; client <= 20; client++) {
    const TestFlow flow = {.family = GetParam(), .client = client};
    ASSERT_TRUE(enter(owner_.tables(), flow, kConnectionEstablished, another_backend(flow), kNow));
    const Decided decided = send(mine_.tables(), flow, kTcpAck, kNow);
    EXPECT_EQ(decided.verdict(), kVerdictForwardAdopted);
    EXPECT_EQ(decided.decision.backend, another_backend(flow));
  }
  EXPECT_EQ(mine_.adoption_budgets[kAdoptionOfTcp], 2u);
  EXPECT_EQ(send(mine_.tables(), {.family = GetParam(), .client = 99}, kTcpAck, kNow).verdict(),
            kVerdictForwardNew);
  EXPECT_EQ(mine_.adoption_budgets[kAdoptionOfTcp], 0u);
}

// What is found but not entered is looked for with each packet.
TEST_P(Adoption, what_is_found_without_room_counts_against_the_limit) {
  TestTables full(standard_snapshot(), 2);
  for (uint32_t client = 100; client < 200; client++)
    enter(full.tables(), {.family = GetParam(), .client = client}, kConnectionEstablished, 1, kNow);
  full.set_peers({&owner_});
  ASSERT_TRUE(enter(owner_.tables(), tcp_flow(), kConnectionEstablished, 1, kNow));
  full.adoption_budgets[kAdoptionOfTcp] = 2;
  for (int packet = 0; packet < 3; packet++)
    EXPECT_EQ(send(full.tables(), tcp_flow(), kTcpAck, kNow).verdict(), kVerdictForwardUntracked);
  EXPECT_EQ(full.adoption_budgets[kAdoptionOfTcp], 0u);
  EXPECT_EQ(full.worker.adoption_lookups, 2u);
}

TEST_P(Adoption, datagrams_and_icmp_errors_do_not_use_up_what_tcp_needs) {
  mine_.adoption_budgets[kAdoptionOfOthers] = 3;  // one look into both peers' tables, not two
  const uint32_t before = mine_.adoption_budgets[kAdoptionOfTcp];
  for (uint32_t client = 1; client <= 4; client++) {
    const TestFlow flow = {.family = GetParam(), .protocol = kProtocolUdp, .client = client};
    EXPECT_EQ(send(mine_.tables(), flow, 0, kNow).verdict(), kVerdictForwardNew);
  }
  EXPECT_EQ(mine_.adoption_budgets[kAdoptionOfOthers], 1u);
  EXPECT_EQ(mine_.adoption_budgets[kAdoptionOfTcp], before);
  EXPECT_EQ(mine_.worker.adoption_lookups, 1u);
}

TEST_P(Adoption, not_of_what_timed_out_in_a_table_that_nobody_sweeps) {
  const uint16_t backend = another_backend(tcp_flow());
  ASSERT_TRUE(enter(owner_.tables(), tcp_flow(), kConnectionEstablished, backend, kNow));
  const Decided decided = send(mine_.tables(), tcp_flow(), kTcpAck, kNow + 901);
  EXPECT_EQ(decided.verdict(), kVerdictForwardNew);
  EXPECT_NE(decided.decision.backend, backend);
}

// A flow that came to this worker for its first packet only, and comes to it again: another worker has kept
// it.
TEST_P(Adoption, datagram_whose_own_entry_timed_out_stays_where_another_worker_has_it) {
  const uint32_t now = kNow + 31;  // past both timeouts
  uint32_t client = 1;
  for (const ConnectionState own : {kConnectionEmbryonic, kConnectionEstablished}) {
    const TestFlow flow = {.family = GetParam(), .protocol = kProtocolUdp, .client = client++};
    const uint16_t backend = another_backend(flow);
    ASSERT_TRUE(enter(mine_.tables(), flow, own, backend, kNow));
    ASSERT_TRUE(enter(owner_.tables(), flow, kConnectionEstablished, backend, now));
    const uint32_t active = mine_.counters(backend).active_connections;
    const Decided decided = send(mine_.tables(), flow, 0, now);
    EXPECT_EQ(decided.verdict(), kVerdictForwardAdopted);
    EXPECT_EQ(decided.decision.backend, backend);
    EXPECT_EQ(state_of(entry_of(mine_.tables(), flow)), kConnectionEstablished);
    EXPECT_EQ(age_of(entry_of(mine_.tables(), flow), now), 0u);
    EXPECT_EQ(mine_.counters(backend).active_connections, active);
    EXPECT_EQ(send(mine_.tables(), flow, 0, now).verdict(), kVerdictForwardEstablished);
    EXPECT_EQ(inconsistency(mine_), "");
  }
}

TEST_P(Adoption, datagram_whose_own_entry_timed_out_as_every_other_begins_anew) {
  const uint16_t backend = another_backend(udp_flow());
  ASSERT_TRUE(enter(mine_.tables(), udp_flow(), kConnectionEstablished, backend, kNow));
  ASSERT_TRUE(enter(owner_.tables(), udp_flow(), kConnectionEstablished, backend, kNow));
  const Decided decided = send(mine_.tables(), udp_flow(), 0, kNow + 31);
  EXPECT_EQ(decided.verdict(), kVerdictForwardNew);
  EXPECT_NE(decided.decision.backend, backend);
}

// What has been here before may go on elsewhere: it is not entered as something else before that was asked.
TEST_P(Adoption, over_the_limit_a_datagrams_own_old_entry_is_left) {
  const uint16_t backend = another_backend(udp_flow());
  ASSERT_TRUE(enter(mine_.tables(), udp_flow(), kConnectionEstablished, backend, kNow));
  ASSERT_TRUE(enter(owner_.tables(), udp_flow(), kConnectionEstablished, backend, kNow + 31));
  mine_.adoption_budgets[kAdoptionOfOthers] = 0;
  EXPECT_EQ(send(mine_.tables(), udp_flow(), 0, kNow + 31).verdict(), kVerdictForwardUntracked);
  mine_.adoption_budgets[kAdoptionOfOthers] = 2;
  const Decided decided = send(mine_.tables(), udp_flow(), 0, kNow + 31);
  EXPECT_EQ(decided.verdict(), kVerdictForwardAdopted);
  EXPECT_EQ(decided.decision.backend, backend);
}

TEST_P(Adoption, over_the_limit_datagrams_are_entered) {
  mine_.adoption_budgets[kAdoptionOfOthers] = 0;
  EXPECT_EQ(send(mine_.tables(), udp_flow(), 0, kNow).verdict(), kVerdictForwardNew);
}

TEST_P(Adoption, into_a_full_table_forwards_all_the_same) {
  TestTables full(standard_snapshot(), 2);
  TestTables owner(standard_snapshot(), 2);
  for (uint32_t client = 0; client < 8; client++)
    enter(full.tables(), {.family = GetParam(), .client = 100 + client}, kConnectionEstablished, 1, kNow);
  full.set_peers({&owner});
  ASSERT_TRUE(enter(owner.tables(), tcp_flow(), kConnectionEstablished, another_backend(tcp_flow()), kNow));
  const Decided decided = send(full.tables(), tcp_flow(), kTcpAck, kNow);
  EXPECT_EQ(decided.verdict(), kVerdictForwardUntracked);
  EXPECT_EQ(decided.decision.backend, another_backend(tcp_flow()));
}

INSTANTIATE_TEST_SUITE_P(Families, Adoption, testing::Values(kFamilyIpv4, kFamilyIpv6),
                         [](const auto &family) { return "ipv" + std::to_string(family.param); });

// One thread fills, displaces and empties a table of a few buckets as fast as it can, while another
// looks for flows in it. Each flow has one backend only: any other answer is a torn read.
TEST(AdoptionRace, a_reader_never_takes_one_flow_for_another) {
  constexpr uint32_t kReads = 1000000, kFlows = 64;
  const auto flow_of = [](uint8_t family, uint32_t number) {
    // All with the same ports: only the other words tell flows apart.
    return TestFlow{.family = family, .client = number};
  };
  for (uint8_t family : {kFamilyIpv4, kFamilyIpv6}) {
    SnapshotBuilder builder = standard_snapshot();
    for (uint32_t i = 3; i <= kFlows; i++) builder.add_backend("pool", "b", "10.2.0." + std::to_string(i));
    TestTables owner(builder, 4), reader(builder, 4);
    reader.set_peers({&owner});
    std::atomic<uint32_t> stop = 0;
    std::thread writer([&] {
      std::mt19937_64 random(1);
      while (stop.load(std::memory_order_relaxed) == 0) {
        const auto number = static_cast<uint32_t>(random() % kFlows);
        const ConnectionKey key = key_of(owner.tables(), flow_of(family, number));
        uint64_t *entry = connection_find(&owner.tables(), &key);
        if (entry) {
          const uintptr_t line = reinterpret_cast<uintptr_t>(entry) / 64 * 64;
          const auto state =
              static_cast<uint32_t>((reinterpret_cast<uintptr_t>(entry) - line) / sizeof(*entry));
          entry_clear(&owner.tables(), reinterpret_cast<ConnectionBucket *>(line), state, key.width);
        } else {
          enter(owner.tables(), flow_of(family, number), kConnectionEmbryonic,
                static_cast<uint16_t>(number + 1), kNow);
        }
      }
    });
    uint32_t found = 0, wrong = 0;
    std::vector<ConnectionKey> keys;
    for (uint32_t number = 0; number < kFlows; number++)
      keys.push_back(key_of(reader.tables(), flow_of(family, number)));
    for (uint32_t i = 0; i < kReads || found < 1000; i++) {
      const uint32_t number = i % kFlows;
      const uint64_t state = connection_find_in_peers(&reader.tables(), &keys[number]);
      found += state != 0;
      wrong += state != 0 && backend_of(state) != number + 1;
    }
    stop.store(1);
    writer.join();
    EXPECT_EQ(wrong, 0u) << "of " << found;
    EXPECT_EQ(inconsistency(owner), "");
  }
}

// The same at its worst: two flows take turns in one place, so that it changes under most looks.
TEST(AdoptionRace, a_place_that_two_flows_take_turns_in) {
  constexpr uint32_t kReads = 3000000;
  for (uint8_t family : {kFamilyIpv4, kFamilyIpv6}) {
    TestTables owner(standard_snapshot(), 4), reader(standard_snapshot(), 4);
    reader.set_peers({&owner});
    // One hash and the same ports: they differ in the client alone.
    Packet packet = packet_of(owner.tables(), {.family = family, .client = 1});
    const ConnectionKey one = key_of(owner.tables(), packet);
    packet.client.word[3] ^= 1u << 31;
    const ConnectionKey other = key_of(owner.tables(), packet);
    ConnectionBucket *bucket = tables_bucket(&owner.tables(), family, one.bucket);
    std::atomic<uint32_t> stop = 0;
    std::thread writer([&] {
      for (uint32_t turn = 0; stop.load(std::memory_order_relaxed) == 0; turn++) {
        const ConnectionKey &key = turn % 2 ? one : other;
        const auto backend = static_cast<uint16_t>(turn % 2 ? 1 : 2);
        const uint64_t state = make_state(key.word[key.width - 1], kConnectionEstablished, kNow, backend);
        connection_insert(&owner.tables(), &key, state, kNow);
        entry_clear(&owner.tables(), bucket, key.width - 1, key.width);
      }
    });
    uint32_t found = 0, wrong = 0;
    for (uint32_t i = 0; i < kReads || found < 1000; i++) {
      const uint64_t state = connection_find_in_peers(&reader.tables(), &one);
      found += state != 0;
      wrong += state != 0 && backend_of(state) != 1;
    }
    stop.store(1);
    writer.join();
    EXPECT_EQ(wrong, 0u) << "of " << found;
  }
}

}  // namespace
}  // namespace sluice
