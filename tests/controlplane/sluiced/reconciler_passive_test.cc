// What the dataplane counts of clients becomes the backends' conditions, and goes with the configuration.
#include <string>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/controlplane/sluiced/reconciler_fixture.h"

namespace sluice {
namespace {

using testing::HasSubstr;

constexpr const char *kPassive = "{type: none}\n    passive: {consecutive: 3, ejection: 1s, probes: 2}";

class ReconcilerPassiveTest : public ReconcilerFixture {
 protected:
  void SetUp() override {
    start(kTwoMembers, kPassive);
    reconciler_->tick();  // counts are seen from here on
  }

  /// What the dataplane has counted of a backend, by any worker.
  BackendCounters &counted(const model::BackendKey &key) {
    return dataplane_.counters().backends(1)[*reconciler_->latest_identifiers().backend_id(key)];
  }

  void fail(const model::BackendKey &key) {
    counted(key).tcp_repeated_opens += 3;
    reconciler_->tick();
  }

  void succeed(const model::BackendKey &key) {
    counted(key).tcp_progresses++;
    reconciler_->tick();
  }

  /// As in the snapshot that the dataplane has.
  BackendState state_in_force(const model::BackendKey &key) const {
    const uint16_t id = *reconciler_->latest_identifiers().backend_id(key);
    return static_cast<BackendState>(reconciler_->in_force()->view().backends()[id].state);
  }
  uint32_t slots_in_force(const model::BackendKey &key) const {
    return reconciler_->in_force()->slots_by_backend()[*reconciler_->latest_identifiers().backend_id(key)];
  }
  void reload(const std::string &members, const std::string &health) {
    configure(members, health);
    ASSERT_NE(reconciler_->reload().outcome, api::ChangeResult::Outcome::kInvalidConfig);
    reconciler_->tick();
  }
};

TEST_F(ReconcilerPassiveTest, a_backend_goes_is_tried_again_and_comes_back) {
  fail(kB1);
  EXPECT_TRUE(condition(kB1).ejected);
  EXPECT_EQ(state_in_force(kB1), kBackendDown);
  EXPECT_EQ(slots_in_force(kB1), 0u);
  EXPECT_EQ(reconciler_->passive_text(kB1),
            "3 repeated SYNs in a row without progress; tried again in 1 s (1st time)");
  EXPECT_EQ(reconciler_->passive_text(kB2), "");
  ASSERT_TRUE(eventually_at_a_tick([this] { return condition(kB1).probing; }));
  EXPECT_FALSE(condition(kB1).ejected);
  EXPECT_EQ(state_in_force(kB1), kBackendUp);
  EXPECT_GT(slots_in_force(kB1), 0u);
  EXPECT_LT(slots_in_force(kB1), slots_in_force(kB2) / 4) << "half-open: few of the slots";
  counted(kB1).tcp_progresses += 2;
  reconciler_->tick();
  EXPECT_FALSE(condition(kB1).probing);
  EXPECT_GT(slots_in_force(kB1), slots_in_force(kB2) / 2) << "its whole share";
  EXPECT_EQ(reconciler_->passive_text(kB1), "");
}

TEST_F(ReconcilerPassiveTest, icmp_errors_count_too) {
  dataplane_.counters().unreachables()[*reconciler_->latest_identifiers().backend_id(kB2)] += 3;
  reconciler_->tick();
  EXPECT_TRUE(condition(kB2).ejected);
}

TEST_F(ReconcilerPassiveTest, when_both_fail_none_goes_and_it_is_said) {
  counted(kB1).tcp_repeated_opens += 3;
  fail(kB2);
  for (const model::BackendKey &key : {kB1, kB2}) {
    EXPECT_FALSE(condition(key).ejected);
    EXPECT_EQ(
        reconciler_->passive_text(key),
        "3 repeated SYNs in a row without progress; not ejected: all 2 backends that have traffic fail");
  }
  succeed(kB2);
  EXPECT_TRUE(condition(kB1).ejected);
  EXPECT_EQ(reconciler_->passive_text(kB2), "");
}

TEST_F(ReconcilerPassiveTest, the_last_backend_stays_and_it_is_said) {
  ASSERT_EQ(reconciler_->drain(kB1).outcome, api::ChangeResult::Outcome::kApplied);
  fail(kB2);
  EXPECT_FALSE(condition(kB2).ejected);
  EXPECT_EQ(reconciler_->passive_text(kB2),
            "3 repeated SYNs in a row without progress; not ejected: no other backend of the pool serves");
  ASSERT_EQ(reconciler_->undrain(kB1).outcome, api::ChangeResult::Outcome::kApplied);
  reconciler_->tick();
  EXPECT_TRUE(condition(kB2).ejected) << "there is another one again";
}

TEST_F(ReconcilerPassiveTest, without_counters_it_says_so_and_asks_rarely) {
  dataplane_.hide_counters("no memory");
  start(kTwoMembers, kPassive);
  for (int i = 0; i < 10; i++) reconciler_->tick();
  EXPECT_EQ(dataplane_.counter_requests(), 2) << "one before it was hidden";
  EXPECT_THAT(reconciler_->blindness(), HasSubstr("counters cannot be read: "));
  EXPECT_THAT(reconciler_->blindness(), HasSubstr("no memory"));
  EXPECT_EQ(reconciler_->passive_text(kB1), "passive health sees nothing: " + reconciler_->blindness());
  dataplane_.hide_counters("");
  ASSERT_TRUE(eventually_at_a_tick([this] { return reconciler_->blindness().empty(); }));
  EXPECT_EQ(reconciler_->passive_text(kB1), "");
  reconciler_->tick();
  fail(kB1);
  EXPECT_TRUE(condition(kB1).ejected);
}

TEST_F(ReconcilerPassiveTest, a_dataplane_that_comes_back_is_looked_at_at_once) {
  dataplane_.hide_counters("no memory");
  start(kTwoMembers, kPassive);
  reconciler_->tick();
  ASSERT_FALSE(reconciler_->blindness().empty());
  lose_dataplane();
  EXPECT_EQ(reconciler_->blindness(), "the dataplane is unreachable");
  dataplane_.hide_counters("");
  get_dataplane_back();
  EXPECT_EQ(reconciler_->blindness(), "");
}

TEST_F(ReconcilerPassiveTest, a_pool_without_passive_health_misses_nothing) {
  dataplane_.hide_counters("no memory");
  start(kTwoMembers);
  reconciler_->tick();
  EXPECT_EQ(reconciler_->blindness(), "");
}

TEST_F(ReconcilerPassiveTest, identifiers_that_are_given_later_are_looked_at) {
  lose_dataplane();
  configure("[{name: b1, address: 127.0.0.1}, {name: b2, address: \"::1\"}, {name: b3, address: 127.0.0.3}]",
            kPassive);
  ASSERT_EQ(reconciler_->reload().outcome, api::ChangeResult::Outcome::kPending);
  reconciler_->tick();
  get_dataplane_back();
  ASSERT_TRUE(eventually_at_a_tick([this] { return !reconciler_->pending(); }));
  reconciler_->tick();
  const model::BackendKey b3{"web", "b3"};
  fail(b3);
  EXPECT_TRUE(condition(b3).ejected);
}

TEST_F(ReconcilerPassiveTest, who_is_drained_is_not_there_to_serve_instead) {
  ASSERT_EQ(reconciler_->drain(kB2).outcome, api::ChangeResult::Outcome::kApplied);
  fail(kB1);
  EXPECT_FALSE(condition(kB1).ejected);
}

TEST_F(ReconcilerPassiveTest, ejection_outlasts_a_reload) {
  fail(kB1);
  reload(kTwoMembers, std::string(kPassive) + " # a change that is none");
  EXPECT_TRUE(condition(kB1).ejected);
  EXPECT_EQ(slots_in_force(kB1), 0u);
}

TEST_F(ReconcilerPassiveTest, without_passive_health_nobody_is_ejected) {
  fail(kB1);
  reload(kTwoMembers, "{type: none}");
  EXPECT_FALSE(condition(kB1).ejected);
  EXPECT_EQ(state_in_force(kB1), kBackendUp);
  EXPECT_EQ(reconciler_->passive_text(kB1), "");
  fail(kB1);
  EXPECT_FALSE(condition(kB1).ejected);
}

TEST_F(ReconcilerPassiveTest, at_another_address_it_is_another_backend) {
  fail(kB1);
  reload("[{name: b1, address: 127.0.0.7}, {name: b2, address: \"::1\"}]", kPassive);
  EXPECT_FALSE(condition(kB1).ejected);
  EXPECT_EQ(state_in_force(kB1), kBackendUp);
}

}  // namespace
}  // namespace sluice
