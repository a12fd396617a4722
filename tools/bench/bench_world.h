// What the packet benches run against: services, backends, slots and connection tables as the
// dataplane would have them, and packets of their flows.
#ifndef SLUICE_BENCH_WORLD_H
#define SLUICE_BENCH_WORLD_H

#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "dataplane/server/memory_tables.h"

namespace sluice::bench {

/// A zeroed, page-aligned array in transparent huge pages where the kernel gives them.
template <typename T>
class BigArray {
 public:
  explicit BigArray(uint64_t count);
  ~BigArray();
  BigArray(const BigArray &) = delete;
  BigArray &operator=(const BigArray &) = delete;

  T *data() { return data_; }
  uint64_t count() const { return count_; }
  void clear();  // all zeros again

 private:
  uint64_t count_;
  T *data_;
};

/// The shape of a world.
struct WorldShape {
  AddressFamily family = kFamilyIpv4;  // of clients, VIPs and backends
  uint64_t connections = 1 << 20;      // that the table is sized for: at most at 85% load
  uint32_t services = 10;
  uint32_t backends = 100;
  Scheduler scheduler = kSchedulerMaglev;
};

/// One worker's tables, filled: `services` VIPs with port 80 each, sharing one pool of `backends`.
class World {
 public:
  explicit World(const WorldShape &shape);

  const Tables &tables() const { return tables_; }
  Tables &tables() { return tables_; }
  const WorldShape &shape() const { return shape_; }
  /// Size of one table entry's array, in bytes.
  uint64_t connection_bytes() const { return buckets_.count() * sizeof(ConnectionBucket); }
  void clear_connections();
  /// The world but for its connections and egress records, as a snapshot that check_snapshot accepts.
  std::vector<std::byte> snapshot() const;

 private:
  void add_backends();
  void add_services();

  WorldShape shape_;
  FlowHashKey key_{};
  std::vector<Vip> vips_;
  std::vector<PortRange> ranges_;
  std::vector<Service> services_;
  std::vector<Backend> backends_;
  std::vector<Egress> egress_;
  std::vector<uint16_t> slots_;
  BigArray<ConnectionBucket> buckets_;
  ConnectionBucket spare_bucket_{};  // the other family's table
  uint32_t adoption_budgets_[kAdoptionLimitCount] = {};
  DisplacementPath displacement_path_ = {};
  WorkerCounters worker_{};
  std::vector<BackendCounters> backend_counters_;
  std::vector<TrafficCounters> service_counters_;
  Tables tables_;
};

/// Frames of the flows of a world: an Ethernet, IP and TCP header and payload up to 60 bytes (IPv4) or
/// 78 (IPv6). Flow n is the same flow each time.
class FlowTraffic {
 public:
  explicit FlowTraffic(const WorldShape &shape);

  uint32_t frame_size() const { return frame_size_; }
  /// Writes a frame of flow `flow` (< 2^32) with the TCP flags.
  void write(uint8_t *frame, uint64_t flow, uint8_t tcp_flags) const;

 private:
  AddressFamily family_;
  uint32_t services_;
  uint32_t frame_size_;
  uint8_t template_[96];
};

/// The address of service `index`, as clients reach it.
Address vip_address(AddressFamily family, uint32_t index);

}  // namespace sluice::bench

#endif
