// What no single field shows: names given twice, pools that are not there, services in each other's
// way, limits of the whole.
#ifndef SLUICE_CONTROLPLANE_CONFIG_CROSS_CHECK_H
#define SLUICE_CONTROLPLANE_CONFIG_CROSS_CHECK_H

#include "controlplane/config/field_reader.h"
#include "controlplane/config/placed_state.h"

namespace sluice {

/// Adds an error, with its place, for each contradiction between parts of `placed`.
void check_across(const PlacedState &placed, ErrorList &errors);

}  // namespace sluice

#endif
