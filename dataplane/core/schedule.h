// Stage 4, schedule: a backend for a flow that has none. One mechanism, a weighted slot table.
#ifndef SLUICE_CORE_SCHEDULE_H
#define SLUICE_CORE_SCHEDULE_H

#include "dataplane/core/hash.h"
#include "dataplane/core/tables.h"

SLUICE_NAMESPACE_BEGIN

// Whether `a` has fewer active connections for its weight than `b`, compared without a division.
SLUICE_INLINE bool less_loaded(const struct Tables *tables, uint16_t a, uint16_t b) {
  const struct Egress *egress_a = tables_egress(tables, a);
  const struct Egress *egress_b = tables_egress(tables, b);
  if (!egress_a || !egress_b) return true;
  uint64_t load_a = (uint64_t)tables_active_connections(tables, a) * egress_b->weight;
  uint64_t load_b = (uint64_t)tables_active_connections(tables, b) * egress_a->weight;
  return load_a <= load_b;
}

// The slot, within the service's table, that a flow's hash names.
SLUICE_INLINE uint32_t slot_of_hash(const struct Service *service, uint64_t hash) {
  return hash_to_range((uint32_t)(hash >> 32), service->slot_count);
}

// The backend that the flow's hash names, whatever the load: the same for each packet of a flow that
// cannot be entered. 0 if the service has no backend that takes new connections.
SLUICE_INLINE uint16_t backend_of_hash(const struct Tables *tables, const struct Service *service,
                                       uint64_t hash) {
  if (service->slot_count == 0) return 0;
  return tables_slot(tables, service->first_slot + slot_of_hash(service, hash));
}

// The backend for a new connection, which is then to be entered; `of_hash` is backend_of_hash().
// Maglev (Eisenbud et al., NSDI 2016, section 3.4): the slot that the flow's hash names.
// Least connection: the less loaded of two slots (power of two choices: Mitzenmacher, IEEE TPDS 2001).
// Answers a backend identifier; 0 if the service has no backend that takes new connections.
SLUICE_INLINE uint16_t schedule(const struct Tables *tables, const struct Service *service, uint64_t hash,
                                uint16_t of_hash) {
  if (of_hash == 0 || service->scheduler != kSchedulerLeastConnection) return of_hash;
  uint32_t other_slot = hash_to_range((uint32_t)hash, service->slot_count);
  uint16_t other = tables_slot(tables, service->first_slot + other_slot);
  return less_loaded(tables, of_hash, other) ? of_hash : other;
}

SLUICE_NAMESPACE_END

#endif
