// Why a backend is in its state, in words for the operator.
#ifndef SLUICE_CONTROLPLANE_SLUICED_STATE_REASON_H
#define SLUICE_CONTROLPLANE_SLUICED_STATE_REASON_H

#include <string>

#include "controlplane/compile/effective_backends.h"
#include "controlplane/lifecycle/lifecycle.h"

namespace sluice {

/// What others found of a backend, in words ("" if they found nothing), and its slots.
struct Findings {
  std::string last_check;  // its last check
  std::string passive;     // passive health
  uint32_t slots = 0;      // how many of its pool's it has
};

/// Empty when there is nothing to say.
std::string state_reason(const Member &member, const model::BackendCondition &condition,
                         const EffectivePool &pool, const EffectiveBackend &effective,
                         const Findings &findings, model::SteadyTime now);

/// Whole seconds until `end`, rounded up; 0 when it has passed.
int64_t seconds_until(model::SteadyTime end, model::SteadyTime now);

}  // namespace sluice

#endif
