#include "controlplane/sluiced/held_snapshot.h"

#include <cstring>

namespace sluice {

Result<std::shared_ptr<const HeldSnapshot>> HeldSnapshot::hold(SnapshotBytes bytes) {
  const std::shared_ptr<HeldSnapshot> held(new HeldSnapshot(std::move(bytes)));
  Result<SnapshotView> view = SnapshotView::open(held->bytes_);
  if (!view.ok()) return view.error();
  held->view_ = view.value();
  held->slots_by_backend_.assign(kMaxBackends, 0);
  for (const uint16_t id : held->view_.slots()) held->slots_by_backend_[id]++;
  return std::shared_ptr<const HeldSnapshot>(held);
}

bool same_content(const HeldSnapshot &a, const HeldSnapshot &b) {
  if (a.bytes().size() != b.bytes().size()) return false;
  SnapshotHeader left = a.view().header();
  SnapshotHeader right = b.view().header();
  left.revision = right.revision = 0;
  left.created_unix_ns = right.created_unix_ns = 0;
  left.checksum = right.checksum = 0;
  if (std::memcmp(&left, &right, sizeof(left)) != 0) return false;
  return std::memcmp(a.bytes().data() + sizeof(SnapshotHeader), b.bytes().data() + sizeof(SnapshotHeader),
                     a.bytes().size() - sizeof(SnapshotHeader)) == 0;
}

}  // namespace sluice
