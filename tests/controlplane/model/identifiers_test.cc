#include "controlplane/model/identifiers.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "controlplane/compile/compiler.h"

namespace sluice::model {
namespace {

using namespace std::chrono_literals;

Address address(const std::string &text) { return parse_address(text).value(); }

BackendSpec backend(const std::string &name, const std::string &where) {
  return {.name = name, .address = address(where), .weight = 100, .drain = false};
}

Service service(const std::string &name, const std::string &vip) {
  return {.name = name,
          .vips = {address(vip)},
          .protocol = Protocol::kTcp,
          .ports = {{80, 80}},
          .pool = "p",
          .scheduler = Scheduler::kMaglev,
          .timeouts = {}};
}

// Pool "p" with these backends, grace 100 s.
DesiredState with_backends(std::vector<BackendSpec> backends) {
  DesiredState desired;
  desired.removed_backend_grace = 100s;
  desired.pools.push_back({.name = "p", .slots = 101, .backends = std::move(backends)});
  return desired;
}

void assign(Identifiers *identifiers, const DesiredState &desired, uint64_t now_unix_s = 0) {
  const Status status = identifiers->assign(desired, now_unix_s);
  ASSERT_TRUE(status.ok()) << status.error().message;
}

uint32_t backend_id(const Identifiers &identifiers, const std::string &name) {
  return identifiers.backend_id({"p", name}).value_or(0);
}

TEST(Identifiers, new_backends_get_the_lowest_free_ones_from_1) {
  Identifiers identifiers;
  assign(&identifiers, with_backends({backend("a", "10.0.0.1"), backend("b", "10.0.0.2")}));
  EXPECT_EQ(backend_id(identifiers, "a"), 1u);
  EXPECT_EQ(backend_id(identifiers, "b"), 2u);
  EXPECT_FALSE(identifiers.backend_id({"q", "a"}));
}

TEST(Identifiers, do_not_depend_on_the_order_once_assigned) {
  Identifiers identifiers;
  assign(&identifiers, with_backends({backend("a", "10.0.0.1"), backend("b", "10.0.0.2")}));
  assign(&identifiers,
         with_backends({backend("c", "10.0.0.3"), backend("b", "10.0.0.2"), backend("a", "10.0.0.1")}));
  EXPECT_EQ(backend_id(identifiers, "a"), 1u);
  EXPECT_EQ(backend_id(identifiers, "b"), 2u);
  EXPECT_EQ(backend_id(identifiers, "c"), 3u);
}

TEST(Identifiers, removed_backend_keeps_its_identifier_for_the_grace_time) {
  Identifiers identifiers;
  assign(&identifiers, with_backends({backend("a", "10.0.0.1"), backend("b", "10.0.0.2")}), 1000);
  assign(&identifiers, with_backends({backend("b", "10.0.0.2")}), 1010);
  ASSERT_EQ(identifiers.removed_backends().size(), 1u);
  const RemovedBackend &removed = identifiers.removed_backends().at(1);
  EXPECT_EQ(removed.key, (BackendKey{"p", "a"}));
  EXPECT_EQ(removed.address, address("10.0.0.1"));
  EXPECT_EQ(removed.removed_unix_s, 1010u);
  EXPECT_EQ(backend_id(identifiers, "a"), 0u);

  assign(&identifiers, with_backends({backend("b", "10.0.0.2"), backend("c", "10.0.0.3")}), 1109);
  EXPECT_EQ(backend_id(identifiers, "c"), 3u);
  EXPECT_EQ(identifiers.removed_backends().size(), 1u);

  assign(&identifiers,
         with_backends({backend("b", "10.0.0.2"), backend("c", "10.0.0.3"), backend("d", "10.0.0.4")}), 1110);
  EXPECT_TRUE(identifiers.removed_backends().empty());
  EXPECT_EQ(backend_id(identifiers, "d"), 4u);  // 1 is free, but workers may still have entries that name it
}

TEST(Identifiers, freed_identifier_rests_before_another_backend_gets_it) {
  Identifiers identifiers;
  assign(&identifiers, with_backends({backend("a", "10.0.0.1"), backend("b", "10.0.0.2")}), 1000);
  assign(&identifiers, with_backends({backend("b", "10.0.0.2")}), 1000);
  assign(&identifiers, with_backends({backend("b", "10.0.0.2")}), 1100);  // the grace time is over
  assign(&identifiers, with_backends({backend("b", "10.0.0.2"), backend("c", "10.0.0.3")}), 1399);
  EXPECT_EQ(backend_id(identifiers, "c"), 3u);
  assign(&identifiers,
         with_backends({backend("b", "10.0.0.2"), backend("c", "10.0.0.3"), backend("d", "10.0.0.4")}), 1400);
  EXPECT_EQ(backend_id(identifiers, "d"), 1u);
}

TEST(Identifiers, backend_that_comes_back_gets_its_own_identifier_back) {
  Identifiers identifiers;
  assign(&identifiers, with_backends({backend("a", "10.0.0.1"), backend("b", "10.0.0.2")}));
  assign(&identifiers, with_backends({backend("b", "10.0.0.2")}));
  assign(&identifiers,
         with_backends({backend("new", "10.0.0.9"), backend("b", "10.0.0.2"), backend("a", "10.0.0.1")}));
  EXPECT_EQ(backend_id(identifiers, "a"), 1u);
  EXPECT_EQ(backend_id(identifiers, "new"), 3u);
  EXPECT_TRUE(identifiers.removed_backends().empty());
}

TEST(Identifiers, backend_with_another_address_is_another_backend) {
  Identifiers identifiers;
  assign(&identifiers, with_backends({backend("a", "10.0.0.1")}));
  assign(&identifiers, with_backends({backend("a", "10.0.0.2")}));
  EXPECT_EQ(backend_id(identifiers, "a"), 2u);
  ASSERT_EQ(identifiers.removed_backends().count(1), 1u);
  EXPECT_EQ(identifiers.removed_backends().at(1).address, address("10.0.0.1"));

  // Back to the first address: the first identifier, and the second is the removed one.
  assign(&identifiers, with_backends({backend("a", "10.0.0.1")}));
  EXPECT_EQ(backend_id(identifiers, "a"), 1u);
  EXPECT_EQ(identifiers.removed_backends().count(2), 1u);
}

TEST(Identifiers, same_name_in_two_pools_is_two_backends) {
  DesiredState desired = with_backends({backend("a", "10.0.0.1")});
  desired.pools.push_back({.name = "q", .slots = 101, .backends = {backend("a", "10.0.0.1")}});
  Identifiers identifiers;
  assign(&identifiers, desired);
  EXPECT_EQ(identifiers.backend_id({"p", "a"}), 1);
  EXPECT_EQ(identifiers.backend_id({"q", "a"}), 2);
}

TEST(Identifiers, clock_set_back_does_not_keep_a_removed_backend_for_ever) {
  Identifiers identifiers;
  assign(&identifiers, with_backends({backend("a", "10.0.0.1")}), 1'000'000);
  assign(&identifiers, with_backends({}), 1'000'000);
  assign(&identifiers, with_backends({}), 500);
  EXPECT_EQ(identifiers.removed_backends().size(), 1u);
  assign(&identifiers, with_backends({}), 600);
  EXPECT_TRUE(identifiers.removed_backends().empty());
}

std::vector<BackendSpec> many_backends(uint32_t first, uint32_t count) {
  std::vector<BackendSpec> backends;
  for (uint32_t i = first; i < first + count; ++i) {
    backends.push_back(
        {.name = "b" + std::to_string(i), .address = address_from_ipv4(host_to_be32(0x0a000000 + i))});
  }
  return backends;
}

TEST(Identifiers, shortage_frees_the_longest_removed_first) {
  Identifiers identifiers;
  auto backends = many_backends(0, 65535);
  assign(&identifiers, with_backends(backends), 10);
  EXPECT_EQ(backend_id(identifiers, "b65534"), 65535u);
  const auto without = [&](std::initializer_list<size_t> gone) {
    auto rest = backends;
    for (const size_t index : gone) rest[index].name.clear();
    std::erase_if(rest, [](const BackendSpec &spec) { return spec.name.empty(); });
    return rest;
  };
  assign(&identifiers, with_backends(without({7})), 20);
  assign(&identifiers, with_backends(without({7, 3})), 30);
  auto replaced = without({7, 3});
  replaced.push_back(backend("new", "192.0.2.1"));
  assign(&identifiers, with_backends(replaced), 40);
  EXPECT_EQ(backend_id(identifiers, "new"), 8u);
  EXPECT_EQ(identifiers.removed_backends().count(4), 1u);
  replaced.push_back(backend("newer", "192.0.2.2"));
  assign(&identifiers, with_backends(replaced), 40);
  EXPECT_EQ(backend_id(identifiers, "newer"), 4u);
}

TEST(Identifiers, too_many_backends_change_nothing) {
  Identifiers identifiers;
  assign(&identifiers, with_backends({backend("a", "192.0.2.1")}));
  const Status status = identifiers.assign(with_backends(many_backends(0, 65536)), 0);
  ASSERT_FALSE(status.ok());
  EXPECT_THAT(status.error().message, testing::StartsWith("pools: 65536 backends are more than the 65535"));
  EXPECT_EQ(backend_id(identifiers, "a"), 1u);
  EXPECT_TRUE(identifiers.removed_backends().empty());
}

TEST(Identifiers, services_keep_theirs_and_leave_them_to_others_when_they_go) {
  DesiredState desired = with_backends({});
  desired.services = {service("a", "192.0.2.1"), service("b", "192.0.2.2")};
  Identifiers identifiers;
  assign(&identifiers, desired);
  EXPECT_EQ(identifiers.service_id("a"), 0u);
  EXPECT_EQ(identifiers.service_id("b"), 1u);
  desired.services = {service("c", "192.0.2.3"), service("b", "192.0.2.2")};
  assign(&identifiers, desired);
  EXPECT_EQ(identifiers.service_id("b"), 1u);
  EXPECT_EQ(identifiers.service_id("c"), 0u);
  EXPECT_FALSE(identifiers.service_id("a"));
}

TEST(Identifiers, vip_numbers_are_never_given_twice) {
  DesiredState desired = with_backends({});
  desired.services = {service("a", "192.0.2.1"), service("b", "192.0.2.2"), service("c", "192.0.2.1")};
  Identifiers identifiers;
  assign(&identifiers, desired);
  EXPECT_EQ(identifiers.vip_number(address("192.0.2.1")), 1u);
  EXPECT_EQ(identifiers.vip_number(address("192.0.2.2")), 2u);
  const auto first = desired.services;
  desired.services = {service("b", "192.0.2.2")};
  assign(&identifiers, desired);
  EXPECT_FALSE(identifiers.vip_number(address("192.0.2.1")));
  desired.services = first;
  assign(&identifiers, desired);
  EXPECT_EQ(identifiers.vip_number(address("192.0.2.1")), 3u);
  EXPECT_EQ(identifiers.vip_number(address("192.0.2.2")), 2u);
  EXPECT_EQ(identifiers.next_vip_number(), 4u);
}

SnapshotBytes compiled(const DesiredState &desired, const ObservedState &observed,
                       const Identifiers &identifiers, uint64_t created_unix_s = 0) {
  Compiler compiler;
  auto snapshot = compiler.compile({.desired = desired,
                                    .observed = observed,
                                    .identifiers = identifiers,
                                    .revision = 1,
                                    .created_unix_ns = created_unix_s * 1'000'000'000});
  EXPECT_TRUE(snapshot.ok()) << snapshot.error().message;
  return std::move(snapshot).value().bytes;
}

// The same, checked through the data path from this source.
DesiredState checked_from(const std::string &source, std::vector<BackendSpec> backends) {
  DesiredState desired = with_backends(std::move(backends));
  desired.pools[0].health.vip = address("192.0.2.1");
  desired.pools[0].health.source_ipv4 = address(source);
  return desired;
}

TEST(Identifiers, pins_stay_while_other_backends_come_and_go) {
  using Pins = std::vector<uint16_t>;
  const auto a = backend("a", "10.0.0.1");
  const auto b = backend("b", "10.0.0.2");
  const auto c = backend("c", "10.0.0.3");
  const Address source = address("10.0.0.9");
  Identifiers identifiers;
  assign(&identifiers, checked_from("10.0.0.9", {a, b, c}));
  EXPECT_EQ(identifiers.check_pins().at(source), (Pins{1, 2, 3}));
  assign(&identifiers, checked_from("10.0.0.9", {c}));
  EXPECT_EQ(identifiers.check_pins().at(source), (Pins{0, 0, 3}));

  const SnapshotBytes bytes = compiled(checked_from("10.0.0.9", {c}), {}, identifiers);
  Identifiers recovered = Identifiers::recover(SnapshotView::open(bytes).value());
  EXPECT_EQ(recovered.check_pins(), identifiers.check_pins());
  assign(&recovered, checked_from("10.0.0.9", {backend("d", "10.0.0.4"), c, b}));
  EXPECT_EQ(recovered.check_pins().at(source), (Pins{4, 2, 3}));
  const CheckFlows flows = check_flows_of(SnapshotView::open(bytes).value());
  EXPECT_EQ(flows, (CheckFlows{{{"p", "c"}, {source, c.address, kFirstCheckPort + 2 * kCheckPortsPerPin}}}));

  assign(&recovered, checked_from("10.0.0.8", {c}));
  // Late packets of the checks of before are still known for what they are.
  EXPECT_EQ(recovered.check_pins(), (CheckPins{{address("10.0.0.8"), {3}}, {source, {}}}));
  assign(&recovered, with_backends({c}));
  EXPECT_EQ(recovered.check_pins(), (CheckPins{{address("10.0.0.8"), {}}, {source, {}}}));
  assign(&recovered, with_backends({c}), 299);
  EXPECT_EQ(recovered.check_pins().size(), 2u);
  assign(&recovered, with_backends({c}), 300);  // as long as an identifier rests
  EXPECT_TRUE(recovered.check_pins().empty());
  for (int i = 10; i < 25; i++) assign(&recovered, checked_from("10.0.1." + std::to_string(i), {c}));
  assign(&recovered, checked_from("10.0.1.99", {c}));
  EXPECT_EQ(recovered.check_pins().size(), 16u);
  EXPECT_EQ(recovered.check_pins().at(address("10.0.1.99")), Pins{3});
}

TEST(Identifiers, more_checks_than_a_source_has_ports_are_refused) {
  std::vector<BackendSpec> backends;
  for (int i = 0; i < 4097; i++)
    backends.push_back(
        backend("b" + std::to_string(i), "10.0." + std::to_string(i / 256) + "." + std::to_string(i % 256)));
  Identifiers identifiers;
  const Status refused = identifiers.assign(checked_from("10.9.0.9", backends), 0);
  ASSERT_FALSE(refused.ok());
  EXPECT_THAT(
      refused.error().message,
      testing::HasSubstr("4097 backends are checked through the data path from 10.9.0.9; allowed: 4096"));
  EXPECT_FALSE(identifiers.backend_id({"p", "b0"}));
  backends.pop_back();
  assign(&identifiers, checked_from("10.9.0.9", backends));
  EXPECT_EQ(identifiers.check_pins().at(address("10.9.0.9")).size(), 4096u);
}

TEST(Identifiers, recovered_from_a_snapshot_go_on_as_if_nothing_happened) {
  DesiredState desired =
      with_backends({backend("a", "10.0.0.1"), backend("b", "10.0.0.2"), backend("c", "10.0.0.3")});
  desired.services = {service("x", "192.0.2.1"), service("y", "2001:db8::1"), service("z", "192.0.2.3")};
  desired.services[0].timeouts.established = 5000s;
  Identifiers before;
  assign(&before, desired, 50);
  desired.services.erase(desired.services.begin());
  desired.pools[0].backends.erase(desired.pools[0].backends.begin());
  assign(&before, desired, 60);

  const SnapshotBytes bytes = compiled(desired, {}, before);
  const auto view = SnapshotView::open(bytes);
  ASSERT_TRUE(view.ok()) << view.error().message;
  Identifiers after = Identifiers::recover(view.value());
  assign(&after, desired, 70);

  EXPECT_EQ(after.service_id("y"), 1u);
  EXPECT_EQ(after.service_id("z"), 2u);
  EXPECT_EQ(backend_id(after, "b"), 2u);
  EXPECT_EQ(backend_id(after, "c"), 3u);
  EXPECT_EQ(after.vip_number(address("2001:db8::1")), 2u);
  EXPECT_EQ(after.next_vip_number(), 4u);
  ASSERT_EQ(after.removed_backends().count(1), 1u);
  EXPECT_EQ(after.removed_backends().at(1).removed_unix_s, 60u);
  EXPECT_EQ(after.removed_backends().at(1).timeouts.established, 5000s);
  EXPECT_EQ(compiled(desired, {}, after), bytes);
}

// Backend "b" has identifier 3, the highest, until it is freed at 1100 s.
class FreedHighestIdentifier : public testing::Test {
 protected:
  FreedHighestIdentifier() {
    assign(&identifiers_, with_backends({kept_[0], kept_[1], backend("b", "10.0.0.3")}), 1000);
    assign(&identifiers_, with_backends(kept_), 1000);
    assign(&identifiers_, with_backends(kept_), 1100);  // the grace time is over
    without_it_ = compiled(with_backends(kept_), {}, identifiers_, 1100);
  }

  // Which identifier a new backend gets.
  uint32_t given_to_a_new_one(Identifiers *identifiers, uint64_t now_unix_s) {
    assign(identifiers, with_backends({kept_[0], kept_[1], backend("new", "10.0.0.9")}), now_unix_s);
    return backend_id(*identifiers, "new");
  }

  const std::vector<BackendSpec> kept_ = {backend("a", "10.0.0.1"), backend("c", "10.0.0.2")};
  Identifiers identifiers_;
  SnapshotBytes without_it_;
};

TEST_F(FreedHighestIdentifier, rests_after_a_restart_too) {
  const Identifiers recovered = Identifiers::recover(SnapshotView::open(without_it_).value());
  Identifiers early = recovered;
  EXPECT_EQ(given_to_a_new_one(&early, 1399), 4u);
  Identifiers late = recovered;
  EXPECT_EQ(given_to_a_new_one(&late, 1400), 3u);
}

TEST_F(FreedHighestIdentifier, is_known_after_two_restarts_in_a_row) {
  Identifiers recovered = Identifiers::recover(SnapshotView::open(without_it_).value());
  assign(&recovered, with_backends(kept_), 1101);
  const SnapshotBytes again = compiled(with_backends(kept_), {}, recovered, 1100);
  EXPECT_EQ(again, without_it_);
  Identifiers twice = Identifiers::recover(SnapshotView::open(again).value());
  EXPECT_EQ(given_to_a_new_one(&twice, 1102), 4u);
}

TEST_F(FreedHighestIdentifier, rests_as_long_as_was_known_before_a_reconnection) {
  const SnapshotBytes bytes = compiled(with_backends(kept_), {}, identifiers_, 900);  // by a clock set back
  Identifiers recovered = Identifiers::recover(SnapshotView::open(bytes).value());
  recovered.keep_memory_of(identifiers_);
  EXPECT_EQ(given_to_a_new_one(&recovered, 1399), 4u);
  Identifiers fresh;
  fresh.keep_memory_of(identifiers_);
  EXPECT_EQ(fresh.next_backend_id(), 4u);
  EXPECT_EQ(fresh.next_vip_number(), identifiers_.next_vip_number());
}

TEST(Identifiers, recovered_remember_the_number_of_a_vip_that_is_gone) {
  DesiredState desired = with_backends({});
  desired.services = {service("x", "192.0.2.1"), service("y", "192.0.2.2")};
  Identifiers before;
  assign(&before, desired);
  desired.services.pop_back();
  assign(&before, desired);
  const SnapshotBytes bytes = compiled(desired, {}, before);
  Identifiers after = Identifiers::recover(SnapshotView::open(bytes).value());
  desired.services.push_back(service("z", "192.0.2.3"));
  assign(&after, desired);
  EXPECT_EQ(after.vip_number(address("192.0.2.3")), 3u);
}

TEST(Identifiers, follow_a_clock_that_was_set) {
  Identifiers identifiers;
  DesiredState desired = with_backends({backend("a", "10.0.0.1")});
  desired.removed_backend_grace = std::chrono::seconds(100);
  ASSERT_TRUE(identifiers.assign(desired, 1000).ok());
  ASSERT_TRUE(identifiers.assign(with_backends({}), 1000).ok());
  identifiers.follow_clock(36'000);
  DesiredState empty = with_backends({});
  empty.removed_backend_grace = std::chrono::seconds(100);
  ASSERT_TRUE(identifiers.assign(empty, 37'050).ok());
  EXPECT_EQ(identifiers.removed_backends().size(), 1u);
  ASSERT_TRUE(identifiers.assign(empty, 37'100).ok());
  EXPECT_TRUE(identifiers.removed_backends().empty());
}

TEST(Identifiers, given_up_is_free_at_once_but_rests) {
  Identifiers identifiers;
  const DesiredState desired = with_backends({backend("a", "10.0.0.1")});
  ASSERT_TRUE(identifiers.assign(desired, 1000).ok());
  identifiers.give_up({"p", "a"}, 1000);
  ASSERT_TRUE(identifiers.assign(with_backends({backend("b", "10.0.0.2")}), 1001).ok());
  EXPECT_TRUE(identifiers.removed_backends().empty());
  EXPECT_EQ(identifiers.backend_id({"p", "b"}), 2);
}

TEST(ObservedState, recovered_from_a_snapshot_is_the_health_that_was_published) {
  DesiredState desired =
      with_backends({backend("up", "10.0.0.1"), backend("down", "10.0.0.2"), backend("drained", "10.0.0.3")});
  desired.pools[0].health.kind = TcpCheck{};
  desired.pools[0].backends[2].drain = true;
  ObservedState observed;
  for (const char *name : {"up", "drained"}) observed.backends[{"p", name}].health = Health::kUp;
  observed.backends[{"p", "down"}].health = Health::kDown;
  observed.backends[{"p", "up"}].ramp_step = 5;
  Identifiers identifiers;
  assign(&identifiers, desired);
  const SnapshotBytes bytes = compiled(desired, observed, identifiers);
  const ObservedState recovered = recover_observed_state(SnapshotView::open(bytes).value());
  EXPECT_EQ(recovered.health_of({"p", "up"}), Health::kUp);
  EXPECT_EQ(recovered.condition_of({"p", "up"}).ramp_step, 5);
  EXPECT_TRUE(recovered.condition_of({"p", "up"}).serving);
  EXPECT_EQ(recovered.health_of({"p", "down"}), Health::kDown);
  EXPECT_EQ(recovered.health_of({"p", "drained"}), Health::kUnknown);
  EXPECT_EQ(compiled(desired, recovered, identifiers), bytes);
}

TEST(ObservedState, backend_that_is_up_only_by_fail_open_is_recovered_as_down) {
  DesiredState desired = with_backends({backend("a", "10.0.0.1")});
  desired.pools[0].health.kind = TcpCheck{};
  desired.pools[0].fail_open = true;
  ObservedState observed;
  observed.backends[{"p", "a"}].health = Health::kDown;
  Identifiers identifiers;
  assign(&identifiers, desired);
  const SnapshotBytes bytes = compiled(desired, observed, identifiers);
  const auto view = SnapshotView::open(bytes).value();
  EXPECT_EQ(view.backends()[1].state, kBackendUp);
  EXPECT_EQ(recover_observed_state(view).health_of({"p", "a"}), Health::kDown);
}

}  // namespace
}  // namespace sluice::model
