// The XDP engine's program as it runs in production, with BPF_PROG_TEST_RUN: net of a driver program that
// restores and varies the frame (xdp_driver.bpf.c), and as a multiple of the empty program in the same
// rounds.
#include <algorithm>
#include <array>
#include <cstring>
#include <memory>
#include <stdexcept>
#include <string>

#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <linux/bpf.h>

#include "dataplane/server/connection_region.h"
#include "dataplane/server/snapshot_store.h"
#include "dataplane/xdp/forwarding_program.h"
#include "tools/bench/bench_world.h"
#include "tools/bench/benches.h"
#include "tools/bench/xdp_driver.h"

// What the skeleton includes itself is included above: the rest is into our namespace, for our records.
#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>

namespace sluice {
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wshadow"
#include "tools/bench/xdp_driver.skel.h"
#pragma GCC diagnostic pop
}  // namespace sluice

namespace sluice::bench {
namespace {

constexpr uint64_t kFirstNewFlow = 1ull << 30;  // beyond all flows that the table was filled with
constexpr uint32_t kIfindex = 1;                // that test runs come by: the loopback interface

void require(bool good, const std::string &what) {
  if (!good) throw std::runtime_error(what + ": " + std::strerror(errno));  // NOLINT(concurrency-mt-unsafe)
}

template <typename T>
T taken(Result<T> result) {
  if (!result.ok()) throw std::runtime_error(result.error().message);
  return std::move(result).value();
}

struct DestroyDriver {
  void operator()(xdp_driver *driver) const { xdp_driver::destroy(driver); }
};

/// Buckets and sizes of the connection region with one table per CPU up to `core`.
ForwardingProgramOptions options_for(const WorldShape &shape, uint32_t core) {
  ForwardingProgramOptions options;
  options.worker_count = options.table_count = core + 1;
  const bool ipv4 = shape.family == kFamilyIpv4;
  (ipv4 ? options.ipv4_buckets : options.ipv6_buckets) =
      connection_buckets(shape.connections, ipv4 ? kIpv4EntriesPerBucket : kIpv6EntriesPerBucket);
  options.connections_bytes =
      kConnectionHeaderSize + uint64_t{options.table_count} *
                                  (uint64_t{options.ipv4_buckets} + options.ipv6_buckets) *
                                  sizeof(ConnectionBucket);
  options.port_ifindexes = {kIfindex};
  return options;
}

/// The forwarding program on one CPU, filled with a World's tables, behind the driver.
class XdpLoop {
 public:
  XdpLoop(const WorldShape &shape, uint64_t flows, uint32_t core)
      : shape_(shape), world_(shape), flows_(flows), core_(core) {
    program_ = taken(ForwardingProgram::load(options_for(shape, core)));
    ForwardingTables tables;
    tables.snapshot = taken(MappedSnapshot::from_bytes(world_.snapshot()));
    tables.egress.assign(world_.tables().egress, world_.tables().egress + world_.tables().backend_count);
    const Status installed = program_->install(tables);
    if (!installed.ok()) throw std::runtime_error(installed.error().message);
    connections_ = taken(program_->connections_memory());
    counters_ = taken(program_->counters_memory());
    driver_.reset(xdp_driver::open());
    require(driver_ != nullptr, "driver");
    // As the forwarding program's: the kernel lets none call another that is not like itself.
    bpf_program *program = nullptr;
    bpf_object__for_each_program(program, driver_->obj)
        bpf_program__set_expected_attach_type(program, static_cast<bpf_attach_type>(0));
    const auto lines = static_cast<uint32_t>(table_bytes() / sizeof(ConnectionBucket));
    require(bpf_map__set_max_entries(driver_->maps.lines, lines) == 0 && xdp_driver::load(driver_.get()) == 0,
            "loading the driver");
    control().line_mask = lines - 1;
    control().ipv6 = shape.family == kFamilyIpv6 ? 1 : 0;
    establish_all();
  }

  double empty(uint64_t packets) { return run(bpf_program__fd(driver_->progs.empty), packets); }

  /// The driver with the empty program behind it, over the same flows.
  double driver(uint64_t packets) {
    prepare(kTcpAck, kDriverRandom);
    return drive(bpf_program__fd(driver_->progs.empty), packets);
  }

  /// A balancer without tables, and one with nothing but a cold cache line for each flow.
  double constant(uint64_t packets) {
    prepare(kTcpAck, kDriverRandom);
    return drive(bpf_program__fd(driver_->progs.constant), packets);
  }
  double constant_and_line(uint64_t packets) {
    prepare(kTcpAck, kDriverRandom);
    return drive(bpf_program__fd(driver_->progs.constant_and_line), packets);
  }

  double hits(uint64_t packets) {
    prepare(kTcpAck, kDriverRandom);
    return drive_through(kVerdictForwardEstablished, packets);
  }

  /// SYNs of connections never seen before, into a table that begins empty.
  double new_flows(uint64_t packets) {
    clear_connections();
    prepare(kTcpSyn, kDriverSequential);
    control().first_flow = next_new_flow_;
    next_new_flow_ += packets;
    const double ns = drive_through(kVerdictForwardNew, packets);
    clear_connections();
    establish_all();
    return ns;
  }

  /// Packets of flows that have no entry and get none: they end what is not known. Their hash decides.
  double stateless(uint64_t packets) {
    prepare(kTcpFin | kTcpAck, kDriverRandom);
    control().first_flow = 2 * kFirstNewFlow;
    return drive_through(kVerdictForwardUntracked, packets);
  }

  double not_for_a_vip(uint64_t packets) {
    prepare(kTcpAck, kDriverRandom);
    for (uint32_t &vip : control().vips) vip = host_to_be32(0xcb007101);
    return drive_through(kVerdictPassNotVip, packets);
  }

  uint64_t table_bytes() const { return world_.connection_bytes(); }

 private:
  DriverControl &control() { return driver_->bss->control; }
  CounterRegionHeader layout() const {
    CounterRegionShape shape;
    shape.worker_count = core_ + 1;
    shape.first_worker_part = FirstWorkerPart::kAfterOneStride;
    return counter_region_layout(shape);
  }
  const WorkerCounters &counters() const {
    const CounterRegionHeader header = layout();
    return *reinterpret_cast<const WorkerCounters *>(counters_.mapping.data() + header.header_size +
                                                     core_ * header.worker_stride);
  }

  void prepare(uint8_t tcp_flags, DriverOrder order) {
    DriverControl &to = control();
    uint8_t frame[kDriverFrameWords * 8] = {};
    FlowTraffic(shape_).write(frame, 0, tcp_flags);
    // No padding: that would be cut off, and not be there for the next packet.
    if (shape_.family == kFamilyIpv4) {
      frame[17] = sizeof(frame) - kEthernetHeaderSize;
    } else {
      frame[19] = sizeof(frame) - kEthernetHeaderSize - kIpv6HeaderSize;
    }
    std::memcpy(to.frame, frame, sizeof(frame));
    to.frame_size = sizeof(frame);
    for (uint32_t i = 0; i < kDriverServices; i++) to.vips[i] = vip_address(shape_.family, i).word[3];
    to.order = order;
    to.flows = flows_;
    to.first_flow = 0;
    to.count = 0;
  }

  /// Nanoseconds for each of `packets` runs of a program. The kernel's own measure of its loop, in whole
  /// nanoseconds: it leaves out what else the system call does (30 ms of patching code) and when others ran.
  double run(int program, uint64_t packets) {
    std::array<uint8_t, kDriverFrameWords * 8> frame = {};
    LIBBPF_OPTS(bpf_test_run_opts, options, .data_in = frame.data(), .data_size_in = frame.size(),
                .repeat = static_cast<int>(packets));
    require(bpf_prog_test_run_opts(program, &options) == 0, "test run");
    if (options.retval == XDP_ABORTED) throw std::runtime_error("a program of the test run gave up");
    return options.duration;
  }

  double drive(int target, uint64_t packets) {
    const uint32_t element = 0;
    require(bpf_map_update_elem(bpf_map__fd(driver_->maps.target), &element, &target, BPF_ANY) == 0,
            "aiming the driver");
    return run(bpf_program__fd(driver_->progs.drive), packets);
  }

  /// As drive(), through the forwarding program; fails unless all packets end with the verdict.
  double drive_through(Verdict verdict, uint64_t packets) {
    const uint64_t before = counters().verdict_packets[verdict];
    const double ns = drive(program_->program_fd(), packets);
    const uint64_t ended = counters().verdict_packets[verdict] - before;
    if (ended != packets)
      throw std::runtime_error(std::to_string(packets - ended) + " of " + std::to_string(packets) +
                               " packets did not end with verdict " + std::to_string(verdict));
    return ns;
  }

  void establish_all() {
    for (const uint8_t flags : {kTcpSyn, kTcpAck}) {
      prepare(flags, kDriverSequential);
      drive(program_->program_fd(), flows_);
    }
  }

  void clear_connections() { std::memset(connections_.mapping.data(), 0, connections_.mapping.size()); }

  WorldShape shape_;
  World world_;
  uint64_t flows_;
  uint32_t core_;
  std::unique_ptr<ForwardingProgram> program_;
  std::unique_ptr<xdp_driver, DestroyDriver> driver_;
  SharedMemory connections_;
  SharedMemory counters_;
  uint64_t next_new_flow_ = kFirstNewFlow;
};

/// The rounds of one family and number of flows. A contestant's net is what it takes more than the driver
/// with the empty program behind it; its multiple is of the empty program alone, with the net on top.
void bench_case(const BenchOptions &options, AddressFamily family, uint64_t flows, Report *report) {
  const uint64_t packets = options.depth == Depth::kQuick ? 20'000 : 400'000;
  const uint64_t opened =
      std::clamp<uint64_t>(flows, 10'000, options.depth == Depth::kQuick ? 20'000 : 1'000'000);
  WorldShape shape;
  shape.family = family;
  shape.services = kDriverServices;
  shape.connections = std::max(flows, options.connections);
  XdpLoop loop(shape, flows, options.core);
  const std::vector<Contestant> contestants = {
      {"empty", [&] { return loop.empty(packets); }},
      {"driver", [&] { return loop.driver(packets); }},
      {"one constant backend, no tables", [&] { return loop.constant(packets); }},
      {"the same, and one line of a table", [&] { return loop.constant_and_line(packets); }},
      {"known connection", [&] { return loop.hits(packets); }},
      {"new connection, entered", [&] { return loop.new_flows(opened); }},
      {"unknown, stateless", [&] { return loop.stateless(packets); }},
      {"not for a VIP", [&] { return loop.not_for_a_vip(packets); }},
  };
  std::vector<std::vector<double>> net(contestants.size()), multiple(contestants.size());
  std::vector<double> empty_ns;
  for (uint32_t round = 0; round <= options.rounds; round++) {
    std::vector<double> ns;
    ns.reserve(contestants.size());
    for (const Contestant &contestant : contestants) ns.push_back(contestant.run());
    if (round == 0) continue;
    empty_ns.push_back(ns[0]);
    for (size_t i = 2; i < contestants.size(); i++) {
      net[i].push_back(ns[i] - ns[1]);
      multiple[i].push_back(1 + (ns[i] - ns[1]) / ns[0]);
    }
  }
  const char *family_name = family == kFamilyIpv4 ? "IPv4" : "IPv6";
  for (size_t i = 2; i < contestants.size(); i++)
    report->line({std::string(family_name) + " " + contestants[i].name, std::to_string(flows),
                  std::to_string(loop.table_bytes() >> 20), number(median(empty_ns)), number(median(net[i])),
                  number(median(multiple[i]))},
                 {{"bench", "xdp"},
                  {"family", family_name},
                  {"contestant", contestants[i].name},
                  {"flows", flows},
                  {"table_bytes", loop.table_bytes()},
                  {"empty_ns", median(empty_ns)},
                  {"net_ns_per_packet", median(net[i])},
                  {"multiple_of_empty", median(multiple[i])}});
}

}  // namespace

void bench_xdp(const BenchOptions &options, Report *report) {
  report->section(
      "XDP program, BPF_PROG_TEST_RUN: net of the driver; multiples of the empty XDP_TX program; 8 services, "
      "100 "
      "backends, 65,537 slots",
      {"contestant", "flows", "table MB", "empty ns", "net ns", "of empty"});
  for (const AddressFamily family : {kFamilyIpv4, kFamilyIpv6})
    for (const uint64_t flows : options.flows) bench_case(options, family, flows, report);
}

}  // namespace sluice::bench
