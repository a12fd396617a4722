// What the operator says of a port, parsed and checked before an engine starts.
#ifndef SLUICE_SERVER_PORT_OPTIONS_H
#define SLUICE_SERVER_PORT_OPTIONS_H

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "dataplane/abi/result.h"
#include "dataplane/server/interface.h"

namespace sluice {

/// One DPDK device. `driver` is a PCI address ("0000:01:00.0"), the name of a virtual device's driver
/// ("net_af_xdp"), or the name of a device that exists already.
struct DeviceOptions {
  std::string driver;
  std::vector<std::pair<std::string, std::string>> arguments;

  bool is_pci() const;
  /// The value of the first argument called `key`, or "".
  std::string argument(std::string_view key) const;
  /// As DPDK takes them: "iface=lb0,queue_count=1".
  std::string argument_text() const;
};

/// Whether packets are handed to the worker that owns their flow.
enum class SteeringMode { kAuto, kOn, kOff };

/// One logical port.
struct PortOptions {
  std::string name;
  std::string interface;               // interface=; empty: none, there are devices
  std::vector<DeviceOptions> devices;  // of `interface`: net_af_xdp on it
  std::string kernel_interface;        // empty: none
  std::vector<InterfaceAddress> addresses;
  uint16_t queues = 0;       // per device; 0: chosen from the device and the number of workers
  uint16_t descriptors = 0;  // per queue; 0: the driver's preference
  uint16_t mtu = 0;          // bytes of IP packet; 0: what the device has now
  SteeringMode steering = SteeringMode::kAuto;
};

/// Parses one `--port` value: fields `key=value`, separated by commas.
///
///   name=NAME            required; letters, digits, '-', '_'
///   interface=NAME       a network interface of the kernel's: it or device= is required
///   device=DEVICE        may be repeated: DRIVER[:ARG=VALUE[;ARG=VALUE...]] or a PCI address
///   queues=N             1 to 64 receive queues per device
///   descriptors=N        64 to 32768 per queue
///   addresses=A/L[;...]  of the port's interface in the kernel: of a DPDK port its tap, of an XDP port
///   itself kernel=NAME          the tap's name; default sl-<port name>; "none": no exception path mtu=N 576
///   to 9600 steering=auto|on|off
///
/// Errors name the port's text, the field and the value, and say what is allowed.
Result<PortOptions> parse_port_options(std::string_view text);

/// The network interface that the XDP engine can take the port by: interface=, iface= of net_af_xdp and
/// net_af_packet, or what the kernel's driver of a PCI device makes. `pci_devices`: sysfs's folder of them.
/// Errors say why there is none, or that there are several.
Result<std::string> xdp_interface(const PortOptions &port,
                                  const std::string &pci_devices = "/sys/bus/pci/devices");

/// Receive queues that the port will have at least, over all its devices, as far as that is known before
/// DPDK starts: queues=N of each device, or of net_af_xdp all that its interface has.
size_t known_queues(const PortOptions &port);

/// Parses every `--port` and checks that names, kernel interfaces and devices differ.
Result<std::vector<PortOptions>> parse_ports(const std::vector<std::string> &texts);

/// Parses "0,2-4" into {0, 2, 3, 4}. Errors: not numbers, an empty or reversed range, a number twice,
/// more than 1023.
Result<std::vector<int>> parse_core_list(std::string_view text);

}  // namespace sluice

#endif
