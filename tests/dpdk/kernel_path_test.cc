// The exception path against the real kernel, in a network namespace of the test's own. Needs root.
#include <cstdlib>

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <net/if.h>
#include <sched.h>

#include "tests/dpdk/engine_fixture.h"

namespace sluice {
namespace {

using ::testing::HasSubstr;

/// A network namespace for the rest of this thread's life; each test gets a new one.
class KernelPath : public ::testing::Test {
 protected:
  void SetUp() override { ASSERT_EQ(unshare(CLONE_NEWNET), 0) << "needs root"; }
};

KernelInterfaceOptions interface_options() {
  return {.name = "sl-test", .mac = {2, 0, 0, 0, 0, 1}, .mtu = 1700, .queues = 2};
}

TEST_F(KernelPath, the_interface_is_made_as_asked_and_persists) {
  uint32_t ifindex = 0;
  {
    auto interface = KernelInterface::open(interface_options());
    ASSERT_TRUE(interface.ok()) << interface.error().message;
    ifindex = interface.value()->ifindex();
    EXPECT_EQ(interface.value()->origin(), KernelInterface::Origin::kMade);
    InterfaceFacts facts = interface_facts("sl-test");
    EXPECT_TRUE(facts.exists);
    EXPECT_EQ(facts.mtu, 1700);
  }
  EXPECT_EQ(if_nametoindex("sl-test"), ifindex) << "a restart must find its interface, with its routes";
  auto again = KernelInterface::open(interface_options());
  ASSERT_TRUE(again.ok()) << again.error().message;
  EXPECT_EQ(again.value()->ifindex(), ifindex);
  EXPECT_EQ(again.value()->origin(), KernelInterface::Origin::kFound);
}

TEST_F(KernelPath, an_interface_that_merges_segments_is_warned_of_where_it_matters) {
  ASSERT_EQ(system("ip link add merging type veth peer name peer && ip link set merging up"), 0);
  auto warnings = [] {
    auto port = Port::probe(parse_port_options("name=gro,device=net_af_packet:iface=merging").value(), {});
    EXPECT_TRUE(port.ok()) << port.error().message;
    return fmt::format("{}", fmt::join(port.value()->report().warnings, "\n"));
  };
  ASSERT_EQ(system("ethtool -K merging gro on"), 0);
  EXPECT_THAT(warnings(), HasSubstr("merges segments on receipt (gro)"));
  EXPECT_THAT(warnings(), HasSubstr("ethtool -K merging gro off lro off"));
  ASSERT_EQ(system("ethtool -K merging gro off"), 0);
  EXPECT_THAT(warnings(), ::testing::Not(HasSubstr("merges segments")));
}

TEST_F(KernelPath, the_interface_goes_when_it_is_asked_to) {
  {
    auto interface = KernelInterface::open(interface_options());
    ASSERT_TRUE(interface.ok()) << interface.error().message;
    ASSERT_TRUE(interface.value()->remove_on_close().ok());
  }
  EXPECT_EQ(if_nametoindex("sl-test"), 0u);
}

TEST_F(KernelPath, a_name_that_something_else_has_is_an_error) {
  KernelInterfaceOptions options = interface_options();
  options.name = "lo";
  auto interface = KernelInterface::open(options);
  ASSERT_FALSE(interface.ok());
  EXPECT_THAT(interface.error().message, HasSubstr("kernel interface lo"));
}

TEST_F(KernelPath, an_interface_that_cannot_be_as_asked_is_not_left_behind) {
  KernelInterfaceOptions options = interface_options();
  options.mac = {1, 0, 0, 0, 0, 1};  // of a group: no interface's own
  auto interface = KernelInterface::open(options);
  ASSERT_FALSE(interface.ok());
  EXPECT_THAT(interface.error().message, HasSubstr("kernel interface sl-test: setting its MAC"));
  EXPECT_EQ(if_nametoindex("sl-test"), 0u);
}

class KernelPathMoves : public KernelPath {
 protected:
  void SetUp() override {
    KernelPath::SetUp();
    ASSERT_EQ(system("ip link add eth type veth peer name peer && ip link set eth up && ip link set peer up "
                     "&& ip addr add 10.77.0.2/24 dev eth && ip route add 10.1.0.0/16 via 10.77.0.1"),
              0);
    options_.idle = IdlePolicy::kSleep;
    options_.ports = {
        parse_port_options("name=front,device=net_af_packet:iface=eth,addresses=10.77.0.2/24").value()};
  }
  std::string addresses() const {
    return fmt::format("{}", fmt::join(interface_facts("eth").addresses, " "));
  }
  static bool has_route_by(const std::string &interface) {
    return system(("ip route | grep -q '10.1.0.0/16 via 10.77.0.1 dev " + interface + "'").c_str()) == 0;
  }

  DpdkEngineOptions options_;
  Regions regions_{1};
};

TEST_F(KernelPathMoves, an_engine_that_never_starts_puts_everything_back) {
  {
    auto engine = DpdkEngine::create(options_, &regions_.counters(), &regions_.connections());
    ASSERT_TRUE(engine.ok()) << engine.error().message;
    EXPECT_EQ(addresses(), "");
    EXPECT_TRUE(has_route_by("sl-front"));
  }
  EXPECT_EQ(addresses(), "10.77.0.2");
  EXPECT_TRUE(has_route_by("eth"));
  EXPECT_EQ(if_nametoindex("sl-front"), 0u) << "it was made for nothing";
}

TEST_F(KernelPathMoves, an_engine_that_started_leaves_them_where_it_had_them) {
  {
    auto engine = DpdkEngine::create(options_, &regions_.counters(), &regions_.connections());
    ASSERT_TRUE(engine.ok()) << engine.error().message;
    ASSERT_TRUE(engine.value()->start().ok());
  }
  EXPECT_EQ(addresses(), "");
  EXPECT_TRUE(has_route_by("sl-front"));
}

TEST_F(KernelPathMoves, an_engine_whose_interface_cannot_be_made_takes_nothing_away) {
  ASSERT_EQ(system("ip link add sl-front type bridge"), 0);
  auto engine = DpdkEngine::create(options_, &regions_.counters(), &regions_.connections());
  ASSERT_FALSE(engine.ok());
  EXPECT_THAT(engine.error().message, HasSubstr("port front: kernel interface sl-front"));
  EXPECT_EQ(addresses(), "10.77.0.2");
  EXPECT_TRUE(has_route_by("eth"));
}

TEST_F(KernelPath, arp_goes_up_to_the_kernel_and_its_answer_comes_down) {
  Regions regions(1);
  RingDevice device("r_kernel", {});
  DpdkEngineOptions options;
  options.idle = IdlePolicy::kSleep;
  options.ports = {
      parse_port_options("name=front,device=net_ring_r_kernel,mtu=1500,addresses=10.77.0.2/24").value()};
  auto engine = DpdkEngine::create(options, &regions.counters(), &regions.connections());
  ASSERT_TRUE(engine.ok()) << engine.error().message;
  ASSERT_EQ(engine.value()->ports().size(), 1u);
  EXPECT_EQ(engine.value()->ports()[0].kernel_ifindex, if_nametoindex("sl-front"));
  SnapshotBuilder builder;
  builder.add_vip(
      "198.51.100.10",
      {{80, 80,
        builder.add_service("web", builder.add_pool({builder.add_backend("web", "b", "10.77.0.9")}))}});
  EXPECT_TRUE(engine.value()->install(make_tables(builder)).ok());
  ASSERT_TRUE(engine.value()->start().ok());

  ASSERT_TRUE(device.send(arp_request(parse_address("10.77.0.1"), parse_address("10.77.0.2"))));
  FrameBytes reply;
  ASSERT_TRUE(eventually([&] {
    for (const FrameBytes &frame : device.take_transmitted()) {
      if (frame.size() >= 42 && get_be16(frame, 12) == 0x0806 && get_be16(frame, 20) == 2) reply = frame;
    }
    return !reply.empty();
  })) << "the kernel did not answer";
  EXPECT_EQ(FrameBytes(reply.begin(), reply.begin() + 6), (FrameBytes{2, 0, 0, 0, 0, 2}));
  EXPECT_EQ(FrameBytes(reply.begin() + 28, reply.begin() + 32), (FrameBytes{10, 77, 0, 2}));
  EXPECT_EQ(verdict_count(regions.counters(), kVerdictPassNotIp), 1u);
  EXPECT_GE(regions.counters().worker(0).kernel_packets, 1u);
  EXPECT_EQ(all_verdicts(regions.counters()), received_packets(regions.counters()));
}

}  // namespace
}  // namespace sluice
