// The DPDK engine: ports, workers and the generation that they decide by, behind the server's Engine.
#ifndef SLUICE_DPDK_ENGINE_H
#define SLUICE_DPDK_ENGINE_H

#include <atomic>
#include <memory>
#include <string>
#include <vector>

#include <rte_config.h>
#include <rte_mempool.h>
#include <rte_rcu_qsbr.h>
#include <rte_ring.h>

#include "dataplane/dpdk/frame_pool.h"
#include "dataplane/dpdk/kernel_interface.h"
#include "dataplane/dpdk/port.h"
#include "dataplane/dpdk/preflight.h"
#include "dataplane/dpdk/worker.h"
#include "dataplane/server/connection_region.h"
#include "dataplane/server/engine.h"
#include "dataplane/server/interface_settings.h"
#include "dataplane/server/shared_memory.h"

namespace sluice {

/// What becomes of the ports' tap interfaces when the engine stops.
enum class KernelInterfacesAtStop { kKeep, kRemove };

struct DpdkEngineOptions {
  std::vector<PortOptions> ports;
  uint16_t workers = 1;  // lcores 1 to `workers` of the EAL run them
  IdlePolicy idle = IdlePolicy::kPoll;
  KernelInterfacesAtStop kernel_interfaces = KernelInterfacesAtStop::kKeep;
  std::string memory_explanation;  // of Eal, for the preflight report
  std::string core_explanation;    // of CorePlan
};

/// How many MB of DPDK memory ports and workers will need, before the devices can be asked. Generous.
size_t estimate_memory_mb(const std::vector<PortOptions> &ports, uint16_t workers);

/// How many workers serve these ports when nobody says: as many as the port with most queues has, as far as
/// there are cores.
uint16_t default_worker_count(const std::vector<PortOptions> &ports, size_t cores);

/// Needs a started EAL. Created with its ports up and its workers not yet running, so that a snapshot
/// can be installed before the first packet.
class DpdkEngine : public Engine {
 public:
  /// `counters` and `connections` have at least options.workers parts, and outlive the engine.
  /// Errors: as Port::probe, KernelInterface::open; or not enough memory.
  static Result<std::unique_ptr<DpdkEngine>> create(const DpdkEngineOptions &options,
                                                    const CounterRegion *counters,
                                                    const ConnectionRegion *connections);

  DpdkEngine(const DpdkEngine &) = delete;
  DpdkEngine &operator=(const DpdkEngine &) = delete;
  /// Stops the workers, closes the ports.
  ~DpdkEngine() override;

  /// Starts the workers. Errors: an lcore that is busy. Without it, what the kernel has is put back as it
  /// was: addresses, routes and taps.
  Status start();
  /// Stops the workers and waits for them; frames on their way between workers are freed.
  void stop();

  std::string name() const override { return "dpdk"; }
  std::vector<EnginePort> ports() const override;
  Status install(std::shared_ptr<const ForwardingTables> tables) override;
  void merge_active_connections() override;
  nlohmann::json status() const override;

  const Preflight &preflight() const { return preflight_; }
  /// What `worker` was last told of the other workers' active connections. With several workers.
  uint32_t others_active(uint16_t worker, uint16_t backend) const { return others_active_[worker][backend]; }

 private:
  struct Deleter {
    void operator()(rte_ring *ring) const { rte_ring_free(ring); }
    void operator()(rte_rcu_qsbr *readers) const;
  };
  enum class State { kStopped, kRunning };

  DpdkEngine(const DpdkEngineOptions &options, const CounterRegion *counters,
             const ConnectionRegion *connections)
      : options_(options), counters_(counters), connections_(connections) {}

  Status open_ports();
  Status create_pool();
  Status create_inboxes();
  Status create_readers();
  Status open_kernel_interfaces();
  void create_workers();
  WorkerSetup worker_setup(uint16_t index);
  Tables worker_tables(uint16_t index);
  void write_preflight();
  nlohmann::json worker_status(uint16_t index) const;

  DpdkEngineOptions options_;
  const CounterRegion *counters_;
  const ConnectionRegion *connections_;
  State state_ = State::kStopped;
  enum class Started { kNo, kYes } started_ = Started::kNo;  // ever
  // Destroyed from the last to the first: workers before what they use, devices before their buffers.
  std::unique_ptr<rte_rcu_qsbr, Deleter> readers_;
  FramePool pool_;
  std::vector<std::unique_ptr<rte_ring, Deleter>> inboxes_;  // one per worker when a port is steered
  std::vector<std::unique_ptr<Port>> ports_;
  std::vector<std::unique_ptr<KernelInterface>> kernel_interfaces_;  // by port; null: none
  std::vector<SettingsMove> moves_;                                  // to them, kept by start()
  std::vector<std::vector<ConnectionTable>> peers_;                  // by worker
  std::vector<std::vector<uint32_t>> others_active_;                 // by worker, by backend
  std::vector<uint32_t> active_sum_;                                 // scratch of merge_active_connections
  std::unique_ptr<const Generation> generation_;
  std::atomic<const Generation *> current_generation_ = nullptr;  // what workers read
  std::atomic<bool> stop_workers_ = false;
  std::vector<std::unique_ptr<Worker>> workers_;
  Preflight preflight_;
};

}  // namespace sluice

#endif
