// Each stage of the burst alone, on bursts that the stages before it have prepared.
#include <array>

#include <rte_ethdev.h>

#include "dataplane/dpdk/pipeline.h"
#include "tools/bench/benches.h"
#include "tools/bench/ring_port.h"

namespace sluice::bench {

namespace {

using namespace pipeline_detail;

constexpr uint64_t kFlows = 10'000;

enum Stage { kReceive, kParse, kDecide, kWrite, kTransmit, kCount, kStageCount };
constexpr std::array<const char *, kStageCount> kStages = {
    "receive",  "parse, hash", "find_service, choose_backend", "check_egress, encapsulate",
    "transmit", "count"};
using StageCycles = std::array<double, kStageCount>;  // TSC cycles per packet

/// Runs the stages one after the other over all frames of a port, and times each.
class StageClock {
 public:
  explicit StageClock(const WorldShape &shape) : world_(shape), traffic_(shape) {
    for (uint64_t flow = 0; flow < kFlows; flow += kBurstSize) {
      for (const uint8_t flags : {kTcpSyn, kTcpAck}) {
        for (uint32_t i = 0; i < kBurstSize; i++) reset_frame(port_.frames()[i], traffic_, flow + i, flags);
        run_burst(world_.tables(), port_.frames().data(), kBurstSize, 0, results_);
      }
    }
  }

  /// Each stage's cost, over `bursts` bursts.
  StageCycles stages(uint32_t bursts) {
    cycles_ = {};
    over_bursts(bursts, [this] { one_burst(); });
    StageCycles per_packet = {};
    for (size_t stage = 0; stage < kStageCount; stage++) {
      per_packet[stage] = static_cast<double>(cycles_[stage]) / bursts / kBurstSize;
    }
    return per_packet;
  }

  /// The floor, timed in the same way: TSC cycles per packet.
  double swap_addresses(uint32_t bursts) {
    uint64_t cycles = 0;
    over_bursts(bursts, [&] {
      const uint64_t start = read_tsc();
      swap_burst(port_.device());
      cycles += read_tsc() - start - pair_cycles_;
    });
    return static_cast<double>(cycles) / bursts / kBurstSize;
  }

 private:
  template <typename Burst>
  void over_bursts(uint32_t bursts, Burst burst) {
    for (uint32_t done = 0; done < bursts; done += kFramesInFlight / kBurstSize) {
      for (rte_mbuf *frame : port_.frames()) reset_frame(frame, traffic_, next_flow(), kTcpAck);
      port_.offer();
      for (uint32_t i = 0; i < kFramesInFlight; i += kBurstSize) burst();
      port_.take_back();
    }
  }

  uint64_t next_flow() {
    order_ = order_ * 6364136223846793005ull + 1442695040888963407ull;
    return (order_ >> 33) % kFlows;
  }

  template <typename Work>
  void time(Stage stage, Work work) {
    const uint64_t start = read_tsc();
    work();
    cycles_[stage] += read_tsc() - start - pair_cycles_;
  }

  template <typename Work>
  void time_each(Stage stage, Work work) {
    time(stage, [&] {
      for (uint32_t i = 0; i < kBurstSize; i++) work(i);
    });
  }

  void one_burst() {
    const Tables &tables = world_.tables();
    rte_mbuf *frames[kBurstSize];
    time(kReceive, [&] { rte_eth_rx_burst(port_.device(), 0, frames, kBurstSize); });
    time_each(kParse, [&](uint32_t i) { parse_stage(tables, frames[i], &work_[i], &results_[i]); });
    time_each(kDecide, [&](uint32_t i) { decide_stage(tables, 0, &work_[i], &results_[i]); });
    time_each(kWrite, [&](uint32_t i) { write_stage(tables, frames[i], &work_[i], &results_[i]); });
    time(kTransmit, [&] { rte_eth_tx_burst(port_.device(), 0, frames, kBurstSize); });
    time_each(kCount, [&](uint32_t i) {
      count_frame(tables, results_[i], static_cast<Verdict>(results_[i].verdict));
    });
  }

  World world_;
  FlowTraffic traffic_;
  RingPort port_;
  FrameWork work_[kBurstSize];
  FrameResult results_[kBurstSize];
  std::array<uint64_t, kStageCount> cycles_ = {};
  uint64_t order_ = 1;
  uint64_t pair_cycles_ = tsc_pair_cycles();
};

void report_stage(const char *family, const char *stage, double cycles, double ratio, double tsc_hz,
                  Report *report) {
  const double ns = cycles * 1e9 / tsc_hz;
  report->line({std::string(family) + " " + stage, number(ns), number(cycles), number(ratio)},
               {{"bench", "stages"},
                {"family", family},
                {"stage", stage},
                {"ns_per_packet", ns},
                {"tsc_cycles_per_packet", cycles},
                {"ratio_to_floor", ratio}});
}

void bench_stages_of(AddressFamily family, const BenchOptions &options, Report *report) {
  const uint32_t bursts = options.depth == Depth::kQuick ? 2'000 : 20'000;
  const char *family_name = family == kFamilyIpv4 ? "IPv4" : "IPv6";
  WorldShape shape;
  shape.family = family;
  StageClock clock(shape);
  clock.stages(bursts);
  std::vector<double> floors;
  std::array<std::vector<double>, kStageCount> rounds, ratios;
  for (uint32_t round = 0; round < options.rounds; round++) {
    floors.push_back(clock.swap_addresses(bursts));
    const StageCycles cycles = clock.stages(bursts);
    for (size_t stage = 0; stage < kStageCount; stage++) {
      rounds[stage].push_back(cycles[stage]);
      ratios[stage].push_back(cycles[stage] / floors.back());
    }
  }
  report_stage(family_name, "swap link addresses (floor)", median(floors), 1, options.tsc_hz, report);
  for (size_t stage = 0; stage < kStageCount; stage++) {
    report_stage(family_name, kStages[stage], median(rounds[stage]), median(ratios[stage]), options.tsc_hz,
                 report);
  }
}

}  // namespace

void bench_stages(const BenchOptions &options, Report *report) {
  report->section("Stages, 10,000 connections, bursts of 32, the clock read around each",
                  {"stage", "ns", "TSC cycles", "of floor"});
  for (const AddressFamily family : {kFamilyIpv4, kFamilyIpv6}) bench_stages_of(family, options, report);
}

}  // namespace sluice::bench
