// Builds small well-formed snapshots for tests and benches of every part, without the control plane's
// compiler: pools' slots are simply filled in turn, each backend as often as its weight says.
//
//   SnapshotBuilder builder;
//   const uint32_t b1 = builder.add_backend("web", "b1", "10.1.0.11");
//   const uint32_t pool = builder.add_pool({b1});                    // slots
//   const uint32_t web = builder.add_service("web", pool);
//   builder.add_vip("198.51.100.10", {{80, 80, web}});                // TCP ranges, then UDP ranges
//   AlignedBytes bytes = builder.build();                             // for check_snapshot, from_bytes
#ifndef SLUICE_TESTS_SERVER_SNAPSHOT_BUILDER_H
#define SLUICE_TESTS_SERVER_SNAPSHOT_BUILDER_H

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <new>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include <arpa/inet.h>

#include "dataplane/abi/snapshot.h"
#include "dataplane/core/hash.h"

namespace sluice {

/// Allocates at multiples of 64 bytes, as a snapshot wants its memory.
template <typename T>
struct CacheLineAllocator {
  using value_type = T;
  CacheLineAllocator() = default;
  template <typename U>
  explicit CacheLineAllocator(const CacheLineAllocator<U> &) {}
  T *allocate(size_t count) {
    return static_cast<T *>(::operator new (count * sizeof(T), std::align_val_t{64}));
  }
  void deallocate(T *memory, size_t) { ::operator delete (memory, std::align_val_t{64}); }
  bool operator==(const CacheLineAllocator &) const { return true; }
};

using AlignedBytes = std::vector<std::byte, CacheLineAllocator<std::byte>>;

/// "10.1.0.11" or "2001:db8::1" as an Address; aborts on anything else.
inline Address parse_address(const std::string &text) {
  Address address = {};
  be32 ipv4 = 0;
  if (inet_pton(AF_INET, text.c_str(), &ipv4) == 1) return address_from_ipv4(ipv4);
  if (inet_pton(AF_INET6, text.c_str(), address.word) == 1) return address;
  std::fprintf(stderr, "parse_address: \"%s\" is no address\n", text.c_str());
  std::abort();
}

/// Puts a snapshot together. Identifiers are given in order: services and pools from 0, backends and
/// VIP numbers from 1.
class SnapshotBuilder {
 public:
  SnapshotBuilder() {
    backends_.push_back(Backend{});  // identifier 0: none
    for (size_t i = 0; i < std::size(flow_hash_key.word); i++)
      flow_hash_key.word[i] = static_cast<uint32_t>(mix_bits(i + 1));
  }

  uint64_t revision = 1;
  uint64_t created_unix_ns = 0;
  FlowHashKey flow_hash_key;

  /// A backend that is up, with the timeouts of add_service(); returns its identifier.
  uint32_t add_backend(std::string_view pool, std::string_view name, const std::string &address,
                       uint16_t weight = 100) {
    Backend backend = {};
    backend.address = parse_address(address);
    backend.weight = weight;
    backend.state = kBackendUp;
    backend.forwarding = kForwardingIpip;
    backend.embryonic_timeout_s = 10;
    backend.established_timeout_s = 900;
    backend.closing_timeout_s = 10;
    backend.udp_timeout_s = 30;
    backend.pool = add_string(pool);
    backend.name = add_string(name);
    backends_.push_back(backend);
    return static_cast<uint32_t>(backends_.size() - 1);
  }

  /// Changes a backend's state; its weight becomes 0 unless the state is up.
  void set_state(uint32_t backend, BackendState state, uint16_t weight_when_up = 100) {
    backends_[backend].state = static_cast<uint8_t>(state);
    backends_[backend].weight = state == kBackendUp ? weight_when_up : uint16_t{0};
  }

  /// A table of `slot_count` slots, or of one slot for each unit of weight when it is 0, filled with
  /// `members` in turn, in the proportion of their weights. No members: an empty table. Returns the
  /// pool's index, for add_service.
  uint32_t add_pool(const std::vector<uint32_t> &members, uint32_t slot_count = 0) {
    std::vector<uint16_t> turn;
    for (uint32_t round = 0; round < kMaxWeight; round++)
      for (const uint32_t member : members)
        if (backends_[member].weight > round) turn.push_back(static_cast<uint16_t>(member));
    if (turn.empty()) turn.assign(members.begin(), members.end());  // all down: fail open
    Pool pool = {static_cast<uint32_t>(slots_.size()), 0};
    if (!turn.empty()) pool.slot_count = slot_count;
    if (!turn.empty() && slot_count == 0)
      pool.slot_count = static_cast<uint32_t>(std::min<size_t>(turn.size(), kMaxSlotsPerTable));
    for (uint32_t slot = 0; slot < pool.slot_count; slot++) slots_.push_back(turn[slot % turn.size()]);
    pools_.push_back(pool);
    return static_cast<uint32_t>(pools_.size() - 1);
  }

  /// A service over a pool's slots; returns its identifier. Timeouts are 10 s embryonic, 900 s
  /// established, 10 s closing, 30 s UDP unless changed in `service()`.
  uint32_t add_service(std::string_view name, uint32_t pool, Scheduler scheduler = kSchedulerMaglev) {
    Service service = {};
    service.first_slot = pools_[pool].first_slot;
    service.slot_count = pools_[pool].slot_count;
    service.embryonic_timeout_s = 10;
    service.established_timeout_s = 900;
    service.closing_timeout_s = 10;
    service.udp_timeout_s = 30;
    service.scheduler = static_cast<uint8_t>(scheduler);
    service.name = add_string(name);
    services_.push_back(service);
    return static_cast<uint32_t>(services_.size() - 1);
  }

  /// A VIP with its TCP and UDP ranges, each sorted and disjoint; returns its number.
  uint32_t add_vip(const std::string &address, const std::vector<PortRange> &tcp,
                   const std::vector<PortRange> &udp = {}) {
    Vip vip = {};
    vip.address = parse_address(address);
    vip.number = static_cast<uint32_t>(vips_.size() + 1);
    vip.tcp_first = static_cast<uint32_t>(ranges_.size());
    vip.udp_first = vip.tcp_first + static_cast<uint32_t>(tcp.size());
    vip.udp_end = vip.udp_first + static_cast<uint32_t>(udp.size());
    ranges_.insert(ranges_.end(), tcp.begin(), tcp.end());
    ranges_.insert(ranges_.end(), udp.begin(), udp.end());
    vips_.push_back(vip);
    return vip.number;
  }

  /// A source of health checks whose pins are `backends`, each of kCheckPortsPerPin ports; 0: none.
  void add_check_source(const std::string &address, const std::vector<uint16_t> &backends) {
    check_sources_.push_back({parse_address(address), static_cast<uint32_t>(pins_.size()),
                              static_cast<uint32_t>(backends.size())});
    pins_.insert(pins_.end(), backends.begin(), backends.end());
  }

  /// To change a record before `build`.
  Service &service(uint32_t identifier) { return services_[identifier]; }
  Backend &backend(uint32_t identifier) { return backends_[identifier]; }
  size_t backend_count() const { return backends_.size(); }  // identifier 0 included

  /// The snapshot's bytes, checksum included.
  AlignedBytes build() const {
    const std::vector<Vip> table = vip_table();
    SnapshotHeader header = {};
    header.magic = SLUICE_SNAPSHOT_MAGIC;
    header.version = SLUICE_SNAPSHOT_VERSION;
    header.header_size = sizeof(SnapshotHeader);
    header.revision = revision;
    header.created_unix_ns = created_unix_ns;
    header.next_vip_number = static_cast<uint32_t>(vips_.size() + 1);
    header.next_backend_identifier = static_cast<uint32_t>(backends_.size());
    header.vip_mask = static_cast<uint32_t>(table.size() - 1);
    header.flow_hash_key = flow_hash_key;
    AlignedBytes bytes(sizeof(SnapshotHeader));
    header.services = append(&bytes, services_);
    header.vips = append(&bytes, table);
    header.port_ranges = append(&bytes, ranges_);
    header.backends = append(&bytes, backends_);
    header.slots = append(&bytes, slots_);
    header.strings = append(&bytes, std::vector<char>(strings_.begin(), strings_.end()));
    header.check_sources = append(&bytes, check_sources_);
    header.pins = append(&bytes, pins_);
    bytes.resize((bytes.size() + 7) / 8 * 8);
    header.total_size = bytes.size();
    std::memcpy(bytes.data(), &header, sizeof(header));
    seal(&bytes);
    return bytes;
  }

  /// Writes the checksum that goes with the contents: after a test changed a field on purpose.
  static void seal(AlignedBytes *bytes) {
    const uint64_t checksum = snapshot_checksum(bytes->data(), bytes->size());
    std::memcpy(bytes->data() + SLUICE_SNAPSHOT_CHECKSUM_OFFSET, &checksum, sizeof(checksum));
  }

 private:
  struct Pool {
    uint32_t first_slot;
    uint32_t slot_count;
  };

  StringRef add_string(std::string_view text) {
    const StringRef reference = {static_cast<uint32_t>(strings_.size()), static_cast<uint32_t>(text.size())};
    strings_ += text;
    return reference;
  }

  template <typename Record>
  static Section append(AlignedBytes *bytes, const std::vector<Record> &records) {
    bytes->resize((bytes->size() + 63) / 64 * 64);
    const Section section = {bytes->size(), static_cast<uint32_t>(records.size()), sizeof(Record)};
    bytes->resize(bytes->size() + records.size() * sizeof(Record));
    if (!records.empty())
      std::memcpy(bytes->data() + section.offset, records.data(), records.size() * sizeof(Record));
    return section;
  }

  /// The VIP hash table: doubled until each VIP is within its probes.
  std::vector<Vip> vip_table() const {
    size_t size = 1;
    while (size < 2 * vips_.size()) size *= 2;
    for (;; size *= 2) {
      std::vector<Vip> table(size);
      bool all_placed = true;
      for (const Vip &vip : vips_) all_placed = all_placed && place(&table, vip);
      if (all_placed) return table;
    }
  }

  bool place(std::vector<Vip> *table, const Vip &vip) const {
    const size_t mask = table->size() - 1;
    const size_t start = vip_hash(&flow_hash_key, &vip.address);
    for (size_t probe = 0; probe < kMaxVipProbes; probe++) {
      Vip &entry = (*table)[(start + probe) & mask];
      if (entry.number != 0) continue;
      entry = vip;
      return true;
    }
    return false;
  }

  std::vector<Service> services_;
  std::vector<CheckSource> check_sources_;
  std::vector<uint16_t> pins_;
  std::vector<Vip> vips_;
  std::vector<PortRange> ranges_;
  std::vector<Backend> backends_;
  std::vector<uint16_t> slots_;
  std::string strings_;
  std::vector<Pool> pools_;
};

}  // namespace sluice

#endif
