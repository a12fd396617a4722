// Sizes of headers on the wire, in bytes, without options.
#ifndef SLUICE_ABI_WIRE_H
#define SLUICE_ABI_WIRE_H

#include "dataplane/abi/portability.h"

SLUICE_NAMESPACE_BEGIN

enum WireSizes {
  kEthernetHeaderSize = 14,
  kVlanTagSize = 4,
  kIpv4HeaderSize = 20,
  kIpv6HeaderSize = 40,
  kTcpHeaderSize = 20,
  kUdpHeaderSize = 8,
  kIcmpHeaderSize = 8  // ICMP and ICMPv6
};

SLUICE_NAMESPACE_END

#endif
