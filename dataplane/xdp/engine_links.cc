// The XDP engine's ports, whose interfaces may go and come back while it runs.
#include <algorithm>
#include <array>
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

/// Nothing of this engine's is on the port's interface any more.
void XdpEngine::unlink(size_t port) {
  const XdpPortReport &report = preflight_.ports[port];
  links_[port] = {};
  const Status removed = unpin_port(*setup_.pins, report.name);
  if (!removed.ok()) spdlog::warn("port {}: {}", report.name, removed.error().message);
}

/// The kernel has detached the program with the interface.
void XdpEngine::lose_port(size_t port) {
  XdpPortReport &report = preflight_.ports[port];
  if (!links_.empty()) unlink(port);
  report.misfit.clear();
  set_down(port, fmt::format("interface {} has gone, and is taken again when it is back", report.interface));
}

/// Of an interface that is still there; by its index, for it may have got another name. One that the program
/// does not fit any more keeps it: most packets are smaller.
void XdpEngine::follow_mtu(size_t port) {
  XdpPortReport &report = preflight_.ports[port];
  std::array<char, IF_NAMESIZE> name = {};
  if (::if_indextoname(report.facts.ifindex, name.data()) == nullptr) return;
  const InterfaceFacts facts = interface_facts(name.data());
  if (facts.ifindex != report.facts.ifindex || facts.mtu == report.facts.mtu) return;
  const Status fits = check_again(report, facts, program_->options().buffers);
  report.misfit = fits.ok() ? "" : fits.error().message;
  report.facts.mtu = facts.mtu;
  spdlog::info("port {}: interface {} has MTU {} now", report.name, report.interface, facts.mtu);
  if (!fits.ok()) spdlog::error("{}", report.misfit);
}

/// Whether the port is to be attached: its interface was not there or not the port's, and now is as it should
/// be.
bool XdpEngine::is_back(size_t port, Look look) {
  XdpPortReport &report = preflight_.ports[port];
  if (is_there(report.facts.ifindex)) return false;
  if (report.facts.ifindex != 0) lose_port(port);
  const InterfaceFacts facts = interface_facts(report.interface);
  if (!facts.exists) return false;
  const Refused refused = links_.empty() ? Refused() : links_[port].refused;
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
void XdpEngine::refuse(size_t port, const std::string &cause) {
  const XdpPortReport &report = preflight_.ports[port];
  links_[port].refused = {.ifindex = report.facts.ifindex, .mtu = report.facts.mtu};
  set_down(port, cause);
}

/// One that cannot be pinned forwards none the less, and is tried again now and then.
void XdpEngine::pin_or_tell(size_t port) {
  const std::string &name = preflight_.ports[port].name;
  const Status pinned = pin_port(port);
  const std::string unpinned =
      pinned.ok() ? "" : "it forwards only as long as this process runs: " + pinned.error().message;
  const std::string before = std::exchange(links_[port].unpinned, unpinned);
  if (before == unpinned) return;
  if (pinned.ok())
    spdlog::info("port {}: it is pinned now", name);
  else
    spdlog::error("port {}: {}", name, unpinned);
}

// What somebody has taken off the interface (`ip link set dev X xdp off` does not take a link, bpftool does;
// xdp-loader takes an entry out of a dispatcher).

Status XdpEngine::attach_severed(size_t port, const ForwardingProgram &program) {
  Status attached = attach_port(port, program);
  if (!attached.ok()) return attached;
  spdlog::warn("port {}: somebody had detached the program; it is attached again",
               preflight_.ports[port].name);
  if (is_started()) pin_or_tell(port);  // what starts pins it with the others
  return Done{};
}

/// The others have no part in it.
void XdpEngine::drop_severed(size_t port, const Error &error) {
  if (!is_there(preflight_.ports[port].facts.ifindex)) return lose_port(port);
  unlink(port);
  refuse(port, "somebody has detached the program, and: " + error.message);
}

/// Now and then.
void XdpEngine::keep_attached(size_t port) {
  Link &link = links_[port];
  const XdpPortReport &report = preflight_.ports[port];
  if (!link.is_attached()) return;
  if (link.attachment->is_taken_off(report.interface, report.facts.ifindex)) {
    const Status attached = attach_severed(port, *program_);
    if (!attached.ok()) drop_severed(port, attached.error());
  } else if (!link.unpinned.empty()) {
    pin_or_tell(port);
  }
}

/// After success packets of the port run `program`, or it is down. On an error they run what they ran.
Status XdpEngine::move_link(size_t port, const ForwardingProgram &program) {
  const XdpPortReport &report = preflight_.ports[port];
  Status moved = links_[port].attachment->replace(program.program_fd());
  // Replacing what an entry jumps to works with one that no dispatcher calls.
  if (!links_[port].attachment->is_taken_off(report.interface, report.facts.ifindex)) return moved;
  moved = attach_severed(port, program);
  if (moved.ok() || !is_started()) return moved;
  drop_severed(port, moved.error());
  return Done{};
}

/// Puts `program` behind every link. On an error they are as before.
Status XdpEngine::move_links(const ForwardingProgram &program) {
  for (size_t port = 0; port < links_.size(); port++) {
    if (!links_[port].is_attached()) continue;
    const Status replaced = move_link(port, program);
    if (replaced.ok()) continue;
    for (size_t moved = 0; moved < port && program_.get() != &program; moved++)
      if (links_[moved].is_attached()) (void)links_[moved].attachment->replace(program_->program_fd()).ok();
    return Error{fmt::format("port {}: {}", preflight_.ports[port].name, replaced.error().message)};
  }
  return Done{};
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

/// What waits for tables was loaded for the interfaces that there were then.
Status XdpEngine::load_for_interfaces() {
  look_at_ports(Look::kAtAll);
  if (program_->options().port_ifindexes == port_ifindexes()) return Done{};
  larger_.reset();
  Result<std::unique_ptr<ForwardingProgram>> renewed = load_anew();
  if (!renewed.ok()) return renewed.error();
  const std::lock_guard lock(program_mutex_);
  program_ = std::move(renewed).value();
  return Done{};
}

/// Attaches a program that knows these ports' interfaces, and puts it where the one of before is. That one
/// stays when none of them can be attached: the other ports have no part in it.
void XdpEngine::attach_again(const std::vector<size_t> &back) {
  const auto is_back_but = [this](size_t port, const Error &error) {
    refuse(port,
           fmt::format("interface {} is back, but: {}", preflight_.ports[port].interface, error.message));
  };
  Result<std::unique_ptr<ForwardingProgram>> renewed = load_anew();
  std::vector<size_t> attached;
  for (const size_t port : back) {
    const Status done = renewed.ok() ? attach_port(port, *renewed.value()) : Status(renewed.error());
    if (done.ok()) attached.push_back(port);
    if (!done.ok()) is_back_but(port, done.error());
  }
  if (attached.empty()) return;
  larger_ = std::move(renewed).value();
  const Status swapped = swap_in_larger();
  for (const size_t port : attached) {
    if (!links_[port].is_attached()) continue;  // gone again meanwhile
    if (swapped.ok()) {
      pin_or_tell(port);
      spdlog::info("port {}: mode: {}", preflight_.ports[port].name, preflight_.ports[port].mode);
      continue;
    }
    (void)links_[port].attachment->detach().ok();
    links_[port] = {};
    is_back_but(port, swapped.error());
  }
  warn_of_mixed_modes();
}

void XdpEngine::look_at_ports(Look look) {
  std::vector<size_t> back;
  for (size_t port = 0; port < preflight_.ports.size(); port++) {
    if (is_back(port, look)) {
      back.push_back(port);
      continue;
    }
    if (preflight_.ports[port].facts.ifindex == 0) continue;
    follow_mtu(port);
    if (is_started() && look == Look::kAtAll) keep_attached(port);
  }
  if (is_started() && !back.empty()) return attach_again(back);
  for (const size_t port : back) preflight_.ports[port].mode.clear();  // not down, and not attached yet
}

bool XdpEngine::looks_up_programs() const {
  return waits_for_tables_ || std::ranges::any_of(preflight_.ports, [](const XdpPortReport &port) {
           return port.sharing == PortSharing::kDispatcher;
         });
}

Engine::Links XdpEngine::follow_links(Look look) {
  if (!is_started() && !waits_for_tables_) return Links::kSame;
  look_at_ports(look);
  const std::vector<EnginePort> before = std::exchange(told_ports_, ports());
  return told_ports_ == before ? Links::kSame : Links::kChanged;
}

}  // namespace sluice
