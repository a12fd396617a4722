// What is on an interface moves to another one, in network namespaces of the test's own. Needs root.
#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <linux/if_tun.h>
#include <net/if.h>
#include <sys/ioctl.h>

#include "dataplane/server/interface_settings.h"
#include "dataplane/server/port_options.h"
#include "dataplane/server/unique_fd.h"
#include "tests/server/network_namespaces.h"

namespace sluice {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::Not;

constexpr const char *kPort = "name=front,interface=port0,addresses=10.0.0.1/24;fd00::1/64";

class InterfaceSettingsTest : public testing::Test {
 protected:
  static std::vector<InterfaceAddress> addresses() { return parse_port_options(kPort).value().addresses; }

  static InterfaceSettings take_from(const std::string &interface) {
    Result<InterfaceSettings> taken = InterfaceSettings::take_from(interface, addresses());
    EXPECT_TRUE(taken.ok()) << taken.error().message;
    return std::move(taken).value();
  }

  /// A persistent tap, as a DPDK engine leaves it, held open as long as the descriptor.
  static UniqueFd make_tap(const std::string &name) {
    UniqueFd fd(::open("/dev/net/tun", O_RDWR | O_CLOEXEC));
    ifreq request = {};
    name.copy(request.ifr_name, IFNAMSIZ - 1);
    request.ifr_flags = IFF_TAP | IFF_NO_PI | IFF_MULTI_QUEUE;
    EXPECT_EQ(::ioctl(fd.get(), TUNSETIFF, &request), 0);
    EXPECT_EQ(::ioctl(fd.get(), TUNSETPERSIST, 1), 0);
    run("ip link set " + name + " up");
    return fd;
  }

  static std::string addresses_on(const std::string &interface) {
    return output_of("ip -o addr show dev " + interface + " scope global");
  }
  static std::string routes() { return output_of("ip route; ip -6 route"); }

  NetworkNamespaces network_;
};

TEST_F(InterfaceSettingsTest, addresses_go_with_the_routes_that_somebody_gave) {
  run("ip route add 10.1.0.0/16 via 10.0.0.2 && ip -6 route add fd01::/64 via fd00::2");
  run("ip link add other type veth peer name rehto && ip link set other up && ip link set rehto up && ip "
      "route add 10.3.0.0/16 dev other");
  const InterfaceSettings taken = take_from("port0");
  EXPECT_EQ(addresses_on("port0"), "");
  EXPECT_THAT(routes(), AllOf(Not(HasSubstr("10.1.0.0/16")), Not(HasSubstr("fd01::/64")),
                              HasSubstr("10.3.0.0/16 dev other")));
  EXPECT_THAT(taken.text(), AllOf(HasSubstr("2 addresses"), HasSubstr("2 routes")));

  make_tap("sl-front").release();
  ASSERT_TRUE(add_addresses("sl-front", addresses()).ok());
  taken.give_to("sl-front");
  EXPECT_THAT(addresses_on("sl-front"), AllOf(HasSubstr("10.0.0.1/24"), HasSubstr("fd00::1/64")));
  EXPECT_THAT(routes(), AllOf(HasSubstr("10.1.0.0/16 via 10.0.0.2 dev sl-front"),
                              HasSubstr("fd01::/64 via fd00::2 dev sl-front")));
}

TEST_F(InterfaceSettingsTest, known_neighbours_are_known_on_the_other_interface) {
  run("ip neigh replace 10.0.0.2 lladdr 02:00:00:00:00:02 nud reachable dev port0");
  const InterfaceSettings taken = take_from("port0");
  run("ip link add other type veth peer name rehto && ip link set other up && ip link set rehto up");
  ASSERT_TRUE(add_addresses("other", addresses()).ok());
  taken.give_to("other");
  EXPECT_THAT(output_of("ip neigh show 10.0.0.2 dev other"), HasSubstr("02:00:00:00:00:02"));
}

TEST_F(InterfaceSettingsTest, other_addresses_stay_and_without_ours_the_routes_too) {
  run("ip addr add 10.9.0.1/24 dev port0 && ip route add 10.1.0.0/16 via 10.0.0.2");
  Result<InterfaceSettings> taken = InterfaceSettings::take_from(
      "port0", parse_port_options("name=f,interface=port0,addresses=10.0.0.1/25").value().addresses);
  ASSERT_TRUE(taken.ok());
  EXPECT_EQ(taken.value().text(), "");
  EXPECT_THAT(routes(), HasSubstr("10.1.0.0/16 via 10.0.0.2 dev port0"));
  take_from("port0");
  EXPECT_THAT(addresses_on("port0"), AllOf(HasSubstr("10.9.0.1/24"), Not(HasSubstr("10.0.0.1/24"))));
}

TEST_F(InterfaceSettingsTest, a_left_tap_goes_and_its_routes_are_kept) {
  take_from("port0");
  UniqueFd tap = make_tap("sl-front");
  ASSERT_TRUE(add_addresses("sl-front", addresses()).ok());
  run("ip route add 10.1.0.0/16 via 10.0.0.2 dev sl-front");
  tap.reset(-1);
  Result<InterfaceSettings> taken = InterfaceSettings::take_from_tap("sl-front", addresses());
  ASSERT_TRUE(taken.ok()) << taken.error().message;
  EXPECT_EQ(::if_nametoindex("sl-front"), 0u);
  ASSERT_TRUE(add_addresses("port0", addresses()).ok());
  taken.value().give_to("port0");
  EXPECT_THAT(routes(), HasSubstr("10.1.0.0/16 via 10.0.0.2 dev port0"));
}

TEST_F(InterfaceSettingsTest, a_tap_in_use_and_what_is_no_tap_are_refused) {
  const UniqueFd tap = make_tap("sl-front");
  Result<InterfaceSettings> in_use = InterfaceSettings::take_from_tap("sl-front", addresses());
  ASSERT_FALSE(in_use.ok());
  EXPECT_THAT(in_use.error().message, HasSubstr("kernel: \"sl-front\": a process has this tap open"));
  EXPECT_NE(::if_nametoindex("sl-front"), 0u);
  Result<InterfaceSettings> no_tap = InterfaceSettings::take_from_tap("port0", addresses());
  ASSERT_FALSE(no_tap.ok());
  EXPECT_THAT(no_tap.error().message, HasSubstr("\"port0\": an interface of this name exists and is no tap"));
  EXPECT_TRUE(InterfaceSettings::take_from_tap("nosuch", addresses()).ok());
}

TEST_F(InterfaceSettingsTest, ipv6_addresses_can_be_used_at_once) {
  take_from("port0");
  run("echo 1 > /proc/sys/net/ipv6/conf/port0/accept_dad");
  ASSERT_TRUE(add_addresses("port0", addresses()).ok());
  EXPECT_THAT(addresses_on("port0"), AllOf(HasSubstr("fd00::1/64"), Not(HasSubstr("tentative"))));
  EXPECT_TRUE(add_addresses("port0", addresses()).ok()) << "what is there already is fine";
}

}  // namespace
}  // namespace sluice
