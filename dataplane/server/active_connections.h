// Which connections are active, counted from the connection tables themselves.
#ifndef SLUICE_SERVER_ACTIVE_CONNECTIONS_H
#define SLUICE_SERVER_ACTIVE_CONNECTIONS_H

#include <cstdint>

#include "dataplane/server/connection_region.h"
#include "dataplane/server/shared_memory.h"

namespace sluice {

/// Sets a worker's active connections (of every backend) from the entries in its table: they may be of an
/// earlier process. Before the worker runs.
void recount_active_connections(const ConnectionRegion &connections, const CounterRegion &counters,
                                uint32_t worker);

}  // namespace sluice

#endif
