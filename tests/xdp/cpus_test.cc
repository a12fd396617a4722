#include "dataplane/xdp/cpus.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace sluice {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

struct Case {
  const char *name;
  CpuLists lists;
  uint32_t workers;
  const char *warning;  // a part of it; "" for none
};

class CpusTest : public testing::TestWithParam<Case> {};

TEST_P(CpusTest, have_as_many_tables) {
  const Result<CpuPlan> plan = plan_cpus(GetParam().lists);
  ASSERT_TRUE(plan.ok()) << plan.error().message;
  EXPECT_EQ(plan.value().workers, GetParam().workers);
  EXPECT_EQ(plan.value().warning.empty(), std::string(GetParam().warning).empty()) << plan.value().warning;
  EXPECT_THAT(plan.value().warning, HasSubstr(GetParam().warning));
}

INSTANTIATE_TEST_SUITE_P(
    Hosts, CpusTest,
    testing::Values(
        Case{"one", {"0", "0"}, 1, ""}, Case{"all_are_there", {"0-15", "0-15"}, 16, ""},
        Case{"numbers_are_left_out", {"0-1,8-9", "0-1,8-9"}, 10, ""},
        Case{"some_may_come", {"0-15", "0-31"}, 32, ""},
        Case{"many_may_come", {"0-1", "0-63"}, 2, "CPUs from 2 on may be added to this host (up to 63)"},
        Case{"more_than_tables_may_come", {"0-63", "0-127"}, 64, "CPUs from 64 on"}),
    [](const testing::TestParamInfo<Case> &one) { return one.param.name; });

TEST(Cpus, too_many_are_refused_with_what_to_do) {
  const Result<CpuPlan> plan = plan_cpus({"0-127", "0-127"});
  ASSERT_FALSE(plan.ok());
  EXPECT_THAT(plan.error().message, AllOf(HasSubstr("tables for 64 CPUs, and this host has 128"),
                                          HasSubstr("--engine dpdk"), HasSubstr("nr_cpus=64")));
}

TEST(Cpus, a_list_that_is_none_is_named) {
  const Result<CpuPlan> plan = plan_cpus({"0-3", "0-x"});
  ASSERT_FALSE(plan.ok());
  EXPECT_THAT(plan.error().message, HasSubstr("/sys/devices/system/cpu/possible: \"0-x\""));
  EXPECT_FALSE(plan_cpus({"", "0"}).ok());
}

TEST(Cpus, of_this_host_can_be_told) {
  const Result<CpuPlan> plan = plan_cpus(read_cpu_lists());
  EXPECT_TRUE(plan.ok()) << plan.error().message;
}

}  // namespace
}  // namespace sluice
