// What a worker may spend on what is rare, so that a flood of it leaves the core to everybody else's packets.
// Engines refill the budgets behind the seam (tables.h) with these, for each millisecond that has gone by.
#ifndef SLUICE_CORE_LIMITS_H
#define SLUICE_CORE_LIMITS_H

#include "dataplane/abi/portability.h"

SLUICE_NAMESPACE_BEGIN

enum WorkerLimits {
  // Other workers' tables looked into without finding anything, for TCP and for the rest each: two cache
  // misses in each table, so that a flood of what nobody knows costs some percent of a core with many
  // workers, too.
  kAdoptionTablesPerMs = 128,
  // Steps of walks for room in a crowded table: 0.2 to 1.2 us each, so at most a third of a full one's core.
  kDisplacementStepsPerMs = 256,
  kIcmpRepliesPerMs = 1,
  kIcmpReplyBurst = 100,  // ICMP answers at once
  // One pass of a sweep over a worker's table takes about so long: far less than the stamp's 8,192 seconds.
  kSweepPeriodS = 60
};

SLUICE_NAMESPACE_END

#endif
