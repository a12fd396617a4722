// The configuration with what was found.
#ifndef SLUICE_CONTROLPLANE_DISCOVERY_MERGE_H
#define SLUICE_CONTROLPLANE_DISCOVERY_MERGE_H

#include <map>
#include <string>
#include <vector>

#include "controlplane/discovery/found.h"
#include "controlplane/model/desired_state.h"
#include "dataplane/abi/result.h"

namespace sluice {

struct Merged {
  model::DesiredState state;
  // Found backends that cannot be used beside the configuration, by pool, each in words.
  std::map<std::string, std::vector<std::string>> left_out;
};

/// `configured` with the backends of `found` in those of its pools that have a source, after their own. A
/// found backend with the name or the address of one of the pool's own, or with the address of a VIP, is left
/// out. An error where a pool would have more backends than slots, or all pools more than a snapshot holds.
Result<Merged> merge(const model::DesiredState &configured, const FoundPools &found);

}  // namespace sluice

#endif
