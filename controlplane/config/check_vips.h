// Which VIP the checks through the data path ask, and whether they can.
#ifndef SLUICE_CONTROLPLANE_CONFIG_CHECK_VIPS_H
#define SLUICE_CONTROLPLANE_CONFIG_CHECK_VIPS_H

#include "controlplane/config/field_reader.h"
#include "controlplane/config/placed_state.h"

namespace sluice {

/// For each pool with `via: dataplane`: its health's VIP, the one that it names or the first of a service of
/// the pool that takes such packets on the check's port, and of which there is a source address. After
/// fill_check_ports().
void fill_check_vips(PlacedState *placed, ErrorList &errors);

}  // namespace sluice

#endif
