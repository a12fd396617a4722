#include "controlplane/publish/connection_reader.h"

#include <algorithm>
#include <array>
#include <bit>
#include <unordered_map>
#include <utility>

#include "controlplane/model/address_text.h"

namespace sluice {
namespace {

constexpr int kReadAttempts = 4;

// The entry at `words`, all of the same moment; nothing when it is empty, or its worker writes it again
// and again. Its last word holds the state, which its worker clears first and sets last.
template <typename Entry>
std::optional<Entry> read_entry(const uint64_t *words) {
  constexpr size_t kLast = sizeof(Entry) / sizeof(uint64_t) - 1;
  for (int attempt = 0; attempt < kReadAttempts; ++attempt) {
    std::array<uint64_t, kLast + 1> copy{};
    copy[kLast] = SLUICE_LOAD_ACQUIRE(words + kLast);
    if (copy[kLast] == 0) return std::nullopt;
    for (size_t i = 0; i < kLast; ++i) copy[i] = SLUICE_LOAD_ACQUIRE(words + i);
    if (SLUICE_LOAD_ACQUIRE(words + kLast) == copy[kLast]) return std::bit_cast<Entry>(copy);
  }
  return std::nullopt;
}

// The timeout that ends a connection; `Record` is a service or a backend of the snapshot.
template <typename Record>
uint32_t timeout_of(const ConnectionSighting &connection, const Record &record) {
  if (connection.state == kConnectionEmbryonic) return record.embryonic_timeout_s;
  if (connection.state == kConnectionClosing) return record.closing_timeout_s;
  return connection.udp ? record.udp_timeout_s : record.established_timeout_s;
}

class Walk {
 public:
  using Visit = std::function<void(const ConnectionSighting &)>;

  Walk(const SnapshotView &snapshot, uint64_t boottime_s, uint64_t after, const Visit &visit)
      : snapshot_(snapshot), boottime_s_(boottime_s), after_(after), visit_(visit) {
    for (const Vip &vip : snapshot.vips()) {
      if (vip.number != 0) vips_.emplace(vip.number, &vip);
    }
  }

  template <typename Entry>
  void scan(const ConnectionBucket *buckets, uint32_t count, uint32_t table) {
    constexpr size_t kBucketWords = sizeof(ConnectionBucket) / sizeof(uint64_t);
    for (uint32_t bucket = 0; bucket < count; ++bucket) {
      for (size_t word = 0; word < kBucketWords; word += sizeof(Entry) / sizeof(uint64_t)) {
        place_++;
        if (place_ <= after_) continue;
        const auto entry = read_entry<Entry>(&buckets[bucket].word[word]);
        if (entry) see(*entry, table);
      }
    }
  }

 private:
  template <typename Entry>
  void see(const Entry &entry, uint32_t table) {
    ConnectionSighting seen;
    seen.table = table;
    seen.place = place_;
    const Vip *vip = read_addresses(entry, &seen);
    seen.client_port = be16_to_host(entry.client_port);
    seen.vip_port = be16_to_host(entry.vip_port);
    seen.udp = (entry.meta & kMetaProtocolMask) != 0;
    seen.state = static_cast<ConnectionState>((entry.meta & kMetaStateMask) >> kMetaStateShift);
    seen.idle_s =
        (static_cast<uint32_t>(boottime_s_) - (uint32_t{entry.meta} >> kMetaStampShift)) & kStampMask;
    seen.backend_id = entry.backend;
    using enum SnapshotView::Transport;
    if (vip != nullptr) seen.service_id = snapshot_.find_service(*vip, seen.udp ? kUdp : kTcp, seen.vip_port);
    if (seen.service_id) {
      seen.timeout_s = timeout_of(seen, snapshot_.services()[*seen.service_id]);
    } else if (entry.backend < snapshot_.backends().size()) {
      // An entry outside of every service goes by its backend's timeouts, as the dataplane's sweep does.
      const Backend &backend = snapshot_.backends()[entry.backend];
      if (backend.state != kBackendUnused) seen.timeout_s = timeout_of(seen, backend);
    }
    visit_(seen);
  }

  const Vip *read_addresses(const ConnectionIpv4 &entry, ConnectionSighting *seen) const {
    seen->client = address_from_ipv4(entry.client);
    seen->vip = address_from_ipv4(entry.vip);
    return snapshot_.find_vip(seen->vip);
  }

  const Vip *read_addresses(const ConnectionIpv6 &entry, ConnectionSighting *seen) const {
    seen->client = entry.client;
    const auto found = vips_.find(entry.vip_number);
    if (found == vips_.end()) return nullptr;
    seen->vip = found->second->address;
    return found->second;
  }

  const SnapshotView &snapshot_;
  uint64_t boottime_s_;
  uint64_t after_;
  const Visit &visit_;
  std::unordered_map<uint32_t, const Vip *> vips_;  // by number
  uint64_t place_ = 0;
};

// Whether `wanted` is not set, or is what the record has.
template <typename Value>
bool agrees(const std::optional<Value> &wanted, const Value &value) {
  return !wanted || *wanted == value;
}

class Lister {
 public:
  Lister(const SnapshotView &snapshot, const ConnectionFilter &filter)
      : snapshot_(snapshot), filter_(filter) {}

  void consider(const ConnectionSighting &seen) {
    if (!agrees(filter_.client, seen.client) || !agrees(filter_.vip, seen.vip) ||
        !agrees(filter_.vip_port, seen.vip_port)) {
      return;
    }
    if (seen.is_expired() && !filter_.include_expired) return;
    ConnectionRecord record{seen, {}, {}, {}};
    if (seen.service_id) record.service = snapshot_.text(snapshot_.services()[*seen.service_id].name);
    name_backend(&record);
    if (!agrees(filter_.service, record.service) || !agrees(filter_.pool, record.pool) ||
        !agrees(filter_.backend, record.backend)) {
      return;
    }
    const bool is_allowed =
        !filter_.services || std::ranges::find(*filter_.services, record.service) != filter_.services->end();
    if (!is_allowed) return;
    if (list_.matched++ >= filter_.limit) return;
    list_.records.push_back(std::move(record));
    list_.next = seen.place;
  }

  ConnectionList take() {
    if (list_.matched <= list_.records.size()) list_.next.reset();
    return std::move(list_);
  }

 private:
  void name_backend(ConnectionRecord *record) const {
    if (record->backend_id >= snapshot_.backends().size()) return;
    const Backend &backend = snapshot_.backends()[record->backend_id];
    if (backend.state == kBackendUnused) return;
    record->pool = snapshot_.text(backend.pool);
    record->backend = snapshot_.text(backend.name);
  }

  const SnapshotView &snapshot_;
  const ConnectionFilter &filter_;
  ConnectionList list_;
};

}  // namespace

void visit_connections(const ConnectionView &region, const SnapshotView &snapshot, uint64_t boottime_s,
                       uint64_t after, const std::function<void(const ConnectionSighting &)> &visit) {
  Walk walk(snapshot, boottime_s, after, visit);
  for (uint32_t table = 0; table < region.header().table_count; ++table) {
    walk.scan<ConnectionIpv4>(region.ipv4_buckets(table), region.header().ipv4_buckets, table);
    walk.scan<ConnectionIpv6>(region.ipv6_buckets(table), region.header().ipv6_buckets, table);
  }
}

ConnectionList list_connections(const ConnectionView &region, const SnapshotView &snapshot,
                                const ConnectionFilter &filter, uint64_t boottime_s) {
  Lister lister(snapshot, filter);
  visit_connections(region, snapshot, boottime_s, filter.after.value_or(0),
                    [&](const ConnectionSighting &seen) { lister.consider(seen); });
  return lister.take();
}

}  // namespace sluice
