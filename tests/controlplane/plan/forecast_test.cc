// Slots; what it says of connections is compared with what happens to them, in both engines:
// tests/e2e/test_plan.py.
#include "controlplane/plan/forecast.h"

#include <memory>
#include <random>

#include <gtest/gtest.h>

#include "controlplane/compile/compiler.h"
#include "controlplane/model/identifiers.h"
#include "dataplane/core/hash.h"

namespace sluice {
namespace {

Address address(const std::string &text) { return parse_address(text).value(); }

// Snapshots one after the other, as sluiced makes them.
class Snapshots {
 public:
  const SnapshotView &make(const model::DesiredState &desired, FlowHashKey key = {{1, 2, 3}}) {
    EXPECT_TRUE(ids_.assign(desired, 1000).ok());
    const model::ObservedState observed;
    auto compiled = compiler_.compile({.desired = desired,
                                       .observed = observed,
                                       .identifiers = ids_,
                                       .flow_hash_key = key,
                                       .revision = ++revision_});
    EXPECT_TRUE(compiled.ok());
    bytes_.push_back(std::make_unique<SnapshotBytes>(std::move(compiled).value().bytes));
    views_.push_back(std::make_unique<SnapshotView>(SnapshotView::open(*bytes_.back()).value()));
    return *views_.back();
  }

 private:
  model::Identifiers ids_;
  Compiler compiler_;
  uint64_t revision_ = 0;
  std::vector<std::unique_ptr<SnapshotBytes>> bytes_;
  std::vector<std::unique_ptr<SnapshotView>> views_;
};

model::DesiredState configuration(const std::vector<uint16_t> &weights, uint32_t slots = 251) {
  model::DesiredState desired;
  desired.services = {{.name = "web", .vips = {address("192.0.2.1")}, .ports = {{80, 80}}, .pool = "p"},
                      {.name = "other", .vips = {address("192.0.2.2")}, .ports = {{80, 80}}, .pool = "q"}};
  model::Pool pool{.name = "p", .slots = slots};
  for (size_t i = 0; i < weights.size(); i++) {
    if (weights[i] == 0) continue;
    const std::string number = std::to_string(i + 1);
    pool.backends.push_back(
        {.name = "b" + number, .address = address("10.1.0." + number), .weight = weights[i]});
  }
  model::Pool other{.name = "q", .slots = 251};
  other.backends = {{.name = "c1", .address = address("10.1.1.1")}};
  desired.pools = {pool, other};
  return desired;
}

// The backend that the dataplane's own arithmetic finds for a hash value.
uint16_t backend_of(const SnapshotView &snapshot, uint32_t hash) {
  const Service &service = snapshot.services()[0];
  if (service.slot_count == 0) return 0;
  return snapshot.slots_of(service)[hash_to_range(hash, service.slot_count)];
}

const ServiceForecast &web(const Forecast &forecast) { return forecast.services.at(0); }

TEST(Forecast, nothing_moves_between_equal_snapshots) {
  Snapshots snapshots;
  const SnapshotView &before = snapshots.make(configuration({100, 100}));
  const SnapshotView &after = snapshots.make(configuration({100, 100}));
  const Forecast told = forecast({.before = before, .after = after});
  ASSERT_EQ(told.services.size(), 2u);
  EXPECT_EQ(told.worst_moved(), 0);
  EXPECT_EQ(web(told).service, "web");
  EXPECT_FALSE(web(told).connections.has_value()) << "nobody has looked";
}

TEST(Forecast, counts_slots_that_name_another_backend) {
  Snapshots snapshots;
  const SnapshotView &before = snapshots.make(configuration({100, 100, 100}));
  const SnapshotView &after = snapshots.make(configuration({100, 100, 0}));
  size_t moved = 0;
  for (size_t i = 0; i < 251; i++) moved += before.slots()[i] != after.slots()[i];
  const Forecast told = forecast({.before = before, .after = after});
  EXPECT_GT(moved, 80u);
  EXPECT_EQ(web(told).moved, static_cast<double>(moved) / 251);
  EXPECT_EQ(told.services[1].moved, 0) << "of another pool";
}

// Tables of another size are compared by the hash values that name their slots.
TEST(Forecast, compares_tables_of_different_sizes_by_hash_values) {
  for (const auto &[small, large] :
       {std::pair(251u, 65537u), std::pair(65537u, 251u), std::pair(4093u, 65521u)}) {
    Snapshots snapshots;
    const SnapshotView &before = snapshots.make(configuration({100, 30, 7}, small));
    const SnapshotView &after = snapshots.make(configuration({90, 0, 80, 1}, large));
    std::mt19937 random(7);
    constexpr int kSamples = 200'000;
    int moved = 0;
    for (int i = 0; i < kSamples; i++) {
      const auto hash = static_cast<uint32_t>(random());
      moved += backend_of(before, hash) != backend_of(after, hash);
    }
    const double told = web(forecast({.before = before, .after = after})).moved;
    EXPECT_NEAR(told, static_cast<double>(moved) / kSamples, 0.005) << small << " to " << large;
    EXPECT_GT(told, 0.2);
  }
}

// A boundary between slots that is off by one hash value shows here.
TEST(Forecast, edges_of_slots_are_exact) {
  Snapshots snapshots;
  const SnapshotView &before = snapshots.make(configuration({100, 100}, 251));
  const SnapshotView &after = snapshots.make(configuration({100, 100}, 257));
  constexpr uint64_t kAll = uint64_t{1} << 32;
  uint64_t moved = 0;
  uint64_t begin = 0;
  for (uint64_t hash = 1; hash <= kAll; hash++) {
    // Both are constant between the edges of either table: jump to the next one.
    const uint64_t in_before = hash_to_range(static_cast<uint32_t>(begin), 251) + 1;
    const uint64_t in_after = hash_to_range(static_cast<uint32_t>(begin), 257) + 1;
    hash = std::min((in_before * kAll + 250) / 251, (in_after * kAll + 256) / 257);
    EXPECT_EQ(backend_of(before, static_cast<uint32_t>(begin)),
              backend_of(before, static_cast<uint32_t>(hash - 1)));
    const auto at = static_cast<uint32_t>(begin);
    if (backend_of(before, at) != backend_of(after, at)) moved += hash - begin;
    begin = hash;
  }
  EXPECT_EQ(begin, kAll);
  EXPECT_EQ(web(forecast({.before = before, .after = after})).moved, static_cast<double>(moved) / kAll);
}

TEST(Forecast, a_service_that_goes_moves_whole_and_one_that_had_nobody_moves_nothing) {
  Snapshots snapshots;
  const SnapshotView &nobody = snapshots.make(configuration({}));
  const SnapshotView &two = snapshots.make(configuration({100, 100}));
  model::DesiredState without = configuration({100, 100});
  without.services.erase(without.services.begin());
  const SnapshotView &gone = snapshots.make(without);
  EXPECT_EQ(web(forecast({.before = nobody, .after = two})).moved, 0);
  const Forecast told = forecast({.before = two, .after = gone});
  EXPECT_TRUE(web(told).goes);
  EXPECT_EQ(web(told).moved, 1);
  EXPECT_EQ(web(forecast({.before = two, .after = nobody})).moved, 1);
  EXPECT_EQ(web(forecast({.before = two, .after = nobody})).slots, 0u);
}

TEST(Forecast, another_key_of_the_flow_hash_moves_everything) {
  Snapshots snapshots;
  const SnapshotView &before = snapshots.make(configuration({100, 100}));
  const SnapshotView &after = snapshots.make(configuration({100, 100}), {{4, 5, 6}});
  EXPECT_EQ(web(forecast({.before = before, .after = after})).moved, 1);
}

TEST(Forecast, worst_service_counts) {
  Forecast told;
  told.services = {
      {.service = "a", .moved = 0.25, .connections = ConnectionForecast{.live = 10, .moved = 1, .broken = 2}},
      {.service = "b", .moved = 0.5, .connections = ConnectionForecast{}},
      {.service = "c", .connections = ConnectionForecast{.live = 100, .broken = 1}}};
  EXPECT_EQ(told.worst_moved(), 0.5);
  EXPECT_EQ(told.worst_broken(), 0.3);
}

}  // namespace
}  // namespace sluice
