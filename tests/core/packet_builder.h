// Builds frames for tests, from named fields with sensible defaults. Checksums are right unless a test
// breaks them, and are computed here from RFC 1071, not by the core.
//
//   Bytes frame = ethernet_ipv4(ipv4({.ttl = 3}, tcp({.flags = kTcpSyn})));
#ifndef SLUICE_TESTS_CORE_PACKET_BUILDER_H
#define SLUICE_TESTS_CORE_PACKET_BUILDER_H

#include <cstdint>
#include <cstdlib>
#include <optional>
#include <string>
#include <vector>

#include <arpa/inet.h>

#include "dataplane/core/packet.h"

namespace sluice {

using Bytes = std::vector<uint8_t>;

inline Bytes operator+(Bytes a, const Bytes &b) {
  a.insert(a.end(), b.begin(), b.end());
  return a;
}

/// Bytes of a number in network order.
inline Bytes be16_bytes(uint32_t value) {
  return {static_cast<uint8_t>(value >> 8), static_cast<uint8_t>(value)};
}
inline Bytes be32_bytes(uint32_t value) { return be16_bytes(value >> 16) + be16_bytes(value & 0xffff); }

/// "192.0.2.1" as 4 bytes, "2001:db8::1" as 16; aborts on anything else.
inline Bytes address_bytes(const std::string &text) {
  Bytes bytes(text.find(':') == std::string::npos ? 4 : 16);
  if (inet_pton(bytes.size() == 4 ? AF_INET : AF_INET6, text.c_str(), bytes.data()) != 1) std::abort();
  return bytes;
}

/// "0a1b 2c" as bytes; blanks are skipped.
inline Bytes hex_bytes(const std::string &text) {
  Bytes bytes;
  std::string digits;
  for (char c : text) {
    if (c == ' ' || c == '\n') continue;
    digits += c;
    if (digits.size() < 2) continue;
    bytes.push_back(static_cast<uint8_t>(std::stoul(digits, nullptr, 16)));
    digits.clear();
  }
  return bytes;
}

/// The ones' complement sum of 16-bit words in network order, folded (RFC 1071). 0xffff over a header
/// that holds its right checksum.
inline uint16_t ones_complement_sum(const uint8_t *bytes, size_t size) {
  uint64_t sum = 0;
  for (size_t i = 0; i < size; i++) sum += static_cast<uint64_t>(bytes[i]) << (i % 2 == 0 ? 8 : 0);
  while (sum > 0xffff) sum = (sum & 0xffff) + (sum >> 16);
  return static_cast<uint16_t>(sum);
}

inline uint16_t ones_complement_sum(const Bytes &bytes) {
  return ones_complement_sum(bytes.data(), bytes.size());
}

inline void put_be16(Bytes *bytes, size_t offset, uint16_t value) {
  bytes->at(offset) = static_cast<uint8_t>(value >> 8);
  bytes->at(offset + 1) = static_cast<uint8_t>(value);
}

inline uint16_t get_be16(const Bytes &bytes, size_t offset) {
  return static_cast<uint16_t>(bytes.at(offset) << 8 | bytes.at(offset + 1));
}

/// What an IP packet carries.
struct Segment {
  uint8_t protocol;
  Bytes bytes;
  std::optional<size_t> checksum_offset;  // of a checksum over a pseudo-header
};

struct TcpFields {
  uint16_t source_port = 40000;
  uint16_t destination_port = 80;
  uint8_t flags = kTcpAck;
  uint8_t data_offset = 5;  // words; what the header says, whatever `options` holds
  Bytes options;
  Bytes payload;
};

inline Segment tcp(const TcpFields &fields = {}) {
  Bytes bytes = be16_bytes(fields.source_port) + be16_bytes(fields.destination_port) +
                be32_bytes(0x01020304) + be32_bytes(fields.flags & kTcpAck ? 0x05060708 : 0);
  bytes.push_back(static_cast<uint8_t>(fields.data_offset << 4));
  bytes.push_back(fields.flags);
  bytes = bytes + be16_bytes(0x7210) + be16_bytes(0) + be16_bytes(0) + fields.options + fields.payload;
  return {kProtocolTcp, bytes, 16};
}

struct UdpFields {
  uint16_t source_port = 40000;
  uint16_t destination_port = 53;
  Bytes payload;
};

inline Segment udp(const UdpFields &fields = {}) {
  Bytes bytes = be16_bytes(fields.source_port) + be16_bytes(fields.destination_port) +
                be16_bytes(static_cast<uint32_t>(fields.payload.size() + 8)) + be16_bytes(0) + fields.payload;
  return {kProtocolUdp, bytes, 6};
}

/// An ICMP message (RFC 792) of which `quoted` is the body; its checksum has no pseudo-header.
inline Segment icmp(uint8_t type, uint8_t code, const Bytes &quoted) {
  Bytes bytes = Bytes{type, code, 0, 0} + be32_bytes(0) + quoted;
  put_be16(&bytes, 2, static_cast<uint16_t>(~ones_complement_sum(bytes)));
  return {kProtocolIcmp, bytes, std::nullopt};
}

inline Segment icmpv6(uint8_t type, uint8_t code, const Bytes &quoted) {
  return {kProtocolIcmpv6, Bytes{type, code, 0, 0} + be32_bytes(0) + quoted, 2};
}

/// Anything else.
inline Segment raw_segment(uint8_t protocol, const Bytes &bytes) { return {protocol, bytes, std::nullopt}; }

/// The segment with its checksum over the pseudo-header of these addresses (RFC 9293 section 3.1,
/// RFC 8200 section 8.1; the two sums are equal but for the addresses).
inline Bytes checksummed(const Segment &segment, const Bytes &source, const Bytes &destination) {
  Bytes bytes = segment.bytes;
  if (!segment.checksum_offset || bytes.size() < *segment.checksum_offset + 2) return bytes;
  const Bytes pseudo =
      source + destination + be32_bytes(static_cast<uint32_t>(bytes.size())) + be32_bytes(segment.protocol);
  uint16_t checksum = static_cast<uint16_t>(~ones_complement_sum(pseudo + bytes));
  if (checksum == 0 && segment.protocol == kProtocolUdp) checksum = 0xffff;  // RFC 768
  put_be16(&bytes, *segment.checksum_offset, checksum);
  return bytes;
}

struct Ipv4Fields {
  std::string source = "192.0.2.1";
  std::string destination = "198.51.100.10";
  uint8_t traffic_class = 0;
  uint16_t id = 0x1234;
  uint16_t fragment = 0x4000;  // flags and offset: DF
  uint8_t ttl = 64;
  Bytes options = {};                         // a multiple of 4 bytes
  std::optional<uint8_t> version_ihl = {};    // instead of the right one
  std::optional<uint16_t> total_length = {};  // instead of the right one
};

inline Bytes ipv4(const Ipv4Fields &fields, const Segment &segment) {
  const Bytes source = address_bytes(fields.source);
  const Bytes destination = address_bytes(fields.destination);
  const Bytes payload = checksummed(segment, source, destination);
  const size_t header_size = 20 + fields.options.size();
  Bytes header = {fields.version_ihl.value_or(static_cast<uint8_t>(0x40 + header_size / 4)),
                  fields.traffic_class};
  header =
      header + be16_bytes(fields.total_length.value_or(static_cast<uint16_t>(header_size + payload.size())));
  header = header + be16_bytes(fields.id) + be16_bytes(fields.fragment) +
           Bytes{fields.ttl, segment.protocol} + be16_bytes(0) + source + destination + fields.options;
  put_be16(&header, 10, static_cast<uint16_t>(~ones_complement_sum(header)));
  return header + payload;
}

/// An IPv6 extension header: its number, and its bytes from the second on (the first, next header, is
/// filled in by ipv6()).
struct ExtensionHeader {
  uint8_t kind;
  Bytes rest;
};

/// One of 8-byte units, filled with PadN-like zeros.
inline ExtensionHeader extension(uint8_t kind, uint8_t more_units = 0) {
  Bytes rest(7 + 8 * more_units);
  rest[0] = more_units;
  return {kind, rest};
}

/// RFC 8200 section 4.5. `offset` in units of 8 bytes.
inline ExtensionHeader fragment_header(uint16_t offset, uint8_t more_fragments) {
  return {kProtocolFragment, Bytes{0} + be16_bytes(static_cast<uint32_t>(offset << 3 | more_fragments)) +
                                 be32_bytes(0xabcd0123)};
}

struct Ipv6Fields {
  std::string source = "2001:db8:c::1";
  std::string destination = "2001:db8::10";
  uint8_t traffic_class = 0;
  uint32_t flow_label = 0x54321;
  uint8_t hop_limit = 64;
  uint8_t version = 6;
  std::optional<uint16_t> payload_length = {};  // instead of the right one
};

inline Bytes ipv6(const Ipv6Fields &fields, const Segment &segment,
                  const std::vector<ExtensionHeader> &extensions = {}) {
  const Bytes source = address_bytes(fields.source);
  const Bytes destination = address_bytes(fields.destination);
  Bytes payload = checksummed(segment, source, destination);
  uint8_t next_header = segment.protocol;
  for (auto it = extensions.rbegin(); it != extensions.rend(); ++it) {
    payload = Bytes{next_header} + it->rest + payload;
    next_header = it->kind;
  }
  return be32_bytes(static_cast<uint32_t>(fields.version << 28 | fields.traffic_class << 20) |
                    fields.flow_label) +
         be16_bytes(fields.payload_length.value_or(static_cast<uint16_t>(payload.size()))) +
         Bytes{next_header, fields.hop_limit} + source + destination + payload;
}

/// An Ethernet frame; `tags` are VLAN tags from the outermost in, as {ether type, TCI}.
struct VlanTag {
  uint16_t ether_type;
  uint16_t control;
};

inline Bytes ethernet(uint16_t ether_type, const Bytes &payload, const std::vector<VlanTag> &tags = {}) {
  Bytes frame = {0x02, 0, 0, 0, 0, 0x01, 0x02, 0, 0, 0, 0, 0x02};
  for (const VlanTag &tag : tags) frame = frame + be16_bytes(tag.ether_type) + be16_bytes(tag.control);
  return frame + be16_bytes(ether_type) + payload;
}

inline Bytes ethernet_ipv4(const Bytes &packet, const std::vector<VlanTag> &tags = {}) {
  return ethernet(kEtherTypeIpv4, packet, tags);
}

inline Bytes ethernet_ipv6(const Bytes &packet, const std::vector<VlanTag> &tags = {}) {
  return ethernet(kEtherTypeIpv6, packet, tags);
}

}  // namespace sluice

#endif
