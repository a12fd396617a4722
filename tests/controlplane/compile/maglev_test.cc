#include "controlplane/compile/maglev.h"

#include <algorithm>
#include <map>
#include <random>
#include <string>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace sluice {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;

// Members "backend-1", "backend-2", ... with the given weights; identifiers from 1.
class Members {
 public:
  explicit Members(const std::vector<uint16_t> &weights) {
    for (size_t i = 0; i < weights.size(); ++i) names_.push_back("backend-" + std::to_string(i + 1));
    for (size_t i = 0; i < weights.size(); ++i) {
      list.push_back({names_[i], static_cast<uint16_t>(i + 1), weights[i]});
    }
  }
  static Members equal(size_t count) { return Members(std::vector<uint16_t>(count, 100)); }

 private:
  std::vector<std::string> names_;

 public:
  std::vector<MaglevMember> list;
};

std::map<uint16_t, uint32_t> slots_by_member(const std::vector<uint16_t> &table) {
  std::map<uint16_t, uint32_t> counts;
  for (const uint16_t id : table) ++counts[id];
  return counts;
}

uint32_t differences(const std::vector<uint16_t> &a, const std::vector<uint16_t> &b) {
  EXPECT_EQ(a.size(), b.size());
  uint32_t count = 0;
  for (size_t i = 0; i < a.size(); ++i) count += a[i] != b[i] ? 1 : 0;
  return count;
}

// Computed by another implementation, in Python, from the paper's pseudocode.
TEST(Maglev, golden_table_of_equal_weights) {
  const std::vector<MaglevMember> members = {{"a", 1, 1}, {"b", 2, 1}, {"c", 3, 1}};
  EXPECT_THAT(build_maglev(members, 13), ElementsAre(2, 2, 3, 1, 2, 1, 2, 3, 3, 1, 3, 1, 2));
}

TEST(Maglev, golden_table_of_different_weights) {
  EXPECT_THAT(build_maglev(Members({100, 50, 25}).list, 23),
              ElementsAre(3, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 3, 1, 2, 1, 2, 3, 2, 3, 2, 2, 2));
}

TEST(Maglev, no_members_or_no_weight_make_an_empty_table) {
  EXPECT_THAT(build_maglev({}, 101), IsEmpty());
  EXPECT_THAT(build_maglev(Members({0, 0}).list, 101), IsEmpty());
}

TEST(Maglev, member_without_weight_gets_no_slot) {
  EXPECT_THAT(slots_by_member(build_maglev(Members({100, 0, 100}).list, 101)), testing::SizeIs(2));
}

TEST(Maglev, one_member_gets_every_slot) {
  EXPECT_EQ(build_maglev(Members({7}).list, 101), std::vector<uint16_t>(101, 1));
}

TEST(Maglev, equal_weights_share_evenly_to_one_slot) {
  const auto counts = slots_by_member(build_maglev(Members::equal(100).list, 65537));
  ASSERT_EQ(counts.size(), 100u);
  for (const auto &[id, count] : counts) {
    EXPECT_TRUE(count == 655 || count == 656) << "backend " << id << " has " << count;
  }
}

TEST(Maglev, shares_are_proportional_to_weights) {
  const std::vector<uint16_t> weights = {1, 2, 3, 10, 50, 99, 100, 333, 1000};
  const auto counts = slots_by_member(build_maglev(Members(weights).list, 65537));
  uint32_t sum = 0;
  for (const uint16_t weight : weights) sum += weight;
  for (size_t i = 0; i < weights.size(); ++i) {
    const double share = 65537.0 * weights[i] / sum;
    EXPECT_NEAR(counts.at(static_cast<uint16_t>(i + 1)), share, 2.0) << "weight " << weights[i];
  }
}

TEST(Maglev, only_the_ratio_of_weights_counts) {
  EXPECT_EQ(build_maglev(Members({1, 2, 3}).list, 1009), build_maglev(Members({300, 600, 900}).list, 1009));
}

TEST(Maglev, order_of_members_does_not_count) {
  Members members({100, 50, 10, 100, 1000, 333, 1, 100});
  const auto table = build_maglev(members.list, 4093);
  std::mt19937 random(5);
  for (int round = 0; round < 5; ++round) {
    std::ranges::shuffle(members.list, random);
    EXPECT_EQ(build_maglev(members.list, 4093), table);
  }
}

TEST(Maglev, identifiers_do_not_move_slots) {
  Members members = Members::equal(5);
  const auto table = build_maglev(members.list, 101);
  for (MaglevMember &member : members.list) member.id = static_cast<uint16_t>(member.id + 1000);
  const auto renumbered = build_maglev(members.list, 101);
  for (size_t slot = 0; slot < table.size(); ++slot) EXPECT_EQ(renumbered[slot], table[slot] + 1000);
}

// The paper's section 5.3: most slots whose backend stays do not move when another one goes.
TEST(Maglev, removing_one_of_a_hundred_moves_few_slots_of_the_others) {
  const Members members = Members::equal(100);
  const auto before = build_maglev(members.list, 65537);
  for (const size_t gone : {size_t{0}, size_t{41}, size_t{99}}) {
    auto rest = members.list;
    rest.erase(rest.begin() + static_cast<ptrdiff_t>(gone));
    const auto after = build_maglev(rest, 65537);
    const uint32_t of_the_gone = slots_by_member(before).at(static_cast<uint16_t>(gone + 1));
    const uint32_t of_others = differences(before, after) - of_the_gone;
    EXPECT_LT(of_others, 65537 * 0.01);
  }
}

TEST(Maglev, removing_and_adding_back_restores_every_slot) {
  const Members members = Members::equal(30);
  auto rest = members.list;
  rest.pop_back();
  const auto before = build_maglev(members.list, 4093);
  EXPECT_NE(build_maglev(rest, 4093), before);
  EXPECT_EQ(build_maglev(members.list, 4093), before);
}

TEST(Maglev, draining_the_heaviest_member_moves_few_slots_of_the_others) {
  const Members all({1000, 100, 200, 300, 400, 500, 50, 60, 70, 80});
  Members without({0, 100, 200, 300, 400, 500, 50, 60, 70, 80});
  const auto before = build_maglev(all.list, 65537);
  const uint32_t of_others =
      differences(before, build_maglev(without.list, 65537)) - slots_by_member(before).at(1);
  EXPECT_LT(of_others, 65537 * 0.10);
}

TEST(Maglev, more_members_than_slots_still_fill_the_table) {
  const auto table = build_maglev(Members::equal(200).list, 101);
  EXPECT_EQ(table.size(), 101u);
  EXPECT_THAT(slots_by_member(table), testing::SizeIs(101));
}

// The light ones must not all take their turns in the same rounds: that would cost the heavy one, or
// give it, up to one slot for each of them.
TEST(Maglev, one_heavy_member_among_a_thousand_light_ones_gets_its_share) {
  std::vector<uint16_t> weights(1000, 1);
  weights[0] = 1000;
  const auto counts = slots_by_member(build_maglev(Members(weights).list, 65537));
  EXPECT_NEAR(counts.at(1), 65537.0 * 1000 / 1999, 33.0);  // 0.1%
  EXPECT_EQ(counts.size(), 1000u);
}

}  // namespace
}  // namespace sluice
