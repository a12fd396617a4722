#include "controlplane/compile/compiler.h"

#include <algorithm>
#include <array>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <random>
#include <set>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "dataplane/server/snapshot_check.h"

namespace sluice {
namespace {

using namespace std::chrono_literals;
using model::Health;
using testing::HasSubstr;
using enum SnapshotView::Transport;

Address address(const std::string &text) { return parse_address(text).value(); }

model::BackendSpec backend(const std::string &name, const std::string &where, uint16_t weight = 100) {
  return {.name = name, .address = address(where), .weight = weight, .drain = weight == 0};
}

model::Service service(const std::string &name, const std::string &vip, std::vector<model::PortSpan> ports) {
  return {.name = name,
          .vips = {address(vip)},
          .protocol = model::Protocol::kTcp,
          .ports = std::move(ports),
          .pool = "p",
          .scheduler = model::Scheduler::kMaglev,
          .timeouts = {}};
}

// A state of one pool "p" of two backends without health checks, and one service.
model::DesiredState small_state() {
  model::DesiredState desired;
  desired.services = {service("web", "192.0.2.1", {{80, 80}})};
  desired.pools.push_back(
      {.name = "p", .slots = 101, .backends = {backend("a", "10.0.0.1"), backend("b", "10.0.0.2")}});
  return desired;
}

// Compiles as sluiced does, and has the dataplane's own check look at every snapshot.
class Compilation {
 public:
  Compilation(const model::DesiredState &desired, const model::ObservedState &observed = {}) {
    const Status assigned = identifiers.assign(desired, 1000);
    EXPECT_TRUE(assigned.ok()) << assigned.error().message;
    run(desired, observed);
  }

  void run(const model::DesiredState &desired, const model::ObservedState &observed = {}) {
    auto snapshot = compiler.compile(input(desired, observed));
    ASSERT_TRUE(snapshot.ok()) << snapshot.error().message;
    bytes = std::move(snapshot.value().bytes);
    cost = snapshot.value().cost;
    view = SnapshotView::open(bytes).value();
    const Status checked = dataplane_check(bytes);
    EXPECT_TRUE(checked.ok()) << checked.error().message;
  }

  CompileInput input(const model::DesiredState &desired, const model::ObservedState &observed) const {
    return {.desired = desired,
            .observed = observed,
            .identifiers = identifiers,
            .flow_hash_key = {{1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12}},
            .revision = 5,
            .created_unix_ns = 6};
  }

  const Backend &record(const std::string &name) const {
    return view.backends()[identifiers.backend_id({"p", name}).value()];
  }

  // Name of the service that takes the packet, "" if none.
  std::string lookup(const std::string &vip, SnapshotView::Transport transport, uint16_t l4_port) const {
    const Vip *found = view.find_vip(address(vip));
    if (found == nullptr) return "";
    const auto id = view.find_service(*found, transport, l4_port);
    return id ? std::string(view.text(view.services()[*id].name)) : "";
  }

  std::set<std::string> backends_in_slots(const std::string &service_name) const {
    std::set<std::string> names;
    const Service &record = view.services()[identifiers.service_id(service_name).value()];
    for (const uint16_t id : view.slots_of(record))
      names.insert(std::string(view.text(view.backends()[id].name)));
    return names;
  }

  model::Identifiers identifiers;
  Compiler compiler;
  SnapshotBytes bytes;
  CompileCost cost;
  SnapshotView view;

 private:
  // The dataplane maps snapshots at pages; its check wants them at cache lines.
  static Status dataplane_check(const SnapshotBytes &snapshot) {
    const std::unique_ptr<std::byte, decltype(&std::free)> aligned(
        static_cast<std::byte *>(std::aligned_alloc(64, (snapshot.size() + 63) / 64 * 64)), &std::free);
    std::memcpy(aligned.get(), snapshot.data(), snapshot.size());
    return check_snapshot({aligned.get(), snapshot.size()});
  }
};

TEST(Compiler, header_says_what_the_input_said) {
  const Compilation compiled(small_state());
  const SnapshotHeader &header = compiled.view.header();
  EXPECT_EQ(header.revision, 5u);
  EXPECT_EQ(header.created_unix_ns, 6u);
  EXPECT_EQ(header.next_vip_number, 2u);
  EXPECT_EQ(header.next_backend_identifier, compiled.view.backends().size());
  EXPECT_EQ(header.flow_hash_key.word[11], 12u);
}

TEST(Compiler, backends_checked_through_the_data_path_have_pins_by_source) {
  auto desired = small_state();
  desired.pools.push_back({.name = "q", .slots = 101, .backends = {backend("c", "10.0.0.3")}});
  desired.pools.push_back({.name = "r", .slots = 101, .backends = {backend("d", "10.0.0.4")}});
  for (const size_t pool : {size_t{0}, size_t{2}}) {
    desired.pools[pool].health.vip = address("192.0.2.1");
    desired.pools[pool].health.source_ipv4 = address("10.0.0.9");
  }
  const Compilation compiled(desired);
  const SnapshotHeader &header = compiled.view.header();
  ASSERT_EQ(header.check_sources.count, 1u);
  CheckSource source{};
  std::memcpy(&source, compiled.bytes.data() + header.check_sources.offset, sizeof(source));
  EXPECT_EQ(source.address, address("10.0.0.9"));
  ASSERT_EQ(source.pin_count, 3u);
  std::array<uint16_t, 3> pins{};
  std::memcpy(pins.data(), compiled.bytes.data() + header.pins.offset + 2 * source.first_pin, sizeof(pins));
  const auto id = [&](const char *pool, const char *name) {
    return compiled.identifiers.backend_id({pool, name}).value();
  };
  EXPECT_EQ(pins, (std::array<uint16_t, 3>{id("p", "a"), id("p", "b"), id("r", "d")}));
}

TEST(Compiler, empty_state_makes_a_snapshot_without_services) {
  const Compilation compiled((model::DesiredState()));
  EXPECT_EQ(compiled.view.services().size(), 0u);
  EXPECT_EQ(compiled.view.find_vip(address("192.0.2.1")), nullptr);
}

TEST(Compiler, lookup_finds_exact_port_before_range_before_all) {
  auto desired = small_state();
  desired.services = {service("all", "192.0.2.1", {{}}), service("range", "192.0.2.1", {{8000, 8999}}),
                      service("exact", "192.0.2.1", {{80, 80}, {8080, 8080}}),
                      service("other", "2001:db8::1", {{80, 80}})};
  const Compilation compiled(desired);
  EXPECT_EQ(compiled.lookup("192.0.2.1", kTcp, 80), "exact");
  EXPECT_EQ(compiled.lookup("192.0.2.1", kTcp, 8080), "exact");
  EXPECT_EQ(compiled.lookup("192.0.2.1", kTcp, 8000), "range");
  EXPECT_EQ(compiled.lookup("192.0.2.1", kTcp, 8999), "range");
  EXPECT_EQ(compiled.lookup("192.0.2.1", kTcp, 9000), "all");
  EXPECT_EQ(compiled.lookup("192.0.2.1", kTcp, 0), "all");
  EXPECT_EQ(compiled.lookup("192.0.2.1", kTcp, 65535), "all");
  EXPECT_EQ(compiled.lookup("192.0.2.1", kUdp, 80), "");
  EXPECT_EQ(compiled.lookup("2001:db8::1", kTcp, 80), "other");
  EXPECT_EQ(compiled.lookup("2001:db8::1", kTcp, 81), "");
  EXPECT_EQ(compiled.lookup("192.0.2.2", kTcp, 80), "");
}

TEST(Compiler, protocols_of_one_vip_are_apart) {
  auto desired = small_state();
  desired.services.push_back(service("dns", "192.0.2.1", {{53, 53}, {80, 80}}));
  desired.services[1].protocol = model::Protocol::kUdp;
  const Compilation compiled(desired);
  EXPECT_EQ(compiled.lookup("192.0.2.1", kTcp, 80), "web");
  EXPECT_EQ(compiled.lookup("192.0.2.1", kUdp, 80), "dns");
  EXPECT_EQ(compiled.lookup("192.0.2.1", kTcp, 53), "");
}

TEST(Compiler, service_record_carries_timeouts_scheduler_and_slots) {
  auto desired = small_state();
  desired.services[0].timeouts = {.embryonic = 1s, .established = 7260s, .closing = 3s, .udp = 4s};
  desired.services[0].scheduler = model::Scheduler::kLeastConnection;
  const Compilation compiled(desired);
  const Service &record = compiled.view.services()[0];
  EXPECT_EQ(record.embryonic_timeout_s, 1);
  EXPECT_EQ(record.established_timeout_s, 7260);
  EXPECT_EQ(record.closing_timeout_s, 3);
  EXPECT_EQ(record.udp_timeout_s, 4);
  EXPECT_EQ(record.scheduler, kSchedulerLeastConnection);
  EXPECT_EQ(record.slot_count, 101u);
}

TEST(Compiler, services_of_one_pool_share_its_slots) {
  auto desired = small_state();
  desired.services.push_back(service("more", "192.0.2.2", {{80, 80}}));
  const Compilation compiled(desired);
  EXPECT_EQ(compiled.view.slots().size(), 101u);
  EXPECT_EQ(compiled.view.services()[0].first_slot, compiled.view.services()[1].first_slot);
}

TEST(Compiler, backend_record_carries_the_longest_timeouts_of_its_pools_services) {
  auto desired = small_state();
  desired.services.push_back(service("more", "192.0.2.2", {{80, 80}}));
  desired.services[0].timeouts = {.embryonic = 5s, .established = 100s, .closing = 5s, .udp = 60s};
  desired.services[1].timeouts = {.embryonic = 3s, .established = 200s, .closing = 9s, .udp = 30s};
  const Compilation compiled(desired);
  const Backend &record = compiled.record("a");
  EXPECT_EQ(record.embryonic_timeout_s, 5);
  EXPECT_EQ(record.established_timeout_s, 200);
  EXPECT_EQ(record.closing_timeout_s, 9);
  EXPECT_EQ(record.udp_timeout_s, 60);
}

TEST(Compiler, backend_of_a_pool_without_checks_is_up) {
  const Compilation compiled(small_state());
  const Backend &record = compiled.record("b");
  EXPECT_EQ(record.address, address("10.0.0.2"));
  EXPECT_EQ(record.state, kBackendUp);
  EXPECT_EQ(record.weight, 100);
  EXPECT_EQ(record.removed, 0);
  EXPECT_EQ(compiled.view.text(record.pool), "p");
  EXPECT_EQ(compiled.view.text(record.name), "b");
  EXPECT_EQ(compiled.backends_in_slots("web"), (std::set<std::string>{"a", "b"}));
}

TEST(Compiler, checked_backend_takes_connections_only_when_it_is_known_to_be_up) {
  auto desired = small_state();
  desired.pools[0].health.kind = model::TcpCheck{};
  desired.pools[0].backends.push_back(backend("c", "10.0.0.3"));
  model::ObservedState observed;
  observed.backends[{"p", "a"}].health = Health::kUp;
  observed.backends[{"p", "b"}].health = Health::kDown;
  const Compilation compiled(desired, observed);
  EXPECT_EQ(compiled.record("a").state, kBackendUp);
  EXPECT_EQ(compiled.record("b").state, kBackendDown);
  EXPECT_EQ(compiled.record("b").weight, 0);
  EXPECT_EQ(compiled.record("c").state, kBackendDraining) << "never checked yet: it has failed nothing";
  EXPECT_EQ(compiled.backends_in_slots("web"), std::set<std::string>{"a"});
}

TEST(Compiler, drained_backend_keeps_what_it_has) {
  auto desired = small_state();
  desired.pools[0].backends.push_back(backend("w0", "10.0.0.3", 0));
  desired.pools[0].backends.push_back(backend("d", "10.0.0.4"));
  desired.pools[0].backends.back().drain = true;
  model::ObservedState observed;
  observed.orders[{"p", "b"}] = {};
  const Compilation compiled(desired, observed);
  for (const char *name : {"b", "w0", "d"}) {
    EXPECT_EQ(compiled.record(name).state, kBackendDraining) << name;
    EXPECT_EQ(compiled.record(name).weight, 0) << name;
  }
  EXPECT_EQ(compiled.backends_in_slots("web"), std::set<std::string>{"a"});
}

TEST(Compiler, pool_that_is_down_whole_has_no_slots_unless_it_fails_open) {
  auto desired = small_state();
  desired.pools[0].health.kind = model::TcpCheck{};
  desired.pools[0].backends.push_back(backend("d", "10.0.0.4"));
  desired.pools[0].backends.back().drain = true;
  model::ObservedState observed;
  for (const char *name : {"a", "b"}) observed.backends[{"p", name}].health = Health::kDown;
  observed.backends[{"p", "d"}].health = Health::kUp;
  Compilation compiled(desired, observed);
  EXPECT_EQ(compiled.view.services()[0].slot_count, 0u);

  desired.pools[0].fail_open = true;
  compiled.run(desired, observed);
  EXPECT_EQ(compiled.backends_in_slots("web"), (std::set<std::string>{"a", "b"}));
  EXPECT_EQ(compiled.record("a").state, kBackendUp);
  EXPECT_EQ(compiled.record("a").failed_open, 1);
  EXPECT_EQ(compiled.record("d").state, kBackendDraining) << "the operator's drain stays";

  observed.backends[{"p", "b"}].health = Health::kUp;
  compiled.run(desired, observed);
  EXPECT_EQ(compiled.backends_in_slots("web"), std::set<std::string>{"b"});
  EXPECT_EQ(compiled.record("a").state, kBackendDown);
  EXPECT_EQ(compiled.record("b").failed_open, 0);
}

TEST(Compiler, drain_past_its_deadline_keeps_nothing) {
  const auto desired = small_state();
  model::ObservedState observed;
  observed.orders[{"p", "a"}] = {};
  observed.backends[{"p", "a"}].drain = model::DrainProgress{.deadline_passed = true};
  const Compilation compiled(desired, observed);
  EXPECT_EQ(compiled.record("a").state, kBackendClosed);
  EXPECT_EQ(compiled.backends_in_slots("web"), std::set<std::string>{"b"});
}

TEST(Compiler, slow_start_is_a_part_of_weight_and_slots) {
  auto desired = small_state();
  desired.pools[0].slots = 65537;
  model::ObservedState observed;
  observed.backends[{"p", "a"}].ramp_step = 5;
  const Compilation compiled(desired, observed);
  EXPECT_EQ(compiled.record("a").state, kBackendUp);
  EXPECT_EQ(compiled.record("a").weight, 25);
  EXPECT_EQ(compiled.record("a").ramp_step, 5);
  EXPECT_EQ(compiled.record("b").weight, 100);
  EXPECT_EQ(compiled.record("b").ramp_step, 0);
  const uint16_t a = compiled.identifiers.backend_id({"p", "a"}).value();
  const auto slots = compiled.view.slots_of(compiled.view.services()[0]);
  EXPECT_NEAR(static_cast<double>(std::ranges::count(slots, a)), 65537 * 0.5 * 0.25, 300);
}

TEST(Compiler, while_nobody_has_his_whole_share_the_furthest_counts_as_whole) {
  auto desired = small_state();
  desired.pools[0].slots = 65537;
  const auto share_of_a = [&](uint8_t step_of_a, uint8_t step_of_b) {
    model::ObservedState observed;
    observed.backends[{"p", "a"}].ramp_step = step_of_a;
    observed.backends[{"p", "b"}].ramp_step = step_of_b;
    const Compilation compiled(desired, observed);
    const uint16_t a = compiled.identifiers.backend_id({"p", "a"}).value();
    const auto slots = compiled.view.slots_of(compiled.view.services()[0]);
    return static_cast<double>(std::ranges::count(slots, a)) / static_cast<double>(slots.size());
  };
  EXPECT_NEAR(share_of_a(1, 1), 0.5, 0.01);
  EXPECT_NEAR(share_of_a(1, 2), 0.25, 0.01);
  double before = 0;
  for (uint8_t step = 1; step < kRampSteps; step++) {  // one beat behind: its share only grows
    const double share = share_of_a(step, static_cast<uint8_t>(step + 1));
    EXPECT_GE(share, before) << int{step};
    EXPECT_LE(share, 0.5 + 0.01);
    before = share;
  }
  EXPECT_NEAR(share_of_a(1, kRampSteps), 0.5 / int{kRampSteps}, 0.01);
}

TEST(Compiler, smallest_part_of_a_small_weight_is_not_nothing) {
  auto desired = small_state();
  desired.pools[0].backends[0].weight = 1;
  model::ObservedState observed;
  observed.backends[{"p", "a"}].ramp_step = 1;
  EXPECT_EQ(Compilation(desired, observed).record("a").weight, 1);
}

TEST(Compiler, backend_that_stands_by_is_up_without_slots) {
  auto desired = small_state();
  desired.pools[0].backends[1].priority = 1;
  const Compilation compiled(desired);
  EXPECT_EQ(compiled.record("b").state, kBackendUp);
  EXPECT_EQ(compiled.backends_in_slots("web"), std::set<std::string>{"a"});
  model::ObservedState observed;
  observed.orders[{"p", "a"}] = {};
  EXPECT_EQ(Compilation(desired, observed).backends_in_slots("web"), std::set<std::string>{"b"});
}

// Two services of one pool, of whose backends b has failed, and a pool that stands by.
class CompiledQuorum : public testing::Test {
 protected:
  CompiledQuorum() {
    desired_.services.push_back(service("api", "192.0.2.2", {{80, 80}}));
    desired_.pools[0].health.kind = model::TcpCheck{};
    desired_.pools.push_back({.name = "standby", .slots = 101, .backends = {backend("s", "10.9.0.1")}});
    observed_.backends[{"p", "a"}].health = Health::kUp;
    observed_.backends[{"p", "b"}].health = Health::kDown;
    observed_.below_quorum = {"web"};
  }
  Compilation with(model::QuorumAction action) {
    desired_.services[0].quorum = model::Quorum{.action = action, .backup_pool = "standby"};
    return Compilation(desired_, observed_);
  }

  model::DesiredState desired_ = small_state();
  model::ObservedState observed_;
};

TEST_F(CompiledQuorum, serve_all_is_for_the_service_that_says_so) {
  const Compilation compiled = with(model::QuorumAction::kServeAll);
  EXPECT_EQ(compiled.backends_in_slots("web"), (std::set<std::string>{"a", "b"}));
  EXPECT_EQ(compiled.backends_in_slots("api"), std::set<std::string>{"a"});
  EXPECT_EQ(compiled.record("b").state, kBackendUp);
  EXPECT_EQ(compiled.record("b").failed_open, 1);
}

TEST_F(CompiledQuorum, backup_pool_serves) {
  const Compilation compiled = with(model::QuorumAction::kBackupPool);
  EXPECT_EQ(compiled.backends_in_slots("web"), std::set<std::string>{"s"});
  EXPECT_EQ(compiled.backends_in_slots("api"), std::set<std::string>{"a"});
  EXPECT_EQ(compiled.record("b").state, kBackendDown);
}

TEST_F(CompiledQuorum, backup_pool_without_anybody_leaves_it_to_those_who_are_left) {
  desired_.pools[1].backends.clear();
  EXPECT_EQ(with(model::QuorumAction::kBackupPool).backends_in_slots("web"), std::set<std::string>{"a"});
}

TEST_F(CompiledQuorum, backup_pool_that_failed_whole_is_no_better_than_those_who_are_left) {
  desired_.pools[1].health.kind = model::TcpCheck{};
  desired_.pools[1].fail_open = true;
  observed_.backends[{"standby", "s"}].health = Health::kDown;
  EXPECT_EQ(with(model::QuorumAction::kBackupPool).backends_in_slots("web"), std::set<std::string>{"a"});
  observed_.backends[{"p", "a"}].health = Health::kDown;
  EXPECT_EQ(with(model::QuorumAction::kBackupPool).backends_in_slots("web"), std::set<std::string>{"s"});
}

TEST_F(CompiledQuorum, is_recovered_from_the_snapshot) {
  const Compilation compiled = with(model::QuorumAction::kWithdraw);
  EXPECT_EQ(model::recover_observed_state(compiled.view).below_quorum, std::set<std::string>{"web"});
}

TEST_F(CompiledQuorum, backends_of_a_backup_pool_have_the_services_timeouts) {
  desired_.services[0].timeouts.established = 7000s;
  const Compilation compiled = with(model::QuorumAction::kBackupPool);
  const uint16_t s = compiled.identifiers.backend_id({"standby", "s"}).value();
  EXPECT_EQ(compiled.view.backends()[s].established_timeout_s, 7000);
}

TEST_F(CompiledQuorum, withdrawn_service_takes_nobody) {
  const Compilation compiled = with(model::QuorumAction::kWithdraw);
  EXPECT_TRUE(compiled.backends_in_slots("web").empty());
  EXPECT_EQ(compiled.backends_in_slots("api"), std::set<std::string>{"a"});
}

TEST_F(CompiledQuorum, nothing_changes_while_the_quorum_is_met) {
  observed_.below_quorum.clear();
  EXPECT_EQ(with(model::QuorumAction::kWithdraw).backends_in_slots("web"), std::set<std::string>{"a"});
}

TEST(Compiler, removed_backend_stays_for_its_connections) {
  auto desired = small_state();
  desired.services[0].timeouts.established = 500s;
  Compilation compiled(desired);
  const uint16_t id = compiled.identifiers.backend_id({"p", "a"}).value();
  desired.pools[0].backends.erase(desired.pools[0].backends.begin());
  desired.services[0].timeouts.established = 100s;
  ASSERT_TRUE(compiled.identifiers.assign(desired, 2000).ok());
  compiled.run(desired);
  const Backend &record = compiled.view.backends()[id];
  EXPECT_EQ(record.state, kBackendDraining);
  EXPECT_EQ(record.removed, 1);
  EXPECT_EQ(record.out_since_unix_s, 2000u);
  EXPECT_EQ(record.weight, 0);
  EXPECT_EQ(record.address, address("10.0.0.1"));
  EXPECT_EQ(record.established_timeout_s, 500) << "its connections were promised that";
  EXPECT_EQ(compiled.view.text(record.name), "a");
  EXPECT_EQ(compiled.backends_in_slots("web"), std::set<std::string>{"b"});
}

TEST(Compiler, weights_reach_the_slots) {
  auto desired = small_state();
  desired.pools[0].slots = 65537;
  desired.pools[0].backends[0].weight = 300;
  const Compilation compiled(desired);
  const uint16_t a = compiled.identifiers.backend_id({"p", "a"}).value();
  const auto slots = compiled.view.slots_of(compiled.view.services()[0]);
  EXPECT_NEAR(static_cast<double>(std::ranges::count(slots, a)), 65537 * 0.75, 2);
  EXPECT_EQ(compiled.record("a").weight, 300);
}

TEST(Compiler, order_of_the_configuration_moves_no_slot) {
  auto desired = small_state();
  for (int i = 0; i < 20; ++i) {
    desired.pools[0].backends.push_back(backend("x" + std::to_string(i), "10.0.1." + std::to_string(i)));
  }
  const Compilation compiled(desired);
  auto shuffled = desired;
  std::ranges::shuffle(shuffled.pools[0].backends, std::mt19937(2));
  const Compilation other(shuffled);
  for (size_t slot = 0; slot < 101; ++slot) {
    EXPECT_EQ(compiled.view.text(compiled.view.backends()[compiled.view.slots()[slot]].name),
              other.view.text(other.view.backends()[other.view.slots()[slot]].name));
  }
}

TEST(Compiler, unchanged_pools_are_not_built_again) {
  auto desired = small_state();
  for (int i = 0; i < 9; ++i) {
    auto pool = desired.pools[0];
    pool.name = "q" + std::to_string(i);
    desired.pools.push_back(pool);
  }
  Compilation compiled(desired);
  EXPECT_EQ(compiled.cost.built_pools, 10u);
  compiled.run(desired);
  EXPECT_EQ(compiled.cost.built_pools, 0u);
  EXPECT_EQ(compiled.cost.reused_pools, 10u);
  model::ObservedState observed;
  observed.orders[{"q3", "a"}] = {};
  compiled.run(desired, observed);
  EXPECT_EQ(compiled.cost.built_pools, 1u);
  desired.pools[2].slots = 103;
  compiled.run(desired, observed);
  EXPECT_EQ(compiled.cost.built_pools, 1u);
  desired.pools[2].backends[0].weight = 50;
  compiled.run(desired, observed);
  EXPECT_EQ(compiled.cost.built_pools, 1u);
}

TEST(Compiler, bytes_depend_on_the_input_and_not_on_what_was_compiled_before) {
  auto desired = small_state();
  Compilation compiled(desired);
  const SnapshotBytes first = compiled.bytes;
  model::ObservedState observed;
  observed.orders[{"p", "a"}] = {};
  compiled.run(desired, observed);
  EXPECT_NE(compiled.bytes, first);
  compiled.run(desired);
  EXPECT_EQ(compiled.bytes, first);
  EXPECT_EQ(Compilation(desired).bytes, first);
}

TEST(Compiler, state_that_the_loader_would_not_let_pass_is_refused) {
  const auto error_of = [](const model::DesiredState &desired, const model::Identifiers &identifiers) {
    Compiler compiler;
    const auto result = compiler.compile({.desired = desired, .observed = {}, .identifiers = identifiers});
    return result.ok() ? "no error" : result.error().message;
  };
  auto desired = small_state();
  EXPECT_THAT(error_of(desired, {}), HasSubstr("backend \"p/a\" has no identifier"));
  model::Identifiers identifiers;
  ASSERT_TRUE(identifiers.assign(desired, 0).ok());
  EXPECT_EQ(error_of(desired, identifiers), "no error");
  const auto error_after = [&](auto change) {
    auto changed = desired;
    change(&changed);
    return error_of(changed, identifiers);
  };
  EXPECT_THAT(error_after([](auto *d) { d->pools[0].slots = 100; }), HasSubstr("slots 100 is not a prime"));
  EXPECT_THAT(error_after([](auto *d) { d->pools[0].slots = 1; }), HasSubstr("slots 1 is not a prime"));
  EXPECT_THAT(error_after([](auto *d) { d->pools[0].backends[0].weight = 1001; }), HasSubstr("weight 1001"));
  EXPECT_THAT(error_after([](auto *d) { d->pools.push_back(d->pools[0]); }),
              HasSubstr("two are named \"p\""));
  EXPECT_THAT(error_after([](auto *d) { d->services[0].pool = "q"; }), HasSubstr("there is no pool \"q\""));
  EXPECT_THAT(error_after([](auto *d) { d->services[0].timeouts.udp = 7261s; }),
              HasSubstr("timeout of 7261 s"));
  EXPECT_THAT(error_after([](auto *d) {
                d->services[0].ports.push_back({80, 80});
              }),
              HasSubstr("VIP 192.0.2.1: ports"));
}

TEST(Compiler, many_vips_and_services_are_all_found) {
  auto desired = small_state();
  desired.services.clear();
  for (int i = 0; i < 3000; ++i) {
    const std::string vip = "10.99." + std::to_string(i / 250) + "." + std::to_string(i % 250);
    desired.services.push_back(service("s" + std::to_string(i), vip, {{443, 443}}));
  }
  const Compilation compiled(desired);
  for (int i = 0; i < 3000; ++i) {
    const std::string vip = "10.99." + std::to_string(i / 250) + "." + std::to_string(i % 250);
    ASSERT_EQ(compiled.lookup(vip, kTcp, 443), "s" + std::to_string(i));
  }
}

}  // namespace
}  // namespace sluice
