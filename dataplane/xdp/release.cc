#include "dataplane/xdp/release.h"

#include <cerrno>
#include <cstring>
#include <vector>

#include <bpf/bpf.h>
#include <fmt/format.h>
#include <fmt/ranges.h>
#include <spdlog/spdlog.h>

#include "dataplane/server/connection_region.h"
#include "dataplane/server/state_directory.h"
#include "dataplane/xdp/map_memory.h"
#include "dataplane/xdp/port_attachment.h"

namespace sluice {
namespace {

/// Detaches all ports. Their pins go only then: what stays must be found again.
Result<std::vector<std::string>> detach_ports(const Pins &pins) {
  std::vector<std::string> detached;
  for (const std::string &port : pins.ports()) {
    const std::optional<PortAttachment> pinned = PortAttachment::pinned(pins, port);
    if (pinned) {
      const Status done = pinned->detach();
      if (!done.ok()) return Error{fmt::format("port {}: {}", port, done.error().message)};
    }
    const Status removed = unpin_port(pins, port);
    if (!removed.ok()) return removed.error();
    detached.push_back(port);
  }
  return detached;
}

/// Whether this program knows the table's layout. An upgrade may not; then there is nothing to save.
bool is_known(const Mapping &memory) {
  if (memory.size() < kConnectionHeaderSize) return false;
  const auto &header = *reinterpret_cast<const ConnectionRegionHeader *>(memory.data());
  return header.magic == SLUICE_CONNECTION_MAGIC && header.version == SLUICE_CONNECTION_VERSION;
}

Status save(const UniqueFd &map, const std::filesystem::path &connections) {
  Result<Mapping> memory = map_memory(map.get(), "the pinned connection table");
  if (!memory.ok()) return memory.error();
  if (!is_known(memory.value())) {
    spdlog::warn("the pinned connection table is of another version: its connections are forgotten");
    return Done{};
  }
  Status directory = make_directory_of(connections);
  if (!directory.ok()) return directory;
  return save_connections(connections, {memory.value().data(), memory.value().size()}, read_boot_clock());
}

}  // namespace

Result<std::string> release(const Pins &pins, const std::filesystem::path &connections) {
  Result<std::vector<std::string>> detached = detach_ports(pins);
  if (!detached.ok()) return detached.error();
  const UniqueFd map = pins.get(kConnectionsPin);
  if (map.valid()) {
    const Status saved = save(map, connections);
    if (!saved.ok()) return saved.error();
  }
  for (const std::string_view name : {kConnectionsPin, kCountersPin}) {
    const Status removed = pins.remove(name);
    if (!removed.ok()) return removed.error();
  }
  const Status removed = pins.remove_tail_calls(0);
  if (!removed.ok()) return removed.error();
  const std::vector<std::string> &ports = detached.value();
  return fmt::format(
      "XDP programs detached from {}, {}",
      ports.empty() ? "no port" : fmt::format("ports {}", fmt::join(ports, ", ")),
      map.valid() ? fmt::format("connections saved to {}", connections.string()) : "no connections to save");
}

Result<std::string> release(const std::filesystem::path &directory,
                            const std::filesystem::path &connections) {
  Result<std::optional<Pins>> pins = Pins::open_existing(directory);
  if (!pins.ok()) return pins.error();
  if (!pins.value()) return std::string();
  Result<std::string> released = release(*pins.value(), connections);
  if (released.ok()) pins.value()->remove_directory();
  return released;
}

}  // namespace sluice
