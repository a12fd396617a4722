// Frames that tests of the DPDK engine send, and readers for what comes out.
#ifndef SLUICE_TESTS_DPDK_FRAMES_H
#define SLUICE_TESTS_DPDK_FRAMES_H

#include <cstdint>
#include <cstring>
#include <string>
#include <vector>

#include "dataplane/abi/address.h"
#include "dataplane/core/packet.h"

namespace sluice {

using FrameBytes = std::vector<uint8_t>;

/// A TCP segment to be framed.
struct TestSegment {
  Address client;
  Address vip;
  uint16_t client_port = 40000;
  uint16_t vip_port = 80;
  uint8_t tcp_flags = kTcpSyn;
  size_t payload = 0;  // bytes
};

inline void put_be16(FrameBytes *frame, size_t offset, uint16_t value) {
  (*frame)[offset] = static_cast<uint8_t>(value >> 8);
  (*frame)[offset + 1] = static_cast<uint8_t>(value);
}

inline uint16_t get_be16(const FrameBytes &frame, size_t offset) {
  return static_cast<uint16_t>(frame[offset] << 8 | frame[offset + 1]);
}

/// RFC 1071, straight from its text.
inline uint16_t internet_checksum(const uint8_t *bytes, size_t size) {
  uint32_t sum = 0;
  for (size_t i = 0; i + 1 < size; i += 2) sum += static_cast<uint32_t>(bytes[i] << 8 | bytes[i + 1]);
  if (size % 2 == 1) sum += static_cast<uint32_t>(bytes[size - 1] << 8);
  while (sum >> 16) sum = (sum & 0xffff) + (sum >> 16);
  return static_cast<uint16_t>(~sum);
}

inline void put_tcp(FrameBytes *frame, size_t offset, const TestSegment &segment) {
  put_be16(frame, offset, segment.client_port);
  put_be16(frame, offset + 2, segment.vip_port);
  (*frame)[offset + 12] = 5 << 4;
  (*frame)[offset + 13] = segment.tcp_flags;
}

/// An Ethernet frame with the segment, IPv4 or IPv6 as its addresses are. The TCP checksum is not set:
/// nobody on the way looks at it.
inline FrameBytes tcp_frame(const TestSegment &segment) {
  constexpr size_t kTcpSize = 20;
  bool ipv4 = address_is_ipv4(&segment.vip);
  size_t ip_size = ipv4 ? 20 : 40;
  FrameBytes frame(14 + ip_size + kTcpSize + segment.payload);
  frame[0] = frame[6] = 0x02;
  frame[5] = 1;
  frame[11] = 2;
  put_be16(&frame, 12, ipv4 ? kEtherTypeIpv4 : kEtherTypeIpv6);
  if (ipv4) {
    frame[14] = 0x45;
    put_be16(&frame, 16, static_cast<uint16_t>(frame.size() - 14));
    frame[20] = 0x40;  // DF
    frame[22] = 64;
    frame[23] = kProtocolTcp;
    memcpy(&frame[26], &segment.client.word[3], 4);
    memcpy(&frame[30], &segment.vip.word[3], 4);
    put_be16(&frame, 24, internet_checksum(&frame[14], 20));
  } else {
    frame[14] = 0x60;
    put_be16(&frame, 18, static_cast<uint16_t>(kTcpSize + segment.payload));
    frame[20] = kProtocolTcp;
    frame[21] = 64;
    memcpy(&frame[22], &segment.client, 16);
    memcpy(&frame[38], &segment.vip, 16);
  }
  put_tcp(&frame, 14 + ip_size, segment);
  for (size_t i = 0; i < segment.payload; i++) frame[14 + ip_size + kTcpSize + i] = static_cast<uint8_t>(i);
  return frame;
}

/// Who has `wanted`? asked by `sender`, whose MAC is 02:00:00:00:00:02.
inline FrameBytes arp_request(const Address &sender, const Address &wanted) {
  FrameBytes frame(60);
  for (size_t i = 0; i < 6; i++) frame[i] = 0xff;
  frame[6] = 0x02;
  frame[11] = 2;
  put_be16(&frame, 12, 0x0806);
  put_be16(&frame, 14, 1);       // Ethernet
  put_be16(&frame, 16, 0x0800);  // IPv4
  frame[18] = 6;
  frame[19] = 4;
  put_be16(&frame, 20, 1);  // request
  memcpy(&frame[22], &frame[6], 6);
  memcpy(&frame[28], &sender.word[3], 4);
  memcpy(&frame[38], &wanted.word[3], 4);
  return frame;
}

}  // namespace sluice

#endif
