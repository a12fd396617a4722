#include "controlplane/sluiced/reconciler.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/controlplane/sluiced/reconciler_fixture.h"

namespace sluice {
namespace {

using testing::HasSubstr;
using testing::Not;
using enum api::ChangeResult::Outcome;

constexpr const char *kOneMember = "[{name: b1, address: 127.0.0.1}]";
constexpr const char *kNeverChecked = "{type: tcp, port: 9, interval: 1h, timeout: 1h}";

class ReconcilerTest : public ReconcilerFixture {
 protected:
  void SetUp() override { start(kTwoMembers); }

  bool is_configured(const model::BackendKey &key) const {
    for (const model::Pool &pool : reconciler_->desired().pools) {
      for (const model::BackendSpec &backend : pool.backends) {
        if (model::BackendKey{pool.name, backend.name} == key) return true;
      }
    }
    return false;
  }
  bool is_drained(const model::BackendKey &key) const {
    return reconciler_->observed().order_of(key) != nullptr;
  }
  std::string stored_orders() const { return read_text(directory_.path() / "state" / "orders.json"); }
};

TEST_F(ReconcilerTest, a_refused_drain_changes_nothing) {
  reconciler_->tick();  // its review of what was refused is not due again for a while
  dataplane_.refuse("no room");
  const api::ChangeResult refused = reconciler_->drain(kB1);
  EXPECT_EQ(refused.outcome, kRefused);
  EXPECT_THAT(refused.message, HasSubstr("no room"));
  EXPECT_FALSE(is_drained(kB1));
  EXPECT_THAT(stored_orders(), Not(HasSubstr("b1")));
  reconciler_->tick();
  EXPECT_FALSE(reconciler_->pending());
  EXPECT_EQ(reconciler_->in_force()->revision(), 1u);
  dataplane_.refuse("");
  EXPECT_EQ(reconciler_->drain(kB1).outcome, kApplied);
}

TEST_F(ReconcilerTest, a_refused_reload_keeps_configuration_and_drains) {
  ASSERT_EQ(reconciler_->drain(kB2).outcome, kApplied);
  dataplane_.refuse("no room");
  configure(kOneMember);
  EXPECT_EQ(reconciler_->reload().outcome, kRefused);
  EXPECT_THAT(reconciler_->config_problem(), HasSubstr("no room"));
  EXPECT_TRUE(is_configured(kB2));
  EXPECT_TRUE(is_drained(kB2));
  EXPECT_THAT(stored_orders(), HasSubstr("b2"));
  reconciler_->tick();
  EXPECT_FALSE(reconciler_->pending());
  EXPECT_EQ(reconciler_->in_force()->revision(), 2u);
}

TEST_F(ReconcilerTest, a_change_finds_a_dataplane_that_has_just_come_back) {
  lose_dataplane();
  EXPECT_EQ(reconciler_->drain(kB1).outcome, kPending);  // and the next try is not due
  dataplane_.come();
  EXPECT_EQ(reconciler_->drain(kB2).outcome, kApplied);
  EXPECT_FALSE(reconciler_->pending());
}

TEST_F(ReconcilerTest, a_drain_asked_for_again_is_in_force_once_the_dataplane_is_back) {
  lose_dataplane();
  EXPECT_EQ(reconciler_->drain(kB1).outcome, kPending);
  dataplane_.come();
  EXPECT_EQ(reconciler_->drain(kB1).outcome, kUnchanged);
  EXPECT_FALSE(reconciler_->pending());
  EXPECT_EQ(reconciler_->in_force()->revision(), 2u);
}

TEST_F(ReconcilerTest, a_pending_change_that_is_refused_later_falls_back_to_what_was_accepted) {
  ASSERT_EQ(reconciler_->drain(kB2).outcome, kApplied);
  lose_dataplane();
  configure(kOneMember);
  EXPECT_EQ(reconciler_->reload().outcome, kPending);
  EXPECT_EQ(reconciler_->drain(kB1).outcome, kPending);
  EXPECT_FALSE(is_configured(kB2));
  dataplane_.refuse("no room");
  get_dataplane_back();
  EXPECT_TRUE(is_configured(kB2));
  EXPECT_TRUE(is_drained(kB2));
  EXPECT_FALSE(is_drained(kB1));
  EXPECT_THAT(stored_orders(), HasSubstr("b2"));
  EXPECT_THAT(stored_orders(), Not(HasSubstr("b1")));
  EXPECT_THAT(reconciler_->config_problem(), HasSubstr("no room"));
  EXPECT_TRUE(eventually_at_a_tick([this] { return !reconciler_->pending(); }));
  EXPECT_EQ(reconciler_->in_force()->revision(), 2u);
}

TEST_F(ReconcilerTest, a_pending_change_is_in_force_once_the_dataplane_is_back) {
  lose_dataplane();
  configure(kOneMember);
  EXPECT_EQ(reconciler_->reload().outcome, kPending);
  get_dataplane_back();
  EXPECT_FALSE(is_configured(kB2));
  EXPECT_FALSE(reconciler_->pending());
  EXPECT_EQ(reconciler_->in_force()->revision(), 2u);
  // From here on this is what was accepted last.
  dataplane_.refuse("no room");
  EXPECT_EQ(reconciler_->drain(kB1).outcome, kRefused);
  EXPECT_FALSE(is_configured(kB2));
}

TEST_F(ReconcilerTest, a_repeated_change_is_pending_while_the_first_one_is) {
  lose_dataplane();
  EXPECT_EQ(reconciler_->drain(kB1).outcome, kPending);
  EXPECT_EQ(reconciler_->drain(kB1).outcome, kPending);
  EXPECT_THAT(reconciler_->drain(kB1).message, HasSubstr("not known to be in force"));
  EXPECT_EQ(reconciler_->undrain(kB2).outcome, kPending);
  get_dataplane_back();
  EXPECT_EQ(reconciler_->drain(kB1).outcome, kUnchanged);
}

TEST_F(ReconcilerTest, a_drain_goes_with_its_backend) {
  ASSERT_EQ(reconciler_->drain(kB2).outcome, kApplied);
  configure(kOneMember);
  ASSERT_EQ(reconciler_->reload().outcome, kApplied);
  EXPECT_THAT(stored_orders(), Not(HasSubstr("b2")));
  start(kTwoMembers);
  EXPECT_FALSE(is_drained(kB2));
}

TEST_F(ReconcilerTest, a_drain_goes_with_its_backend_while_sluiced_is_away_too) {
  ASSERT_EQ(reconciler_->drain(kB2).outcome, kApplied);
  start(kOneMember);
  EXPECT_THAT(stored_orders(), Not(HasSubstr("b2")));
}

TEST_F(ReconcilerTest, undrain_lifts_the_operators_drain_though_the_configuration_drains_too) {
  ASSERT_EQ(reconciler_->drain(kB1).outcome, kApplied);
  configure("[{name: b1, address: 127.0.0.1, drain: true}, {name: b2, address: \"::1\"}]");
  ASSERT_NE(reconciler_->reload().outcome, kRefused);
  EXPECT_TRUE(is_drained(kB1));
  const api::ChangeResult conflict = reconciler_->undrain(kB1);
  EXPECT_EQ(conflict.outcome, kConflict);
  EXPECT_THAT(conflict.message, HasSubstr("operator's own drain is lifted"));
  EXPECT_FALSE(is_drained(kB1));
  EXPECT_THAT(stored_orders(), Not(HasSubstr("b1")));
  EXPECT_THAT(reconciler_->undrain(kB1).message, Not(HasSubstr("lifted")));
}

TEST_F(ReconcilerTest, a_drain_past_its_deadline_keeps_no_connections) {
  ASSERT_EQ(reconciler_->drain(kB1, std::chrono::seconds(1)).outcome, kApplied);
  const uint16_t id = reconciler_->latest_identifiers().backend_id(kB1).value();
  EXPECT_EQ(reconciler_->in_force()->view().backends()[id].state, kBackendDraining);
  EXPECT_TRUE(eventually_at_a_tick(
      [&] { return reconciler_->in_force()->view().backends()[id].state == kBackendClosed; }));
  EXPECT_THAT(stored_orders(), HasSubstr("\"deadline_s\": 1"));
  ASSERT_EQ(reconciler_->undrain(kB1).outcome, kApplied);
  EXPECT_EQ(reconciler_->in_force()->view().backends()[id].state, kBackendUp);
}

TEST_F(ReconcilerTest, another_deadline_is_another_order) {
  using std::chrono::seconds;
  ASSERT_EQ(reconciler_->drain(kB1, seconds(1000)).outcome, kApplied);
  EXPECT_EQ(reconciler_->drain(kB1, seconds(1000)).outcome, kUnchanged);
  EXPECT_EQ(reconciler_->drain(kB1, seconds(2000)).outcome, kApplied);
  const auto left = *reconciler_->observed().condition_of(kB1).drain->ends - reconciler_->now().steady;
  EXPECT_GT(left, seconds(1500));
}

TEST_F(ReconcilerTest, a_backend_in_maintenance_is_neither_used_nor_checked_and_proves_itself_after_it) {
  start(kTwoMembers, kNeverChecked);
  reconciler_->note_health(kB1, *parse_address("127.0.0.1"), model::Health::kUp, "well");
  reconciler_->apply_pending();
  const uint16_t id = reconciler_->latest_identifiers().backend_id(kB1).value();
  ASSERT_EQ(reconciler_->in_force()->view().backends()[id].state, kBackendUp);
  ASSERT_EQ(reconciler_->maintain(kB1).outcome, kApplied);
  EXPECT_EQ(reconciler_->in_force()->view().backends()[id].state, kBackendDraining);
  EXPECT_EQ(monitor_->stats().targets, 1u);
  reconciler_->note_health(kB1, *parse_address("127.0.0.1"), model::Health::kUp, "was on its way");
  EXPECT_FALSE(reconciler_->observed().condition_of(kB1).serving);
  EXPECT_EQ(reconciler_->undrain(kB1).outcome, kConflict);
  EXPECT_EQ(reconciler_->end_maintenance(kB1).outcome, kApplied);
  EXPECT_EQ(reconciler_->end_maintenance(kB1).outcome, kUnchanged);
  EXPECT_EQ(monitor_->stats().targets, 2u);
  EXPECT_EQ(reconciler_->observed().health_of(kB1), model::Health::kUnknown) << "not checked yet";
  EXPECT_EQ(reconciler_->in_force()->view().backends()[id].weight, 0);
}

TEST_F(ReconcilerTest, a_drain_becomes_maintenance_and_the_other_way_round) {
  ASSERT_EQ(reconciler_->drain(kB1).outcome, kApplied);
  EXPECT_EQ(reconciler_->maintain(kB1).outcome, kApplied);
  EXPECT_EQ(reconciler_->observed().order_of(kB1)->kind, model::OrderKind::kMaintenance);
  EXPECT_EQ(reconciler_->drain(kB1).outcome, kApplied);
  EXPECT_EQ(reconciler_->undrain(kB1).outcome, kApplied);
  EXPECT_EQ(reconciler_->observed().order_of(kB1), nullptr);
}

TEST_F(ReconcilerTest, maintenance_that_was_pending_ends_with_a_check_too) {
  start(kTwoMembers, kNeverChecked);
  reconciler_->note_health(kB1, *parse_address("127.0.0.1"), model::Health::kUp, "well");
  reconciler_->apply_pending();
  lose_dataplane();
  EXPECT_EQ(reconciler_->maintain(kB1).outcome, kPending);
  get_dataplane_back();
  ASSERT_NE(reconciler_->reload().outcome, kRefused);
  EXPECT_EQ(reconciler_->end_maintenance(kB1).outcome, kApplied);
  EXPECT_EQ(reconciler_->observed().health_of(kB1), model::Health::kUnknown);
}

TEST_F(ReconcilerTest, health_is_published_at_once_and_not_at_the_next_review) {
  start(kTwoMembers, kNeverChecked);
  reconciler_->tick();  // the review of everything is not due again for a while
  const uint16_t id = reconciler_->latest_identifiers().backend_id(kB1).value();
  const auto state = [&] { return reconciler_->in_force()->view().backends()[id].state; };
  for (const auto health : {model::Health::kDown, model::Health::kUp, model::Health::kDown}) {
    reconciler_->note_health(kB1, *parse_address("127.0.0.1"), health, "so it is");
    reconciler_->apply_pending();
    EXPECT_EQ(state(), health == model::Health::kUp ? kBackendUp : kBackendDown);
  }
}

TEST_F(ReconcilerTest, a_drained_backend_that_fails_is_down_at_once) {
  start(kTwoMembers, kNeverChecked);
  ASSERT_NE(reconciler_->drain(kB1).outcome, kRefused);
  reconciler_->note_health(kB1, *parse_address("127.0.0.1"), model::Health::kDown, "refused");
  reconciler_->apply_pending();
  const uint16_t id = reconciler_->latest_identifiers().backend_id(kB1).value();
  EXPECT_EQ(reconciler_->in_force()->view().backends()[id].state, kBackendDown);
}

TEST_F(ReconcilerTest, a_backend_past_its_deadline_that_is_removed_does_not_come_back) {
  ASSERT_EQ(reconciler_->drain(kB2, std::chrono::seconds(1)).outcome, kApplied);
  const uint16_t id = reconciler_->latest_identifiers().backend_id(kB2).value();
  const auto state = [&] { return reconciler_->in_force()->view().backends()[id].state; };
  ASSERT_TRUE(eventually_at_a_tick([&] { return state() == kBackendClosed; }));
  configure(kOneMember);
  ASSERT_EQ(reconciler_->reload().outcome, kApplied);
  const auto backends = reconciler_->in_force()->view().backends();
  EXPECT_TRUE(id >= backends.size() || backends[id].state == kBackendUnused);
}

TEST_F(ReconcilerTest, a_slow_start_goes_on_by_itself_and_no_failed_check_publishes_anything) {
  start(kTwoMembers, "{type: tcp, port: 9, interval: 1h, timeout: 1h}\n    slow_start: 1s");
  const auto hear = [this](model::Health health) {
    reconciler_->note_health(kB1, *parse_address("127.0.0.1"), health, "so it is");
    reconciler_->apply_pending();
  };
  hear(model::Health::kDown);  // it was up before
  hear(model::Health::kUp);
  const uint16_t id = reconciler_->latest_identifiers().backend_id(kB1).value();
  const auto record = [&]() -> const Backend & { return reconciler_->in_force()->view().backends()[id]; };
  EXPECT_EQ(record().ramp_step, 1);
  EXPECT_TRUE(eventually_at_a_tick([&] { return record().ramp_step == 0; }));
  EXPECT_EQ(record().weight, 100);
  reconciler_->tick();
  const uint64_t revision = reconciler_->in_force()->revision();
  hear(model::Health::kFailing);
  EXPECT_EQ(reconciler_->in_force()->revision(), revision);
}

TEST_F(ReconcilerTest, a_snapshot_that_was_not_stored_is_published_until_it_is) {
  dataplane_.fail_to_store("disk full");
  ASSERT_EQ(reconciler_->drain(kB1).outcome, kApplied);
  EXPECT_EQ(reconciler_->storage_problem(), "disk full");
  const int before = dataplane_.publications();
  EXPECT_TRUE(eventually_at_a_tick([&] { return dataplane_.publications() > before; }));
  EXPECT_EQ(reconciler_->storage_problem(), "disk full");
  dataplane_.fail_to_store("");
  EXPECT_TRUE(eventually_at_a_tick([&] { return reconciler_->storage_problem().empty(); }));
  EXPECT_EQ(reconciler_->in_force()->revision(), 2u);
}

TEST_F(ReconcilerTest, a_snapshot_that_was_not_stored_before_the_start_is_published_again) {
  dataplane_.fail_to_store("disk full");
  start(kTwoMembers);
  EXPECT_EQ(reconciler_->storage_problem(), "disk full");
}

TEST_F(ReconcilerTest, health_of_another_address_says_nothing) {
  configure("[{name: b1, address: 127.0.0.7}]", kNeverChecked);
  ASSERT_NE(reconciler_->reload().outcome, kRefused);
  reconciler_->note_health(kB1, *parse_address("127.0.0.1"), model::Health::kUp, "late");
  EXPECT_EQ(reconciler_->observed().health_of(kB1), model::Health::kUnknown);
  reconciler_->note_health(kB1, *parse_address("127.0.0.7"), model::Health::kUp, "in time");
  EXPECT_EQ(reconciler_->observed().health_of(kB1), model::Health::kUp);
}

TEST_F(ReconcilerTest, health_is_of_the_backend_at_its_own_address_wherever_it_is_checked) {
  configure("[{name: b1, address: 127.0.0.7, check: {address: 127.0.0.8}}]", kNeverChecked);
  ASSERT_NE(reconciler_->reload().outcome, kRefused);
  reconciler_->note_health(kB1, *parse_address("127.0.0.8"), model::Health::kUp, "of another backend");
  EXPECT_EQ(reconciler_->observed().health_of(kB1), model::Health::kUnknown);
  reconciler_->note_health(kB1, *parse_address("127.0.0.7"), model::Health::kUp, "of this one");
  EXPECT_EQ(reconciler_->observed().health_of(kB1), model::Health::kUp);
}

TEST_F(ReconcilerTest, a_request_that_loses_the_dataplane_tells_why) {
  dataplane_.hang_up();
  EXPECT_EQ(reconciler_->drain(kB1).outcome, kPending);
  EXPECT_THAT(reconciler_->link().state(), HasSubstr("closed by the dataplane"));
}

constexpr const char *kRegistering = "{type: none}\n    discovery: {type: registration}";
const model::BackendKey kB3{"web", "b3"};

FoundBackend third() {
  FoundBackend backend;
  backend.name = "b3";
  backend.address = *parse_address("127.0.0.3");
  backend.ttl = std::chrono::hours(1);
  return backend;
}

TEST_F(ReconcilerTest, a_found_backend_is_one_of_the_pools_and_outlives_a_reload) {
  start(kOneMember, kRegistering);
  EXPECT_EQ(reconciler_->put_registration("web", third()).outcome, kApplied);
  EXPECT_TRUE(is_configured(kB3));
  EXPECT_EQ(reconciler_->put_registration("web", third()).outcome, kUnchanged);
  EXPECT_EQ(reconciler_->drain(kB3).outcome, kApplied);
  configure(kTwoMembers, kRegistering);
  EXPECT_EQ(reconciler_->reload().outcome, kApplied);
  EXPECT_TRUE(is_configured(kB2));
  EXPECT_TRUE(is_configured(kB3));
  EXPECT_TRUE(is_drained(kB3));
  EXPECT_EQ(reconciler_->remove_registration("web", "b3").outcome, kApplied);
  EXPECT_FALSE(is_configured(kB3));
  // It may be back in a moment, and is to be found drained then.
  EXPECT_THAT(stored_orders(), HasSubstr("b3"));
  EXPECT_EQ(reconciler_->put_registration("web", third()).outcome, kApplied);
  EXPECT_TRUE(is_drained(kB3));
}

TEST_F(ReconcilerTest, found_backends_go_with_their_source) {
  start(kOneMember, kRegistering);
  ASSERT_EQ(reconciler_->put_registration("web", third()).outcome, kApplied);
  configure(kOneMember);
  EXPECT_EQ(reconciler_->reload().outcome, kApplied);
  EXPECT_FALSE(is_configured(kB3));
  EXPECT_EQ(reconciler_->put_registration("web", third()).outcome, kNotFound);
}

TEST_F(ReconcilerTest, a_restart_begins_with_what_was_found) {
  start(kOneMember, kRegistering);
  ASSERT_EQ(reconciler_->put_registration("web", third()).outcome, kApplied);
  start(kOneMember, kRegistering);
  EXPECT_TRUE(is_configured(kB3));
}

TEST_F(ReconcilerTest, found_backends_that_the_dataplane_refuses_are_tried_again) {
  start(kOneMember, kRegistering);
  reconciler_->tick();
  dataplane_.refuse("no room");
  EXPECT_EQ(reconciler_->put_registration("web", third()).outcome, kRefused);
  EXPECT_FALSE(is_configured(kB3));
  dataplane_.refuse("");
  reconciler_->note_found();
  EXPECT_TRUE(eventually_at_a_tick([this] { return is_configured(kB3); }));
}

TEST_F(ReconcilerTest, a_backend_found_while_the_dataplane_is_away_is_in_force_when_it_is_back) {
  start(kOneMember, kRegistering);
  lose_dataplane();
  EXPECT_EQ(reconciler_->put_registration("web", third()).outcome, kPending);
  EXPECT_TRUE(is_configured(kB3));
  get_dataplane_back();
  EXPECT_TRUE(eventually_at_a_tick([this] { return !reconciler_->pending(); }));
  EXPECT_TRUE(is_configured(kB3));
}

// What the last check of the only backend said, once one has ended.
class ReconcilerChecks : public ReconcilerTest {
 protected:
  // The kernel refuses a connection from loopback to elsewhere: no packet leaves.
  static constexpr const char *kMember = "[{name: b1, address: 10.0.0.2}]";
  static constexpr const char *kDirect =
      "{type: tcp, port: 80, source: [127.0.0.1], interval: 20ms, timeout: 20ms}";
  static constexpr const char *kThrough =
      "{type: tcp, port: 80, via: dataplane, source: [127.0.0.1], interval: 20ms, timeout: 20ms}";

  bool eventually_says(const std::string &begin) {
    const auto says = [&] { return report().checks > 0 && report().last_text.starts_with(begin); };
    return eventually_at_a_tick(says);
  }
  bool eventually_is_carried_out() {
    const auto is_carried_out = [this] {
      return report().checks > 0 && report().last_outcome == CheckOutcome::kFailure;
    };
    return eventually_at_a_tick(is_carried_out);
  }
  CheckReport report() const { return monitor_->reports().at(0); }
};

TEST_F(ReconcilerChecks, rest_while_a_dpdk_engine_is_away_and_go_on_after_it_is_back) {
  for (const char *health : {kDirect, kThrough}) {
    start(kMember, health);
    EXPECT_TRUE(eventually_is_carried_out()) << report().last_text;
    lose_dataplane();
    EXPECT_TRUE(eventually_says("not checked: the dataplane is away, and this host's ports with it"));
    get_dataplane_back();
    EXPECT_TRUE(eventually_is_carried_out()) << report().last_text;
  }
}

TEST_F(ReconcilerChecks, of_a_sluiced_that_starts_without_a_dpdk_engine_rest_too) {
  start(kMember, kDirect);
  lose_dataplane();
  restart();
  EXPECT_TRUE(eventually_says("not checked: the dataplane is away, and this host's ports with it"));
}

TEST_F(ReconcilerTest, a_pool_that_gets_a_source_serves_what_it_had_until_the_source_answers) {
  configure("[]", "{type: none}\n    discovery: {type: file, path: /nonexistent/web.yaml}");
  const api::ChangeResult reloaded = reconciler_->reload();
  EXPECT_EQ(reloaded.outcome, kApplied);
  EXPECT_EQ(reloaded.message, "in force; nothing changes for packets");
  EXPECT_TRUE(is_configured(kB1));
  EXPECT_TRUE(is_configured(kB2));
  ASSERT_EQ(reconciler_->sources().size(), 1u);
  EXPECT_THAT(reconciler_->sources()[0].text,
              HasSubstr("2 backends that the configuration had before are kept"));
}

constexpr const char *kTwoRegistering =
    "{type: none}\n    discovery: {type: registration}\n"
    "  - {name: other, slots: 251, backends: [], discovery: {type: registration}}";
const model::BackendKey kOther{"other", "b3"};

TEST_F(ReconcilerTest, one_pools_news_that_are_refused_keep_no_other_pools_from_being_used) {
  start(kOneMember, kTwoRegistering);
  FoundBackend bad = third();
  bad.name = "bad";
  bad.address = *parse_address("127.0.0.4");
  ASSERT_EQ(reconciler_->put_registration("web", third()).outcome, kApplied);
  dataplane_.refuse_backend("bad");
  const api::ChangeResult refused = reconciler_->put_registration("web", bad);
  EXPECT_EQ(refused.outcome, kRefused);
  EXPECT_THAT(refused.message, HasSubstr("no room for bad"));
  EXPECT_EQ(reconciler_->put_registration("other", third()).outcome, kApplied);
  EXPECT_TRUE(is_configured(kB3)) << "as before";
  EXPECT_TRUE(is_configured(kOther));
  EXPECT_FALSE(is_configured({"web", "bad"}));
  for (const SourceReport &report : reconciler_->sources()) {
    const bool is_bad = report.pool == "web";
    EXPECT_EQ(report.state == SourceState::kRefused, is_bad) << report.pool;
    EXPECT_EQ(report.text.find("cannot be used: the dataplane refused") != std::string::npos, is_bad);
    EXPECT_EQ(report.backends, 1u) << report.text;
  }
  EXPECT_EQ(reconciler_->reload().outcome, kUnchanged) << "nor a reload";
  dataplane_.refuse_backend("");
  EXPECT_TRUE(eventually_at_a_tick([&] { return is_configured({"web", "bad"}); }));
  EXPECT_EQ(reconciler_->sources()[1].state, SourceState::kOk) << reconciler_->sources()[1].text;
}

TEST_F(ReconcilerTest, news_that_were_refused_and_others_that_came_with_them_are_told_apart) {
  start(kOneMember, kTwoRegistering);
  dataplane_.refuse_backend("bad");
  FoundBackend bad = third();
  bad.name = "bad";
  discoverer_->put_registration("web", bad);
  discoverer_->put_registration("other", third());
  reconciler_->note_found();
  reconciler_->apply_pending();
  EXPECT_TRUE(is_configured(kOther));
  EXPECT_FALSE(is_configured({"web", "bad"}));
}

TEST_F(ReconcilerTest, a_restart_begins_with_what_was_used_and_not_with_what_was_refused) {
  start(kOneMember, kTwoRegistering);
  ASSERT_EQ(reconciler_->put_registration("web", third()).outcome, kApplied);
  dataplane_.refuse_backend("bad");
  FoundBackend bad = third();
  bad.name = "bad";
  bad.address = *parse_address("127.0.0.4");
  EXPECT_EQ(reconciler_->put_registration("web", bad).outcome, kRefused);
  discoverer_.reset();
  start(kOneMember, kTwoRegistering);
  EXPECT_TRUE(is_configured(kB3));
  EXPECT_FALSE(is_configured({"web", "bad"}));
}

TEST_F(ReconcilerTest, the_deadline_of_a_drain_counts_from_when_the_dataplane_has_it) {
  using std::chrono::seconds;
  lose_dataplane();
  EXPECT_EQ(reconciler_->drain(kB1, seconds(1)).outcome, kPending);
  EXPECT_THAT(stored_orders(), HasSubstr("pending"));
  const auto long_after = reconciler_->now().steady + seconds(2);
  ASSERT_TRUE(eventually_at_a_tick([&] { return reconciler_->now().steady > long_after; }));
  EXPECT_FALSE(reconciler_->observed().condition_of(kB1).drain->deadline_passed);
  const int64_t back_unix_s = reconciler_->now().unix_s;
  get_dataplane_back();
  EXPECT_GE(reconciler_->observed().order_of(kB1)->since_unix_s, back_unix_s);
  EXPECT_THAT(stored_orders(), Not(HasSubstr("pending")));
  const uint16_t id = reconciler_->latest_identifiers().backend_id(kB1).value();
  EXPECT_TRUE(eventually_at_a_tick(
      [&] { return reconciler_->in_force()->view().backends()[id].state == kBackendClosed; }));
}

TEST_F(ReconcilerTest, a_deadline_is_taken_away_from_a_drain_that_goes_on) {
  using std::chrono::seconds;
  ASSERT_EQ(reconciler_->drain(kB1, seconds(1000)).outcome, kApplied);
  const int64_t since = reconciler_->observed().order_of(kB1)->since_unix_s;
  EXPECT_EQ(reconciler_->drain(kB1, model::kNoDeadline).outcome, kApplied);
  EXPECT_FALSE(reconciler_->observed().condition_of(kB1).drain->ends.has_value());
  EXPECT_EQ(reconciler_->observed().order_of(kB1)->since_unix_s, since);
  EXPECT_EQ(reconciler_->drain(kB1, model::kNoDeadline).outcome, kUnchanged);
}

TEST_F(ReconcilerTest, a_backend_that_is_held_down_is_so_after_a_restart_though_it_is_well) {
  constexpr const char *kDamped =
      "{type: tcp, port: 9, interval: 1h, timeout: 1h}\n"
      "    flap_damping: {falls: 2, window: 1h, hold: 1h}";
  start(kTwoMembers, kDamped);
  const auto hear = [this](model::Health health) {
    reconciler_->note_health(kB1, *parse_address("127.0.0.1"), health, "so it is");
    reconciler_->apply_pending();
  };
  for (int i = 0; i < 2; i++) {
    hear(model::Health::kUp);
    hear(model::Health::kDown);
  }
  hear(model::Health::kUp);
  const auto until = reconciler_->observed().condition_of(kB1).held_until;
  ASSERT_TRUE(until.has_value());
  reconciler_->flush();
  start(kTwoMembers, kDamped);
  const model::BackendCondition &condition = reconciler_->observed().condition_of(kB1);
  ASSERT_TRUE(condition.held_until.has_value());
  EXPECT_LE(*condition.held_until, *until + std::chrono::seconds(2)) << "no longer than before";
  EXPECT_EQ(condition.health, model::Health::kUp);
  EXPECT_EQ(condition.held_for, 2u);
  const uint16_t id = reconciler_->latest_identifiers().backend_id(kB1).value();
  EXPECT_EQ(reconciler_->in_force()->view().backends()[id].state, kBackendDown);
  start("[{name: b1, address: 127.0.0.7}]", kDamped);
  EXPECT_FALSE(reconciler_->observed().condition_of(kB1).held_until.has_value()) << "another backend";
}

}  // namespace
}  // namespace sluice
