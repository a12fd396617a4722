// Flows for tests of the connection table: packets as parsed and hashed, keys, and whole frames.
#ifndef SLUICE_TESTS_CORE_FLOWS_H
#define SLUICE_TESTS_CORE_FLOWS_H

#include <random>

#include "tests/core/test_tables.h"

namespace sluice {

/// Names one flow to 198.51.100.10 or 2001:db8::10 of standard_snapshot().
struct TestFlow {
  uint8_t family = kFamilyIpv4;
  uint8_t protocol = kProtocolTcp;
  uint32_t client = 1;  // low bits of the client's address
  uint16_t client_port = 40000;
};

inline uint16_t vip_port_of(const TestFlow &flow) { return flow.protocol == kProtocolTcp ? 80 : 53; }

/// The service of the flow in standard_snapshot().
inline uint32_t service_of(const TestFlow &flow) { return flow.protocol == kProtocolTcp ? 0 : 1; }

/// The flow's packet as the stages before the connection table leave it.
inline Packet packet_of(const Tables &tables, const TestFlow &flow, uint8_t tcp_flags = kTcpAck) {
  Packet packet = {};
  packet.family = flow.family;
  packet.protocol = flow.protocol;
  packet.tcp_flags = flow.protocol == kProtocolTcp ? tcp_flags : uint8_t{0};
  if (flow.family == kFamilyIpv4) {
    packet.client = address_from_ipv4(host_to_be32(0x0a000000u + flow.client));
    packet.vip = parse_address("198.51.100.10");
  } else {
    packet.client = parse_address("2001:db8:c::");
    packet.client.word[3] = host_to_be32(flow.client);
    packet.vip = parse_address("2001:db8::10");
  }
  packet.ports.client = host_to_be16(flow.client_port);
  packet.ports.vip = host_to_be16(vip_port_of(flow));
  packet.hop_limit = 64;
  packet.l3_length = 100;
  packet.l4_verdict = kVerdictUndecided;
  hash_flow(&tables, &packet);
  return packet;
}

inline ConnectionKey key_of(const Tables &tables, const Packet &packet) {
  ConnectionKey key;
  make_connection_key(&tables, &packet, packet.family == kFamilyIpv4 ? 1 : 2, &key);
  return key;
}

inline ConnectionKey key_of(const Tables &tables, const TestFlow &flow) {
  return key_of(tables, packet_of(tables, flow));
}

/// The state word of the flow's entry, or 0.
inline uint64_t entry_of(const Tables &tables, const TestFlow &flow) {
  const ConnectionKey key = key_of(tables, flow);
  const uint64_t *entry = connection_find(&tables, &key);
  return entry ? *entry : 0;
}

/// Enters the flow as it stands; false if there is no room.
inline bool enter(const Tables &tables, const TestFlow &flow, ConnectionState state, uint16_t backend,
                  uint32_t now_s) {
  const ConnectionKey key = key_of(tables, flow);
  return connection_insert(&tables, &key, make_state(key.word[key.width - 1], state, now_s, backend), now_s);
}

/// Sends one packet of the flow through the whole decision.
inline Bytes frame_of_flow(const TestFlow &flow, uint8_t tcp_flags) {
  const Segment segment =
      flow.protocol == kProtocolTcp
          ? tcp({.source_port = flow.client_port, .destination_port = 80, .flags = tcp_flags})
          : udp({.source_port = flow.client_port, .destination_port = 53});
  if (flow.family == kFamilyIpv4) {
    const Address client = address_from_ipv4(host_to_be32(0x0a000000u + flow.client));
    return ethernet_ipv4(ipv4({.source = address_text(client)}, segment));
  }
  Address client = parse_address("2001:db8:c::");
  client.word[3] = host_to_be32(flow.client);
  return ethernet_ipv6(ipv6({.source = address_text(client)}, segment));
}

inline Decided send(const Tables &tables, const TestFlow &flow, uint8_t tcp_flags, uint32_t now_s) {
  return decide_frame(tables, frame_of_flow(flow, tcp_flags), now_s);
}

/// What an entry's words say of its flow, to find it again by.
template <typename Visit>
void for_each_entry(const TestTables &tables, Visit visit) {
  for (uint32_t index = 0; index < tables.ipv4_buckets().size(); index++)
    for (const ConnectionIpv4 &entry : tables.ipv4_buckets()[index].ipv4) {
      if (entry.meta == 0) continue;
      Packet packet = {};
      packet.family = kFamilyIpv4;
      packet.protocol = entry.meta & kMetaProtocolMask ? kProtocolUdp : kProtocolTcp;
      packet.client = address_from_ipv4(entry.client);
      packet.vip = address_from_ipv4(entry.vip);
      packet.ports.client = entry.client_port;
      packet.ports.vip = entry.vip_port;
      hash_flow(&tables.tables(), &packet);
      visit(key_of(tables.tables(), packet), entry.meta, entry.backend, &entry);
    }
  for (uint32_t index = 0; index < tables.ipv6_buckets().size(); index++)
    for (const ConnectionIpv6 &entry : tables.ipv6_buckets()[index].ipv6) {
      if (entry.meta == 0) continue;
      Packet packet = {};
      packet.family = kFamilyIpv6;
      packet.protocol = entry.meta & kMetaProtocolMask ? kProtocolUdp : kProtocolTcp;
      packet.client = entry.client;
      packet.vip = parse_address("2001:db8::10");
      packet.ports.client = entry.client_port;
      packet.ports.vip = entry.vip_port;
      hash_flow(&tables.tables(), &packet);
      visit(key_of(tables.tables(), packet), entry.meta, entry.backend, &entry);
    }
}

/// What is wrong with a table: entries that their own key does not find, and counts of active
/// connections that are not the entries'. Empty if nothing is.
inline std::string inconsistency(TestTables &tables) {
  std::vector<uint32_t> active(tables->backend_count);
  std::string wrong;
  for_each_entry(tables, [&](const ConnectionKey &key, uint16_t meta, uint16_t backend, const void *entry) {
    const uint32_t state = (meta & kMetaStateMask) >> kMetaStateShift;
    if (state == kConnectionEmpty) wrong += "an entry in use without a state; ";
    if (state != kConnectionClosing && backend < active.size()) active[backend]++;
    const uint64_t *found = connection_find(&tables.tables(), &key);
    const auto *end = static_cast<const uint8_t *>(entry) + key.width * sizeof(uint64_t);
    if (reinterpret_cast<const uint8_t *>(found + 1) != end) wrong += "an entry that its key does not find; ";
  });
  for (uint32_t backend = 0; backend < active.size(); backend++)
    if (tables.counters(backend).active_connections != active[backend])
      wrong += "backend " + std::to_string(backend) + " counts " +
               std::to_string(tables.counters(backend).active_connections) + " active connections and has " +
               std::to_string(active[backend]) + "; ";
  return wrong;
}

}  // namespace sluice

#endif
