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
/// in `observed` stays; of one that had another name in its pool the health and what follows from it, so that
/// a pool whose backends are all renamed by another source does not wait for checks; what only `in_force`
/// knows comes from there; the rest is unknown. Orders about backends that `next` does not have are left out,
/// unless a source finds the pool's backends: it may find them again. So is the health of pools that are not
/// checked: nobody keeps it true. `in_force` may be nullptr.
model::ObservedState carry_over(const model::DesiredState &before, const model::ObservedState &observed,
                                const SnapshotView *in_force, const model::DesiredState &next);

/// What checks need of the dataplane.
struct CheckPaths {
  model::CheckFlows flows;  // that it takes for checks through the data path; none while it is away
  bool ports_away = false;  // it is away, and has taken this host's ports with it: checks rest

  bool operator==(const CheckPaths &) const = default;
};

/// The checks that a configuration asks for, each with the health that `observed` knows. What is in
/// maintenance is not checked.
std::vector<CheckTarget> check_targets(const model::DesiredState &desired,
                                       const model::ObservedState &observed, const CheckPaths &paths);

}  // namespace sluice

#endif
