#include "controlplane/config/config_loader.h"

#include <fstream>
#include <string>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/controlplane/config/documents.h"

namespace sluice {
namespace {

using namespace std::chrono_literals;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::StartsWith;

TEST(ConfigLoader, reads_every_field) {
  const model::DesiredState state = state_of(R"(
version: 1
flow_hash_key: "000102030405060708090a0b0c0d0e0f101112131415161718191A1B1C1D1E1F202122232425262728292a2b2c2d2e2f"
removed_backend_grace: 90m
services:
  - name: web
    vips: [198.51.100.10, "2001:db8::10"]
    protocol: udp
    ports: [80, "8000-8999"]
    pool: web.1
    scheduler: least-connection
    timeouts: {embryonic: 1s, established: 15m, closing: 2s, udp: 2h}
pools:
  - name: web.1
    forwarding: ipip
    slots: 4093
    fail_open: true
    backends:
      - {name: b1, address: 10.1.0.11, weight: 7}
      - {name: b2, address: "fd00:1::12", drain: true}
      - {name: b3, address: 10.1.0.13, weight: 0}
    health: {type: http, port: 8080, path: "/healthz?full=1", host: web.example, status: 200-204,
             interval: 2s, timeout: 1500ms, rise: 4, fall: 5}
)");
  ASSERT_TRUE(state.flow_hash_key);
  EXPECT_EQ(state.flow_hash_key->word[0], 0x03020100u);
  EXPECT_EQ(state.flow_hash_key->word[11], 0x2f2e2d2cu);
  EXPECT_EQ(state.removed_backend_grace, 5400s);

  ASSERT_EQ(state.services.size(), 1u);
  const model::Service service{
      .name = "web",
      .vips = {*parse_address("198.51.100.10"), *parse_address("2001:db8::10")},
      .protocol = model::Protocol::kUdp,
      .ports = {{80, 80}, {8000, 8999}},
      .pool = "web.1",
      .scheduler = model::Scheduler::kLeastConnection,
      .timeouts = {.embryonic = 1s, .established = 900s, .closing = 2s, .udp = 7200s}};
  EXPECT_EQ(state.services[0], service);

  ASSERT_EQ(state.pools.size(), 1u);
  const model::Pool pool{
      .name = "web.1",
      .forwarding = model::Forwarding::kIpip,
      .slots = 4093,
      .fail_open = true,
      .backends = {{.name = "b1", .address = *parse_address("10.1.0.11"), .weight = 7, .drain = false},
                   {.name = "b2", .address = *parse_address("fd00:1::12"), .weight = 100, .drain = true},
                   {.name = "b3", .address = *parse_address("10.1.0.13"), .weight = 0, .drain = true}},
      .health = {
          .kind =
              model::HttpCheck{.path = "/healthz?full=1", .host = "web.example", .statuses = {{200, 204}}},
          .port = 8080,
          .interval = 2000ms,
          .fast_interval = 1000ms,
          .timeout = 1500ms,
          .rise = 4,
          .fall = 5}};
  EXPECT_EQ(state.pools[0], pool);
}

TEST(ConfigLoader, fills_in_the_defaults) {
  const model::DesiredState state = state_of(with_service("ports", "ports: all"));
  EXPECT_FALSE(state.flow_hash_key);
  EXPECT_EQ(state.removed_backend_grace, 7200s);
  ASSERT_EQ(state.services.size(), 1u);
  EXPECT_EQ(state.services[0].scheduler, model::Scheduler::kMaglev);
  EXPECT_EQ(state.services[0].timeouts, model::Timeouts{});
  EXPECT_EQ(state.services[0].ports, std::vector<model::PortSpan>{model::PortSpan{}});
  EXPECT_TRUE(state.services[0].ports[0].is_all());
  ASSERT_EQ(state.pools.size(), 1u);
  EXPECT_EQ(state.pools[0].slots, 65537u);
  EXPECT_FALSE(state.pools[0].fail_open);
  EXPECT_EQ(state.pools[0].health, model::HealthSpec{});
  EXPECT_EQ(state.pools[0].backends[0].weight, 100);
  EXPECT_FALSE(state.pools[0].backends[0].drain);
}

TEST(ConfigLoader, tells_all_errors_at_once_in_the_order_of_the_file) {
  EXPECT_THAT(
      errors_of("version: 2\n"
                "colour: red\n"
                "services:\n"
                "- name: web site\n"
                "  vips: [224.0.0.1, 198.51.100.10]\n"
                "  protocol: sctp\n"
                "  ports: [0]\n"
                "  pool: nowhere\n"
                "pools:\n"
                "- {name: web, slots: 65536}\n"),
      ElementsAre(StartsWith("1:10: version: "), StartsWith("2:1: key \"colour\" "),
                  StartsWith("4:9: services[0].name: "), StartsWith("5:10: services[0].vips[0]: "),
                  StartsWith("6:13: services[0].protocol: "), StartsWith("7:11: services[0].ports[0]: "),
                  StartsWith("8:9: services[0].pool: "), StartsWith("10:3: pools[0]: key \"backends\" "),
                  StartsWith("10:22: pools[0].slots: ")));
}

TEST(ConfigLoader, error_carries_file_place_field_and_value) {
  const LoadedConfig loaded =
      load_config(with_service("protocol", "protocol: sctp"), "/etc/sluice/sluice.yaml");
  ASSERT_EQ(loaded.errors.size(), 1u);
  const ConfigError &error = loaded.errors[0];
  EXPECT_EQ(error.file, "/etc/sluice/sluice.yaml");
  EXPECT_EQ(error.line, 5);
  EXPECT_EQ(error.column, 13);
  EXPECT_EQ(error.field, "services[0].protocol");
  EXPECT_EQ(error.value, "sctp");
  EXPECT_EQ(error.to_string(),
            "/etc/sluice/sluice.yaml:5:13: services[0].protocol: \"sctp\" is not known; allowed: tcp, udp");
}

TEST(ConfigLoader, duplicate_key_is_an_error_in_every_map) {
  EXPECT_THAT(errors_of("version: 1\nservices: []\npools: []\nversion: 1\n"),
              ElementsAre("4:1: version: key \"version\" is there twice, first in line 1; remove one"));
  EXPECT_THAT(errors_of(with_service("more", "name: t")),
              ElementsAre("8:3: services[0].name: key \"name\" is there twice, first in line 3; remove one"));
  EXPECT_THAT(errors_of(with_service("more", "timeouts: {udp: 1s, udp: 1s}")),
              ElementsAre(StartsWith("8:23: services[0].timeouts.udp: key \"udp\" is there twice")));
  EXPECT_THAT(errors_of(with_pool("  slots: 101\n  backends: []\n  slots: 101\n")),
              ElementsAre(StartsWith("7:3: pools[0].slots: key \"slots\" is there twice")));
  EXPECT_THAT(errors_of(with_backend("{name: b, address: 10.0.0.1, name: c}")),
              ElementsAre(StartsWith("6:34: pools[0].backends[0].name: key \"name\" is there twice")));
  EXPECT_THAT(errors_of(with_health("{type: none, type: none}")),
              ElementsAre(StartsWith("6:24: pools[0].health.type: key \"type\" is there twice")));
}

TEST(ConfigLoader, unknown_key_is_an_error_in_every_map) {
  EXPECT_THAT(errors_of("version: 1\nservices: []\npools: []\nzone: a\n"),
              ElementsAre("4:1: key \"zone\" is not known; allowed: version, flow_hash_key, "
                          "removed_backend_grace, max_moved, services, pools, api"));
  EXPECT_THAT(errors_of(with_service("more", "vip: 10.0.0.1")),
              ElementsAre(StartsWith("8:3: services[0]: key \"vip\" is not known; allowed: name, vips, ")));
  EXPECT_THAT(errors_of(with_service("more", "timeouts: {tcp: 1s}")),
              ElementsAre(StartsWith("8:14: services[0].timeouts: key \"tcp\" is not known")));
  EXPECT_THAT(errors_of(with_pool("  backends: []\n  size: 101\n")),
              ElementsAre(StartsWith("6:3: pools[0]: key \"size\" is not known")));
  EXPECT_THAT(errors_of(with_backend("{name: b, address: 10.0.0.1, port: 80}")),
              ElementsAre(StartsWith("6:34: pools[0].backends[0]: key \"port\" is not known")));
  EXPECT_THAT(errors_of(with_health("{type: none, url: /}")),
              ElementsAre(StartsWith("6:24: pools[0].health: key \"url\" is not known")));
}

TEST(ConfigLoader, missing_key_is_told_at_its_map) {
  EXPECT_THAT(errors_of("services: []\n"), ElementsAre("1:1: key \"version\" is missing; add it",
                                                       "1:1: key \"pools\" is missing; add it"));
  EXPECT_THAT(
      errors_of("version: 1\nservices: [{}]\npools: [{}]\n"),
      ElementsAre(
          StartsWith("2:12: services[0]: key \"name\""), StartsWith("2:12: services[0]: key \"vips\""),
          StartsWith("2:12: services[0]: key \"protocol\""), StartsWith("2:12: services[0]: key \"ports\""),
          StartsWith("2:12: services[0]: key \"pool\""), StartsWith("3:9: pools[0]: key \"name\""),
          StartsWith("3:9: pools[0]: key \"backends\"")));
  EXPECT_THAT(errors_of(with_backend("{weight: 1}")),
              ElementsAre(StartsWith("6:5: pools[0].backends[0]: key \"name\""),
                          StartsWith("6:5: pools[0].backends[0]: key \"address\"")));
  EXPECT_THAT(
      errors_of(with_health("{type: tcp}")),
      ElementsAre("6:11: pools[0].health: key \"port\" is missing; add it: no service uses this pool"));
}

TEST(ConfigLoader, wrong_kind_of_value_is_an_error) {
  EXPECT_THAT(errors_of("[version]"), ElementsAre("1:1: is a list; a map (\"key: value\") is needed"));
  EXPECT_THAT(errors_of("version"), ElementsAre("1:1: is a single value; a map (\"key: value\") is needed"));
  EXPECT_THAT(errors_of("version: [1]\nservices: 1\npools: {}\n"),
              ElementsAre("1:10: version: is a list; a single value is needed",
                          "2:11: services: is a single value; a list is needed ([] for an empty one)",
                          "3:8: pools: is a map; a list is needed ([] for an empty one)"));
  EXPECT_THAT(errors_of("version: 1\nservices: [17]\npools: []\n"),
              ElementsAre("2:12: services[0]: is a single value; a map (\"key: value\") is needed"));
  EXPECT_THAT(errors_of(with_service("vips", "vips: 198.51.100.10")),
              ElementsAre(StartsWith("4:9: services[0].vips: is a single value; a list is needed")));
}

TEST(ConfigLoader, key_without_a_value_is_told_at_the_key) {
  EXPECT_THAT(errors_of(with_service("protocol", "protocol:")),
              ElementsAre("5:3: services[0].protocol: is nothing; a single value is needed"));
  EXPECT_THAT(errors_of(with_service("ports", "ports: null")),
              ElementsAre(StartsWith("6:3: services[0].ports: is nothing; a list is needed")));
}

TEST(ConfigLoader, version_other_than_1_is_refused) {
  EXPECT_THAT(errors_of("version: 2\nservices: []\npools: []\n"),
              ElementsAre("1:10: version: \"2\" is out of range; allowed: 1 to 1"));
}

TEST(ConfigLoader, flow_hash_key_must_be_96_digits_and_is_not_repeated_in_the_error) {
  const auto with_key = [](const std::string &key) {
    return "version: 1\nflow_hash_key: \"" + key + "\"\nservices: []\npools: []\n";
  };
  EXPECT_THAT(
      errors_of(with_key("5ec2e7")),
      ElementsAre("2:16: flow_hash_key: is not 96 hexadecimal digits (it has 6 characters); make one with: "
                  "openssl rand -hex 48"));
  EXPECT_THAT(errors_of(with_key(std::string(95, 'a') + "g")),
              ElementsAre(HasSubstr("is not 96 hexadecimal digits (it has 96 characters)")));
  EXPECT_THAT(errors_of(with_key(std::string(96, '0'))), ElementsAre(HasSubstr("is all zeros")));
  EXPECT_THAT(errors_of(with_key(std::string(96, 'F'))), IsEmpty());
}

TEST(ConfigLoader, bad_names_are_refused) {
  for (const std::string name : {"\"\"", "\"a b\"", "-a", ".a", "a/b", "\"\xc3\xa4\"", "\"a\\n\""}) {
    EXPECT_THAT(errors_of(with_pool("  backends: [{name: " + name + ", address: 10.0.0.1}]\n")),
                ElementsAre(StartsWith("5:21: pools[0].backends[0].name: ")))
        << name;
  }
  EXPECT_THAT(errors_of(with_backend("{name: " + std::string(64, 'a') + ", address: 10.0.0.1}")),
              ElementsAre(HasSubstr("allowed: 1 to 63 letters, digits")));
  EXPECT_THAT(errors_of(with_backend("{name: " + std::string(63, 'a') + ", address: 10.0.0.1}")), IsEmpty());
}

TEST(ConfigLoader, bad_addresses_are_refused) {
  const auto vip_errors = [](const std::string &address) {
    return errors_of(with_service("vips", "vips: [\"" + address + "\"]"));
  };
  EXPECT_THAT(
      vip_errors("224.0.0.1"),
      ElementsAre(
          "4:10: services[0].vips[0]: \"224.0.0.1\" is a multicast address; allowed: unicast addresses"));
  EXPECT_THAT(vip_errors("ff02::1"), ElementsAre(HasSubstr("\"ff02::1\" is a multicast address")));
  EXPECT_THAT(vip_errors("0.0.0.0"), ElementsAre(HasSubstr("names no host")));
  EXPECT_THAT(vip_errors("::"), ElementsAre(HasSubstr("is the unspecified address")));
  EXPECT_THAT(vip_errors("255.255.255.255"), ElementsAre(HasSubstr("reserved or broadcast")));
  EXPECT_THAT(vip_errors("240.0.0.1"), ElementsAre(HasSubstr("reserved or broadcast")));
  EXPECT_THAT(vip_errors("fe80::1"), ElementsAre(HasSubstr("link-local")));
  EXPECT_THAT(vip_errors("::ffff:192.0.2.1"),
              ElementsAre(HasSubstr("is not an address; allowed: one IPv4 or IPv6")));
  EXPECT_THAT(vip_errors("192.0.2.0/24"),
              ElementsAre(HasSubstr("is not an address; allowed: one IPv4 or IPv6")));
  EXPECT_THAT(vip_errors("192.0.2"), ElementsAre(HasSubstr("is not an address")));
  EXPECT_THAT(vip_errors("example.net"), ElementsAre(HasSubstr("is not an address")));
  EXPECT_THAT(
      errors_of(with_backend("{name: b, address: 224.0.0.1}")),
      ElementsAre(StartsWith("6:24: pools[0].backends[0].address: \"224.0.0.1\" is a multicast address")));
}

TEST(ConfigLoader, bad_ports_are_refused) {
  const auto port_error = [](const std::string &port) {
    return errors_of(with_service("ports", "ports: [22, \"" + port + "\"]"));
  };
  EXPECT_THAT(port_error("0"),
              ElementsAre("6:15: services[0].ports[1]: \"0\" is not a port or a range of ports; "
                          "allowed: a number or a range FIRST-LAST from 1 to 65535"));
  for (const char *port :
       {"65536", "90-80", "1-65536", "0-10", "-80", "80-", "80-90-100", "http", "+80", "0x50", ""}) {
    EXPECT_THAT(port_error(port), ElementsAre(HasSubstr("6:15: services[0].ports[1]: "))) << port;
  }
  EXPECT_THAT(port_error("1-65535"), IsEmpty());
  EXPECT_THAT(errors_of(with_service("ports", "ports: 80")),
              ElementsAre(StartsWith(
                  "6:10: services[0].ports: \"80\" is no list of ports; allowed: all, or a list")));
  EXPECT_THAT(errors_of(with_service("ports", "ports: [80, all]")),
              ElementsAre(StartsWith("6:15: services[0].ports[1]: \"all\" is not a port")));
  EXPECT_THAT(errors_of(with_service("ports", "ports: []")),
              ElementsAre("6:10: services[0].ports: has 0 elements; allowed: 1 to 4096"));
}

TEST(ConfigLoader, bad_choices_are_refused) {
  EXPECT_THAT(errors_of(with_service("protocol", "protocol: TCP")),
              ElementsAre("5:13: services[0].protocol: \"TCP\" is not known; allowed: tcp, udp"));
  EXPECT_THAT(
      errors_of(with_service("more", "scheduler: rr")),
      ElementsAre("8:14: services[0].scheduler: \"rr\" is not known; allowed: maglev, least-connection"));
  EXPECT_THAT(errors_of(with_pool("  backends: []\n  forwarding: gue\n")),
              ElementsAre("6:15: pools[0].forwarding: \"gue\" is not known; allowed: ipip"));
  EXPECT_THAT(errors_of(with_pool("  backends: []\n  fail_open: yes\n")),
              ElementsAre("6:14: pools[0].fail_open: \"yes\" is not known; allowed: true, false"));
}

TEST(ConfigLoader, bad_durations_are_refused) {
  const auto timeout_error = [](const std::string &timeout) {
    return errors_of(with_service("more", "timeouts: {udp: " + timeout + "}"));
  };
  EXPECT_THAT(timeout_error("30"),
              ElementsAre("8:19: services[0].timeouts.udp: \"30\" is not a duration such as 500ms, "
                          "1s, 15m or 2h; allowed: 1s to 7260s"));
  for (const char *timeout : {"s", "1 s", "-1s", "1.5s", "1d", "99999999999999999999s", "1ss", "0x1s"}) {
    EXPECT_THAT(timeout_error(timeout), ElementsAre(HasSubstr("is not a duration"))) << timeout;
  }
  EXPECT_THAT(timeout_error("0s"), ElementsAre(HasSubstr("\"0s\" is out of range; allowed: 1s to 7260s")));
  EXPECT_THAT(timeout_error("7261s"), ElementsAre(HasSubstr("is out of range")));
  EXPECT_THAT(timeout_error("500000000h"), ElementsAre(HasSubstr("is out of range")));
  EXPECT_THAT(timeout_error("1500ms"), ElementsAre(HasSubstr("\"1500ms\" is not a whole number of seconds")));
  EXPECT_THAT(timeout_error("7260s"), IsEmpty());
  EXPECT_THAT(timeout_error("2000ms"), IsEmpty());
}

TEST(ConfigLoader, slots_must_be_prime_and_enough) {
  const auto slots_error = [](const std::string &slots) {
    return errors_of(with_pool("  backends: []\n  slots: " + slots + "\n"));
  };
  EXPECT_THAT(slots_error("65536"),
              ElementsAre("6:10: pools[0].slots: \"65536\" is not a prime number; allowed: primes "
                          "from 101 to 1048576 such as 65537"));
  EXPECT_THAT(slots_error("1048575"), ElementsAre(HasSubstr("such as 1048573")));
  EXPECT_THAT(slots_error("97"),
              ElementsAre("6:10: pools[0].slots: \"97\" is out of range; allowed: 101 to 1048576"));
  EXPECT_THAT(slots_error("1048583"), ElementsAre(HasSubstr("is out of range")));
  std::string backends = "  slots: 101\n  backends:\n";
  for (int i = 0; i < 102; ++i) {
    backends += "  - {name: b" + std::to_string(i) + ", address: 10.0.0." + std::to_string(i + 1) + "}\n";
  }
  EXPECT_THAT(
      errors_of(with_pool(backends)),
      ElementsAre(StartsWith("5:10: pools[0].slots: \"101\" slots are fewer than the pool's 102 backends")));
}

TEST(ConfigLoader, bad_weights_are_refused) {
  EXPECT_THAT(errors_of(with_backend("{name: b, address: 10.0.0.1, weight: 1001}")),
              ElementsAre("6:42: pools[0].backends[0].weight: \"1001\" is out of range; allowed: 0 to 1000"));
  EXPECT_THAT(errors_of(with_backend("{name: b, address: 10.0.0.1, weight: heavy}")),
              ElementsAre(HasSubstr("\"heavy\" is not a whole number; allowed: 0 to 1000")));
}

TEST(ConfigLoader, names_given_twice_are_refused) {
  EXPECT_THAT(
      errors_of("version: 1\nservices:\n"
                "- {name: a, vips: [192.0.2.1], protocol: tcp, ports: [1], pool: web}\n"
                "- {name: a, vips: [192.0.2.1], protocol: tcp, ports: [2], pool: web}\n" +
                kPoolWeb + "- {name: web, backends: []}\n"),
      ElementsAre("4:10: services[1].name: another service is named \"a\", in line 3; names must be unique",
                  "7:10: pools[1].name: another pool is named \"web\", in line 6; names must be unique"));
  EXPECT_THAT(errors_of(with_pool(
                  "  backends:\n  - {name: b, address: 10.0.0.1}\n  - {name: b, address: 10.0.0.2}\n")),
              ElementsAre(StartsWith(
                  "7:12: pools[0].backends[1].name: another backend of this pool is named \"b\"")));
}

TEST(ConfigLoader, unknown_pool_is_refused) {
  EXPECT_THAT(
      errors_of(with_service("pool", "pool: api")),
      ElementsAre("7:9: services[0].pool: there is no pool \"api\"; add it to \"pools\" or name another"));
}

TEST(ConfigLoader, address_in_two_places_is_refused) {
  EXPECT_THAT(errors_of(with_pool(
                  "  backends:\n  - {name: b, address: 10.0.0.1}\n  - {name: c, address: 10.0.0.1}\n")),
              ElementsAre(StartsWith(
                  "7:24: pools[0].backends[1].address: \"10.0.0.1\" is also the address of backend \"b\"")));
  EXPECT_THAT(
      errors_of(with_service("vips", "vips: [198.51.100.10, 10.1.0.11, 198.51.100.10]")),
      ElementsAre("4:36: services[0].vips[2]: \"198.51.100.10\" is there twice in this service; remove one",
                  StartsWith("9:46: pools[0].backends[0].address: \"10.1.0.11\" is a VIP too, in line 4")));
}

// A document with services a, b, ... of the given ports and protocol on one VIP, from line 3 on.
std::string with_ports(const std::vector<std::pair<std::string, std::string>> &services) {
  std::string yaml = "version: 1\nservices:\n";
  char name = 'a';
  for (const auto &[protocol, ports] : services) {
    yaml.append("- {name: ").append(1, name++).append(", vips: [192.0.2.1], protocol: ").append(protocol);
    yaml.append(", ports: ").append(ports).append(", pool: web}\n");
  }
  return yaml + kPoolWeb;
}

TEST(ConfigLoader, ports_of_one_vip_may_nest) {
  EXPECT_THAT(errors_of(with_ports({{"tcp", "all"},
                                    {"tcp", "[80, 81, \"1-65535\"]"},
                                    {"tcp", "[\"80-100\", \"90-95\", \"101-200\"]"},
                                    {"udp", "[80]"},
                                    {"udp", "all"}})),
              IsEmpty());
}

TEST(ConfigLoader, port_of_one_vip_given_twice_is_refused) {
  EXPECT_THAT(
      errors_of(with_ports({{"tcp", "[80, 443]"}, {"tcp", "[81, 443]"}})),
      ElementsAre("4:59: services[1].ports[1]: \"443\" is taken on VIP 192.0.2.1 by service \"a\" in line 3; "
                  "give it to one service"));
  EXPECT_THAT(errors_of(with_ports({{"tcp", "[\"80-90\"]"}, {"tcp", "[\"80-90\"]"}})),
              ElementsAre(HasSubstr("\"80-90\" is taken")));
  EXPECT_THAT(errors_of(with_ports({{"udp", "all"}, {"udp", "all"}})),
              ElementsAre(StartsWith("4:54: services[1].ports: \"all\" is taken")));
  EXPECT_THAT(errors_of(with_ports({{"tcp", "[80, 80]"}})),
              ElementsAre(HasSubstr("services[0].ports[1]: \"80\"")));
  // "80-80" is an exact port by another name.
  EXPECT_THAT(errors_of(with_ports({{"tcp", "[\"80-80\"]"}, {"tcp", "[80]"}})),
              ElementsAre(HasSubstr("services[1].ports[0]: \"80\" is taken")));
}

TEST(ConfigLoader, ranges_that_overlap_in_part_are_refused) {
  EXPECT_THAT(
      errors_of(with_ports({{"tcp", "[\"150-250\"]"}, {"tcp", "[\"100-200\"]"}})),
      ElementsAre(
          "4:55: services[1].ports[0]: \"100-200\" overlaps 150-250 on VIP 192.0.2.1 by service \"a\" "
          "in line 3; ranges may contain each other or be apart, not overlap in part"));
  EXPECT_THAT(errors_of(with_ports({{"tcp", "[\"100-200\"]"}, {"tcp", "[\"200-300\"]"}})),
              ElementsAre(HasSubstr("\"200-300\" overlaps 100-200")));
}

TEST(ConfigLoader, service_of_unknown_protocol_conflicts_with_nobody) {
  EXPECT_THAT(errors_of(with_ports({{"tcp", "[80]"}, {"sctp", "[80]"}})),
              ElementsAre(HasSubstr("\"sctp\" is not known")));
}

TEST(ConfigLoader, more_backends_than_identifiers_are_refused) {
  std::string yaml = "version: 1\nservices: []\npools:\n";
  for (int pool = 0; pool < 64; ++pool) {
    yaml += "- name: p" + std::to_string(pool) + "\n  slots: 1031\n  backends:\n";
    for (int i = 0; i < 1024; ++i) {
      yaml += "  - {name: b" + std::to_string(i) + ", address: 10." + std::to_string(pool) + "." +
              std::to_string(i / 256) + "." + std::to_string(i % 256) + "}\n";
    }
  }
  EXPECT_THAT(errors_of(yaml),
              ElementsAre(HasSubstr("pools[63].backends: there are 65536 up to here; allowed: 65535")));
}

TEST(ConfigLoader, more_slots_than_fit_a_snapshot_are_refused) {
  std::string yaml = "version: 1\nservices: []\npools:\n";
  for (int pool = 0; pool < 129; ++pool)
    yaml += "- {name: p" + std::to_string(pool) + ", slots: 1048573, backends: []}\n";
  EXPECT_THAT(errors_of(yaml),
              ElementsAre(StartsWith("132:23: pools[128].slots: all pools up to this one have ")));
}

TEST(ConfigLoader, ports_and_vips_that_multiply_are_refused) {
  std::string vips;
  std::string ports;
  for (int i = 0; i < 2000; ++i) {
    vips.append("10.9.")
        .append(std::to_string(i / 250))
        .append(".")
        .append(std::to_string(i % 250 + 1))
        .append(",");
    ports.append(std::to_string(i + 1)).append(",");
  }
  EXPECT_THAT(errors_of("version: 1\nservices:\n- name: s\n  vips: [" + vips +
                        "]\n  protocol: tcp\n  ports: [" + ports + "]\n  pool: web\n" + kPoolWeb),
              ElementsAre("3:3: services[0].ports: there are 4000000 up to here; allowed: 1048576 in all"));
}

TEST(ConfigLoader, text_that_is_no_yaml_is_refused_with_its_place) {
  EXPECT_THAT(errors_of("version: 1\nservices: [\"a"), ElementsAre(StartsWith("2:14: not valid YAML: ")));
  EXPECT_THAT(errors_of("a: b: c\n"), ElementsAre(StartsWith("1:5: not valid YAML: ")));
}

TEST(ConfigLoader, empty_file_is_refused) {
  for (const char *yaml : {"", "\n\n", "# nothing\n", "---\n", "null\n", ","}) {
    EXPECT_THAT(
        errors_of(yaml),
        ElementsAre(" the file is empty; at least \"version\", \"services\" and \"pools\" are needed"))
        << yaml;
  }
}

TEST(ConfigLoader, anchors_aliases_tags_and_second_documents_are_refused) {
  const std::string rest = "\nservices: []\npools: []\n";
  EXPECT_THAT(errors_of("version: &v 1" + rest),
              ElementsAre(StartsWith("1:10: anchors (\"&name\") are not allowed")));
  EXPECT_THAT(errors_of("version: !!int 1" + rest),
              ElementsAre(StartsWith("1:10: tags (\"!name\") are not allowed")));
  EXPECT_THAT(errors_of("version: 1" + rest + "---\nversion: 1\n"),
              ElementsAre(StartsWith("4:1: a second document")));
  EXPECT_THAT(errors_of("? [a]\n: b\n"), ElementsAre(StartsWith("1:3: a key must be text")));
  EXPECT_THAT(errors_of(": b\n"), ElementsAre(StartsWith("1:1: a key is missing")));
}

TEST(ConfigLoader, what_yaml_has_and_configurations_have_not_hides_no_other_error) {
  EXPECT_THAT(errors_of("version: &v 2\nservices: *v\n*v : 3\npools: !list []\nbogus: &b 1\n---\nx: 1\n"),
              ElementsAre(StartsWith("1:10: anchors"), StartsWith("1:10: version: \"2\""),
                          StartsWith("2:11: aliases"), StartsWith("3:1: aliases"), StartsWith("4:8: tags"),
                          StartsWith("5:1: key \"bogus\" is not known"), StartsWith("5:8: anchors"),
                          StartsWith("6:1: a second document")));
  // What cannot be read as YAML ends the reading, but not without what was found before it.
  EXPECT_THAT(errors_of("version: &v 2\nservices: [\n"),
              ElementsAre(StartsWith("1:10: anchors"), HasSubstr("not valid YAML")));
}

TEST(ConfigLoader, faults_are_bounded) {
  std::string many = "version: 1\nservices: []\npools:\n";
  for (int i = 0; i < 5000; i++) many += "- &a 1\n";
  const std::vector<std::string> errors = errors_of(many);
  ASSERT_EQ(errors.size(), 1001u);
  EXPECT_THAT(errors.back(), HasSubstr("and more of this kind"));
}

TEST(ConfigLoader, a_service_of_a_pool_that_is_not_there_is_told_beside_other_errors) {
  const std::string service =
      "services: [{name: a, vips: [192.0.2.4], protocol: tcp, ports: [80], pool: nope}]\n";
  EXPECT_THAT(errors_of("version: 2\n" + service + "pools: []\n"),
              ElementsAre(StartsWith("1:10: version"), HasSubstr("there is no pool \"nope\"")));
  // Without a list of pools nothing is known of any.
  EXPECT_THAT(errors_of("version: 1\n" + service + "pools: 5\n"), ElementsAre(StartsWith("3:8: pools: ")));
  EXPECT_THAT(errors_of("version: 1\n" + service), ElementsAre(HasSubstr("\"pools\" is missing")));
}

TEST(ConfigLoader, a_bad_interval_is_one_error) {
  const auto with_health = [](const std::string &pace) {
    return with_pool("  backends: []\n  health: {type: tcp, port: 80, " + pace + "}\n");
  };
  EXPECT_THAT(errors_of(with_health("interval: soon, timeout: 5s")),
              ElementsAre(HasSubstr("interval: \"soon\"")));
  EXPECT_THAT(errors_of(with_health("interval: 2s, timeout: 5s")), ElementsAre(HasSubstr("timeout: \"5s\"")));
  EXPECT_THAT(errors_of(with_health("interval: soon, timeout: 2h")),
              ElementsAre(HasSubstr("interval: \"soon\""), HasSubstr("timeout: \"2h\"")));
}

TEST(ConfigLoader, size_depth_and_number_of_values_are_bounded) {
  EXPECT_THAT(errors_of(std::string(17u << 20, '\n')),
              ElementsAre(HasSubstr("at most 16777216 are allowed")));
  EXPECT_THAT(errors_of("a: " + std::string(16, '[')), ElementsAre(StartsWith("1:")));
  EXPECT_THAT(errors_of("a: " + std::string(17, '[') + std::string(17, ']')),
              ElementsAre("1:19: nested deeper than 16 levels"));
  EXPECT_THAT(errors_of(std::string(1u << 20, '[')), ElementsAre(StartsWith("1:")));
  std::string many = "[";
  for (int i = 0; i < (2 << 20); ++i) many += "a,";
  EXPECT_THAT(errors_of(many + "]"), ElementsAre(HasSubstr("more than 2097152 values")));
}

TEST(ConfigLoader, errors_without_end_are_counted_and_not_kept) {
  std::string yaml = "version: 1\npools: []\nservices:\n";
  for (int i = 0; i < 10005; ++i) yaml += "- 1\n";
  const auto errors = errors_of(yaml);
  ASSERT_EQ(errors.size(), 10001u);
  EXPECT_EQ(errors.back(), " 5 more errors are not shown");
}

TEST(ConfigLoader, value_in_an_error_is_printable_and_short) {
  const auto errors =
      errors_of(with_service("protocol", "protocol: \"\\e[31m" + std::string(200, 'x') + "\""));
  ASSERT_EQ(errors.size(), 1u);
  EXPECT_THAT(errors[0], HasSubstr("\"?[31mxxx"));
  EXPECT_LT(errors[0].size(), 150u);
}

TEST(ConfigLoader, file_is_read_and_a_missing_one_is_an_error) {
  const std::string path = testing::TempDir() + "/config_loader_test.yaml";
  std::ofstream(path) << with_service();
  EXPECT_TRUE(load_config_file(path).ok());
  std::filesystem::remove(path);
  const LoadedConfig missing = load_config_file(path);
  ASSERT_EQ(missing.errors.size(), 1u);
  EXPECT_EQ(missing.errors[0].to_string(), path + ": cannot be read: No such file or directory");
  EXPECT_FALSE(load_config_file(testing::TempDir()).ok());
}

}  // namespace
}  // namespace sluice
