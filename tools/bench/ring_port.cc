#include "tools/bench/ring_port.h"

#include <stdexcept>
#include <string>
#include <utility>

#include <rte_errno.h>
#include <rte_eth_ring.h>
#include <rte_ethdev.h>
#include <rte_ether.h>
#include <rte_malloc.h>

#include "dataplane/dpdk/pipeline.h"

namespace sluice::bench {

namespace {

constexpr uint32_t kRingSize = 1024;
constexpr uint16_t kDescriptors = 512;

void require(bool condition, const std::string &what) {
  if (!condition) throw std::runtime_error("ring port: " + what + ": " + rte_strerror(rte_errno));
}

}  // namespace

RingPort::RingPort() : frames_(kFramesInFlight) {
  pool_ = rte_pktmbuf_pool_create("bench", 1023, 0, 0, RTE_MBUF_DEFAULT_BUF_SIZE, SOCKET_ID_ANY);
  require(pool_ != nullptr, "no memory for frames");
  receive_ = rte_ring_create("bench-rx", kRingSize, SOCKET_ID_ANY, RING_F_SP_ENQ | RING_F_SC_DEQ);
  transmit_ = rte_ring_create("bench-tx", kRingSize, SOCKET_ID_ANY, RING_F_SP_ENQ | RING_F_SC_DEQ);
  require(receive_ && transmit_, "no memory for rings");
  const int device = rte_eth_from_rings("bench", &receive_, 1, &transmit_, 1, 0);
  require(device >= 0, "no device");
  device_ = static_cast<uint16_t>(device);
  const rte_eth_conf configuration = {};
  require(rte_eth_dev_configure(device_, 1, 1, &configuration) == 0, "not configured");
  require(rte_eth_rx_queue_setup(device_, 0, kDescriptors, 0, nullptr, pool_) == 0, "no receive queue");
  require(rte_eth_tx_queue_setup(device_, 0, kDescriptors, 0, nullptr) == 0, "no transmit queue");
  require(rte_eth_dev_start(device_) == 0, "not started");
  require(rte_pktmbuf_alloc_bulk(pool_, frames_.data(), kFramesInFlight) == 0, "no frames");
}

RingPort::~RingPort() {
  rte_pktmbuf_free_bulk(frames_.data(), kFramesInFlight);
  rte_eth_dev_info info = {};
  rte_eth_dev_info_get(device_, &info);
  rte_eth_dev_stop(device_);
  rte_dev_remove(info.device);
  rte_ring_free(receive_);
  rte_ring_free(transmit_);
  rte_mempool_free(pool_);
}

void RingPort::offer() {
  require(rte_ring_sp_enqueue_bulk(receive_, reinterpret_cast<void **>(frames_.data()), kFramesInFlight,
                                   nullptr) == kFramesInFlight,
          "the receive ring is full");
}

void RingPort::take_back() {
  require(rte_ring_sc_dequeue_bulk(transmit_, reinterpret_cast<void **>(frames_.data()), kFramesInFlight,
                                   nullptr) == kFramesInFlight,
          "frames were not transmitted");
}

void swap_burst(uint16_t device) {
  rte_mbuf *frames[kBurstSize];
  const uint16_t count = rte_eth_rx_burst(device, 0, frames, kBurstSize);
  for (uint16_t i = 0; i < count; i++) rte_prefetch0(rte_pktmbuf_mtod(frames[i], void *));
  for (uint16_t i = 0; i < count; i++) {
    auto *header = rte_pktmbuf_mtod(frames[i], rte_ether_hdr *);
    std::swap(header->src_addr, header->dst_addr);
  }
  rte_eth_tx_burst(device, 0, frames, count);
}

void reset_frame(rte_mbuf *mbuf, const FlowTraffic &traffic, uint64_t flow, uint8_t tcp_flags) {
  mbuf->data_off = RTE_PKTMBUF_HEADROOM;
  mbuf->data_len = static_cast<uint16_t>(traffic.frame_size());
  mbuf->pkt_len = traffic.frame_size();
  traffic.write(rte_pktmbuf_mtod(mbuf, uint8_t *), flow, tcp_flags);
}

}  // namespace sluice::bench
