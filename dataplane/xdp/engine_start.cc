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

/// The port's on whose interface it is; null: it is no port's.
XdpEngine::Link *XdpEngine::link_on(const EarlierPort &earlier) {
  const auto port = std::ranges::find(preflight_.ports, earlier.ifindex(),
                                      [](const XdpPortReport &report) { return report.facts.ifindex; });
  if (port == preflight_.ports.end()) return nullptr;
  const Result<InterfaceProgram> there = program_on(port->interface, port->facts.ifindex);
  // An interface of another network namespace may have the same index.
  const bool same = there.ok() && (earlier.attachment().sharing() == PortSharing::kDispatcher ||
                                   there.value().id == earlier.attachment().program());
  return same ? &links_[static_cast<size_t>(port - preflight_.ports.begin())] : nullptr;
}

/// Looks for what packets of the ports run through now, by interface: a port may have got another name, or
/// its name may be another port's now.
void XdpEngine::find_earlier() {
  links_.clear();
  links_.resize(preflight_.ports.size());
  others_.clear();
  for (const std::string &name : setup_.pins->ports()) {
    std::optional<EarlierPort> earlier = EarlierPort::find(*setup_.pins, name);
    Link *link = earlier ? link_on(*earlier) : nullptr;
    if (link != nullptr && !link->earlier) {
      link->earlier = std::move(earlier);
      continue;
    }
    // A start that was interrupted may have left a port pinned by its old name and by its new one.
    if (link != nullptr && link->earlier->attachment().program() == earlier->attachment().program()) continue;
    std::optional<PortAttachment> other = PortAttachment::pinned(*setup_.pins, name);
    if (other) others_.push_back({.name = name, .attachment = std::move(*other)});
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
  // A port that has its name may have been pinned in its place.
  for (const Other &other : others_) (void)other.attachment.pin(*setup_.pins, other.name).ok();
  others_.clear();
  for (const auto &[name, map] :
       {std::pair(kConnectionsPin, &connections), std::pair(kCountersPin, &counters)})
    (void)(map->valid() ? setup_.pins->put(name, map->get()) : setup_.pins->remove(name)).ok();
  (void)setup_.pins->remove(tail_calls_pin(program_->program_id())).ok();
}

bool XdpEngine::is_attached_port(const std::string &name) const {
  for (size_t port = 0; port < links_.size(); port++)
    if (preflight_.ports[port].name == name) return links_[port].is_attached();
  return false;
}

/// Ends what was pinned and is no port's any more, whatever its name: that may be the name of a port which
/// has another interface now. This engine forwards already: what cannot be removed stays until the next
/// start.
void XdpEngine::forget_others() {
  std::vector<std::string> staying;
  for (const Other &other : others_) {
    const bool is_on_interface = other.attachment.ifindex() != 0;
    const Status done = other.attachment.detach();
    if (!done.ok()) {
      spdlog::warn("port {}: {}", other.name, done.error().message);
      staying.push_back(other.name);
    } else if (is_on_interface) {
      spdlog::info("detached what was pinned for port {} and is no port's any more", other.name);
    }
  }
  others_.clear();
  bool is_complete = staying.empty();
  for (const std::string &name : setup_.pins->ports()) {
    if (is_attached_port(name) || std::ranges::find(staying, name) != staying.end()) continue;
    const Status removed = unpin_port(*setup_.pins, name);
    if (!removed.ok()) spdlog::warn("port {}: {}", name, removed.error().message);
    is_complete = is_complete && removed.ok();
  }
  Status removed = remove_dead_entries();
  if (!removed.ok()) spdlog::warn("{}", removed.error().message);
  if (!is_complete) return;  // programs of before may still run
  removed = setup_.pins->remove_tail_calls(program_->program_id());
  if (!removed.ok()) spdlog::warn("{}", removed.error().message);
}

}  // namespace sluice
