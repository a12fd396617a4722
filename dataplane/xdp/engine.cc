#include "dataplane/xdp/engine.h"

#include <algorithm>
#include <utility>

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <nlohmann/json.hpp>
#include <spdlog/spdlog.h>

#include "dataplane/server/snapshot_store.h"

namespace sluice {

XdpEngine::XdpEngine(XdpPreflight preflight, XdpModeChoice mode, std::unique_ptr<ForwardingProgram> program,
                     const XdpEngineSetup &setup)
    : preflight_(std::move(preflight)), mode_(mode), setup_(setup), program_(std::move(program)) {
  active_sum_.assign(setup_.counters->header().backend_capacity, 0);
  backends_ = active_sum_.size();
  told_ports_ = XdpEngine::ports();
  XdpEngine::merge_active_connections();
}

XdpEngine::~XdpEngine() = default;

// Attaching.

Status XdpEngine::attach_port(size_t port, const ForwardingProgram &program) {
  XdpPortReport &report = preflight_.ports[port];
  Result<PortAttachment> attached = PortAttachment::make(program.program_fd(), report.sharing,
                                                         {.interface = report.interface,
                                                          .ifindex = report.facts.ifindex,
                                                          .mode = mode_,
                                                          .buffers = program.options().buffers});
  if (!attached.ok()) return attached.error();
  report.mode = fmt::format("{}: {}", mode_text(attached.value().mode()), attached.value().reason());
  const std::string slow = "generic XDP is several times slower than native";
  if (attached.value().mode() == XdpMode::kGeneric && mode_ == XdpModeChoice::kAuto &&
      std::ranges::find(report.warnings, slow) == report.warnings.end())
    report.warnings.push_back(slow);
  links_[port] = {.attachment = std::move(attached).value(), .earlier = std::move(links_[port].earlier)};
  return Done{};
}

/// Attaches where nothing of this engine's is yet.
Status XdpEngine::attach_new_ports() {
  for (size_t port = 0; port < links_.size(); port++) {
    const Link &link = links_[port];
    if (link.is_attached() || link.earlier || preflight_.ports[port].facts.ifindex == 0) continue;
    const Status attached = attach_port(port, *program_);
    if (!attached.ok())
      return Error{fmt::format("port {}: {}", preflight_.ports[port].name, attached.error().message)};
  }
  return Done{};
}

Status XdpEngine::pin_all() {
  Status pinned = setup_.pins->put(kConnectionsPin, program_->connections_fd());
  if (pinned.ok()) pinned = setup_.pins->put(kCountersPin, program_->counters_fd());
  for (size_t port = 0; pinned.ok() && port < links_.size(); port++) {
    const Link &link = links_[port];
    const bool is_pinned =
        link.program == Link::Program::kEarlier && link.earlier->name() == preflight_.ports[port].name;
    if (link.is_attached() && !is_pinned) pinned = pin_port(port);
  }
  return pinned;
}

Status XdpEngine::pin_port(size_t port) {
  return links_[port].attachment->pin(*setup_.pins, preflight_.ports[port].name);
}

/// What `program` needs to run without this process. Before it is put behind pinned links.
Status XdpEngine::pin_tail_calls(const ForwardingProgram &program) {
  return setup_.pins->put(tail_calls_pin(program.program_id()), program.tail_calls_fd());
}

Status XdpEngine::sweep() {
  const std::lock_guard lock(program_mutex_);
  const ForwardingProgramOptions &options = program_->options();
  return program_->sweep(sweep_runs_per_second(options.ipv4_buckets, options.ipv6_buckets));
}

// Tables.

std::vector<EnginePort> XdpEngine::ports() const {
  std::vector<EnginePort> ports;
  for (const XdpPortReport &report : preflight_.ports)
    ports.push_back({.index = static_cast<uint16_t>(ports.size()),
                     .kernel_ifindex = report.facts.ifindex,
                     .mtu = report.facts.mtu});
  return ports;
}

Status XdpEngine::make_room(const std::shared_ptr<const MappedSnapshot> &snapshot) {
  if (waits_for_tables_) {
    Status loaded = load_for_interfaces();
    if (!loaded.ok()) return loaded;
  }
  const ForwardingTables tables = {.snapshot = snapshot, .egress = {}};
  const ForwardingProgram &current = larger_ ? *larger_ : *program_;
  const Result<bool> room = current.has_room_for(tables);
  if (!room.ok()) return room.error();
  if (room.value()) return Done{};
  ForwardingProgramOptions options = program_->options();
  options.slots = snapshot->slots().size();
  options.port_ifindexes = port_ifindexes();
  options.connections_fd = program_->connections_fd();
  options.counters_fd = program_->counters_fd();
  Result<std::unique_ptr<ForwardingProgram>> larger = ForwardingProgram::load(options);
  if (!larger.ok())
    return Error{fmt::format("slots: no room for {}: {}", options.slots, larger.error().message)};
  larger_ = std::move(larger).value();
  spdlog::info("loaded the XDP program anew, with room for {} slots", options.slots);
  return Done{};
}

/// After it every packet is decided by the larger program, which has the new tables. On an error by the one
/// of before, and the next snapshot that needs it loads a larger one anew.
Status XdpEngine::swap_in_larger() {
  std::unique_ptr<ForwardingProgram> larger = std::move(larger_);
  if (links_.empty()) {  // nothing runs this engine's program yet, and what runs another's keeps its pins
    const std::lock_guard lock(program_mutex_);
    program_.swap(larger);
    return Done{};
  }
  Status moved = pin_tail_calls(*larger);
  if (moved.ok()) moved = move_links(*larger);
  if (!moved.ok()) {
    (void)setup_.pins->remove_tail_calls(program_->program_id()).ok();
    return moved;
  }
  {
    const std::lock_guard lock(program_mutex_);
    program_.swap(larger);
  }
  // What ran before `moved` is through, with its tail calls, when packets of then are.
  Status done = program_->wait_for_readers();
  if (done.ok()) done = setup_.pins->remove_tail_calls(program_->program_id());
  if (!done.ok()) spdlog::warn("{}", done.error().message);
  merge_active_connections();
  return Done{};
}

Status XdpEngine::install(std::shared_ptr<const ForwardingTables> tables) {
  Status installed = make_room(tables->snapshot);
  if (installed.ok()) installed = (larger_ ? *larger_ : *program_).install(*tables);
  if (installed.ok() && larger_) installed = swap_in_larger();
  if (installed.ok() && waits_for_tables_) installed = take_over();
  if (installed.ok()) {
    backends_ = tables->snapshot->backends().size();
    tables_ = std::move(tables);
  }
  problem_ = installed.ok() ? "" : installed.error().message;
  return installed;
}

void XdpEngine::merge_active_connections() {
  const uint32_t workers = setup_.counters->header().worker_count;
  sluice::merge_active_connections(*setup_.counters, active_sum_);
  for (uint32_t worker = 0; worker < workers; worker++) {
    const std::span<BackendCounters> own = setup_.counters->backends(worker);
    const std::span<uint32_t> others = program_->others_active(worker);
    for (size_t backend = 0; backend < backends_; backend++) {
      const uint32_t active = __atomic_load_n(&own[backend].active_connections, __ATOMIC_RELAXED);
      const uint32_t rest = active_sum_[backend] - std::min(active, active_sum_[backend]);
      __atomic_store_n(&others[backend], rest, __ATOMIC_RELAXED);
    }
  }
}

// Status.

/// What is wrong with the tables and with each port; empty: nothing.
std::string XdpEngine::problem() const {
  std::vector<std::string> problems;
  if (!problem_.empty()) problems.push_back(problem_);
  for (size_t port = 0; port < preflight_.ports.size(); port++) {
    const XdpPortReport &report = preflight_.ports[port];
    if (report.facts.ifindex == 0) problems.push_back(fmt::format("port {}: {}", report.name, report.mode));
    if (!report.misfit.empty()) problems.push_back(report.misfit);
    if (port < links_.size() && !links_[port].unpinned.empty())
      problems.push_back(fmt::format("port {}: {}", report.name, links_[port].unpinned));
  }
  return fmt::format("{}", fmt::join(problems, "; "));
}

nlohmann::json XdpEngine::status() const {
  nlohmann::json workers = nlohmann::json::array();
  for (uint32_t worker = 0; worker < setup_.counters->header().worker_count; worker++) {
    const WorkerCounters &counters = setup_.counters->worker(worker);
    workers.push_back({{"worker", worker},
                       {"core", worker},
                       {"received_packets", counters.received_packets},
                       {"transmitted_packets", counters.transmitted_packets}});
  }
  nlohmann::json ports = nlohmann::json::array();
  for (const XdpPortReport &report : preflight_.ports) {
    ports.push_back(port_json(report));
    ports.back()["index"] = ports.size() - 1;
    const size_t port = ports.size() - 1;
    if (port < links_.size() && !links_[port].unpinned.empty())
      ports.back()["mode"] = report.mode + "; " + links_[port].unpinned;
  }
  nlohmann::json status = {{"engine", name()},
                           {"ports", ports},
                           {"workers", workers},
                           {"host",
                            {{"kernel", preflight_.kernel},
                             {"buffers", preflight_.buffers},
                             {"sweep", preflight_.sweep},
                             {"sharing", preflight_.sharing},
                             {"pins", setup_.pins->directory().string()}}},
                           {"memory", {{"tables_bytes", program_->table_bytes()}}}};
  if (sweeper_) {
    const std::string unswept = sweeper_->problem();
    if (!unswept.empty()) status["host"]["sweep"] = unswept;
  }
  const std::string wrong = problem();
  if (!wrong.empty()) status["problem"] = wrong;
  return status;
}

}  // namespace sluice
