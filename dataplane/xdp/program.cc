#include "dataplane/xdp/program.h"

#include <algorithm>
#include <chrono>
#include <memory>
#include <string_view>
#include <utility>
#include <vector>

#include <fmt/format.h>
#include <linux/capability.h>
#include <spdlog/spdlog.h>

#include "dataplane/program.h"
#include "dataplane/server/interface_settings.h"
#include "dataplane/xdp/cpus.h"
#include "dataplane/xdp/earlier.h"
#include "dataplane/xdp/engine.h"
#include "dataplane/xdp/release.h"
#include "dataplane/xdp/sharing.h"

namespace sluice {
namespace {

// The kernel asks for a link address three times, a second apart.
constexpr std::chrono::seconds kNextHopWaitOfSuccessor{3};

struct Plan {
  std::vector<PortOptions> ports;
  XdpPreflight preflight;
  uint32_t workers = 1;
};

XdpModeChoice mode_choice(XdpModeOption option) {
  switch (option) {
    case XdpModeOption::kAuto:
      return XdpModeChoice::kAuto;
    case XdpModeOption::kNative:
      return XdpModeChoice::kNative;
    case XdpModeOption::kGeneric:
      return XdpModeChoice::kGeneric;
  }
  return XdpModeChoice::kAuto;
}

Result<Plan> make_plan(const DataplaneOptions &options) {
  Plan plan;
  Result<std::vector<PortOptions>> ports = parse_ports(options.ports);
  if (!ports.ok()) return ports.error();
  plan.ports = std::move(ports).value();
  if (plan.ports.size() > kXdpMaxPorts)
    return Error{
        fmt::format("--port: {} are given, the XDP engine has {} at most", plan.ports.size(), +kXdpMaxPorts)};
  std::vector<InterfaceFacts> facts;
  std::vector<std::string> names;
  for (const PortOptions &port : plan.ports) {
    Result<std::string> interface = xdp_interface(port);
    if (!interface.ok()) return interface.error();
    if (std::find(names.begin(), names.end(), interface.value()) != names.end())
      return Error{fmt::format("--port: interface: \"{}\" is used twice", interface.value())};
    facts.push_back(interface_facts(interface.value()));
    names.push_back(std::move(interface).value());
  }
  Result<KernelFeatures> kernel = probe_kernel();
  if (!kernel.ok()) return kernel.error();
  Result<XdpPreflight> preflight = make_preflight(plan.ports, facts, names, kernel.value());
  if (!preflight.ok()) return preflight.error();
  plan.preflight = std::move(preflight).value();
  if (options.workers > 0 || !options.cores.empty() || options.idle != IdleChoice::kPoll)
    spdlog::warn("--workers, --cores and --idle have no meaning for the XDP engine: each CPU is a worker");
  const Result<CpuPlan> cpus = plan_cpus(read_cpu_lists());
  if (!cpus.ok()) return cpus.error();
  if (!cpus.value().warning.empty()) spdlog::warn("{}", cpus.value().warning);
  plan.workers = cpus.value().workers;
  return plan;
}

/// What is on a port's interface; errors name the port.
Result<Occupation> look_at(const XdpPortReport &port, const Pins &pins) {
  Occupation occupation;
  Result<InterfaceProgram> there = program_on(port.interface, port.facts.ifindex);
  if (!there.ok()) return Error{fmt::format("port {}: {}", port.name, there.error().message)};
  occupation.program = std::move(there).value();
  Result<std::optional<Dispatcher>> dispatcher = dispatcher_on(port.interface, port.facts.ifindex);
  if (!dispatcher.ok()) return Error{fmt::format("port {}: {}", port.name, dispatcher.error().message)};
  occupation.dispatcher = std::move(dispatcher).value();
  for (const std::string &name : pins.ports()) {
    const std::optional<PortAttachment> pinned = PortAttachment::pinned(pins, name);
    if (pinned && pinned->ifindex() == port.facts.ifindex) occupation.own = pinned->program();
  }
  return occupation;
}

/// Decides, before anything is changed, which interfaces are shared, and refuses those that are another's.
Status check_interfaces(const DataplaneOptions &options, const Pins &pins, const LeftoverRemover &remove,
                        XdpPreflight *preflight) {
  const std::string no_dispatcher = options.xdp_sharing == XdpSharing::kOff ? "" : why_no_dispatcher();
  preflight->sharing = sharing_text(options.xdp_sharing, no_dispatcher);
  for (XdpPortReport &port : preflight->ports) {
    Result<Occupation> there = look_at(port, pins);
    if (there.ok() && is_of_af_xdp(there.value())) {
      Result<std::string> removed = remove(port.interface);
      if (!removed.ok()) return Error{fmt::format("port {}: {}", port.name, removed.error().message)};
      if (!removed.value().empty()) spdlog::warn("port {}: {}", port.name, removed.value());
      there = look_at(port, pins);
    }
    if (!there.ok()) return there.error();
    const Result<PortSharing> sharing =
        choose_sharing(options.xdp_sharing, there.value(), port.interface, no_dispatcher);
    if (!sharing.ok()) return Error{fmt::format("port {}: {}", port.name, sharing.error().message)};
    port.sharing = sharing.value();
    if (port.sharing == PortSharing::kDispatcher && there.value().dispatcher)
      port.notes.push_back("under libxdp's dispatcher are: " + names_of(there.value().dispatcher->programs));
  }
  return Done{};
}

/// Gives the interfaces what a DPDK engine had on their taps, and the addresses that are missing.
Result<std::vector<SettingsMove>> move_settings(const Plan &plan) {
  std::vector<SettingsMove> moves;
  for (size_t i = 0; i < plan.ports.size(); i++) {
    const PortOptions &port = plan.ports[i];
    const std::string &interface = plan.preflight.ports[i].interface;
    Result<SettingsMove> move = SettingsMove::make_from_tap(port.kernel_interface, interface, port.addresses);
    if (!move.ok()) return Error{fmt::format("port {}: {}", port.name, move.error().message)};
    if (!move.value().text().empty())
      spdlog::info("port {}: moved {} from {} to {}", port.name, move.value().text(), port.kernel_interface,
                   interface);
    moves.push_back(std::move(move).value());
  }
  return moves;
}

Result<XdpMemory> open_plans_memory(const DataplaneOptions &options, const Plan &plan, const Pins &pins) {
  XdpMemoryOptions wanted;
  wanted.connections = {.path = options.connections,
                        .worker_count = plan.workers,
                        .ipv4_connections = options.ipv4_connections,
                        .ipv6_connections = options.ipv6_connections,
                        .snapshot = options.snapshot};
  wanted.buffers = plan.preflight.frame_buffers;
  for (const XdpPortReport &port : plan.preflight.ports) wanted.port_ifindexes.push_back(port.facts.ifindex);
  return open_memory(wanted, pins);
}

/// The pinned maps are the connections' only holder from now on. A file that cannot be removed is out of
/// date, which the next start can tell.
void discard_file(XdpMemory *memory) {
  if (!memory->file) return;
  const Status discarded = memory->file->discard();
  if (!discarded.ok())
    spdlog::warn("{}; it stays until the next start, and is out of date", discarded.error().message);
  memory->file.reset();
}

/// What forwarding still needs: programs for interfaces that come and for larger tables, and the kernel's
/// neighbours. Programs of others are looked up by number, for which the kernel wants CAP_SYS_ADMIN.
std::vector<int> capabilities_of(const XdpEngine &engine, const DataplaneOptions &options) {
  std::vector<int> capabilities = {CAP_NET_ADMIN, CAP_BPF, CAP_PERFMON};
  if (engine.looks_up_programs() || options.xdp_at_stop == XdpAtStop::kDetach)
    capabilities.push_back(CAP_SYS_ADMIN);
  return capabilities;
}

Status stop(const DataplaneOptions &options, const Pins &pins) {
  if (options.xdp_at_stop == XdpAtStop::kForward) {
    spdlog::info("forwarding goes on with the last tables; sluice-dataplane --detach ends it");
    return Done{};
  }
  Result<std::string> released = release(pins, options.connections);
  if (!released.ok()) return released.error();
  pins.remove_directory();
  spdlog::info("{}", released.value());
  return Done{};
}

}  // namespace

Status run_xdp(const DataplaneOptions &options, int stop_fd, const LeftoverRemover &remove_leftover) {
  Result<Plan> plan = make_plan(options);
  if (!plan.ok()) return plan.error();
  Result<ServerOptions> serving = prepare_server(options);
  if (!serving.ok()) return serving.error();
  serving.value().links_at_start = LinksAtStart::kCarryQuestions;
  Result<Pins> pins = Pins::open(options.bpf_directory);
  if (!pins.ok()) return pins.error();
  Status checked = check_interfaces(options, pins.value(), remove_leftover, &plan.value().preflight);
  if (!checked.ok()) return checked;
  // Whoever forwards now knows the next hops: no hurry.
  if (!earlier_ports(pins.value()).empty()) serving.value().next_hop_wait_at_start = kNextHopWaitOfSuccessor;
  Result<XdpMemory> memory = open_plans_memory(options, plan.value(), pins.value());
  if (!memory.ok()) return memory.error();
  Result<std::vector<SettingsMove>> moves = move_settings(plan.value());
  if (!moves.ok()) return moves.error();

  const XdpEngineSetup setup = {.pins = &pins.value(),
                                .counters = memory.value().counters.get(),
                                .connections = memory.value().connections.get(),
                                .bring_over = std::move(memory.value().bring_over)};
  XdpEngine engine(plan.value().preflight, mode_choice(options.xdp_mode), std::move(memory.value().program),
                   setup);
  const auto start = [&]() -> Status {
    Status started = engine.start();
    if (started.ok())
      for (SettingsMove &move : moves.value()) move.keep();
    if (started.ok()) discard_file(&memory.value());
    for (const std::string &line : preflight_lines(engine.preflight())) spdlog::info("{}", line);
    return started;
  };
  Status served = serve(serving.value(),
                        {.engine = &engine,
                         .counters = memory.value().counters.get(),
                         .connections = memory.value().connections.get(),
                         .start = start,
                         .capabilities = [&] { return capabilities_of(engine, options); }},
                        stop_fd);
  if (!served.ok()) return served;
  return stop(options, pins.value());
}

Status run_detach(const DataplaneOptions &options) {
  Result<std::string> released = release(options.bpf_directory, options.connections);
  if (!released.ok()) return released.error();
  spdlog::info("{}", released.value().empty() ? fmt::format("nothing is pinned in {}", options.bpf_directory)
                                              : released.value());
  return Done{};
}

}  // namespace sluice
