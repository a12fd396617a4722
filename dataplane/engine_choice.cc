#include "dataplane/engine_choice.h"

#include <algorithm>
#include <array>
#include <filesystem>
#include <string_view>

#include <fmt/format.h>

namespace sluice {
namespace {

namespace fs = std::filesystem;

using Device = PortPossibilities::Device;

const PortPossibilities *first_with(const HostPossibilities &host, Device device) {
  const auto found = std::find_if(host.ports.begin(), host.ports.end(),
                                  [device](const PortPossibilities &port) { return port.device == device; });
  return found == host.ports.end() ? nullptr : &*found;
}

/// Drivers of the kernel's under which DPDK can use the device as well.
bool is_bifurcated(std::string_view driver) { return driver == "mlx5_core" || driver == "mlx4_core"; }

Device judge(const DeviceOptions &device) {
  const bool over_interface =
      device.driver.starts_with("net_af_xdp") || device.driver.starts_with("net_af_packet");
  if (over_interface) return Device::kShared;
  if (!device.is_pci()) return Device::kOfDpdk;
  std::error_code ignored;
  const fs::path path = fs::path("/sys/bus/pci/devices") / device.driver;
  if (!fs::exists(path, ignored)) return Device::kUnknown;
  const std::string driver = fs::read_symlink(path / "driver", ignored).filename();
  constexpr std::array<std::string_view, 3> kUserspace = {"vfio-pci", "igb_uio", "uio_pci_generic"};
  if (std::find(kUserspace.begin(), kUserspace.end(), driver) != kUserspace.end()) return Device::kOfDpdk;
  if (interface_of_pci(device.driver).empty()) return Device::kUnknown;
  return is_bifurcated(driver) ? Device::kShared : Device::kOfKernel;
}

PortPossibilities look_at(const PortOptions &port) {
  PortPossibilities possible;
  possible.name = port.name;
  const DeviceOptions &first = port.devices.front();
  const std::string interface = first.argument("iface");
  possible.description = interface.empty() ? first.driver : "interface " + interface;
  // Several devices make one port of DPDK's; XDP takes one interface.
  possible.device = judge(first);
  if (possible.device != Device::kUnknown && possible.device != Device::kOfDpdk && !xdp_interface(port).ok())
    possible.device = Device::kOfDpdk;
  return possible;
}

}  // namespace

ChosenEngine choose_engine(EngineChoice wanted, const HostPossibilities &host) {
  if (wanted == EngineChoice::kDpdk) return {EngineChoice::kDpdk, "--engine dpdk"};
  if (wanted == EngineChoice::kXdp) return {EngineChoice::kXdp, "--engine xdp"};
  if (const PortPossibilities *port = first_with(host, Device::kUnknown))
    return {EngineChoice::kDpdk,
            fmt::format("port {}: {} has no interface of the kernel's", port->name, port->description)};
  if (const PortPossibilities *port = first_with(host, Device::kOfDpdk))
    return {EngineChoice::kDpdk,
            fmt::format("port {}: {} is a device for DPDK", port->name, port->description)};
  if (const PortPossibilities *port = first_with(host, Device::kOfKernel))
    return {EngineChoice::kXdp,
            fmt::format("port {}: {} is bound to the kernel's driver", port->name, port->description)};
  if (!host.dpdk.refusal.empty())
    return {EngineChoice::kXdp, fmt::format("DPDK cannot be: {}", host.dpdk.refusal)};
  const std::string memory = fmt::format("{} MB of huge pages are free, DPDK needs about {}",
                                         host.dpdk.free_huge_page_mb, host.dpdk.memory_mb);
  if (host.dpdk.free_huge_page_mb >= host.dpdk.memory_mb) return {EngineChoice::kDpdk, memory};
  return {EngineChoice::kXdp, memory + ", and every port is an interface of the kernel's"};
}

Result<HostPossibilities> look_at_host(const std::vector<std::string> &ports, const DpdkNeeds &dpdk) {
  Result<std::vector<PortOptions>> parsed = parse_ports(ports);
  if (!parsed.ok()) return parsed.error();
  HostPossibilities host;
  for (const PortOptions &port : parsed.value()) host.ports.push_back(look_at(port));
  host.dpdk = dpdk;
  return host;
}

}  // namespace sluice
