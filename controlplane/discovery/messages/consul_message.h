// What Consul answers to GET /v1/health/service/NAME, without I/O.
#ifndef SLUICE_CONTROLPLANE_DISCOVERY_MESSAGES_CONSUL_MESSAGE_H
#define SLUICE_CONTROLPLANE_DISCOVERY_MESSAGES_CONSUL_MESSAGE_H

#include <cstdint>
#include <string_view>

#include "controlplane/discovery/found.h"
#include "dataplane/abi/result.h"

namespace sluice {

/// Any bytes are safe. An instance that is no backend is skipped, and named by its node and ID. The name of a
/// backend is that of its address, its port is `check_port`; weights are Consul's Weights.Passing, in
/// Sluice's scale if they differ, else `weight`.
Result<Answer> parse_consul_instances(std::string_view body, uint16_t weight);

/// What to ask with after an answer that carried `header` (X-Consul-Index): its index, or 0 to ask without
/// waiting where it went back behind `last`, or is none.
uint64_t next_consul_index(uint64_t last, std::string_view header);

}  // namespace sluice

#endif
