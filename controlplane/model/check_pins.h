// Which flows the checks through the data path are: the snapshot and their sender agree on them.
#ifndef SLUICE_CONTROLPLANE_MODEL_CHECK_PINS_H
#define SLUICE_CONTROLPLANE_MODEL_CHECK_PINS_H

#include <cstdint>
#include <map>
#include <unordered_map>
#include <vector>

#include "controlplane/model/desired_state.h"
#include "controlplane/model/observed_state.h"
#include "controlplane/model/snapshot_view.h"
#include "dataplane/abi/address.h"
#include "dataplane/abi/result.h"
#include "dataplane/abi/snapshot.h"

namespace sluice::model {

/// By source address: the identifier of the backend that the nth kCheckPortsPerPin ports from kFirstCheckPort
/// on belong to; 0: nobody's.
using CheckPins = std::map<Address, std::vector<uint16_t>>;

/// A backend that is checked through the data path.
struct CheckedThrough {
  Address source{};
  uint16_t backend = 0;  // identifier
};

/// Pins for all of `checked`: who has one in `before` keeps it, others get the lowest that is free. A source
/// that has none any more stays, as long as there is room for it: the dataplane drops late packets of its
/// checks. Fails where one source has more backends than kMaxPinsOfSource, or where there are more than
/// kMaxCheckSources sources.
Result<CheckPins> assign_check_pins(const CheckPins &before, const std::vector<CheckedThrough> &checked);

/// The source of a pool's checks through the data path: of the family of its health.vip, which it has.
const Address &check_source(const Pool &pool);

/// The flow of one backend's checks.
struct CheckFlow {
  Address source{};
  Address backend{};
  uint16_t first_port = 0;  // the first of kCheckPortsPerPin

  bool operator==(const CheckFlow &) const = default;
};
using CheckFlows = std::unordered_map<BackendKey, CheckFlow>;

/// What a dataplane with this snapshot takes for checks.
CheckFlows check_flows_of(const SnapshotView &snapshot);

}  // namespace sluice::model

#endif
