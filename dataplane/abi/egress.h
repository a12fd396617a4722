// How a packet leaves towards one backend: made by the server from the snapshot's backend and the
// kernel's routes and neighbours, read by the engines. One cache line, indexed by backend identifier.
#ifndef SLUICE_ABI_EGRESS_H
#define SLUICE_ABI_EGRESS_H

#include "dataplane/abi/address.h"
#include "dataplane/abi/wire.h"

SLUICE_NAMESPACE_BEGIN

enum EgressFlags {
  kEgressKnown = 1,       // the backend is in the snapshot
  kEgressReady = 2,       // route and link address are known: `headers` is complete
  kEgressTakesNew = 4,    // state up
  kEgressDown = 8,        // state down
  kEgressOuterIpv6 = 16,  // the outer header is IPv6 (40 bytes), else IPv4 (20 bytes)
};

enum EgressSizes {
  kEgressHeadersSize = 54  // Ethernet and the larger outer header
};

// headers: Ethernet header and outer IP header as they go on the wire, except for the fields that
// each packet sets (traffic class, length, identification, DF, next protocol, flow label, checksum),
// which are 0. The outer source address is the one that the kernel's route prefers.
struct Egress {
  uint8_t headers[kEgressHeadersSize];
  uint16_t outer_mtu;  // bytes of the outer IP packet that fit the next link
  uint16_t ipv4_sum;   // ones' complement sum, folded, of the outer IPv4 header's constant 16-bit words
  uint16_t port;       // engine's port: index of the logical port (DPDK), ifindex slot (XDP)
  uint16_t weight;     // for least-connection; 0 when the backend takes no new connections
  uint8_t flags;       // enum EgressFlags
  uint8_t outer_size;  // bytes of the outer IP header: 20 or 40
};

SLUICE_STATIC_ASSERT(sizeof(struct Egress) == 64, "one cache line per backend");

SLUICE_NAMESPACE_END

#endif
