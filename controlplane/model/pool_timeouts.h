// The timeouts that a backend's connections can have: an entry of the connection table names its
// backend and not its service, so what sweeps the table needs the longest of all that may apply.
#ifndef SLUICE_CONTROLPLANE_MODEL_POOL_TIMEOUTS_H
#define SLUICE_CONTROLPLANE_MODEL_POOL_TIMEOUTS_H

#include <string>
#include <unordered_map>

#include "controlplane/model/desired_state.h"

namespace sluice::model {

/// Of each timeout the longer one.
Timeouts longest(const Timeouts &a, const Timeouts &b);

/// By pool: the longest timeouts of the services that use it. Pools without services are not in it.
std::unordered_map<std::string, Timeouts> longest_timeouts_by_pool(const DesiredState &desired);

}  // namespace sluice::model

#endif
