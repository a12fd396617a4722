// The XDP engine's ports, whose interfaces may go and come back while it runs.
#include <algorithm>
#include <utility>

#include <fmt/format.h>
#include <net/if.h>
#include <spdlog/spdlog.h>

#include "dataplane/server/snapshot_store.h"
#include "dataplane/xdp/engine.h"

namespace sluice {
namespace {

/// By its index: one that got another name is still the same, with its program.
bool is_there(uint32_t ifindex) {
  char name[IF_NAMESIZE] = {};
  return ifindex != 0 && ::if_indextoname(ifindex, name) != nullptr;
}

}  // namespace

std::vector<uint32_t> XdpEngine::port_ifindexes() const {
  std::vector<uint32_t> ifindexes;
  for (const XdpPortReport &report : preflight_.ports) ifindexes.push_back(report.facts.ifindex);
  return ifindexes;
}

/// The kernel has detached the program with the interface.
void XdpEngine::lose_port(size_t port) {
  XdpPortReport &report = preflight_.ports[port];
  links_[port] = {};
  const Status removed = unpin_port(*setup_.pins, report.name);
  if (!removed.ok()) spdlog::warn("{}", removed.error().message);
  report.facts.ifindex = 0;
  report.mode =
      fmt::format("down: interface {} has gone, and is taken again when it is back", report.interface);
  spdlog::error("port {}: {}", report.name, report.mode);
}

Engine::Links XdpEngine::follow_link(size_t port) {
  XdpPortReport &report = preflight_.ports[port];
  if (is_there(report.facts.ifindex)) return Links::kSame;
  const std::string before = report.mode;
  if (report.facts.ifindex != 0) lose_port(port);
  const InterfaceFacts facts = interface_facts(report.interface);
  if (facts.exists) {
    Status usable = check_again(report, facts, program_->options().buffers);
    if (usable.ok()) usable = add_addresses(report.interface, report.addresses);
    if (usable.ok()) {
      report.facts = facts;
    } else {
      report.mode = fmt::format("down: {}", usable.error().message);
      if (report.mode != before) spdlog::error("port {}: {}", report.name, report.mode);
    }
  }
  return report.mode == before && report.facts.ifindex == 0 ? Links::kSame : Links::kChanged;
}

/// A native port hands frames to another one's driver as they are. A driver without native XDP has no
/// function that takes them: the kernel drops them after the program has counted them.
void XdpEngine::warn_of_mixed_modes() {
  const auto is = [](const XdpPortReport &port, XdpMode mode) {
    return port.mode.starts_with(mode_text(mode));
  };
  const auto native = std::find_if(preflight_.ports.begin(), preflight_.ports.end(),
                                   [&](const XdpPortReport &port) { return is(port, XdpMode::kNative); });
  if (native == preflight_.ports.end()) return;
  for (XdpPortReport &port : preflight_.ports) {
    if (!is(port, XdpMode::kGeneric)) continue;
    const std::string warning = fmt::format(
        "packets that come by port {}, which is native, and leave by {}, whose driver takes no frames of "
        "XDP's, "
        "are lost, though they are counted as forwarded (tracepoint xdp:xdp_redirect_err shows them): give "
        "--xdp-mode generic, or route by {}",
        native->name, port.interface, native->interface);
    if (std::find(port.warnings.begin(), port.warnings.end(), warning) == port.warnings.end())
      port.warnings.push_back(warning);
  }
}

/// Loads the program for the interfaces that there are now, and puts it where the one of before is and where
/// none is yet.
Status XdpEngine::renew_program() {
  ForwardingProgramOptions options = program_->options();
  if (tables_) options.slots = std::max<uint64_t>(options.slots, tables_->snapshot->slots().size());
  options.port_ifindexes = port_ifindexes();
  options.connections_fd = program_->connections_fd();
  options.counters_fd = program_->counters_fd();
  Result<std::unique_ptr<ForwardingProgram>> renewed = ForwardingProgram::load(options);
  if (!renewed.ok()) return renewed.error();
  larger_ = std::move(renewed).value();
  Status done = tables_ ? larger_->install(*tables_) : Status(Done{});
  if (!done.ok()) larger_.reset();
  if (done.ok()) done = swap_in_larger();
  if (done.ok()) done = attach_new_ports();
  for (size_t port = 0; port < links_.size() && done.ok(); port++)
    if (links_[port].is_attached()) done = pin_port(port);
  return done;
}

Engine::Links XdpEngine::follow_links() {
  if (links_.empty()) return Links::kSame;  // not started
  Links links = Links::kSame;
  bool is_back = false;
  for (size_t port = 0; port < links_.size(); port++) {
    if (follow_link(port) == Links::kSame) continue;
    links = Links::kChanged;
    is_back = is_back || preflight_.ports[port].facts.ifindex != 0;
  }
  if (!is_back) return links;
  const Status renewed = renew_program();
  for (size_t port = 0; port < links_.size(); port++) {
    XdpPortReport &report = preflight_.ports[port];
    if (links_[port].is_attached() || report.facts.ifindex == 0) continue;
    report.facts.ifindex = 0;  // looked at again with the next change
    report.mode = fmt::format("down: interface {} is back, but: {}", report.interface,
                              renewed.ok() ? "not attached" : renewed.error().message);
    spdlog::error("port {}: {}", report.name, report.mode);
  }
  warn_of_mixed_modes();
  for (const XdpPortReport &report : preflight_.ports)
    if (report.facts.ifindex != 0) spdlog::info("port {}: mode: {}", report.name, report.mode);
  return links;
}

}  // namespace sluice
