#include "dataplane/server/egress_headers.h"

#include <cstring>

#include <net/ethernet.h>

namespace sluice {
namespace {

constexpr uint8_t kHopLimit = 64;  // of the outer header (RFC 1700's default TTL)

/// RFC 1071: ones' complement sum of 16-bit words as they lie in memory, folded.
uint16_t ones_complement_sum(const uint8_t *bytes, size_t size) {
  uint32_t sum = 0;
  for (size_t i = 0; i + 2 <= size; i += 2) {
    uint16_t word = 0;
    std::memcpy(&word, bytes + i, sizeof(word));
    sum += word;
  }
  sum = (sum & 0xffff) + (sum >> 16);
  return static_cast<uint16_t>((sum & 0xffff) + (sum >> 16));
}

void put_ethertype(uint8_t *headers, uint16_t ethertype) {
  const be16 value = host_to_be16(ethertype);
  std::memcpy(headers + 12, &value, sizeof(value));
}

void write_ipv4(Egress *egress, const Address &source, const Address &destination) {
  put_ethertype(egress->headers, ETHERTYPE_IP);
  uint8_t *header = egress->headers + kEthernetHeaderSize;
  header[0] = 0x45;  // version 4, five words
  header[8] = kHopLimit;
  std::memcpy(header + 12, &source.word[3], 4);
  std::memcpy(header + 16, &destination.word[3], 4);
  egress->ipv4_sum = ones_complement_sum(header, kIpv4HeaderSize);
}

void write_ipv6(Egress *egress, const Address &source, const Address &destination) {
  put_ethertype(egress->headers, ETHERTYPE_IPV6);
  uint8_t *header = egress->headers + kEthernetHeaderSize;
  header[0] = 0x60;  // version 6
  header[7] = kHopLimit;
  std::memcpy(header + 8, source.word, 16);
  std::memcpy(header + 24, destination.word, 16);
}

}  // namespace

Egress make_egress(const Backend &backend) {
  Egress egress = {};
  if (backend.state == kBackendUnused) return egress;
  if (backend_keeps_connections(&backend)) egress.flags = kEgressKnown;
  if (backend.state == kBackendUp) {
    egress.flags |= kEgressTakesNew;
    egress.weight = backend.weight;
  }
  if (backend.state == kBackendDown) egress.flags |= kEgressDown;
  const bool ipv4 = address_is_ipv4(&backend.address);
  if (!ipv4) egress.flags |= kEgressOuterIpv6;
  egress.outer_size = ipv4 ? kIpv4HeaderSize : kIpv6HeaderSize;
  return egress;
}

Egress make_egress(const Backend &backend, const EgressPath &path) {
  Egress egress = make_egress(backend);
  if (backend.state == kBackendUnused) return egress;
  egress.flags |= kEgressReady;
  egress.outer_mtu = path.mtu;
  egress.port = path.port;
  std::memcpy(egress.headers, path.next_hop_link.data(), path.next_hop_link.size());
  std::memcpy(egress.headers + 6, path.source_link.data(), path.source_link.size());
  if (address_is_ipv4(&backend.address)) {
    write_ipv4(&egress, path.source, backend.address);
  } else {
    write_ipv6(&egress, path.source, backend.address);
  }
  return egress;
}

}  // namespace sluice
