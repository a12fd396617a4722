#include "dataplane/xdp/earlier.h"

#include <algorithm>
#include <array>
#include <utility>

#include <bpf/bpf.h>
#include <net/if.h>

namespace sluice {
std::optional<EarlierPort> EarlierPort::find(const Pins &pins, const std::string &name) {
  std::optional<PortAttachment> pinned = PortAttachment::pinned(pins, name);
  if (!pinned) return std::nullopt;
  EarlierPort port(name, std::move(*pinned));
  port.place_.ifindex = port.attachment_.ifindex();
  if (port.place_.ifindex == 0) return std::nullopt;
  std::array<char, IF_NAMESIZE> interface = {};
  // Empty for one of another network namespace: it can be kept, not attached again.
  if (::if_indextoname(port.place_.ifindex, interface.data()) != nullptr)
    port.place_.interface = interface.data();
  const Result<InterfaceProgram> there = program_on(port.place_.interface, port.place_.ifindex);
  if (there.ok()) port.mode_ = there.value().mode;
  port.place_.mode = port.mode_ == XdpMode::kNative ? XdpModeChoice::kNative : XdpModeChoice::kGeneric;
  port.program_.reset(bpf_prog_get_fd_by_id(port.attachment_.deciding_program()));
  return port;
}

Status EarlierPort::attach_again(const Pins &pins) {
  Result<PortAttachment> attached = PortAttachment::make(program_.get(), attachment_.sharing(), place_);
  if (!attached.ok()) {
    // What the program's frames may lie in is not said by the kernel.
    place_.buffers = FrameBuffers::kSeveral;
    attached = PortAttachment::make(program_.get(), attachment_.sharing(), place_);
  }
  if (!attached.ok()) return attached.error();
  attachment_ = std::move(attached).value();
  return attachment_.pin(pins, name_);
}

std::vector<EarlierPort> earlier_ports(const Pins &pins) {
  std::vector<EarlierPort> ports;
  for (const std::string &name : pins.ports()) {
    std::optional<EarlierPort> port = EarlierPort::find(pins, name);
    if (port) ports.push_back(std::move(*port));
  }
  return ports;
}

LiveMaps live_maps(const std::vector<EarlierPort> &ports) {
  // Identifiers rise: the newest program is the one that an interrupted start had begun to put in place, with
  // all connections of the one before it.
  const auto newest = std::ranges::max_element(
      ports, {}, [](const EarlierPort &port) { return program_id(port.program_fd()); });
  if (newest == ports.end()) return {};
  return {.connections = map_of_program(newest->program_fd(), kConnectionsPin),
          .counters = map_of_program(newest->program_fd(), kCountersPin)};
}

}  // namespace sluice
