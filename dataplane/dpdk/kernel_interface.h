// The kernel exception path of one port: a tap interface with the port's MAC address. What is not for
// a VIP goes up through it, and what the kernel answers comes down.
#ifndef SLUICE_DPDK_KERNEL_INTERFACE_H
#define SLUICE_DPDK_KERNEL_INTERFACE_H

#include <array>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "dataplane/abi/result.h"
#include "dataplane/server/unique_fd.h"

namespace sluice {

/// What the tap interface is to be.
struct KernelInterfaceOptions {
  std::string name;
  std::array<uint8_t, 6> mac = {};  // all zero: the kernel's choice
  uint16_t mtu = 1500;              // bytes of IP packet
  uint16_t queues = 1;              // one per worker
};

/// A persistent multi-queue tap: it outlives the process, with its routes. The descriptors are
/// non-blocking; a read or write moves one Ethernet frame, with no offload pending on it.
class KernelInterface {
 public:
  /// Makes the interface or takes an existing one over, sets MAC address and MTU. Bringing it up and its
  /// addresses are the caller's (SettingsMove). Errors: /dev/net/tun, the name belongs to something that is
  /// no multi-queue tap or to another process; an interface that was made goes again.
  static Result<std::unique_ptr<KernelInterface>> open(const KernelInterfaceOptions &options);

  /// Makes the interface go when the last descriptor is closed, with its addresses and routes.
  Status remove_on_close();

  enum class Origin { kMade, kFound };  // by open()
  Origin origin() const { return origin_; }

  uint32_t ifindex() const { return ifindex_; }
  const std::string &name() const { return name_; }
  /// The descriptor of queue `queue` < the number asked for.
  int queue_fd(uint16_t queue) const { return queues_[queue].get(); }

 private:
  KernelInterface() = default;
  Status open_queues(const KernelInterfaceOptions &options);

  std::string name_;
  Origin origin_ = Origin::kFound;
  uint32_t ifindex_ = 0;
  std::vector<UniqueFd> queues_;
};

}  // namespace sluice

#endif
