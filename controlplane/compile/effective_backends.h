// What the snapshot says of a pool's backends: their states, and what becomes of them when a whole pool
// fails. `sluicectl backends` shows the same, so that it cannot differ from what was published.
#ifndef SLUICE_CONTROLPLANE_COMPILE_EFFECTIVE_BACKENDS_H
#define SLUICE_CONTROLPLANE_COMPILE_EFFECTIVE_BACKENDS_H

#include <set>
#include <string>
#include <vector>

#include "controlplane/lifecycle/serving_state.h"
#include "controlplane/model/desired_state.h"
#include "controlplane/model/observed_state.h"
#include "dataplane/abi/snapshot.h"

namespace sluice {

struct EffectiveBackend {
  ServingState serving = ServingState::kUnknown;
  BackendState state = kBackendUnused;  // in the snapshot
  uint16_t weight = 0;                  // the whole one; 0 with every state but up
  uint8_t ramp_step = kRampSteps;       // of its slow start
  uint8_t share_step = kRampSteps;      // how much of the weight counts now
  bool failed_open = false;             // does not take new connections by itself, but its whole pool failed
};

struct EffectivePool {
  std::vector<EffectiveBackend> backends;  // in the pool's order
  bool fails_open = false;                 // nobody takes new connections by himself, so everybody does

  /// The lowest priority that has a backend which takes new connections by itself; the others stand by.
  uint16_t priority = 0;
};

/// Pools of which a service takes every backend, good or bad, because it is below its quorum.
std::set<std::string> pools_served_whole(const model::DesiredState &desired,
                                         const model::ObservedState &observed);

/// One backend by itself, whatever becomes of its pool.
EffectiveBackend effective_backend(const model::Pool &pool, const model::BackendSpec &backend,
                                   const model::OperatorOrder *order,
                                   const model::BackendCondition &condition);

/// While nobody has his whole share, those who are furthest count as if they had, and the others by
/// comparison.
EffectivePool effective_pool(const model::Pool &pool, const model::ObservedState &observed,
                             const std::set<std::string> &served_whole);

}  // namespace sluice

#endif
