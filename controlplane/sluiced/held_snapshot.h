// A snapshot's bytes together with the checked view of them.
#ifndef SLUICE_CONTROLPLANE_SLUICED_HELD_SNAPSHOT_H
#define SLUICE_CONTROLPLANE_SLUICED_HELD_SNAPSHOT_H

#include <cstdint>
#include <memory>
#include <vector>

#include "controlplane/model/snapshot_view.h"
#include "dataplane/abi/result.h"

namespace sluice {

/// Never changes once it is made: whoever holds one can read it.
class HeldSnapshot {
 public:
  /// Checks the bytes as SnapshotView does.
  static Result<std::shared_ptr<const HeldSnapshot>> hold(SnapshotBytes bytes);

  const SnapshotBytes &bytes() const { return bytes_; }
  const SnapshotView &view() const { return view_; }
  uint64_t revision() const { return view_.header().revision; }

  /// How many slots name each backend, by identifier.
  const std::vector<uint32_t> &slots_by_backend() const { return slots_by_backend_; }

 private:
  explicit HeldSnapshot(SnapshotBytes bytes) : bytes_(std::move(bytes)) {}

  SnapshotBytes bytes_;
  SnapshotView view_;
  std::vector<uint32_t> slots_by_backend_;
};

/// Whether both say the same to a packet: all but revision, time of making and checksum is equal.
bool same_content(const HeldSnapshot &a, const HeldSnapshot &b);

}  // namespace sluice

#endif
