#include "dataplane/core/hash.h"

#include <cmath>
#include <functional>

#include <gtest/gtest.h>

#include "dataplane/core/packet.h"
#include "tests/server/snapshot_builder.h"

namespace sluice {
namespace {

/// The key of the golden values: word i is 0x01234567 * (i + 1) + 0x89abcdef.
FlowHashKey golden_key() {
  FlowHashKey key;
  for (uint32_t i = 0; i < 12; i++) key.word[i] = 0x01234567u * (i + 1) + 0x89abcdefu;
  return key;
}

FlowHashKey key_of_seed(uint64_t seed) {
  FlowHashKey key;
  for (uint32_t &word : key.word) {
    seed += 0x9e3779b97f4a7c15ull;  // SplitMix64
    uint64_t value = (seed ^ (seed >> 30)) * 0xbf58476d1ce4e5b9ull;
    value = (value ^ (value >> 27)) * 0x94d049bb133111ebull;
    word = static_cast<uint32_t>((value ^ (value >> 31)) >> 16);
  }
  return key;
}

struct Flow {
  std::string client;
  std::string vip;
  uint16_t client_port;
  uint16_t vip_port;
  uint8_t protocol;
};

uint64_t hash_of(const FlowHashKey &key, const Flow &flow) {
  const Address client = parse_address(flow.client), vip = parse_address(flow.vip);
  return flow_hash(&key, &client, &vip, {host_to_be16(flow.client_port), host_to_be16(flow.vip_port)},
                   flow.protocol);
}

// Hosts of one fleet must agree, whatever version they run: these values never change. They were
// computed by hand from the definition, with whole numbers of any size.
TEST(FlowHash, golden_values) {
  const FlowHashKey key = golden_key();
  const std::string v4 = "198.51.100.10", v6 = "2001:db8::10",
                    ones = "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff";
  EXPECT_EQ(hash_of(key, {"192.0.2.1", v4, 40000, 80, kProtocolTcp}), 0xb3eba82577960394ull);
  EXPECT_EQ(hash_of(key, {"192.0.2.1", v4, 40000, 80, kProtocolUdp}), 0x3ddb815e8a879648ull);
  EXPECT_EQ(hash_of(key, {"192.0.2.1", v4, 40001, 80, kProtocolTcp}), 0x98622f2bbd1e148dull);
  EXPECT_EQ(hash_of(key, {"0.0.0.0", "0.0.0.1", 0, 0, kProtocolTcp}), 0x40b6ab675bb1eb33ull);
  EXPECT_EQ(hash_of(key, {"2001:db8:c::1", v6, 40000, 443, kProtocolTcp}), 0xa7a5dd19a4b48a24ull);
  EXPECT_EQ(hash_of(key, {"2001:db8:c::1", v6, 40000, 443, kProtocolUdp}), 0xab0470a82cf1bf29ull);
  EXPECT_EQ(hash_of(key, {ones, v6, 65535, 65535, kProtocolTcp}), 0x6821f4a8aaf9f156ull);
}

TEST(VipHash, golden_values) {
  const FlowHashKey key = golden_key();
  const Address v4 = parse_address("198.51.100.10"), v6 = parse_address("2001:db8::10");
  EXPECT_EQ(vip_hash(&key, &v4), 0xb58c1109u);
  EXPECT_EQ(vip_hash(&key, &v6), 0x56118ae7u);
}

TEST(FlowHash, every_word_of_the_key_matters) {
  const FlowHashKey key = golden_key();
  const Flow flow = {"2001:db8:c:d:e:f:1:2", "2001:db8:3:4:5:6:7:10", 40000, 443, kProtocolTcp};
  for (uint32_t i = 0; i < 10; i++) {  // words 10 and 11 are vip_hash's own
    FlowHashKey other = key;
    other.word[i] ^= 0x10000;
    EXPECT_NE(hash_of(key, flow), hash_of(other, flow)) << i;
  }
}

TEST(FlowHash, every_bit_of_a_flow_matters) {
  const FlowHashKey key = golden_key();
  const Address client = parse_address("2001:db8:c:d:e:f:1:2"), vip = parse_address("2001:db8:3:4:5:6:7:10");
  const uint64_t hash = flow_hash(&key, &client, &vip, {1, 2}, kProtocolTcp);
  for (uint32_t bit = 0; bit < 128; bit++) {
    Address other = client;
    other.word[bit / 32] ^= 1u << bit % 32;
    EXPECT_NE(flow_hash(&key, &other, &vip, {1, 2}, kProtocolTcp), hash) << "client's bit " << bit;
    other = vip;
    other.word[bit / 32] ^= 1u << bit % 32;
    EXPECT_NE(flow_hash(&key, &client, &other, {1, 2}, kProtocolTcp), hash) << "VIP's bit " << bit;
  }
  for (uint32_t bit = 0; bit < 16; bit++) {
    const be16 flipped = static_cast<be16>(1u << bit);
    EXPECT_NE(flow_hash(&key, &client, &vip, {static_cast<be16>(1 ^ flipped), 2}, kProtocolTcp), hash);
    EXPECT_NE(flow_hash(&key, &client, &vip, {1, static_cast<be16>(2 ^ flipped)}, kProtocolTcp), hash);
  }
  EXPECT_NE(flow_hash(&key, &client, &vip, {1, 2}, kProtocolUdp), hash);
}

/// Flows as they come in life: clients one after the other, or one client's ports, or a grid of both.
using Pattern = std::function<Flow(uint32_t)>;

std::string ipv4_text(uint32_t address) {
  return std::to_string(address >> 24) + "." + std::to_string(address >> 16 & 255) + "." +
         std::to_string(address >> 8 & 255) + "." + std::to_string(address & 255);
}

std::vector<Pattern> patterns() {
  const std::string v4 = "198.51.100.10", v6 = "2001:db8::10";
  return {
      [=](uint32_t i) {
        return Flow{ipv4_text(0x0a000000u + i), v4, 40000, 80, kProtocolTcp};
      },
      [=](uint32_t i) {
        return Flow{ipv4_text(0x0a000000u + (i << 8)), v4, 40000, 80, kProtocolTcp};
      },
      [=](uint32_t i) {
        return Flow{ipv4_text(0xc0000200u + i / 8192), v4, static_cast<uint16_t>(32768 + i % 8192), 80,
                    kProtocolTcp};
      },
      [=](uint32_t i) {
        return Flow{"2001:db8:1::" + std::to_string(i / 10000) + ":" + std::to_string(i % 10000), v6, 40000,
                    443, kProtocolTcp};
      },
      [=](uint32_t i) {
        return Flow{"2001:db8:" + std::to_string(i / 10000 + 1) + ":" + std::to_string(i % 10000) + "::1", v6,
                    443, 443, kProtocolUdp};
      },
  };
}

/// Pearson's statistic of how evenly `cell(hash)` fills `cells` with 65,536 flows, in standard deviations
/// above what chance would do.
double unevenness(const FlowHashKey &key, const Pattern &pattern, uint32_t cells,
                  const std::function<uint32_t(uint64_t)> &cell) {
  constexpr uint32_t kFlows = 65536;
  std::vector<uint32_t> count(cells);
  for (uint32_t i = 0; i < kFlows; i++) count[cell(hash_of(key, pattern(i)))]++;
  const double expected = static_cast<double>(kFlows) / cells;
  double statistic = 0;
  for (uint32_t n : count) statistic += (n - expected) * (n - expected) / expected;
  return (statistic - (cells - 1)) / std::sqrt(2.0 * (cells - 1));
}

TEST(FlowHash, flows_spread_evenly_over_buckets_slots_and_workers) {
  const std::vector<std::function<uint32_t(uint64_t)>> uses = {
      [](uint64_t hash) { return static_cast<uint32_t>(hash) & 1023; },        // first bucket
      [](uint64_t hash) { return static_cast<uint32_t>(hash >> 32) & 1023; },  // how far the other one is
      [](uint64_t hash) { return static_cast<uint32_t>(hash ^ hash >> 32) & 1023; },         // the other one
      [](uint64_t hash) { return hash_to_range(static_cast<uint32_t>(hash >> 32), 1021); },  // slot
      [](uint64_t hash) { return hash_to_range(static_cast<uint32_t>(hash), 1021); },        // second slot
      [](uint64_t hash) { return static_cast<uint32_t>((hash >> 24 & 0xffff) * 1021 >> 16); },  // worker
  };
  for (uint64_t seed : {1, 2, 3, 4, 5}) {
    const FlowHashKey key = key_of_seed(seed);
    for (size_t p = 0; p < patterns().size(); p++)
      for (size_t u = 0; u < uses.size(); u++)
        EXPECT_LT(unevenness(key, patterns()[p], u < 3 ? 1024 : 1021, uses[u]), 6)
            << "key of seed " << seed << ", pattern " << p << ", use " << u;
  }
}

TEST(HashToRange, covers_the_range_and_nothing_else) {
  EXPECT_EQ(hash_to_range(0, 7), 0u);
  EXPECT_EQ(hash_to_range(0xffffffffu, 7), 6u);
  EXPECT_EQ(hash_to_range(0xffffffffu, 1), 0u);
  EXPECT_EQ(hash_to_range(0x80000000u, 65537), 32768u);
  EXPECT_EQ(hash_to_range(0xffffffffu, 1u << 20), (1u << 20) - 1);
}

}  // namespace
}  // namespace sluice
