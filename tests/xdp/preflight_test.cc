#include "dataplane/xdp/preflight.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "dataplane/core/limits.h"
#include "dataplane/xdp/sweeper.h"

namespace sluice {
namespace {

using ::testing::AllOf;
using ::testing::Contains;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

InterfaceFacts usual_interface() {
  InterfaceFacts facts;
  facts.exists = true;
  facts.ifindex = 7;
  facts.driver = "ice";
  facts.mtu = 1500;
  return facts;
}

KernelFeatures usual_kernel() {
  KernelFeatures kernel;
  kernel.release = "6.1.0-18-amd64";
  kernel.several_buffers = true;
  kernel.live_frames = true;
  return kernel;
}

Result<XdpPreflight> preflight(const InterfaceFacts &facts,
                               const std::string &port = "name=front,interface=eth1",
                               const KernelFeatures &kernel = usual_kernel()) {
  return make_preflight({parse_port_options(port).value()}, {facts}, {"eth1"}, kernel);
}

std::string refusal(const InterfaceFacts &facts, const std::string &port = "name=front,interface=eth1",
                    const KernelFeatures &kernel = usual_kernel()) {
  const Result<XdpPreflight> made = preflight(facts, port, kernel);
  return made.ok() ? "" : made.error().message;
}

TEST(XdpPreflight, a_usual_interface_has_nothing_to_warn_of) {
  const Result<XdpPreflight> made = preflight(usual_interface());
  ASSERT_TRUE(made.ok()) << made.error().message;
  EXPECT_EQ(made.value().frame_buffers, FrameBuffers::kOne);
  EXPECT_THAT(made.value().ports[0].warnings, IsEmpty());
  EXPECT_THAT(made.value().sweep, HasSubstr("on each CPU"));
}

TEST(XdpPreflight, an_interface_that_merges_segments_is_refused_with_the_remedy) {
  InterfaceFacts facts = usual_interface();
  facts.merging = {"gro", "lro"};
  EXPECT_THAT(refusal(facts), AllOf(HasSubstr("port front"), HasSubstr("ethtool -K eth1 lro off")));
  facts.merging = {"gro"};
  EXPECT_EQ(refusal(facts), "");
}

TEST(XdpPreflight, a_missing_interface_and_another_mtu_are_refused) {
  EXPECT_THAT(refusal(InterfaceFacts()), HasSubstr("interface: \"eth1\" does not exist"));
  EXPECT_THAT(refusal(usual_interface(), "name=front,interface=eth1,mtu=9000"),
              AllOf(HasSubstr("mtu: \"9000\""), HasSubstr("ip link set dev eth1 mtu 9000")));
}

TEST(XdpPreflight, a_large_mtu_takes_several_buffers_and_a_kernel_that_has_them) {
  InterfaceFacts facts = usual_interface();
  facts.mtu = 3498;
  EXPECT_EQ(preflight(facts).value().frame_buffers, FrameBuffers::kOne);
  facts.mtu = 3499;
  EXPECT_EQ(preflight(facts).value().frame_buffers, FrameBuffers::kSeveral);
  KernelFeatures kernel = usual_kernel();
  kernel.several_buffers = false;
  EXPECT_THAT(refusal(facts, "name=front,interface=eth1", kernel),
              AllOf(HasSubstr("MTU 3499"), HasSubstr("ip link set dev eth1 mtu 3498")));
}

TEST(XdpPreflight, an_interface_that_is_back_has_to_have_an_mtu_that_the_program_and_the_configuration_have) {
  InterfaceFacts facts = usual_interface();
  const XdpPortReport any = preflight(facts).value().ports[0];
  const XdpPortReport configured = preflight(facts, "name=front,interface=eth1,mtu=1500").value().ports[0];
  facts.mtu = 3498;
  EXPECT_TRUE(check_again(any, facts, FrameBuffers::kOne).ok());
  EXPECT_THAT(check_again(configured, facts, FrameBuffers::kOne).error().message,
              HasSubstr("port front: mtu: \"1500\" is not that of eth1, 3498"));
  facts.mtu = 3499;
  EXPECT_TRUE(check_again(any, facts, FrameBuffers::kSeveral).ok());
  XdpPortReport large = any;
  large.facts.mtu = 9000;
  for (const auto &[port, remedy] :
       {std::pair(any, "mtu 1500,"), std::pair(configured, "mtu 1500,"), std::pair(large, "mtu 3498,")})
    EXPECT_THAT(check_again(port, facts, FrameBuffers::kOne).error().message,
                AllOf(HasSubstr("has MTU 3499"), HasSubstr(remedy)));
}

TEST(XdpPreflight, a_kernel_that_lacks_something_is_refused_with_its_name) {
  KernelFeatures kernel = usual_kernel();
  kernel.release = "5.15.0-204-generic";
  kernel.lacks = "array elements of more than 4 MB (Linux 6.0)";
  EXPECT_THAT(refusal(usual_interface(), "name=front,interface=eth1", kernel),
              AllOf(HasSubstr("--engine: \"xdp\""), HasSubstr("5.15.0-204-generic"),
                    HasSubstr("lacks array elements of more than 4 MB"), HasSubstr("--engine dpdk")));
}

TEST(XdpPreflight, without_live_frames_nothing_is_swept_and_it_says_so) {
  KernelFeatures kernel = usual_kernel();
  kernel.live_frames = false;
  const Result<XdpPreflight> made = preflight(usual_interface(), "name=front,interface=eth1", kernel);
  ASSERT_TRUE(made.ok());
  EXPECT_THAT(preflight_lines(made.value()), Contains(HasSubstr("sweep: off: this kernel lacks")));
}

TEST(XdpPreflight, what_has_no_meaning_or_changes_frames_is_warned_of) {
  InterfaceFacts facts = usual_interface();
  facts.strips_vlan_tags = true;
  const Result<XdpPreflight> made =
      preflight(facts, "name=front,interface=eth1,queues=2,descriptors=512,steering=on");
  ASSERT_TRUE(made.ok());
  for (const char *text : {"queues=", "descriptors=", "steering=", "ethtool -K eth1 rxvlan off"})
    EXPECT_THAT(made.value().ports[0].warnings, Contains(HasSubstr(text)));
  EXPECT_THAT(preflight_lines(made.value()), Contains(HasSubstr("port front: WARNING: queues=")));
}

TEST(Sweeper, one_pass_takes_no_longer_than_its_period) {
  for (const uint32_t buckets : {64u, 1u << 15, 1u << 19, 1u << 28}) {
    const uint64_t per_period =
        uint64_t{sweep_runs_per_second(buckets, 64)} * kSweepPeriodS * kXdpSweepBuckets;
    EXPECT_GE(per_period, buckets);
    EXPECT_LE(per_period, uint64_t{buckets} + uint64_t{kSweepPeriodS} * kXdpSweepBuckets);
    EXPECT_EQ(sweep_runs_per_second(64, buckets), sweep_runs_per_second(buckets, 64));
  }
}

}  // namespace
}  // namespace sluice
