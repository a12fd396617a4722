#include <algorithm>

#include "controlplane/compile/compiler.h"

namespace sluice {
namespace {

// A failed backend is down even when it is drained: a connection that is only being opened has
// nothing to lose elsewhere.
BackendState state_of(const model::BackendSpec &backend, const model::Pool &pool,
                      const model::ObservedState &observed) {
  const model::BackendKey key{pool.name, backend.name};
  const model::Health health = observed.health_of(key);
  const bool checked = pool.health.checks();
  if (checked && health == model::Health::kDown) return kBackendDown;
  if (backend.drain || backend.weight == 0 || observed.drained.contains(key)) return kBackendDraining;
  return checked && health == model::Health::kUnknown ? kBackendDown : kBackendUp;
}

}  // namespace

std::vector<EffectiveBackend> effective_backends(const model::Pool &pool,
                                                 const model::ObservedState &observed) {
  std::vector<EffectiveBackend> effective;
  effective.reserve(pool.backends.size());
  for (const model::BackendSpec &backend : pool.backends) {
    const BackendState state = state_of(backend, pool, observed);
    effective.push_back({state, state == kBackendUp ? backend.weight : uint16_t{0}, false});
  }
  const auto is_up = [](const EffectiveBackend &backend) { return backend.state == kBackendUp; };
  if (!pool.fail_open || std::ranges::any_of(effective, is_up)) return effective;
  for (size_t i = 0; i < effective.size(); ++i) {
    const model::BackendSpec &backend = pool.backends[i];
    const bool is_drained =
        backend.drain || backend.weight == 0 || observed.drained.contains({pool.name, backend.name});
    if (!is_drained) effective[i] = {kBackendUp, backend.weight, true};
  }
  return effective;
}

}  // namespace sluice
