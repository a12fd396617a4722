#include <algorithm>
#include <set>

#include <fmt/ranges.h>
#include <spdlog/fmt/fmt.h>

#include "tools/sluicectl/doctor/checks.h"

namespace sluice::ctl {

namespace {

constexpr const char *kNodes = "/sys/devices/system/node/";
constexpr const char *kCpus = "/sys/devices/system/cpu/";
constexpr int64_t kKib = 1024;
constexpr int64_t kUsualMemlockKib = 8192;  // the kernel's default

std::vector<std::string> nodes(const Host &host) {
  std::vector<std::string> found;
  for (const std::string &name : host.names(kNodes))
    if (name.starts_with("node") && !numbers_of_list(name.substr(4)).empty()) found.push_back(name);
  return found;
}

struct HugePages {
  int64_t reserved_mib = 0;
  int64_t free_mib = 0;
};

HugePages huge_pages_in(const Host &host, const std::string &directory) {
  HugePages sum;
  for (const std::string &name : host.names(directory)) {
    constexpr std::string_view kPrefix = "hugepages-";
    if (!name.starts_with(kPrefix)) continue;
    const int64_t page_kib = std::strtoll(name.c_str() + kPrefix.size(), nullptr, 10);
    const std::string size = fmt::format("{}/{}/", directory, name);
    sum.reserved_mib += host.number(size + "nr_hugepages").value_or(0) * page_kib / kKib;
    sum.free_mib += host.number(size + "free_hugepages").value_or(0) * page_kib / kKib;
  }
  return sum;
}

bool has_port_on(const SystemFacts &system, const std::string &node) {
  return std::ranges::any_of(system.ports, [&](const PortFacts &port) {
    return port.numa_node >= 0 && "node" + std::to_string(port.numa_node) == node;
  });
}

bool has_pci_port(const SystemFacts &system) {
  return std::ranges::any_of(system.ports, [](const PortFacts &port) { return !port.pci.empty(); });
}

/// The process of a program in this network namespace; 0: there is none that can be seen.
int process_of(const Host &host, const std::string &program) {
  const std::string own_network = host.link_name("/proc/self/ns/net");
  for (const std::string &name : host.names("/proc")) {
    if (std::isdigit(static_cast<unsigned char>(name[0])) == 0) continue;
    // Not by its short name, which one that has ended and was not waited for still has.
    const std::string line = host.text("/proc/" + name + "/cmdline").value_or("");
    if (std::filesystem::path(line.c_str()).filename() != program) continue;
    const std::string network = host.link_name("/proc/" + name + "/ns/net");
    if (network.empty() || network == own_network)
      return static_cast<int>(std::strtol(name.c_str(), nullptr, 10));  // empty: not ours to see
  }
  return 0;
}

}  // namespace

Findings check_huge_pages(const Host &host, const SystemFacts &system) {
  if (!system.may_be("dpdk")) return {{"huge-pages", "", Outcome::kPass, "the XDP engine needs none", ""}};
  Findings findings;
  for (const std::string &node : nodes(host)) {
    const std::string directory = kNodes + node + "/hugepages";
    const HugePages pages = huge_pages_in(host, directory);
    Finding finding{"huge-pages", node, Outcome::kPass,
                    fmt::format("{} MiB reserved, {} MiB free", pages.reserved_mib, pages.free_mib), ""};
    const bool is_used = system.engine == "dpdk" && (has_port_on(system, node) || nodes(host).size() == 1);
    if (pages.reserved_mib == 0 && (is_used || system.engine.empty())) {
      finding.outcome = Outcome::kWarn;
      finding.found += is_used ? "; a port's NIC is on this node: small pages cost some percent" : "";
      finding.mend = fmt::format("echo 512 > {}/hugepages-2048kB/nr_hugepages", directory);
    }
    findings.push_back(std::move(finding));
  }
  if (findings.empty())
    findings.push_back({"huge-pages", "", Outcome::kWarn, "this kernel shows no NUMA node",
                        "sysctl -w vm.nr_hugepages=512"});
  return findings;
}

Findings check_memlock(const Host &host, const SystemFacts & /*system*/) {
  const int process = process_of(host, "sluice-dataplane");
  const std::string whose = process != 0 ? std::to_string(process) : "self";
  const std::string subject = process != 0 ? "sluice-dataplane" : "this shell";
  const std::string limits = host.text("/proc/" + whose + "/limits").value_or("");
  const size_t line = limits.find("Max locked memory");
  if (line == std::string::npos)
    return {{"memlock", subject, Outcome::kWarn, "the limit cannot be read", "sudo sluicectl doctor"}};
  const char *value =
      limits.c_str() + limits.find_first_not_of(' ', line + std::size("Max locked memory") - 1);
  if (std::string_view(value).starts_with("unlimited"))
    return {{"memlock", subject, Outcome::kPass, "unlimited", ""}};
  const int64_t kib = std::strtoll(value, nullptr, 10) / kKib;
  // CAP_IPC_LOCK and memory that is counted by cgroups make it matter less: not every low limit breaks.
  return {{"memlock", subject, kib < kUsualMemlockKib ? Outcome::kFail : Outcome::kWarn,
           fmt::format("{} KiB may be locked; frame buffers of AF_XDP and VFIO are", kib),
           "systemctl edit sluice-dataplane   # [Service] LimitMEMLOCK=infinity; in a shell: ulimit -l "
           "unlimited"}};
}

Findings check_btf(const Host &host, const SystemFacts &system) {
  if (host.has("/sys/kernel/btf/vmlinux"))
    return {{"btf", "", Outcome::kPass, "the kernel describes its types (BTF)", ""}};
  if (!system.may_be("xdp")) return {{"btf", "", Outcome::kPass, "none, and DPDK needs none", ""}};
  return {{"btf", "", system.engine.empty() ? Outcome::kWarn : Outcome::kFail,
           "the kernel has no BTF (/sys/kernel/btf/vmlinux)",
           "apt-get install linux-image-amd64   # or a kernel built with CONFIG_DEBUG_INFO_BTF=y"}};
}

Findings check_cores(const Host &host, const SystemFacts &system) {
  if (system.engine != "dpdk")
    return {{"cores", "", Outcome::kPass,
             system.engine.empty() ? "not known: there is no dataplane to ask"
                                   : "XDP runs where the NIC's interrupts are",
             ""}};
  const std::vector<int> isolated_list =
      numbers_of_list(host.text(std::string(kCpus) + "isolated").value_or(""));
  const std::set<int> isolated(isolated_list.begin(), isolated_list.end());
  std::vector<int> shared;
  for (const int core : system.worker_cores)
    if (!isolated.contains(core)) shared.push_back(core);
  if (shared.empty())
    return {{"cores", "", Outcome::kPass,
             fmt::format("workers have cores {} to themselves", fmt::join(system.worker_cores, ",")), ""}};
  const std::string list = fmt::format("{}", fmt::join(shared, ","));
  const std::string found = fmt::format("workers share cores {} with other processes", list);
  if (system.idle.starts_with("sleep"))
    return {{"cores", "", Outcome::kPass, found + ", as idle = sleep means", ""}};
  return {{"cores", "", Outcome::kWarn, found + ": each of these delays packets",
           // Services may not run on isolated cores unless they say so.
           fmt::format("mkdir -p /etc/systemd/system/sluice-dataplane.service.d && "
                       "printf '[Service]\\nCPUAffinity=0-%d\\n' $(($(nproc --all) - 1)) "
                       "> /etc/systemd/system/sluice-dataplane.service.d/cores.conf && "
                       "sed -i 's/^GRUB_CMDLINE_LINUX=\"/&isolcpus={0} nohz_full={0} rcu_nocbs={0} /' "
                       "/etc/default/grub && update-grub; it takes effect at the next boot",
                       list)}};
}

Findings check_governor(const Host &host, const SystemFacts &system) {
  std::vector<std::string> slow;
  bool scales = false;
  for (const std::string &name : host.names(kCpus)) {
    const std::optional<std::string> governor = host.text(kCpus + name + "/cpufreq/scaling_governor");
    if (!name.starts_with("cpu") || !governor) continue;
    scales = true;
    const int number = static_cast<int>(std::strtol(name.c_str() + 3, nullptr, 10));
    const bool works = system.worker_cores.empty() || std::ranges::count(system.worker_cores, number) > 0;
    if (works && *governor != "performance") slow.push_back(fmt::format("{}: {}", name, *governor));
  }
  if (!scales) return {{"governor", "", Outcome::kPass, "this kernel does not change the cores' clock", ""}};
  if (slow.empty()) return {{"governor", "", Outcome::kPass, "performance", ""}};
  return {{"governor", "", Outcome::kWarn,
           fmt::format("the cores' clock follows load, too late for packets ({})", fmt::join(slow, ", ")),
           "cpupower frequency-set -g performance"}};
}

Findings check_iommu(const Host &host, const SystemFacts &system) {
  const size_t groups = host.names("/sys/kernel/iommu_groups").size();
  const std::string found = groups > 0 ? fmt::format("{} IOMMU groups", groups) : "no IOMMU";
  if (!has_pci_port(system))
    return {{"iommu", "", Outcome::kPass, found + "; no port is a PCI device of DPDK", ""}};
  Findings findings;
  findings.push_back(
      {"iommu", "", groups > 0 ? Outcome::kPass : Outcome::kFail, found,
       groups > 0 ? ""
                  : "sed -i 's/^GRUB_CMDLINE_LINUX=\"/&intel_iommu=on iommu=pt /' "
                    "/etc/default/grub && update-grub && reboot   # and VT-d or AMD-Vi in the firmware"});
  for (const PortFacts &port : system.ports) {
    if (port.pci.empty()) continue;
    const std::string device = "/sys/bus/pci/devices/" + port.pci;
    const std::string driver = host.link_name(device + "/driver");
    // Some NICs' drivers share the device with DPDK (mlx5): whoever is bound, the engine runs on it.
    const bool is_vfio = driver == "vfio-pci" || driver.starts_with("mlx");
    findings.push_back(
        {"vfio", "port " + port.name, is_vfio ? Outcome::kPass : Outcome::kWarn,
         fmt::format("{} has driver {}", port.pci, driver.empty() ? "none" : driver),
         is_vfio ? "" : fmt::format("modprobe vfio-pci && dpdk-devbind.py --bind=vfio-pci {}", port.pci)});
  }
  return findings;
}

Findings check_clock(const Host &host, const SystemFacts &system, ClockState clock) {
  Findings findings;
  const bool stepped = system.unreachable.empty() && system.status.value("clock_step_s", int64_t{0}) != 0;
  Finding time{"clock", "time", Outcome::kPass, "synchronized", ""};
  if (clock == ClockState::kUnsynchronized) time.found = "nobody keeps this host's time";
  if (clock == ClockState::kUnknown) time.found = "whether it is synchronized cannot be asked";
  if (stepped)
    time.found += fmt::format("; it was set by {} s since sluiced started",
                              system.status.value("clock_step_s", int64_t{0}));
  if (clock != ClockState::kSynchronized || stepped) {
    time.outcome = Outcome::kWarn;
    time.mend = "timedatectl set-ntp true";
  }
  findings.push_back(std::move(time));
  const std::string source =
      host.text("/sys/devices/system/clocksource/clocksource0/current_clocksource").value_or("not known");
  const bool slow = source == "hpet" || source == "acpi_pm" || source == "jiffies";
  findings.push_back(
      {"clock", "source", slow ? Outcome::kWarn : Outcome::kPass, source,
       slow ? "echo tsc > /sys/devices/system/clocksource/clocksource0/current_clocksource" : ""});
  return findings;
}

}  // namespace sluice::ctl
