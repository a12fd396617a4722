// What the server and an engine know of each other. The server owns the control socket, the snapshot
// store, the neighbours and the shared memory; an engine moves packets.
#ifndef SLUICE_SERVER_ENGINE_H
#define SLUICE_SERVER_ENGINE_H

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include <nlohmann/json_fwd.hpp>

#include "dataplane/abi/egress.h"
#include "dataplane/abi/result.h"
#include "dataplane/abi/snapshot.h"

namespace sluice {

class MappedSnapshot;  // dataplane/server/snapshot_store.h: a checked snapshot in memory

/// Everything that packets are decided by, as one immutable generation: a packet sees all of it or
/// none of it. `egress` has one record per record of the snapshot's backends section.
struct ForwardingTables {
  std::shared_ptr<const MappedSnapshot> snapshot;
  std::vector<Egress> egress;
};

/// A logical port as the neighbours need it: packets whose route leaves by `kernel_ifindex` leave by
/// the engine's port `index`.
struct EnginePort {
  uint16_t index;           // what Egress::port carries
  uint32_t kernel_ifindex;  // the interface that the kernel's routes name (DPDK: the port's tap)
  uint16_t mtu;             // bytes of IP packet that the port takes

  bool operator==(const EnginePort &) const = default;
};

/// One packet engine. Called from the server's thread only.
class Engine {
 public:
  virtual ~Engine() = default;

  /// "dpdk" or "xdp".
  virtual std::string name() const = 0;

  virtual std::vector<EnginePort> ports() const = 0;

  /// Looks at the ports' interfaces again. kAtChanges: after interfaces of the kernel's have come, gone or
  /// got another name or MTU; one that could not be taken and is as it was then is not tried again. kAtAll:
  /// now and then; it is, for what was in its way need not have been an interface.
  enum class Look { kAtChanges, kAtAll };
  enum class Links { kSame, kChanged };  // changed: ports() says other things than before
  [[nodiscard]] virtual Links follow_links(Look /*look*/) { return Links::kSame; }

  /// Makes sure that the tables of `snapshot` can be installed; called before. Errors: they do not fit, and
  /// the message says which.
  [[nodiscard]] virtual Status make_room(const std::shared_ptr<const MappedSnapshot> & /*snapshot*/) {
    return Done{};
  }

  /// Makes `tables` what every packet sees from now on. Returns when no worker can still read the
  /// tables of before, so that the caller's last reference frees them. On an error those stay in force.
  [[nodiscard]] virtual Status install(std::shared_ptr<const ForwardingTables> tables) = 0;

  /// Sums every backend's active connections over the workers into the array that least-connection
  /// schedulers read (merge_active_connections in dataplane/server/shared_memory.h does it). Called
  /// every few milliseconds while a service with that scheduler is installed.
  virtual void merge_active_connections() = 0;

  /// Ports with the preflight's findings, workers, memory: for `sluicectl status`.
  virtual nlohmann::json status() const = 0;
};

}  // namespace sluice

#endif
