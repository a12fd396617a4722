// A file's list of backends, in YAML or JSON (which is YAML).
#ifndef SLUICE_CONTROLPLANE_DISCOVERY_MESSAGES_BACKEND_LIST_H
#define SLUICE_CONTROLPLANE_DISCOVERY_MESSAGES_BACKEND_LIST_H

#include <string_view>

#include "controlplane/discovery/found.h"
#include "dataplane/abi/result.h"

namespace sluice {

/// Any bytes are safe. Text that is no list is an error, with its place; an entry that is no backend is
/// skipped, and named with its place. `weight` is that of an entry without one.
Result<Answer> parse_backend_list(std::string_view text, uint16_t weight);

}  // namespace sluice

#endif
