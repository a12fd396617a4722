#include <chrono>
#include <cstring>
#include <functional>
#include <sstream>
#include <thread>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <poll.h>
#include <spdlog/sinks/ostream_sink.h>
#include <spdlog/spdlog.h>
#include <sys/prctl.h>
#include <sys/syscall.h>

#include "dataplane/server/neighbours.h"
#include "tests/server/network_namespaces.h"
#include "tests/server/snapshot_builder.h"

namespace sluice {
namespace {

using testing::HasSubstr;
using testing::Not;
using Clock = std::chrono::steady_clock;
using namespace std::chrono_literals;

constexpr uint16_t kPort = 3;

Backend backend(const std::string &address, BackendState state = kBackendUp) {
  Backend backend = {};
  backend.address = parse_address(address);
  backend.state = static_cast<uint8_t>(state);
  backend.weight = state == kBackendUp ? 100 : 0;
  backend.forwarding = kForwardingIpip;
  return backend;
}

std::string mac(const uint8_t *bytes) {
  std::array<char, 18> text = {};
  std::snprintf(text.data(), text.size(), "%02x:%02x:%02x:%02x:%02x:%02x", bytes[0], bytes[1], bytes[2],
                bytes[3], bytes[4], bytes[5]);
  return text.data();
}
std::string next_hop_mac(const Egress &egress) { return mac(egress.headers); }
std::string source_mac(const Egress &egress) { return mac(egress.headers + 6); }

std::string source_of(const Egress &egress) {
  std::array<char, INET6_ADDRSTRLEN> text = {};
  const bool ipv6 = (egress.flags & kEgressOuterIpv6) != 0;
  inet_ntop(ipv6 ? AF_INET6 : AF_INET, egress.headers + kEthernetHeaderSize + (ipv6 ? 8 : 12), text.data(),
            text.size());
  return text.data();
}

bool is_ready(const Egress &egress) { return (egress.flags & kEgressReady) != 0; }

class NeighboursTest : public testing::Test {
 protected:
  void open(uint16_t port_mtu = 1500) {
    auto opened = Neighbours::open({{kPort, namespaces_.port_ifindex(), port_mtu}});
    ASSERT_TRUE(opened.ok()) << opened.error().message;
    neighbours_ = std::move(opened).value();
  }
  /// Opens with one backend at identifier 1.
  void follow(const std::string &address, uint16_t port_mtu = 1500) {
    open(port_mtu);
    const std::array<Backend, 2> backends = {Backend{}, backend(address)};
    neighbours_->set_backends(backends);
  }
  /// Serves events until `condition` holds, for at most `longest`.
  bool until(const std::function<bool()> &condition, Clock::duration longest = 20s) {
    const auto deadline = Clock::now() + longest;
    while (Clock::now() < deadline) {
      neighbours_->process(Clock::now());
      if (condition()) return true;
      pollfd wanted = {neighbours_->fd(), POLLIN, 0};
      ::poll(&wanted, 1, 100);
    }
    return false;
  }
  Egress egress() const { return neighbours_->egress()[1]; }
  std::string state() const { return neighbours_->status(10)[0].state; }
  std::string via() const { return neighbours_->status(10)[0].via; }
  bool until_ready() {
    return until([this] { return is_ready(egress()); });
  }
  bool until_state(const std::string &text) {
    return until([&] { return state().find(text) != std::string::npos; });
  }

  NetworkNamespaces namespaces_;
  std::unique_ptr<Neighbours> neighbours_;
};

TEST_F(NeighboursTest, resolves_an_ipv4_backend_on_the_link) {
  follow("10.0.0.2");
  ASSERT_TRUE(until_ready()) << state();
  const Egress record = egress();
  EXPECT_EQ(next_hop_mac(record), namespaces_.kPeerMac);
  EXPECT_EQ(source_mac(record), namespaces_.kLocalMac);
  EXPECT_EQ(record.flags, kEgressKnown | kEgressReady | kEgressTakesNew);
  EXPECT_EQ(record.weight, 100);
  EXPECT_EQ(record.port, kPort);
  EXPECT_EQ(record.outer_mtu, 1500);
  const std::array<uint8_t, 22> expected = {0x08, 0x00, 0x45, 0,  0, 0, 0, 0,  0, 0, 64,
                                            0,    0,    0,    10, 0, 0, 1, 10, 0, 0, 2};
  EXPECT_EQ(std::memcmp(record.headers + 12, expected.data(), expected.size()), 0);
  EXPECT_EQ(state(), "ready");
  EXPECT_EQ(via(), "10.0.0.2 dev port0");
}

TEST_F(NeighboursTest, sums_the_constant_words_of_an_ipv4_header) {
  follow("10.0.0.2");
  ASSERT_TRUE(until_ready()) << state();
  const Egress record = egress();
  // 0x4500 + 0x4000 + 0x0a00 + 0x0001 + 0x0a00 + 0x0002 as a big-endian machine sums it, bytes swapped.
  EXPECT_EQ(__builtin_bswap16(record.ipv4_sum), 0x9903);
}

TEST_F(NeighboursTest, resolves_an_ipv6_backend_on_the_link) {
  follow("fd00::2");
  ASSERT_TRUE(until_ready()) << state();
  const Egress record = egress();
  EXPECT_EQ(next_hop_mac(record), namespaces_.kPeerMac);
  EXPECT_EQ(record.flags, kEgressKnown | kEgressReady | kEgressTakesNew | kEgressOuterIpv6);
  const std::array<uint8_t, 10> expected = {0x86, 0xdd, 0x60, 0, 0, 0, 0, 0, 0, 64};
  EXPECT_EQ(std::memcmp(record.headers + 12, expected.data(), expected.size()), 0);
  EXPECT_EQ(source_of(record), "fd00::1");
  const Address destination = parse_address("fd00::2");
  EXPECT_EQ(std::memcmp(record.headers + kEthernetHeaderSize + 24, destination.word, 16), 0);
}

TEST_F(NeighboursTest, sends_to_the_gateway_of_a_route) {
  run("ip route add 10.1.0.0/16 via 10.0.0.2");
  follow("10.1.0.11");
  ASSERT_TRUE(until_ready()) << state();
  EXPECT_EQ(next_hop_mac(egress()), namespaces_.kPeerMac);
  EXPECT_EQ(source_of(egress()), "10.0.0.1");
  const std::array<uint8_t, 4> destination = {10, 1, 0, 11};
  EXPECT_EQ(std::memcmp(egress().headers + kEthernetHeaderSize + 16, destination.data(), 4), 0);
  EXPECT_EQ(via(), "10.0.0.2 dev port0");
}

TEST_F(NeighboursTest, sends_to_a_link_local_gateway) {
  run("ip route add fd01::/64 via fe80::2 dev port0");
  follow("fd01::11");
  ASSERT_TRUE(until_ready()) << state();
  EXPECT_EQ(next_hop_mac(egress()), namespaces_.kPeerMac);
  EXPECT_EQ(source_of(egress()), "fd00::1");
}

TEST_F(NeighboursTest, sends_ipv4_to_an_ipv6_gateway) {
  run("ip route add 10.1.0.0/16 via inet6 fe80::2 dev port0");
  follow("10.1.0.11");
  ASSERT_TRUE(until_ready()) << state();
  EXPECT_EQ(next_hop_mac(egress()), namespaces_.kPeerMac);
  EXPECT_EQ(via(), "fe80::2 dev port0");
}

TEST_F(NeighboursTest, sends_from_the_address_that_the_route_prefers) {
  run("ip addr add 10.0.0.9/32 dev lo && ip route add 10.1.0.0/16 via 10.0.0.2 src 10.0.0.9");
  run("ip addr add fd00:9::9/128 dev lo nodad && ip route add fd01::/64 via fd00::2 src fd00:9::9");
  open();
  const std::array<Backend, 3> backends = {Backend{}, backend("10.1.0.11"), backend("fd01::11")};
  neighbours_->set_backends(backends);
  ASSERT_TRUE(until([this] { return neighbours_->counts().ready == 2; }));
  EXPECT_EQ(source_of(neighbours_->egress()[1]), "10.0.0.9");
  EXPECT_EQ(source_of(neighbours_->egress()[2]), "fd00:9::9");
  // And follows when the preference changes.
  run("ip addr add 10.0.0.8/32 dev lo && ip route replace 10.1.0.0/16 via 10.0.0.2 src 10.0.0.8");
  EXPECT_TRUE(until([this] { return source_of(neighbours_->egress()[1]) == "10.0.0.8"; }));
}

TEST_F(NeighboursTest, follows_a_route_that_comes_and_goes) {
  follow("10.1.0.11");
  ASSERT_TRUE(until_state("no route to 10.1.0.11")) << state();
  EXPECT_FALSE(is_ready(egress()));
  EXPECT_EQ(egress().flags, kEgressKnown | kEgressTakesNew);
  run("ip route add default via 10.0.0.2");
  ASSERT_TRUE(until_ready()) << state();
  run("ip route add blackhole 10.1.0.0/16");
  ASSERT_TRUE(until_state("no route to 10.1.0.11")) << state();
  run("ip route del blackhole 10.1.0.0/16");
  ASSERT_TRUE(until_ready()) << state();
  run("ip route del default");
  ASSERT_TRUE(until_state("no route to 10.1.0.11")) << state();
}

TEST_F(NeighboursTest, does_not_take_a_route_by_an_interface_that_is_no_port) {
  run("ip link add other0 type veth peer name other1 && ip link set other1 up && ip addr add 10.9.0.1/24 dev "
      "other0 && ip link set other0 up");
  follow("10.9.0.2");
  ASSERT_TRUE(until_state("leaves by other0, which is no port")) << state();
  EXPECT_FALSE(is_ready(egress()));
}

/// What is logged while it exists.
class CapturedLog {
 public:
  CapturedLog()
      : before_(spdlog::default_logger()), sink_(std::make_shared<spdlog::sinks::ostream_sink_mt>(stream_)) {
    spdlog::set_default_logger(std::make_shared<spdlog::logger>("test", sink_));
  }
  CapturedLog(const CapturedLog &) = delete;
  CapturedLog &operator=(const CapturedLog &) = delete;
  ~CapturedLog() { spdlog::set_default_logger(before_); }
  std::string text() const { return stream_.str(); }

 private:
  std::shared_ptr<spdlog::logger> before_;
  std::ostringstream stream_;
  std::shared_ptr<spdlog::sinks::ostream_sink_mt> sink_;
};

TEST_F(NeighboursTest, says_once_how_to_route_what_leaves_by_no_port) {
  // A macvlan lies on a port as a VLAN does, which not every kernel has.
  run("ip link add link port0 name upper0 type macvlan && ip addr add 10.9.0.1/24 dev upper0 && "
      "ip link set upper0 up");
  run("ip link add other0 type veth peer name other1 && ip link set other1 up && ip addr add 10.8.0.1/24 dev "
      "other0 && ip link set other0 up");
  const CapturedLog log;
  open();
  const std::array<Backend, 4> backends = {Backend{}, backend("10.9.0.2"), backend("10.9.0.3"),
                                           backend("10.8.0.2")};
  neighbours_->set_backends(backends);
  ASSERT_TRUE(until([this] { return neighbours_->counts().unreachable == 3; }));
  const auto status = neighbours_->status(3);
  EXPECT_EQ(
      status[1].state,
      "the route to 10.9.0.3 leaves by upper0, which is no port: VLANs and other interfaces on top of port0 "
      "are not followed, route it by port0 itself");
  EXPECT_EQ(status[2].state, "the route to 10.8.0.2 leaves by other0, which is no port: route it by port0");
  for (const NextHopStatus &hop : {status[0], status[2]}) EXPECT_THAT(log.text(), HasSubstr(hop.state));
  EXPECT_THAT(log.text(), HasSubstr("backend 10.9.0.2 gets no packets"));
  EXPECT_THAT(log.text(), Not(HasSubstr("10.9.0.3"))) << "one for each interface";
}

TEST_F(NeighboursTest, does_not_send_to_this_host_itself) {
  follow("10.0.0.1");
  ASSERT_TRUE(until_state("is no address of another host")) << state();
}

TEST_F(NeighboursTest, says_when_nobody_answers_and_sees_it_appear) {
  follow("10.0.0.77");
  ASSERT_TRUE(until_state("waiting for the link address of 10.0.0.77 on port0")) << state();
  EXPECT_EQ(neighbours_->pending_new_backends(), 1);
  ASSERT_TRUE(until_state("nobody answers for 10.0.0.77 on port0")) << state();
  EXPECT_EQ(neighbours_->pending_new_backends(), 0);
  EXPECT_EQ(neighbours_->counts().unreachable, 1);
  namespaces_.in_peer("ip addr add 10.0.0.77/24 dev peer0");
  EXPECT_TRUE(until_ready()) << state();
}

TEST_F(NeighboursTest, follows_a_changed_link_address) {
  follow("10.0.0.2");
  ASSERT_TRUE(until_ready()) << state();
  run("ip neigh replace 10.0.0.2 lladdr 02:00:00:00:00:99 dev port0 nud reachable");
  EXPECT_TRUE(until([this] { return next_hop_mac(egress()) == "02:00:00:00:00:99"; }));
}

TEST_F(NeighboursTest, follows_a_peer_that_changes_its_link_address_by_itself) {
  run("cd /proc/sys/net/ipv4/neigh/port0 && echo 1 > delay_first_probe_time && echo 1000 > "
      "base_reachable_time_ms");
  follow("10.0.0.2");
  ASSERT_TRUE(until_ready()) << state();
  namespaces_.in_peer(
      "ip link set peer0 down && ip link set peer0 address 02:00:00:00:00:98 && ip link set peer0 up");
  EXPECT_TRUE(
      until([this] { return is_ready(egress()) && next_hop_mac(egress()) == "02:00:00:00:00:98"; }, 60s))
      << next_hop_mac(egress()) << " " << state();
}

TEST_F(NeighboursTest, a_neighbour_that_disappears_is_given_up) {
  run("echo 1 > /proc/sys/net/ipv4/neigh/port0/delay_first_probe_time");
  follow("10.0.0.2");
  ASSERT_TRUE(until_ready()) << state();
  namespaces_.in_peer("ip addr del 10.0.0.2/24 dev peer0");
  run("ip neigh change 10.0.0.2 lladdr " + std::string(namespaces_.kPeerMac) + " dev port0 nud stale");
  EXPECT_TRUE(until_state("nobody answers for 10.0.0.2")) << state();
  EXPECT_FALSE(is_ready(egress()));
}

TEST_F(NeighboursTest, a_neighbour_that_is_flushed_stays_in_use_and_is_asked_for_again) {
  follow("10.0.0.2");
  ASSERT_TRUE(until_ready()) << state();
  run("ip neigh flush dev port0 && ip neigh del 10.0.0.2 dev port0 2>/dev/null || true");
  const bool resolved = until([this] {
    EXPECT_TRUE(is_ready(egress())) << "a flush must not stop traffic";
    return output_of("ip neigh show 10.0.0.2 dev port0").find(namespaces_.kPeerMac) != std::string::npos;
  });
  EXPECT_TRUE(resolved) << "the kernel was not asked again";
}

TEST_F(NeighboursTest, keeps_stale_neighbours_confirmed) {
  run("echo 1 > /proc/sys/net/ipv4/neigh/port0/delay_first_probe_time");
  follow("10.0.0.2");
  ASSERT_TRUE(until_ready()) << state();
  run("ip neigh change 10.0.0.2 lladdr " + std::string(namespaces_.kPeerMac) + " dev port0 nud stale");
  EXPECT_TRUE(until([] {
    return output_of("ip neigh show 10.0.0.2").find("REACHABLE") != std::string::npos;
  })) << output_of("ip neigh show 10.0.0.2");
}

TEST_F(NeighboursTest, follows_a_link_that_goes_down_and_up) {
  run("ip route add fd01::/64 via fd00::2");
  open();
  const std::array<Backend, 2> backends = {Backend{}, backend("10.0.0.2")};
  neighbours_->set_backends(backends);
  ASSERT_TRUE(until_ready()) << state();
  namespaces_.in_peer("ip link set peer0 down");  // no carrier: the route stays
  ASSERT_TRUE(until_state("port0 is down")) << state();
  EXPECT_FALSE(is_ready(egress()));
  namespaces_.in_peer("ip link set peer0 up");
  ASSERT_TRUE(until_ready()) << state();
  run("ip link set port0 down");  // the kernel drops the route
  ASSERT_TRUE(until_state("no route")) << state();
  run("ip link set port0 up");
  EXPECT_TRUE(until_ready()) << state();
}

TEST_F(NeighboursTest, says_when_interfaces_come_and_go) {
  open();
  neighbours_->process(Clock::now());
  neighbours_->take_link_changes();
  const auto changed = [this] {
    return until([this] { return neighbours_->take_link_changes() == Neighbours::Links::kChanged; });
  };
  run("ip link set port0 down && ip link set port0 up && ip link set port0 promisc on");
  for (int i = 0; i < 5; i++) neighbours_->process(Clock::now());
  EXPECT_EQ(neighbours_->take_link_changes(), Neighbours::Links::kSame) << "what it is like is no matter";
  run("ip link add new0 type veth peer name wen0");
  EXPECT_TRUE(changed());
  run("ip link set port0 mtu 1400");
  EXPECT_TRUE(changed());
  run("ip link set new0 name old0");
  EXPECT_TRUE(changed());
  run("ip link del old0");
  EXPECT_TRUE(changed());
}

TEST_F(NeighboursTest, follows_a_port_to_another_interface) {
  follow("10.0.0.2");
  ASSERT_TRUE(until_ready()) << state();
  run("ip link del port0");
  ASSERT_TRUE(until([this] { return !is_ready(egress()); }));
  neighbours_->set_ports({{kPort, 0, 1500}});
  ASSERT_TRUE(until_state("no route")) << state();
  namespaces_.make_pair();
  // Nothing will be told of it any more: it was before the interface became a port.
  run("ip neigh replace 10.0.0.2 lladdr " + std::string(namespaces_.kPeerMac) + " nud permanent dev port0");
  ASSERT_TRUE(until_state("which is no port")) << state();
  neighbours_->set_ports({{kPort, namespaces_.port_ifindex(), 1500}});
  ASSERT_TRUE(until_ready()) << state();
  EXPECT_EQ(egress().port, kPort);
  EXPECT_EQ(next_hop_mac(egress()), namespaces_.kPeerMac);
}

TEST_F(NeighboursTest, a_port_that_stays_is_not_disturbed_by_the_others) {
  follow("10.0.0.2");
  ASSERT_TRUE(until_ready()) << state();
  neighbours_->set_ports({{kPort, namespaces_.port_ifindex(), 1500}, {4, 4711, 1500}});
  for (int i = 0; i < 10; i++) {
    EXPECT_TRUE(is_ready(egress())) << state();
    neighbours_->process(Clock::now());
  }
}

TEST_F(NeighboursTest, links_that_are_read_anew_have_not_changed_unless_they_have) {
  run("ip link add new0 type veth peer name wen0");
  open();
  neighbours_->process(Clock::now());
  neighbours_->take_link_changes();
  const auto read_anew = [this] {
    neighbours_->set_ports({{kPort, namespaces_.port_ifindex(), 1500}});
    neighbours_->process(Clock::now());
    return neighbours_->take_link_changes();
  };
  EXPECT_EQ(read_anew(), Neighbours::Links::kSame);
  run("ip link del new0");
  EXPECT_EQ(read_anew(), Neighbours::Links::kChanged);
  EXPECT_EQ(read_anew(), Neighbours::Links::kSame);
}

TEST_F(NeighboursTest, takes_the_smallest_mtu_of_port_link_and_route) {
  run("ip route add 10.1.0.0/16 via 10.0.0.2 mtu 1300");
  open(1450);
  const std::array<Backend, 3> backends = {Backend{}, backend("10.0.0.2"), backend("10.1.0.11")};
  neighbours_->set_backends(backends);
  ASSERT_TRUE(until([this] { return neighbours_->counts().ready == 2; }));
  EXPECT_EQ(neighbours_->egress()[1].outer_mtu, 1450);
  EXPECT_EQ(neighbours_->egress()[2].outer_mtu, 1300);
  run("ip link set port0 mtu 1290");
  EXPECT_TRUE(until([this] {
    const auto records = neighbours_->egress();
    return records[1].outer_mtu == 1290 && records[2].outer_mtu == 1290;
  }));
}

TEST_F(NeighboursTest, follows_the_port_s_own_link_address) {
  follow("10.0.0.2");
  ASSERT_TRUE(until_ready()) << state();
  run("ip link set port0 address 02:00:00:00:00:0a");
  EXPECT_TRUE(until([this] { return is_ready(egress()) && source_mac(egress()) == "02:00:00:00:00:0a"; }));
}

TEST_F(NeighboursTest, says_of_every_backend_what_its_state_means_for_packets) {
  open();
  const std::array<Backend, 5> backends = {Backend{}, backend("10.0.0.2"),
                                           backend("10.0.0.2", kBackendDraining),
                                           backend("10.0.0.2", kBackendDown), Backend{}};
  neighbours_->set_backends(backends);
  ASSERT_TRUE(until([this] { return neighbours_->counts().ready == 3; }));
  const std::vector<Egress> records = neighbours_->egress();
  ASSERT_EQ(records.size(), 5);
  EXPECT_EQ(records[0].flags, 0);
  EXPECT_EQ(records[1].flags, kEgressKnown | kEgressReady | kEgressTakesNew);
  EXPECT_EQ(records[2].flags, kEgressKnown | kEgressReady);
  EXPECT_EQ(records[2].weight, 0);
  EXPECT_EQ(records[3].flags, kEgressKnown | kEgressReady | kEgressDown);
  EXPECT_EQ(records[4].flags, 0);
}

TEST_F(NeighboursTest, a_backend_that_was_known_is_ready_at_once_in_the_next_snapshot) {
  follow("10.0.0.2");
  ASSERT_TRUE(until_ready()) << state();
  const std::array<Backend, 3> next = {Backend{}, backend("10.0.0.55"), backend("10.0.0.2")};
  neighbours_->set_backends(next);
  EXPECT_FALSE(is_ready(neighbours_->egress()[1]));
  EXPECT_TRUE(is_ready(neighbours_->egress()[2]));
  EXPECT_EQ(neighbours_->pending_new_backends(), 1);
  const std::array<Backend, 1> none = {Backend{}};
  neighbours_->set_backends(none);
  EXPECT_EQ(neighbours_->egress().size(), 1);
  EXPECT_EQ(neighbours_->counts().ready, 0);
}

TEST_F(NeighboursTest, shows_what_is_not_ready_first) {
  open();
  const std::array<Backend, 4> backends = {Backend{}, backend("10.0.0.2"), backend("10.0.0.2"),
                                           backend("192.0.2.1")};
  neighbours_->set_backends(backends);
  ASSERT_TRUE(until([this] { return neighbours_->counts().ready == 2; }));
  const auto status = neighbours_->status(2);
  ASSERT_EQ(status.size(), 2);
  EXPECT_EQ(status[0].backend, 3);
  EXPECT_THAT(status[0].state, HasSubstr("no route to 192.0.2.1"));
  EXPECT_EQ(status[1].backend, 1);
}

TEST_F(NeighboursTest, handles_65535_backends_in_bounded_steps) {
  run("ip route add 10.16.0.0/12 via 10.0.0.2");
  open();
  std::vector<Backend> backends(65536, backend("10.16.0.0"));
  backends[0] = Backend{};
  for (uint32_t i = 1; i < backends.size(); i++) backends[i].address.word[3] = host_to_be32(0x0a100000 + i);
  neighbours_->set_backends(backends);
  neighbours_->process(Clock::now());
  EXPECT_LT(neighbours_->counts().ready, 10'000)
      << "one call asked for everything: nobody else was served meanwhile";
  ASSERT_TRUE(until([this] { return neighbours_->pending_new_backends() == 0; }, 60s));
  EXPECT_EQ(neighbours_->counts().ready, 65535);
  // All of them follow a change of the one route.
  run("ip neigh replace 10.0.0.3 lladdr 02:00:00:00:00:03 dev port0 nud permanent");
  run("ip route replace 10.16.0.0/12 via 10.0.0.3");
  EXPECT_TRUE(until(
      [this] {
        const auto records = neighbours_->egress();
        return next_hop_mac(records[1]) == "02:00:00:00:00:03" &&
               next_hop_mac(records[65535]) == "02:00:00:00:00:03";
      },
      60s));
}

TEST_F(NeighboursTest, survives_more_events_than_the_kernel_keeps_for_it) {
  run("ip route add 10.1.0.0/16 via 10.0.0.2 && ip link add new0 type veth peer name wen0");
  follow("10.1.0.11");
  ASSERT_TRUE(until_ready()) << state();
  neighbours_->take_link_changes();
  // Some 60,000 routes come and go while nobody listens, and with them the one that matters.
  run("for a in $(seq 0 239); do for b in $(seq 0 249); do echo route add 172.16.$a.$b via 10.0.0.2; done; "
      "done | "
      "ip -batch - && ip route flush 172.16.0.0/16 && ip route del 10.1.0.0/16 && ip link del new0");
  EXPECT_TRUE(until_state("no route to 10.1.0.11")) << state();
  EXPECT_EQ(neighbours_->take_link_changes(), Neighbours::Links::kChanged) << "new0 has gone unheard";
  run("ip route add 10.1.0.0/16 via 10.0.0.2");
  EXPECT_TRUE(until_ready()) << state();
}

/// The kernel refuses to take messages from the calling thread from here on.
void forbid_sending() {
  std::array<sock_filter, 4> code = {{BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, nr)),
                                      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, __NR_sendmsg, 0, 1),
                                      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | ENOBUFS),
                                      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW)}};
  const sock_fprog filter = {code.size(), code.data()};
  ASSERT_EQ(::prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), 0);
  ASSERT_EQ(::prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &filter), 0) << std::strerror(errno);
}

TEST_F(NeighboursTest, keeps_what_it_knew_while_the_kernel_cannot_be_asked_and_asks_again) {
  run("ip route add 10.1.0.0/16 via 10.0.0.2");
  follow("10.1.0.11");
  ASSERT_TRUE(until_ready()) << state();
  // Some 60,000 routes come and go while nobody listens; what changes then is not told any more.
  run("for a in $(seq 0 239); do for b in $(seq 0 249); do echo route add 172.16.$a.$b via 10.0.0.2; done; "
      "done | ip -batch - && ip route flush 172.16.0.0/16");
  run("ip neigh replace 10.0.0.2 lladdr 02:00:00:00:00:99 dev port0 nud permanent");
  std::thread([this] {
    forbid_sending();
    for (int i = 0; i < 10; i++) {
      neighbours_->process(Clock::now());
      ASSERT_TRUE(is_ready(egress())) << state();
      ASSERT_EQ(next_hop_mac(egress()), namespaces_.kPeerMac);
      std::this_thread::sleep_for(50ms);  // rounds of questions are as far apart
    }
  }).join();
  EXPECT_TRUE(until([this] { return next_hop_mac(egress()) == "02:00:00:00:00:99"; })) << state();
}

TEST_F(NeighboursTest, waits_for_a_route_while_the_kernel_cannot_be_asked) {
  follow("10.0.0.2");
  std::thread([this] {
    forbid_sending();
    neighbours_->process(Clock::now());
  }).join();
  EXPECT_EQ(state(), "the route is being asked for");
  EXPECT_TRUE(until_ready()) << state();
}

}  // namespace
}  // namespace sluice
