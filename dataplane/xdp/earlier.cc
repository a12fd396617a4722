#include "dataplane/xdp/earlier.h"

#include <algorithm>
#include <array>
#include <iterator>
#include <string_view>
#include <utility>

#include <bpf/bpf.h>
#include <net/if.h>

namespace sluice {
namespace {

/// The map of that name among those that a program uses.
UniqueFd map_of(const bpf_prog_info &program, const uint32_t *maps, std::string_view name) {
  for (uint32_t i = 0; i < program.nr_map_ids; i++) {
    UniqueFd map(bpf_map_get_fd_by_id(maps[i]));
    bpf_map_info info = {};
    uint32_t size = sizeof(info);
    if (map.valid() && bpf_obj_get_info_by_fd(map.get(), &info, &size) == 0 && name == info.name) return map;
  }
  return {};
}

}  // namespace

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
  std::array<uint32_t, 64> maps = {};
  bpf_prog_info info = {};
  info.nr_map_ids = maps.size();
  info.map_ids = reinterpret_cast<uintptr_t>(maps.data());
  uint32_t size = sizeof(info);
  if (bpf_obj_get_info_by_fd(newest->program_fd(), &info, &size) != 0) return {};
  return {.connections = map_of(info, maps.data(), kConnectionsPin),
          .counters = map_of(info, maps.data(), kCountersPin)};
}

}  // namespace sluice
