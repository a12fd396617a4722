// Any bytes as a frame: parse never reads past them, always answers a named verdict, and a packet that
// it takes for whole is whole.
//
// The first byte says how much of the frame lies in one piece, as DPDK may hand it over.
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory>

#include "dataplane/core/parse.h"

namespace {

using sluice::Frame;
using sluice::Packet;
using sluice::Verdict;

void require(bool condition) {
  if (!condition) __builtin_trap();
}

void check_packet(const Packet &packet, uint32_t length) {
  require(packet.l3_offset == 14 || packet.l3_offset == 18 || packet.l3_offset == 22);
  require(uint32_t{packet.l3_offset} + packet.l3_length <= length);
  require(packet.family == sluice::kFamilyIpv4 || packet.family == sluice::kFamilyIpv6);
  require(packet.l3_length >= (packet.family == sluice::kFamilyIpv4 ? 20 : 40));
  require(packet.l4_verdict < sluice::kVerdictCount || packet.l4_verdict == sluice::kVerdictUndecided);
  if (packet.l4_verdict != sluice::kVerdictUndecided) return;
  require(packet.protocol == sluice::kProtocolTcp || packet.protocol == sluice::kProtocolUdp);
  require((packet.family == sluice::kFamilyIpv4) == sluice::address_is_ipv4(&packet.vip));
}

Verdict parse_copy(const uint8_t *bytes, size_t readable, uint32_t length, Packet *packet) {
  // A block of exactly this size, so that the sanitizer sees the first byte past it.
  const auto copy = std::make_unique<uint8_t[]>(readable);
  if (readable > 0) std::memcpy(copy.get(), bytes, readable);
  const Frame frame = {copy.get(), copy.get() + readable, length};
  std::memset(packet, 0xa5, sizeof(*packet));
  return sluice::parse(&frame, packet);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  if (size == 0) return 0;
  const uint8_t *bytes = data + 1;
  const auto length = static_cast<uint32_t>(size - 1);
  const size_t readable = data[0] == 0 || data[0] > length ? length : data[0];
  Packet packet;
  const Verdict verdict = parse_copy(bytes, readable, length, &packet);
  require(verdict < sluice::kVerdictCount || verdict == sluice::kVerdictUndecided);
  if (verdict != sluice::kVerdictUndecided) return 0;
  check_packet(packet, length);

  // What lies behind the IP packet does not matter.
  const size_t end = size_t{packet.l3_offset} + packet.l3_length;
  if (readable < length || end == length) return 0;
  Packet shorter;
  require(parse_copy(bytes, end, static_cast<uint32_t>(end), &shorter) == verdict);
  require(shorter.l4_verdict == packet.l4_verdict && shorter.l3_length == packet.l3_length);
  if (packet.l4_verdict != sluice::kVerdictUndecided) return 0;
  require(sluice::address_equal(&shorter.client, &packet.client));
  require(shorter.ports.client == packet.ports.client && shorter.ports.vip == packet.ports.vip);
  require(shorter.flags == packet.flags && shorter.tcp_flags == packet.tcp_flags);
  return 0;
}
