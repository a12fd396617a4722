#include "controlplane/compile/pool_tables.h"

#include <algorithm>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include <gtest/gtest.h>

namespace sluice {
namespace {

constexpr uint32_t kSlots = 4093;

// Members m1, m2 ... with weight 100, all with their whole share.
class Ramp : public testing::Test {
 protected:
  void add(uint16_t id, uint8_t step = kRampSteps, uint16_t priority = 0) {
    names_.push_back("m" + std::to_string(id));
    input_.members.push_back({.maglev = {"", id, 100}, .priority = priority, .ramp_step = step});
  }
  void set_step(uint16_t id, uint8_t step) { member(id).ramp_step = step; }
  PoolMember &member(uint16_t id) {
    return *std::ranges::find_if(input_.members, [id](const PoolMember &m) { return m.maglev.id == id; });
  }

  std::vector<uint16_t> table() {
    for (size_t i = 0; i < names_.size(); i++) input_.members[i].maglev.name = names_[i];
    CompileCost cost;
    const auto tables = tables_.update(std::span(&input_, 1), &cost);
    return {tables[0].begin(), tables[0].end()};
  }

  static double share(const std::vector<uint16_t> &table, uint16_t id) {
    return static_cast<double>(std::ranges::count(table, id)) / static_cast<double>(table.size());
  }
  static size_t moved(const std::vector<uint16_t> &a, const std::vector<uint16_t> &b) {
    size_t count = 0;
    for (size_t i = 0; i < a.size(); i++) count += a[i] != b[i] ? 1 : 0;
    return count;
  }

  std::vector<std::string> names_;
  PoolTableInput input_{"p", kSlots, {}};
  PoolTables tables_;
};

TEST_F(Ramp, share_grows_with_each_step_and_each_step_moves_few_slots) {
  for (uint16_t id = 1; id <= 9; id++) add(id);
  std::vector<uint16_t> before = table();
  add(10, 1);
  for (uint8_t step = 1; step <= kRampSteps; step++) {
    set_step(10, step);
    const std::vector<uint16_t> now = table();
    EXPECT_NEAR(share(now, 10), 0.1 * step / int{kRampSteps}, 0.006) << int{step};
    EXPECT_LE(moved(before, now), kSlots / kRampSteps + 1) << int{step};
    EXPECT_GT(moved(before, now), 0u) << int{step};
    before = now;
  }
}

TEST_F(Ramp, each_slot_moves_once_and_the_end_is_the_table_without_a_slow_start) {
  for (uint16_t id = 1; id <= 9; id++) add(id);
  const std::vector<uint16_t> start = table();
  std::vector<size_t> changes(kSlots, 0);
  std::vector<uint16_t> before = start;
  add(10, 1);
  for (uint8_t step = 1; step <= kRampSteps; step++) {
    set_step(10, step);
    const std::vector<uint16_t> now = table();
    for (size_t i = 0; i < kSlots; i++) changes[i] += now[i] != before[i] ? 1 : 0;
    before = now;
  }
  EXPECT_EQ(std::ranges::max(changes), 1u);
  tables_ = {};
  EXPECT_EQ(table(), before);
  std::vector<MaglevMember> members;
  for (size_t i = 0; i < names_.size(); i++)
    members.push_back({names_[i], static_cast<uint16_t>(i + 1), 100});
  EXPECT_EQ(build_maglev(members, kSlots), before);
}

TEST_F(Ramp, table_depends_on_members_and_steps_and_not_on_how_they_came_about) {
  for (uint16_t id = 1; id <= 5; id++) add(id);
  add(6, 3);
  add(7, 12);
  for (uint8_t step = 1; step <= 12; step++) {
    set_step(7, step);
    table();
  }
  const std::vector<uint16_t> grown = table();
  tables_ = {};
  EXPECT_EQ(table(), grown);
  std::ranges::reverse(input_.members);
  std::ranges::reverse(names_);
  tables_ = {};
  EXPECT_EQ(table(), grown);
}

TEST_F(Ramp, several_at_different_steps_move_no_more_than_a_step_each) {
  for (uint16_t id = 1; id <= 8; id++) add(id);
  add(9, 10);
  add(10, 4);
  std::vector<uint16_t> before = table();
  for (uint8_t step = 10; step < kRampSteps; step++) {
    set_step(9, static_cast<uint8_t>(step + 1));
    set_step(10, static_cast<uint8_t>(step - 5));
    const std::vector<uint16_t> now = table();
    EXPECT_LE(moved(before, now), 2 * (kSlots / kRampSteps + 1));
    before = now;
  }
  EXPECT_NEAR(share(before, 9), 0.1, 0.03);
}

TEST_F(Ramp, those_that_start_together_share_everything_at_once) {
  add(1, 1);
  add(2, 1);
  const std::vector<uint16_t> now = table();
  EXPECT_NEAR(share(now, 1), 0.5, 0.01);
  EXPECT_NEAR(share(now, 2), 0.5, 0.01);
}

TEST_F(Ramp, only_the_lowest_priority_has_slots) {
  add(1, kRampSteps, 5);
  add(2, kRampSteps, 5);
  EXPECT_NEAR(share(table(), 1), 0.5, 0.01);
  add(3, kRampSteps, 1);
  EXPECT_EQ(share(table(), 3), 1.0);
}

TEST_F(Ramp, a_better_priority_that_comes_back_takes_over_step_by_step) {
  add(1, kRampSteps, 5);
  add(2, kRampSteps, 5);
  add(3, 5, 0);
  EXPECT_NEAR(share(table(), 3), 5.0 / int{kRampSteps}, 0.01);
  set_step(3, kRampSteps);
  EXPECT_EQ(share(table(), 3), 1.0);
}

}  // namespace
}  // namespace sluice
