#include "dataplane/server/unreachable_message.h"

#include <cstddef>
#include <cstring>

#include <netinet/icmp6.h>
#include <netinet/in.h>
#include <netinet/ip_icmp.h>

namespace sluice {
namespace {

constexpr size_t kIcmpHeader = 8;  // bytes, in both families
constexpr size_t kLeastIpv4Header = 20;
constexpr size_t kIpv6Header = 40;

struct Ends {
  Address source;
  Address destination;
};

Address ipv4_at(std::span<const uint8_t> bytes, size_t offset) {
  be32 ipv4 = 0;
  std::memcpy(&ipv4, &bytes[offset], sizeof(ipv4));
  return address_from_ipv4(ipv4);
}

Address ipv6_at(std::span<const uint8_t> bytes, size_t offset) {
  Address address;
  std::memcpy(&address, &bytes[offset], sizeof(address));
  return address;
}

/// Bytes of the IPv4 header that they begin with; 0 if they do not.
size_t ipv4_header(std::span<const uint8_t> bytes) {
  if (bytes.size() < kLeastIpv4Header || bytes[0] >> 4 != 4) return 0;
  const size_t size = (bytes[0] & 15u) * 4;
  return size >= kLeastIpv4Header && size <= bytes.size() ? size : 0;
}

// RFC 1071.
bool has_right_checksum(std::span<const uint8_t> message) {
  uint64_t sum = 0;
  for (size_t i = 0; i < message.size(); i++) sum += uint64_t{message[i]} << (i % 2 == 0 ? 8 : 0);
  while (sum > 0xffff) sum = (sum & 0xffff) + (sum >> 16);
  return sum == 0xffff;
}

bool is_ip_in_ip(uint8_t protocol) { return protocol == IPPROTO_IPIP || protocol == IPPROTO_IPV6; }

std::optional<Ends> quoted_ipv4(std::span<const uint8_t> quoted) {
  if (ipv4_header(quoted) == 0 || !is_ip_in_ip(quoted[9])) return std::nullopt;
  return Ends{ipv4_at(quoted, 12), ipv4_at(quoted, 16)};
}

std::optional<Ends> quoted_ipv6(std::span<const uint8_t> quoted) {
  if (quoted.size() < kIpv6Header || quoted[0] >> 4 != 6 || !is_ip_in_ip(quoted[6])) return std::nullopt;
  return Ends{ipv6_at(quoted, 8), ipv6_at(quoted, 24)};
}

/// Somebody who only guesses what this host sends does not know what it sends from.
std::optional<Address> destination_of_ours(const std::optional<Ends> &quoted, const Address &receiver) {
  if (!quoted || !address_equal(&quoted->source, &receiver)) return std::nullopt;
  return quoted->destination;
}

}  // namespace

std::optional<Address> unreachable_backend_ipv4(std::span<const uint8_t> packet) {
  const size_t header = ipv4_header(packet);
  if (header == 0 || packet[9] != IPPROTO_ICMP) return std::nullopt;
  const std::span<const uint8_t> message = packet.subspan(header);
  if (message.size() < kIcmpHeader || message[0] != ICMP_DEST_UNREACH) return std::nullopt;
  const uint8_t code = message[1];
  if (code == ICMP_FRAG_NEEDED || code == ICMP_SR_FAILED || code > ICMP_PREC_CUTOFF) return std::nullopt;
  if (!has_right_checksum(message)) return std::nullopt;
  return destination_of_ours(quoted_ipv4(message.subspan(kIcmpHeader)), ipv4_at(packet, 16));
}

std::optional<Address> unreachable_backend_ipv6(std::span<const uint8_t> message, const Address &receiver) {
  if (message.size() < kIcmpHeader) return std::nullopt;
  const bool unreachable = message[0] == ICMP6_DST_UNREACH;
  const bool unknown = message[0] == ICMP6_PARAM_PROB && message[1] == ICMP6_PARAMPROB_NEXTHEADER;
  if (!unreachable && !unknown) return std::nullopt;
  return destination_of_ours(quoted_ipv6(message.subspan(kIcmpHeader)), receiver);
}

}  // namespace sluice
