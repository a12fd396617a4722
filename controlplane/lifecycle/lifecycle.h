// What events and time make of one backend's condition: slow start, flap damping, drains. Pure: the time is a
// parameter, and nothing here waits or asks anybody.
#ifndef SLUICE_CONTROLPLANE_LIFECYCLE_LIFECYCLE_H
#define SLUICE_CONTROLPLANE_LIFECYCLE_LIFECYCLE_H

#include <cstdint>
#include <optional>

#include "controlplane/lifecycle/serving_state.h"
#include "controlplane/model/desired_state.h"
#include "controlplane/model/observed_state.h"

namespace sluice {

/// One instant on both clocks. Of the host's only the start of an operator's order is reckoned by, so that a
/// deadline outlives a restart.
struct Moment {
  model::SteadyTime steady;
  int64_t unix_s = 0;
};

/// A backend and who it belongs to.
struct Member {
  const model::Pool &pool;
  const model::BackendSpec &backend;
  const model::OperatorOrder *order = nullptr;  // the operator's, if there is one
};

/// Notes what its checks say now. A failure of one that is held begins the hold anew.
void note_health(const Member &member, model::Health health, model::SteadyTime now,
                 model::BackendCondition *condition);

/// Brings a condition up to `now`: begins, goes on with and ends slow starts, holds and drains. To be called
/// after every change of what a standing depends on, and while is_restless() every now and then.
/// `connections`: how many it has in the dataplane; absent when that is not known.
void advance(const Member &member, Moment now, std::optional<uint64_t> connections,
             model::BackendCondition *condition);

/// Whether time alone can change it.
bool is_restless(const model::BackendCondition &condition);

/// How many parts of kRampSteps of its weight a backend has now; a probing one has one.
uint8_t ramp_step_of(const model::BackendCondition &condition);

}  // namespace sluice

#endif
