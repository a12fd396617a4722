// The benches that main.cc runs, each in its own file.
#ifndef SLUICE_BENCH_BENCHES_H
#define SLUICE_BENCH_BENCHES_H

#include <cstdint>
#include <vector>

#include "tools/bench/harness.h"

namespace sluice::bench {

enum class Depth { kQuick, kFull };

struct BenchOptions {
  Depth depth = Depth::kFull;
  uint32_t rounds = 15;
  std::vector<uint64_t> flows;     // connection counts of the packet benches
  uint64_t connections = 1 << 20;  // that the XDP bench's table is sized for, unless there are more flows
  uint64_t seed = 1;
  double tsc_hz = 0;
  uint32_t core = 0;  // that the calling thread is bound to
};

/// The DPDK worker's whole loop, against one that receives, swaps link addresses and transmits, without a
/// worker's counters and clocks. Needs the EAL.
void bench_worker(const BenchOptions &options, Report *report);

/// Each stage of the burst alone, and receiving and transmitting, against the same floor. Needs the EAL.
void bench_stages(const BenchOptions &options, Report *report);

/// The XDP engine's program, hits and misses, against the empty program. Needs root.
void bench_xdp(const BenchOptions &options, Report *report);

void bench_maglev(const BenchOptions &options, Report *report);
void bench_balance(const BenchOptions &options, Report *report);

/// Health checks of 10,000 backends. Needs root.
void bench_health(const BenchOptions &options, Report *report);

/// Passive health's looks at as many backends as there can be.
void bench_passive(const BenchOptions &options, Report *report);

}  // namespace sluice::bench

#endif
