// A DPDK port that costs next to nothing: two rings (net_ring), with a few hundred frames going round.
#ifndef SLUICE_BENCH_RING_PORT_H
#define SLUICE_BENCH_RING_PORT_H

#include <cstdint>
#include <span>
#include <vector>

#include <rte_config.h>
#include <rte_mbuf.h>
#include <rte_ring.h>

#include "tools/bench/bench_world.h"

namespace sluice::bench {

constexpr uint32_t kFramesInFlight = 256;

/// The port, and the frames that circulate. What the port transmits comes back through `take_back`.
class RingPort {
 public:
  /// Throws std::runtime_error. One at a time.
  RingPort();
  ~RingPort();
  RingPort(const RingPort &) = delete;
  RingPort &operator=(const RingPort &) = delete;

  uint16_t device() const { return device_; }

  /// All frames, for the caller to fill. They must be out of the rings.
  std::span<rte_mbuf *const> frames() const { return frames_; }
  /// Puts all frames before the port, to be received.
  void offer();
  /// Takes the frames that were transmitted off the port. Throws when one is missing.
  void take_back();

 private:
  rte_mempool *pool_ = nullptr;
  rte_ring *receive_ = nullptr;
  rte_ring *transmit_ = nullptr;
  uint16_t device_ = 0;
  std::vector<rte_mbuf *> frames_;
};

/// The floor: receives a burst of 32, swaps the frames' link addresses, transmits them.
void swap_burst(uint16_t device);

/// Makes a frame what it is when it comes from the wire: flow `flow`'s, at its usual headroom.
void reset_frame(rte_mbuf *mbuf, const FlowTraffic &traffic, uint64_t flow, uint8_t tcp_flags);

}  // namespace sluice::bench

#endif
