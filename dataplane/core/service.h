// Stage 2, service: whose packet is it? A VIP by its address, then the service by protocol and port.
#ifndef SLUICE_CORE_SERVICE_H
#define SLUICE_CORE_SERVICE_H

#include "dataplane/core/hash.h"
#include "dataplane/core/packet.h"
#include "dataplane/core/tables.h"

SLUICE_NAMESPACE_BEGIN

// Where the lookup of this VIP starts: an index of the VIP table, to prefetch and to find_service by.
SLUICE_INLINE uint32_t vip_index(const struct Tables *tables, const struct Address *address) {
  return vip_hash(tables_flow_hash_key(tables), address) & tables_vip_mask(tables);
}

// The VIP with this address, or null. The compiler built the table so that kMaxVipProbes suffice.
SLUICE_INLINE const struct Vip *find_vip(const struct Tables *tables, const struct Address *address,
                                         uint32_t index) {
  uint32_t mask = tables_vip_mask(tables);
  for (int probe = 0; probe < kMaxVipProbes; probe++) {
    const struct Vip *vip = tables_vip(tables, (index + (uint32_t)probe) & mask);
    if (!vip || vip->number == 0) return 0;
    if (SLUICE_LIKELY(address_equal(&vip->address, address))) return vip;
  }
  return 0;
}

// The range that holds `port` (host order) among the sorted, disjoint ranges [first, end), or null.
SLUICE_INLINE const struct PortRange *find_port_range(const struct Tables *tables, uint32_t first,
                                                      uint32_t end, uint16_t port) {
  for (int step = 0; step < kMaxPortSearchSteps; step++) {
    if (first >= end) return 0;
    uint32_t middle = first + (end - first) / 2;
    const struct PortRange *range = tables_port_range(tables, middle);
    if (!range) return 0;
    if (port < range->first_port) {
      end = middle;
    } else if (port > range->last_port) {
      first = middle + 1;
    } else {
      return range;
    }
  }
  return 0;
}

// The service that a VIP has for the packet's protocol and port. Answers kVerdictUndecided and a filled
// `match`, or the verdict that ends the packet's way here.
SLUICE_INLINE enum Verdict find_service_of_vip(const struct Tables *tables, const struct Vip *vip,
                                               const struct Packet *packet, struct ServiceMatch *match) {
  if (SLUICE_UNLIKELY(packet->l4_verdict != kVerdictUndecided)) return (enum Verdict)packet->l4_verdict;
  uint32_t first = packet->protocol == kProtocolTcp ? vip->tcp_first : vip->udp_first;
  uint32_t end = packet->protocol == kProtocolTcp ? vip->udp_first : vip->udp_end;
  const struct PortRange *range = find_port_range(tables, first, end, vip_port_of(packet->ports));
  if (!range) return kVerdictPassNoService;
  match->vip_number = vip->number;
  match->service = range->service;
  return kVerdictUndecided;
}

// Finds the packet's service; `index` is vip_index() of its VIP. Answers as find_service_of_vip().
SLUICE_INLINE enum Verdict find_service(const struct Tables *tables, const struct Packet *packet,
                                        uint32_t index, struct ServiceMatch *match) {
  const struct Vip *vip = find_vip(tables, &packet->vip, index);
  if (!vip) return kVerdictPassNotVip;
  return find_service_of_vip(tables, vip, packet, match);
}

SLUICE_NAMESPACE_END

#endif
