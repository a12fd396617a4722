#include "controlplane/lifecycle/lifecycle.h"

#include <gtest/gtest.h>

namespace sluice {
namespace {

using namespace std::chrono_literals;
using model::Health;

// One backend of a checked pool, at times that the test says.
class Lifecycle : public testing::Test {
 protected:
  Lifecycle() { pool_.health.kind = model::TcpCheck{}; }

  Member member() const { return {pool_, backend_, order_ ? &*order_ : nullptr}; }
  Moment at(std::chrono::milliseconds passed) const {
    return {start_ + passed, 1'000'000 + std::chrono::duration_cast<std::chrono::seconds>(passed).count()};
  }
  void hear(Health health, std::chrono::milliseconds when) {
    note_health(member(), health, at(when).steady, &condition_);
    pass(when);
  }
  void pass(std::chrono::milliseconds when, std::optional<uint64_t> connections = std::nullopt) {
    advance(member(), at(when), connections, &condition_);
  }
  ServingState state() const {
    return serving_state(standing_of(pool_, backend_, order_ ? &*order_ : nullptr, condition_));
  }

  model::SteadyTime start_{1h};
  model::Pool pool_;
  model::BackendSpec backend_;
  std::optional<model::OperatorOrder> order_;
  model::BackendCondition condition_;
};

TEST_F(Lifecycle, slow_start_has_its_steps_over_its_time) {
  pool_.slow_start = 19s;
  hear(Health::kUp, 0s);
  for (int second = 0; second < 19; second++) {
    pass(std::chrono::seconds(second));
    EXPECT_EQ(condition_.ramp_step, 1 + second);
    EXPECT_EQ(state(), ServingState::kStarting);
    EXPECT_TRUE(is_restless(condition_));
  }
  pass(19s);
  EXPECT_EQ(condition_.ramp_step, kRampSteps);
  EXPECT_EQ(state(), ServingState::kUp);
  EXPECT_FALSE(is_restless(condition_));
}

TEST_F(Lifecycle, slow_start_begins_anew_after_a_failure_and_after_a_drain) {
  pool_.slow_start = 19s;
  hear(Health::kUp, 0s);
  pass(30s);
  hear(Health::kDown, 31s);
  EXPECT_EQ(ramp_step_of(condition_), kRampSteps);
  hear(Health::kUp, 40s);
  EXPECT_EQ(condition_.ramp_step, 1);
  pass(60s);
  backend_.drain = true;
  pass(61s);
  backend_.drain = false;
  pass(62s);
  EXPECT_EQ(condition_.ramp_step, 1);
}

TEST_F(Lifecycle, a_failed_check_that_takes_nothing_down_leaves_the_slow_start_alone) {
  pool_.slow_start = 19s;
  hear(Health::kUp, 0s);
  hear(Health::kFailing, 5s);
  EXPECT_EQ(state(), ServingState::kFailing);
  EXPECT_EQ(condition_.ramp_step, 6);
  hear(Health::kUp, 6s);
  EXPECT_EQ(condition_.ramp_step, 7);
}

TEST_F(Lifecycle, without_slow_start_the_share_is_whole_at_once) {
  hear(Health::kUp, 0s);
  EXPECT_EQ(state(), ServingState::kUp);
}

TEST_F(Lifecycle, a_slow_start_of_before_a_restart_goes_on_from_its_step) {
  pool_.slow_start = 19s;
  condition_ = {.health = Health::kUp, .serving = true, .ramp_step = 7};
  pass(0s);
  EXPECT_EQ(condition_.ramp_step, 7);
  pass(2s);
  EXPECT_EQ(condition_.ramp_step, 9);
}

TEST_F(Lifecycle, one_that_is_tried_again_stays_at_its_smallest_share) {
  pool_.slow_start = 19s;
  hear(Health::kUp, 0s);
  condition_.probing = true;
  pass(100s);
  EXPECT_EQ(ramp_step_of(condition_), 1);
  EXPECT_EQ(state(), ServingState::kStarting);
  condition_.probing = false;
  pass(101s);
  EXPECT_EQ(condition_.ramp_step, 2) << "the slow start begins when the trial has ended";
  pool_.slow_start = 0s;
  condition_.probing = true;
  pass(102s);
  EXPECT_EQ(ramp_step_of(condition_), 1);
}

TEST_F(Lifecycle, one_that_comes_and_goes_is_held_until_it_has_been_well_for_long) {
  pool_.flap_damping = {.falls = 2, .window = 100s, .hold = 30s};
  hear(Health::kUp, 0s);
  hear(Health::kDown, 10s);
  hear(Health::kUp, 20s);
  EXPECT_EQ(state(), ServingState::kUp) << "once is not often";
  hear(Health::kDown, 30s);
  hear(Health::kUp, 40s);
  EXPECT_EQ(state(), ServingState::kDown);
  hear(Health::kFailing, 60s);
  hear(Health::kUp, 61s);
  pass(71s);
  EXPECT_EQ(state(), ServingState::kDown) << "the failure began the hold anew";
  pass(90s);
  EXPECT_EQ(state(), ServingState::kUp);
  EXPECT_FALSE(is_restless(condition_));
}

TEST_F(Lifecycle, falls_of_long_ago_are_forgotten) {
  pool_.flap_damping = {.falls = 2, .window = 100s, .hold = 30s};
  hear(Health::kUp, 0s);
  hear(Health::kDown, 10s);
  hear(Health::kUp, 20s);
  hear(Health::kDown, 111s);
  hear(Health::kUp, 112s);
  EXPECT_EQ(state(), ServingState::kUp);
}

TEST_F(Lifecycle, damping_that_is_taken_out_of_the_configuration_lets_go) {
  pool_.flap_damping = {.falls = 1, .window = 100s, .hold = 1000s};
  hear(Health::kUp, 0s);
  hear(Health::kDown, 1s);
  hear(Health::kUp, 2s);
  EXPECT_EQ(state(), ServingState::kDown);
  pool_.flap_damping.reset();
  pass(3s);
  EXPECT_EQ(state(), ServingState::kUp);
}

TEST_F(Lifecycle, a_drain_waits_for_the_last_connection) {
  hear(Health::kUp, 0s);
  order_ = model::OperatorOrder{};
  pass(1s);
  EXPECT_EQ(state(), ServingState::kDraining) << "how many are left is not known";
  pass(2s, 3);
  EXPECT_EQ(condition_.drain->connections_left, 3u);
  pass(100h, 1);
  EXPECT_EQ(state(), ServingState::kDraining);
  pass(101h, 0);
  EXPECT_EQ(state(), ServingState::kDrained);
  pass(102h, 1);
  EXPECT_EQ(state(), ServingState::kDraining) << "another worker had one";
  order_.reset();
  pass(103h);
  EXPECT_FALSE(condition_.drain.has_value());
  EXPECT_EQ(state(), ServingState::kUp);
}

TEST_F(Lifecycle, a_drain_ends_at_its_deadline) {
  hear(Health::kUp, 0s);
  order_ = model::OperatorOrder{.deadline = 60s, .since_unix_s = at(10s).unix_s};
  pass(10s, 5);
  pass(69s, 5);
  EXPECT_EQ(state(), ServingState::kDraining);
  pass(70s, 5);
  EXPECT_EQ(state(), ServingState::kDrained);
  EXPECT_TRUE(condition_.drain->deadline_passed);
}

TEST_F(Lifecycle, a_deadline_outlives_a_restart_and_a_clock_that_was_set) {
  order_ = model::OperatorOrder{.deadline = 60s, .since_unix_s = at(0s).unix_s};
  pass(40s, 5);  // a sluiced that has just started: 20 s are left
  pass(59s, 5);
  EXPECT_FALSE(condition_.drain->deadline_passed);
  pass(60s, 5);
  EXPECT_TRUE(condition_.drain->deadline_passed);
  // Begun in what is the future now: never longer than it was asked for.
  condition_ = {};
  order_->since_unix_s = at(1000h).unix_s;
  pass(0s, 5);
  EXPECT_EQ(*condition_.drain->ends - at(0s).steady, 60s);
}

TEST_F(Lifecycle, a_deadline_that_is_changed_counts_from_when_the_drain_began) {
  backend_.drain = true;
  pass(0s, 1);
  pool_.drain_deadline = 60s;
  pass(30s, 1);
  EXPECT_EQ(*condition_.drain->ends - at(0s).steady, 60s);
  pass(60s, 1);
  EXPECT_EQ(state(), ServingState::kDrained);
  pool_.drain_deadline = 120s;
  pass(61s, 1);
  EXPECT_EQ(state(), ServingState::kDraining);
  pool_.drain_deadline.reset();
  pass(1000s, 1);
  EXPECT_EQ(state(), ServingState::kDraining);
}

TEST_F(Lifecycle, a_drain_of_the_configuration_outlives_a_restart) {
  pool_.drain_deadline = 60s;
  backend_.drain = true;
  condition_.drained_since_unix_s = at(0s).unix_s;
  pass(59s, 1);
  EXPECT_EQ(state(), ServingState::kDraining);
  pass(60s, 1);
  EXPECT_EQ(state(), ServingState::kDrained);
}

TEST_F(Lifecycle, a_slow_start_of_another_length_goes_on_from_its_step) {
  pool_.slow_start = 19s;
  hear(Health::kUp, 0s);
  pass(9s);
  EXPECT_EQ(condition_.ramp_step, 10);
  pool_.slow_start = 190s;
  pass(10s);
  EXPECT_EQ(condition_.ramp_step, 10);
  pass(20s);
  EXPECT_EQ(condition_.ramp_step, 11);
}

TEST_F(Lifecycle, a_restart_keeps_each_step_of_any_slow_start) {
  for (const auto length : {6s, 10s, 30s, 60s}) {
    pool_.slow_start = length;
    for (uint8_t step = 1; step < kRampSteps; step++) {
      condition_ = {.health = Health::kUp, .serving = true, .ramp_step = step};
      pass(1234567ms);
      EXPECT_EQ(condition_.ramp_step, step) << length.count();
    }
  }
}

TEST_F(Lifecycle, backends_that_start_at_different_times_step_together) {
  pool_.slow_start = 19s;
  model::BackendCondition other;
  hear(Health::kUp, 300ms);
  note_health(member(), Health::kUp, at(900ms).steady, &other);
  advance(member(), at(900ms), std::nullopt, &other);
  EXPECT_EQ(condition_.ramp_step, other.ramp_step);
  for (const auto when : {999ms, 1000ms, 1999ms, 2000ms, 7500ms}) {
    pass(when);
    advance(member(), at(when), std::nullopt, &other);
    EXPECT_EQ(condition_.ramp_step, other.ramp_step) << when.count();
  }
}

TEST_F(Lifecycle, the_pools_deadline_is_for_drains_of_the_configuration) {
  pool_.drain_deadline = 60s;
  backend_.drain = true;
  pass(0s, 1);
  pass(59s, 1);
  EXPECT_EQ(state(), ServingState::kDraining);
  pass(60s, 1);
  EXPECT_EQ(state(), ServingState::kDrained);
}

}  // namespace
}  // namespace sluice
