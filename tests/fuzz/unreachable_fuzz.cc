// Any bytes as an ICMP error: the address of a backend, which is within them, or none.
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <vector>

#include "dataplane/server/unreachable_message.h"

namespace {

bool occurs(std::span<const uint8_t> bytes, const sluice::Address &address) {
  const auto *start = reinterpret_cast<const uint8_t *>(&address);
  const size_t skip = sluice::address_is_ipv4(&address) ? 12 : 0;
  const auto *end = start + sizeof(address);
  return std::search(bytes.begin(), bytes.end(), start + skip, end) != bytes.end();
}

/// With the checksum that it should have: the fuzzer would hardly find it.
std::vector<uint8_t> with_checksum(std::span<const uint8_t> packet) {
  std::vector<uint8_t> bytes(packet.begin(), packet.end());
  const size_t header = bytes.empty() ? 0 : (bytes[0] & 15u) * 4;
  if (bytes.size() < header + 4) return bytes;
  bytes[header + 2] = bytes[header + 3] = 0;
  uint64_t sum = 0;
  for (size_t i = header; i < bytes.size(); i++) sum += uint64_t{bytes[i]} << ((i - header) % 2 == 0 ? 8 : 0);
  while (sum > 0xffff) sum = (sum & 0xffff) + (sum >> 16);
  bytes[header + 2] = static_cast<uint8_t>(~sum >> 8);
  bytes[header + 3] = static_cast<uint8_t>(~sum);
  return bytes;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  const std::span<const uint8_t> input(data, size);
  const std::vector<uint8_t> packet = with_checksum(input);
  const auto ipv4 = sluice::unreachable_backend_ipv4(packet);
  if (ipv4 && !occurs(packet, *ipv4)) __builtin_trap();
  if (size < sizeof(sluice::Address)) return 0;
  sluice::Address receiver;
  std::memcpy(&receiver, data, sizeof(receiver));
  const auto ipv6 = sluice::unreachable_backend_ipv6(input.subspan(sizeof(receiver)), receiver);
  if (ipv6 && !occurs(input.subspan(sizeof(receiver)), *ipv6)) __builtin_trap();
  return 0;
}
