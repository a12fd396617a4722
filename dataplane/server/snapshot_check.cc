#include "dataplane/server/snapshot_check.h"

#include <algorithm>
#include <array>
#include <cstdint>
#include <cstring>
#include <string_view>
#include <vector>

#include <fmt/format.h>

#include "dataplane/abi/snapshot.h"
#include "dataplane/core/hash.h"

namespace sluice {
namespace {

constexpr uint64_t kSectionAlignment = 64;  // bytes

/// What a section must be, whatever is in it.
struct SectionRule {
  std::string_view name;
  Section section;
  uint32_t record_size;  // bytes
  uint64_t max_count;    // records
};

/// One pass of checks over a mapped snapshot; holds the sections once they are known to be inside.
class Checker {
 public:
  explicit Checker(std::span<const std::byte> bytes) : bytes_(bytes) {}

  Status run() {
    using Check = Status (Checker::*)();
    // Each relies on those before it.
    constexpr std::array<Check, 10> kChecks = {&Checker::check_header,        &Checker::check_sections,
                                               &Checker::check_section_order, &Checker::check_checksum,
                                               &Checker::check_backends,      &Checker::check_slots,
                                               &Checker::check_services,      &Checker::check_ranges,
                                               &Checker::check_vips,          &Checker::check_pins};
    for (const Check check : kChecks) {
      Status status = (this->*check)();
      if (!status.ok()) return status;
    }
    return Done{};
  }

 private:
  const SnapshotHeader &header() const { return *reinterpret_cast<const SnapshotHeader *>(bytes_.data()); }

  template <typename Record>
  std::span<const Record> records(const Section &section) const {
    return {reinterpret_cast<const Record *>(bytes_.data() + section.offset), section.count};
  }

  std::array<SectionRule, 8> section_rules() const {
    const SnapshotHeader &h = header();
    const uint64_t any = UINT32_MAX;
    return {{{"services", h.services, sizeof(Service), kMaxServices},
             {"vips", h.vips, sizeof(Vip), any},
             {"port_ranges", h.port_ranges, sizeof(PortRange), any},
             {"backends", h.backends, sizeof(Backend), kMaxBackends},
             {"slots", h.slots, sizeof(uint16_t), any},
             {"strings", h.strings, 1, any},
             {"check_sources", h.check_sources, sizeof(CheckSource), kMaxCheckSources},
             {"pins", h.pins, sizeof(uint16_t), kMaxPins}}};
  }

  Status check_header();
  Status check_sections();
  Status check_section_order();
  Status check_checksum();
  Status check_backends();
  Status check_slots();
  Status check_services();
  Status check_ranges();
  Status check_vips();
  Status check_pins();
  Status check_vip(size_t index, const Vip &vip) const;
  Status check_vip_ranges(size_t index, std::string_view protocol, uint32_t first, uint32_t end) const;
  Status check_vip_is_found(size_t index, const Vip &vip) const;
  Status check_string(std::string_view section, size_t index, std::string_view field, StringRef string) const;

  std::span<const std::byte> bytes_;
  // unsorted_before_[i]: of the port ranges 1 to i, how many do not start after their predecessor's end.
  std::vector<uint32_t> unsorted_before_;
};

Error failure(std::string message) { return Error{std::move(message)}; }

/// What the header of a snapshot of `size` bytes says of itself.
Status check_own_fields(const SnapshotHeader &h, uint64_t size) {
  if (h.magic != SLUICE_SNAPSHOT_MAGIC)
    return failure(fmt::format("header.magic: {:#x} is not a snapshot's {:#x}", h.magic,
                               uint64_t{SLUICE_SNAPSHOT_MAGIC}));
  if (h.version != SLUICE_SNAPSHOT_VERSION)
    return failure(
        fmt::format("header.version: {}, this dataplane reads {}: let sluiced and sluice-dataplane be of one "
                    "release",
                    h.version, SLUICE_SNAPSHOT_VERSION));
  if (h.header_size != sizeof(SnapshotHeader))
    return failure(
        fmt::format("header.header_size: {} bytes, expected {}", h.header_size, sizeof(SnapshotHeader)));
  if (h.total_size != size)
    return failure(fmt::format("header.total_size: {} bytes, but there are {}", h.total_size, size));
  if (h.total_size % 8 != 0)
    return failure(fmt::format("header.total_size: {} is not a multiple of 8", h.total_size));
  return Done{};
}

Status check_has_header(uint64_t size) {
  if (size >= sizeof(SnapshotHeader)) return Done{};
  return failure(fmt::format("snapshot: {} bytes are too few for its header of {}: it is cut short", size,
                             sizeof(SnapshotHeader)));
}

Status Checker::check_header() {
  if (reinterpret_cast<uintptr_t>(bytes_.data()) % kSectionAlignment != 0)
    return failure("snapshot: memory does not start at a multiple of 64 bytes");
  Status long_enough = check_has_header(bytes_.size());
  if (!long_enough.ok()) return long_enough;
  return check_own_fields(header(), bytes_.size());
}

Status Checker::check_sections() {
  const uint64_t total = bytes_.size();
  for (const SectionRule &rule : section_rules()) {
    const Section &section = rule.section;
    if (section.record_size != rule.record_size)
      return failure(fmt::format("header.{}.record_size: {} bytes, expected {}", rule.name,
                                 section.record_size, rule.record_size));
    if (section.count > rule.max_count)
      return failure(
          fmt::format("header.{}.count: {} is more than {}", rule.name, section.count, rule.max_count));
    if (section.offset % kSectionAlignment != 0)
      return failure(fmt::format("header.{}.offset: {} is not a multiple of 64", rule.name, section.offset));
    if (section.offset < sizeof(SnapshotHeader) || section.offset > total)
      return failure(
          fmt::format("header.{}.offset: {} is not between the header's end and the snapshot's end at {}",
                      rule.name, section.offset, total));
    const uint64_t size = uint64_t{section.count} * section.record_size;
    if (size > total - section.offset)
      return failure(
          fmt::format("header.{}.count: {} records from offset {} end after the snapshot's {} bytes",
                      rule.name, section.count, section.offset, total));
  }
  if (header().vips.count == 0 || (header().vips.count & (header().vips.count - 1)) != 0)
    return failure(fmt::format("header.vips.count: {} is not a power of two", header().vips.count));
  if (header().vip_mask != header().vips.count - 1)
    return failure(fmt::format("header.vip_mask: {} does not go with {} entries in vips", header().vip_mask,
                               header().vips.count));
  return Done{};
}

Status Checker::check_section_order() {
  std::array<SectionRule, 8> rules = section_rules();
  std::sort(rules.begin(), rules.end(),
            [](const SectionRule &a, const SectionRule &b) { return a.section.offset < b.section.offset; });
  const SectionRule *before = nullptr;
  for (const SectionRule &rule : rules) {
    if (rule.section.count == 0) continue;
    if (before != nullptr) {
      const uint64_t end = before->section.offset + uint64_t{before->section.count} * before->record_size;
      if (rule.section.offset < end)
        return failure(fmt::format("header.{}.offset: {} lies inside {}, which ends at {}", rule.name,
                                   rule.section.offset, before->name, end));
    }
    before = &rule;
  }
  return Done{};
}

Status Checker::check_checksum() {
  const uint64_t sum = snapshot_checksum(bytes_.data(), bytes_.size());
  if (sum != header().checksum)
    return failure(
        fmt::format("header.checksum: {:#018x}, but the contents have {:#018x}: the snapshot is damaged",
                    header().checksum, sum));
  return Done{};
}

Status Checker::check_string(std::string_view section, size_t index, std::string_view field,
                             StringRef string) const {
  if (uint64_t{string.offset} + string.length > header().strings.count)
    return failure(fmt::format("{}[{}].{}: bytes {} to {} are outside of strings ({} bytes)", section, index,
                               field, string.offset, uint64_t{string.offset} + string.length,
                               header().strings.count));
  return Done{};
}

/// A service's, or a backend's: the same four fields.
template <typename Record>
Status check_timeouts(std::string_view section, size_t index, const Record &record) {
  const std::pair<std::string_view, uint16_t> timeouts[] = {
      {"embryonic_timeout_s", record.embryonic_timeout_s},
      {"established_timeout_s", record.established_timeout_s},
      {"closing_timeout_s", record.closing_timeout_s},
      {"udp_timeout_s", record.udp_timeout_s}};
  for (const auto &[field, seconds] : timeouts)
    if (seconds == 0 || seconds > SLUICE_MAX_TIMEOUT_S)
      return failure(fmt::format("{}[{}].{}: {} is not between 1 and {}", section, index, field, seconds,
                                 SLUICE_MAX_TIMEOUT_S));
  return Done{};
}

Status Checker::check_backends() {
  const auto backends = records<Backend>(header().backends);
  if (header().next_backend_identifier > kMaxBackends)
    return failure(fmt::format("header.next_backend_identifier: {} is more than {}",
                               header().next_backend_identifier, +kMaxBackends));
  if (header().next_backend_identifier < backends.size())
    return failure(fmt::format("header.next_backend_identifier: {}, but there are {} backends",
                               header().next_backend_identifier, backends.size()));
  for (size_t i = 0; i < backends.size(); i++) {
    const Backend &backend = backends[i];
    const auto wrong = [i](std::string_view field, auto value, std::string_view what) {
      return failure(fmt::format("backends[{}].{}: {} {}", i, field, value, what));
    };
    if (backend.state > kBackendClosed) return wrong("state", backend.state, "is no BackendState (0 to 4)");
    if (backend.state == kBackendUnused) continue;
    if (i == 0)
      return wrong("state", backend.state, "but identifier 0 means \"no backend\": it must be unused");
    if (backend.forwarding != kForwardingIpip)
      return wrong("forwarding", backend.forwarding, "is no Forwarding (1: ipip)");
    if (backend.weight > kMaxWeight) return wrong("weight", backend.weight, "is more than 1000");
    if (backend.state == kBackendUp && backend.weight == 0)
      return wrong("weight", backend.weight,
                   "of a backend that is up: let it be draining, or give it a weight");
    if (backend.state != kBackendUp && backend.weight != 0)
      return wrong("weight", backend.weight, "of a backend that takes no new connections must be 0");
    if (backend.ramp_step >= kRampSteps)
      return wrong("ramp_step", backend.ramp_step, fmt::format("is not below {}", +kRampSteps));
    if (backend.removed > 1) return wrong("removed", backend.removed, "is neither 0 nor 1");
    Status timeouts = check_timeouts("backends", i, backend);
    if (!timeouts.ok()) return timeouts;
    Status pool = check_string("backends", i, "pool", backend.pool);
    if (!pool.ok()) return pool;
    Status name = check_string("backends", i, "name", backend.name);
    if (!name.ok()) return name;
  }
  return Done{};
}

Status Checker::check_slots() {
  const auto backends = records<Backend>(header().backends);
  const auto slots = records<uint16_t>(header().slots);
  for (size_t i = 0; i < slots.size(); i++) {
    if (slots[i] >= backends.size())
      return failure(fmt::format("slots[{}]: {}, but there are {} backends", i, slots[i], backends.size()));
    if (!backend_keeps_connections(&backends[slots[i]]))
      return failure(fmt::format("slots[{}]: {} is an unused or a closed backend", i, slots[i]));
  }
  return Done{};
}

Status Checker::check_services() {
  const auto services = records<Service>(header().services);
  const uint32_t slots = header().slots.count;
  for (size_t i = 0; i < services.size(); i++) {
    const Service &service = services[i];
    if (service.scheduler > kSchedulerLeastConnection)
      return failure(
          fmt::format("services[{}].scheduler: {} is no Scheduler (0 to 2)", i, service.scheduler));
    if (service.scheduler == 0) continue;
    if (service.slot_count > kMaxSlotsPerTable)
      return failure(fmt::format("services[{}].slot_count: {} is more than {}", i, service.slot_count,
                                 +kMaxSlotsPerTable));
    if (uint64_t{service.first_slot} + service.slot_count > slots)
      return failure(fmt::format("services[{}].first_slot: {} with slot_count {} ends after the {} slots", i,
                                 service.first_slot, service.slot_count, slots));
    Status timeouts = check_timeouts("services", i, service);
    if (!timeouts.ok()) return timeouts;
    Status name = check_string("services", i, "name", service.name);
    if (!name.ok()) return name;
  }
  return Done{};
}

Status Checker::check_ranges() {
  const auto services = records<Service>(header().services);
  const auto ranges = records<PortRange>(header().port_ranges);
  unsorted_before_.reserve(ranges.size());
  uint32_t unsorted = 0;
  for (size_t i = 0; i < ranges.size(); i++) {
    const PortRange &range = ranges[i];
    if (range.first_port > range.last_port)
      return failure(fmt::format("port_ranges[{}].last_port: {} is before first_port {}", i, range.last_port,
                                 range.first_port));
    if (range.service >= services.size() || services[range.service].scheduler == 0)
      return failure(fmt::format("port_ranges[{}].service: {} is not among the {} services, or unused", i,
                                 range.service, services.size()));
    if (i > 0 && range.first_port <= ranges[i - 1].last_port) unsorted++;
    unsorted_before_.push_back(unsorted);
  }
  return Done{};
}

Status Checker::check_vip_ranges(size_t index, std::string_view protocol, uint32_t first,
                                 uint32_t end) const {
  if (end - first > kMaxPortRangesPerVip)
    return failure(fmt::format("vips[{}]: {} {} ranges are more than {}", index, end - first, protocol,
                               +kMaxPortRangesPerVip));
  // A run may start at any range; within it no range may start before its predecessor's end.
  if (first < end && unsorted_before_[end - 1] != unsorted_before_[first])
    return failure(fmt::format("vips[{}]: {} ranges port_ranges[{}, {}) are not sorted and disjoint", index,
                               protocol, first, end));
  return Done{};
}

Status Checker::check_vip_is_found(size_t index, const Vip &vip) const {
  const auto vips = records<Vip>(header().vips);
  const uint32_t mask = header().vip_mask;
  const uint32_t start = vip_hash(&header().flow_hash_key, &vip.address) & mask;
  for (uint32_t probe = 0; probe < kMaxVipProbes && probe <= mask; probe++) {
    const uint32_t at = (start + probe) & mask;
    if (at == index) return Done{};
    if (vips[at].number == 0)
      return failure(
          fmt::format("vips[{}].address: is never found, because entry {} before it is empty", index, at));
    if (address_equal(&vips[at].address, &vip.address))
      return failure(fmt::format("vips[{}].address: is also that of vips[{}]", index, at));
  }
  return failure(fmt::format("vips[{}].address: is not found within {} probes from entry {}", index,
                             +kMaxVipProbes, start));
}

Status Checker::check_vip(size_t index, const Vip &vip) const {
  if (vip.number >= header().next_vip_number)
    return failure(fmt::format("vips[{}].number: {} is not below header.next_vip_number {}", index,
                               vip.number, header().next_vip_number));
  if (vip.tcp_first > vip.udp_first)
    return failure(
        fmt::format("vips[{}].udp_first: {} is before tcp_first {}", index, vip.udp_first, vip.tcp_first));
  if (vip.udp_first > vip.udp_end)
    return failure(
        fmt::format("vips[{}].udp_end: {} is before udp_first {}", index, vip.udp_end, vip.udp_first));
  if (vip.udp_end > header().port_ranges.count)
    return failure(fmt::format("vips[{}].udp_end: {} is after the {} port ranges", index, vip.udp_end,
                               header().port_ranges.count));
  Status tcp = check_vip_ranges(index, "TCP", vip.tcp_first, vip.udp_first);
  if (!tcp.ok()) return tcp;
  Status udp = check_vip_ranges(index, "UDP", vip.udp_first, vip.udp_end);
  if (!udp.ok()) return udp;
  return check_vip_is_found(index, vip);
}

Status Checker::check_vips() {
  const auto vips = records<Vip>(header().vips);
  std::vector<std::pair<uint32_t, size_t>> numbers;  // and the entry that has it
  for (size_t i = 0; i < vips.size(); i++) {
    if (vips[i].number == 0) continue;
    Status status = check_vip(i, vips[i]);
    if (!status.ok()) return status;
    numbers.emplace_back(vips[i].number, i);
  }
  std::sort(numbers.begin(), numbers.end());
  const auto twice = std::adjacent_find(numbers.begin(), numbers.end(),
                                        [](const auto &a, const auto &b) { return a.first == b.first; });
  if (twice != numbers.end())
    return failure(fmt::format("vips[{}].number: {} is also that of vips[{}]", std::next(twice)->second,
                               twice->first, twice->second));
  return Done{};
}

Status Checker::check_pins() {
  const auto backends = records<Backend>(header().backends);
  const auto pins = records<uint16_t>(header().pins);
  for (size_t i = 0; i < pins.size(); i++)
    if (pins[i] != 0 && (pins[i] >= backends.size() || backends[pins[i]].state == kBackendUnused))
      return failure(
          fmt::format("pins[{}]: {} is not among the {} backends, or unused", i, pins[i], backends.size()));
  const auto sources = records<CheckSource>(header().check_sources);
  for (size_t i = 0; i < sources.size(); i++) {
    const CheckSource &source = sources[i];
    if (source.pin_count > kMaxPinsOfSource)
      return failure(fmt::format("check_sources[{}].pin_count: {} is more than {}", i, source.pin_count,
                                 kMaxPinsOfSource));
    if (uint64_t{source.first_pin} + source.pin_count > pins.size())
      return failure(fmt::format("check_sources[{}].first_pin: {} with pin_count {} ends after the {} pins",
                                 i, source.first_pin, source.pin_count, pins.size()));
  }
  return Done{};
}

}  // namespace

Status check_snapshot_header(std::span<const std::byte> first_bytes, uint64_t size) {
  Status long_enough = check_has_header(std::min<uint64_t>(first_bytes.size(), size));
  if (!long_enough.ok()) return long_enough;
  SnapshotHeader header = {};
  std::memcpy(&header, first_bytes.data(), sizeof(header));
  return check_own_fields(header, size);
}

Status check_snapshot(std::span<const std::byte> bytes) { return Checker(bytes).run(); }

}  // namespace sluice
