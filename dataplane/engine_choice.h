// Which engine `--engine auto` takes, by what is known of the host and its ports.
#ifndef SLUICE_DATAPLANE_ENGINE_CHOICE_H
#define SLUICE_DATAPLANE_ENGINE_CHOICE_H

#include <cstddef>
#include <string>
#include <vector>

#include "dataplane/options.h"
#include "dataplane/server/port_options.h"

namespace sluice {

/// What a port's devices are to the two engines.
struct PortPossibilities {
  std::string name;
  enum class Device {
    kOfDpdk,    // the kernel has no interface for it: bound to a driver for userspace, or virtual
    kShared,    // an interface of the kernel's that DPDK can use, too (AF_XDP, AF_PACKET)
    kOfKernel,  // a PCI device that is bound to the kernel's driver
    kUnknown    // nothing that is there
  } device = Device::kUnknown;
  std::string description;  // "0000:01:00.0", "interface eth1"
};

/// What a DPDK engine with the same options would need.
struct DpdkNeeds {
  size_t memory_mb = 0;
  size_t free_huge_page_mb = 0;
  std::string refusal;  // why it cannot be at all: cores, options; empty: it can
};

struct HostPossibilities {
  std::vector<PortPossibilities> ports;
  DpdkNeeds dpdk;
};

struct ChosenEngine {
  EngineChoice engine = EngineChoice::kDpdk;  // kDpdk or kXdp
  std::string reason;
};

/// DPDK if a port is DPDK's only, or if enough huge pages are free for ports over the kernel's interfaces;
/// else XDP. An engine that was asked for is taken.
ChosenEngine choose_engine(EngineChoice wanted, const HostPossibilities &host);

/// Asks the host about the ports. Ports that cannot be parsed are an error.
[[nodiscard]] Result<HostPossibilities> look_at_host(const std::vector<std::string> &ports,
                                                     const DpdkNeeds &dpdk);

}  // namespace sluice

#endif
