// Real ICMP errors: the peer's kernel is a router that cannot deliver what comes to it, or a host that does
// not know IP in IP.
#include <cstring>
#include <string>
#include <vector>

#include <arpa/inet.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>

#include "dataplane/server/unreachable_reader.h"
#include "tests/core/packet_builder.h"
#include "tests/server/network_namespaces.h"
#include "tests/server/snapshot_builder.h"

namespace sluice {
namespace {

constexpr int kPatienceMs = 10'000;

class UnreachableReaderTest : public testing::Test {
 protected:
  /// Backends 1 and 2 have 10.1.0.11 (in two pools), 3 has fd00:1::11, 4 has 10.1.0.14, 5 has fd00:1::14.
  void SetUp() override {
    namespaces_.in_peer("echo 1 > /proc/sys/net/ipv4/ip_forward");
    namespaces_.in_peer("echo 1 > /proc/sys/net/ipv6/conf/all/forwarding");
    // The peer's answers are all of a sort: no limit to how many there are in a second.
    namespaces_.in_peer(
        "echo 0 > /proc/sys/net/ipv4/icmp_ratelimit; echo 0 > /proc/sys/net/ipv6/icmp/ratelimit");
    run("ip route add 10.1.0.0/24 via 10.0.0.2 && ip route add fd00:1::/64 via fd00::2");
    auto reader = UnreachableReader::open();
    ASSERT_TRUE(reader.ok()) << reader.error().message;
    reader_.emplace(std::move(reader).value());
    backends_.resize(6);
    const char *addresses[] = {"10.1.0.11", "10.1.0.11", "fd00:1::11", "10.1.0.14", "fd00:1::14"};
    for (size_t i = 0; i < 5; i++) {
      backends_[i + 1].address = parse_address(addresses[i]);
      backends_[i + 1].state = kBackendUp;
    }
    reader_->set_backends(backends_);
  }

  /// An inner packet of `size` bytes to the backend, as the engines would send it.
  static void send_to(const std::string &backend, uint8_t protocol = IPPROTO_IPIP, size_t size = 40) {
    send_bytes(backend, protocol, Bytes(size, 0x45));
  }
  static void send_bytes(const std::string &backend, uint8_t protocol, const Bytes &inner) {
    const bool ipv4 = backend.find(':') == std::string::npos;
    const int fd = ::socket(ipv4 ? AF_INET : AF_INET6, SOCK_RAW | SOCK_CLOEXEC, protocol);
    ASSERT_GE(fd, 0) << "needs root";
    static_assert(IP_PMTUDISC_PROBE == IPV6_PMTUDISC_PROBE);
    const int whole = IP_PMTUDISC_PROBE;
    ASSERT_EQ(::setsockopt(fd, ipv4 ? SOL_IP : SOL_IPV6, ipv4 ? IP_MTU_DISCOVER : IPV6_MTU_DISCOVER, &whole,
                           sizeof(whole)),
              0);
    sockaddr_storage to = {};
    const Bytes address = address_bytes(backend);
    if (ipv4)
      std::memcpy(&reinterpret_cast<sockaddr_in *>(&to)->sin_addr, address.data(), address.size());
    else
      std::memcpy(&reinterpret_cast<sockaddr_in6 *>(&to)->sin6_addr, address.data(), address.size());
    to.ss_family = ipv4 ? AF_INET : AF_INET6;
    EXPECT_EQ(::sendto(fd, inner.data(), inner.size(), 0, reinterpret_cast<sockaddr *>(&to),
                       ipv4 ? sizeof(sockaddr_in) : sizeof(sockaddr_in6)),
              static_cast<ssize_t>(inner.size()));
    ::close(fd);
  }

  /// Reads until the backend's count is `count`, or nothing comes for long.
  uint64_t read_until(uint32_t backend, uint64_t count) {
    const auto fds = reader_->fds();
    while (counts_[backend] < count) {
      pollfd waited[] = {{fds[0], POLLIN, 0}, {fds[1], POLLIN, 0}};
      if (::poll(waited, 2, kPatienceMs) <= 0) break;
      reader_->read(counts_);
    }
    return counts_[backend];
  }

  NetworkNamespaces namespaces_;
  std::optional<UnreachableReader> reader_;
  std::vector<Backend> backends_;
  std::vector<uint64_t> counts_ = std::vector<uint64_t>(6);
};

TEST_F(UnreachableReaderTest, counts_what_a_router_says_of_every_backend_with_the_address) {
  namespaces_.in_peer("ip route add unreachable 10.1.0.11 && ip route add prohibit fd00:1::11");
  for (int i = 0; i < 3; i++) send_to("10.1.0.11");
  EXPECT_EQ(read_until(1, 3), 3u);
  send_to("fd00:1::11");
  send_to("fd00:1::11", IPPROTO_IPV6);
  EXPECT_EQ(read_until(3, 2), 2u);
  EXPECT_EQ(counts_, (std::vector<uint64_t>{0, 3, 3, 2, 0, 0}));
}

TEST_F(UnreachableReaderTest, counts_what_a_host_without_the_tunnel_says) {
  namespaces_.in_peer("ip addr add 10.1.0.14/32 dev lo && ip addr add fd00:1::14/128 dev lo nodad");
  send_to("10.1.0.14");
  EXPECT_EQ(read_until(4, 1), 1u) << "protocol unreachable";
  send_to("fd00:1::14", IPPROTO_IPV6);
  EXPECT_EQ(read_until(5, 1), 1u) << "unrecognized next header";
}

// What comes after it is read after it: there is no need to wait for nothing.
TEST_F(UnreachableReaderTest, packets_too_big_for_a_link_do_not_count) {
  namespaces_.in_peer(
      "ip link add narrow mtu 1280 type veth peer name end && ip link set end up && ip link set narrow up");
  namespaces_.in_peer("ip route add 10.1.0.11 dev narrow && ip -6 route add fd00:1::11 dev narrow");
  send_to("10.1.0.11", IPPROTO_IPIP, 1400);
  send_to("fd00:1::11", IPPROTO_IPV6, 1400);
  namespaces_.in_peer("ip route replace unreachable 10.1.0.14; ip route replace unreachable fd00:1::14");
  send_to("10.1.0.14");
  send_to("fd00:1::14", IPPROTO_IPV6);
  EXPECT_EQ(read_until(4, 1), 1u);
  EXPECT_EQ(read_until(5, 1), 1u);
  EXPECT_EQ(counts_, (std::vector<uint64_t>{0, 0, 0, 0, 1, 1}));
  EXPECT_EQ(output_of("nstat -asz IcmpInDestUnreachs | awk \"/Icmp/ {print \\$2}\""), "2\n")
      << "the one that was too big has not come: nothing is tested";
  EXPECT_EQ(output_of("nstat -asz Icmp6InPktTooBigs | awk \"/Icmp/ {print \\$2}\""), "1\n");
}

TEST_F(UnreachableReaderTest, errors_about_other_packets_to_a_backend_do_not_count) {
  namespaces_.in_peer("ip route add unreachable 10.1.0.11 && ip route add unreachable fd00:1::11");
  send_to("10.1.0.11", IPPROTO_UDP);
  send_to("fd00:1::11", IPPROTO_UDP);
  send_to("10.1.0.11");
  send_to("fd00:1::11", IPPROTO_IPV6);
  EXPECT_EQ(read_until(1, 1), 1u);
  EXPECT_EQ(read_until(3, 1), 1u);
  EXPECT_EQ(counts_, (std::vector<uint64_t>{0, 1, 1, 1, 0, 0}));
}

TEST_F(UnreachableReaderTest, a_backend_that_is_no_more_is_not_counted) {
  namespaces_.in_peer("ip route add unreachable 10.1.0.11 && ip route add unreachable 10.1.0.14");
  backends_[1].state = kBackendUnused;
  backends_[2].state = kBackendDown;  // what is down may get worse
  reader_->set_backends(backends_);
  send_to("10.1.0.11");
  EXPECT_EQ(read_until(2, 1), 1u);
  EXPECT_EQ(counts_[1], 0u);
}

TEST_F(UnreachableReaderTest, a_flood_is_read_a_bounded_part_at_a_time) {
  // Kernels limit their errors, so these are made here, and come by way of the loopback.
  const Bytes quoted = Bytes{0x45, 0, 0, 0, 0, 0, 0, 0, 64, IPPROTO_IPIP, 0, 0} + address_bytes("127.0.0.1") +
                       address_bytes("10.1.0.11");
  const uint16_t sum = ones_complement_sum(Bytes{3, 1, 0, 0, 0, 0, 0, 0} + quoted);
  const Bytes error = Bytes{3, 1} + be16_bytes(static_cast<uint16_t>(~sum)) + Bytes(4) + quoted;
  for (int i = 0; i < 100; i++) send_bytes("127.0.0.1", IPPROTO_ICMP, error);
  pollfd waited = {reader_->fds()[0], POLLIN, 0};
  ASSERT_EQ(::poll(&waited, 1, kPatienceMs), 1);
  reader_->read(counts_);
  EXPECT_LE(counts_[1], 64u);
  EXPECT_GT(read_until(1, 65), 64u) << "the rest is there for the next turns";
}

}  // namespace
}  // namespace sluice
