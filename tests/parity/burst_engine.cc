// The DPDK worker's burst, over real mbufs and without a port; tests/dpdk has whole workers.
#include <filesystem>
#include <stdexcept>

#include <rte_eal.h>
#include <rte_errno.h>
#include <rte_mbuf.h>
#include <unistd.h>

#include "dataplane/dpdk/pipeline.h"
#include "tests/parity/memory_engine.h"

namespace sluice {
namespace {

constexpr uint16_t kDataRoom = 10240;  // bytes: any frame in one piece

/// The EAL is started once for the process, with a pool of mbufs.
rte_mempool *mbuf_pool() {
  static rte_mempool *pool = [] {  // NOLINT(cppcoreguidelines-avoid-non-const-global-variables)
    const std::string prefix = "sluice-parity-" + std::to_string(getpid());
    const char *arguments[] = {"parity",         "--no-huge",   "--no-pci", "--no-shconf", "--file-prefix",
                               prefix.c_str(),   "-m",          "64",       "--lcores",    "0",
                               "--no-telemetry", "--log-level", "error"};
    if (rte_eal_init(static_cast<int>(std::size(arguments)), const_cast<char **>(arguments)) < 0)
      throw std::runtime_error(std::string("the EAL did not start: ") + rte_strerror(rte_errno));
    // Nothing else will attach to this process: leave nothing behind.
    std::filesystem::remove_all(rte_eal_get_runtime_dir());
    rte_mempool *made = rte_pktmbuf_pool_create("parity", 4 * kBurstSize, 0, 0,
                                                kDataRoom + RTE_PKTMBUF_HEADROOM, SOCKET_ID_ANY);
    if (!made) throw std::runtime_error("no memory for mbufs");
    return made;
  }();
  return pool;
}

rte_mbuf *mbuf_of(const Bytes &bytes) {
  rte_mbuf *mbuf = rte_pktmbuf_alloc(mbuf_pool());
  if (!mbuf) throw std::runtime_error("out of mbufs");
  char *data = rte_pktmbuf_append(mbuf, static_cast<uint16_t>(bytes.size()));
  if (!data) throw std::runtime_error("a frame of " + std::to_string(bytes.size()) + " bytes has no room");
  if (!bytes.empty()) std::memcpy(data, bytes.data(), bytes.size());
  return mbuf;
}

/// A call that the compiler does not see through, as the worker's count is not known to it either.
[[gnu::noinline]] BurstResult decide_burst(const Tables &tables, rte_mbuf *const *frames, uint32_t count,
                                           uint32_t now_s, FrameResult *results) {
  return run_burst(tables, frames, count, now_s, results);
}

Outcome outcome_of(const FrameResult &result, const rte_mbuf *mbuf) {
  Outcome outcome;
  outcome.verdict = result.verdict;
  const VerdictClass kind = verdict_class(static_cast<Verdict>(result.verdict));
  if (kind == kVerdictClassForward) {
    outcome.backend = result.backend;
    outcome.service = result.service;
  }
  if (kind == kVerdictClassPass) {
    outcome.way = Way::kToKernel;
  } else if (result.port == kArrivalPort) {
    outcome.way = Way::kBack;
  } else if (result.port != kNoPort) {
    outcome.way = way_by_port(result.port);
  }
  if (outcome.way == Way::kNowhere) return outcome;
  const auto *data = rte_pktmbuf_mtod(mbuf, const uint8_t *);
  outcome.out.assign(data, data + mbuf->pkt_len);
  return outcome;
}

/// The port by which all of a burst is forwarded, or kNoPort.
uint16_t common_port_of(std::span<const FrameResult> results) {
  const uint16_t port = results[0].port;
  for (const FrameResult &result : results)
    if (result.port != port || port == kArrivalPort) return kNoPort;
  return port;
}

class BurstEngine : public MemoryEngine {
 public:
  using MemoryEngine::MemoryEngine;
  std::string name() const override { return "DPDK"; }

  std::vector<Outcome> run(uint32_t worker, uint32_t now_s, std::span<const Bytes> frames) override {
    const Tables &tables = tables_of(worker);
    rte_mbuf *mbufs[kBurstSize];
    FrameResult results[kBurstSize];
    const auto count = static_cast<uint32_t>(frames.size());
    for (uint32_t i = 0; i < count; i++) mbufs[i] = mbuf_of(frames[i]);
    const BurstResult burst = decide_burst(tables, mbufs, count, now_s, results);
    if (burst.common_port != common_port_of({results, count}))
      throw std::runtime_error("run_burst says another common port than its frames have");

    std::vector<Outcome> outcomes;
    counters_of(worker).received_packets += count;
    counters_of(worker).received_bytes += burst.received_bytes;
    for (uint32_t i = 0; i < count; i++) {
      outcomes.push_back(outcome_of(results[i], mbufs[i]));
      count_frame(tables, results[i], static_cast<Verdict>(results[i].verdict));
      count_transmitted(worker, outcomes.back());
      rte_pktmbuf_free(mbufs[i]);
    }
    return outcomes;
  }

  void sweep(uint32_t worker, uint32_t now_s) override {
    sweep_buckets(tables_of(worker), &sweep_cursor(worker), kXdpSweepBuckets, now_s);
  }
};

}  // namespace

std::unique_ptr<ParityEngine> make_burst_engine(const WorldShape &shape) {
  return std::make_unique<BurstEngine>(shape);
}

}  // namespace sluice
