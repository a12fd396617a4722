// The core's tables in plain memory, for tests: a SnapshotBuilder's snapshot, egress records, one
// worker's connection table with its counters, and on demand the tables of other workers.
#ifndef SLUICE_TESTS_CORE_TEST_TABLES_H
#define SLUICE_TESTS_CORE_TEST_TABLES_H

#include <algorithm>
#include <cstring>
#include <deque>
#include <memory>
#include <string>
#include <vector>

#include "dataplane/core/forward.h"
#include "dataplane/server/memory_tables.h"
#include "tests/core/packet_builder.h"
#include "tests/server/snapshot_builder.h"

namespace sluice {

/// The text of an IPv4-mapped or IPv6 address.
inline std::string address_text(const Address &address) {
  char text[INET6_ADDRSTRLEN];
  if (address_is_ipv4(&address)) return inet_ntop(AF_INET, &address.word[3], text, sizeof(text));
  return inet_ntop(AF_INET6, address.word, text, sizeof(text));
}

struct EgressFields {
  std::string backend;                   // address: its family is the outer header's
  std::string source_ipv4 = "10.0.0.1";  // outer source
  std::string source_ipv6 = "fd00::1";   // outer source
  Bytes ethernet = {0x02, 0, 0, 0, 0x0b, 0x01, 0x02, 0, 0, 0, 0x0a, 0x01};  // destination, source
  uint16_t mtu = 1500;
  uint16_t port = 0;
  uint16_t weight = 100;
  uint8_t flags = kEgressKnown | kEgressReady | kEgressTakesNew;
};

/// An egress record as the server would make it, put together here from the header's definition.
inline Egress make_egress(const EgressFields &fields) {
  Egress egress = {};
  Bytes headers = fields.ethernet;
  egress.flags = fields.flags;
  const Bytes backend = address_bytes(fields.backend);
  if (backend.size() == 4) {
    Bytes outer = Bytes{0x45, 0} + be16_bytes(0) + be32_bytes(0) + Bytes{64, 0, 0, 0} +
                  address_bytes(fields.source_ipv4) + backend;
    headers = headers + be16_bytes(kEtherTypeIpv4) + outer;
    egress.ipv4_sum = host_to_be16(ones_complement_sum(outer));
  } else {
    headers = headers + be16_bytes(kEtherTypeIpv6) + be32_bytes(0x60000000) + be16_bytes(0) + Bytes{0, 64} +
              address_bytes(fields.source_ipv6) + backend;
    egress.flags |= kEgressOuterIpv6;
  }
  std::memcpy(egress.headers, headers.data(), headers.size());
  egress.outer_mtu = fields.mtu;
  egress.outer_size = backend.size() == 4 ? 20 : 40;
  egress.port = fields.port;
  egress.weight = fields.weight;
  return egress;
}

using BucketArray = std::vector<ConnectionBucket, CacheLineAllocator<ConnectionBucket>>;

class TestTables {
 public:
  /// `buckets` of each family, a power of two.
  explicit TestTables(const SnapshotBuilder &builder, uint32_t buckets = 16)
      : ipv4_(buckets), ipv6_(buckets) {
    tables_.own = {{ipv4_.data(), ipv6_.data()}};
    for (uint32_t &mask : tables_.bucket_masks) mask = buckets - 1;
    tables_.adoption_budgets = adoption_budgets;
    tables_.displacement_path = &displacement_path_;
    tables_.icmp_reply_budget = &icmp_reply_budget;
    tables_.worker = &worker;
    use_snapshot(builder);
  }
  TestTables(const TestTables &) = delete;
  TestTables &operator=(const TestTables &) = delete;

  /// Goes over to another snapshot, as a worker does; connections stay. Egress records are made anew.
  void use_snapshot(const SnapshotBuilder &builder) {
    snapshot_ = builder.build();
    const auto *header = reinterpret_cast<const SnapshotHeader *>(snapshot_.data());
    tables_.flow_hash_key = &header->flow_hash_key;
    tables_.vips = section<Vip>(header->vips);
    tables_.vip_mask = header->vip_mask;
    tables_.port_ranges = section<PortRange>(header->port_ranges);
    tables_.services = section<Service>(header->services);
    tables_.slots = section<uint16_t>(header->slots);
    tables_.check_sources = section<CheckSource>(header->check_sources);
    tables_.pins = section<uint16_t>(header->pins);
    tables_.check_source_count = header->check_sources.count;
    tables_.backends = section<Backend>(header->backends);
    tables_.backend_count = header->backends.count;
    tables_.service_count = header->services.count;
    counters_.resize(std::max<size_t>(counters_.size(), tables_.backend_count));
    services_.resize(std::max<size_t>(services_.size(), tables_.service_count));
    tables_.backend_counters = counters_.data();
    tables_.counted_backends = static_cast<uint32_t>(counters_.size());
    tables_.service_counters = services_.data();
    egress_.assign(tables_.backend_count, Egress{});
    for (uint32_t i = 1; i < tables_.backend_count; i++) egress_[i] = egress_of(tables_.backends[i]);
    tables_.egress = egress_.data();
  }

  const Tables &tables() const { return tables_; }
  const Tables *operator->() const { return &tables_; }
  Egress &egress(uint32_t backend) { return egress_[backend]; }
  BackendCounters &counters(uint32_t backend) { return counters_[backend]; }

  /// Lets this worker look into `peers`' tables from now on.
  void set_peers(const std::vector<TestTables *> &peers) {
    peers_.clear();
    for (TestTables *peer : peers) peers_.push_back(peer->tables_.own);
    tables_.peers = peers_.data();
    tables_.peer_count = static_cast<uint32_t>(peers_.size());
  }

  /// Merged counts of the other workers.
  void set_others_active(const std::vector<uint32_t> &active) {
    others_active_ = active;
    others_active_.resize(tables_.backend_count);
    tables_.others_active = others_active_.data();
  }

  WorkerCounters worker = {};
  uint32_t adoption_budgets[kAdoptionLimitCount] = {1000, 1000};
  uint32_t icmp_reply_budget = 1000;

  /// Entries of a table that are in use, over both families.
  uint32_t entries() const {
    uint32_t count = 0;
    for (const ConnectionBucket &bucket : ipv4_)
      for (const ConnectionIpv4 &entry : bucket.ipv4) count += entry.meta != 0;
    for (const ConnectionBucket &bucket : ipv6_)
      for (const ConnectionIpv6 &entry : bucket.ipv6) count += entry.meta != 0;
    return count;
  }

  const BucketArray &ipv4_buckets() const { return ipv4_; }
  const BucketArray &ipv6_buckets() const { return ipv6_; }
  BucketArray &ipv4_buckets() { return ipv4_; }
  BucketArray &ipv6_buckets() { return ipv6_; }

 private:
  DisplacementPath displacement_path_ = {};
  template <typename Record>
  const Record *section(const Section &where) const {
    return reinterpret_cast<const Record *>(snapshot_.data() + where.offset);
  }

  static Egress egress_of(const Backend &backend) {
    EgressFields fields;
    fields.backend = address_text(backend.address);
    fields.weight = backend.weight;
    fields.flags = kEgressReady;
    if (backend_keeps_connections(&backend)) fields.flags |= kEgressKnown;
    if (backend.state == kBackendUp) fields.flags |= kEgressTakesNew;
    if (backend.state == kBackendDown) fields.flags |= kEgressDown;
    return make_egress(fields);
  }

  AlignedBytes snapshot_;
  BucketArray ipv4_, ipv6_;
  std::vector<Egress, CacheLineAllocator<Egress>> egress_;
  std::vector<BackendCounters> counters_;
  std::vector<TrafficCounters> services_;
  std::vector<ConnectionTable> peers_;
  std::vector<uint32_t> others_active_;
  Tables tables_;
};

/// Services web (0: TCP 80) and dns (1: UDP 53) on 198.51.100.10 (VIP 1) and 2001:db8::10 (VIP 2), over
/// one pool of backends 10.1.0.11 (1) and 10.1.0.12 (2) of equal weight.
inline SnapshotBuilder standard_snapshot(Scheduler scheduler = kSchedulerMaglev) {
  SnapshotBuilder builder;
  const uint32_t b1 = builder.add_backend("pool", "b1", "10.1.0.11");
  const uint32_t b2 = builder.add_backend("pool", "b2", "10.1.0.12");
  const uint32_t pool = builder.add_pool({b1, b2});
  const uint32_t web = builder.add_service("web", pool, scheduler);
  const uint32_t dns = builder.add_service("dns", pool, scheduler);
  builder.add_vip("198.51.100.10", {{80, 80, web}}, {{53, 53, dns}});
  builder.add_vip("2001:db8::10", {{80, 80, web}}, {{53, 53, dns}});
  return builder;
}

/// The backend that the service's scheduler gives a new connection with this hash.
inline uint16_t scheduled(const TestTables &tables, const Service *service, uint64_t hash) {
  return schedule(&tables.tables(), service, hash, backend_of_hash(&tables.tables(), service, hash));
}

/// A frame's bytes as the core sees them.
inline Frame frame_of(const Bytes &bytes) {
  return {bytes.data(), bytes.data() + bytes.size(), static_cast<uint32_t>(bytes.size())};
}

/// The decision about a frame, with the packet as parsed.
struct Decided {
  Decision decision;
  Packet packet;
  Verdict verdict() const { return static_cast<Verdict>(decision.verdict); }
};

inline Decided decide_frame(const Tables &tables, const Bytes &bytes, uint32_t now_s = 1000) {
  Decided decided = {};
  const Frame frame = frame_of(bytes);
  decide(&tables, &frame, now_s, &decided.packet, &decided.decision);
  return decided;
}

/// The frame as it leaves, if the decision was to forward: what an engine does after decide().
inline Bytes encapsulated_frame(const Bytes &bytes, const Decided &decided) {
  const Packet &packet = decided.packet;
  const Egress *egress = decided.decision.egress;
  const Bytes inner(bytes.begin() + packet.l3_offset, bytes.begin() + packet.l3_offset + packet.l3_length);
  Bytes out = Bytes(kEthernetHeaderSize + egress->outer_size) + inner;
  encapsulate(out.data(), egress, &packet);
  return out;
}

/// The frame that leaves, encapsulated or as an answer; nothing if none does.
inline Bytes leaving_frame(const Bytes &bytes, const Decided &decided) {
  const VerdictClass kind = verdict_class(decided.verdict());
  if (kind == kVerdictClassForward) return encapsulated_frame(bytes, decided);
  if (kind != kVerdictClassReply) return {};
  Bytes answer = Bytes(too_big_growth(&decided.packet)) + bytes;
  write_too_big(answer.data(), decided.decision.egress, &decided.packet);
  answer.resize(too_big_frame_size(&decided.packet));
  return answer;
}

/// The verdict's name in verdicts.def, for messages of failing tests.
inline std::string verdict_name(uint32_t verdict) {
  switch (verdict) {
#define SLUICE_VERDICT(identifier, class_, metric, help) \
  case kVerdict##identifier:                             \
    return metric;
#include "dataplane/abi/verdicts.def"
#undef SLUICE_VERDICT
    default:
      return verdict == kVerdictUndecided ? "undecided" : "verdict " + std::to_string(verdict);
  }
}

}  // namespace sluice

#endif
