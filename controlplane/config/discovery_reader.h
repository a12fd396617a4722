// The "discovery" of a pool: a type of source, the keys that this type knows, and what all of them share.
#ifndef SLUICE_CONTROLPLANE_CONFIG_DISCOVERY_READER_H
#define SLUICE_CONTROLPLANE_CONFIG_DISCOVERY_READER_H

#include <span>
#include <string_view>

#include "controlplane/config/field_reader.h"
#include "controlplane/model/discovery.h"

namespace sluice {

/// Notes an error for everything that is wrong, and gives what could be read.
model::DiscoverySpec read_discovery(const Field &field, FieldReader &reader);

std::span<const std::string_view> discovery_keys();

}  // namespace sluice

#endif
