#include "controlplane/compile/vip_table.h"

#include <algorithm>
#include <bit>
#include <random>

#include <gtest/gtest.h>

#include "controlplane/model/address_text.h"
#include "dataplane/core/hash.h"

namespace sluice {
namespace {

FlowHashKey random_key(uint32_t seed) {
  std::mt19937 random(seed);
  FlowHashKey key{};
  for (uint32_t &word : key.word) word = static_cast<uint32_t>(random());
  return key;
}

std::vector<Vip> consecutive_vips(uint32_t count) {
  std::vector<Vip> vips;
  for (uint32_t i = 0; i < count; ++i) {
    vips.push_back({address_from_ipv4(host_to_be32(0xc6336400 + i)), i + 1, 0, 0, 0});
  }
  return vips;
}

// Probes that find `address`, 0 when the bounded search does not.
uint32_t probes_to_find(const std::vector<Vip> &table, const FlowHashKey &key, const Address &address) {
  const auto mask = static_cast<uint32_t>(table.size() - 1);
  for (uint32_t probe = 0; probe < kMaxVipProbes; ++probe) {
    const Vip &vip = table[(vip_hash(&key, &address) + probe) & mask];
    if (vip.number == 0) return 0;
    if (vip.address == address) return probe + 1;
  }
  return 0;
}

TEST(VipTable, without_vips_has_one_empty_entry) {
  const auto table = build_vip_table({}, random_key(1)).value();
  ASSERT_EQ(table.size(), 1u);
  EXPECT_EQ(table[0].number, 0u);
}

TEST(VipTable, every_vip_is_found_within_the_bound_and_the_load_is_at_most_half) {
  for (const uint32_t count : {1u, 2u, 3u, 100u, 1000u, 65536u}) {
    const FlowHashKey key = random_key(count);
    const auto vips = consecutive_vips(count);
    const auto table = build_vip_table(vips, key).value();
    EXPECT_TRUE(std::has_single_bit(table.size()));
    EXPECT_GE(table.size(), 2 * count);
    EXPECT_LE(table.size(), std::max(4 * count, 8192u)) << "longer searches than Robin Hood insertion has";
    for (const Vip &vip : vips) ASSERT_NE(probes_to_find(table, key, vip.address), 0u) << count;
    EXPECT_EQ(std::ranges::count_if(table, [](const Vip &vip) { return vip.number != 0; }), count);
  }
}

TEST(VipTable, a_few_vips_are_each_found_at_once) {
  for (uint32_t seed = 1; seed <= 20; ++seed) {
    const FlowHashKey key = random_key(seed);
    const auto vips = consecutive_vips(16);
    const auto table = build_vip_table(vips, key).value();
    for (const Vip &vip : vips) EXPECT_EQ(probes_to_find(table, key, vip.address), 1u) << seed;
  }
}

TEST(VipTable, does_not_depend_on_the_order) {
  const FlowHashKey key = random_key(9);
  auto vips = consecutive_vips(500);
  const auto table = build_vip_table(vips, key).value();
  std::ranges::shuffle(vips, std::mt19937(1));
  const auto shuffled = build_vip_table(vips, key).value();
  ASSERT_EQ(table.size(), shuffled.size());
  for (size_t i = 0; i < table.size(); ++i) EXPECT_EQ(table[i].number, shuffled[i].number);
}

// A key of zeros makes vip_hash the same for many addresses: no size of table helps.
TEST(VipTable, hopeless_key_is_an_error_and_not_an_endless_loop) {
  std::vector<Vip> vips;
  const FlowHashKey zeros{};
  for (uint32_t i = 0; i < 20; ++i) {
    Address address{};
    address.word[0] = i;  // its partner word 1 is 0, and so is every word of the key: the product is 0
    vips.push_back({address, i + 1, 0, 0, 0});
  }
  const auto table = build_vip_table(vips, zeros);
  ASSERT_FALSE(table.ok());
  EXPECT_NE(table.error().message.find("use another flow_hash_key"), std::string::npos);
}

}  // namespace
}  // namespace sluice
