#include "tools/sluicectl/doctor/doctor.h"

#include <cstdlib>
#include <ctime>
#include <filesystem>
#include <fstream>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <stdlib.h>

#include "tools/sluicectl/doctor/checks.h"

namespace sluice::ctl {
namespace {

using nlohmann::json;
using testing::HasSubstr;

/// A directory with the files of a host.
class FilesOfHost {
 public:
  FilesOfHost() { root_ = ::mkdtemp(template_.data()); }
  ~FilesOfHost() { std::filesystem::remove_all(root_); }

  FilesOfHost &file(const std::string &path, const std::string &content) {
    const std::filesystem::path at = root_ / path.substr(1);
    std::filesystem::create_directories(at.parent_path());
    std::ofstream(at) << content;
    return *this;
  }
  FilesOfHost &link(const std::string &path, const std::string &target) {
    const std::filesystem::path at = root_ / path.substr(1);
    std::filesystem::create_directories(at.parent_path());
    std::filesystem::create_symlink(target, at);
    return *this;
  }
  FilesOfHost &huge_pages(int node, int reserved, int free) {
    const std::string directory =
        "/sys/devices/system/node/node" + std::to_string(node) + "/hugepages/hugepages-2048kB/";
    return file(directory + "nr_hugepages", std::to_string(reserved) + "\n")
        .file(directory + "free_hugepages", std::to_string(free) + "\n");
  }
  Host host() const { return Host(root_); }

 private:
  std::string template_ = testing::TempDir() + "doctor-XXXXXX";
  std::filesystem::path root_;
};

/// As sluiced of a host with a PCI NIC on NUMA node 1 tells it.
SystemFacts dpdk_on_pci() {
  const json port = {
      {"name", "front"}, {"devices", {"0000:81:00.0"}},    {"driver", "net_ixgbe"},    {"mtu", 1500},
      {"numa_node", 1},  {"kernel_interface", "sl-front"}, {"warnings", json::array()}};
  const json details = {{"ports", {port}},
                        {"workers", {{{"core", 4}}, {{"core", 5}}}},
                        {"host", {{"idle", "poll, each its whole core"}}},
                        {"next_hops", {{"list", json::array()}}}};
  const json status = {
      {"version", "0.1.0"},
      {"clock_step_s", 0},
      {"config", {{"path", "/etc/sluice/sluice.yaml"}, {"problem", ""}, {"api_certificate", ""}}},
      {"dataplane", {{"connected", true}, {"engine", "dpdk"}, {"version", "0.1.0"}, {"details", details}}}};
  const json backend = {
      {"pool", "web"}, {"name", "b1"}, {"address", "10.1.0.11"}, {"state", "up"}, {"last_check", "ok"}};
  return facts_of(status, {{"backends", {backend}}});
}

SystemFacts xdp(const std::string &mode) {
  SystemFacts system = dpdk_on_pci();
  system.engine = "xdp";
  system.ports = {
      {.name = "front", .interface = "eth0", .kernel_interface = "eth0", .mode = mode, .mtu = 1500}};
  return system;
}

const Finding *of_subject(const Findings &findings, const std::string &subject) {
  for (const Finding &finding : findings)
    if (finding.subject == subject) return &finding;
  return nullptr;
}

TEST(Doctor, huge_pages_are_wanted_where_the_nic_is) {
  FilesOfHost files;
  files.huge_pages(0, 512, 400).huge_pages(1, 0, 0);
  const Findings findings = check_huge_pages(files.host(), dpdk_on_pci());
  ASSERT_EQ(findings.size(), 2);
  EXPECT_EQ(of_subject(findings, "node0")->outcome, Outcome::kPass);
  EXPECT_EQ(of_subject(findings, "node0")->found, "1024 MiB reserved, 800 MiB free");
  EXPECT_EQ(of_subject(findings, "node1")->outcome, Outcome::kWarn);
  EXPECT_EQ(of_subject(findings, "node1")->mend,
            "echo 512 > /sys/devices/system/node/node1/hugepages/hugepages-2048kB/nr_hugepages");
}

TEST(Doctor, huge_pages_on_another_node_than_the_nics_are_nobodys_loss) {
  FilesOfHost files;
  files.huge_pages(0, 0, 0).huge_pages(1, 512, 512);
  for (const Finding &finding : check_huge_pages(files.host(), dpdk_on_pci()))
    EXPECT_EQ(finding.outcome, Outcome::kPass) << finding.subject;
}

TEST(Doctor, pci_port_needs_an_iommu_and_vfio) {
  FilesOfHost files;
  files.link("/sys/bus/pci/devices/0000:81:00.0/driver", "../../../../bus/pci/drivers/ixgbe");
  Findings findings = check_iommu(files.host(), dpdk_on_pci());
  ASSERT_EQ(findings.size(), 2);
  EXPECT_EQ(findings[0].outcome, Outcome::kFail);
  EXPECT_THAT(findings[0].mend, HasSubstr("intel_iommu=on"));
  EXPECT_EQ(findings[1].outcome, Outcome::kWarn);
  EXPECT_EQ(findings[1].mend, "modprobe vfio-pci && dpdk-devbind.py --bind=vfio-pci 0000:81:00.0");

  FilesOfHost ready;
  ready.file("/sys/kernel/iommu_groups/7/type", "DMA")
      .link("/sys/bus/pci/devices/0000:81:00.0/driver", "../../../../bus/pci/drivers/vfio-pci");
  for (const Finding &finding : check_iommu(ready.host(), dpdk_on_pci()))
    EXPECT_EQ(finding.outcome, Outcome::kPass) << finding.found;
}

TEST(Doctor, polling_workers_want_cores_to_themselves) {
  FilesOfHost files;
  files.file("/sys/devices/system/cpu/isolated", "4,6-7\n");
  SystemFacts system = dpdk_on_pci();
  Findings findings = check_cores(files.host(), system);
  EXPECT_EQ(findings[0].outcome, Outcome::kWarn);
  EXPECT_THAT(findings[0].mend, HasSubstr("isolcpus=5 nohz_full=5"));
  system.idle = "sleep 10 to 200 us";
  EXPECT_EQ(check_cores(files.host(), system)[0].outcome, Outcome::kPass);
  files.file("/sys/devices/system/cpu/isolated", "4-5\n");
  EXPECT_EQ(check_cores(files.host(), dpdk_on_pci())[0].outcome, Outcome::kPass);
}

TEST(Doctor, governor_counts_for_the_workers_cores_alone) {
  FilesOfHost files;
  files.file("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor", "powersave\n")
      .file("/sys/devices/system/cpu/cpu4/cpufreq/scaling_governor", "performance\n");
  EXPECT_EQ(check_governor(files.host(), dpdk_on_pci())[0].outcome, Outcome::kPass);
  files.file("/sys/devices/system/cpu/cpu5/cpufreq/scaling_governor", "schedutil\n");
  const Findings findings = check_governor(files.host(), dpdk_on_pci());
  EXPECT_EQ(findings[0].outcome, Outcome::kWarn);
  EXPECT_THAT(findings[0].found, HasSubstr("cpu5: schedutil"));
}

TEST(Doctor, memlock_is_the_dataplanes_where_it_runs) {
  FilesOfHost files;
  const auto limits = [](const std::string &value) {
    return "Limit                     Soft Limit           Hard Limit           Units\n"
           "Max locked memory         " +
           value + "              " + value + "              bytes\n";
  };
  files.file("/proc/self/limits", limits("unlimited"));
  EXPECT_EQ(check_memlock(files.host(), dpdk_on_pci())[0].outcome, Outcome::kPass);
  files.file("/proc/77/cmdline", std::string("/usr/sbin/sluice-dataplane\0--engine", 35))
      .file("/proc/77/limits", limits("65536"));
  const Findings low = check_memlock(files.host(), dpdk_on_pci());
  EXPECT_EQ(low[0].outcome, Outcome::kFail);
  EXPECT_THAT(low[0].found, HasSubstr("64 KiB"));
  EXPECT_THAT(low[0].mend, HasSubstr("LimitMEMLOCK=infinity"));
  files.file("/proc/6/cmdline", "sluice-dataplane").file("/proc/6/limits", limits("1024"));
  files.link("/proc/6/ns/net", "net:[2]")
      .link("/proc/self/ns/net", "net:[1]")
      .link("/proc/77/ns/net", "net:[1]");
  files.file("/proc/77/limits", limits("8388608"));
  EXPECT_EQ(check_memlock(files.host(), dpdk_on_pci())[0].outcome, Outcome::kWarn);
}

TEST(Doctor, xdp_needs_btf_and_dpdk_does_not) {
  FilesOfHost files;
  EXPECT_EQ(check_btf(files.host(), dpdk_on_pci())[0].outcome, Outcome::kPass);
  EXPECT_EQ(check_btf(files.host(), xdp("native: it"))[0].outcome, Outcome::kFail);
  files.file("/sys/kernel/btf/vmlinux", "x");
  EXPECT_EQ(check_btf(files.host(), xdp("native: it"))[0].outcome, Outcome::kPass);
}

TEST(Doctor, mtu_must_hold_the_outer_header) {
  FilesOfHost files;
  SystemFacts system = xdp("native: it");
  const auto outcome_with = [&](int mtu) {
    files.file("/sys/class/net/eth0/mtu", std::to_string(mtu) + "\n");
    system.ports[0].mtu = mtu;
    return check_mtu(files.host(), system)[0];
  };
  EXPECT_EQ(outcome_with(1520).outcome, Outcome::kPass);
  EXPECT_EQ(outcome_with(1519).outcome, Outcome::kWarn);
  EXPECT_THAT(outcome_with(1500).mend, HasSubstr("ip link set dev eth0 mtu 1520"));
  EXPECT_EQ(outcome_with(1300).outcome, Outcome::kWarn);
  EXPECT_EQ(outcome_with(1299).outcome, Outcome::kFail);
  system.backends[0]["address"] = "fd00::1";
  EXPECT_EQ(outcome_with(1539).outcome, Outcome::kWarn);
  EXPECT_EQ(outcome_with(1540).outcome, Outcome::kPass);
}

TEST(Doctor, the_larger_rp_filter_counts) {
  FilesOfHost files;
  files.file("/proc/sys/net/ipv4/conf/all/rp_filter", "0\n")
      .file("/proc/sys/net/ipv4/conf/eth0/rp_filter", "1\n");
  Findings findings = check_rp_filter(files.host(), xdp("native: it"));
  EXPECT_EQ(findings[0].outcome, Outcome::kWarn);
  EXPECT_EQ(findings[0].mend, "sysctl -w net.ipv4.conf.eth0.rp_filter=2");
  files.file("/proc/sys/net/ipv4/conf/all/rp_filter", "2\n");
  EXPECT_EQ(check_rp_filter(files.host(), xdp("native: it"))[0].outcome, Outcome::kPass);
}

TEST(Doctor, xdp_mode_is_native_or_told) {
  EXPECT_EQ(check_xdp_mode(xdp("native: the driver runs XDP programs"))[0].outcome, Outcome::kPass);
  EXPECT_EQ(check_xdp_mode(xdp("generic: the driver does not take it"))[0].outcome, Outcome::kWarn);
  EXPECT_EQ(check_xdp_mode(xdp("down: interface eth0 has gone"))[0].outcome, Outcome::kFail);
}

TEST(Doctor, pool_without_a_backend_that_serves_fails) {
  SystemFacts system = dpdk_on_pci();
  EXPECT_EQ(of_subject(check_backends(system), "web")->outcome, Outcome::kPass);
  system.backends[0]["state"] = "down";
  system.backends[0]["last_check"] = "connection refused";
  const Findings findings = check_backends(system);
  EXPECT_EQ(of_subject(findings, "web")->outcome, Outcome::kFail);
  EXPECT_THAT(of_subject(findings, "web/b1")->found, HasSubstr("connection refused"));
  system.backends[0]["state"] = "maintenance";
  EXPECT_TRUE(check_backends(system).empty());
}

TEST(Doctor, checks_that_end_while_none_is_forwarded_do_not_reach_the_dataplane) {
  EXPECT_TRUE(check_path({.targets = 0}, {.targets = 0, .ended = 9}).empty());
  EXPECT_EQ(
      check_path({.targets = 2, .ended = 5, .forwarded = 7}, {.targets = 2, .ended = 8, .forwarded = 7})[0]
          .outcome,
      Outcome::kFail);
  EXPECT_EQ(
      check_path({.targets = 2, .ended = 5, .forwarded = 7}, {.targets = 2, .ended = 7, .forwarded = 7})[0]
          .outcome,
      Outcome::kWarn);
  EXPECT_EQ(
      check_path({.targets = 2, .ended = 5, .forwarded = 7}, {.targets = 2, .ended = 8, .forwarded = 8})[0]
          .outcome,
      Outcome::kPass);
}

TEST(Doctor, unsynchronized_clock_and_slow_source_are_told) {
  FilesOfHost files;
  files.file("/sys/devices/system/clocksource/clocksource0/current_clocksource", "hpet\n");
  const Findings findings = check_clock(files.host(), dpdk_on_pci(), ClockState::kUnsynchronized);
  EXPECT_EQ(of_subject(findings, "time")->outcome, Outcome::kWarn);
  EXPECT_EQ(of_subject(findings, "source")->outcome, Outcome::kWarn);
}

TEST(Doctor, certificate_that_ends_soon_or_has_ended_is_told) {
  FilesOfHost files;
  files.file("/etc/sluice/readme", "");
  const Host host = files.host();
  const std::string file = host.at("/etc/sluice/api.pem").native();
  const std::string make =
      "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -subj /CN=api "
      "-days 60 -keyout /dev/null -out " +
      file + " 2>/dev/null";
  ASSERT_EQ(std::system(make.c_str()), 0);  // NOLINT(cert-env33-c,concurrency-mt-unsafe)
  SystemFacts system = dpdk_on_pci();
  const int64_t now = std::time(nullptr);
  EXPECT_EQ(check_certificate(host, system, now)[0].outcome, Outcome::kPass);
  EXPECT_THAT(check_certificate(host, system, now)[0].found, HasSubstr("none"));
  system.status["config"]["api_certificate"] = "/etc/sluice/api.pem";
  constexpr int64_t kDay = 86400;
  EXPECT_EQ(check_certificate(host, system, now)[0].outcome, Outcome::kPass);
  EXPECT_EQ(check_certificate(host, system, now + 31 * kDay)[0].outcome, Outcome::kWarn);
  EXPECT_EQ(check_certificate(host, system, now + 61 * kDay)[0].outcome, Outcome::kFail);
  EXPECT_EQ(of_subject(check_certificate(host, system, now + 61 * kDay), "api")->mend,
            "renew /etc/sluice/api.pem, then: sluicectl reload");
  files.file("/etc/sluice/api.pem", "no certificate");
  EXPECT_EQ(check_certificate(host, system, now)[0].outcome, Outcome::kWarn);
}

TEST(Doctor, cpu_lists_are_read_or_are_none) {
  EXPECT_THAT(numbers_of_list("0-2,5"), testing::ElementsAre(0, 1, 2, 5));
  for (const char *bad : {"", "x", "1-", "-1", "1-999999999", "1,,2"})
    EXPECT_TRUE(numbers_of_list(bad).empty()) << bad;
}

TEST(Doctor, every_finding_that_is_no_pass_says_what_mends_it) {
  FilesOfHost files;
  SystemFacts away;
  away.unreachable = "no socket";
  for (const SystemFacts &system : {dpdk_on_pci(), xdp("down: gone"), away})
    for (const Findings &findings :
         {check_huge_pages(files.host(), system), check_memlock(files.host(), system),
          check_btf(files.host(), system), check_cores(files.host(), system),
          check_governor(files.host(), system), check_iommu(files.host(), system),
          check_clock(files.host(), system, ClockState::kUnknown), check_nics(files.host(), system),
          check_xdp_mode(system), check_mtu(files.host(), system), check_rp_filter(files.host(), system),
          check_daemons(system)})
      for (const Finding &finding : findings)
        EXPECT_EQ(finding.mend.empty(), finding.outcome == Outcome::kPass)
            << finding.check << ": " << finding.found;
}

TEST(Doctor, the_worst_comes_first) {
  const std::string text = present_findings(
      {{"a", "", Outcome::kPass, "well", ""}, {"b", "x", Outcome::kFail, "broken", "mend it"}});
  EXPECT_EQ(text,
            "FAIL  b x: broken\n      mend it\npass  a: well\n2 looked at, 1 failed, 0 to be looked at\n");
}

}  // namespace
}  // namespace sluice::ctl
