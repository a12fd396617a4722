// The seam over live tables of which nothing is written: for dry_run.cc alone. The core's functions are
// compiled there once more, over a `struct Tables` of another name, so that they and those over
// memory_tables.h can be in one program.
#ifndef SLUICE_SERVER_DRY_RUN_TABLES_H
#define SLUICE_SERVER_DRY_RUN_TABLES_H

#define Tables DryRunTables  // until the end of this file

#include <unordered_map>

#include "dataplane/core/forward.h"
#include "dataplane/server/connection_entries.h"
#include "dataplane/server/dry_run.h"
#include "dataplane/server/snapshot_store.h"

namespace sluice {

/// What a dry run writes, instead of what workers do.
struct DryRunScratch {
  std::unordered_map<uint64_t, ConnectionBucket> copies;  // of what was looked at, by bucket_name()
  DryRunBudgets budgets;
  DisplacementPath displacement_path = {};
  bool has_asked_peers = false;
};

struct DryRunTables {
  const LiveTables *live = nullptr;
  const MappedSnapshot *snapshot = nullptr;
  uint32_t worker = 0;
  DryRunScratch *scratch = nullptr;
};

SLUICE_INLINE const FlowHashKey *tables_flow_hash_key(const DryRunTables *tables) {
  return &tables->snapshot->header().flow_hash_key;
}
SLUICE_INLINE uint32_t tables_vip_mask(const DryRunTables *tables) {
  return tables->snapshot->header().vip_mask;
}
SLUICE_INLINE const Vip *tables_vip(const DryRunTables *tables, uint32_t index) {
  return &tables->snapshot->vips()[index];
}
SLUICE_INLINE const PortRange *tables_port_range(const DryRunTables *tables, uint32_t index) {
  return &tables->snapshot->port_ranges()[index];
}
SLUICE_INLINE const Service *tables_service(const DryRunTables *tables, uint32_t index) {
  return &tables->snapshot->services()[index];
}
SLUICE_INLINE uint16_t tables_slot(const DryRunTables *tables, uint32_t index) {
  return tables->snapshot->slots()[index];
}
SLUICE_INLINE uint32_t tables_check_source_count(const DryRunTables *tables) {
  return static_cast<uint32_t>(tables->snapshot->check_sources().size());
}
SLUICE_INLINE const CheckSource *tables_check_source(const DryRunTables *tables, uint32_t index) {
  return &tables->snapshot->check_sources()[index];
}
SLUICE_INLINE uint16_t tables_pin(const DryRunTables *tables, uint32_t index) {
  return tables->snapshot->pins()[index];
}
SLUICE_INLINE const Backend *tables_backend(const DryRunTables *tables, uint16_t backend) {
  return backend < tables->snapshot->backends().size() ? &tables->snapshot->backends()[backend] : nullptr;
}
SLUICE_INLINE const Egress *tables_egress(const DryRunTables *tables, uint16_t backend) {
  const std::vector<Egress> &egress = tables->live->forwarding->egress;
  return backend < egress.size() ? &egress[backend] : nullptr;
}

SLUICE_INLINE std::span<const ConnectionBucket> buckets_of(const DryRunTables *tables, uint32_t table,
                                                           uint8_t family) {
  return tables->live->connections[table].buckets[family == kFamilyIpv4 ? 0 : 1];
}

/// The copy of a bucket, made at the first look.
inline ConnectionBucket *copy_of(const DryRunTables *tables, uint32_t table, uint8_t family, uint32_t index) {
  const uint64_t name = uint64_t{table} << 40 | uint64_t{family} << 32 | index;
  const auto found = tables->scratch->copies.find(name);
  if (found != tables->scratch->copies.end()) return &found->second;
  return &tables->scratch->copies.emplace(name, read_whole(buckets_of(tables, table, family)[index]))
              .first->second;
}

SLUICE_INLINE uint32_t tables_bucket_mask(const DryRunTables *tables, uint8_t family) {
  return static_cast<uint32_t>(buckets_of(tables, 0, family).size() - 1);
}
SLUICE_INLINE ConnectionBucket *tables_bucket(const DryRunTables *tables, uint8_t family, uint32_t index) {
  return copy_of(tables, tables->worker, family, index);
}
SLUICE_INLINE uint32_t tables_peer_count(const DryRunTables *tables) {
  return static_cast<uint32_t>(tables->live->connections.size() - 1);
}
/// The number of a worker's peer among all tables, as both engines count.
SLUICE_INLINE uint32_t table_of_peer(const DryRunTables *tables, uint32_t peer) {
  return peer < tables->worker ? peer : peer + 1;
}
SLUICE_INLINE const ConnectionBucket *tables_peer_bucket(const DryRunTables *tables, uint32_t peer,
                                                         uint8_t family, uint32_t index) {
  return copy_of(tables, table_of_peer(tables, peer), family, index);
}

SLUICE_INLINE bool tables_take_adoption_lookup(const DryRunTables *tables, AdoptionLimit limit) {
  uint32_t &budget = tables->scratch->budgets.adoption_lookups[limit];
  if (budget < tables_peer_count(tables)) return false;
  budget -= tables_peer_count(tables);
  return true;
}
SLUICE_INLINE void tables_return_adoption_lookup(const DryRunTables * /*tables*/, AdoptionLimit /*limit*/) {}
SLUICE_INLINE bool tables_take_displacement_step(const DryRunTables *tables) {
  uint32_t &budget = tables->scratch->budgets.displacement_steps;
  if (budget == 0) return false;
  budget--;
  return true;
}
SLUICE_INLINE DisplacementPath *tables_displacement_path(const DryRunTables *tables) {
  return &tables->scratch->displacement_path;
}
SLUICE_INLINE bool tables_take_icmp_reply(const DryRunTables *tables) {
  return tables->scratch->budgets.icmp_replies > 0;
}

SLUICE_INLINE uint32_t tables_active_connections(const DryRunTables *tables, uint16_t backend) {
  return tables->live->active_connections(tables->worker, backend);
}
// Nothing is counted.
SLUICE_INLINE void tables_connection_opened(const DryRunTables * /*tables*/, uint16_t /*backend*/) {}
SLUICE_INLINE void tables_connection_closed(const DryRunTables * /*tables*/, uint16_t /*backend*/) {}
SLUICE_INLINE void tables_count_backend(const DryRunTables * /*tables*/, uint16_t /*backend*/,
                                        BackendEvent /*event*/) {}
SLUICE_INLINE void tables_count_event(const DryRunTables *tables, TableEvent event) {
  if (event == kEventAdoptionLookup) tables->scratch->has_asked_peers = true;
}

}  // namespace sluice

#undef Tables

#endif
