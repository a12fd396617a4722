// A packet sees one generation, whole: packets run on one CPU while another thread installs hundreds of
// generations, in each of which everything that a packet meets carries the generation's number.
#include <atomic>
#include <cstring>
#include <string>
#include <thread>

#include <gtest/gtest.h>

#include "tests/core/flows.h"
#include "tests/xdp/loaded_program.h"

namespace sluice {
namespace {

constexpr uint32_t kLoopback = 1;  // its index in any network namespace
constexpr uint32_t kMarks = 200;   // services, and backends that are scheduled to: the number's remainder
constexpr uint32_t kGenerations = 500;

uint32_t mark_of(uint32_t generation) { return generation % kMarks; }

/// The backend of a mark; the one behind them all is of the connection that is there all the time.
uint16_t backend_of_mark(uint32_t mark) { return static_cast<uint16_t>(mark + 1); }
constexpr uint16_t kLastingBackend = kMarks + 1;

/// More backends, which make a generation take a while to write: many packets run meanwhile.
constexpr uint16_t kAllBackends = 20000;

std::string address_of(uint16_t backend) {
  return "10.1." + std::to_string(backend / 200) + "." + std::to_string(backend % 200 + 1);
}

/// What all generations have.
SnapshotBuilder backends_only() {
  SnapshotBuilder builder;
  for (uint16_t backend = 1; backend <= kAllBackends; backend++)
    builder.add_backend("pool", "backend", address_of(backend));
  return builder;
}

/// Port 80 is the service of the generation's mark, which has one backend, that of the mark (or `backend`),
/// in slots that begin elsewhere each time; each egress record has the generation's number as its source
/// address on the link.
ForwardingTables marked_tables(SnapshotBuilder builder, uint32_t generation, uint16_t backend) {
  const uint32_t mark = mark_of(generation);
  builder.add_pool({backend_of_mark((mark + 1) % kMarks)}, 1 + 13 * mark);
  const uint32_t pool = builder.add_pool({backend}, 7);
  for (uint32_t service = 0; service < kMarks; service++) builder.add_service("service", pool);
  builder.add_vip("198.51.100.10", {{80, 80, mark}});

  std::vector<Egress> egress(kAllBackends + 1u);
  for (uint16_t known = 1; known <= kLastingBackend; known++) {
    EgressFields fields;
    fields.backend = address_of(known);
    std::memcpy(&fields.ethernet[6], &generation, sizeof(generation));
    egress[known] = make_egress(fields);
  }
  return forwarding_tables(builder, egress);
}

ForwardingTables marked_tables(const SnapshotBuilder &builder, uint32_t generation) {
  return marked_tables(builder, generation, backend_of_mark(mark_of(generation)));
}

uint32_t generation_of(const XdpOutcome &outcome) {
  uint32_t generation = 0;
  std::memcpy(&generation, &outcome.out.at(6), sizeof(generation));
  return generation;
}

/// What of a forwarded packet is of another generation than its link address; empty if all is of one.
std::string mixture_in(const XdpOutcome &outcome, uint16_t expected_backend) {
  const uint32_t generation = generation_of(outcome);
  const Bytes address = address_bytes(address_of(expected_backend));
  std::string mixture;
  if (outcome.backend != expected_backend) mixture += "backend " + std::to_string(outcome.backend) + ", ";
  if (outcome.service != mark_of(generation)) mixture += "service " + std::to_string(outcome.service) + ", ";
  if (!std::equal(address.begin(), address.end(), outcome.out.begin() + 14 + 16))
    mixture += "outer address, ";
  return mixture.empty() ? "" : mixture + "in generation " + std::to_string(generation);
}

TEST(Generations, packet_never_sees_half_of_one) {
  LoadedProgram program({.ipv4_buckets = 16, .ipv6_buckets = 16, .port_ifindexes = {kLoopback}});
  program.set_time(1000);
  const SnapshotBuilder backends = backends_only();
  const Bytes within = frame_of_flow({.client = 1}, kTcpAck);   // the hit path
  const Bytes unknown = frame_of_flow({.client = 2}, kTcpRst);  // scheduled each time, never entered
  program.install(marked_tables(backends, 0, kLastingBackend));
  ASSERT_EQ(program.run(0, within).backend, kLastingBackend);
  program.install(marked_tables(backends, 1));

  std::atomic<bool> done = false;
  std::string mixture;
  uint64_t packets = 0;
  uint32_t changes = 0, newest = 0;
  std::thread traffic([&] {
    while (!done && mixture.empty()) {
      const XdpOutcome established = program.run(0, within);
      mixture += mixture_in(established, kLastingBackend);
      const XdpOutcome scheduled = program.run(0, unknown);
      const uint32_t generation = generation_of(scheduled);
      mixture += mixture_in(scheduled, backend_of_mark(mark_of(generation)));
      packets += 2;
      changes += generation != newest;
      newest = generation;
    }
  });
  BoundToCpu elsewhere;  // not where the packets run
  elsewhere.bind(1);
  for (uint32_t generation = 2; generation <= kGenerations; generation++) {
    const Status installed = program.program().install(marked_tables(backends, generation));
    EXPECT_TRUE(installed.ok()) << installed.error().message;
  }
  done = true;
  traffic.join();
  EXPECT_EQ(mixture, "");
  EXPECT_EQ(generation_of(program.run(0, unknown)), kGenerations);
  RecordProperty("packets", std::to_string(packets));
  EXPECT_GT(changes, 1u) << "no change was seen in " << packets << " packets";
}

}  // namespace
}  // namespace sluice
