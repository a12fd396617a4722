#include "controlplane/compile/snapshot_writer.h"

#include <cstring>
#include <limits>

namespace sluice {
namespace {

constexpr uint64_t kSectionAlignment = 64;

uint64_t aligned(uint64_t offset) {
  return (offset + kSectionAlignment - 1) / kSectionAlignment * kSectionAlignment;
}

// Hands out places for sections, one after another.
class Layout {
 public:
  Section place(uint64_t count, uint32_t record_size) {
    const Section section{end_, static_cast<uint32_t>(count), record_size};
    too_large_ = too_large_ || count > std::numeric_limits<uint32_t>::max();
    end_ = aligned(end_ + count * record_size);
    return section;
  }

  uint64_t end() const { return end_; }
  bool too_large() const { return too_large_; }

 private:
  uint64_t end_ = aligned(sizeof(SnapshotHeader));
  bool too_large_ = false;
};

template <typename Records>
void copy(SnapshotBytes *bytes, uint64_t offset, const Records &records) {
  if (records.empty()) return;
  std::memcpy(bytes->data() + offset, records.data(), records.size() * sizeof(*records.data()));
}

}  // namespace

StringRef StringTable::add(std::string_view text) {
  const auto [entry, is_new] = known_.emplace(text, StringRef{});
  if (is_new) {
    entry->second = {static_cast<uint32_t>(bytes_.size()), static_cast<uint32_t>(text.size())};
    bytes_ += text;
  }
  return entry->second;
}

Result<SnapshotBytes> write_snapshot(SnapshotHeader header, const SnapshotParts &parts) {
  uint64_t slot_count = 0;
  for (const auto &table : parts.slots) slot_count += table.size();
  Layout layout;
  header.magic = SLUICE_SNAPSHOT_MAGIC;
  header.version = SLUICE_SNAPSHOT_VERSION;
  header.header_size = sizeof(SnapshotHeader);
  header.vip_mask = static_cast<uint32_t>(parts.vips.size() - 1);
  header.services = layout.place(parts.services.size(), sizeof(Service));
  header.vips = layout.place(parts.vips.size(), sizeof(Vip));
  header.port_ranges = layout.place(parts.port_ranges.size(), sizeof(PortRange));
  header.backends = layout.place(parts.backends.size(), sizeof(Backend));
  header.slots = layout.place(slot_count, sizeof(uint16_t));
  header.strings = layout.place(parts.strings.bytes().size(), 1);
  header.check_sources = layout.place(parts.check_sources.size(), sizeof(CheckSource));
  header.pins = layout.place(parts.pins.size(), sizeof(uint16_t));
  header.total_size = layout.end();
  if (layout.too_large()) {
    return Error{
        "snapshot: a section has more than 4294967295 records (slots: " + std::to_string(slot_count) +
        ", port ranges: " + std::to_string(parts.port_ranges.size()) + "); give pools fewer slots"};
  }

  SnapshotBytes bytes(header.total_size);
  copy(&bytes, header.services.offset, parts.services);
  copy(&bytes, header.vips.offset, parts.vips);
  copy(&bytes, header.port_ranges.offset, parts.port_ranges);
  copy(&bytes, header.backends.offset, parts.backends);
  uint64_t slot_offset = header.slots.offset;
  for (const auto &table : parts.slots) {
    copy(&bytes, slot_offset, table);
    slot_offset += table.size_bytes();
  }
  copy(&bytes, header.strings.offset, parts.strings.bytes());

  copy(&bytes, header.check_sources.offset, parts.check_sources);
  copy(&bytes, header.pins.offset, parts.pins);

  header.checksum = 0;
  std::memcpy(bytes.data(), &header, sizeof(header));
  header.checksum = snapshot_checksum(bytes.data(), bytes.size());
  std::memcpy(bytes.data(), &header, sizeof(header));
  return bytes;
}

}  // namespace sluice
