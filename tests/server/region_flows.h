// Connections of flows in the tables of a region, entered and found by the core's own rules.
#ifndef SLUICE_TESTS_SERVER_REGION_FLOWS_H
#define SLUICE_TESTS_SERVER_REGION_FLOWS_H

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <utility>

#include "dataplane/core/connection.h"
#include "dataplane/core/service.h"
#include "dataplane/server/memory_tables.h"
#include "dataplane/server/snapshot_store.h"
#include "tests/server/snapshot_builder.h"

namespace sluice {

/// One flow to the VIP of its family in flows_snapshot().
struct RegionFlow {
  uint8_t family = kFamilyIpv4;
  uint32_t client = 1;  // low bits of the client's address
  uint8_t protocol = kProtocolTcp;
};

/// TCP 80 and UDP 80 on 198.51.100.10 and 2001:db8::10, with 8 backends.
inline SnapshotBuilder flows_snapshot() {
  SnapshotBuilder builder;
  std::vector<uint32_t> backends;
  for (int i = 1; i <= 8; i++)
    backends.push_back(
        builder.add_backend("web", "b" + std::to_string(i), "10.0.0." + std::to_string(i + 1)));
  const uint32_t web = builder.add_service("web", builder.add_pool(backends));
  builder.add_vip("198.51.100.10", {{80, 80, web}}, {{80, 80, web}});
  builder.add_vip("2001:db8::10", {{80, 80, web}}, {{80, 80, web}});
  return builder;
}

class RegionFlows {
 public:
  explicit RegionFlows(std::shared_ptr<const MappedSnapshot> snapshot) : snapshot_(std::move(snapshot)) {}

  /// False: there is no room.
  bool enter(std::span<const std::byte> region, uint32_t table, const RegionFlow &flow, uint16_t backend,
             uint64_t seen_s, ConnectionState state = kConnectionEstablished) {
    use(region, table);
    const ConnectionKey key = key_of(flow);
    const auto now_s = static_cast<uint32_t>(seen_s);
    return connection_insert(&tables_, &key, make_state(key.word[key.width - 1], state, now_s, backend),
                             now_s);
  }
  /// The state word of the flow's entry, or 0.
  uint64_t *find(std::span<const std::byte> region, uint32_t table, const RegionFlow &flow) {
    use(region, table);
    const ConnectionKey key = key_of(flow);
    return connection_find(&tables_, &key);
  }
  /// The flow's backend, or 0.
  uint16_t backend(std::span<const std::byte> region, uint32_t table, const RegionFlow &flow) {
    const uint64_t *entry = find(region, table, flow);
    return entry ? backend_of(*entry) : uint16_t{0};
  }
  /// The flow's two buckets in an IPv4 table.
  std::pair<uint32_t, uint32_t> buckets(std::span<const std::byte> region, const RegionFlow &flow) {
    use(region, 0);
    const ConnectionKey key = key_of(flow);
    return {key.bucket, other_bucket(key.bucket, key.tag, tables_.bucket_masks[0])};
  }

  /// Entries in use in all tables of the region.
  static size_t entries(std::span<const std::byte> region) {
    const auto &header = *reinterpret_cast<const ConnectionRegionHeader *>(region.data());
    const auto *bucket = reinterpret_cast<const ConnectionBucket *>(region.data() + kConnectionHeaderSize);
    size_t count = 0;
    for (uint32_t table = 0; table < header.table_count; table++) {
      for (uint32_t i = 0; i < header.ipv4_buckets; i++, bucket++)
        for (const ConnectionIpv4 &entry : bucket->ipv4) count += entry.meta != 0 ? 1 : 0;
      for (uint32_t i = 0; i < header.ipv6_buckets; i++, bucket++)
        for (const ConnectionIpv6 &entry : bucket->ipv6) count += entry.meta != 0 ? 1 : 0;
    }
    return count;
  }

 private:
  void use(std::span<const std::byte> region, uint32_t table) {
    const auto &header = *reinterpret_cast<const ConnectionRegionHeader *>(region.data());
    auto *first =
        reinterpret_cast<ConnectionBucket *>(const_cast<std::byte *>(region.data()) + kConnectionHeaderSize) +
        table * (size_t{header.ipv4_buckets} + header.ipv6_buckets);
    tables_.own = {{first, first + header.ipv4_buckets}};
    tables_.bucket_masks[0] = header.ipv4_buckets - 1;
    tables_.bucket_masks[1] = header.ipv6_buckets - 1;
    tables_.flow_hash_key = &snapshot_->header().flow_hash_key;
    tables_.vips = snapshot_->vips().data();
    tables_.vip_mask = snapshot_->header().vip_mask;
    tables_.backends = snapshot_->backends().data();
    tables_.backend_count = static_cast<uint32_t>(snapshot_->backends().size());
    tables_.displacement_path = &path_;
    tables_.worker = &events_;
  }
  ConnectionKey key_of(const RegionFlow &flow) {
    Packet packet = {};
    packet.family = flow.family;
    packet.protocol = flow.protocol;
    const bool ipv4 = flow.family == kFamilyIpv4;
    packet.client = parse_address(ipv4 ? "10.0.0.0" : "2001:db8:c::");
    packet.client.word[3] |= host_to_be32(flow.client);
    packet.vip = parse_address(ipv4 ? "198.51.100.10" : "2001:db8::10");
    packet.ports.client = host_to_be16(40000);
    packet.ports.vip = host_to_be16(80);
    packet.hash =
        flow_hash(tables_.flow_hash_key, &packet.client, &packet.vip, packet.ports, packet.protocol);
    const Vip *vip = find_vip(&tables_, &packet.vip, vip_index(&tables_, &packet.vip));
    ConnectionKey key = {};
    make_connection_key(&tables_, &packet, vip ? vip->number : 0, &key);
    return key;
  }

  std::shared_ptr<const MappedSnapshot> snapshot_;
  Tables tables_;
  DisplacementPath path_ = {};
  WorkerCounters events_ = {};
};

}  // namespace sluice

#endif
