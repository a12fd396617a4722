// A random world: services, VIPs and backends, of which each generation has another state; flows that its
// packets belong to; and the size of the connection tables.
#ifndef SLUICE_TESTS_PARITY_WORLD_H
#define SLUICE_TESTS_PARITY_WORLD_H

#include <array>
#include <cstdint>
#include <string>
#include <vector>

#include "dataplane/server/engine.h"
#include "dataplane/xdp/forwarding_program.h"
#include "tests/parity/random.h"
#include "tests/server/snapshot_builder.h"

namespace sluice {

struct WorldShape {
  uint32_t workers = 1;
  uint32_t tables = 1;  // at least `workers`; the others are of former workers
  uint32_t ipv4_buckets = 2;
  uint32_t ipv6_buckets = 2;
  FrameBuffers buffers = FrameBuffers::kOne;
};

/// One connection, as it could be: whether there is a service for it depends on the world.
struct WorldFlow {
  uint8_t family;
  uint8_t protocol;  // TCP or UDP
  std::string client;
  std::string vip;
  uint16_t client_port;
  uint16_t vip_port;
};

class World {
 public:
  explicit World(Random *random);

  const WorldShape &shape() const { return shape_; }
  const std::vector<WorldFlow> &flows() const { return flows_; }

  /// The next generation: the same services and VIPs; backends come, go, fail and drain, and next hops
  /// change.
  ForwardingTables next_generation(Random *random) const;

 private:
  struct PoolPlan {
    std::vector<uint32_t> members;  // backend identifiers
    uint32_t slots;                 // 0: as the weights say
  };
  struct ServicePlan {
    uint32_t pool;
    Scheduler scheduler;
    std::array<uint16_t, 4> timeouts_s;  // embryonic, established, closing, UDP
  };
  struct VipPlan {
    std::string address;
    std::vector<PortRange> tcp, udp;
  };

  void plan_backends(Random *random);
  void plan_services(Random *random);
  void plan_vips(Random *random);
  void plan_flows(Random *random);
  std::vector<PortRange> random_ranges(Random *random) const;
  void add_backends(Random *random, SnapshotBuilder *builder) const;
  void add_services(Random *random, const std::vector<BackendState> &states, SnapshotBuilder *builder) const;

  WorldShape shape_;
  FlowHashKey flow_hash_key_ = {};
  std::vector<std::string> backends_;  // addresses; identifiers from 1 on
  std::vector<PoolPlan> pools_;
  std::vector<ServicePlan> services_;
  std::vector<VipPlan> vips_;
  std::vector<WorldFlow> flows_;
};

}  // namespace sluice

#endif
