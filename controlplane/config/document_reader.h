// The document's shape: which keys there are, what they hold, and their defaults.
#ifndef SLUICE_CONTROLPLANE_CONFIG_DOCUMENT_READER_H
#define SLUICE_CONTROLPLANE_CONFIG_DOCUMENT_READER_H

#include "controlplane/config/field_reader.h"
#include "controlplane/config/placed_state.h"

namespace sluice {

/// Reads every field by itself. Values that are wrong are left out or at their default, with an error.
PlacedState read_document(const YamlNode &root, ErrorList &errors);

}  // namespace sluice

#endif
