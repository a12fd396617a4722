// What is known of the backends of one configuration, for another one; and what is to be checked of them.
#ifndef SLUICE_CONTROLPLANE_SLUICED_CARRY_OVER_H
#define SLUICE_CONTROLPLANE_SLUICED_CARRY_OVER_H

#include <vector>

#include "controlplane/health/monitor.h"
#include "controlplane/model/check_pins.h"
#include "controlplane/model/desired_state.h"
#include "controlplane/model/observed_state.h"
#include "controlplane/model/snapshot_view.h"

namespace sluice {

/// The observed state for `next`: of each backend that it shares with `before` (at the same address) what is
/// in `observed` stays; what only `in_force` knows comes from there; the rest is unknown. Orders about
/// backends that `next` does not have are left out, unless a source finds the pool's backends: it may find
/// them again. So is the health of pools that are not checked: nobody keeps it true. `in_force` may be
/// nullptr.
model::ObservedState carry_over(const model::DesiredState &before, const model::ObservedState &observed,
                                const SnapshotView *in_force, const model::DesiredState &next);

/// The checks that a configuration asks for, each with the health that `observed` knows. What is in
/// maintenance is not checked. `flows`: what the dataplane takes for checks through the data path; others of
/// these are not carried out.
std::vector<CheckTarget> check_targets(const model::DesiredState &desired,
                                       const model::ObservedState &observed, const model::CheckFlows &flows);

}  // namespace sluice

#endif
