// Reads what the configuration says of a backend's life: quorums of services, slow start, drains and flap
// damping of pools.
#ifndef SLUICE_CONTROLPLANE_CONFIG_LIFECYCLE_READER_H
#define SLUICE_CONTROLPLANE_CONFIG_LIFECYCLE_READER_H

#include <optional>
#include <span>
#include <string_view>

#include "controlplane/config/field_reader.h"
#include "controlplane/config/placed_state.h"

namespace sluice {

/// The keys of `services[].quorum` and `pools[].flap_damping`.
std::span<const std::string_view> quorum_keys();
std::span<const std::string_view> flap_damping_keys();

/// Reads a service's `quorum` map; nothing when it is wrong. That the backup pool is there is for
/// check_across() to say.
std::optional<PlacedQuorum> read_quorum(const Field &field, FieldReader &reader);

/// Reads a pool's `slow_start`, `drain_deadline` and `flap_damping`, as far as they are there.
void read_pool_lifecycle(const Field &pool_field, FieldReader &reader, model::Pool *pool);

}  // namespace sluice

#endif
