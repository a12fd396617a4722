// The state machine of one backend's health: pure, so that a table of cases can hold it.
#ifndef SLUICE_CONTROLPLANE_HEALTH_HEALTH_STATE_H
#define SLUICE_CONTROLPLANE_HEALTH_HEALTH_STATE_H

#include "controlplane/health/check.h"
#include "controlplane/model/observed_state.h"

namespace sluice {

/// model::Health::kUnknown: not enough results yet. Such a backend takes no new connections, like one that is
/// down. Never kFailing: that is kUp with a streak.
struct HealthState {
  model::Health health = model::Health::kUnknown;
  unsigned streak = 0;  // results in a row that speak against `health`
};

/// What is told of a state.
model::Health reported_health(const HealthState &state);

/// The state after one more result.
///   unknown  the first success takes it up at once (nobody waits for `rise` when a backend is new);
///            `fall` failures in a row take it down
///   up       `fall` failures in a row take it down
///   down     `rise` successes in a row take it up
/// A check that was not carried out changes nothing. A rise or fall of 0 counts as 1.
HealthState observe_check(HealthState before, CheckOutcome outcome, unsigned rise, unsigned fall);

/// Whether the next results may change it: then they are asked for sooner (HealthSpec::fast_interval).
inline bool is_changing(const HealthState &state) {
  return state.health == model::Health::kUnknown || state.streak > 0;
}

/// "unknown", "up", "failing" or "down".
const char *health_name(model::Health health);

}  // namespace sluice

#endif
