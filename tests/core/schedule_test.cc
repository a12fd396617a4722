#include "dataplane/core/schedule.h"

#include <gtest/gtest.h>

#include "tests/core/test_tables.h"

namespace sluice {
namespace {

/// A hash whose first slot and second slot, of four, are these.
uint64_t hash_for_slots(uint32_t first, uint32_t second) {
  return static_cast<uint64_t>(first) << 62 | static_cast<uint64_t>(second) << 30 | 0x12345;
}

/// Four slots that hold backends 1 to 4, and a service in front of them with a table of its own.
struct FourSlots {
  explicit FourSlots(Scheduler scheduler) : tables(snapshot(scheduler)), service(&tables->services[1]) {}

  static SnapshotBuilder snapshot(Scheduler scheduler) {
    SnapshotBuilder builder;
    std::vector<uint32_t> members;
    for (int i = 1; i <= 4; i++)
      members.push_back(builder.add_backend("pool", "b", "10.1.0." + std::to_string(i)));
    const uint32_t other = builder.add_pool({members[3]}, 7);
    const uint32_t pool = builder.add_pool(members, 4);
    builder.add_service("other", other);
    builder.add_service("service", pool, scheduler);
    return builder;
  }

  uint16_t pick(uint32_t first, uint32_t second) const {
    return scheduled(tables, service, hash_for_slots(first, second));
  }
  void set_active(uint32_t backend, uint32_t count) { tables.counters(backend).active_connections = count; }

  TestTables tables;
  const Service *service;
};

TEST(Schedule, maglev_takes_the_slot_that_the_hash_names) {
  const FourSlots world(kSchedulerMaglev);
  for (uint32_t slot = 0; slot < 4; slot++) EXPECT_EQ(world.pick(slot, 3 - slot), slot + 1);
}

TEST(Schedule, maglev_does_not_look_at_connections) {
  FourSlots world(kSchedulerMaglev);
  world.set_active(1, 1000000);
  EXPECT_EQ(world.pick(0, 1), 1);
}

TEST(Schedule, least_connection_takes_the_less_loaded_of_two) {
  FourSlots world(kSchedulerLeastConnection);
  world.set_active(1, 10);
  world.set_active(2, 9);
  EXPECT_EQ(world.pick(0, 1), 2);
  EXPECT_EQ(world.pick(1, 0), 2);
  EXPECT_EQ(world.pick(0, 0), 1);
  EXPECT_EQ(world.pick(0, 2), 3);
}

TEST(Schedule, least_connection_takes_the_first_of_two_alike) {
  FourSlots world(kSchedulerLeastConnection);
  world.set_active(1, 5);
  world.set_active(2, 5);
  EXPECT_EQ(world.pick(0, 1), 1);
  EXPECT_EQ(world.pick(1, 0), 2);
}

TEST(Schedule, least_connection_weighs) {
  FourSlots world(kSchedulerLeastConnection);
  world.tables.egress(1).weight = 300;
  world.tables.egress(2).weight = 100;
  world.set_active(1, 29);
  world.set_active(2, 10);
  EXPECT_EQ(world.pick(1, 0), 1);  // 29/300 < 10/100
  world.set_active(1, 31);
  EXPECT_EQ(world.pick(0, 1), 2);  // 31/300 > 10/100
}

TEST(Schedule, least_connection_counts_what_other_workers_have) {
  FourSlots world(kSchedulerLeastConnection);
  world.set_active(1, 1);
  world.set_active(2, 5);
  world.tables.set_others_active({0, 100, 0, 0, 0});
  EXPECT_EQ(world.pick(0, 1), 2);
}

TEST(Schedule, least_connection_does_not_overflow) {
  FourSlots world(kSchedulerLeastConnection);
  world.tables.egress(1).weight = kMaxWeight;
  world.tables.egress(2).weight = kMaxWeight;
  world.set_active(1, 0xffffffffu);
  world.set_active(2, 0xfffffffeu);
  EXPECT_EQ(world.pick(0, 1), 2);
}

TEST(Schedule, service_without_slots_has_no_backend) {
  for (Scheduler scheduler : {kSchedulerMaglev, kSchedulerLeastConnection}) {
    SnapshotBuilder builder;
    builder.add_service("service", builder.add_pool({}), scheduler);
    const TestTables tables(builder);
    EXPECT_EQ(scheduled(tables, &tables->services[0], hash_for_slots(3, 2)), 0);
  }
}

}  // namespace
}  // namespace sluice
