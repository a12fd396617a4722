// A network interface of the kernel: what it is, and the addresses that a port gives it.
#ifndef SLUICE_SERVER_INTERFACE_H
#define SLUICE_SERVER_INTERFACE_H

#include <cstdint>
#include <string>
#include <vector>

#include "dataplane/abi/address.h"
#include "dataplane/abi/result.h"

namespace sluice {

/// An address of the kernel's interface of a port.
struct InterfaceAddress {
  Address address;
  uint8_t prefix_length = 0;  // of the family's own length: 0 to 32, or 0 to 128
  std::string text;           // as written
};

/// An existing network interface, as the preflights need it.
struct InterfaceFacts {
  bool exists = false;
  uint32_t ifindex = 0;
  std::string driver;                  // "" when it does not tell
  std::string mac;                     // "02:00:00:00:00:01"
  uint16_t mtu = 0;                    // bytes of IP packet
  uint16_t receive_queues = 0;         // 0: not told
  int numa_node = -1;                  // -1: none
  std::vector<std::string> addresses;  // other than link-local ones
  std::vector<std::string> merging;    // of "gro" and "lro" (ethtool -K), those that are on
  bool strips_vlan_tags = false;       // rxvlan (ethtool -K)
};

/// Asks the kernel about `name`, in this network namespace.
InterfaceFacts interface_facts(const std::string &name);

/// The network interface that the kernel has for the PCI device at `pci_address` ("0000:01:00.0"), "" when
/// none: no such device, or bound to a driver for userspace. `pci_devices`: sysfs's folder of them.
std::string interface_of_pci(const std::string &pci_address,
                             const std::string &pci_devices = "/sys/bus/pci/devices");

/// Brings the interface up and adds what is missing of `addresses`; none is taken away. IPv6 addresses are
/// usable at once, without duplicate address detection. Errors name interface and address.
[[nodiscard]] Status add_addresses(const std::string &interface,
                                   const std::vector<InterfaceAddress> &addresses);

}  // namespace sluice

#endif
