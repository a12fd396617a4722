// The snapshot's VIP hash table: open addressing, linear probing, few probes for every lookup.
#ifndef SLUICE_CONTROLPLANE_COMPILE_VIP_TABLE_H
#define SLUICE_CONTROLPLANE_COMPILE_VIP_TABLE_H

#include <span>
#include <vector>

#include "dataplane/abi/result.h"
#include "dataplane/abi/snapshot.h"

namespace sluice {

/// Places `vips` (addresses all different) by vip_hash(). The table's size is a power of two, at least
/// twice the VIPs, and grows until no lookup needs more than kMaxVipProbes; a small one grows on until each
/// VIP is found at the first probe, if some table of 256 KiB does that. The same for any order of `vips`.
/// Fails when no reasonable size gets there.
Result<std::vector<Vip>> build_vip_table(std::span<const Vip> vips, const FlowHashKey &key);

}  // namespace sluice

#endif
