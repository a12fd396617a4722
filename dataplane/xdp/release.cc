#include "dataplane/xdp/release.h"

#include <utility>

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <spdlog/spdlog.h>

#include "dataplane/server/connection_file.h"
#include "dataplane/server/connection_region.h"
#include "dataplane/server/state_directory.h"
#include "dataplane/xdp/map_memory.h"

namespace sluice {
namespace {

/// Whether this program knows the table's layout. An upgrade may not; then there is nothing to save.
bool is_known(const Mapping &memory) {
  if (memory.size() < kConnectionHeaderSize) return false;
  const auto &header = *reinterpret_cast<const ConnectionRegionHeader *>(memory.data());
  return header.magic == SLUICE_CONNECTION_MAGIC && header.version == SLUICE_CONNECTION_VERSION;
}

/// The connection table that is to be saved: of the maps in use, else the pinned one if the file was not left
/// later. An empty mapping: none.
Result<Mapping> table_to_save(const std::vector<EarlierPort> &ports, const Pins &pins,
                              const std::filesystem::path &connections) {
  const UniqueFd in_use = live_maps(ports).connections;
  const UniqueFd pinned = pins.get(kConnectionsPin);
  const UniqueFd &map = in_use.valid() ? in_use : pinned;
  if (!map.valid()) return Mapping();
  Result<Mapping> memory = map_memory(map.get(), "the pinned connection table");
  if (!memory.ok()) return memory;
  if (!is_known(memory.value())) {
    spdlog::warn("the pinned connection table is of another version: its connections are forgotten");
    return Mapping();
  }
  Result<std::optional<ConnectionFile>> file = ConnectionFile::open_existing(connections);
  if (!file.ok()) return file.error();
  if (!in_use.valid() && file.value() &&
      is_left_later(file.value()->bytes(), {memory.value().data(), memory.value().size()}))
    return Mapping();
  // It is out of date, and its memory may be needed.
  if (file.value()) {
    const Status discarded = file.value()->discard();
    if (!discarded.ok()) return discarded.error();
  }
  return memory;
}

}  // namespace

/// All of them, or none.
Status Release::detach_ports() {
  for (const EarlierPort &port : ports_) {
    const Status done = port.attachment().detach();
    if (!done.ok()) return Error{fmt::format("port {}: {}", port.name(), done.error().message)};
    detached_++;
  }
  return Done{};
}

Result<Release> Release::begin(const Pins &pins, const std::filesystem::path &connections) {
  Release release(pins, connections);
  release.ports_ = earlier_ports(pins);
  Status done = make_directory_of(connections);
  if (!done.ok()) return done.error();
  Result<Mapping> table = table_to_save(release.ports_, pins, connections);
  if (!table.ok()) return table.error();
  std::optional<ConnectionSave> save;
  if (table.value().size() > 0) {
    Result<ConnectionSave> reserved =
        ConnectionSave::reserve(connections, {table.value().data(), table.value().size()});
    if (!reserved.ok()) return reserved.error();
    save.emplace(std::move(reserved).value());
  }
  done = release.detach_ports();
  if (done.ok() && save) done = std::move(*save).save(read_boot_clock());
  if (!done.ok()) {
    release.undo();
    return done.error();
  }
  if (save) release.file_ = File::kSaved;
  const Status removed = remove_dead_entries();  // which nothing pinned leads to
  if (!removed.ok()) spdlog::warn("{}", removed.error().message);
  std::vector<std::string> names;
  for (const EarlierPort &port : release.ports_) names.push_back(port.name());
  release.text_ = fmt::format(
      "XDP programs detached from {}, {}",
      names.empty() ? "no port" : fmt::format("ports {}", fmt::join(names, ", ")),
      save ? fmt::format("connections saved to {}", connections.string()) : "no connections to save");
  return release;
}

Status Release::finish() const {
  std::vector<std::string> staying;
  const auto note = [&staying](const Status &removed) {
    if (!removed.ok()) staying.push_back(removed.error().message);
  };
  for (const std::string &port : pins_->ports())
    for (const std::string &name : {link_pin(port), entry_pin(port), jump_pin(port)})
      note(pins_->remove(name));
  for (const std::string_view name : {kConnectionsPin, kCountersPin}) note(pins_->remove(name));
  note(pins_->remove_tail_calls(0));
  if (!staying.empty()) return Error{fmt::format("{}", fmt::join(staying, "; "))};
  return Done{};
}

void Release::undo() {
  for (size_t port = 0; port < detached_; port++) {
    const Status attached = ports_[port].attach_again(*pins_);
    if (!attached.ok())
      spdlog::error("port {}: nothing forwards there any more: {}", ports_[port].name(),
                    attached.error().message);
  }
  detached_ = 0;
  if (file_ == File::kAsBefore) return;
  const Status discarded = discard_connection_file(connections_);
  if (!discarded.ok()) spdlog::warn("{}", discarded.error().message);
  file_ = File::kAsBefore;
}

Status PinnedEngine::stop() {
  Result<std::optional<Pins>> pins = Pins::open_existing(directory_);
  if (!pins.ok()) return pins.error();
  if (!pins.value()) return Done{};
  pins_.emplace(std::move(*pins.value()));
  Result<Release> begun = Release::begin(*pins_, connections_);
  if (!begun.ok()) return begun.error();
  release_.emplace(std::move(begun).value());
  spdlog::info("{}", release_->text());
  return Done{};
}

void PinnedEngine::resume() {
  if (!release_) return;
  release_->undo();
  release_.reset();
  spdlog::info("the XDP programs of before are attached again");
}

Status PinnedEngine::forget() {
  if (!release_) return Done{};
  Status finished = release_->finish();
  if (finished.ok()) pins_->remove_directory();
  release_.reset();
  pins_.reset();
  return finished;
}

Result<std::string> release(const Pins &pins, const std::filesystem::path &connections) {
  const Result<Release> begun = Release::begin(pins, connections);
  if (!begun.ok()) return begun.error();
  const Status finished = begun.value().finish();
  if (!finished.ok()) return finished.error();
  return begun.value().text();
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
