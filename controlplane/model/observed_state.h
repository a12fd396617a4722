// What is so, whatever the configuration says: results of health checks, and what the operator did
// to single backends at run time.
#ifndef SLUICE_CONTROLPLANE_MODEL_OBSERVED_STATE_H
#define SLUICE_CONTROLPLANE_MODEL_OBSERVED_STATE_H

#include <cstdint>
#include <set>
#include <unordered_map>

#include "controlplane/model/desired_state.h"

namespace sluice::model {

/// kUnknown: never checked yet. Such a backend of a checked pool takes no connections, so that a new
/// backend proves itself first; a pool with health type none needs no proof.
enum class Health : uint8_t { kUnknown, kUp, kDown };

struct ObservedState {
  std::unordered_map<BackendKey, Health> health;  // absent: unknown
  std::set<BackendKey> drained;                   // by the operator at run time (`sluicectl drain`)

  Health health_of(const BackendKey &key) const {
    const auto found = health.find(key);
    return found == health.end() ? Health::kUnknown : found->second;
  }
};

}  // namespace sluice::model

#endif
