#include "dataplane/xdp/preflight.h"

#include <algorithm>
#include <charconv>

#include <fmt/format.h>
#include <nlohmann/json.hpp>
#include <sys/utsname.h>

namespace sluice {
namespace {

constexpr KernelVersion kOldest = {5, 15};          // arrays of more than 4 MB
constexpr KernelVersion kSeveralBuffers = {5, 18};  // BPF_F_XDP_HAS_FRAGS, test runs with live frames
// Bytes of IP packet that fit one buffer of a page, beside headroom (256), what the kernel puts behind it
// (320), the Ethernet header and two tags.
constexpr uint16_t kOneBufferMtu = 4096 - 256 - 320 - 14 - 8;

bool contains(const std::vector<std::string> &texts, std::string_view wanted) {
  return std::find(texts.begin(), texts.end(), wanted) != texts.end();
}

Status check_port(const PortOptions &port, const InterfaceFacts &facts, const std::string &interface,
                  KernelVersion kernel) {
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
  if (facts.mtu > kOneBufferMtu && kernel < kSeveralBuffers)
    return Error{
        fmt::format("port {}: interface: \"{}\" has MTU {}; XDP programs of this kernel (before {}.{}) take "
                    "{} at most: ip link set dev {} mtu {}",
                    port.name, interface, facts.mtu, kSeveralBuffers.major, kSeveralBuffers.minor,
                    kOneBufferMtu, interface, kOneBufferMtu)};
  return Done{};
}

XdpPortReport report_on(const PortOptions &port, const InterfaceFacts &facts, const std::string &interface) {
  XdpPortReport report;
  report.name = port.name;
  report.interface = interface;
  report.facts = facts;
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

KernelVersion parse_kernel_version(std::string_view release) {
  KernelVersion version;
  const char *const end = release.data() + release.size();
  const auto major = std::from_chars(release.data(), end, version.major);
  if (major.ec != std::errc() || major.ptr == end || *major.ptr != '.') return {};
  const auto minor = std::from_chars(major.ptr + 1, end, version.minor);
  return minor.ec == std::errc() ? version : KernelVersion();
}

std::string kernel_release() {
  utsname name = {};
  return ::uname(&name) == 0 ? name.release : "";
}

Result<XdpPreflight> make_preflight(const std::vector<PortOptions> &ports,
                                    const std::vector<InterfaceFacts> &interfaces,
                                    const std::vector<std::string> &names,
                                    const std::string &kernel_release) {
  const KernelVersion kernel = parse_kernel_version(kernel_release);
  if (kernel < kOldest)
    return Error{fmt::format("--engine: \"xdp\" needs Linux {}.{} or later, this is {}", kOldest.major,
                             kOldest.minor, kernel_release)};
  XdpPreflight preflight;
  preflight.kernel = kernel_release;
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
  preflight.sweep = kernel < kSeveralBuffers
                        ? fmt::format(
                              "off: it needs Linux {}.{}; expired connections make room when it is "
                              "needed, and count as active until then",
                              kSeveralBuffers.major, kSeveralBuffers.minor)
                        : "on each CPU, once a second a part of its connection table";
  preflight.sharing = "none: the program is attached alone, not through libxdp's dispatcher";
  return preflight;
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
