// The answer to a packet that does not fit towards its backend once it is encapsulated: ICMP
// Fragmentation Needed (RFC 792, RFC 1191 section 4) or ICMPv6 Packet Too Big (RFC 4443 section 3.2), sent
// back the way the packet came. The client's path MTU discovery then keeps to what fits, so that an
// upload works although the encapsulation's bytes are more than the links have to spare.
//
// The answer's source is the VIP: the host that the client believes to talk to, and an address that
// its firewall lets through. It quotes a fixed piece of the packet, so that its size is constant.
#ifndef SLUICE_CORE_TOO_BIG_H
#define SLUICE_CORE_TOO_BIG_H

#include "dataplane/core/encapsulate.h"
#include "dataplane/core/parse.h"
#include "dataplane/core/tables.h"

SLUICE_NAMESPACE_BEGIN

enum TooBigSizes {
  kQuotedSize = 256,                                      // bytes of the packet; RFC 792 asks for 28 at least
  kTooBigIcmpSize = kQuotedSize + 8,                      // with the ICMP header
  kTooBigIpv4Growth = kIpv4HeaderSize + kIcmpHeaderSize,  // bytes in front of the packet
  kTooBigIpv6Growth = kIpv6HeaderSize + kIcmpHeaderSize
};

// Whether the address is one host's: not unspecified, loopback, multicast, broadcast or reserved.
SLUICE_INLINE bool is_one_host(const struct Address *address) {
  if (address_is_ipv4(address)) {
    uint8_t network = (uint8_t)address->word[3];
    return network != 0 && network != 127 && network < 224;
  }
  if ((uint8_t)address->word[0] == 0xff) return false;
  bool zeros = address_half(address, 0) == 0 && address->word[2] == 0;
  return !zeros || (address->word[3] & ~host_to_be32(1)) != 0;
}

// Whether a packet that is too big is answered or only dropped. Never answered: what may be fragmented
// on its way (RFC 1191), ICMP errors and what has no single sender (RFC 1122 section 3.2.2, RFC 4443 section
// 2.4 e), and more than the rate limit allows.
SLUICE_INLINE enum Verdict too_big_verdict(const struct Tables *tables, const struct Packet *packet) {
  if (!is_one_host(&packet->client)) return kVerdictDropTooBig;
  if ((packet->flags & kPacketDontFragment) == 0 || (packet->flags & kPacketIcmpError) != 0)
    return kVerdictDropTooBig;
  if (packet->l3_length < kQuotedSize) return kVerdictDropTooBig;
  return tables_take_icmp_reply(tables) ? kVerdictReplyTooBig : kVerdictDropTooBig;
}

// Bytes by which the frame's start moves forward, to make room between link and IP header.
SLUICE_INLINE uint32_t too_big_growth(const struct Packet *packet) {
  return packet->family == kFamilyIpv4 ? kTooBigIpv4Growth : kTooBigIpv6Growth;
}

// Bytes of the finished frame.
SLUICE_INLINE uint32_t too_big_frame_size(const struct Packet *packet) {
  return packet->l3_offset + too_big_growth(packet) + kQuotedSize;
}

// Ones' complement sum of `size` bytes (a constant, even), as 16-bit words as they lie in memory.
SLUICE_INLINE uint32_t sum_words(const uint8_t *bytes, uint32_t size) {
  uint32_t sum = 0;
  for (uint32_t i = 0; i < size; i += 2) sum += load_be16(bytes + i);
  return sum;
}

// Turns the link header round: addresses exchanged, tags and type kept. `from` is where it is now.
SLUICE_INLINE void write_link_header_back(uint8_t *start, const uint8_t *from, uint32_t size) {
  copy_bytes(start, from + 6, 6);
  copy_bytes(start + 6, from, 6);
  for (uint32_t i = 12; i < kEthernetHeaderSize + (int)kMaxVlanTags * kVlanTagSize; i += 2) {
    if (i >= size) break;
    store_be16(start + i, load_be16(from + i));
  }
}

SLUICE_INLINE void write_too_big_headers_ipv4(uint8_t *l3, const struct Packet *packet, uint16_t mtu) {
  const uint16_t length = host_to_be16((uint16_t)kIpv4HeaderSize + (uint16_t)kTooBigIcmpSize);
  const uint8_t header[kIpv4HeaderSize] = {0x45, 0xc0, 0, 0,  0,
                                           0,    0x40, 0, 64, kProtocolIcmp};  // DF, CS6 as routers do
  copy_bytes(l3, header, sizeof(header));
  store_be16(l3 + 2, length);
  store_be32(l3 + 12, packet->vip.word[3]);
  store_be32(l3 + 16, packet->client.word[3]);
  store_be16(l3 + 10, fold_checksum(sum_words(l3, kIpv4HeaderSize)));

  uint8_t *icmp = l3 + kIpv4HeaderSize;
  const uint8_t icmp_header[kIcmpHeaderSize] = {3, 4};
  copy_bytes(icmp, icmp_header, sizeof(icmp_header));
  store_be16(icmp + 6, host_to_be16(mtu));
  store_be16(icmp + 2, fold_checksum(sum_words(icmp, kTooBigIcmpSize)));
}

// The ICMPv6 checksum covers the addresses, the length and the protocol too (RFC 8200 section 8.1).
SLUICE_INLINE void write_too_big_headers_ipv6(uint8_t *l3, const struct Packet *packet, uint16_t mtu) {
  const uint16_t length = host_to_be16(kTooBigIcmpSize);
  const uint8_t header[8] = {0x6c, 0, 0, 0, 0, 0, kProtocolIcmpv6, 64};  // CS6
  copy_bytes(l3, header, sizeof(header));
  store_be16(l3 + 4, length);
  store_ipv6_address(l3 + 8, &packet->vip);
  store_ipv6_address(l3 + 24, &packet->client);

  uint8_t *icmp = l3 + kIpv6HeaderSize;
  const uint8_t icmp_header[kIcmpHeaderSize] = {2, 0};
  copy_bytes(icmp, icmp_header, sizeof(icmp_header));
  store_be16(icmp + 6, host_to_be16(mtu));
  uint32_t pseudo = (uint32_t)length + host_to_be16(kProtocolIcmpv6);
  store_be16(icmp + 2, fold_checksum(sum_words(l3 + 8, 32 + kTooBigIcmpSize) + pseudo));
}

// The next hop's MTU, less what encapsulation adds: what the client's packets may have.
SLUICE_INLINE uint16_t inner_mtu(const struct Egress *egress) {
  return (uint16_t)(egress->outer_mtu - egress->outer_size);
}

// Each writes the answer's headers in front of the packet. `start` is the answer's first byte; the packet's
// frame begins too_big_growth() bytes behind it and is still whole. `l3` is start + packet->l3_offset, where
// the answer's IP header goes (a pointer, since a verifier knows pointers one by one). The caller has made
// and checked the room, has too_big_frame_size() bytes readable, and then cuts the frame to that size.
SLUICE_INLINE void write_too_big_ipv4(uint8_t *start, uint8_t *l3, const struct Egress *egress,
                                      const struct Packet *packet) {
  write_link_header_back(start, start + kTooBigIpv4Growth, packet->l3_offset);
  write_too_big_headers_ipv4(l3, packet, inner_mtu(egress));
}

SLUICE_INLINE void write_too_big_ipv6(uint8_t *start, uint8_t *l3, const struct Egress *egress,
                                      const struct Packet *packet) {
  write_link_header_back(start, start + kTooBigIpv6Growth, packet->l3_offset);
  write_too_big_headers_ipv6(l3, packet, inner_mtu(egress));
}

SLUICE_INLINE void write_too_big(uint8_t *start, const struct Egress *egress, const struct Packet *packet) {
  if (packet->family == kFamilyIpv4) {
    write_too_big_ipv4(start, start + packet->l3_offset, egress, packet);
  } else {
    write_too_big_ipv6(start, start + packet->l3_offset, egress, packet);
  }
}

SLUICE_NAMESPACE_END

#endif
