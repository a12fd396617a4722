// Services' port spans on one VIP and protocol -> the disjoint, sorted ranges of the snapshot.
#ifndef SLUICE_CONTROLPLANE_COMPILE_PORT_RANGES_H
#define SLUICE_CONTROLPLANE_COMPILE_PORT_RANGES_H

#include <cstdint>
#include <vector>

#include "controlplane/model/desired_state.h"
#include "dataplane/abi/result.h"
#include "dataplane/abi/snapshot.h"

namespace sluice {

struct ServiceSpan {
  model::PortSpan span;
  uint32_t service = 0;  // identifier
};

/// Each port goes to the smallest span that holds it: an exact port wins over a range, a range over a
/// larger one, all over nothing. Neighbouring ranges of one service are one range. Fails when two
/// spans are equal or overlap without one containing the other: then no span is the smaller one.
Result<std::vector<PortRange>> flatten_port_spans(std::vector<ServiceSpan> spans);

}  // namespace sluice

#endif
