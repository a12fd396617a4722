// How an XDP engine takes the place of what a process before it left: everything is made and tried first, the
// programs are exchanged in one step per port, and only then what is not needed any more goes. Killed at any
// point, packets run one program or the other, and the next start does the rest.
#include <algorithm>
#include <utility>

#include <fmt/format.h>
#include <spdlog/spdlog.h>

#include "dataplane/xdp/engine.h"

namespace sluice {
namespace {

bool is_wanted(XdpModeChoice choice, XdpMode mode) {
  return choice == XdpModeChoice::kAuto || (choice == XdpModeChoice::kNative) == (mode == XdpMode::kNative);
}

/// What is kept is not tried anew: the kernel takes no second mode beside the first.
std::string warning_of_kept_generic(const XdpPortReport &port) {
  return fmt::format(
      "generic XDP is several times slower than native, and --xdp-mode auto keeps it: start once "
      "with --xdp-mode native to try whether the driver ({}) takes the program now; if it does not, that "
      "start ends with its reason and what forwards goes on",
      port.facts.driver.empty() ? "unknown" : port.facts.driver);
}

}  // namespace

/// Looks for what packets of the ports run through now, by interface: a port may have got another name.
void XdpEngine::find_earlier() {
  links_.clear();
  links_.resize(preflight_.ports.size());
  for (EarlierPort &earlier : earlier_ports(*setup_.pins)) {
    const auto port = std::ranges::find(preflight_.ports, earlier.ifindex(),
                                        [](const XdpPortReport &report) { return report.facts.ifindex; });
    if (port == preflight_.ports.end()) continue;
    Link &link = links_[static_cast<size_t>(port - preflight_.ports.begin())];
    const Result<InterfaceProgram> there = program_on(port->interface, port->facts.ifindex);
    // An interface of another network namespace may have the same index.
    const bool same = there.ok() && (earlier.attachment().sharing() == PortSharing::kDispatcher ||
                                     there.value().id == earlier.attachment().program());
    if (same && !link.earlier) link.earlier = std::move(earlier);
  }
}

/// Takes what is there over as it is, if it is as is wanted; it still runs the program of before.
void XdpEngine::keep_wanted() {
  for (size_t port = 0; port < links_.size(); port++) {
    Link &link = links_[port];
    XdpPortReport &report = preflight_.ports[port];
    if (!link.earlier) continue;
    const PortAttachment &there = link.earlier->attachment();
    if (there.sharing() != report.sharing || !is_wanted(mode_, link.earlier->mode()) ||
        !there.takes(program_->program_fd()))
      continue;
    link.attachment = PortAttachment::pinned(*setup_.pins, link.earlier->name());
    link.program = Link::Program::kEarlier;
    report.mode =
        fmt::format("{}: {}as the process before this one had attached it", mode_text(link.earlier->mode()),
                    report.sharing == PortSharing::kDispatcher ? "under libxdp's dispatcher, " : "");
    if (mode_ != XdpModeChoice::kAuto || link.earlier->mode() != XdpMode::kGeneric) continue;
    std::string warning = warning_of_kept_generic(report);
    if (std::ranges::find(report.warnings, warning) == report.warnings.end())
      report.warnings.push_back(std::move(warning));
  }
}

/// Attaches what is there in another way than is wanted anew. The kernel takes no second mode beside the
/// first: if the new one does not work the old one is back at once.
Status XdpEngine::attach_in_another_way() {
  for (size_t port = 0; port < links_.size(); port++) {
    Link &link = links_[port];
    if (!link.earlier || link.is_attached()) continue;
    const Status detached = link.earlier->attachment().detach();
    if (!detached.ok())
      return Error{fmt::format("port {}: {}", preflight_.ports[port].name, detached.error().message)};
    const Status done = attach_port(port, *program_);
    if (done.ok()) continue;
    bring_back(*link.earlier);
    link.earlier.reset();
    return Error{fmt::format("port {}: {}", preflight_.ports[port].name, done.error().message)};
  }
  return Done{};
}

void XdpEngine::bring_back(EarlierPort &earlier) const {
  const Status back = earlier.attach_again(*setup_.pins);
  if (!back.ok())
    spdlog::error("port {}: nothing forwards there any more: {}", earlier.name(), back.error().message);
}

Status XdpEngine::start() {
  if (!tables_ && !earlier_ports(*setup_.pins).empty()) {
    waits_for_tables_ = true;
    problem_ = "there are no tables yet: those of the process before this one stay in force";
    spdlog::warn("{}", problem_);
    return Done{};
  }
  return take_over();
}

Status XdpEngine::take_over() {
  const UniqueFd connections = setup_.pins->get(kConnectionsPin);
  const UniqueFd counters = setup_.pins->get(kCountersPin);
  find_earlier();
  keep_wanted();
  Status done = pin_tail_calls(*program_);
  if (done.ok() && setup_.bring_over) setup_.bring_over();
  if (done.ok()) done = attach_new_ports();
  if (done.ok()) done = attach_in_another_way();
  if (done.ok()) done = move_links(*program_);
  if (done.ok()) done = pin_all();
  if (done.ok()) done = program_->wait_for_readers();
  if (!done.ok()) {
    go_back(connections, counters);
    return done;
  }
  warn_of_mixed_modes();
  waits_for_tables_ = false;
  setup_.bring_over = nullptr;  // with the memory of before
  forget_others();
  for (Link &link : links_) link.earlier.reset();
  sweeper_ = std::make_unique<Sweeper>(program_->options().worker_count, [this] { return sweep(); });
  return Done{};
}

/// Leaves everything as it was before take_over(), with the maps that were pinned then.
void XdpEngine::go_back(const UniqueFd &connections, const UniqueFd &counters) {
  for (size_t port = 0; port < links_.size(); port++) {
    Link &link = links_[port];
    if (!link.is_attached()) continue;
    if (link.program == Link::Program::kEarlier) {
      (void)link.attachment->replace(link.earlier->program_fd()).ok();
      continue;
    }
    (void)link.attachment->detach().ok();
    (void)unpin_port(*setup_.pins, preflight_.ports[port].name).ok();
    if (link.earlier) bring_back(*link.earlier);
  }
  links_.clear();
  for (const auto &[name, map] :
       {std::pair(kConnectionsPin, &connections), std::pair(kCountersPin, &counters)})
    (void)(map->valid() ? setup_.pins->put(name, map->get()) : setup_.pins->remove(name)).ok();
  (void)setup_.pins->remove(tail_calls_pin(program_->program_id())).ok();
}

/// Ends what is pinned and is no port's any more. This engine forwards already: what cannot be removed stays
/// until the next start.
void XdpEngine::forget_others() {
  bool is_complete = true;
  for (const std::string &name : setup_.pins->ports()) {
    const auto is_named = [&name](const XdpPortReport &report) { return report.name == name; };
    if (std::ranges::any_of(preflight_.ports, is_named)) continue;
    const auto has_name = [&name](const Link &link) { return link.earlier && link.earlier->name() == name; };
    const std::optional<PortAttachment> pinned = PortAttachment::pinned(*setup_.pins, name);
    Status done = Done{};
    if (pinned && std::ranges::none_of(links_, has_name)) {
      done = pinned->detach();
      if (done.ok()) spdlog::info("detached what was pinned for port {}", name);
    }
    if (done.ok()) done = unpin_port(*setup_.pins, name);
    if (!done.ok()) spdlog::warn("port {}: {}", name, done.error().message);
    is_complete = is_complete && done.ok();
  }
  if (!is_complete) return;  // programs of before may still run
  const Status removed = setup_.pins->remove_tail_calls(program_->program_id());
  if (!removed.ok()) spdlog::warn("{}", removed.error().message);
}

}  // namespace sluice
