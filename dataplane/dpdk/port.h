// A logical port: one or several DPDK devices, configured and started, with the queues that workers use.
#ifndef SLUICE_DPDK_PORT_H
#define SLUICE_DPDK_PORT_H

#include <array>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include <rte_config.h>
#include <rte_mempool.h>
#include <rte_spinlock.h>

#include "dataplane/abi/result.h"
#include "dataplane/server/port_options.h"

namespace sluice {

/// A queue of a DPDK device.
struct DeviceQueue {
  uint16_t device;  // DPDK's port identifier
  uint16_t queue;
};

/// Where one worker transmits to a port. `lock` is null when the queue is the worker's own.
struct TransmitQueue {
  DeviceQueue queue = {};
  rte_spinlock_t *lock = nullptr;
};

/// What was found of a port and chosen for it, for people and for the wiring.
struct PortReport {
  std::string name;
  std::string driver;
  std::vector<std::string> devices;  // DPDK's names
  std::string mac;
  uint16_t mtu = 0;  // bytes of IP packet
  uint16_t receive_queues = 0;
  uint16_t transmit_queues = 0;
  uint16_t receive_descriptors = 0;
  uint16_t transmit_descriptors = 0;
  int numa_node = -1;  // -1: none
  bool steered = false;
  std::string spread;                 // how packets come to workers, and why
  std::vector<std::string> offloads;  // in use
  std::vector<std::string> notes;     // what else was chosen or should be known, and why
  std::vector<std::string> warnings;  // what an operator should change
};

/// What every port of an engine shares.
struct PortEnvironment {
  uint16_t worker_count = 1;
  bool sleeps_when_idle = false;
};

/// Probed, not yet configured: the devices are known to DPDK, memory is not allocated.
class Port {
 public:
  /// Creates the devices (or finds those that exist) and decides on queues, MTU and steering.
  /// Errors: name the field and say what to do (driver not bound, interface missing, MTU too large, ...).
  static Result<std::unique_ptr<Port>> probe(const PortOptions &options, const PortEnvironment &environment);

  Port(const Port &) = delete;
  Port &operator=(const Port &) = delete;
  /// Stops and closes the devices; removes those that `probe` created.
  ~Port();

  /// mbufs that the port's queues hold when full.
  uint32_t buffers_needed() const;

  /// Configures the devices with buffers from `pool` and starts them.
  Status start(rte_mempool *pool);

  /// The queues that `worker` polls.
  std::vector<DeviceQueue> receive_queues(uint16_t worker) const;
  /// Where `worker` transmits.
  TransmitQueue transmit_queue(uint16_t worker);

  const PortOptions &options() const { return options_; }
  bool is_af_xdp() const;
  const PortReport &report() const { return report_; }
  std::array<uint8_t, 6> mac() const { return mac_; }

 private:
  struct Device {
    uint16_t id;
    bool created;  // by this port, which removes it again
    uint16_t receive_queues = 1;
    uint16_t transmit_queues = 1;
    uint64_t rss_functions = 0;  // RTE_ETH_RSS_*, 0: none
    uint64_t transmit_offloads = 0;
  };

  explicit Port(PortOptions options) : options_(std::move(options)) {}
  Status create_devices(const PortEnvironment &environment);
  Status attach(const DeviceOptions &device, const std::string &name);
  Status plan(const PortEnvironment &environment);
  Status plan_device(Device *device, const PortEnvironment &environment);
  Status plan_mtu();
  uint16_t descriptors(uint16_t preferred) const;
  void plan_steering(const PortEnvironment &environment);
  void look_at_interface(const PortEnvironment &environment);
  Status configure(const Device &device, rte_mempool *pool);
  Status set_device_mtu(const Device &device, uint16_t mtu);

  PortOptions options_;
  std::vector<Device> devices_;
  std::vector<DeviceQueue> receive_;
  std::vector<DeviceQueue> transmit_;
  std::unique_ptr<rte_spinlock_t[]> locks_;  // one per transmit queue
  uint16_t worker_count_ = 1;
  std::array<uint8_t, 6> mac_ = {};
  PortReport report_;
};

}  // namespace sluice

#endif
