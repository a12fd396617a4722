// Any bytes: check_snapshot must refuse them without reading outside, and what it accepts must be safe
// to follow everywhere that the packet path follows it.
//
// The first byte says whether the rest is a whole snapshot (even: checksum and sizes are then made to
// fit, so that the fuzzer gets past them) or changes to a good one (odd: pairs of offset and value).
#include <cstddef>
#include <cstdint>
#include <cstring>

#include "dataplane/server/snapshot_check.h"
#include "tests/server/snapshot_builder.h"

namespace {

using sluice::AlignedBytes;
using sluice::Section;
using sluice::SnapshotHeader;

AlignedBytes good_snapshot() {
  sluice::SnapshotBuilder builder;
  const uint32_t b1 = builder.add_backend("web", "b1", "10.1.0.11", 2);
  const uint32_t b2 = builder.add_backend("web", "b2", "fd00:1::12", 1);
  const uint32_t web = builder.add_service("web", builder.add_pool({b1, b2}));
  const uint32_t dns = builder.add_service("dns", builder.add_pool({b2}), sluice::kSchedulerLeastConnection);
  builder.add_vip("198.51.100.10", {{80, 80, web}, {8000, 8999, web}}, {{53, 53, dns}});
  builder.add_vip("2001:db8::10", {{443, 443, web}});
  return builder.build();
}

/// Follows every reference, as packets would; the sanitizers see what is outside.
uint64_t follow(const AlignedBytes &bytes) {
  const auto *start = bytes.data();
  const auto &header = *reinterpret_cast<const SnapshotHeader *>(start);
  const auto at = [start](const Section &section, size_t index) {
    return start + section.offset + index * section.record_size;
  };
  uint64_t sum = 0;
  for (uint32_t i = 0; i < header.vips.count; i++) {
    const auto &vip = *reinterpret_cast<const sluice::Vip *>(at(header.vips, i));
    if (vip.number == 0) continue;
    for (uint32_t r = vip.tcp_first; r < vip.udp_end; r++) {
      const auto &range = *reinterpret_cast<const sluice::PortRange *>(at(header.port_ranges, r));
      const auto &service = *reinterpret_cast<const sluice::Service *>(at(header.services, range.service));
      if (service.name.length > 0) sum += static_cast<uint8_t>(*at(header.strings, service.name.offset));
      for (uint32_t s = 0; s < service.slot_count; s++) {
        const auto slot = *reinterpret_cast<const uint16_t *>(at(header.slots, service.first_slot + s));
        const auto &backend = *reinterpret_cast<const sluice::Backend *>(at(header.backends, slot));
        if (backend.state == sluice::kBackendUnused) __builtin_trap();
        sum += backend.weight;
      }
    }
  }
  return sum;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  if (size == 0) return 0;
  AlignedBytes bytes;
  if (data[0] % 2 == 0) {
    const auto *rest = reinterpret_cast<const std::byte *>(data + 1);
    bytes.assign(rest, rest + size - 1);
    (void)sluice::check_snapshot(bytes).ok();  // as it came, first
  } else {
    static const AlignedBytes kGood = good_snapshot();
    bytes = kGood;
    for (size_t i = 1; i + 2 < size; i += 3)
      bytes[(data[i] | data[i + 1] << 8) % bytes.size()] = std::byte{data[i + 2]};
  }
  if (bytes.size() >= sizeof(SnapshotHeader)) {
    bytes.resize(bytes.size() / 8 * 8);
    auto &header = *reinterpret_cast<SnapshotHeader *>(bytes.data());
    header.total_size = bytes.size();
    sluice::SnapshotBuilder::seal(&bytes);
  }
  if (sluice::check_snapshot(bytes).ok() && follow(bytes) == UINT64_MAX) __builtin_trap();
  return 0;
}
