// The "passive" of a pool: when what the dataplane sees of a backend's clients takes it out.
#ifndef SLUICE_CONTROLPLANE_CONFIG_PASSIVE_READER_H
#define SLUICE_CONTROLPLANE_CONFIG_PASSIVE_READER_H

#include <span>
#include <string_view>

#include "controlplane/config/field_reader.h"
#include "controlplane/model/passive_health.h"

namespace sluice {

/// Notes an error for everything that is wrong, and gives what could be read.
model::PassiveHealth read_passive(const Field &field, FieldReader &reader);

/// Of "passive".
std::span<const std::string_view> passive_keys();

}  // namespace sluice

#endif
