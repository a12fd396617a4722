// A packet sees one generation, whole: packets run on one CPU while another thread installs hundreds of
// generations, in each of which everything that a packet meets carries the generation's number.
#include <array>
#include <atomic>
#include <chrono>
#include <cstring>
#include <stdexcept>
#include <string>
#include <thread>

#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <gtest/gtest.h>

#include "dataplane/xdp/attachment.h"
#include "tests/core/flows.h"
#include "tests/xdp/loaded_program.h"
#include "tests/xdp/reader.skel.h"

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

/// A packet that is under way as long as the test wants (some seconds at most), on CPU 1.
class LongPacket {
 public:
  LongPacket() : program_(reader_program::open_and_load()) {
    if (program_ == nullptr) throw std::runtime_error("reader.bpf.c cannot be loaded");
    thread_ = std::thread([this] {
      BoundToCpu bound;
      bound.bind(1);
      std::array<uint8_t, 64> frame = {};
      LIBBPF_OPTS(bpf_test_run_opts, options, .data_in = frame.data(), .data_size_in = frame.size());
      error_ = bpf_prog_test_run_opts(bpf_program__fd(program_->progs.reader), &options);
    });
    while (!flag(program_->bss->reader_begun) && error_ == 0) std::this_thread::yield();
    if (error_ != 0) throw std::runtime_error("reader.bpf.c cannot be run");
  }
  LongPacket(const LongPacket &) = delete;
  LongPacket &operator=(const LongPacket &) = delete;
  ~LongPacket() {
    release();
    thread_.join();
    reader_program::destroy(program_);
  }

  bool is_under_way() const { return !flag(program_->bss->reader_ended); }
  void release() { __atomic_store_n(&program_->bss->reader_released, 1, __ATOMIC_RELAXED); }

 private:
  static bool flag(const volatile uint32_t &word) { return __atomic_load_n(&word, __ATOMIC_ACQUIRE) != 0; }

  reader_program *program_;
  std::atomic<int> error_ = 0;
  std::thread thread_;
};

TEST(Generations, none_is_written_over_one_that_a_packet_may_still_read) {
  LoadedProgram program({.ipv4_buckets = 16, .ipv6_buckets = 16, .port_ifindexes = {kLoopback}});
  program.set_time(1000);
  const SnapshotBuilder backends = backends_only();
  const Bytes unknown = frame_of_flow({.client = 2}, kTcpRst);
  program.install(marked_tables(backends, 0));
  program.install(marked_tables(backends, 1));
  const ForwardingTables next = marked_tables(backends, 2);

  LongPacket packet;
  std::thread installer([&] {
    const Status installed = program.program().install(next);
    EXPECT_TRUE(installed.ok()) << installed.error().message;
  });
  int looks = 0;
  for (int i = 0; i < 50; i++) {
    const uint32_t generation = generation_of(program.run(0, unknown));
    if (!packet.is_under_way()) break;  // asked last: it was then all the time
    EXPECT_EQ(generation, 1u);
    looks++;
    std::this_thread::sleep_for(std::chrono::milliseconds(2));
  }
  EXPECT_GT(looks, 0);
  packet.release();
  installer.join();
  EXPECT_FALSE(packet.is_under_way()) << "the installation returned before";
  EXPECT_EQ(generation_of(program.run(0, unknown)), 2u);
}

TEST(Detaching, waits_for_the_packets_that_are_under_way) {
  LongPacket packet;
  std::atomic<bool> is_early = false;
  std::thread waiter([&] {
    wait_for_packets();
    is_early = packet.is_under_way();
  });
  std::this_thread::sleep_for(std::chrono::milliseconds(300));  // in which it could be back too early
  packet.release();
  waiter.join();
  EXPECT_FALSE(is_early);
}

}  // namespace
}  // namespace sluice
