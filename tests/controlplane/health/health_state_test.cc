#include "controlplane/health/health_state.h"

#include <string>

#include <gtest/gtest.h>

namespace sluice {
namespace {

// Results as letters (s success, f failure, n not carried out) and the states after each, also as letters
// (? unknown, U up, D down).
struct HealthCase {
  const char *name;
  model::Health initial;
  unsigned rise;
  unsigned fall;
  std::string results;
  std::string states;
};

class HealthStateTable : public testing::TestWithParam<HealthCase> {};

TEST_P(HealthStateTable, follows_the_results) {
  const HealthCase &c = GetParam();
  HealthState state{.health = c.initial, .streak = 0};
  std::string states;
  for (const char result : c.results) {
    const CheckOutcome outcome = result == 's'   ? CheckOutcome::kSuccess
                                 : result == 'f' ? CheckOutcome::kFailure
                                                 : CheckOutcome::kNotCarriedOut;
    state = observe_check(state, outcome, c.rise, c.fall);
    states += state.health == model::Health::kUp ? 'U' : state.health == model::Health::kDown ? 'D' : '?';
  }
  EXPECT_EQ(states, c.states);
}

INSTANTIATE_TEST_SUITE_P(
    cases, HealthStateTable,
    testing::Values(
        HealthCase{"new_backend_is_up_at_its_first_success", model::Health::kUnknown, 5, 3, "s", "U"},
        HealthCase{"new_backend_is_up_at_once_even_after_failures", model::Health::kUnknown, 5, 3, "ffs",
                   "??U"},
        HealthCase{"new_backend_is_down_after_fall_failures", model::Health::kUnknown, 2, 3, "fff", "??D"},
        HealthCase{"after_that_it_needs_rise_successes", model::Health::kUnknown, 2, 2, "ffss", "?DDU"},
        HealthCase{"up_survives_fewer_failures_than_fall", model::Health::kUp, 2, 3, "ffsffs", "UUUUUU"},
        HealthCase{"up_falls_at_the_third_failure_in_a_row", model::Health::kUp, 2, 3, "ffsfff", "UUUUUD"},
        HealthCase{"down_survives_fewer_successes_than_rise", model::Health::kDown, 3, 1, "ssfss", "DDDDD"},
        HealthCase{"down_rises_at_the_third_success_in_a_row", model::Health::kDown, 3, 1, "ssfsss",
                   "DDDDDU"},
        HealthCase{"rise_and_fall_of_one_follow_each_result", model::Health::kUp, 1, 1, "fsfs", "DUDU"},
        HealthCase{"zero_counts_as_one", model::Health::kUp, 0, 0, "fsfs", "DUDU"},
        HealthCase{"what_was_not_carried_out_changes_nothing", model::Health::kUp, 2, 2, "nnnfnfnn",
                   "UUUUUDDD"},
        HealthCase{"what_was_not_carried_out_breaks_no_streak", model::Health::kDown, 2, 2, "snsn", "DDUU"}),
    [](const auto &each) { return std::string(each.param.name); });

TEST(HealthState, up_with_failures_is_reported_as_failing) {
  EXPECT_EQ(reported_health({.health = model::Health::kUp, .streak = 0}), model::Health::kUp);
  EXPECT_EQ(reported_health({.health = model::Health::kUp, .streak = 1}), model::Health::kFailing);
  EXPECT_EQ(reported_health({.health = model::Health::kDown, .streak = 1}), model::Health::kDown);
  EXPECT_EQ(reported_health({.health = model::Health::kUnknown, .streak = 1}), model::Health::kUnknown);
}

TEST(HealthState, has_names_for_people) {
  EXPECT_STREQ(health_name(model::Health::kUp), "up");
  EXPECT_STREQ(health_name(model::Health::kFailing), "failing");
  EXPECT_STREQ(health_name(model::Health::kDown), "down");
  EXPECT_STREQ(health_name(model::Health::kUnknown), "unknown");
}

}  // namespace
}  // namespace sluice
