#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "dataplane/dpdk/eal.h"

namespace sluice {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

TEST(CorePlan, workers_take_the_last_cores_and_leave_the_first_to_the_server) {
  Result<CorePlan> plan = plan_cores(2, {}, {0, 1, 2, 3});
  ASSERT_TRUE(plan.ok());
  EXPECT_THAT(plan.value().worker_cores, ElementsAre(2, 3));
  EXPECT_THAT(plan.value().main_cores, ElementsAre(0, 1));
}

TEST(CorePlan, the_server_shares_only_when_every_core_has_a_worker) {
  Result<CorePlan> plan = plan_cores(2, {}, {0, 1});
  ASSERT_TRUE(plan.ok());
  EXPECT_THAT(plan.value().worker_cores, ElementsAre(0, 1));
  EXPECT_THAT(plan.value().main_cores, ElementsAre(0, 1));
  EXPECT_THAT(plan.value().explanation, HasSubstr("shared"));
}

TEST(CorePlan, wanted_cores_are_taken_in_their_order) {
  Result<CorePlan> plan = plan_cores(2, {3, 1}, {0, 1, 2, 3});
  ASSERT_TRUE(plan.ok());
  EXPECT_THAT(plan.value().worker_cores, ElementsAre(3, 1));
  EXPECT_THAT(plan.value().main_cores, ElementsAre(0, 2));
}

TEST(CorePlan, too_many_workers_and_forbidden_cores_are_errors) {
  Result<CorePlan> many = plan_cores(3, {}, {0, 1});
  ASSERT_FALSE(many.ok());
  EXPECT_THAT(many.error().message, HasSubstr("--workers: 3"));
  Result<CorePlan> forbidden = plan_cores(1, {7}, {0, 1});
  ASSERT_FALSE(forbidden.ok());
  EXPECT_THAT(forbidden.error().message, HasSubstr("core 7"));
}

}  // namespace
}  // namespace sluice
