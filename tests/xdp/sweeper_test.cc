#include "dataplane/xdp/sweeper.h"

#include <array>
#include <atomic>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

namespace sluice {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

/// Waits, generously, until `condition` holds.
template <typename Condition>
bool eventually(Condition condition) {
  for (int i = 0; i < 600 && !condition(); i++) ::usleep(50'000);
  return condition();
}

TEST(Sweeper, says_on_which_cpus_it_may_not_run_and_sweeps_the_others) {
  thread_local uint32_t at = 0;
  std::array<std::atomic<int>, 4> swept = {};
  std::atomic<bool> allowed = false;
  const Sweeper sweeper(
      4,
      [&]() -> Status {
        swept[at]++;
        return Done{};
      },
      [&](uint32_t cpu) {
        at = cpu;
        if (cpu == 1) return CpuVisit::kOffline;
        return cpu >= 2 && !allowed ? CpuVisit::kForbidden : CpuVisit::kThere;
      });
  EXPECT_EQ(sweeper.problem(), "");
  EXPECT_TRUE(eventually([&] { return !sweeper.problem().empty(); }));
  EXPECT_THAT(sweeper.problem(), AllOf(HasSubstr("not on CPUs 2, 3, where"), HasSubstr("cpuset")));
  EXPECT_GT(swept[0], 0);
  EXPECT_EQ(swept[2], 0);
  allowed = true;
  EXPECT_TRUE(eventually([&] { return sweeper.problem().empty(); }));
  EXPECT_GT(swept[3], 0);
  EXPECT_EQ(swept[1], 0);
}

TEST(Sweeper, rests_after_an_error_and_says_so) {
  std::atomic<int> calls = 0;
  const Sweeper sweeper(
      2,
      [&]() -> Status {
        calls++;
        return Error{"the kernel is too old"};
      },
      [](uint32_t /*cpu*/) { return CpuVisit::kThere; });
  EXPECT_TRUE(eventually([&] { return !sweeper.problem().empty(); }));
  EXPECT_THAT(sweeper.problem(), HasSubstr("off: the kernel does not run it"));
  EXPECT_EQ(calls, 1);
}

TEST(Sweeper, tells_a_cpu_that_is_not_there_from_one_that_is) {
  EXPECT_EQ(visit_cpu(0), CpuVisit::kThere);
  EXPECT_EQ(visit_cpu(1023), CpuVisit::kOffline);
}

}  // namespace
}  // namespace sluice
