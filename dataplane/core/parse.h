// Stage 1, parse: from the frame's bytes to a flow key, in the order in which the RFCs check.
// Every access is checked against the frame's end first; offsets are bounded, loops too.
#ifndef SLUICE_CORE_PARSE_H
#define SLUICE_CORE_PARSE_H

#include "dataplane/core/packet.h"

SLUICE_NAMESPACE_BEGIN

enum ParseLimits {
  kMaxVlanTags = 2,
  kMaxExtensionHeaders = 6,  // IPv6; more than any sender outside a test chains
  kMaxExtensionHeaderBytes = 512,
  kQuotedPortsSize = 4  // of the quoted packet's transport header: all that a key needs
};

// The received frame: `start` to `end` is readable in one piece (the headers must be in it), `length`
// is the whole frame's, further pieces included.
struct Frame {
  const uint8_t *start;
  const uint8_t *end;
  uint32_t length;  // bytes
};

// Reads the transport header at `l4`, whose IP packet has `l4_length` bytes left there.
SLUICE_INLINE enum Verdict parse_ports(struct Packet *packet, const uint8_t *l4, const uint8_t *end,
                                       uint32_t l4_length) {
  if (packet->protocol == kProtocolTcp) {
    if (l4 + kTcpHeaderSize > end || l4_length < kTcpHeaderSize) return kVerdictDropL4Truncated;
    uint32_t header_size = (uint32_t)(l4[12] >> 4) * 4;
    if (header_size < kTcpHeaderSize || header_size > l4_length) return kVerdictDropTcpBadHeader;
    packet->tcp_flags = l4[13];
  } else {
    if (l4 + kUdpHeaderSize > end || l4_length < kUdpHeaderSize) return kVerdictDropL4Truncated;
  }
  packet->ports = ports_of_word(load_be32(l4));
  return kVerdictUndecided;
}

// Takes the key from the packet that an ICMP error quotes. It was sent from the VIP to the client, so
// the key is its reverse. The message holds `quoted_length` bytes of it, the first `header_size` of
// which are its IP header.
SLUICE_INLINE enum Verdict parse_quoted_ports(struct Packet *packet, const uint8_t *quoted,
                                              const uint8_t *end, uint32_t quoted_length,
                                              uint32_t header_size) {
  if (packet->protocol != kProtocolTcp && packet->protocol != kProtocolUdp) return kVerdictPassOtherProtocol;
  const uint8_t *ports = quoted + header_size;
  if (ports + kQuotedPortsSize > end || header_size + kQuotedPortsSize > quoted_length) {
    return kVerdictDropIcmpErrorTruncated;
  }
  packet->ports.vip = load_be16(ports);
  packet->ports.client = load_be16(ports + 2);
  packet->flags |= kPacketIcmpError;
  return kVerdictUndecided;
}

// ICMP (RFC 792): Destination Unreachable, Time Exceeded and Parameter Problem quote a packet.
SLUICE_INLINE enum Verdict parse_icmp(struct Packet *packet, const uint8_t *l4, const uint8_t *end,
                                      uint32_t l4_length) {
  if (l4 + kIcmpHeaderSize > end || l4_length < kIcmpHeaderSize) return kVerdictDropL4Truncated;
  uint8_t type = l4[0];
  if (type != 3 && type != 11 && type != 12) return kVerdictPassOtherProtocol;
  const uint8_t *quoted = l4 + kIcmpHeaderSize;
  uint32_t quoted_length = l4_length - kIcmpHeaderSize;
  if (quoted + kIpv4HeaderSize > end || quoted_length < kIpv4HeaderSize)
    return kVerdictDropIcmpErrorTruncated;
  // Only a packet that the VIP itself sent, and of which the quoted piece has ports.
  if (load_be32(quoted + 12) != packet->vip.word[3]) return kVerdictPassOtherProtocol;
  uint32_t header_size = (uint32_t)(quoted[0] & 0xf) * 4;
  if ((quoted[0] >> 4) != 4 || header_size < kIpv4HeaderSize) return kVerdictDropIcmpErrorTruncated;
  if ((load_be16(quoted + 6) & host_to_be16(0x1fff)) != 0) return kVerdictDropFragment;
  packet->protocol = quoted[9];
  packet->client.word[3] = load_be32(quoted + 16);
  return parse_quoted_ports(packet, quoted, end, quoted_length, header_size);
}

// ICMPv6 (RFC 4443 section 2.1): types below 128 are errors, 1 to 4 are defined.
SLUICE_INLINE enum Verdict parse_icmpv6(struct Packet *packet, const uint8_t *l4, const uint8_t *end,
                                        uint32_t l4_length) {
  if (l4 + kIcmpHeaderSize > end || l4_length < kIcmpHeaderSize) return kVerdictDropL4Truncated;
  uint8_t type = l4[0];
  if (type < 1 || type > 4) return kVerdictPassOtherProtocol;
  const uint8_t *quoted = l4 + kIcmpHeaderSize;
  uint32_t quoted_length = l4_length - kIcmpHeaderSize;
  if (quoted + kIpv6HeaderSize > end || quoted_length < kIpv6HeaderSize)
    return kVerdictDropIcmpErrorTruncated;
  struct Address quoted_source = load_ipv6_address(quoted + 8);
  if (!address_equal(&quoted_source, &packet->vip)) return kVerdictPassOtherProtocol;
  packet->protocol = quoted[6];
  packet->client = load_ipv6_address(quoted + 24);
  return parse_quoted_ports(packet, quoted, end, quoted_length, kIpv6HeaderSize);
}

SLUICE_INLINE enum Verdict parse_l4(struct Packet *packet, const uint8_t *l4, const uint8_t *end,
                                    uint32_t l4_length) {
  if (SLUICE_LIKELY(packet->protocol == kProtocolTcp || packet->protocol == kProtocolUdp)) {
    return parse_ports(packet, l4, end, l4_length);
  }
  if (packet->protocol == kProtocolIcmp && packet->family == kFamilyIpv4) {
    return parse_icmp(packet, l4, end, l4_length);
  }
  if (packet->protocol == kProtocolIcmpv6 && packet->family == kFamilyIpv6) {
    return parse_icmpv6(packet, l4, end, l4_length);
  }
  return kVerdictPassOtherProtocol;
}

// A later fragment of what is balanced cannot be: it has no ports. The kernel may have any other.
SLUICE_INLINE enum Verdict later_fragment_verdict(uint8_t protocol) {
  bool balanced = protocol == kProtocolTcp || protocol == kProtocolUdp;
  return balanced ? kVerdictDropFragment : kVerdictPassOtherProtocol;
}

// RFC 1812 section 5.2.2, in its order; the header checksum is left to the backend, which checks it
// too: writing updates it by difference (RFC 1624), so that a wrong one stays wrong. `header_size` is what
// the header says, in bytes.
SLUICE_INLINE enum Verdict parse_ipv4_header(struct Packet *packet, const uint8_t *l3, const uint8_t *end,
                                             uint32_t l3_room, uint32_t *header_size) {
  if (l3 + kIpv4HeaderSize > end) return kVerdictDropIpv4Truncated;
  uint32_t size = (uint32_t)(l3[0] & 0xf) * 4;
  uint32_t total_length = be16_to_host(load_be16(l3 + 2));
  if ((l3[0] >> 4) != 4 || size < kIpv4HeaderSize || total_length < size) return kVerdictDropIpv4BadHeader;
  if (total_length > l3_room || l3 + size > end) return kVerdictDropIpv4Truncated;

  packet->family = kFamilyIpv4;
  packet->l3_length = (uint16_t)total_length;
  packet->traffic_class = l3[1];
  packet->ipv4_id = load_be16(l3 + 4);
  packet->flags = (uint8_t)((l3[6] >> 5) & kPacketDontFragment);  // DF is bit 6 there
  packet->hop_limit = l3[8];
  packet->protocol = l3[9];
  packet->client = address_from_ipv4(load_be32(l3 + 12));
  packet->vip = address_from_ipv4(load_be32(l3 + 16));
  *header_size = size;
  return kVerdictUndecided;
}

// Whether an IPv4 packet, whose header has been read, is a fragment other than the first.
SLUICE_INLINE bool is_later_fragment(const uint8_t *l3) {
  return (load_be16(l3 + 6) & host_to_be16(0x1fff)) != 0;
}

SLUICE_INLINE enum Verdict parse_ipv4(struct Packet *packet, const uint8_t *l3, const uint8_t *end,
                                      uint32_t l3_room) {
  uint32_t header_size = 0;
  enum Verdict verdict = parse_ipv4_header(packet, l3, end, l3_room, &header_size);
  if (SLUICE_UNLIKELY(verdict != kVerdictUndecided)) return verdict;
  if (SLUICE_UNLIKELY(is_later_fragment(l3))) {
    packet->l4_verdict = (uint8_t)later_fragment_verdict(packet->protocol);
  } else {
    packet->l4_verdict = (uint8_t)parse_l4(packet, l3 + header_size, end, packet->l3_length - header_size);
  }
  return kVerdictUndecided;
}

// The size of an extension header of 8-byte or, for AH, of 4-byte units (RFC 8200 section 4, RFC 4302).
SLUICE_INLINE uint32_t extension_header_size(uint8_t kind, uint8_t length_field) {
  if (kind == kProtocolFragment) return 8;
  if (kind == kProtocolAuthentication) return ((uint32_t)length_field + 2) * 4;
  return ((uint32_t)length_field + 1) * 8;
}

SLUICE_INLINE bool is_extension_header(uint8_t kind) {
  return kind == kProtocolHopByHop || kind == kProtocolRouting || kind == kProtocolFragment ||
         kind == kProtocolAuthentication || kind == kProtocolDestinationOptions;
}

// Follows the extension headers (RFC 8200 section 4.1) to the transport header and parses that.
SLUICE_INLINE enum Verdict parse_ipv6_payload(struct Packet *packet, const uint8_t *payload,
                                              const uint8_t *end, uint32_t payload_length) {
  uint32_t offset = 0;
  for (int i = 0; i <= kMaxExtensionHeaders; i++) {
    if (SLUICE_LIKELY(!is_extension_header(packet->protocol))) {
      return parse_l4(packet, payload + offset, end, payload_length - offset);
    }
    const uint8_t *header = payload + offset;
    if (header + 8 > end || offset + 8 > payload_length) return kVerdictDropIpv6ExtensionHeaders;
    if (packet->protocol == kProtocolFragment && (load_be16(header + 2) & host_to_be16(0xfff8)) != 0) {
      return later_fragment_verdict(header[0]);
    }
    offset += extension_header_size(packet->protocol, header[1]);
    if (offset > kMaxExtensionHeaderBytes || offset > payload_length) return kVerdictDropIpv6ExtensionHeaders;
    packet->protocol = header[0];
  }
  return kVerdictDropIpv6ExtensionHeaders;
}

// The fixed header (RFC 8200 section 3).
SLUICE_INLINE enum Verdict parse_ipv6_header(struct Packet *packet, const uint8_t *l3, const uint8_t *end,
                                             uint32_t l3_room) {
  if (l3 + kIpv6HeaderSize > end) return kVerdictDropIpv6Truncated;
  if ((l3[0] >> 4) != 6) return kVerdictDropIpv6BadHeader;
  uint32_t payload_length = be16_to_host(load_be16(l3 + 4));
  if (payload_length + kIpv6HeaderSize > l3_room) return kVerdictDropIpv6Truncated;
  // The whole packet's length must fit its 16-bit record, as it must fit the outer header's field.
  if (payload_length + kIpv6HeaderSize > 0xffff) return kVerdictDropIpv6BadHeader;

  packet->family = kFamilyIpv6;
  packet->l3_length = (uint16_t)(payload_length + kIpv6HeaderSize);
  packet->traffic_class = (uint8_t)((l3[0] << 4) | (l3[1] >> 4));
  packet->ipv4_id = 0;
  packet->flags = kPacketDontFragment;
  packet->hop_limit = l3[7];
  packet->protocol = l3[6];
  packet->client = load_ipv6_address(l3 + 8);
  packet->vip = load_ipv6_address(l3 + 24);
  // On the wire, ::ffff:a.b.c.d is not the IPv4 address that a table means by it (RFC 4291 section
  // 2.5.5.2 gives it to sockets only): it is no VIP.
  if (SLUICE_UNLIKELY(address_is_ipv4(&packet->vip))) return kVerdictPassNotVip;
  return kVerdictUndecided;
}

SLUICE_INLINE enum Verdict parse_ipv6(struct Packet *packet, const uint8_t *l3, const uint8_t *end,
                                      uint32_t l3_room) {
  enum Verdict verdict = parse_ipv6_header(packet, l3, end, l3_room);
  if (SLUICE_UNLIKELY(verdict != kVerdictUndecided)) return verdict;
  packet->l4_verdict =
      (uint8_t)parse_ipv6_payload(packet, l3 + kIpv6HeaderSize, end, packet->l3_length - kIpv6HeaderSize);
  return kVerdictUndecided;
}

// The Ethernet header with its VLAN tags (IEEE 802.3, 802.1Q, 802.1ad). Answers kVerdictUndecided, with
// packet->l3_offset and what is behind the tags, or the verdict that ends the packet's way.
SLUICE_INLINE enum Verdict parse_link(const struct Frame *frame, struct Packet *packet, be16 *ether_type) {
  const uint8_t *position = frame->start;
  const uint8_t *end = frame->end;
  if (position + kEthernetHeaderSize > end) return kVerdictDropEthernetTruncated;
  be16 type = load_be16(position + 12);
  position += kEthernetHeaderSize;
  uint32_t l3_offset = kEthernetHeaderSize;
  for (int i = 0; i <= kMaxVlanTags; i++) {
    if (SLUICE_LIKELY(type != host_to_be16(kEtherTypeVlan) && type != host_to_be16(kEtherTypeQinq))) break;
    if (i == kMaxVlanTags) return kVerdictDropVlanDepth;
    if (position + kVlanTagSize > end) return kVerdictDropEthernetTruncated;
    type = load_be16(position + 2);
    position += kVlanTagSize;
    l3_offset += kVlanTagSize;
  }
  packet->l3_offset = (uint16_t)l3_offset;
  packet->hash = 0;
  packet->ports = ports_of_word(0);
  packet->tcp_flags = 0;
  *ether_type = type;
  return kVerdictUndecided;
}

// Parses `frame`, from its Ethernet header on. Answers kVerdictUndecided and a filled `packet`, or the
// verdict that ends the packet's way. What is wrong above IP goes to packet->l4_verdict: it matters only if
// the destination turns out to be a VIP.
SLUICE_INLINE enum Verdict parse(const struct Frame *frame, struct Packet *packet) {
  be16 ether_type = 0;
  enum Verdict verdict = parse_link(frame, packet, &ether_type);
  if (SLUICE_UNLIKELY(verdict != kVerdictUndecided)) return verdict;
  const uint8_t *l3 = frame->start + packet->l3_offset;
  uint32_t l3_room = frame->length - packet->l3_offset;
  if (SLUICE_LIKELY(ether_type == host_to_be16(kEtherTypeIpv4))) {
    return parse_ipv4(packet, l3, frame->end, l3_room);
  }
  if (ether_type == host_to_be16(kEtherTypeIpv6)) return parse_ipv6(packet, l3, frame->end, l3_room);
  return kVerdictPassNotIp;
}

SLUICE_NAMESPACE_END

#endif
