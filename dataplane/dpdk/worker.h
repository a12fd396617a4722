// One worker: one core, its queues, its connection table. Receives bursts, has them decided, and sends
// each frame where its verdict says. Run to completion; no locks but on shared transmit queues.
#ifndef SLUICE_DPDK_WORKER_H
#define SLUICE_DPDK_WORKER_H

#include <atomic>
#include <cstdint>
#include <vector>

#include <rte_config.h>
#include <rte_mempool.h>
#include <rte_rcu_qsbr.h>
#include <rte_ring.h>

#include "dataplane/dpdk/generation.h"
#include "dataplane/dpdk/pipeline.h"
#include "dataplane/dpdk/port.h"
#include "dataplane/server/memory_tables.h"

namespace sluice {

enum class IdlePolicy { kPoll, kSleep };

/// A logical port as one worker uses it.
struct WorkerPort {
  std::vector<DeviceQueue> receive;  // polled by this worker
  TransmitQueue transmit;
  int kernel_fd = -1;    // this worker's queue of the port's tap; -1: none
  bool steered = false;  // frames go to the worker that owns their flow
};

/// What a worker is given. All of it is owned by the engine and outlives the worker.
struct WorkerSetup {
  uint32_t index = 0;  // also its place in the counter and connection regions
  IdlePolicy idle = IdlePolicy::kPoll;
  std::vector<WorkerPort> ports;    // by logical port index
  std::vector<rte_ring *> inboxes;  // one per worker: frames steered to it; empty when no port is steered
  rte_mempool *pool = nullptr;      // for frames from the kernel
  Tables tables;                    // own fields filled: connection tables, counters, adoption budget aside
  const std::atomic<const Generation *> *generation = nullptr;  // null inside: no snapshot yet
  rte_rcu_qsbr *readers = nullptr;
  const std::atomic<bool> *stop = nullptr;
};

/// Written by the worker, read by its own thread only, but for the counters in shared memory.
class alignas(64) Worker {
 public:
  explicit Worker(WorkerSetup setup);

  Worker(const Worker &) = delete;
  Worker &operator=(const Worker &) = delete;

  /// Works until told to stop. On the worker's own core.
  void run();

  /// One look at everything that can bring frames, at most a burst of each. Returns how many there were.
  uint32_t iterate(uint64_t now_tsc);

  const WorkerSetup &setup() const { return setup_; }

 private:
  // Frames of one burst that leave by one port.
  struct TransmitBatch {
    uint32_t count = 0;
    rte_mbuf *frames[kBurstSize];
    FrameResult results[kBurstSize];
  };
  // Frames of one burst for another worker.
  struct SteerBatch {
    uint32_t count = 0;
    rte_mbuf *frames[kBurstSize];
  };

  void take_current_generation();
  uint32_t poll_port(uint16_t port);
  uint32_t poll_inbox();
  uint32_t poll_kernel(uint16_t port);
  uint64_t steer(rte_mbuf **frames, uint32_t *count, uint16_t port);
  void hand_over(uint32_t owner);
  uint64_t process(rte_mbuf **frames, uint32_t count, uint16_t port);
  uint64_t pass_all(rte_mbuf **frames, uint32_t count, uint16_t port);
  void dispatch(rte_mbuf **frames, FrameResult *results, uint32_t count, uint16_t port);
  void add_to_batch(rte_mbuf *frame, const FrameResult &result);
  void transmit_frames(uint16_t port, rte_mbuf **frames, const FrameResult *results, uint32_t count,
                       uint64_t bytes);
  void pass_to_kernel(rte_mbuf *frame, const FrameResult &result, uint16_t port);
  uint32_t transmit(const TransmitQueue &to, rte_mbuf **frames, uint32_t count);
  void tick(uint64_t now_tsc);
  void rest(uint64_t now_tsc);

  WorkerSetup setup_;
  Tables tables_;
  uint64_t generation_serial_ = 0;  // what tables_ was last filled from; 0: nothing yet
  uint32_t now_s_ = 0;              // CLOCK_BOOTTIME
  uint32_t adoption_budgets_[kAdoptionLimitCount] = {};
  uint32_t icmp_reply_budget_ = 0;
  uint32_t displacement_budget_ = 0;
  DisplacementPath displacement_path_ = {};
  uint32_t kernel_budget_ = 0;
  uint32_t sweep_cursor_ = 0;
  uint32_t sweep_count_ = 1;  // buckets per tick
  uint64_t next_tick_tsc_ = 0;
  uint64_t next_kernel_poll_tsc_ = 0;
  uint64_t last_found_tsc_ = 0;
  uint64_t tick_cycles_;
  uint64_t kernel_poll_cycles_;
  uint64_t patience_cycles_;                     // without frames before the first sleep
  uint32_t sleep_ns_ = 0;                        // the next sleep's length
  std::vector<TransmitBatch> transmit_batches_;  // by logical port
  std::vector<SteerBatch> steer_batches_;        // by worker
};

}  // namespace sluice

#endif
