#include "dataplane/xdp/attachment.h"

#include <bpf/libbpf.h>
#include <gmock/gmock.h>
#include <linux/if_link.h>

#include "tests/xdp/engine_fixture.h"

namespace sluice {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

class AttachmentTest : public XdpFixture {
 protected:
  uint32_t ifindex() const { return network_.port_ifindex(); }
};

TEST_F(AttachmentTest, is_native_where_the_driver_can) {
  const UniqueFd program = load_program("ours");
  Result<Attachment> attached = attach(program.get(), "port0", ifindex(), XdpModeChoice::kAuto);
  ASSERT_TRUE(attached.ok()) << attached.error().message;
  EXPECT_EQ(attached.value().mode, XdpMode::kNative);
  const Result<InterfaceProgram> there = program_on("port0", ifindex());
  ASSERT_TRUE(there.ok());
  EXPECT_EQ(there.value().name, "ours");
  EXPECT_EQ(there.value().mode, XdpMode::kNative);
  EXPECT_EQ(there.value().id, program_id(program.get()));
}

TEST_F(AttachmentTest, is_generic_where_the_driver_cannot_and_says_so) {
  const UniqueFd program = load_program("ours");
  const uint32_t loopback = interface_facts("lo").ifindex;
  Result<Attachment> attached = attach(program.get(), "lo", loopback, XdpModeChoice::kAuto);
  ASSERT_TRUE(attached.ok()) << attached.error().message;
  EXPECT_EQ(attached.value().mode, XdpMode::kGeneric);
  EXPECT_THAT(attached.value().reason, HasSubstr("the driver does not take it"));
  EXPECT_EQ(program_on("lo", loopback).value().mode, XdpMode::kGeneric);
}

// veth's limit is for the other end's MTU: what a buffer of a page holds.
TEST_F(AttachmentTest, a_driver_that_refuses_is_told_with_the_mtu_and_the_programs_buffers) {
  run("ip link add port1 type veth peer name peer1 mtu 9000");
  const uint32_t port1 = interface_facts("port1").ifindex;
  const UniqueFd program = load_program("ours");
  const std::string refusal = "driver veth, MTU 1500, frames in one buffer";
  {
    Result<Attachment> attached = attach(program.get(), "port1", port1, XdpModeChoice::kAuto);
    ASSERT_TRUE(attached.ok()) << attached.error().message;
    EXPECT_EQ(attached.value().mode, XdpMode::kGeneric);
    EXPECT_THAT(attached.value().reason, AllOf(HasSubstr(refusal), HasSubstr("out of range")));
  }
  const Result<Attachment> refused = attach(program.get(), "port1", port1, XdpModeChoice::kNative);
  ASSERT_FALSE(refused.ok());
  EXPECT_THAT(refused.error().message, AllOf(HasSubstr("native (" + refusal), HasSubstr("out of range")));
  const UniqueFd several = load_program("ours", BPF_F_XDP_HAS_FRAGS);
  const Result<Attachment> taken =
      attach(several.get(), "port1", port1, XdpModeChoice::kNative, FrameBuffers::kSeveral);
  EXPECT_TRUE(taken.ok()) << taken.error().message;
}

TEST_F(AttachmentTest, what_is_refused_both_ways_tells_both_errors) {
  const UniqueFd program = load_program("ours");
  const Result<Attachment> refused =
      attach(program.get(), "gone0", 999'999, XdpModeChoice::kAuto, FrameBuffers::kSeveral);
  ASSERT_FALSE(refused.ok());
  EXPECT_THAT(refused.error().message,
              AllOf(HasSubstr("native (driver unknown, MTU 0, frames in several buffers): Invalid argument"),
                    HasSubstr("generic: Invalid argument")));
}

TEST_F(AttachmentTest, native_only_is_refused_where_the_driver_cannot) {
  const UniqueFd program = load_program("ours");
  Result<Attachment> attached =
      attach(program.get(), "lo", interface_facts("lo").ifindex, XdpModeChoice::kNative);
  ASSERT_FALSE(attached.ok());
  EXPECT_THAT(attached.error().message, AllOf(HasSubstr("interface lo"), HasSubstr("native")));
}

TEST_F(AttachmentTest, generic_is_taken_when_it_is_wanted) {
  const UniqueFd program = load_program("ours");
  Result<Attachment> attached = attach(program.get(), "port0", ifindex(), XdpModeChoice::kGeneric);
  ASSERT_TRUE(attached.ok()) << attached.error().message;
  EXPECT_EQ(program_on("port0", ifindex()).value().mode, XdpMode::kGeneric);
}

TEST_F(AttachmentTest, a_program_of_somebody_else_stays) {
  const UniqueFd other = load_program("firewall");
  const UniqueFd ours = load_program("ours");
  const Result<Attachment> there = attach(other.get(), "port0", ifindex(), XdpModeChoice::kAuto);
  ASSERT_TRUE(there.ok());
  Result<Attachment> attached = attach(ours.get(), "port0", ifindex(), XdpModeChoice::kAuto);
  ASSERT_FALSE(attached.ok());
  EXPECT_THAT(attached.error().message, HasSubstr("\"firewall\" (id "));
  EXPECT_EQ(program_on("port0", ifindex()).value().name, "firewall");
}

TEST_F(AttachmentTest, a_program_of_somebody_else_can_be_removed_as_is_said) {
  const UniqueFd other = load_program("firewall");
  const auto expect_removed_by = [this](const std::string &command) {
    const InterfaceProgram there = program_on("port0", ifindex()).value();
    EXPECT_NE(there.id, 0u);
    EXPECT_THAT(removal_command(there, "port0"), HasSubstr(command));
    run("PATH=$PATH:/usr/sbin; " + removal_command(there, "port0"));
    EXPECT_EQ(program_id_on("port0"), 0u) << command;
  };
  const Result<Attachment> link = attach(other.get(), "port0", ifindex(), XdpModeChoice::kAuto);
  ASSERT_TRUE(link.ok());
  expect_removed_by("bpftool link detach id ");
  for (const auto &[flags, command] :
       {std::pair(XDP_FLAGS_DRV_MODE, "xdp off"), std::pair(XDP_FLAGS_SKB_MODE, "xdpgeneric off")}) {
    ASSERT_EQ(bpf_xdp_attach(static_cast<int>(ifindex()), other.get(), flags, nullptr), 0);
    expect_removed_by(command);
  }
}

TEST_F(AttachmentTest, a_program_of_another_dataplane_is_removed_by_that) {
  EXPECT_THAT(removal_command({.id = 1, .name = "sluice_xdp", .link_id = 7}, "port0"),
              HasSubstr("sluice-dataplane --detach"));
}

TEST_F(AttachmentTest, a_links_program_can_be_replaced_and_detached) {
  const UniqueFd first = load_program("first");
  const UniqueFd second = load_program("second");
  Result<Attachment> attached = attach(first.get(), "port0", ifindex(), XdpModeChoice::kAuto);
  ASSERT_TRUE(attached.ok());
  const int link = attached.value().link.get();
  EXPECT_TRUE(replace_program(link, second.get()).ok());
  EXPECT_EQ(program_on("port0", ifindex()).value().name, "second");
  EXPECT_EQ(look_at_link(link).value().program_id, program_id(second.get()));
  EXPECT_EQ(look_at_link(link).value().ifindex, ifindex());
  EXPECT_TRUE(detach(link).ok());
  EXPECT_EQ(program_on("port0", ifindex()).value().id, 0u);
  EXPECT_EQ(look_at_link(link).value().ifindex, 0u);
}

}  // namespace
}  // namespace sluice
