// An engine over DPDK's rings, with its regions: tests put frames in at one end and take them out at
// the other.
#ifndef SLUICE_TESTS_DPDK_ENGINE_FIXTURE_H
#define SLUICE_TESTS_DPDK_ENGINE_FIXTURE_H

#include <chrono>
#include <filesystem>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include <gtest/gtest.h>
#include <rte_config.h>
#include <rte_mbuf.h>
#include <rte_ring.h>
#include <unistd.h>

#include "dataplane/dpdk/engine.h"
#include "dataplane/server/snapshot_store.h"
#include "tests/dpdk/frames.h"
#include "tests/server/snapshot_builder.h"

namespace sluice {

/// Waits, generously, until `condition` holds.
template <typename Condition>
bool eventually(Condition condition) {
  auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(20);
  while (!condition()) {
    if (std::chrono::steady_clock::now() > deadline) return false;
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
  return true;
}

/// Egress records as the server would make them: every backend's next hop is known, behind `port`.
std::vector<Egress> ready_egress(const MappedSnapshot &snapshot, uint16_t port);

/// Counter and connection regions for an engine, in a directory of their own.
class Regions {
 public:
  explicit Regions(uint32_t workers);
  ~Regions();
  Regions(const Regions &) = delete;
  Regions &operator=(const Regions &) = delete;

  /// Closes the regions and opens them again, as a restart does: counters are new, connections stay.
  void reopen();

  CounterRegion &counters() { return *counters_; }
  ConnectionRegion &connections() { return *connections_; }
  const std::filesystem::path &directory() const { return directory_; }

 private:
  uint32_t workers_;
  std::filesystem::path directory_;
  std::unique_ptr<CounterRegion> counters_;
  std::unique_ptr<ConnectionRegion> connections_;
};

/// A DPDK device whose receive and transmit queues are rings that the test holds.
class RingDevice {
 public:
  struct Sizes {
    uint32_t receive = 4096;
    uint32_t transmit = 4096;
  };
  RingDevice(const std::string &name, Sizes sizes);
  RingDevice(const RingDevice &) = delete;
  RingDevice &operator=(const RingDevice &) = delete;
  ~RingDevice();

  /// Puts one frame where a worker receives it. False when the ring is full.
  bool send(const FrameBytes &frame);
  /// The frames that workers have transmitted so far.
  std::vector<FrameBytes> take_transmitted();
  /// Buffers that are not in use: all of them once everything has been taken out.
  uint32_t free_buffers() const { return rte_mempool_avail_count(pool_); }

 private:
  rte_mempool *pool_;
  rte_ring *receive_;
  rte_ring *transmit_;
};

/// Sum of a verdict's counter over the workers.
uint64_t verdict_count(const CounterRegion &counters, Verdict verdict);
/// Sum of all verdicts over the workers.
uint64_t all_verdicts(const CounterRegion &counters);
/// Frames received over the workers.
uint64_t received_packets(const CounterRegion &counters);

/// A snapshot with its egress, as the server installs it.
std::shared_ptr<const ForwardingTables> make_tables(const SnapshotBuilder &builder, uint16_t port = 0);
/// Expects that it succeeds.
void install(Engine *engine, std::shared_ptr<const ForwardingTables> tables);

}  // namespace sluice

#endif
