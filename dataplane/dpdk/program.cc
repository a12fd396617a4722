#include "dataplane/dpdk/program.h"

#include <algorithm>
#include <chrono>
#include <memory>
#include <optional>
#include <vector>

#include <fmt/format.h>
#include <linux/capability.h>
#include <rte_config.h>
#include <rte_cycles.h>
#include <spdlog/spdlog.h>

#include "dataplane/dpdk/eal.h"
#include "dataplane/dpdk/engine.h"
#include "dataplane/program.h"

namespace sluice {
namespace {

/// What the options come to, once the host has been looked at.
struct Plan {
  DpdkEngineOptions engine;
  EalOptions eal;
};

HugePages huge_pages(HugePagesChoice choice) {
  switch (choice) {
    case HugePagesChoice::kAuto:
      return HugePages::kAuto;
    case HugePagesChoice::kOn:
      return HugePages::kOn;
    case HugePagesChoice::kOff:
      return HugePages::kOff;
  }
  return HugePages::kAuto;
}

Result<Plan> make_plan(const DataplaneOptions &options) {
  Plan plan;
  Result<std::vector<PortOptions>> ports = parse_ports(options.ports);
  if (!ports.ok()) return ports.error();
  plan.engine.ports = std::move(ports).value();
  plan.engine.idle = options.idle == IdleChoice::kSleep ? IdlePolicy::kSleep : IdlePolicy::kPoll;
  plan.engine.kernel_interfaces = options.kernel_interfaces == KernelInterfacesChoice::kRemove
                                      ? KernelInterfacesAtStop::kRemove
                                      : KernelInterfacesAtStop::kKeep;
  std::vector<int> wanted;
  if (!options.cores.empty()) {
    Result<std::vector<int>> cores = parse_core_list(options.cores);
    if (!cores.ok()) return cores.error();
    wanted = std::move(cores).value();
  }
  const std::vector<int> allowed = allowed_cores();
  plan.engine.workers =
      options.workers > 0
          ? options.workers
          : default_worker_count(plan.engine.ports, wanted.empty() ? allowed.size() - 1 : wanted.size());
  Result<CorePlan> cores = plan_cores(plan.engine.workers, wanted, allowed);
  if (!cores.ok()) return cores.error();
  plan.engine.core_explanation = cores.value().explanation;

  plan.eal.huge_pages = huge_pages(options.huge_pages);
  plan.eal.memory_mb = estimate_memory_mb(plan.engine.ports, plan.engine.workers);
  plan.eal.worker_cores = cores.value().worker_cores;
  plan.eal.main_cores = cores.value().main_cores;
  for (const PortOptions &port : plan.engine.ports) {
    for (const DeviceOptions &device : port.devices) {
      if (!device.is_pci()) continue;
      std::string arguments = device.argument_text();
      plan.eal.pci.push_back(device.driver + (arguments.empty() ? "" : "," + arguments));
    }
  }
  return plan;
}

Result<CounterRegion> open_counters(uint16_t workers) {
  auto now = std::chrono::system_clock::now().time_since_epoch();
  CounterRegionShape shape;
  shape.worker_count = workers;
  shape.tsc_hz = rte_get_tsc_hz();
  shape.started_unix_ns =
      static_cast<uint64_t>(std::chrono::duration_cast<std::chrono::nanoseconds>(now).count());
  return CounterRegion::create(shape);
}

/// What forwarding still needs: the kernel's neighbours, the taps' settings, and AF_XDP programs that are
/// taken off at the end; for memory that is locked for a NIC when it grows.
std::vector<int> capabilities_of(const std::vector<PortOptions> &ports) {
  std::vector<int> capabilities = {CAP_NET_ADMIN, CAP_BPF};
  const auto is_pci = [](const DeviceOptions &device) { return device.is_pci(); };
  if (std::ranges::any_of(ports,
                          [&](const PortOptions &port) { return std::ranges::any_of(port.devices, is_pci); }))
    capabilities.push_back(CAP_IPC_LOCK);
  return capabilities;
}

/// Whether workers ran: then their connections are the ones that count.
enum class Forwarded { kNothing, kPackets };

/// Takes the predecessor's place and serves.
Status forward(const DpdkEngineOptions &engine_options, const DataplaneOptions &options,
               const ServerOptions &serving, const Predecessor &predecessor, int stop_fd,
               Forwarded *forwarded) {
  Result<CounterRegion> counters = open_counters(engine_options.workers);
  if (!counters.ok()) return counters.error();
  Result<ConnectionRegion> connections = ConnectionRegion::open({.path = options.connections,
                                                                 .worker_count = engine_options.workers,
                                                                 .ipv4_connections = options.ipv4_connections,
                                                                 .ipv6_connections = options.ipv6_connections,
                                                                 .snapshot = options.snapshot},
                                                                read_boot_clock());
  if (!connections.ok()) return connections.error();

  Result<std::unique_ptr<DpdkEngine>> engine =
      DpdkEngine::create(engine_options, &counters.value(), &connections.value());
  if (!engine.ok()) return engine.error();
  for (const std::string &line : preflight_lines(engine.value()->preflight())) spdlog::info("{}", line);

  const auto start = [&]() -> Status {
    Status started = engine.value()->start();
    if (!started.ok()) return started;
    *forwarded = Forwarded::kPackets;
    const Status forgotten = predecessor.forget();
    if (!forgotten.ok())
      spdlog::warn("{}; what is pinned stays until the next start", forgotten.error().message);
    return Done{};
  };
  Status served = serve(serving,
                        {.engine = engine.value().get(),
                         .counters = &counters.value(),
                         .connections = &connections.value(),
                         .start = start,
                         .capabilities = [&engine_options] { return capabilities_of(engine_options.ports); }},
                        stop_fd);
  engine.value()->stop();
  return served;
}

}  // namespace

Result<size_t> dpdk_memory_mb(const DataplaneOptions &options) {
  const Result<Plan> plan = make_plan(options);
  if (!plan.ok()) return plan.error();
  return plan.value().eal.memory_mb;
}

Status run_dpdk(const DataplaneOptions &options, int stop_fd, const Predecessor &predecessor) {
  Result<Plan> plan = make_plan(options);
  if (!plan.ok()) return plan.error();
  Result<ServerOptions> serving = prepare_server(options);
  if (!serving.ok()) return serving.error();
  Result<std::unique_ptr<Eal>> eal = Eal::start(plan.value().eal);
  if (!eal.ok()) return eal.error();
  DpdkEngineOptions engine_options = plan.value().engine;
  engine_options.memory_explanation = eal.value()->memory_explanation();

  // As late as can be: from here until the workers run, packets wait.
  Status stopped = predecessor.stop();
  if (!stopped.ok()) return stopped;
  Forwarded forwarded = Forwarded::kNothing;
  Status served = forward(engine_options, options, serving.value(), predecessor, stop_fd, &forwarded);
  if (forwarded == Forwarded::kNothing) predecessor.resume();
  return served;
}

}  // namespace sluice
