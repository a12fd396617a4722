// Writes Egress records: the constant part of every packet to a backend.
#ifndef SLUICE_SERVER_EGRESS_HEADERS_H
#define SLUICE_SERVER_EGRESS_HEADERS_H

#include <array>
#include <cstdint>

#include "dataplane/abi/egress.h"
#include "dataplane/abi/snapshot.h"

namespace sluice {

using LinkAddress = std::array<uint8_t, 6>;

/// The way to a backend, as the kernel says it is.
struct EgressPath {
  LinkAddress source_link;    // the port's
  LinkAddress next_hop_link;  // the gateway's, or the backend's own
  Address source;             // of the outer header
  uint16_t port = 0;          // EnginePort::index
  uint16_t mtu = 0;           // bytes of outer IP packet
};

/// The record of a backend whose path is not known: dropped packets are counted as without a next hop.
Egress make_egress(const Backend &backend);

/// The record of a backend with a known path. `path.source` is of the backend's address family.
Egress make_egress(const Backend &backend, const EgressPath &path);

}  // namespace sluice

#endif
