#include "controlplane/compile/effective_backends.h"

#include <algorithm>

#include "controlplane/lifecycle/lifecycle.h"

namespace sluice {
namespace {

// Of a backend that the operator has taken out. A failed one is down all the same: a connection that is only
// being opened has nothing to lose elsewhere.
BackendState state_of_unwanted(const model::Pool &pool, const model::BackendCondition &condition) {
  if (condition.drain && condition.drain->deadline_passed) return kBackendClosed;
  const bool failed = pool.health.checks() && condition.health == model::Health::kDown;
  return failed ? kBackendDown : kBackendDraining;
}

// A share is a part of what the furthest have.
void compare_ramps(EffectivePool *pool) {
  uint8_t furthest = 0;
  for (const EffectiveBackend &backend : pool->backends) {
    if (backend.state == kBackendUp) furthest = std::max(furthest, backend.ramp_step);
  }
  for (EffectiveBackend &backend : pool->backends) {
    if (backend.state != kBackendUp) continue;
    backend.share_step = static_cast<uint8_t>(std::max(1, backend.ramp_step * kRampSteps / furthest));
  }
}

}  // namespace

EffectiveBackend effective_backend(const model::Pool &pool, const model::BackendSpec &backend,
                                   const model::OperatorOrder *order,
                                   const model::BackendCondition &condition) {
  EffectiveBackend effective;
  effective.serving = serving_state(standing_of(pool, backend, order, condition));
  const StateMeaning &meaning = meaning_of(effective.serving);
  if (meaning.takes_new) {
    effective.state = kBackendUp;
    effective.weight = backend.weight;
    effective.ramp_step = ramp_step_of(condition);
  } else if (!meaning.is_wanted) {
    effective.state = state_of_unwanted(pool, condition);
  } else {
    // One that was never checked has failed nothing: what it has from before may go on.
    effective.state = effective.serving == ServingState::kUnknown ? kBackendDraining : kBackendDown;
  }
  return effective;
}

std::set<std::string> pools_served_whole(const model::DesiredState &desired,
                                         const model::ObservedState &observed) {
  std::set<std::string> pools;
  for (const model::Service &service : desired.services) {
    if (!service.quorum || service.quorum->action != model::QuorumAction::kServeAll) continue;
    if (observed.below_quorum.contains(service.name)) pools.insert(service.pool);
  }
  return pools;
}

EffectivePool effective_pool(const model::Pool &pool, const model::ObservedState &observed,
                             const std::set<std::string> &served_whole) {
  EffectivePool effective;
  effective.backends.reserve(pool.backends.size());
  effective.fails_open = pool.fail_open;
  effective.priority = UINT16_MAX;
  for (const model::BackendSpec &backend : pool.backends) {
    const model::BackendKey key{pool.name, backend.name};
    effective.backends.push_back(
        effective_backend(pool, backend, observed.order_of(key), observed.condition_of(key)));
    if (effective.backends.back().state != kBackendUp) continue;
    effective.fails_open = false;
    effective.priority = std::min(effective.priority, backend.priority);
  }
  compare_ramps(&effective);
  if (!effective.fails_open && !served_whole.contains(pool.name)) return effective;
  for (size_t i = 0; i < pool.backends.size(); i++) {
    EffectiveBackend &backend = effective.backends[i];
    if (backend.state == kBackendUp || !meaning_of(backend.serving).is_wanted) continue;
    backend.state = kBackendUp;
    backend.weight = pool.backends[i].weight;
    backend.failed_open = true;
  }
  return effective;
}

}  // namespace sluice
