#include "controlplane/sluiced/carry_over.h"

#include <gtest/gtest.h>

#include "tests/server/snapshot_builder.h"

namespace sluice {
namespace {

using model::Health;
using model::HealthKind;

const model::BackendKey kB1{"web", "b1"};

// Pool "web" with backend b1 at `address`.
model::DesiredState one_backend(const std::string &address, HealthKind kind = model::TcpCheck{}) {
  model::DesiredState desired;
  model::Pool &pool = desired.pools.emplace_back();
  pool.name = "web";
  pool.health.kind = kind;
  pool.backends.push_back({.name = "b1", .address = parse_address(address), .weight = 100, .drain = false});
  return desired;
}

model::ObservedState with_health(Health health) {
  model::ObservedState observed;
  observed.backends[kB1].health = health;
  return observed;
}

class CarryOver : public testing::Test {
 protected:
  CarryOver() {
    builder_.add_backend("web", "b1", "10.0.0.1");
    const AlignedBytes bytes = builder_.build();
    bytes_.assign(bytes.begin(), bytes.end());
  }
  // Has b1 at 10.0.0.1, up.
  SnapshotView snapshot() const { return SnapshotView::open(bytes_).value(); }

  SnapshotBuilder builder_;
  SnapshotBytes bytes_;
};

TEST_F(CarryOver, keeps_health_at_the_same_address) {
  const auto state = one_backend("10.0.0.1");
  EXPECT_EQ(carry_over(state, with_health(Health::kDown), nullptr, state).health_of(kB1), Health::kDown);
}

TEST_F(CarryOver, what_checks_found_counts_more_than_what_is_forwarded) {
  const auto state = one_backend("10.0.0.1");
  const SnapshotView view = snapshot();
  EXPECT_EQ(carry_over(state, with_health(Health::kDown), &view, state).health_of(kB1), Health::kDown);
  EXPECT_EQ(carry_over(state, {}, &view, state).health_of(kB1), Health::kUp);
}

TEST_F(CarryOver, another_name_at_the_same_address_keeps_health_and_what_was_ordered) {
  const auto before = one_backend("10.0.0.1");
  model::ObservedState observed = with_health(Health::kUp);
  observed.backends[kB1].serving = true;
  observed.backends[kB1].drain = model::DrainProgress{};
  observed.orders[kB1].kind = model::OrderKind::kMaintenance;
  auto after = before;
  after.pools[0].backends[0].name = "b9";
  const auto carried = carry_over(before, observed, nullptr, after);
  EXPECT_EQ(carried.health_of({"web", "b9"}), Health::kUp);
  EXPECT_EQ(carried.orders,
            (std::map<model::BackendKey, model::OperatorOrder>{{{"web", "b9"}, observed.orders[kB1]}}));
  EXPECT_TRUE(carried.condition_of({"web", "b9"}).serving);
  EXPECT_FALSE(carried.condition_of({"web", "b9"}).drain.has_value());
  after.pools[0].backends[0].check_port = 81;
  EXPECT_EQ(carry_over(before, observed, nullptr, after).health_of({"web", "b9"}), Health::kUnknown)
      << "something else is asked";
}

TEST_F(CarryOver, another_address_is_another_backend) {
  const SnapshotView view = snapshot();
  const auto carried =
      carry_over(one_backend("10.0.0.1"), with_health(Health::kUp), &view, one_backend("10.0.0.2"));
  EXPECT_EQ(carried.health_of(kB1), Health::kUnknown);
}

TEST_F(CarryOver, health_is_forgotten_while_nobody_checks_it) {
  const auto checked = one_backend("10.0.0.1");
  const auto unchecked = one_backend("10.0.0.1", model::NoCheck{});
  const SnapshotView view = snapshot();
  const auto meanwhile = carry_over(checked, with_health(Health::kDown), &view, unchecked);
  EXPECT_EQ(meanwhile.health_of(kB1), Health::kUnknown);
  // Checked again, it is what was forwarded without checks: up.
  EXPECT_EQ(carry_over(unchecked, meanwhile, &view, checked).health_of(kB1), Health::kUp);
}

TEST_F(CarryOver, a_pool_that_was_not_checked_is_up_when_it_is_checked_now) {
  model::ObservedState observed;
  observed.backends[kB1].serving = true;
  const SnapshotView view = snapshot();
  const auto carried =
      carry_over(one_backend("10.0.0.1", model::NoCheck{}), observed, &view, one_backend("10.0.0.1"));
  EXPECT_EQ(carried.health_of(kB1), Health::kUp);
}

TEST_F(CarryOver, orders_go_with_their_backends) {
  model::ObservedState observed;
  observed.orders = {{kB1, {.kind = model::OrderKind::kMaintenance}}, {{"web", "gone"}, {}}};
  const auto carried = carry_over(one_backend("10.0.0.1"), observed, nullptr, one_backend("10.0.0.2"));
  ASSERT_EQ(carried.orders.size(), 1u);
  EXPECT_EQ(carried.orders.at(kB1).kind, model::OrderKind::kMaintenance);
}

TEST_F(CarryOver, nothing_is_recovered_of_what_is_in_maintenance) {
  model::ObservedState observed;
  observed.orders[kB1].kind = model::OrderKind::kMaintenance;
  const auto state = one_backend("10.0.0.1");
  const SnapshotView view = snapshot();  // has it up
  EXPECT_EQ(carry_over(state, observed, &view, state).health_of(kB1), Health::kUnknown);
}

TEST_F(CarryOver, a_drain_goes_on_from_when_it_began) {
  builder_.set_state(1, kBackendDraining);
  builder_.backend(1).out_since_unix_s = 1234;
  const AlignedBytes bytes = builder_.build();
  bytes_.assign(bytes.begin(), bytes.end());
  const SnapshotView view = snapshot();
  const auto state = one_backend("10.0.0.1");
  EXPECT_EQ(carry_over(state, {}, &view, state).condition_of(kB1).drained_since_unix_s, 1234);
}

TEST_F(CarryOver, a_slow_start_goes_on_where_it_was) {
  model::ObservedState observed = with_health(Health::kUp);
  observed.backends[kB1].serving = true;
  observed.backends[kB1].ramp_step = 7;
  const auto state = one_backend("10.0.0.1");
  EXPECT_EQ(carry_over(state, observed, nullptr, state).condition_of(kB1).ramp_step, 7);
  // A sluiced that starts knows it from the snapshot.
  builder_.backend(1).ramp_step = 9;
  const AlignedBytes bytes = builder_.build();
  bytes_.assign(bytes.begin(), bytes.end());
  const SnapshotView view = snapshot();
  const auto recovered = carry_over(state, {}, &view, state);
  EXPECT_EQ(recovered.condition_of(kB1).ramp_step, 9);
  EXPECT_TRUE(recovered.condition_of(kB1).serving);
}

TEST_F(CarryOver, a_service_stays_below_its_quorum_as_long_as_it_has_one) {
  model::DesiredState state = one_backend("10.0.0.1");
  state.services.push_back({.name = "web", .pool = "web", .quorum = model::Quorum{}});
  state.services.push_back({.name = "other", .pool = "web"});
  model::ObservedState observed;
  observed.backends[kB1].health = Health::kUp;
  observed.below_quorum = {"web", "other", "gone"};
  EXPECT_EQ(carry_over(state, observed, nullptr, state).below_quorum, std::set<std::string>{"web"});
}

TEST(CheckTargets, leave_out_what_is_in_maintenance) {
  const model::DesiredState desired = one_backend("10.0.0.1");
  model::ObservedState observed;
  observed.orders[kB1].kind = model::OrderKind::kDrain;
  EXPECT_EQ(check_targets(desired, observed, {}).size(), 1u);
  observed.orders[kB1].kind = model::OrderKind::kMaintenance;
  EXPECT_TRUE(check_targets(desired, observed, {}).empty());
}

TEST(CheckTargets, ask_the_backend_unless_it_says_where_else) {
  model::DesiredState desired = one_backend("10.0.0.1");
  desired.pools[0].health.port = 80;
  ASSERT_EQ(check_targets(desired, {}, {}).size(), 1u);
  EXPECT_EQ(check_targets(desired, {}, {})[0].spec.address,
            one_backend("10.0.0.1").pools[0].backends[0].address);
  EXPECT_EQ(check_targets(desired, {}, {})[0].spec.l4_port, 80);
  EXPECT_EQ(check_targets(desired, {}, {})[0].spec.backend, kB1);
  desired.pools[0].backends[0].check_address = one_backend("10.9.0.1").pools[0].backends[0].address;
  desired.pools[0].backends[0].check_port = 81;
  EXPECT_EQ(check_targets(desired, {}, {})[0].spec.address,
            one_backend("10.9.0.1").pools[0].backends[0].address);
  EXPECT_EQ(check_targets(desired, {}, {})[0].spec.l4_port, 81);
  EXPECT_EQ(check_targets(desired, {}, {})[0].address, desired.pools[0].backends[0].address);
}

TEST(CheckTargets, through_the_data_path_ask_the_vip_from_the_ports_that_the_dataplane_knows) {
  model::DesiredState desired = one_backend("10.0.0.1");
  model::Pool &pool = desired.pools[0];
  const Address source = parse_address(std::string("10.0.0.9"));
  const Address b1 = pool.backends[0].address;
  pool.health.vip = parse_address(std::string("198.51.100.1"));
  pool.health.source_ipv4 = source;
  const auto target_with = [&](const CheckPaths &paths) {
    const CheckTarget target = check_targets(desired, {}, paths).at(0);
    EXPECT_EQ(target.spec.address, *pool.health.vip);
    EXPECT_EQ(target.address, b1);
    return target;
  };
  const auto rests_with = [&](const CheckPaths &paths) { return target_with(paths).spec.rests; };
  const CheckTarget known = target_with({.flows = {{kB1, {source, b1, 16'388}}}});
  EXPECT_EQ(known.spec.first_source_port, 16'388);
  EXPECT_EQ(known.spec.rests, "");
  const std::string unknown = "the dataplane is away, or does not know this check yet";
  EXPECT_EQ(rests_with({}), unknown);
  EXPECT_EQ(rests_with({.flows = {{kB1, {source, source, 16'388}}}}), unknown);  // it had another address
  EXPECT_EQ(rests_with({.flows = {{kB1, {b1, b1, 16'388}}}}), unknown);  // it was checked from another
}

TEST(CheckTargets, all_rest_while_the_hosts_ports_are_away) {
  const model::DesiredState desired = one_backend("10.0.0.1");
  EXPECT_EQ(check_targets(desired, {}, {}).at(0).spec.rests, "");
  EXPECT_EQ(check_targets(desired, {}, {.ports_away = true}).at(0).spec.rests,
            "the dataplane is away, and this host's ports with it");
}

}  // namespace
}  // namespace sluice
