#include "dataplane/server/connection_placer.h"

#include <algorithm>
#include <array>
#include <utility>

#include "dataplane/core/connection.h"
#include "dataplane/server/connection_entries.h"

namespace sluice {

/// In this order entries are entered: who comes late may find no room.
enum class ConnectionPlacer::Importance {
  kSeenLastMinute,
  kSeenLastTenMinutes,
  kEstablished,
  kClosing,
  kEmbryonic,
  kTimedOut,  // not entered
};

namespace {

// Moves per place of the new table that walks for room may make. Filling one to 85% takes a fraction of them;
// beyond, walks find less and less, and connections wait for the end.
constexpr uint32_t kMovesPerPlace = 1;

bool is_established(uint64_t word) { return state_of(word) == kConnectionEstablished; }

}  // namespace

ConnectionPlacer::Missing &ConnectionPlacer::Missing::operator+=(const Missing &more) {
  established += more.established;
  others += more.others;
  of_no_vip += more.of_no_vip;
  return *this;
}

ConnectionPlacer::ConnectionPlacer(std::shared_ptr<const MappedSnapshot> snapshot, uint64_t now_s)
    : snapshot_(std::move(snapshot)), now_s_(static_cast<uint32_t>(now_s)) {
  for (const Vip &vip : snapshot_->vips())
    if (vip.number != 0) vips_.emplace(vip.number, vip.address);
  // Active connections are counted when all are in their place: counted_backends stays 0.
  tables_.flow_hash_key = &snapshot_->header().flow_hash_key;
  tables_.backends = snapshot_->backends().data();
  tables_.backend_count = static_cast<uint32_t>(snapshot_->backends().size());
  tables_.displacement_path = &displacement_path_;
  tables_.displacement_budget = &displacement_budget_;
  tables_.worker = &events_;
}

void ConnectionPlacer::use(std::span<ConnectionBucket> to, uint8_t family) {
  tables_.own.buckets[family_index(family)] = to.data();
  tables_.bucket_masks[family_index(family)] = static_cast<uint32_t>(to.size() - 1);
  const uint64_t moves = uint64_t{kMovesPerPlace} * to.size() * (kBucketWords / width_of(family));
  displacement_budget_ = static_cast<uint32_t>(std::min<uint64_t>(moves, UINT32_MAX));
  events_ = {};
}

ConnectionPlacer::Importance ConnectionPlacer::importance_of(uint64_t word) const {
  // Whether one of a backend that is no more has timed out is not known. It gives way to any other.
  const Backend *backend = tables_backend(&tables_, backend_of(word));
  const bool is_known = backend && backend_keeps_connections(backend);
  if (is_known && entry_expired(&tables_, word, now_s_)) return Importance::kTimedOut;
  if (state_of(word) == kConnectionEmbryonic) return Importance::kEmbryonic;
  if (!is_established(word)) return Importance::kClosing;
  const uint32_t age_s = age_of(word, now_s_);
  if (age_s <= 60) return Importance::kSeenLastMinute;
  return age_s <= 600 ? Importance::kSeenLastTenMinutes : Importance::kEstablished;
}

/// `entry`: width_of(family) words.
ConnectionPlacer::Entered ConnectionPlacer::enter(const uint64_t *entry, uint8_t family) {
  const uint32_t width = width_of(family);
  const uint64_t word = entry[width - 1];
  Packet packet = {};
  packet.family = family;
  packet.protocol = is_udp(word) ? kProtocolUdp : kProtocolTcp;
  packet.ports = ports_of_word(static_cast<uint32_t>(word));
  uint32_t vip_number = 0;
  if (family == kFamilyIpv4) {
    packet.client = address_from_ipv4(static_cast<be32>(entry[0]));
    packet.vip = address_from_ipv4(static_cast<be32>(entry[0] >> 32));
  } else {
    vip_number = static_cast<uint32_t>(entry[2]);
    const auto vip = vips_.find(vip_number);
    if (vip == vips_.end()) return Entered::kNoVip;
    std::copy_n(reinterpret_cast<const be32 *>(entry), 4, packet.client.word);
    packet.vip = vip->second;
  }
  packet.hash = flow_hash(tables_.flow_hash_key, &packet.client, &packet.vip, packet.ports, packet.protocol);
  ConnectionKey key;
  make_connection_key(&tables_, &packet, vip_number, &key);
  if (uint64_t *found = connection_find(&tables_, &key)) {
    *found = word;
    return Entered::kYes;
  }
  return connection_insert(&tables_, &key, word, now_s_) ? Entered::kYes : Entered::kNoRoom;
}

ConnectionPlacer::Missing ConnectionPlacer::place(std::span<const ConnectionBucket> from,
                                                  std::span<ConnectionBucket> to, uint8_t family,
                                                  Order order) {
  use(to, family);
  const uint32_t width = width_of(family);
  Missing missing;
  const auto enter_bucket = [&](const ConnectionBucket &bucket, auto is_wanted) {
    const ConnectionBucket read = read_whole(bucket);
    for (uint32_t first = 0; first < kBucketWords; first += width) {
      const uint64_t word = read.word[first + width - 1];
      if (state_of(word) == kConnectionEmpty || !is_wanted(importance_of(word))) continue;
      const Entered entered = enter(&read.word[first], family);
      if (entered == Entered::kNoVip) missing.of_no_vip++;
      if (entered == Entered::kNoRoom) ++(is_established(word) ? missing.established : missing.others);
    }
  };
  if (order == Order::kAsTheyLie) {
    for (const ConnectionBucket &bucket : from)
      enter_bucket(bucket, [](Importance one) { return one != Importance::kTimedOut; });
  } else {
    for (const Importance wanted : {Importance::kSeenLastMinute, Importance::kSeenLastTenMinutes,
                                    Importance::kEstablished, Importance::kClosing, Importance::kEmbryonic})
      for (const ConnectionBucket &bucket : from)
        enter_bucket(bucket, [wanted](Importance one) { return one == wanted; });
  }
  missing.others += events_.evicted_entries;
  return missing;
}

}  // namespace sluice
