// Whether enough of a service's backends take new connections, with hysteresis.
#ifndef SLUICE_CONTROLPLANE_LIFECYCLE_QUORUM_H
#define SLUICE_CONTROLPLANE_LIFECYCLE_QUORUM_H

#include <cstddef>
#include <string>

#include "controlplane/model/desired_state.h"
#include "controlplane/model/observed_state.h"

namespace sluice {

/// Of one pool.
struct PoolCount {
  size_t wanted = 0;   // backends that the operator has not taken out
  size_t serving = 0;  // those of them that take new connections
  size_t unknown = 0;  // those of them that were never checked
};

PoolCount count_serving(const model::Pool &pool, const model::ObservedState &observed);

/// How many of `wanted` backends a threshold asks for; a share is rounded up, to one at least.
size_t needed(const model::QuorumThreshold &threshold, size_t wanted);

/// How many a service needs so as not to be below its quorum. Those that were never checked count only for
/// one that is below it: new backends do not lose a quorum, and the first of many does not bring it back.
size_t needed(const model::Quorum &quorum, const PoolCount &count, bool was_below);

/// Whether a service is below its quorum now, which it was or was not before.
bool is_below_quorum(const model::Quorum &quorum, const PoolCount &count, bool was_below);

/// Brings `observed->below_quorum` up to date.
void update_quorums(const model::DesiredState &desired, model::ObservedState *observed);

/// What a service does below its quorum or again above it, in words.
std::string quorum_text(const model::Quorum &quorum, bool is_below);

}  // namespace sluice

#endif
