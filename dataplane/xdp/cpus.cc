#include "dataplane/xdp/cpus.h"

#include <charconv>
#include <fstream>

#include <fmt/format.h>

#include "bpf/layout.h"

namespace sluice {
namespace {

constexpr uint32_t kMostPerPresent = 2;  // tables for each CPU that is there

/// The last CPU of a list, plus one: tables go by number.
Result<uint32_t> count(const std::string &list, const char *name) {
  const size_t last = list.find_last_of("-,");
  const std::string number = last == std::string::npos ? list : list.substr(last + 1);
  const char *end = number.data() + number.size();
  uint32_t cpu = 0;
  const auto parsed = std::from_chars(number.data(), end, cpu);
  if (parsed.ec != std::errc() || parsed.ptr != end)
    return Error{fmt::format("/sys/devices/system/cpu/{}: \"{}\" is no list of CPUs", name, list)};
  return cpu + 1;
}

}  // namespace

Result<CpuPlan> plan_cpus(const CpuLists &lists) {
  const Result<uint32_t> present = count(lists.present, "present");
  if (!present.ok()) return present.error();
  const Result<uint32_t> possible = count(lists.possible, "possible");
  if (!possible.ok()) return possible.error();
  if (present.value() > kXdpMaxWorkers)
    return Error{
        fmt::format("--engine: \"xdp\" has tables for {} CPUs, and this host has {}: take --engine dpdk, or "
                    "let the kernel "
                    "use fewer (nr_cpus={} on its command line)",
                    +kXdpMaxWorkers, present.value(), +kXdpMaxWorkers)};
  CpuPlan plan;
  plan.workers = present.value();
  if (possible.value() <= present.value()) return plan;
  if (possible.value() <= kXdpMaxWorkers && possible.value() <= kMostPerPresent * present.value()) {
    plan.workers = possible.value();
    return plan;
  }
  plan.warning = fmt::format(
      "CPUs from {} on may be added to this host (up to {}) and have no connection table: packets that come "
      "on "
      "such a CPU go to the kernel until sluice-dataplane is restarted",
      present.value(), possible.value() - 1);
  return plan;
}

CpuLists read_cpu_lists() {
  CpuLists lists;
  std::ifstream("/sys/devices/system/cpu/present") >> lists.present;
  std::ifstream("/sys/devices/system/cpu/possible") >> lists.possible;
  return lists;
}

}  // namespace sluice
