// The ports of health checks that the configuration leaves out.
#ifndef SLUICE_CONTROLPLANE_CONFIG_CHECK_PORTS_H
#define SLUICE_CONTROLPLANE_CONFIG_CHECK_PORTS_H

#include "controlplane/config/field_reader.h"
#include "controlplane/config/placed_state.h"

namespace sluice {

/// Checks of a pool that name no port ask on the one that all services of the pool have. An error where there
/// is no such port.
void fill_check_ports(PlacedState *placed, ErrorList &errors);

}  // namespace sluice

#endif
