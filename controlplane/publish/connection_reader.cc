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
uint32_t timeout_of(const ConnectionRecord &connection, const Record &record) {
  if (connection.state == kConnectionEmbryonic) return record.embryonic_timeout_s;
  if (connection.state == kConnectionClosing) return record.closing_timeout_s;
  return connection.udp ? record.udp_timeout_s : record.established_timeout_s;
}

// Whether `wanted` is not set, or is what the record has.
template <typename Value>
bool agrees(const std::optional<Value> &wanted, const Value &value) {
  return !wanted || *wanted == value;
}

class Lister {
 public:
  Lister(const SnapshotView &snapshot, const ConnectionFilter &filter, uint64_t boottime_s)
      : snapshot_(snapshot), filter_(filter), boottime_s_(boottime_s) {
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
        if (filter_.after && place_ <= *filter_.after) continue;
        const auto entry = read_entry<Entry>(&buckets[bucket].word[word]);
        if (entry) consider(*entry, table);
      }
    }
  }

  ConnectionList take() {
    if (list_.matched <= list_.records.size()) list_.next.reset();
    return std::move(list_);
  }

 private:
  template <typename Entry>
  void consider(const Entry &entry, uint32_t table) {
    ConnectionRecord record;
    record.table = table;
    const Vip *vip = read_addresses(entry, &record);
    record.client_port = be16_to_host(entry.client_port);
    record.vip_port = be16_to_host(entry.vip_port);
    record.udp = (entry.meta & kMetaProtocolMask) != 0;
    record.state = static_cast<ConnectionState>((entry.meta & kMetaStateMask) >> kMetaStateShift);
    record.idle_s =
        (static_cast<uint32_t>(boottime_s_) - (uint32_t{entry.meta} >> kMetaStampShift)) & kStampMask;
    record.backend_id = entry.backend;
    if (!agrees(filter_.client, record.client) || !agrees(filter_.vip, record.vip) ||
        !agrees(filter_.vip_port, record.vip_port)) {
      return;
    }
    name_service(vip, &record);
    name_backend(&record);
    const bool is_expired = record.timeout_s != 0 && record.idle_s > record.timeout_s;
    if (is_expired && !filter_.include_expired) return;
    if (!agrees(filter_.service, record.service) || !agrees(filter_.pool, record.pool) ||
        !agrees(filter_.backend, record.backend)) {
      return;
    }
    const bool is_allowed =
        !filter_.services || std::ranges::find(*filter_.services, record.service) != filter_.services->end();
    if (!is_allowed) return;
    if (list_.matched++ >= filter_.limit) return;
    list_.records.push_back(std::move(record));
    list_.next = place_;
  }

  const Vip *read_addresses(const ConnectionIpv4 &entry, ConnectionRecord *record) const {
    record->client = address_from_ipv4(entry.client);
    record->vip = address_from_ipv4(entry.vip);
    return snapshot_.find_vip(record->vip);
  }

  // The VIP's address stays all zeros when the snapshot has no VIP of the entry's number any more.
  const Vip *read_addresses(const ConnectionIpv6 &entry, ConnectionRecord *record) const {
    record->client = entry.client;
    const auto found = vips_.find(entry.vip_number);
    if (found == vips_.end()) return nullptr;
    record->vip = found->second->address;
    return found->second;
  }

  void name_service(const Vip *vip, ConnectionRecord *record) const {
    if (vip == nullptr) return;
    using enum SnapshotView::Transport;
    const auto id = snapshot_.find_service(*vip, record->udp ? kUdp : kTcp, record->vip_port);
    if (!id) return;
    const Service &service = snapshot_.services()[*id];
    record->service = snapshot_.text(service.name);
    record->timeout_s = timeout_of(*record, service);
  }

  // An entry outside of every service goes by its backend's timeouts, as the dataplane's sweep does.
  void name_backend(ConnectionRecord *record) const {
    if (record->backend_id >= snapshot_.backends().size()) return;
    const Backend &backend = snapshot_.backends()[record->backend_id];
    if (backend.state == kBackendUnused) return;
    record->pool = snapshot_.text(backend.pool);
    record->backend = snapshot_.text(backend.name);
    if (record->timeout_s == 0) record->timeout_s = timeout_of(*record, backend);
  }

  const SnapshotView &snapshot_;
  const ConnectionFilter &filter_;
  uint64_t boottime_s_;
  std::unordered_map<uint32_t, const Vip *> vips_;  // by number
  uint64_t place_ = 0;                              // of an entry, counted through all tables from 1
  ConnectionList list_;
};

}  // namespace

ConnectionList list_connections(const ConnectionView &region, const SnapshotView &snapshot,
                                const ConnectionFilter &filter, uint64_t boottime_s) {
  Lister lister(snapshot, filter, boottime_s);
  for (uint32_t table = 0; table < region.header().table_count; ++table) {
    lister.scan<ConnectionIpv4>(region.ipv4_buckets(table), region.header().ipv4_buckets, table);
    lister.scan<ConnectionIpv6>(region.ipv6_buckets(table), region.header().ipv6_buckets, table);
  }
  return lister.take();
}

}  // namespace sluice
