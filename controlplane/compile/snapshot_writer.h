// Puts the snapshot's sections into one block of bytes.
#ifndef SLUICE_CONTROLPLANE_COMPILE_SNAPSHOT_WRITER_H
#define SLUICE_CONTROLPLANE_COMPILE_SNAPSHOT_WRITER_H

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "controlplane/model/snapshot_view.h"
#include "dataplane/abi/result.h"
#include "dataplane/abi/snapshot.h"

namespace sluice {

/// The strings section: each text once.
class StringTable {
 public:
  StringRef add(std::string_view text);
  const std::string &bytes() const { return bytes_; }

 private:
  std::string bytes_;
  std::unordered_map<std::string, StringRef> known_;
};

/// The sections, as the snapshot will have them. `slots` are several tables, one after another.
struct SnapshotParts {
  std::vector<Service> services;
  std::vector<Vip> vips;
  std::vector<PortRange> port_ranges;
  std::vector<Backend> backends;
  std::vector<std::span<const uint16_t>> slots;
  StringTable strings;
  std::vector<CheckSource> check_sources;
  std::vector<uint16_t> pins;
};

/// Lays out the sections at multiples of 64 bytes and completes `header`: of it, the caller sets
/// revision, creation time, next VIP number and flow hash key.
Result<SnapshotBytes> write_snapshot(SnapshotHeader header, const SnapshotParts &parts);

}  // namespace sluice

#endif
