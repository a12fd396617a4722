#include "tests/parity/memory_engine.h"

#include <algorithm>

#include "dataplane/server/snapshot_store.h"

namespace sluice {

MemoryEngine::MemoryEngine(const WorldShape &shape)
    : tables_(shape.tables, BucketArray(shape.ipv4_buckets + shape.ipv6_buckets)), workers_(shape.workers) {
  for (uint32_t worker = 0; worker < shape.workers; worker++) connect(worker, shape);
}

void MemoryEngine::connect(uint32_t worker, const WorldShape &shape) {
  Worker &own = workers_[worker];
  for (uint32_t table = 0; table < shape.tables; table++) {
    ConnectionBucket *first = tables_[table].data();
    const ConnectionTable buckets = {{first, first + shape.ipv4_buckets}};
    if (table == worker) {
      own.tables.own = buckets;
    } else {
      own.peers.push_back(buckets);
    }
  }
  own.tables.bucket_masks[0] = shape.ipv4_buckets - 1;
  own.tables.bucket_masks[1] = shape.ipv6_buckets - 1;
  own.tables.peers = own.peers.data();
  own.tables.peer_count = static_cast<uint32_t>(own.peers.size());
  own.tables.adoption_budgets = own.budgets.adoption_lookups.data();
  own.tables.displacement_budget = &own.budgets.displacement_steps;
  own.tables.displacement_path = &own.displacement_path;
  own.tables.icmp_reply_budget = &own.budgets.icmp_replies;
  own.tables.worker = &own.counters;
  own.tables.backend_counters = own.backends.data();
  own.tables.counted_backends = static_cast<uint32_t>(own.backends.size());
  own.tables.service_counters = own.services.data();
  own.tables.others_active = own.others_active.data();
}

void MemoryEngine::install(const ForwardingTables &tables) {
  generation_ = tables;
  const MappedSnapshot &snapshot = *generation_.snapshot;
  for (Worker &worker : workers_) {
    worker.tables.flow_hash_key = &snapshot.header().flow_hash_key;
    worker.tables.vips = snapshot.vips().data();
    worker.tables.vip_mask = snapshot.header().vip_mask;
    worker.tables.port_ranges = snapshot.port_ranges().data();
    worker.tables.services = snapshot.services().data();
    worker.tables.slots = snapshot.slots().data();
    worker.tables.check_sources = snapshot.check_sources().data();
    worker.tables.pins = snapshot.pins().data();
    worker.tables.check_source_count = static_cast<uint32_t>(snapshot.check_sources().size());
    worker.tables.backends = snapshot.backends().data();
    worker.tables.egress = generation_.egress.data();
    worker.tables.backend_count = static_cast<uint32_t>(snapshot.backends().size());
    worker.tables.service_count = static_cast<uint32_t>(snapshot.services().size());
  }
}

void MemoryEngine::set_others_active(uint32_t worker, std::span<const uint32_t> active) {
  std::copy(active.begin(), active.end(), workers_[worker].others_active.begin());
}

void MemoryEngine::sweep(uint32_t worker, uint32_t now_s) {
  const Tables &tables = tables_of(worker);
  uint32_t &cursor = sweep_cursor(worker);
  for (uint32_t i = 0; i < kXdpSweepBuckets; i++, cursor++)
    for (const uint8_t family : {kFamilyIpv4, kFamilyIpv6})
      sweep_bucket(&tables, family, cursor & tables_bucket_mask(&tables, family), now_s);
}

void MemoryEngine::count_transmitted(uint32_t worker, const Outcome &outcome) {
  if (outcome.way != Way::kBack && outcome.way != Way::kByOtherPort) return;
  workers_[worker].counters.transmitted_packets++;
  workers_[worker].counters.transmitted_bytes += outcome.out.size();
}

}  // namespace sluice
