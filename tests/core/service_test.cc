#include "dataplane/core/service.h"

#include <gtest/gtest.h>

#include "tests/core/test_tables.h"

namespace sluice {
namespace {

/// A snapshot with one pool and as many services as a test adds VIPs for.
struct Services {
  SnapshotBuilder builder;
  uint32_t pool = builder.add_pool({builder.add_backend("pool", "b1", "10.1.0.11")});
  uint32_t add() { return builder.add_service("service", pool); }
};

Packet packet_to(const std::string &vip, uint8_t protocol, uint16_t port) {
  Packet packet = {};
  packet.vip = parse_address(vip);
  packet.protocol = protocol;
  packet.ports.vip = host_to_be16(port);
  packet.l4_verdict = kVerdictUndecided;
  return packet;
}

constexpr int kNone = -1;

/// The service that the stage finds, or kNone with its verdict in `verdict`.
int found(const TestTables &tables, const Packet &packet, uint32_t *verdict = nullptr) {
  ServiceMatch match = {0, 0};
  const uint32_t answer =
      find_service(&tables.tables(), &packet, vip_index(&tables.tables(), &packet.vip), &match);
  if (verdict) *verdict = answer;
  return answer == kVerdictUndecided ? static_cast<int>(match.service) : kNone;
}

TEST(Service, unknown_address_is_no_vip) {
  const TestTables tables(standard_snapshot());
  uint32_t verdict = 0;
  EXPECT_EQ(found(tables, packet_to("198.51.100.11", kProtocolTcp, 80), &verdict), kNone);
  EXPECT_EQ(verdict, kVerdictPassNotVip);
  EXPECT_EQ(found(tables, packet_to("2001:db8::11", kProtocolTcp, 80), &verdict), kNone);
  EXPECT_EQ(verdict, kVerdictPassNotVip);
}

TEST(Service, malformed_transport_matters_at_a_vip_only) {
  const TestTables tables(standard_snapshot());
  uint32_t verdict = 0;
  Packet packet = packet_to("198.51.100.10", kProtocolTcp, 80);
  packet.l4_verdict = kVerdictDropL4Truncated;
  EXPECT_EQ(found(tables, packet, &verdict), kNone);
  EXPECT_EQ(verdict, kVerdictDropL4Truncated);
  packet.vip = parse_address("198.51.100.11");
  EXPECT_EQ(found(tables, packet, &verdict), kNone);
  EXPECT_EQ(verdict, kVerdictPassNotVip);
}

TEST(Service, exact_port_and_protocol) {
  const TestTables tables(standard_snapshot());
  uint32_t verdict = 0;
  for (const char *vip : {"198.51.100.10", "2001:db8::10"}) {
    EXPECT_EQ(found(tables, packet_to(vip, kProtocolTcp, 80)), 0);
    EXPECT_EQ(found(tables, packet_to(vip, kProtocolUdp, 53)), 1);
    for (const Packet &other : {packet_to(vip, kProtocolTcp, 79), packet_to(vip, kProtocolTcp, 81),
                                packet_to(vip, kProtocolUdp, 80), packet_to(vip, kProtocolTcp, 53)}) {
      EXPECT_EQ(found(tables, other, &verdict), kNone);
      EXPECT_EQ(verdict, kVerdictPassNoService);
    }
  }
}

TEST(Service, match_names_the_vip) {
  const TestTables tables(standard_snapshot());
  const Packet packet = packet_to("2001:db8::10", kProtocolTcp, 80);
  ServiceMatch match = {0, 0};
  ASSERT_EQ(find_service(&tables.tables(), &packet, vip_index(&tables.tables(), &packet.vip), &match),
            kVerdictUndecided);
  EXPECT_EQ(match.vip_number, 2u);
}

TEST(Service, range_holds_its_first_and_last_port) {
  Services services;
  const uint32_t range = services.add();
  services.builder.add_vip("198.51.100.10", {{8000, 8999, range}});
  const TestTables tables(services.builder);
  EXPECT_EQ(found(tables, packet_to("198.51.100.10", kProtocolTcp, 7999)), kNone);
  EXPECT_EQ(found(tables, packet_to("198.51.100.10", kProtocolTcp, 8000)), 0);
  EXPECT_EQ(found(tables, packet_to("198.51.100.10", kProtocolTcp, 8500)), 0);
  EXPECT_EQ(found(tables, packet_to("198.51.100.10", kProtocolTcp, 8999)), 0);
  EXPECT_EQ(found(tables, packet_to("198.51.100.10", kProtocolTcp, 9000)), kNone);
}

TEST(Service, all_ports_with_an_exact_port_cut_out) {
  Services services;
  const uint32_t all = services.add(), exact = services.add();
  services.builder.add_vip("198.51.100.10", {{0, 442, all}, {443, 443, exact}, {444, 65535, all}});
  const TestTables tables(services.builder);
  for (uint32_t port = 0; port <= 65535; port++) {
    const int expected = static_cast<int>(port == 443 ? exact : all);
    ASSERT_EQ(found(tables, packet_to("198.51.100.10", kProtocolTcp, static_cast<uint16_t>(port))), expected);
  }
  EXPECT_EQ(found(tables, packet_to("198.51.100.10", kProtocolUdp, 443)), kNone);
}

// As many ranges as there can be: the search's bound is just enough for each of them.
TEST(Service, every_port_a_range_of_its_own) {
  Services services;
  std::vector<PortRange> tcp, udp;
  for (uint32_t port = 0; port <= 65535; port++) {
    const auto p = static_cast<uint16_t>(port);
    tcp.push_back({p, p, services.add()});
    if (port % 2 == 1) udp.push_back({p, p, port});
  }
  services.builder.add_vip("2001:db8::10", tcp, udp);
  const TestTables tables(services.builder);
  for (uint32_t port = 0; port <= 65535; port++) {
    const auto p = static_cast<uint16_t>(port);
    ASSERT_EQ(found(tables, packet_to("2001:db8::10", kProtocolTcp, p)), static_cast<int>(port));
    ASSERT_EQ(found(tables, packet_to("2001:db8::10", kProtocolUdp, p)),
              port % 2 == 1 ? static_cast<int>(port) : kNone);
  }
}

TEST(Service, search_at_every_count_of_ranges) {
  for (uint32_t count = 0; count <= 40; count++) {
    Services services;
    std::vector<PortRange> tcp;
    for (uint32_t i = 0; i < count; i++)
      tcp.push_back(
          {static_cast<uint16_t>(100 * i + 10), static_cast<uint16_t>(100 * i + 19), services.add()});
    services.builder.add_vip("198.51.100.10", tcp);
    const TestTables tables(services.builder);
    for (uint32_t i = 0; i <= count; i++) {
      const int expected = i < count ? static_cast<int>(i) : kNone;
      const auto port = [&](uint32_t offset) {
        return packet_to("198.51.100.10", kProtocolTcp, static_cast<uint16_t>(100 * i + offset));
      };
      EXPECT_EQ(found(tables, port(9)), kNone);
      EXPECT_EQ(found(tables, port(10)), expected);
      EXPECT_EQ(found(tables, port(19)), expected);
      EXPECT_EQ(found(tables, port(20)), kNone);
    }
  }
}

TEST(Service, many_vips_are_all_found) {
  Services services;
  std::vector<std::string> addresses;
  for (uint32_t i = 0; i < 3000; i++) {
    addresses.push_back("198.51." + std::to_string(i / 250) + "." + std::to_string(i % 250));
    addresses.push_back("2001:db8::" + std::to_string(i));
  }
  for (const std::string &address : addresses) services.builder.add_vip(address, {{80, 80, services.add()}});
  const TestTables tables(services.builder);
  for (size_t i = 0; i < addresses.size(); i++)
    ASSERT_EQ(found(tables, packet_to(addresses[i], kProtocolTcp, 80)), static_cast<int>(i));
  EXPECT_EQ(found(tables, packet_to("198.51.200.1", kProtocolTcp, 80)), kNone);
}

TEST(Service, a_full_vip_table_ends_the_search_for_a_stranger) {
  SnapshotBuilder builder = standard_snapshot();
  TestTables tables(builder);
  // Every entry is another VIP, so that no empty one ends the probing.
  std::vector<Vip> full(16);
  for (uint32_t i = 0; i < full.size(); i++) {
    full[i].address = parse_address("203.0.113." + std::to_string(i));
    full[i].number = i + 1;
  }
  Tables changed = tables.tables();
  changed.vips = full.data();
  changed.vip_mask = static_cast<uint32_t>(full.size() - 1);
  const Address stranger = parse_address("198.51.100.10");
  for (uint32_t start = 0; start < full.size(); start++)
    EXPECT_EQ(find_vip(&changed, &stranger, start), nullptr);
}

TEST(Service, vip_at_the_last_probe_is_found_across_the_end_of_the_table) {
  TestTables tables(standard_snapshot());
  std::vector<Vip> table(16);
  for (uint32_t i = 0; i < table.size(); i++) {
    table[i].address = parse_address("203.0.113." + std::to_string(i));
    table[i].number = i + 1;
  }
  Tables changed = tables.tables();
  changed.vips = table.data();
  changed.vip_mask = static_cast<uint32_t>(table.size() - 1);
  for (uint32_t i = 0; i < table.size(); i++) {
    const uint32_t last_start = (i + 16 - (kMaxVipProbes - 1)) & 15;
    EXPECT_EQ(find_vip(&changed, &table[i].address, last_start), &table[i]);
    EXPECT_EQ(find_vip(&changed, &table[i].address, (last_start + 15) & 15), nullptr);
  }
}

}  // namespace
}  // namespace sluice
