// Leftover XDP programs on a real interface, in a network namespace of the test's own. Needs root.
#include "dataplane/dpdk/leftover_program.h"

#include <array>
#include <cstdlib>
#include <cstring>

#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <linux/bpf.h>
#include <net/if.h>
#include <sched.h>

#include "dataplane/server/unique_fd.h"

namespace sluice {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

class LeftoverProgram : public ::testing::Test {
 protected:
  void SetUp() override {
    ASSERT_EQ(unshare(CLONE_NEWNET), 0) << "needs root";
    ASSERT_EQ(system("ip link add lo-a type veth peer name lo-b"), 0);
    ifindex_ = static_cast<int>(if_nametoindex("lo-a"));
  }

  /// Attaches a program that passes everything; the descriptor that is returned holds it.
  UniqueFd attach(const char *name) const {
    std::array<bpf_insn, 2> code = {};
    code[0].code = BPF_ALU64 | BPF_MOV | BPF_K;  // r0 = XDP_PASS
    code[0].imm = XDP_PASS;
    code[1].code = BPF_JMP | BPF_EXIT;
    UniqueFd fd(bpf_prog_load(BPF_PROG_TYPE_XDP, name, "GPL", code.data(), code.size(), nullptr));
    EXPECT_TRUE(fd.valid()) << strerror(errno);
    EXPECT_EQ(bpf_xdp_attach(ifindex_, fd.get(), 0, nullptr), 0);
    return fd;
  }

  uint32_t attached() const {
    uint32_t program = 0;
    bpf_xdp_query_id(ifindex_, 0, &program);
    return program;
  }

  int ifindex_ = 0;
};

TEST_F(LeftoverProgram, nothing_to_do_without_a_program) {
  auto removed = remove_leftover_program("lo-a");
  ASSERT_TRUE(removed.ok());
  EXPECT_EQ(removed.value(), "");
}

TEST_F(LeftoverProgram, af_xdps_own_program_of_a_dead_process_is_removed) {
  attach("xsk_def_prog").reset(-1);
  ASSERT_NE(attached(), 0u);
  auto removed = remove_leftover_program("lo-a");
  ASSERT_TRUE(removed.ok()) << removed.error().message;
  EXPECT_THAT(removed.value(), AllOf(HasSubstr("xsk_def_prog"), HasSubstr("lo-a")));
  EXPECT_EQ(attached(), 0u);
}

TEST_F(LeftoverProgram, a_program_in_use_stays) {
  UniqueFd holder = attach("xsk_def_prog");
  auto removed = remove_leftover_program("lo-a");
  ASSERT_FALSE(removed.ok());
  EXPECT_THAT(removed.error().message,
              AllOf(HasSubstr("in use by process"), HasSubstr("ip link set dev lo-a xdp off")));
  EXPECT_NE(attached(), 0u);
}

TEST_F(LeftoverProgram, a_program_of_somebody_else_stays) {
  attach("firewall").reset(-1);
  auto removed = remove_leftover_program("lo-a");
  ASSERT_FALSE(removed.ok());
  EXPECT_THAT(removed.error().message, AllOf(HasSubstr("\"firewall\""), HasSubstr("not AF_XDP's own")));
  EXPECT_NE(attached(), 0u);
}

TEST_F(LeftoverProgram, an_interface_that_is_not_there_is_an_error) {
  auto removed = remove_leftover_program("nosuch");
  ASSERT_FALSE(removed.ok());
  EXPECT_THAT(removed.error().message, HasSubstr("\"nosuch\" does not exist"));
}

}  // namespace
}  // namespace sluice
