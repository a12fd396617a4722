#include <algorithm>

#include <spdlog/fmt/fmt.h>

#include "tools/sluicectl/doctor/checks.h"

namespace sluice::ctl {

namespace {

constexpr int kClientMtu = 1500;        // bytes: what the Internet has
constexpr int kSmallestIpv6Mtu = 1280;  // RFC 8200 section 5
constexpr int kIpv4Header = 20;
constexpr int kIpv6Header = 40;

std::string interface_directory(const std::string &interface) { return "/sys/class/net/" + interface; }

/// The outer header of the longest encapsulation that a backend gets; 0: there is no backend.
int outer_header(const SystemFacts &system) {
  int longest = 0;
  for (const nlohmann::json &backend : system.backends)
    longest = std::max(
        longest, backend.value("address", "").find(':') == std::string::npos ? kIpv4Header : kIpv6Header);
  return longest;
}

}  // namespace

Findings check_nics(const Host &host, const SystemFacts &system) {
  Findings findings;
  for (const PortFacts &port : system.ports) {
    const std::string subject = "port " + port.name;
    const std::string directory = interface_directory(port.interface);
    if (!port.interface.empty()) {
      const std::string driver = host.link_name(directory + "/device/driver");
      const std::string state = host.text(directory + "/operstate").value_or("");
      const bool is_up = state == "up" || state == "unknown";
      Finding finding{
          "nic", subject, Outcome::kPass,
          fmt::format("{}, driver {}, link {}", port.interface, driver.empty() ? "virtual" : driver, state),
          ""};
      if (!host.has(directory)) {
        finding = {"nic", subject, Outcome::kFail, "interface " + port.interface + " is not there",
                   "ip link show"};
      } else if (!is_up) {
        finding.outcome = Outcome::kFail;
        finding.mend = "ip link set dev " + port.interface + " up";
      }
      findings.push_back(std::move(finding));
    } else {
      findings.push_back({"nic", subject, Outcome::kPass,
                          port.pci.empty() ? "a virtual device of DPDK" : port.pci + ", of DPDK", ""});
    }
    // The preflight's words, which end with the command.
    for (const std::string &warning : port.warnings) {
      const size_t command = warning.rfind(": ");
      const bool has_command = warning.find("ethtool") != std::string::npos && command != std::string::npos;
      findings.push_back({"nic", subject, Outcome::kWarn, warning,
                          has_command ? warning.substr(command + 2) : "sluicectl -o json status"});
    }
  }
  return findings;
}

Findings check_xdp_mode(const SystemFacts &system) {
  Findings findings;
  if (system.engine != "xdp") return findings;
  for (const PortFacts &port : system.ports) {
    Finding finding{"xdp-mode", "port " + port.name, Outcome::kPass, port.mode, ""};
    if (port.mode.starts_with("generic")) {
      finding.outcome = Outcome::kWarn;
      finding.mend = "sluice-dataplane --xdp-mode native   # tries the driver, and says why if it refuses";
    } else if (!port.mode.starts_with("native")) {
      finding.outcome = Outcome::kFail;
      finding.mend = "journalctl -u sluice-dataplane -n 50; ip link show dev " + port.interface;
    }
    findings.push_back(std::move(finding));
  }
  return findings;
}

Findings check_mtu(const Host &host, const SystemFacts &system) {
  Findings findings;
  const int header = outer_header(system);
  if (header == 0) return findings;
  for (const PortFacts &port : system.ports) {
    const std::string &interface = port.kernel_interface.empty() ? port.interface : port.kernel_interface;
    // What the kernel says now; the engine's word is from its start.
    int mtu = static_cast<int>(host.number(interface_directory(interface) + "/mtu").value_or(port.mtu));
    if (port.mtu > 0) mtu = std::min(mtu, port.mtu);
    if (mtu == 0) continue;
    const int wanted = kClientMtu + header;
    Finding finding{
        "mtu", "port " + port.name, Outcome::kPass,
        fmt::format("{} has room for {} bytes and an outer header of {}", mtu, kClientMtu, header), ""};
    if (mtu < wanted) {
      const bool is_broken = mtu - header < kSmallestIpv6Mtu;
      finding.outcome = is_broken ? Outcome::kFail : Outcome::kWarn;
      finding.found =
          fmt::format("{}, an outer header takes {}: {}", mtu, header,
                      is_broken ? "IPv6 does not fit"
                                : "clients' full packets are refused once, with ICMP, before they fit");
      finding.mend = interface.empty()
                         ? fmt::format("port = [\"name={},...,mtu={}\"] in /etc/sluice/dataplane.conf",
                                       port.name, wanted)
                         : fmt::format("ip link set dev {} mtu {}   # and of the switch, and the backends",
                                       port.interface.empty() ? interface : port.interface, wanted);
    }
    findings.push_back(std::move(finding));
  }
  return findings;
}

Findings check_rp_filter(const Host &host, const SystemFacts &system) {
  const auto value = [&](const std::string &name) {
    return host.number("/proc/sys/net/ipv4/conf/" + name + "/rp_filter").value_or(0);
  };
  Findings findings;
  const int64_t of_all = value("all");
  for (const PortFacts &port : system.ports) {
    if (port.kernel_interface.empty()) continue;
    // The kernel takes the larger of both (ip-sysctl).
    const int64_t mode = std::max(of_all, value(port.kernel_interface));
    Finding finding{"rp-filter", "port " + port.name, Outcome::kPass, mode == 0 ? "off" : "loose", ""};
    if (mode == 1) {
      finding.outcome = Outcome::kWarn;
      finding.found =
          "strict: ICMP errors, pings and answers to checks that come by another way than the route's are "
          "lost";
      const std::string who = of_all == 1 ? "all" : port.kernel_interface;
      finding.mend = "sysctl -w net.ipv4.conf." + who + ".rp_filter=2";
    }
    findings.push_back(std::move(finding));
  }
  if (system.ports.empty() && of_all == 1)
    findings.push_back({"rp-filter", "all", Outcome::kWarn, "strict, on every interface",
                        "sysctl -w net.ipv4.conf.all.rp_filter=2"});
  return findings;
}

}  // namespace sluice::ctl
