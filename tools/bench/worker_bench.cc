// The DPDK worker's whole loop, as it runs in production (Worker::iterate): receive, parse to
// encapsulated, transmit, count. The frames are made anew outside the measured time.
#include <atomic>
#include <cstdlib>
#include <memory>
#include <stdexcept>

#include <rte_cycles.h>

#include "dataplane/dpdk/worker.h"
#include "tools/bench/benches.h"
#include "tools/bench/ring_port.h"

namespace sluice::bench {

namespace {

constexpr uint64_t kFirstNewFlow = 1ull << 30;  // beyond all flows that the table was filled with
constexpr uint32_t kSmallestTable = 1 << 20;    // connections that the table is sized for, at least

/// xorshift64* (Vigna, 2016): which flow is next, for a nanosecond.
class FlowOrder {
 public:
  explicit FlowOrder(uint64_t seed) : state_(seed * 2 + 1) {}
  uint64_t next(uint64_t flows) {
    state_ ^= state_ >> 12;
    state_ ^= state_ << 25;
    state_ ^= state_ >> 27;
    return ((state_ * 0x2545f4914f6cdd1dull) >> 32) * flows >> 32;
  }

 private:
  uint64_t state_;
};

/// A worker on a ring port, deciding by a World's tables.
class WorkerLoop {
 public:
  WorkerLoop(const WorldShape &shape, uint64_t flows, uint64_t seed)
      : world_(shape), traffic_(shape), flows_(flows), order_(seed), readers_(make_readers()) {
    generation_.serial = 1;
    generation_.view = world_.tables();
    published_ = &generation_;
    WorkerSetup setup;
    WorkerPort port;
    port.receive = {{port_.device(), 0}};
    port.transmit = {{port_.device(), 0}, nullptr};
    setup.ports = {port};
    setup.tables = world_.tables();
    setup.generation = &published_;
    setup.readers = readers_.get();
    setup.stop = &stop_;
    worker_ = std::make_unique<Worker>(setup);
    establish_all();
  }

  /// `packets` of known connections, in random order. TSC cycles per packet.
  double hits(uint64_t packets) {
    return measure(
        packets, [this](uint32_t) { return order_.next(flows_); }, kTcpAck, [this] { run_worker(); });
  }

  /// `packets` SYNs, each of a connection never seen before, into a table that begins empty. Afterwards
  /// the known connections are in it again.
  double new_flows(uint64_t packets) {
    world_.clear_connections();
    const double cycles = measure(
        packets, [this](uint32_t) { return next_new_flow_++; }, kTcpSyn, [this] { run_worker(); });
    world_.clear_connections();
    establish_all();
    return cycles;
  }

  /// The floor: the same frames, received, link addresses swapped, transmitted.
  double swap_addresses(uint64_t packets) {
    return measure(
        packets, [this](uint32_t) { return order_.next(flows_); }, kTcpAck,
        [this] { swap_burst(port_.device()); });
  }

  uint64_t table_bytes() const { return world_.connection_bytes(); }

 private:
  struct FreeReaders {
    void operator()(rte_rcu_qsbr *readers) const { std::free(readers); }
  };

  static std::unique_ptr<rte_rcu_qsbr, FreeReaders> make_readers() {
    const size_t size = rte_rcu_qsbr_get_memsize(1);
    auto *readers = static_cast<rte_rcu_qsbr *>(std::aligned_alloc(64, (size + 63) / 64 * 64));
    if (!readers || rte_rcu_qsbr_init(readers, 1) != 0) throw std::bad_alloc();
    rte_rcu_qsbr_thread_register(readers, 0);
    rte_rcu_qsbr_thread_online(readers, 0);
    return std::unique_ptr<rte_rcu_qsbr, FreeReaders>(readers);
  }

  void establish_all() {
    for (uint64_t first = 0; first < flows_; first += kFramesInFlight) {
      for (const uint8_t flags : {kTcpSyn, kTcpAck}) {
        offer([&](uint32_t i) { return (first + i) % flows_; }, flags);
        for (uint32_t done = 0; done < kFramesInFlight; done += kBurstSize) run_worker();
        port_.take_back();
      }
    }
  }

  template <typename FlowOf>
  void offer(FlowOf flow_of, uint8_t tcp_flags) {
    uint32_t i = 0;
    for (rte_mbuf *mbuf : port_.frames()) reset_frame(mbuf, traffic_, flow_of(i++), tcp_flags);
    port_.offer();
  }

  template <typename FlowOf, typename Burst>
  double measure(uint64_t packets, FlowOf flow_of, uint8_t tcp_flags, Burst burst) {
    uint64_t cycles = 0;
    uint64_t done = 0;
    for (; done < packets; done += kFramesInFlight) {
      offer(flow_of, tcp_flags);
      const uint64_t start = read_tsc();
      for (uint32_t i = 0; i < kFramesInFlight; i += kBurstSize) burst();
      cycles += read_tsc() - start - pair_cycles_;
      port_.take_back();
    }
    return static_cast<double>(cycles) / static_cast<double>(done);
  }

  void run_worker() {
    if (worker_->iterate(rte_rdtsc()) != kBurstSize)
      throw std::runtime_error("the worker found no full burst");
  }

  World world_;
  FlowTraffic traffic_;
  uint64_t flows_;
  FlowOrder order_;
  RingPort port_;
  Generation generation_;
  std::atomic<const Generation *> published_ = nullptr;
  std::unique_ptr<rte_rcu_qsbr, FreeReaders> readers_;
  std::atomic<bool> stop_ = false;
  std::unique_ptr<Worker> worker_;
  uint64_t next_new_flow_ = kFirstNewFlow;
  uint64_t pair_cycles_ = tsc_pair_cycles();
};

void report_outcomes(const std::vector<Outcome> &outcomes, AddressFamily family, uint64_t flows,
                     uint64_t table_bytes, Report *report) {
  const char *family_name = family == kFamilyIpv4 ? "IPv4" : "IPv6";
  for (const Outcome &outcome : outcomes) {
    report->line({std::string(family_name) + " " + outcome.name, std::to_string(flows),
                  std::to_string(table_bytes >> 20), number(outcome.ns), number(outcome.quartile_ns),
                  number(outcome.cycles), number(outcome.ratio)},
                 {{"bench", "worker"},
                  {"family", family_name},
                  {"contestant", outcome.name},
                  {"flows", flows},
                  {"table_bytes", table_bytes},
                  {"ns_per_packet", outcome.ns},
                  {"ns_per_packet_quartile", outcome.quartile_ns},
                  {"tsc_cycles_per_packet", outcome.cycles},
                  {"ratio_to_floor", outcome.ratio}});
  }
}

}  // namespace

void bench_worker(const BenchOptions &options, Report *report) {
  const uint64_t packets = options.depth == Depth::kQuick ? 50'000 : 300'000;
  const uint64_t most_opened = options.depth == Depth::kQuick ? 50'000 : 8'000'000;
  report->section(
      "Worker loop, receive to transmit: full keys compared, 10 services, 100 backends, 65,537 slots",
      {"contestant", "flows", "table MB", "ns", "quartile ns", "TSC cycles", "of floor"});
  for (const AddressFamily family : {kFamilyIpv4, kFamilyIpv6}) {
    for (const uint64_t flows : options.flows) {
      WorldShape shape;
      shape.family = family;
      shape.connections = std::max<uint64_t>(flows, kSmallestTable);
      WorkerLoop loop(shape, flows, options.seed);
      const uint64_t opened = std::clamp<uint64_t>(flows, kFramesInFlight, most_opened);
      std::vector<Contestant> contestants = {
          {"swap link addresses (floor)", [&] { return loop.swap_addresses(packets); }},
          {"known connection", [&] { return loop.hits(packets); }},
          {"new connection, entered", [&] { return loop.new_flows(opened); }}};
      report_outcomes(interleave(contestants, options.rounds, options.tsc_hz), family, flows,
                      loop.table_bytes(), report);
    }
  }
}

}  // namespace sluice::bench
