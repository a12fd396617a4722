// The engine from end to end within one process: frames in by a port, frames out by a port, and where
// each of them was counted.
#include "dataplane/dpdk/engine.h"

#include <map>
#include <random>
#include <set>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "tests/dpdk/engine_fixture.h"

namespace sluice {
namespace {

const Address kVip = parse_address("198.51.100.10");
const Address kVipIpv6 = parse_address("2001:db8::10");

/// Two backends behind one service on TCP port 80 of an IPv4 and an IPv6 address.
SnapshotBuilder two_backends() {
  SnapshotBuilder builder;
  uint32_t b1 = builder.add_backend("web", "b1", "10.1.0.11");
  uint32_t b2 = builder.add_backend("web", "b2", "10.1.0.12");
  uint32_t web = builder.add_service("web", builder.add_pool({b1, b2}));
  builder.add_vip("198.51.100.10", {{80, 80, web}});
  builder.add_vip("2001:db8::10", {{80, 80, web}});
  return builder;
}

TestSegment from_client(uint32_t number, uint8_t flags = kTcpSyn) {
  TestSegment segment;
  segment.client = address_from_ipv4(host_to_be32(0xcb007100u + (number >> 14)));
  segment.vip = kVip;
  segment.client_port = static_cast<uint16_t>(1024 + (number & 0x3fff));
  segment.tcp_flags = flags;
  return segment;
}

/// The outer IPv4 destination of a transmitted frame.
uint32_t outer_destination(const FrameBytes &frame) {
  be32 address = 0;
  memcpy(&address, &frame[30], sizeof(address));
  return be32_to_host(address);
}

std::unique_ptr<DpdkEngine> make_engine(const std::string &port, uint16_t workers, Regions *regions,
                                        IdlePolicy idle = IdlePolicy::kSleep) {
  DpdkEngineOptions options;
  options.ports = {parse_port_options(port).value()};
  options.workers = workers;
  options.idle = idle;
  Result<std::unique_ptr<DpdkEngine>> engine =
      DpdkEngine::create(options, &regions->counters(), &regions->connections());
  EXPECT_TRUE(engine.ok()) << (engine.ok() ? "" : engine.error().message);
  return engine.ok() ? std::move(engine).value() : nullptr;
}

std::string ring_port(const std::string &device, const std::string &more = "") {
  return "name=" + device + ",device=net_ring_" + device + ",kernel=none,mtu=1600" + more;
}

TEST(Engine, forwards_a_connection_to_one_backend_in_ipip) {
  Regions regions(1);
  RingDevice device("r_forward", {});
  auto engine = make_engine(ring_port("r_forward"), 1, &regions);
  ASSERT_TRUE(engine);
  EXPECT_TRUE(engine->install(make_tables(two_backends())).ok());
  ASSERT_TRUE(engine->start().ok());

  FrameBytes syn = tcp_frame(from_client(1));
  FrameBytes ack = tcp_frame(from_client(1, kTcpAck));
  device.send(syn);
  device.send(ack);
  ASSERT_TRUE(eventually([&] { return all_verdicts(regions.counters()) == 2; }));
  std::vector<FrameBytes> out = device.take_transmitted();
  ASSERT_EQ(out.size(), 2u);
  EXPECT_EQ(verdict_count(regions.counters(), kVerdictForwardNew), 1u);
  EXPECT_EQ(verdict_count(regions.counters(), kVerdictForwardEstablished), 1u);

  const FrameBytes &frame = out[0];
  ASSERT_EQ(frame.size(), syn.size() + 20);
  EXPECT_EQ(FrameBytes(frame.begin(), frame.begin() + 12), (FrameBytes{2, 0, 0, 0, 0, 9, 2, 0, 0, 0, 0, 1}));
  EXPECT_EQ(get_be16(frame, 12), kEtherTypeIpv4);
  EXPECT_EQ(frame[23], kProtocolIpv4);
  EXPECT_EQ(get_be16(frame, 16), syn.size() - 14 + 20);
  EXPECT_EQ(internet_checksum(&frame[14], 20), 0);
  // Inside: the packet as it came, one hop later.
  FrameBytes inner(frame.begin() + 34, frame.end());
  FrameBytes expected(syn.begin() + 14, syn.end());
  EXPECT_EQ(inner[8], expected[8] - 1);
  EXPECT_EQ(internet_checksum(inner.data(), 20), 0);
  inner[8] = expected[8];
  inner[10] = expected[10];
  inner[11] = expected[11];
  EXPECT_EQ(inner, expected);
  EXPECT_EQ(outer_destination(out[0]), outer_destination(out[1]));
}

TEST(Engine, without_a_snapshot_everything_is_the_kernels) {
  Regions regions(1);
  RingDevice device("r_none", {});
  auto engine = make_engine(ring_port("r_none"), 1, &regions);
  ASSERT_TRUE(engine && engine->start().ok());
  device.send(tcp_frame(from_client(1)));
  // The port has no kernel interface: what would pass is counted as not taken by it.
  ASSERT_TRUE(eventually([&] { return all_verdicts(regions.counters()) == 1; }));
  EXPECT_EQ(verdict_count(regions.counters(), kVerdictDropKernelQueueFull), 1u);
}

TEST(Engine, flood_of_what_has_no_service_reaches_the_kernel_in_small_part_and_own_addresses_in_full) {
  constexpr uint32_t kFrames = 1000;
  Regions regions(1);
  RingDevice device("r_flood", {});
  auto engine = make_engine(ring_port("r_flood"), 1, &regions);
  ASSERT_TRUE(engine);
  EXPECT_TRUE(engine->install(make_tables(two_backends())).ok());
  TestSegment no_service = from_client(1);
  no_service.vip_port = 81;
  TestSegment no_vip = from_client(1);
  no_vip.vip = parse_address("203.0.113.200");
  for (uint32_t i = 0; i < kFrames; i++) device.send(tcp_frame(no_service));
  for (uint32_t i = 0; i < kFrames; i++) device.send(tcp_frame(no_vip));
  ASSERT_TRUE(engine->start().ok());
  ASSERT_TRUE(eventually([&] { return all_verdicts(regions.counters()) == 2 * kFrames; }));
  // The port has no kernel interface: what gets that far is counted as not taken by it.
  uint64_t limited = verdict_count(regions.counters(), kVerdictDropKernelLimit);
  EXPECT_GT(limited, 0u);
  EXPECT_LE(limited, kFrames - 128);
  EXPECT_EQ(verdict_count(regions.counters(), kVerdictDropKernelQueueFull), 2 * kFrames - limited);
}

/// A frame that began well and was then cut, changed or replaced.
FrameBytes mutated_frame(std::mt19937 *random) {
  auto below = [random](uint32_t bound) { return static_cast<uint32_t>((*random)() % bound); };
  TestSegment segment = from_client(below(5000), static_cast<uint8_t>(below(64)));
  if (below(2) == 1) {
    segment.client = parse_address("2001:db8::99");
    segment.vip = kVipIpv6;
  }
  segment.payload = below(200);
  FrameBytes frame = tcp_frame(segment);
  for (uint32_t change = below(4); change > 0; change--) {
    frame[below(static_cast<uint32_t>(std::min<size_t>(frame.size(), 70)))] =
        static_cast<uint8_t>((*random)());
  }
  if (below(4) == 0) frame.resize(1 + below(static_cast<uint32_t>(frame.size())));
  if (below(16) == 0)
    std::generate(frame.begin(), frame.end(), [random] { return static_cast<uint8_t>((*random)()); });
  return frame;
}

TEST(Engine, every_frame_ends_in_exactly_one_verdict_and_no_buffer_is_lost) {
  constexpr uint64_t kFrames = 50'000;
  Regions regions(2);
  RingDevice device("r_random", {});
  uint32_t free_before = device.free_buffers();
  auto engine = make_engine(ring_port("r_random"), 2, &regions);
  ASSERT_TRUE(engine);
  EXPECT_TRUE(engine->install(make_tables(two_backends())).ok());
  ASSERT_TRUE(engine->start().ok());
  std::mt19937 random(7);
  uint64_t transmitted = 0;
  for (uint64_t sent = 0; sent < kFrames;) {
    if (device.send(mutated_frame(&random))) sent++;
    if (sent % 1000 == 0) transmitted += device.take_transmitted().size();
  }
  ASSERT_TRUE(eventually([&] { return all_verdicts(regions.counters()) == kFrames; }))
      << all_verdicts(regions.counters());
  engine->stop();
  transmitted += device.take_transmitted().size();

  EXPECT_EQ(received_packets(regions.counters()), kFrames);
  EXPECT_EQ(all_verdicts(regions.counters()), kFrames);
  uint64_t forwarded = 0;
  for (int verdict = 0; verdict < kVerdictCount; verdict++) {
    if (verdict_class(static_cast<Verdict>(verdict)) == kVerdictClassForward) {
      forwarded += verdict_count(regions.counters(), static_cast<Verdict>(verdict));
    }
  }
  EXPECT_EQ(forwarded, transmitted);
  EXPECT_GT(forwarded, kFrames / 10);
  EXPECT_GT(verdict_count(regions.counters(), kVerdictDropIpv4Truncated), 0u);
  EXPECT_GT(verdict_count(regions.counters(), kVerdictDropEthernetTruncated), 0u);
  EXPECT_EQ(device.free_buffers(), free_before);
}

TEST(Engine, a_full_transmit_queue_is_counted_and_frees_its_frames) {
  constexpr uint32_t kFrames = 500;
  constexpr uint32_t kRoom = 63;  // of a ring of 64
  Regions regions(1);
  RingDevice device("r_full", {.receive = 1024, .transmit = 64});
  uint32_t free_before = device.free_buffers();
  auto engine = make_engine(ring_port("r_full"), 1, &regions);
  ASSERT_TRUE(engine);
  EXPECT_TRUE(engine->install(make_tables(two_backends())).ok());
  ASSERT_TRUE(engine->start().ok());
  for (uint32_t client = 0; client < kFrames; client++)
    ASSERT_TRUE(device.send(tcp_frame(from_client(client))));
  ASSERT_TRUE(eventually([&] { return all_verdicts(regions.counters()) == kFrames; }));
  EXPECT_EQ(verdict_count(regions.counters(), kVerdictForwardNew), kRoom);
  EXPECT_EQ(verdict_count(regions.counters(), kVerdictDropTransmitQueueFull), kFrames - kRoom);
  EXPECT_EQ(regions.counters().worker(0).transmitted_packets, kRoom);
  EXPECT_EQ(regions.counters().backends(0)[1].packets + regions.counters().backends(0)[2].packets, kRoom);
  engine->stop();
  EXPECT_EQ(device.take_transmitted().size(), kRoom);
  EXPECT_EQ(device.free_buffers(), free_before);
}

TEST(Engine, steering_keeps_every_flow_on_one_worker) {
  constexpr uint32_t kFlows = 600;
  constexpr uint32_t kLaterPackets = 4;
  Regions regions(2);
  RingDevice device("r_steer", {});
  auto engine = make_engine(ring_port("r_steer"), 2, &regions);
  ASSERT_TRUE(engine);
  EXPECT_TRUE(engine->preflight().ports[0].steered);
  EXPECT_TRUE(engine->install(make_tables(two_backends())).ok());
  ASSERT_TRUE(engine->start().ok());

  uint64_t sent = 0;
  for (uint32_t packet = 0; packet <= kLaterPackets; packet++) {
    for (uint32_t flow = 0; flow < kFlows; flow++) {
      ASSERT_TRUE(eventually(
          [&] { return device.send(tcp_frame(from_client(flow, packet == 0 ? kTcpSyn : kTcpAck))); }));
      sent++;
    }
    ASSERT_TRUE(eventually([&] { return all_verdicts(regions.counters()) == sent; }));
    device.take_transmitted();
  }
  // A flow that two workers saw would be new or adopted twice.
  EXPECT_EQ(verdict_count(regions.counters(), kVerdictForwardNew), kFlows);
  EXPECT_EQ(verdict_count(regions.counters(), kVerdictForwardEstablished), kFlows * kLaterPackets);
  uint64_t first = regions.counters().worker(0).verdict_packets[kVerdictForwardNew];
  uint64_t second = regions.counters().worker(1).verdict_packets[kVerdictForwardNew];
  EXPECT_GT(first, kFlows / 4);
  EXPECT_GT(second, kFlows / 4);
  // The one queue is worker 0's: all of worker 1's frames were handed to it.
  EXPECT_EQ(regions.counters().worker(0).steered_packets, second * (kLaterPackets + 1));
  EXPECT_EQ(regions.counters().worker(1).received_packets, 0u);
}

/// Even generations know one backend, 10.1.0.11, odd ones another, 10.1.0.12: never both.
std::shared_ptr<const ForwardingTables> tables_of_generation(uint32_t generation) {
  SnapshotBuilder builder;
  builder.revision = generation + 1;
  uint32_t backend = builder.add_backend("web", "b", generation % 2 == 0 ? "10.1.0.11" : "10.1.0.12");
  builder.add_vip("198.51.100.10", {{80, 80, builder.add_service("web", builder.add_pool({backend}))}});
  return make_tables(builder);
}

TEST(Engine, generations_change_whole_under_load_and_old_ones_go) {
  constexpr uint32_t kGenerations = 300;
  Regions regions(2);
  RingDevice device("r_rcu", {});
  auto engine = make_engine(ring_port("r_rcu"), 2, &regions);
  ASSERT_TRUE(engine);
  auto tables = tables_of_generation(0);
  EXPECT_TRUE(engine->install(tables).ok());
  ASSERT_TRUE(engine->start().ok());

  std::atomic<bool> done = false;
  std::map<uint32_t, uint64_t> destinations;
  std::jthread load([&] {
    for (uint32_t client = 0; !done; client++) {
      device.send(tcp_frame(from_client(client)));
      if (client % 256 != 0) continue;
      for (const FrameBytes &frame : device.take_transmitted()) destinations[outer_destination(frame)]++;
    }
  });
  for (uint32_t generation = 1; generation < kGenerations; generation++) {
    std::weak_ptr<const ForwardingTables> old = tables;
    tables = tables_of_generation(generation);
    EXPECT_TRUE(engine->install(tables).ok());
    ASSERT_TRUE(old.expired()) << "generation " << generation - 1 << " is still held";
    // Both must have been seen, so let some packets through each.
    uint64_t before = all_verdicts(regions.counters());
    ASSERT_TRUE(eventually([&] { return all_verdicts(regions.counters()) > before; }));
  }
  done = true;
  load.join();
  engine->stop();
  EXPECT_EQ(destinations.size(), 2u);
  EXPECT_EQ(destinations.count(0x0a01000b), 1u);
  EXPECT_EQ(destinations.count(0x0a01000c), 1u);
}

// The generation after the next often has the address of the last one, which is freed in between.
TEST(Engine, worker_that_slept_through_two_generations_takes_the_second) {
  Regions regions(1);
  RingDevice device("r_sleep", {});
  auto engine = make_engine(ring_port("r_sleep"), 1, &regions);
  ASSERT_TRUE(engine && engine->start().ok());
  std::vector<std::shared_ptr<const ForwardingTables>> kept;  // what is wrongly used is not freed memory
  for (uint32_t round = 0; round < 50; round++) {
    for (uint32_t generation : {round, round + 1}) {
      kept.push_back(tables_of_generation(generation));
      EXPECT_TRUE(engine->install(kept.back()).ok());
    }
    device.send(tcp_frame(from_client(round)));
    ASSERT_TRUE(eventually([&] { return all_verdicts(regions.counters()) == round + 1; }));
    std::vector<FrameBytes> out = device.take_transmitted();
    ASSERT_EQ(out.size(), 1u);
    EXPECT_EQ(outer_destination(out[0]), (round + 1) % 2 == 0 ? 0x0a01000bu : 0x0a01000cu);
    std::this_thread::sleep_for(std::chrono::milliseconds(3));  // the worker falls asleep
  }
}

TEST(Engine, connections_outlive_the_process_and_are_counted_again) {
  constexpr uint32_t kFlows = 100;
  Regions regions(1);
  std::map<uint32_t, uint32_t> backend_of_client;
  {
    RingDevice device("r_before", {});
    auto engine = make_engine(ring_port("r_before"), 1, &regions);
    ASSERT_TRUE(engine);
    EXPECT_TRUE(engine->install(make_tables(two_backends())).ok());
    ASSERT_TRUE(engine->start().ok());
    for (uint32_t flow = 0; flow < kFlows; flow++) device.send(tcp_frame(from_client(flow)));
    ASSERT_TRUE(eventually([&] { return all_verdicts(regions.counters()) == kFlows; }));
    for (const FrameBytes &frame : device.take_transmitted()) {
      backend_of_client[get_be16(frame, 54)] = outer_destination(frame);
    }
  }
  ASSERT_EQ(backend_of_client.size(), kFlows);

  regions.reopen();
  RingDevice device("r_after", {});
  auto engine = make_engine(ring_port("r_after"), 1, &regions);
  ASSERT_TRUE(engine);
  std::span<BackendCounters> backends = regions.counters().backends(0);
  EXPECT_EQ(backends[1].active_connections + backends[2].active_connections, kFlows);
  EXPECT_GT(backends[1].active_connections, 0u);
  // New connections would all go to the first backend now.
  SnapshotBuilder builder;
  uint32_t b1 = builder.add_backend("web", "b1", "10.1.0.11");
  uint32_t b2 = builder.add_backend("web", "b2", "10.1.0.12");
  builder.set_state(b2, kBackendDraining);
  builder.add_vip("198.51.100.10", {{80, 80, builder.add_service("web", builder.add_pool({b1}))}});
  EXPECT_TRUE(engine->install(make_tables(builder)).ok());
  ASSERT_TRUE(engine->start().ok());
  for (uint32_t flow = 0; flow < kFlows; flow++) device.send(tcp_frame(from_client(flow, kTcpAck)));
  ASSERT_TRUE(eventually([&] { return all_verdicts(regions.counters()) == kFlows; }));
  EXPECT_EQ(verdict_count(regions.counters(), kVerdictForwardEstablished), kFlows);
  for (const FrameBytes &frame : device.take_transmitted()) {
    EXPECT_EQ(outer_destination(frame), backend_of_client[get_be16(frame, 54)]);
  }
}

TEST(Engine, merged_active_connections_leave_out_the_workers_own) {
  Regions regions(2);
  RingDevice device("r_merge", {});
  auto engine = make_engine(ring_port("r_merge"), 2, &regions);
  ASSERT_TRUE(engine);
  regions.counters().backends(0)[1].active_connections = 5;
  regions.counters().backends(1)[1].active_connections = 7;
  engine->merge_active_connections();
  EXPECT_EQ(engine->others_active(0, 1), 7u);
  EXPECT_EQ(engine->others_active(1, 1), 5u);
}

TEST(Engine, status_says_what_was_chosen) {
  Regions regions(2);
  RingDevice device("r_status", {});
  auto engine = make_engine(ring_port("r_status"), 2, &regions, IdlePolicy::kPoll);
  ASSERT_TRUE(engine);
  nlohmann::json status = engine->status();
  EXPECT_EQ(status["engine"], "dpdk");
  ASSERT_EQ(status["ports"].size(), 1u);
  EXPECT_EQ(status["ports"][0]["name"], "r_status");
  EXPECT_EQ(status["ports"][0]["driver"], "net_ring");
  EXPECT_EQ(status["ports"][0]["mtu"], 1600);
  EXPECT_TRUE(status["ports"][0]["steered"]);
  EXPECT_THAT(std::string(status["ports"][0]["spread"]), ::testing::HasSubstr("1 queue, 2 workers"));
  ASSERT_EQ(status["workers"].size(), 2u);
  EXPECT_EQ(status["workers"][0]["receive_queues"].size(), 1u);
  EXPECT_EQ(status["workers"][1]["receive_queues"].size(), 0u);
}

TEST(Engine, a_port_that_cannot_be_opened_says_which_field_and_why) {
  Regions regions(1);
  auto error_of = [&](const std::string &port) {
    DpdkEngineOptions options;
    options.ports = {parse_port_options(port).value()};
    auto engine = DpdkEngine::create(options, &regions.counters(), &regions.connections());
    return engine.ok() ? std::string() : engine.error().message;
  };
  EXPECT_THAT(error_of("name=p,device=net_af_xdp:iface=nosuch,kernel=none"),
              ::testing::AllOf(::testing::HasSubstr("port p"), ::testing::HasSubstr("iface=\"nosuch\"")));
  EXPECT_THAT(error_of("name=p,device=net_af_xdp,kernel=none"), ::testing::HasSubstr("iface is missing"));
  EXPECT_THAT(error_of("name=p,device=net_nosuch:a=b,kernel=none"), ::testing::HasSubstr("net_nosuch"));
  EXPECT_THAT(error_of("name=p,device=0000:7f:00.0,kernel=none"), ::testing::HasSubstr("no PCI device"));
}

}  // namespace
}  // namespace sluice
