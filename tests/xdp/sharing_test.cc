#include "dataplane/xdp/sharing.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace sluice {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::Not;

constexpr const char *kRefused = "a program that replaces a function (freplace): Operation not permitted";

Occupation nothing() { return {}; }

Occupation program(const char *name, uint32_t own = 0) {
  Occupation occupation;
  occupation.program = {.id = 5, .name = name, .mode = XdpMode::kNative};
  occupation.own = own;
  return occupation;
}

/// A dispatcher of these programs, of which number `own` is the engine's.
Occupation dispatcher(const std::vector<DispatchedProgram> &programs, uint32_t own = 0) {
  Occupation occupation = program("xdp_dispatcher", own);
  occupation.dispatcher = Dispatcher{.mode = XdpMode::kNative, .programs = programs};
  return occupation;
}

PortSharing choice(XdpSharing wanted, const Occupation &occupation, const char *no_dispatcher = "") {
  const Result<PortSharing> chosen = choose_sharing(wanted, occupation, "eth1", no_dispatcher);
  EXPECT_TRUE(chosen.ok()) << chosen.error().message;
  return chosen.ok() ? chosen.value() : PortSharing::kAlone;
}

std::string refusal(XdpSharing wanted, const Occupation &occupation, const char *no_dispatcher = "") {
  const Result<PortSharing> chosen = choose_sharing(wanted, occupation, "eth1", no_dispatcher);
  return chosen.ok() ? "" : chosen.error().message;
}

TEST(Sharing, an_empty_interface_is_shared_only_if_that_is_wanted) {
  EXPECT_EQ(choice(XdpSharing::kAuto, nothing()), PortSharing::kAlone);
  EXPECT_EQ(choice(XdpSharing::kOff, nothing()), PortSharing::kAlone);
  EXPECT_EQ(choice(XdpSharing::kOn, nothing()), PortSharing::kDispatcher);
}

TEST(Sharing, what_is_wanted_and_cannot_be_is_an_error_with_the_kernels_reason) {
  EXPECT_THAT(refusal(XdpSharing::kOn, nothing(), kRefused),
              AllOf(HasSubstr("--xdp-sharing: \"on\" is not possible"), HasSubstr(kRefused)));
  EXPECT_EQ(choice(XdpSharing::kAuto, nothing(), kRefused), PortSharing::kAlone);
}

TEST(Sharing, a_dispatcher_with_other_programs_is_joined_unless_it_is_off) {
  const Occupation others = dispatcher({{7, "xdp_filter"}});
  EXPECT_EQ(choice(XdpSharing::kAuto, others), PortSharing::kDispatcher);
  EXPECT_EQ(choice(XdpSharing::kOn, others), PortSharing::kDispatcher);
  EXPECT_THAT(refusal(XdpSharing::kOff, others),
              AllOf(HasSubstr("\"xdp_filter\" (id 7)"), HasSubstr("--xdp-sharing is off"),
                    HasSubstr("xdp-loader unload eth1 --id 7")));
  EXPECT_THAT(refusal(XdpSharing::kAuto, others, kRefused),
              AllOf(HasSubstr("\"xdp_filter\" (id 7)"), HasSubstr(kRefused),
                    HasSubstr("xdp-loader unload eth1 --id 7")));
}

TEST(Sharing, the_engines_own_program_or_entry_is_no_obstacle) {
  EXPECT_EQ(choice(XdpSharing::kAuto, program("sluice_xdp", 5)), PortSharing::kAlone);
  EXPECT_EQ(choice(XdpSharing::kOn, program("sluice_xdp", 5)), PortSharing::kDispatcher);
  const Occupation own = dispatcher({{9, "sluice_entry"}}, 9);
  EXPECT_EQ(choice(XdpSharing::kAuto, own), PortSharing::kDispatcher);
  EXPECT_EQ(choice(XdpSharing::kOff, own), PortSharing::kAlone);
  const Occupation both = dispatcher({{7, "xdp_filter"}, {9, "sluice_entry"}}, 9);
  EXPECT_EQ(choice(XdpSharing::kAuto, both), PortSharing::kDispatcher);
  EXPECT_THAT(refusal(XdpSharing::kOff, both), AllOf(HasSubstr("--id 7"), Not(HasSubstr("--id 9"))));
}

TEST(Sharing, a_foreign_program_is_named_with_its_remedy_and_what_sharing_would_take) {
  for (const XdpSharing wanted : {XdpSharing::kAuto, XdpSharing::kOn, XdpSharing::kOff}) {
    const Occupation foreign = program("firewall");
    EXPECT_THAT(refusal(wanted, foreign),
                AllOf(HasSubstr("\"eth1\" has another XDP program, \"firewall\" (id 5, native)"),
                      HasSubstr("ip link set dev eth1 xdp off"), HasSubstr("xdp-loader load eth1")));
    EXPECT_THAT(refusal(wanted, foreign, kRefused), AllOf(HasSubstr("ip link set dev eth1 xdp off"),
                                                          HasSubstr(kRefused), Not(HasSubstr("xdp-loader"))));
  }
}

TEST(Sharing, of_af_xdp_is_what_is_nobody_elses) {
  EXPECT_TRUE(is_of_af_xdp(program("xsk_def_prog")));
  EXPECT_TRUE(is_of_af_xdp(dispatcher({{7, "xsk_def_prog"}})));
  EXPECT_FALSE(is_of_af_xdp(dispatcher({{7, "xsk_def_prog"}, {8, "xdp_filter"}})));
  EXPECT_FALSE(is_of_af_xdp(dispatcher({})));
  EXPECT_FALSE(is_of_af_xdp(program("firewall")));
  EXPECT_FALSE(is_of_af_xdp(nothing()));
}

TEST(Sharing, the_preflight_says_whether_programs_can_share_and_if_not_why) {
  EXPECT_THAT(sharing_text(XdpSharing::kAuto, ""), HasSubstr("where one is, else alone"));
  EXPECT_THAT(sharing_text(XdpSharing::kAuto, kRefused), AllOf(HasSubstr("alone"), HasSubstr(kRefused)));
  EXPECT_THAT(sharing_text(XdpSharing::kOff, ""), HasSubstr("--xdp-sharing"));
}

}  // namespace
}  // namespace sluice
