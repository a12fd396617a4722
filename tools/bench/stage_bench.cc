// Each stage of the burst alone, on bursts that the stages before it have prepared.
#include <array>

#include "dataplane/dpdk/pipeline.h"
#include "tools/bench/benches.h"
#include "tools/bench/ring_port.h"

namespace sluice::bench {

namespace {

using namespace pipeline_detail;

constexpr uint64_t kFlows = 10'000;
constexpr std::array<const char *, 5> kStages = {"parse", "find_service, hash", "choose_backend",
                                                 "check_egress, encapsulate", "count"};

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

  /// TSC cycles per packet of each stage, over `bursts` bursts.
  std::array<double, kStages.size()> round(uint32_t bursts) {
    std::array<uint64_t, kStages.size()> cycles = {};
    for (uint32_t burst = 0; burst < bursts; burst++) {
      rte_mbuf *const *frames = port_.frames().data() + burst * kBurstSize % kFramesInFlight;
      for (uint32_t i = 0; i < kBurstSize; i++) reset_frame(frames[i], traffic_, next_flow(), kTcpAck);
      one_burst(frames, &cycles);
    }
    std::array<double, kStages.size()> per_packet = {};
    for (size_t stage = 0; stage < kStages.size(); stage++) {
      per_packet[stage] = static_cast<double>(cycles[stage]) / bursts / kBurstSize;
    }
    return per_packet;
  }

 private:
  uint64_t next_flow() {
    order_ = order_ * 6364136223846793005ull + 1442695040888963407ull;
    return (order_ >> 33) % kFlows;
  }

  template <typename Stage>
  uint64_t time(Stage stage) {
    const uint64_t start = read_tsc();
    for (uint32_t i = 0; i < kBurstSize; i++) stage(i);
    return read_tsc() - start - pair_cycles_;
  }

  void one_burst(rte_mbuf *const *frames, std::array<uint64_t, kStages.size()> *cycles) {
    const Tables &tables = world_.tables();
    (*cycles)[0] += time([&](uint32_t i) { parse_stage(tables, frames[i], &work_[i], &results_[i]); });
    (*cycles)[1] += time([&](uint32_t i) { service_stage(tables, &work_[i], &results_[i]); });
    (*cycles)[2] += time([&](uint32_t i) { connection_stage(tables, 0, &work_[i], &results_[i]); });
    (*cycles)[3] += time([&](uint32_t i) { write_stage(tables, frames[i], &work_[i], &results_[i]); });
    (*cycles)[4] += time(
        [&](uint32_t i) { count_frame(tables, results_[i], static_cast<Verdict>(results_[i].verdict)); });
  }

  World world_;
  FlowTraffic traffic_;
  RingPort port_;
  FrameWork work_[kBurstSize];
  FrameResult results_[kBurstSize];
  uint64_t order_ = 1;
  uint64_t pair_cycles_ = tsc_pair_cycles();
};

}  // namespace

void bench_stages(const BenchOptions &options, Report *report) {
  const uint32_t bursts = options.depth == Depth::kQuick ? 2'000 : 20'000;
  report->section("Stages, 10,000 connections, bursts of 32", {"stage", "ns", "TSC cycles"});
  for (const AddressFamily family : {kFamilyIpv4, kFamilyIpv6}) {
    const char *family_name = family == kFamilyIpv4 ? "IPv4" : "IPv6";
    WorldShape shape;
    shape.family = family;
    StageClock clock(shape);
    clock.round(bursts);
    std::array<std::vector<double>, kStages.size()> rounds;
    for (uint32_t round = 0; round < options.rounds; round++) {
      const auto cycles = clock.round(bursts);
      for (size_t stage = 0; stage < kStages.size(); stage++) rounds[stage].push_back(cycles[stage]);
    }
    for (size_t stage = 0; stage < kStages.size(); stage++) {
      const double cycles = median(rounds[stage]);
      report->line({std::string(family_name) + " " + kStages[stage], number(cycles * 1e9 / options.tsc_hz),
                    number(cycles)},
                   {{"bench", "stages"},
                    {"family", family_name},
                    {"stage", kStages[stage]},
                    {"ns_per_packet", cycles * 1e9 / options.tsc_hz},
                    {"tsc_cycles_per_packet", cycles}});
    }
  }
}

}  // namespace sluice::bench
