// What is on an interface moves to another one, in network namespaces of the test's own. Needs root.
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <linux/if_tun.h>
#include <linux/rtnetlink.h>
#include <net/if.h>
#include <netlink/msg.h>
#include <netlink/netlink.h>
#include <netlink/route/addr.h>
#include <sys/ioctl.h>

#include "dataplane/server/interface_settings.h"
#include "dataplane/server/port_options.h"
#include "dataplane/server/unique_fd.h"
#include "tests/server/network_namespaces.h"

namespace sluice {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
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

  /// A callback of libnl's: adds the address of an RTM_DELADDR to a list.
  static int note_removed_address(nl_msg *message, void *list) {
    if (nlmsg_hdr(message)->nlmsg_type != RTM_DELADDR) return NL_OK;
    const auto note = [](nl_object *object, void *texts) {
      char text[64] = {};
      nl_addr *local = rtnl_addr_get_local(reinterpret_cast<rtnl_addr *>(object));
      static_cast<std::vector<std::string> *>(texts)->emplace_back(nl_addr2str(local, text, sizeof(text)));
    };
    nl_msg_parse(message, note, list);
    return NL_OK;
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

// IPv6 makes one route with two next hops of what is two routes in IPv4.
TEST_F(SettingsMoveTest, an_interrupted_move_of_ipv6_routes_is_finished_by_the_next) {
  run("ip -6 addr add fd00::1/64 dev other nodad && ip -6 route add fd01::/64 via fd00::2 dev port0 && "
      "ip -6 route append fd01::/64 via fd00::2 dev other && ip -6 route add fd02::/64 dev port0 && "
      "ip -6 route append fd02::/64 dev other");
  move("port0", "other").keep();
  EXPECT_EQ(addresses_on("port0"), "");
  EXPECT_EQ(output_of("ip -6 route show fd01::/64"),
            "fd01::/64 via fd00::2 dev other metric 1024 pref medium\n");
  EXPECT_EQ(output_of("ip -6 route show fd02::/64"), "fd02::/64 dev other metric 1024 pref medium\n");
}

TEST_F(SettingsMoveTest, a_move_back_after_an_interrupted_one_leaves_nothing_on_the_other) {
  run("ip -6 route add fd01::/64 via fd00::2 dev port0");
  const std::string before = configuration();
  make_tap("sl-front");
  run("ip -6 addr add fd00::1/64 dev sl-front nodad && ip -6 route append fd01::/64 via fd00::2 dev "
      "sl-front");
  Result<SettingsMove> made = SettingsMove::make_from_tap("sl-front", "port0", addresses());
  ASSERT_TRUE(made.ok()) << made.error().message;
  EXPECT_EQ(output_of("ip -6 route show fd01::/64"),
            "fd01::/64 via fd00::2 dev port0 metric 1024 pref medium\n");
  made.value().keep();
  EXPECT_EQ(configuration(), before);
}

TEST_F(SettingsMoveTest, routes_of_several_next_hops_move_with_their_weights_and_back) {
  run("ip link add third type veth peer name driht && ip link set third up && ip link set driht up && "
      "ip addr add 10.8.0.1/24 dev third && ip -6 addr add fd08::1/64 dev third nodad");
  run("ip route add 10.1.0.0/16 nexthop via 10.0.0.2 dev port0 weight 3 nexthop via 10.0.0.3 dev port0 "
      "nexthop via 10.8.0.2 dev third weight 2");
  run("ip -6 route add fd01::/64 nexthop via fd00::2 dev port0 weight 3 nexthop via fd00::3 dev port0 "
      "nexthop via fd08::2 dev third weight 2");
  const auto hops = [](const std::string &show) {
    return output_of(show + " | grep -o 'via.*weight [0-9]*' | sort | tr '\\n' ','");
  };
  const std::string before = configuration();
  SettingsMove made = move("port0", "other");
  EXPECT_EQ(
      hops("ip route show 10.1.0.0/16"),
      "via 10.0.0.2 dev other weight 3,via 10.0.0.3 dev other weight 1,via 10.8.0.2 dev third weight 2,");
  EXPECT_EQ(hops("ip -6 route show fd01::/64"),
            "via fd00::2 dev other weight 3,via fd00::3 dev other weight 1,via fd08::2 dev third weight 2,");
  { const SettingsMove undone = std::move(made); }
  EXPECT_EQ(configuration(), before);
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

TEST_F(SettingsMoveTest, other_addresses_are_never_gone_though_they_are_secondary) {
  run("ip addr add 10.0.0.9/24 dev port0 && echo 0 > /proc/sys/net/ipv4/conf/port0/promote_secondaries");
  std::vector<std::string> gone;
  const std::unique_ptr<nl_sock, decltype(&nl_socket_free)> events(nl_socket_alloc(), nl_socket_free);
  nl_socket_disable_seq_check(events.get());
  nl_socket_modify_cb(events.get(), NL_CB_VALID, NL_CB_CUSTOM, note_removed_address, &gone);
  ASSERT_EQ(nl_connect(events.get(), NETLINK_ROUTE), 0);
  ASSERT_EQ(nl_socket_add_membership(events.get(), RTNLGRP_IPV4_IFADDR), 0);
  nl_socket_set_nonblocking(events.get());
  move("port0", "other").keep();
  while (nl_recvmsgs_default(events.get()) >= 0) continue;
  EXPECT_THAT(gone, ElementsAre("10.0.0.1/24"));
  EXPECT_THAT(addresses_on("port0"), HasSubstr("10.0.0.9/24"));
  EXPECT_EQ(output_of("cat /proc/sys/net/ipv4/conf/port0/promote_secondaries"), "0\n") << "as it was";
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
