// What is counted of a backend by what its clients send: what passive health goes by.
#include <ostream>
#include <vector>

#include <gtest/gtest.h>

#include "tests/core/flows.h"

namespace sluice {
namespace {

constexpr uint32_t kNow = 1000;

struct Events {
  uint64_t opens = 0;
  uint64_t progresses = 0;
  uint64_t repeated_opens = 0;
  uint64_t resets = 0;

  bool operator==(const Events &) const = default;
};

std::ostream &operator<<(std::ostream &out, const Events &events) {
  return out << events.opens << " opens, " << events.progresses << " progresses, " << events.repeated_opens
             << " repeated opens, " << events.resets << " resets";
}

Events events_of(TestTables *tables, uint32_t backend) {
  const BackendCounters &counters = tables->counters(backend);
  return {counters.tcp_opens, counters.tcp_progresses, counters.tcp_repeated_opens, counters.tcp_resets};
}

/// Of both backends of the standard snapshot together.
Events all_events(TestTables *tables) {
  const Events one = events_of(tables, 1), other = events_of(tables, 2);
  return {one.opens + other.opens, one.progresses + other.progresses,
          one.repeated_opens + other.repeated_opens, one.resets + other.resets};
}

/// One life of a connection: a packet with these flags each second.
struct Life {
  const char *what;
  std::vector<uint8_t> flags;
  Events events;
};

constexpr uint8_t kAck = kTcpAck, kSyn = kTcpSyn, kRst = kTcpRst, kFin = kTcpFin;

const Life kLives[] = {
    {"is only opened", {kSyn}, {.opens = 1}},
    {"opens and goes on", {kSyn, kAck}, {.opens = 1, .progresses = 1}},
    {"goes on once, whatever follows",
     {kSyn, kAck, kAck, kAck, kFin | kAck, kAck},
     {.opens = 1, .progresses = 1}},
    {"is asked for again and again", {kSyn, kSyn, kSyn, kSyn}, {.opens = 1, .repeated_opens = 3}},
    {"goes on after it was asked for again",
     {kSyn, kSyn, kAck},
     {.opens = 1, .progresses = 1, .repeated_opens = 1}},
    {"is refused by the client", {kSyn, kRst}, {.opens = 1, .resets = 1}},
    {"is refused by the client with a number", {kSyn, kRst | kAck}, {.opens = 1, .resets = 1}},
    {"is broken off", {kSyn, kAck, kRst | kAck}, {.opens = 1, .progresses = 1, .resets = 1}},
    {"is broken off once", {kSyn, kAck, kRst, kRst}, {.opens = 1, .progresses = 1, .resets = 1}},
    {"was over when the reset came", {kSyn, kAck, kFin | kAck, kRst}, {.opens = 1, .progresses = 1}},
    {"ends before its first ACK is seen", {kSyn, kFin | kAck}, {.opens = 1, .progresses = 1}},
    {"is opened with what no client sends", {kSyn, kSyn | kAck}, {.opens = 1}},
    {"gets a SYN in its middle", {kSyn, kAck, kSyn}, {.opens = 1, .progresses = 1}},
    {"ends and is opened anew", {kSyn, kAck, kFin | kAck, kSyn, kAck}, {.opens = 2, .progresses = 2}},
    {"is first seen in its middle", {kAck}, {}},
    // Known and left: an entry has no state for it (docs/decisions.md).
    {"is first seen in its middle and goes on", {kAck, kAck}, {.progresses = 1}},
    {"is only ended", {kRst}, {}},
};

class BackendEvents : public testing::TestWithParam<uint8_t> {
 protected:
  TestFlow tcp_flow() const { return {.family = GetParam()}; }
  TestFlow udp_flow() const { return {.family = GetParam(), .protocol = kProtocolUdp}; }

  /// The backend that standard tables give the flow.
  uint16_t backend_of_flow() const {
    const TestTables tables(standard_snapshot());
    return scheduled(tables, &tables->services[0], packet_of(tables.tables(), tcp_flow()).hash);
  }
};

TEST_P(BackendEvents, of_each_life) {
  for (const Life &life : kLives) {
    TestTables tables(standard_snapshot());
    uint32_t now_s = kNow;
    for (const uint8_t flags : life.flags) send(tables.tables(), tcp_flow(), flags, now_s++);
    EXPECT_EQ(events_of(&tables, backend_of_flow()), life.events) << "a connection that " << life.what;
    EXPECT_EQ(all_events(&tables), life.events) << "a connection that " << life.what;
  }
}

TEST_P(BackendEvents, of_datagrams_there_are_none) {
  TestTables tables(standard_snapshot());
  for (uint32_t i = 0; i < 5; i++) send(tables.tables(), udp_flow(), 0, kNow + i);
  EXPECT_EQ(all_events(&tables), Events());
}

// The network doubles packets; a sender waits for at least a second (RFC 6298 section 2).
TEST_P(BackendEvents, syn_twice_within_a_second_is_no_repeated_open) {
  TestTables tables(standard_snapshot());
  for (uint32_t i = 0; i < 5; i++) send(tables.tables(), tcp_flow(), kSyn, kNow);
  EXPECT_EQ(all_events(&tables), (Events{.opens = 1}));
  send(tables.tables(), tcp_flow(), kAck, kNow);
  EXPECT_EQ(all_events(&tables), (Events{.opens = 1, .progresses = 1})) << "progress in the same second";
}

TEST_P(BackendEvents, repeated_open_that_goes_to_another_backend_is_an_open_there) {
  TestTables tables(standard_snapshot());
  const uint16_t backend = backend_of_flow();
  const auto other = static_cast<uint16_t>(3 - backend);
  send(tables.tables(), tcp_flow(), kSyn, kNow);
  SnapshotBuilder builder = standard_snapshot();
  builder.backend(backend).state = kBackendDraining;
  builder.backend(backend).weight = 0;
  const Service without_it = builder.service(builder.add_service("other", builder.add_pool({other})));
  builder.service(0).first_slot = without_it.first_slot;
  builder.service(0).slot_count = without_it.slot_count;
  tables.use_snapshot(builder);
  send(tables.tables(), tcp_flow(), kSyn, kNow + 1);
  EXPECT_EQ(events_of(&tables, backend), (Events{.opens = 1}));
  EXPECT_EQ(events_of(&tables, other), (Events{.opens = 1}));
}

TEST_P(BackendEvents, without_room_for_an_entry_nothing_is_counted) {
  TestTables tables(standard_snapshot(), 1);
  for (uint32_t client = 100; client < 200; client++)
    enter(tables.tables(), {.family = GetParam(), .client = client}, kConnectionEstablished, 1, kNow);
  EXPECT_EQ(send(tables.tables(), tcp_flow(), kSyn, kNow).verdict(), kVerdictForwardUntracked);
  EXPECT_EQ(all_events(&tables), Events());
}

TEST_P(BackendEvents, progress_that_another_worker_sees_is_counted_there_once) {
  TestTables opener(standard_snapshot()), mine(standard_snapshot());
  mine.set_peers({&opener});
  send(opener.tables(), tcp_flow(), kSyn, kNow);
  for (uint32_t i = 0; i < 3; i++) send(mine.tables(), tcp_flow(), kAck, kNow + i);
  EXPECT_EQ(all_events(&opener), (Events{.opens = 1}));
  EXPECT_EQ(all_events(&mine), (Events{.progresses = 1}));
}

TEST_P(BackendEvents, established_connection_that_another_worker_takes_over_is_no_progress) {
  TestTables opener(standard_snapshot()), mine(standard_snapshot());
  mine.set_peers({&opener});
  enter(opener.tables(), tcp_flow(), kConnectionEstablished, 1, kNow);
  send(mine.tables(), tcp_flow(), kAck, kNow + 1);
  EXPECT_EQ(all_events(&mine), Events());
}

TEST_P(BackendEvents, open_repeated_at_another_worker_is_counted_unless_within_the_second) {
  for (const uint32_t after_s : {0u, 1u}) {
    TestTables opener(standard_snapshot(kSchedulerLeastConnection));
    TestTables mine(standard_snapshot(kSchedulerLeastConnection));
    mine.set_peers({&opener});
    send(opener.tables(), tcp_flow(), kSyn, kNow);
    EXPECT_EQ(send(mine.tables(), tcp_flow(), kSyn, kNow + after_s).verdict(), kVerdictForwardAdopted);
    EXPECT_EQ(all_events(&mine), (Events{.repeated_opens = after_s}));
  }
}

TEST_P(BackendEvents, icmp_error_about_a_connection_is_none) {
  TestTables tables(standard_snapshot());
  send(tables.tables(), tcp_flow(), kSyn, kNow);
  Packet packet = packet_of(tables.tables(), tcp_flow(), kRst);
  packet.flags |= kPacketIcmpError;
  const ConnectionKey key = key_of(tables.tables(), packet);
  Decision decision = {};
  choose_backend(&tables.tables(), &packet, &key, kNow + 1, &decision);
  EXPECT_EQ(decision.backend, backend_of_flow());
  EXPECT_EQ(all_events(&tables), (Events{.opens = 1}));
}

INSTANTIATE_TEST_SUITE_P(Families, BackendEvents, testing::Values(kFamilyIpv4, kFamilyIpv6),
                         [](const auto &family) { return family.param == kFamilyIpv4 ? "ipv4" : "ipv6"; });

}  // namespace
}  // namespace sluice
