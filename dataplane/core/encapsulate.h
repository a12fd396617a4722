// Stage 5, write: IP in IP, all four pairings (RFC 2003, RFC 2473, RFC 4213).
#ifndef SLUICE_CORE_ENCAPSULATE_H
#define SLUICE_CORE_ENCAPSULATE_H

#include "dataplane/abi/egress.h"
#include "dataplane/core/packet.h"

SLUICE_NAMESPACE_BEGIN

// Whether the packet can go this way: the last checks before anything is changed.
SLUICE_INLINE enum Verdict check_egress(const struct Egress *egress, const struct Packet *packet) {
  if (SLUICE_UNLIKELY((egress->flags & kEgressReady) == 0)) return kVerdictDropNoNextHop;
  if (SLUICE_UNLIKELY(packet->hop_limit <= 1)) return kVerdictDropHopLimit;
  if (SLUICE_UNLIKELY((uint32_t)packet->l3_length + egress->outer_size > egress->outer_mtu)) {
    return kVerdictDropTooBig;
  }
  return kVerdictUndecided;
}

// Takes one off the inner TTL or hop limit, as forwarding through a tunnel does (RFC 2003 section 3.1),
// and mends the IPv4 checksum by difference (RFC 1624 eq. 3; RFC 1141 for the decrement).
SLUICE_INLINE void decrement_hop_limit(uint8_t *l3, uint8_t family) {
  if (family == kFamilyIpv6) {
    l3[7] = (uint8_t)(l3[7] - 1);
    return;
  }
  l3[8] = (uint8_t)(l3[8] - 1);
  // The word {TTL, protocol} fell by 0x0100 in network order, so the complement sum rises by it.
  uint32_t sum = (uint32_t)load_be16(l3 + 10) + 0x0001u;  // 0x0100 as the bytes lie in memory
  store_be16(l3 + 10, (uint16_t)(sum + (sum >= 0xffff)));
}

SLUICE_INLINE uint16_t fold_checksum(uint32_t sum) {
  sum = (sum & 0xffff) + (sum >> 16);
  sum = (sum & 0xffff) + (sum >> 16);
  return (uint16_t)~sum;
}

// The outer IPv4 header over what the template left open. ECN and DSCP are copied whole (RFC 6040
// section 4.1, RFC 2983 uniform model). DF is the inner packet's (RFC 2003 section 3.1). A datagram
// with DF is atomic, and its identification means nothing (RFC 6864 section 4.1); one without takes the
// client's, moved by the flow's hash, since many clients share the outer addresses.
SLUICE_INLINE void write_outer_ipv4(uint8_t *l3, const struct Egress *egress, const struct Packet *packet) {
  // Fields as they lie in memory: the first byte of a word is its low one.
  const uint32_t atomic = 0x40u << 16;  // identification 0, then flags: DF
  uint32_t id_and_fragment = (packet->flags & kPacketDontFragment) != 0
                                 ? atomic
                                 : (uint16_t)(packet->ipv4_id + (uint16_t)packet->hash);
  uint32_t traffic_class = (uint32_t)packet->traffic_class << 8;  // behind version and header length
  uint32_t length = host_to_be16((uint16_t)(packet->l3_length + kIpv4HeaderSize));
  uint8_t protocol = packet->family == kFamilyIpv4 ? kProtocolIpv4 : kProtocolIpv6;
  uint32_t sum = (uint32_t)egress->ipv4_sum + traffic_class + length + (id_and_fragment & 0xffff) +
                 (id_and_fragment >> 16) + ((uint32_t)protocol << 8);
  store_be32(l3, 0x45u | traffic_class | (length << 16));
  store_be32(l3 + 4, id_and_fragment);
  l3[9] = protocol;
  store_be16(l3 + 10, fold_checksum(sum));
}

// The outer IPv6 header: traffic class copied (RFC 6040), the flow label carries the flow's entropy so
// that ECMP and LAG spread the tunnel (RFC 6438 section 3).
SLUICE_INLINE void write_outer_ipv6(uint8_t *l3, const struct Packet *packet) {
  be32 first =
      host_to_be32(0x60000000u | ((uint32_t)packet->traffic_class << 20) | (uint32_t)(packet->hash >> 44));
  store_be32(l3, first);
  store_be16(l3 + 4, host_to_be16(packet->l3_length));
  l3[6] = packet->family == kFamilyIpv4 ? kProtocolIpv4 : kProtocolIpv6;
}

// Each writes Ethernet and outer header at `start`; the inner packet lies right behind them, at
// start + kEthernetHeaderSize + egress->outer_size. The caller has made and checked that room, and the inner
// header's. check_egress() has said yes.
SLUICE_INLINE void encapsulate_in_ipv4(uint8_t *start, const struct Egress *egress,
                                       const struct Packet *packet) {
  uint8_t *outer = start + kEthernetHeaderSize;
  decrement_hop_limit(outer + kIpv4HeaderSize, packet->family);
  copy_bytes(start, egress->headers, kEthernetHeaderSize + kIpv4HeaderSize);
  write_outer_ipv4(outer, egress, packet);
}

SLUICE_INLINE void encapsulate_in_ipv6(uint8_t *start, const struct Egress *egress,
                                       const struct Packet *packet) {
  uint8_t *outer = start + kEthernetHeaderSize;
  decrement_hop_limit(outer + kIpv6HeaderSize, packet->family);
  copy_bytes(start, egress->headers, kEthernetHeaderSize + kIpv6HeaderSize);
  write_outer_ipv6(outer, packet);
}

SLUICE_INLINE void encapsulate(uint8_t *start, const struct Egress *egress, const struct Packet *packet) {
  if (egress->flags & kEgressOuterIpv6) {
    encapsulate_in_ipv6(start, egress, packet);
  } else {
    encapsulate_in_ipv4(start, egress, packet);
  }
}

SLUICE_NAMESPACE_END

#endif
