// What the dataplane counts of clients becomes the backends' conditions, and goes with the configuration.
#include <functional>
#include <memory>
#include <string>

#include <gtest/gtest.h>

#include "controlplane/config/config_loader.h"
#include "controlplane/lifecycle/lifecycle.h"
#include "controlplane/sluiced/reconciler.h"
#include "tests/controlplane/sluiced/daemons.h"
#include "tests/controlplane/sluiced/obedient_dataplane.h"

namespace sluice {
namespace {

const model::BackendKey kB1{"web", "b1"};
const model::BackendKey kB2{"web", "b2"};
constexpr const char *kPassive = "{type: none}\n    passive: {consecutive: 3, ejection: 1s, probes: 2}";

class ReconcilerPassiveTest : public testing::Test {
 protected:
  void SetUp() override {
    write_text(config_path(), config_text(kTwoMembers, kPassive));
    auto store = StateStore::open(directory_.path() / "state");
    ASSERT_TRUE(store.ok());
    auto monitor = HealthMonitor::start(
        {}, [](const model::BackendKey &, const Address &, model::Health, const std::string &) {});
    ASSERT_TRUE(monitor.ok());
    monitor_ = std::move(monitor).value();
    reconciler_ = std::make_unique<Reconciler>(
        Reconciler::Parts{.config_path = config_path(),
                          .desired = load_config_file(config_path()).state.value(),
                          .store = std::move(store).value(),
                          .link = DataplaneLink(dataplane_.path()),
                          .stored_flow_hash_key = {{1, 2, 3}}});
    const Status started = reconciler_->start(monitor_.get());
    ASSERT_TRUE(started.ok()) << started.error().message;
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

  const model::BackendCondition &condition(const model::BackendKey &key) const {
    return reconciler_->observed().condition_of(key);
  }
  /// As in the snapshot that the dataplane has.
  BackendState state_in_force(const model::BackendKey &key) const {
    const uint16_t id = *reconciler_->latest_identifiers().backend_id(key);
    return static_cast<BackendState>(reconciler_->in_force()->view().backends()[id].state);
  }
  uint32_t slots_in_force(const model::BackendKey &key) const {
    return reconciler_->in_force()->slots_by_backend()[*reconciler_->latest_identifiers().backend_id(key)];
  }
  bool eventually_at_a_tick(const std::function<bool()> &condition) {
    return eventually([&] {
      reconciler_->tick();
      return condition();
    });
  }
  void reload(const std::string &members, const std::string &health) {
    write_text(config_path(), config_text(members, health));
    ASSERT_NE(reconciler_->reload().outcome, api::ChangeResult::Outcome::kInvalidConfig);
    reconciler_->tick();
  }
  std::filesystem::path config_path() const { return directory_.path() / "sluice.yaml"; }

  TemporaryDirectory directory_;
  ObedientDataplane dataplane_;
  std::unique_ptr<HealthMonitor> monitor_;
  std::unique_ptr<Reconciler> reconciler_;
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

TEST_F(ReconcilerPassiveTest, the_last_backend_stays_and_it_is_said) {
  fail(kB1);
  fail(kB2);
  EXPECT_FALSE(condition(kB2).ejected);
  EXPECT_EQ(reconciler_->passive_text(kB2),
            "3 repeated SYNs in a row without progress; not ejected: 1 of 2 are, max_ejected is 50%");
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
