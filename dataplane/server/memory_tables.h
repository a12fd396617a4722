// The seam over plain memory: `struct Tables` for the DPDK workers, for connections that move into tables of
// another size (connection_placer.h), and for the host's tests of the core. Everything is a pointer into the
// current generation, the worker's own table or shared memory;
// the generation has been checked whole before (dataplane/server/snapshot_check.h), so that indices
// taken from it need no check here.
#ifndef SLUICE_SERVER_MEMORY_TABLES_H
#define SLUICE_SERVER_MEMORY_TABLES_H

#include "dataplane/abi/counters.h"
#include "dataplane/core/backend_event.h"
#include "dataplane/core/tables.h"

namespace sluice {

/// 0 for IPv4, 1 for IPv6: what is kept for each family is in arrays of two, so that neither needs a branch.
SLUICE_INLINE uint32_t family_index(uint8_t family) { return (family >> 1) & 1u; }
static_assert(((kFamilyIpv4 >> 1) & 1) == 0 && ((kFamilyIpv6 >> 1) & 1) == 1);

/// One worker's connection table: its two arrays of buckets.
struct ConnectionTable {
  ConnectionBucket *buckets[2] = {};  // by family_index
};

/// Tells the compiler that a record's address is not null, so that the core's checks for engines whose
/// tables can have none cost nothing here.
template <typename Record>
SLUICE_INLINE Record *not_null(Record *record) {
  if (!record) __builtin_unreachable();
  return record;
}

/// What a worker decides by. The worker (or test) that owns it fills it; the budgets and the
/// counters behind pointers are the only things that packets change.
struct Tables {
  // The generation: the snapshot's sections and the egress records. Replaced whole between bursts.
  const FlowHashKey *flow_hash_key = nullptr;
  const Vip *vips = nullptr;
  uint32_t vip_mask = 0;
  const PortRange *port_ranges = nullptr;
  const Service *services = nullptr;
  const uint16_t *slots = nullptr;
  const CheckSource *check_sources = nullptr;
  const uint16_t *pins = nullptr;
  uint32_t check_source_count = 0;
  const Backend *backends = nullptr;
  const Egress *egress = nullptr;
  uint32_t backend_count = 0;  // records in `backends` and `egress`
  uint32_t service_count = 0;

  // Connections.
  uint32_t bucket_masks[2] = {};  // by family_index
  ConnectionTable own;
  const ConnectionTable *peers = nullptr;
  uint32_t peer_count = 0;
  uint32_t *adoption_budgets = nullptr;  // peers' tables to look into left in this interval, by AdoptionLimit
  uint32_t *displacement_budget = nullptr;  // steps of walks for room left in this interval; null: no limit
  DisplacementPath *displacement_path = nullptr;  // apart: within, it would spread what each packet reads

  uint32_t *icmp_reply_budget = nullptr;  // ICMP answers left in this interval

  // Counters: this worker's part of the shared region.
  WorkerCounters *worker = nullptr;
  BackendCounters *backend_counters = nullptr;  // [counted_backends]
  uint32_t counted_backends = 0;                // at least the backend_count of any generation
  TrafficCounters *service_counters = nullptr;  // [service_count]
  // Active connections per backend of all other workers, as last merged; null with one worker.
  const uint32_t *others_active = nullptr;
};

SLUICE_INLINE const FlowHashKey *tables_flow_hash_key(const Tables *tables) { return tables->flow_hash_key; }
SLUICE_INLINE uint32_t tables_vip_mask(const Tables *tables) { return tables->vip_mask; }
SLUICE_INLINE const Vip *tables_vip(const Tables *tables, uint32_t index) {
  return not_null(&tables->vips[index]);
}
SLUICE_INLINE const PortRange *tables_port_range(const Tables *tables, uint32_t index) {
  return not_null(&tables->port_ranges[index]);
}
SLUICE_INLINE const Service *tables_service(const Tables *tables, uint32_t index) {
  return not_null(&tables->services[index]);
}
SLUICE_INLINE uint16_t tables_slot(const Tables *tables, uint32_t index) { return tables->slots[index]; }

SLUICE_INLINE uint32_t tables_check_source_count(const Tables *tables) { return tables->check_source_count; }
SLUICE_INLINE const CheckSource *tables_check_source(const Tables *tables, uint32_t index) {
  return not_null(&tables->check_sources[index]);
}
SLUICE_INLINE uint16_t tables_pin(const Tables *tables, uint32_t index) { return tables->pins[index]; }

// Identifiers that come from connection entries may be from before the current generation.
SLUICE_INLINE const Backend *tables_backend(const Tables *tables, uint16_t backend) {
  return backend < tables->backend_count ? &tables->backends[backend] : nullptr;
}
SLUICE_INLINE const Egress *tables_egress(const Tables *tables, uint16_t backend) {
  return backend < tables->backend_count ? &tables->egress[backend] : nullptr;
}

SLUICE_INLINE uint32_t tables_bucket_mask(const Tables *tables, uint8_t family) {
  return tables->bucket_masks[family_index(family)];
}
SLUICE_INLINE ConnectionBucket *tables_bucket(const Tables *tables, uint8_t family, uint32_t index) {
  return not_null(&tables->own.buckets[family_index(family)][index]);
}
SLUICE_INLINE uint32_t tables_peer_count(const Tables *tables) { return tables->peer_count; }
SLUICE_INLINE const ConnectionBucket *tables_peer_bucket(const Tables *tables, uint32_t peer, uint8_t family,
                                                         uint32_t index) {
  return not_null(&tables->peers[peer].buckets[family_index(family)][index]);
}
SLUICE_INLINE bool tables_take_adoption_lookup(const Tables *tables, AdoptionLimit limit) {
  if (tables->adoption_budgets[limit] < tables->peer_count) return false;
  tables->adoption_budgets[limit] -= tables->peer_count;
  return true;
}
SLUICE_INLINE void tables_return_adoption_lookup(const Tables *tables, AdoptionLimit limit) {
  tables->adoption_budgets[limit] += tables->peer_count;
}

SLUICE_INLINE bool tables_take_displacement_step(const Tables *tables) {
  if (!tables->displacement_budget) return true;
  if (*tables->displacement_budget == 0) return false;
  --*tables->displacement_budget;
  return true;
}

SLUICE_INLINE DisplacementPath *tables_displacement_path(const Tables *tables) {
  return tables->displacement_path;
}

SLUICE_INLINE bool tables_take_icmp_reply(const Tables *tables) {
  if (*tables->icmp_reply_budget == 0) return false;
  --*tables->icmp_reply_budget;
  return true;
}

SLUICE_INLINE uint32_t tables_active_connections(const Tables *tables, uint16_t backend) {
  uint32_t others = tables->others_active ? tables->others_active[backend] : 0;
  return others + tables->backend_counters[backend].active_connections;
}
SLUICE_INLINE void tables_connection_opened(const Tables *tables, uint16_t backend) {
  if (backend >= tables->counted_backends) return;
  tables->backend_counters[backend].active_connections++;
  tables->backend_counters[backend].opened_connections++;
}
SLUICE_INLINE void tables_connection_closed(const Tables *tables, uint16_t backend) {
  if (backend >= tables->counted_backends) return;
  uint32_t &active = tables->backend_counters[backend].active_connections;
  if (active > 0) active--;
}
SLUICE_INLINE void tables_count_backend(const Tables *tables, uint16_t backend, BackendEvent event) {
  if (backend >= tables->counted_backends) return;
  count_backend_event(&tables->backend_counters[backend], event);
}
SLUICE_INLINE void tables_count_event(const Tables *tables, TableEvent event) {
  switch (event) {
    case kEventEvicted:
      tables->worker->evicted_entries++;
      break;
    case kEventExpired:
      tables->worker->expired_entries++;
      break;
    case kEventAdoptionLookup:
      tables->worker->adoption_lookups++;
      break;
  }
}

}  // namespace sluice

#endif
