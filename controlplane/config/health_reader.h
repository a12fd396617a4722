// The "health" of a pool: a type of check, the keys that this type knows, and its pace.
#ifndef SLUICE_CONTROLPLANE_CONFIG_HEALTH_READER_H
#define SLUICE_CONTROLPLANE_CONFIG_HEALTH_READER_H

#include <span>
#include <string_view>

#include "controlplane/config/field_reader.h"
#include "controlplane/model/health_check.h"

namespace sluice {

/// Notes an error for everything that is wrong, and gives what could be read.
model::HealthSpec read_health(const Field &field, FieldReader &reader);

std::span<const std::string_view> health_keys();

}  // namespace sluice

#endif
