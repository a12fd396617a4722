// The seam over BPF maps and global variables (bpf/maps.h): `struct Tables` for the XDP program. What comes
// from a snapshot has been checked whole by the loader (dataplane/server/snapshot_check.h); the masks below
// cost an instruction and are for the verifier, which does not know that.
#ifndef SLUICE_BPF_MAP_TABLES_H
#define SLUICE_BPF_MAP_TABLES_H

#include "bpf/maps.h"
#include "dataplane/core/backend_event.h"
#include "dataplane/core/tables.h"

// Numbers only: the verifier loses what a pointer points to when it is passed to a function within a record.
struct Tables {
  uint32_t worker;      // CPU, below kXdpMaxWorkers
  uint32_t generation;  // 0 or 1, one for the packet's whole way
};

// Makes the compiler keep a record's address instead of working it out anew, in five instructions, for each
// of its fields: their offsets in one large global variable are beyond what a BPF load can add.
#define KEEP_ADDRESS(pointer) __asm__("" : "+r"(pointer))

SLUICE_INLINE const struct XdpGeneration *generation_of(const struct Tables *tables) {
  const struct XdpGeneration *generation = &generations[tables->generation & 1];
  KEEP_ADDRESS(generation);
  return generation;
}

SLUICE_INLINE struct XdpWorker *worker_of(const struct Tables *tables) {
  struct XdpWorker *worker = &workers[tables->worker & (kXdpMaxWorkers - 1)];
  KEEP_ADDRESS(worker);
  return worker;
}

SLUICE_INLINE struct XdpCounters *counters_of(const struct Tables *tables) {
  uint32_t element = tables->worker + 1;
  return bpf_map_lookup_elem(&counters, &element);
}

SLUICE_INLINE const struct FlowHashKey *tables_flow_hash_key(const struct Tables *tables) {
  return &generation_of(tables)->flow_hash_key;
}
SLUICE_INLINE uint32_t tables_vip_mask(const struct Tables *tables) {
  return generation_of(tables)->vip_mask;
}
SLUICE_INLINE const struct Vip *tables_vip(const struct Tables *tables, uint32_t index) {
  const struct Vip *record = &generation_of(tables)->vips[index & (kXdpVips - 1)];
  KEEP_ADDRESS(record);
  return record;
}
SLUICE_INLINE const struct PortRange *tables_port_range(const struct Tables *tables, uint32_t index) {
  const struct PortRange *record = &generation_of(tables)->port_ranges[index & (kXdpPortRanges - 1)];
  KEEP_ADDRESS(record);
  return record;
}
SLUICE_INLINE const struct Service *tables_service(const struct Tables *tables, uint32_t index) {
  const struct Service *record = &generation_of(tables)->services[index & (kXdpServices - 1)];
  KEEP_ADDRESS(record);
  return record;
}
SLUICE_INLINE uint16_t tables_slot(const struct Tables *tables, uint32_t index) {
  uint32_t line = (tables->generation & 1) * settings.slot_lines + index / kXdpSlotsPerLine;
  const struct SlotLine *found = bpf_map_lookup_elem(&slots, &line);
  return found ? found->slot[index % kXdpSlotsPerLine] : 0;
}
SLUICE_INLINE uint32_t tables_check_source_count(const struct Tables *tables) {
  return generation_of(tables)->check_source_count;
}
SLUICE_INLINE const struct CheckSource *tables_check_source(const struct Tables *tables, uint32_t index) {
  const struct CheckSource *record = &generation_of(tables)->check_sources[index & (kMaxCheckSources - 1)];
  KEEP_ADDRESS(record);
  return record;
}
SLUICE_INLINE uint16_t tables_pin(const struct Tables *tables, uint32_t index) {
  const uint16_t *pin = &generation_of(tables)->pins[index & (kMaxPins - 1)];
  KEEP_ADDRESS(pin);
  return *pin;
}
SLUICE_INLINE const struct Backend *tables_backend(const struct Tables *tables, uint16_t backend) {
  const struct Backend *record = &generation_of(tables)->backends[backend];
  KEEP_ADDRESS(record);
  return record;
}
SLUICE_INLINE const struct Egress *tables_egress(const struct Tables *tables, uint16_t backend) {
  const struct Egress *record = &generation_of(tables)->egress[backend];
  KEEP_ADDRESS(record);
  return record;
}

SLUICE_INLINE uint32_t tables_bucket_mask(const struct Tables *tables, uint8_t family) {
  (void)tables;
  return (family == kFamilyIpv4 ? settings.ipv4_buckets : settings.ipv6_buckets) - 1;
}
// Element of the map `connections` that is bucket `index` of a table.
SLUICE_INLINE uint32_t bucket_element(uint32_t table, uint8_t family, uint32_t index) {
  uint32_t first = kXdpConnectionHeader + table * settings.table_buckets;
  return first + index + (family == kFamilyIpv4 ? 0 : settings.ipv4_buckets);
}
SLUICE_INLINE union ConnectionBucket *tables_bucket(const struct Tables *tables, uint8_t family,
                                                    uint32_t index) {
  uint32_t element = bucket_element(tables->worker, family, index);
  return bpf_map_lookup_elem(&connections, &element);
}
SLUICE_INLINE uint32_t tables_peer_count(const struct Tables *tables) {
  (void)tables;
  return settings.table_count - 1;
}
SLUICE_INLINE const union ConnectionBucket *tables_peer_bucket(const struct Tables *tables, uint32_t peer,
                                                               uint8_t family, uint32_t index) {
  uint32_t element = bucket_element(peer < tables->worker ? peer : peer + 1, family, index);
  return bpf_map_lookup_elem(&connections, &element);
}

SLUICE_INLINE bool take(uint32_t *budget, uint32_t count) {
  if (*budget < count) return false;
  *budget -= count;
  return true;
}
SLUICE_INLINE bool tables_take_adoption_lookup(const struct Tables *tables, enum AdoptionLimit limit) {
  return take(&worker_of(tables)->adoption_budgets[limit == kAdoptionOfTcp ? 0 : 1],
              tables_peer_count(tables));
}
SLUICE_INLINE void tables_return_adoption_lookup(const struct Tables *tables, enum AdoptionLimit limit) {
  worker_of(tables)->adoption_budgets[limit == kAdoptionOfTcp ? 0 : 1] += tables_peer_count(tables);
}
SLUICE_INLINE bool tables_take_displacement_step(const struct Tables *tables) {
  return take(&worker_of(tables)->displacement_budget, 1);
}
SLUICE_INLINE struct DisplacementPath *tables_displacement_path(const struct Tables *tables) {
  return &worker_of(tables)->displacement_path;
}
SLUICE_INLINE bool tables_take_icmp_reply(const struct Tables *tables) {
  return take(&worker_of(tables)->icmp_reply_budget, 1);
}

SLUICE_INLINE uint32_t tables_active_connections(const struct Tables *tables, uint16_t backend) {
  uint32_t element = tables->worker;
  const struct OthersActive *others = bpf_map_lookup_elem(&others_active, &element);
  const struct XdpCounters *own = counters_of(tables);
  if (!others || !own) return 0;
  return others->backend[backend] + own->backends[backend].active_connections;
}
SLUICE_INLINE void tables_connection_opened(const struct Tables *tables, uint16_t backend) {
  struct XdpCounters *own = counters_of(tables);
  if (!own) return;
  own->backends[backend].active_connections += 1;
  own->backends[backend].opened_connections += 1;
}
SLUICE_INLINE void tables_connection_closed(const struct Tables *tables, uint16_t backend) {
  struct XdpCounters *own = counters_of(tables);
  if (!own || own->backends[backend].active_connections == 0) return;
  own->backends[backend].active_connections -= 1;
}
SLUICE_INLINE void tables_count_backend(const struct Tables *tables, uint16_t backend,
                                        enum BackendEvent event) {
  struct XdpCounters *own = event == kBackendNoEvent ? 0 : counters_of(tables);
  if (own) count_backend_event(&own->backends[backend], event);
}
SLUICE_INLINE void tables_count_event(const struct Tables *tables, enum TableEvent event) {
  struct XdpCounters *own = counters_of(tables);
  if (!own) return;
  switch (event) {
    case kEventEvicted:
      own->worker.evicted_entries += 1;
      break;
    case kEventExpired:
      own->worker.expired_entries += 1;
      break;
    case kEventAdoptionLookup:
      own->worker.adoption_lookups += 1;
      break;
  }
}

#endif
