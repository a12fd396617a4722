// The document's shape: which keys there are, what they hold, and their defaults.
#ifndef SLUICE_CONTROLPLANE_CONFIG_DOCUMENT_READER_H
#define SLUICE_CONTROLPLANE_CONFIG_DOCUMENT_READER_H

#include <string>
#include <vector>

#include "controlplane/config/field_reader.h"
#include "controlplane/config/placed_state.h"

namespace sluice {

/// The path of every key there is, as "pools[].health.interval": for tests that compare the documentation.
std::vector<std::string> configuration_keys();

/// Reads every field by itself. Values that are wrong are left out or at their default, with an error.
PlacedState read_document(const YamlNode &root, ErrorList &errors);

}  // namespace sluice

#endif
