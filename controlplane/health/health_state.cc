#include "controlplane/health/health_state.h"

namespace sluice {

namespace {

// The state after a result that speaks against it: over to `other` once the streak is long enough.
HealthState count_against(HealthState before, unsigned limit, model::Health other) {
  if (before.streak + 1 >= limit) return {.health = other, .streak = 0};
  return {.health = before.health, .streak = before.streak + 1};
}

}  // namespace

HealthState observe_check(HealthState before, CheckOutcome outcome, unsigned rise, unsigned fall) {
  if (outcome == CheckOutcome::kNotCarriedOut) return before;
  const bool success = outcome == CheckOutcome::kSuccess;
  if (before.health == model::Health::kDown) {
    if (!success) return {.health = model::Health::kDown, .streak = 0};
    return count_against(before, rise, model::Health::kUp);
  }
  if (success) return {.health = model::Health::kUp, .streak = 0};
  return count_against(before, fall, model::Health::kDown);
}

model::Health reported_health(const HealthState &state) {
  const bool failing = state.health == model::Health::kUp && state.streak > 0;
  return failing ? model::Health::kFailing : state.health;
}

const char *health_name(model::Health health) {
  switch (health) {
    case model::Health::kFailing:
      return "failing";
    case model::Health::kUp:
      return "up";
    case model::Health::kDown:
      return "down";
    case model::Health::kUnknown:
      break;
  }
  return "unknown";
}

}  // namespace sluice
