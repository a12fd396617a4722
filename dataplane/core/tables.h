// The seam: every table that the stages read or write, declared once. An engine defines `struct
// Tables` and these functions (dataplane/server/memory_tables.h over plain memory, bpf/ over maps);
// nothing else differs between engines. A null answer means that the engine has no such record.
#ifndef SLUICE_CORE_TABLES_H
#define SLUICE_CORE_TABLES_H

#include "dataplane/abi/egress.h"
#include "dataplane/abi/snapshot.h"
#include "dataplane/core/backend_event.h"
#include "dataplane/core/connection_entry.h"

SLUICE_NAMESPACE_BEGIN

struct Tables;

enum TableEvent {
  kEventEvicted,         // an embryonic entry made room for another connection
  kEventExpired,         // an entry timed out
  kEventAdoptionLookup,  // a miss looked into the other workers' tables
};

// Two limits, so that datagrams, each of whose new flows looks, cannot use up what TCP needs.
enum AdoptionLimit { kAdoptionOfTcp, kAdoptionOfOthers, kAdoptionLimitCount };

// The snapshot.
SLUICE_INLINE const struct FlowHashKey *tables_flow_hash_key(const struct Tables *tables);
SLUICE_INLINE uint32_t tables_vip_mask(const struct Tables *tables);
SLUICE_INLINE const struct Vip *tables_vip(const struct Tables *tables, uint32_t index);
SLUICE_INLINE const struct PortRange *tables_port_range(const struct Tables *tables, uint32_t index);
SLUICE_INLINE const struct Service *tables_service(const struct Tables *tables, uint32_t index);
SLUICE_INLINE uint16_t tables_slot(const struct Tables *tables, uint32_t index);
SLUICE_INLINE const struct Backend *tables_backend(const struct Tables *tables, uint16_t backend);
SLUICE_INLINE const struct Egress *tables_egress(const struct Tables *tables, uint16_t backend);

SLUICE_INLINE uint32_t tables_check_source_count(const struct Tables *tables);
SLUICE_INLINE const struct CheckSource *tables_check_source(const struct Tables *tables, uint32_t index);
SLUICE_INLINE uint16_t tables_pin(const struct Tables *tables, uint32_t index);

// This worker's connection table, and the tables of others, which are only read.
SLUICE_INLINE uint32_t tables_bucket_mask(const struct Tables *tables, uint8_t family);
SLUICE_INLINE union ConnectionBucket *tables_bucket(const struct Tables *tables, uint8_t family,
                                                    uint32_t index);
SLUICE_INLINE uint32_t tables_peer_count(const struct Tables *tables);
SLUICE_INLINE const union ConnectionBucket *tables_peer_bucket(const struct Tables *tables, uint32_t peer,
                                                               uint8_t family, uint32_t index);
// Whether a look into all the peers' tables is within the worker's rate limit now; takes that many if so.
SLUICE_INLINE bool tables_take_adoption_lookup(const struct Tables *tables, enum AdoptionLimit limit);
// Gives them back: a look after which the flow was entered here happens once, and is not what the limit is
// for.
SLUICE_INLINE void tables_return_adoption_lookup(const struct Tables *tables, enum AdoptionLimit limit);
// The same for one more step of a walk for room in this worker's table, which reads up to five cache lines:
// a full table must not cost each new flow hundreds of them.
SLUICE_INLINE bool tables_take_displacement_step(const struct Tables *tables);
// This worker's memory for one walk at a time: more than there is on a BPF program's stack.
SLUICE_INLINE struct DisplacementPath *tables_displacement_path(const struct Tables *tables);

// Whether an ICMP answer is within the worker's rate limit now; takes one if so (RFC 4443 section 2.4 f).
SLUICE_INLINE bool tables_take_icmp_reply(const struct Tables *tables);

// Active connections (embryonic and established) of a backend: over all workers, as last merged, with
// this worker's own as they are now.
SLUICE_INLINE uint32_t tables_active_connections(const struct Tables *tables, uint16_t backend);
SLUICE_INLINE void tables_connection_opened(const struct Tables *tables, uint16_t backend);
SLUICE_INLINE void tables_connection_closed(const struct Tables *tables, uint16_t backend);
SLUICE_INLINE void tables_count_backend(const struct Tables *tables, uint16_t backend,
                                        enum BackendEvent event);
SLUICE_INLINE void tables_count_event(const struct Tables *tables, enum TableEvent event);

SLUICE_NAMESPACE_END

#endif
