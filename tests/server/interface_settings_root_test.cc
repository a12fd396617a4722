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

class SettingsMoveTest : public testing::Test {
 protected:
  SettingsMoveTest() {
    run("ip link add other type veth peer name rehto && ip link set other up && ip link set rehto up");
  }

  static std::vector<InterfaceAddress> addresses() { return parse_port_options(kPort).value().addresses; }

  static SettingsMove move(const std::string &from, const std::string &to) {
    Result<SettingsMove> move = SettingsMove::make(from, to, addresses());
    EXPECT_TRUE(move.ok()) << move.error().message;
    return std::move(move).value();
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
  /// A tap as a DPDK engine leaves it: with the addresses and a route, and nobody has it open.
  static void leave_tap(const std::string &name) {
    UniqueFd tap = make_tap(name);
    move("port0", name).keep();
    run("ip route add 10.1.0.0/16 via 10.0.0.2 dev " + name);
  }

  static std::string addresses_on(const std::string &interface) {
    return output_of("ip -o addr show dev " + interface + " scope global");
  }
  static std::string routes() { return output_of("ip route; ip -6 route"); }
  /// Everything that a move may change.
  static std::string configuration() {
    return output_of(
        "(ip -o addr show scope global | sort; ip route | sort; ip -6 route | sort) | sed 's/ linkdown//'");
  }

  NetworkNamespaces network_;
};

TEST_F(SettingsMoveTest, addresses_go_with_the_routes_that_somebody_gave) {
  run("ip route add 10.1.0.0/16 via 10.0.0.2 && ip -6 route add fd01::/64 via fd00::2 && ip route add "
      "10.2.0.0/16 dev port0 src 10.0.0.1 metric 7");
  run("ip route add 10.3.0.0/16 dev rehto");
  make_tap("sl-front").release();
  SettingsMove made = move("port0", "sl-front");
  EXPECT_EQ(made.text(), "2 addresses, 3 routes, 0 neighbours");
  EXPECT_EQ(addresses_on("port0"), "");
  EXPECT_THAT(addresses_on("sl-front"), AllOf(HasSubstr("10.0.0.1/24"), HasSubstr("fd00::1/64")));
  EXPECT_THAT(routes(), AllOf(HasSubstr("10.1.0.0/16 via 10.0.0.2 dev sl-front"),
                              HasSubstr("fd01::/64 via fd00::2 dev sl-front"),
                              HasSubstr("10.2.0.0/16 dev sl-front scope link src 10.0.0.1 metric 7"),
                              HasSubstr("10.3.0.0/16 dev rehto"), Not(HasSubstr("dev port0 scope"))));
  const std::string moved = configuration();
  made.keep();
  made = move("port0", "sl-front");
  EXPECT_EQ(made.text(), "") << "nothing is left to move";
  EXPECT_EQ(configuration(), moved);
}

TEST_F(SettingsMoveTest, what_is_not_kept_is_undone) {
  run("ip addr add 10.9.0.1/24 dev port0 && ip route add 10.1.0.0/16 via 10.0.0.2 && ip -6 route add "
      "fd01::/64 "
      "via fd00::2 && ip route add default via 10.0.0.2 metric 5 && ip route add 10.2.0.0/16 dev port0");
  run("ip neigh replace 10.0.0.2 lladdr 02:00:00:00:00:02 nud permanent dev port0");
  const std::string before = configuration();
  {
    const SettingsMove made = move("port0", "other");
    EXPECT_NE(configuration(), before);
  }
  EXPECT_EQ(configuration(), before);
  EXPECT_THAT(output_of("ip neigh show 10.0.0.2 dev port0"), HasSubstr("02:00:00:00:00:02 PERMANENT"));
}

TEST_F(SettingsMoveTest, undoing_leaves_what_the_other_interface_had) {
  run("ip addr add 10.0.0.1/24 dev other && ip route add 10.4.0.0/16 via 10.0.0.7 dev other");
  const std::string before = configuration();
  { const SettingsMove made = move("port0", "other"); }
  EXPECT_EQ(configuration(), before);
}

TEST_F(SettingsMoveTest, an_interface_that_is_not_there_takes_nothing_away) {
  run("ip route add 10.1.0.0/16 via 10.0.0.2");
  const std::string before = configuration();
  const Result<SettingsMove> made = SettingsMove::make("port0", "nosuch", addresses());
  ASSERT_FALSE(made.ok());
  EXPECT_THAT(made.error().message, HasSubstr("interface nosuch"));
  EXPECT_EQ(configuration(), before);
}

TEST_F(SettingsMoveTest, addresses_that_cannot_all_be_added_are_none) {
  run("ip route add 10.1.0.0/16 via 10.0.0.2 && echo 1 > /proc/sys/net/ipv6/conf/other/disable_ipv6");
  const std::string before = configuration();
  const Result<SettingsMove> made = SettingsMove::make("port0", "other", addresses());
  ASSERT_FALSE(made.ok());
  EXPECT_THAT(made.error().message, HasSubstr("interface other: adding address fd00::1/64"));
  EXPECT_EQ(configuration(), before);
}

TEST_F(SettingsMoveTest, a_move_that_was_interrupted_is_finished_by_the_next) {
  run("ip route add 10.1.0.0/16 via 10.0.0.2 && ip addr add 10.0.0.1/24 dev other && ip route append "
      "10.1.0.0/16 via 10.0.0.2 dev other");
  move("port0", "other").keep();
  EXPECT_EQ(addresses_on("port0"), "");
  EXPECT_THAT(addresses_on("other"), AllOf(HasSubstr("10.0.0.1/24"), HasSubstr("fd00::1/64")));
  EXPECT_THAT(routes(), AllOf(HasSubstr("10.1.0.0/16 via 10.0.0.2 dev other"),
                              Not(HasSubstr("via 10.0.0.2 dev port0"))));
}

TEST_F(SettingsMoveTest, known_neighbours_are_known_on_the_other_interface) {
  run("ip neigh replace 10.0.0.2 lladdr 02:00:00:00:00:02 nud reachable dev port0");
  move("port0", "other").keep();
  EXPECT_THAT(output_of("ip neigh show 10.0.0.2 dev other"), HasSubstr("02:00:00:00:00:02"));
}

TEST_F(SettingsMoveTest, other_addresses_stay_though_they_are_secondary) {
  run("ip addr add 10.9.0.1/24 dev port0 && ip addr add 10.0.0.9/24 dev port0");
  move("port0", "other").keep();
  EXPECT_THAT(addresses_on("port0"),
              AllOf(HasSubstr("10.9.0.1/24"), HasSubstr("10.0.0.9/24"), Not(HasSubstr("10.0.0.1/24"))));
}

TEST_F(SettingsMoveTest, without_ours_the_routes_stay) {
  run("ip route add 10.1.0.0/16 via 10.0.0.2");
  Result<SettingsMove> made = SettingsMove::make(
      "port0", "other", parse_port_options("name=f,interface=port0,addresses=10.0.0.1/25").value().addresses);
  ASSERT_TRUE(made.ok());
  EXPECT_EQ(made.value().text(), "");
  EXPECT_THAT(routes(), HasSubstr("10.1.0.0/16 via 10.0.0.2 dev port0"));
}

TEST_F(SettingsMoveTest, a_left_tap_goes_when_its_settings_are_kept) {
  leave_tap("sl-front");
  Result<SettingsMove> made = SettingsMove::make_from_tap("sl-front", "port0", addresses());
  ASSERT_TRUE(made.ok()) << made.error().message;
  EXPECT_THAT(addresses_on("port0"), AllOf(HasSubstr("10.0.0.1/24"), HasSubstr("fd00::1/64")));
  EXPECT_THAT(routes(), HasSubstr("10.1.0.0/16 via 10.0.0.2 dev port0"));
  EXPECT_EQ(output_of("ip route get 10.0.0.2 | head -c 22"), "10.0.0.2 dev port0 src");
  EXPECT_NE(::if_nametoindex("sl-front"), 0u);
  made.value().keep();
  EXPECT_EQ(::if_nametoindex("sl-front"), 0u);
}

TEST_F(SettingsMoveTest, a_left_tap_has_everything_again_when_it_is_not_kept) {
  leave_tap("sl-front");
  const std::string before = configuration();
  ASSERT_TRUE(SettingsMove::make_from_tap("sl-front", "port0", addresses()).ok());
  EXPECT_EQ(configuration(), before);
}

TEST_F(SettingsMoveTest, a_tap_in_use_and_what_is_no_tap_are_refused) {
  const UniqueFd tap = make_tap("sl-front");
  const std::string before = configuration();
  const Result<SettingsMove> in_use = SettingsMove::make_from_tap("sl-front", "port0", addresses());
  ASSERT_FALSE(in_use.ok());
  EXPECT_THAT(in_use.error().message, HasSubstr("kernel: \"sl-front\": a process has this tap open"));
  EXPECT_NE(::if_nametoindex("sl-front"), 0u);
  const Result<SettingsMove> no_tap = SettingsMove::make_from_tap("other", "port0", addresses());
  ASSERT_FALSE(no_tap.ok());
  EXPECT_THAT(no_tap.error().message, HasSubstr("\"other\": an interface of this name exists and is no tap"));
  EXPECT_TRUE(SettingsMove::make_from_tap("nosuch", "port0", addresses()).ok());
  EXPECT_EQ(configuration(), before);
}

TEST_F(SettingsMoveTest, ipv6_addresses_can_be_used_at_once) {
  run("echo 1 > /proc/sys/net/ipv6/conf/other/accept_dad");
  move("port0", "other").keep();
  EXPECT_THAT(addresses_on("other"), AllOf(HasSubstr("fd00::1/64"), Not(HasSubstr("tentative"))));
  EXPECT_TRUE(add_addresses("other", addresses()).ok()) << "what is there already is fine";
}

}  // namespace
}  // namespace sluice
