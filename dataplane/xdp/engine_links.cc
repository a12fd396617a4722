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

/// Said once.
void XdpEngine::set_down(size_t port, const std::string &cause) {
  XdpPortReport &report = preflight_.ports[port];
  report.facts.ifindex = 0;
  const std::string before = std::exchange(report.mode, "down: " + cause);
  if (report.mode != before) spdlog::error("port {}: {}", report.name, report.mode);
}

/// The kernel has detached the program with the interface.
void XdpEngine::lose_port(size_t port) {
  const XdpPortReport &report = preflight_.ports[port];
  links_[port] = {};
  const Status removed = unpin_port(*setup_.pins, report.name);
  if (!removed.ok()) spdlog::warn("{}", removed.error().message);
  set_down(port, fmt::format("interface {} has gone, and is taken again when it is back", report.interface));
}

/// Whether the port is to be attached: its interface was not there or not the port's, and now is as it should
/// be.
bool XdpEngine::is_back(size_t port, Look look) {
  XdpPortReport &report = preflight_.ports[port];
  if (is_there(report.facts.ifindex)) return false;
  if (report.facts.ifindex != 0) lose_port(port);
  const InterfaceFacts facts = interface_facts(report.interface);
  if (!facts.exists) return false;
  const Refused &refused = links_[port].refused;
  if (look == Look::kAtChanges && refused.ifindex == facts.ifindex && refused.mtu == facts.mtu) return false;
  Status usable = check_again(report, facts, program_->options().buffers);
  if (usable.ok()) usable = add_addresses(report.interface, report.addresses);
  if (!usable.ok()) {
    set_down(port, usable.error().message);
    return false;
  }
  report.facts = facts;
  return true;
}

/// Loading the program for it anew, again and again, would keep the server's thread from everything else.
void XdpEngine::refuse(size_t port, const Error &error) {
  const XdpPortReport &report = preflight_.ports[port];
  links_[port].refused = {.ifindex = report.facts.ifindex, .mtu = report.facts.mtu};
  set_down(port, fmt::format("interface {} is back, but: {}", report.interface, error.message));
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

/// A program for the interfaces that there are now, with the tables in force.
Result<std::unique_ptr<ForwardingProgram>> XdpEngine::load_anew() const {
  ForwardingProgramOptions options = program_->options();
  if (tables_) options.slots = std::max<uint64_t>(options.slots, tables_->snapshot->slots().size());
  options.port_ifindexes = port_ifindexes();
  options.connections_fd = program_->connections_fd();
  options.counters_fd = program_->counters_fd();
  Result<std::unique_ptr<ForwardingProgram>> loaded = ForwardingProgram::load(options);
  if (!loaded.ok() || !tables_) return loaded;
  const Status installed = loaded.value()->install(*tables_);
  if (!installed.ok()) return installed.error();
  return loaded;
}

/// Attaches a program that knows these ports' interfaces, and puts it where the one of before is. That one
/// stays when none of them can be attached: the other ports have no part in it.
void XdpEngine::attach_again(const std::vector<size_t> &back) {
  Result<std::unique_ptr<ForwardingProgram>> renewed = load_anew();
  std::vector<size_t> attached;
  for (const size_t port : back) {
    const Status done = renewed.ok() ? attach_port(port, *renewed.value()) : Status(renewed.error());
    if (done.ok()) attached.push_back(port);
    if (!done.ok()) refuse(port, done.error());
  }
  if (attached.empty()) return;
  larger_ = std::move(renewed).value();
  const Status swapped = swap_in_larger();
  for (const size_t port : attached) {
    const XdpPortReport &report = preflight_.ports[port];
    if (!swapped.ok()) {
      (void)links_[port].attachment->detach().ok();
      links_[port] = {};
      refuse(port, swapped.error());
      continue;
    }
    const Status pinned = pin_port(port);
    if (!pinned.ok())
      spdlog::error("port {}: it forwards as long as this process runs: {}", report.name,
                    pinned.error().message);
    spdlog::info("port {}: mode: {}", report.name, report.mode);
  }
  warn_of_mixed_modes();
}

Engine::Links XdpEngine::follow_links(Look look) {
  if (links_.empty()) return Links::kSame;  // not started
  const std::vector<EnginePort> before = ports();
  std::vector<size_t> back;
  for (size_t port = 0; port < links_.size(); port++)
    if (is_back(port, look)) back.push_back(port);
  if (!back.empty()) attach_again(back);
  return ports() == before ? Links::kSame : Links::kChanged;
}

}  // namespace sluice
