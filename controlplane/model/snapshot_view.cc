#include "controlplane/model/snapshot_view.h"

#include <algorithm>
#include <bit>
#include <string>

#include "dataplane/core/hash.h"

namespace sluice {
namespace {

Error damaged(const std::string &what) { return Error{"snapshot: " + what}; }

// Whether `section` lies inside the snapshot, with records of the size that this reader knows.
template <typename Record>
Status read_section(std::span<const std::byte> bytes, const Section &section, const char *name,
                    std::span<const Record> *records) {
  if (section.record_size != sizeof(Record)) {
    return damaged(std::string(name) + " records have " + std::to_string(section.record_size) +
                   " bytes, this version reads " + std::to_string(sizeof(Record)));
  }
  const uint64_t length = uint64_t{section.count} * sizeof(Record);
  const bool inside = section.offset >= sizeof(SnapshotHeader) && section.offset <= bytes.size() &&
                      length <= bytes.size() - section.offset;
  if (!inside || section.offset % alignof(Record) != 0) {
    return damaged(std::string("section ") + name + " does not lie inside the snapshot");
  }
  *records = {reinterpret_cast<const Record *>(bytes.data() + section.offset), section.count};
  return Done{};
}

Status check_header(const SnapshotHeader &header, std::span<const std::byte> bytes) {
  if (header.magic != SLUICE_SNAPSHOT_MAGIC) return damaged("does not begin with the magic number");
  if (header.version != SLUICE_SNAPSHOT_VERSION) {
    return damaged("version " + std::to_string(header.version) + ", this version reads " +
                   std::to_string(SLUICE_SNAPSHOT_VERSION));
  }
  if (header.header_size != sizeof(SnapshotHeader) || header.total_size != bytes.size()) {
    return damaged("total_size is " + std::to_string(header.total_size) + " bytes, there are " +
                   std::to_string(bytes.size()));
  }
  if (header.checksum != snapshot_checksum(bytes.data(), bytes.size())) {
    return damaged("checksum differs: the bytes are damaged");
  }
  return Done{};
}

bool text_is_inside(StringRef text, std::string_view strings) {
  return text.offset <= strings.size() && text.length <= strings.size() - text.offset;
}

Status check_services(std::span<const Service> services, std::span<const uint16_t> slots,
                      std::string_view strings) {
  if (services.size() > kMaxServices) return damaged("more services than identifiers");
  for (const Service &service : services) {
    if (!text_is_inside(service.name, strings)) return damaged("a service's name lies outside");
    if (service.first_slot > slots.size() || service.slot_count > slots.size() - service.first_slot) {
      return damaged("a service's slots lie outside");
    }
  }
  return Done{};
}

Status check_vips(const SnapshotHeader &header, std::span<const Vip> vips,
                  std::span<const PortRange> port_ranges) {
  if (vips.size() != uint64_t{header.vip_mask} + 1 || !std::has_single_bit(vips.size())) {
    return damaged("the VIP table's size is not vip_mask + 1");
  }
  for (const Vip &vip : vips) {
    const bool in_order = vip.tcp_first <= vip.udp_first && vip.udp_first <= vip.udp_end;
    if (!in_order || vip.udp_end > port_ranges.size()) return damaged("a VIP's port ranges lie outside");
  }
  return Done{};
}

Status check_backends(std::span<const Backend> backends, std::string_view strings) {
  if (backends.size() > kMaxBackends) return damaged("more backends than identifiers");
  for (const Backend &backend : backends) {
    if (!text_is_inside(backend.pool, strings) || !text_is_inside(backend.name, strings)) {
      return damaged("a backend's name lies outside");
    }
  }
  return Done{};
}

}  // namespace

Result<SnapshotView> SnapshotView::open(std::span<const std::byte> bytes) {
  if (bytes.size() < sizeof(SnapshotHeader)) {
    return damaged(std::to_string(bytes.size()) + " bytes are too short for a header");
  }
  if (reinterpret_cast<uintptr_t>(bytes.data()) % alignof(SnapshotHeader) != 0 || bytes.size() % 8 != 0) {
    return damaged("size or place in memory is not a multiple of 8");
  }
  SnapshotView view;
  view.header_ = reinterpret_cast<const SnapshotHeader *>(bytes.data());
  const SnapshotHeader &header = *view.header_;
  if (Status status = check_header(header, bytes); !status.ok()) return status.error();

  std::span<const char> strings;
  const Status sections[] = {
      read_section(bytes, header.services, "services", &view.services_),
      read_section(bytes, header.vips, "vips", &view.vips_),
      read_section(bytes, header.port_ranges, "port_ranges", &view.port_ranges_),
      read_section(bytes, header.backends, "backends", &view.backends_),
      read_section(bytes, header.slots, "slots", &view.slots_),
      read_section(bytes, header.strings, "strings", &strings),
      read_section(bytes, header.check_sources, "check_sources", &view.check_sources_),
      read_section(bytes, header.pins, "pins", &view.pins_),
  };
  for (const Status &status : sections) {
    if (!status.ok()) return status.error();
  }
  view.strings_ = {strings.data(), strings.size()};

  const Status contents[] = {
      check_services(view.services_, view.slots_, view.strings_),
      check_vips(header, view.vips_, view.port_ranges_),
      check_backends(view.backends_, view.strings_),
  };
  for (const Status &status : contents) {
    if (!status.ok()) return status.error();
  }
  const auto is_service = [&](const PortRange &range) { return range.service < view.services_.size(); };
  if (!std::ranges::all_of(view.port_ranges_, is_service)) {
    return damaged("a port range names a service that is not there");
  }
  const auto is_backend = [&](uint16_t id) { return id < view.backends_.size(); };
  if (!std::ranges::all_of(view.slots_, is_backend)) {
    return damaged("a slot names a backend that is not there");
  }
  if (!std::ranges::all_of(view.pins_, is_backend)) {
    return damaged("a pin names a backend that is not there");
  }
  const auto has_its_pins = [&](const CheckSource &source) {
    return source.pin_count <= kMaxPinsOfSource && source.first_pin <= view.pins_.size() &&
           source.pin_count <= view.pins_.size() - source.first_pin;
  };
  if (!std::ranges::all_of(view.check_sources_, has_its_pins)) {
    return damaged("the pins of a source of checks lie outside");
  }
  return view;
}

const Vip *SnapshotView::find_vip(const Address &address) const {
  const uint32_t start = vip_hash(&header_->flow_hash_key, &address);
  for (uint32_t probe = 0; probe < kMaxVipProbes; ++probe) {
    const Vip &vip = vips_[(start + probe) & header_->vip_mask];
    if (vip.number == 0) return nullptr;
    if (address_equal(&vip.address, &address)) return &vip;
  }
  return nullptr;
}

const Vip *SnapshotView::find_vip_by_number(uint32_t number) const {
  const auto found = std::ranges::find(vips_, number, &Vip::number);
  return number == 0 || found == vips_.end() ? nullptr : &*found;
}

std::optional<uint32_t> SnapshotView::find_service(const Vip &vip, Transport transport,
                                                   uint16_t l4_port) const {
  const uint32_t first = transport == Transport::kTcp ? vip.tcp_first : vip.udp_first;
  const uint32_t end = transport == Transport::kTcp ? vip.udp_first : vip.udp_end;
  const auto ranges = port_ranges_.subspan(first, end - first);
  const auto found = std::ranges::lower_bound(ranges, l4_port, {}, &PortRange::last_port);
  if (found == ranges.end() || found->first_port > l4_port) return std::nullopt;
  return found->service;
}

}  // namespace sluice
