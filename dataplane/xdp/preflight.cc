#include "dataplane/xdp/preflight.h"

#include <algorithm>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

namespace sluice {
namespace {

// Bytes of IP packet that fit one buffer of a page, beside headroom (256), what the kernel puts behind it
// (320), the Ethernet header and two tags.
constexpr uint16_t kOneBufferMtu = 4096 - 256 - 320 - 14 - 8;

bool contains(const std::vector<std::string> &texts, std::string_view wanted) {
  return std::find(texts.begin(), texts.end(), wanted) != texts.end();
}

Status check_port(const PortOptions &port, const InterfaceFacts &facts, const std::string &interface,
                  const KernelFeatures &kernel) {
  if (!facts.exists)
    return Error{fmt::format("port {}: interface: \"{}\" does not exist in this network namespace", port.name,
                             interface)};
  if (contains(facts.merging, "lro"))
    return Error{
        fmt::format("port {}: interface: \"{}\" merges received segments (LRO), which XDP programs cannot "
                    "take; turn it off with: ethtool -K {} lro off",
                    port.name, interface, interface)};
  if (port.mtu > 0 && port.mtu != facts.mtu)
    return Error{
        fmt::format("port {}: mtu: \"{}\" is not that of {}, {}; set it with: ip link set dev {} mtu {}",
                    port.name, port.mtu, interface, facts.mtu, interface, port.mtu)};
  if (facts.mtu > kOneBufferMtu && !kernel.several_buffers)
    return Error{fmt::format(
        "port {}: interface: \"{}\" has MTU {}; XDP programs of this kernel ({}; frames in several "
        "buffers came with Linux 5.18) take {} at most: ip link set dev {} mtu {}",
        port.name, interface, facts.mtu, kernel.release, kOneBufferMtu, interface, kOneBufferMtu)};
  return Done{};
}

XdpPortReport report_on(const PortOptions &port, const InterfaceFacts &facts, const std::string &interface) {
  XdpPortReport report;
  report.name = port.name;
  report.interface = interface;
  report.facts = facts;
  report.wanted_mtu = port.mtu;
  report.addresses = port.addresses;
  if (facts.driver == "veth")
    report.notes.emplace_back(
        "veth: what this end sends reaches the other end only if that has an XDP program, or GRO on "
        "(ethtool -K INTERFACE gro on)");
  if (facts.strips_vlan_tags)
    report.warnings.push_back(
        fmt::format("{} takes VLAN tags off before the program sees the frame (rxvlan): tagged frames look "
                    "untagged; if there are any, turn it off with: ethtool -K {} rxvlan off",
                    interface, interface));
  const auto meaningless = [&report](std::string_view field) {
    report.warnings.push_back(
        fmt::format("{}= has no meaning for the XDP engine: ethtool sets it for the interface", field));
  };
  if (port.queues > 0) meaningless("queues");
  if (port.descriptors > 0) meaningless("descriptors");
  if (port.steering != SteeringMode::kAuto) meaningless("steering");
  return report;
}

}  // namespace

Result<XdpPreflight> make_preflight(const std::vector<PortOptions> &ports,
                                    const std::vector<InterfaceFacts> &interfaces,
                                    const std::vector<std::string> &names, const KernelFeatures &kernel) {
  if (!kernel.lacks.empty())
    return Error{
        fmt::format("--engine: \"xdp\" cannot be on this kernel ({}), which lacks {}; take a newer kernel or "
                    "--engine dpdk",
                    kernel.release, kernel.lacks)};
  XdpPreflight preflight;
  preflight.kernel = kernel.release;
  uint16_t largest_mtu = 0;
  for (size_t i = 0; i < ports.size(); i++) {
    const Status checked = check_port(ports[i], interfaces[i], names[i], kernel);
    if (!checked.ok()) return checked.error();
    largest_mtu = std::max(largest_mtu, interfaces[i].mtu);
    preflight.ports.push_back(report_on(ports[i], interfaces[i], names[i]));
  }
  const bool several = largest_mtu > kOneBufferMtu;
  preflight.frame_buffers = several ? FrameBuffers::kSeveral : FrameBuffers::kOne;
  preflight.buffers =
      several ? fmt::format("frames may lie in several: MTU {} is more than {}", largest_mtu, kOneBufferMtu)
              : fmt::format("one per frame: no MTU is more than {}", kOneBufferMtu);
  preflight.sweep =
      kernel.live_frames
          ? "on each CPU, once a second a part of its connection table"
          : "off: this kernel lacks test runs with live frames (Linux 5.18); expired connections "
            "make room when it is needed, and count as active until then";
  return preflight;
}

Status check_again(const XdpPortReport &port, const InterfaceFacts &facts, FrameBuffers buffers) {
  if (facts.mtu > kOneBufferMtu && buffers == FrameBuffers::kOne)
    return Error{
        fmt::format("port {}: interface: \"{}\" has MTU {}, and the program is loaded for {} at most: ip "
                    "link set dev {} mtu "
                    "{}, or restart sluice-dataplane",
                    port.name, port.interface, facts.mtu, kOneBufferMtu, port.interface,
                    port.wanted_mtu > 0 ? port.wanted_mtu : std::min(port.facts.mtu, kOneBufferMtu))};
  PortOptions options;
  options.name = port.name;
  options.mtu = port.wanted_mtu;
  KernelFeatures kernel;
  kernel.several_buffers = true;
  return check_port(options, facts, port.interface, kernel);
}

std::vector<std::string> preflight_lines(const XdpPreflight &preflight) {
  std::vector<std::string> lines = {"kernel: " + preflight.kernel, "buffers: " + preflight.buffers,
                                    "sweep: " + preflight.sweep, "sharing: " + preflight.sharing};
  for (const XdpPortReport &port : preflight.ports) {
    lines.push_back(fmt::format("port {}: {} (driver {}), {}, MTU {}", port.name, port.interface,
                                port.facts.driver.empty() ? "unknown" : port.facts.driver, port.facts.mac,
                                port.facts.mtu));
    if (!port.mode.empty()) lines.push_back(fmt::format("port {}: mode: {}", port.name, port.mode));
    for (const std::string &note : port.notes) lines.push_back(fmt::format("port {}: {}", port.name, note));
    for (const std::string &warning : port.warnings)
      lines.push_back(fmt::format("port {}: WARNING: {}", port.name, warning));
  }
  return lines;
}

nlohmann::json port_json(const XdpPortReport &port) {
  return {{"name", port.name},
          {"interface", port.interface},
          {"driver", port.facts.driver},
          {"mac", port.facts.mac},
          {"mtu", port.facts.mtu},
          {"receive_queues", port.facts.receive_queues},
          {"numa_node", port.facts.numa_node},
          {"mode", port.mode},
          {"notes", port.notes},
          {"warnings", port.warnings}};
}

}  // namespace sluice
