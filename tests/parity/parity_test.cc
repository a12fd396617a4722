// One decision, every engine: random packets and random tables through the host core, the DPDK worker's burst
// and the XDP program in the kernel. Needs root.
//
//   SLUICE_PARITY_SEED     where the worlds begin; random, and printed, if it is not set
//   SLUICE_PARITY_PACKETS  how many
#include <cinttypes>
#include <cstdio>
#include <cstdlib>
#include <random>
#include <set>
#include <string>

#include <gtest/gtest.h>
#include <net/if.h>

#include "tests/core/test_tables.h"
#include "tests/parity/round.h"
#include "tests/server/network_namespaces.h"

namespace sluice {
namespace {

constexpr uint64_t kBoundedPackets = 1000000;  // in tools/check
constexpr uint64_t kPacketsPerWorld = 20000;

uint64_t number_from_environment(const char *name, uint64_t otherwise) {
  const char *text = std::getenv(name);
  return text ? std::strtoull(text, nullptr, 0) : otherwise;
}

uint64_t random_seed() {
  std::random_device device;
  return uint64_t{device()} << 32;  // each world's is one more
}

/// Those that an engine gives, or the kernel, and not the core.
const std::set<std::string> &verdicts_of_engines() {
  static const std::set<std::string> verdicts = {
      "pass_no_snapshot", "drop_no_headroom",         "drop_transmit_queue_full", "drop_kernel_queue_full",
      "drop_internal",    "drop_steering_queue_full", "drop_kernel_limit"};
  return verdicts;
}

void print(const Totals &totals) {
  std::printf("%" PRIu64 " packets, %" PRIu64 " of them explained, %" PRIu64 " generations\n", totals.packets,
              totals.explained, totals.generations);
  for (uint32_t verdict = 0; verdict < kVerdictCount; verdict++)
    if (totals.verdicts[verdict] != 0)
      std::printf("  %-28s %9" PRIu64 "\n", verdict_name(verdict).c_str(), totals.verdicts[verdict]);
  std::printf("  sent back %" PRIu64 ", by the other port %" PRIu64 "; in IPv4 and IPv6: IPv4 %" PRIu64
              " %" PRIu64 ", IPv6 %" PRIu64 " %" PRIu64 "\n",
              totals.ways[static_cast<size_t>(Way::kBack)],
              totals.ways[static_cast<size_t>(Way::kByOtherPort)], totals.pairings[0], totals.pairings[1],
              totals.pairings[2], totals.pairings[3]);
  std::printf("  entries evicted %" PRIu64 ", expired %" PRIu64 "; looks for adoption %" PRIu64
              "; steps of displacement %" PRIu64 "\n",
              totals.evicted, totals.expired, totals.adoption_lookups, totals.displacement_steps);
  std::printf("  TCP opens %" PRIu64 ", progresses %" PRIu64 ", repeated opens %" PRIu64 ", resets %" PRIu64
              "\n",
              totals.tcp_opens, totals.tcp_progresses, totals.tcp_repeated_opens, totals.tcp_resets);
  std::fflush(stdout);
}

void expect_rich_worlds(const Totals &totals) {
  for (uint32_t verdict = 0; verdict < kVerdictCount; verdict++) {
    const std::string name = verdict_name(verdict);
    EXPECT_NE(totals.verdicts[verdict] != 0, verdicts_of_engines().count(name) != 0) << name;
    EXPECT_EQ(totals.explained_verdicts[verdict] != 0, totals.verdicts[verdict] != 0) << name;
  }
  for (const uint64_t count : totals.ways) EXPECT_GT(count, 0u);
  for (const uint64_t count : totals.pairings) EXPECT_GT(count, 0u);
  EXPECT_GT(totals.evicted, 0u);
  EXPECT_GT(totals.expired, 0u);
  EXPECT_GT(totals.adoption_lookups, 0u);
  EXPECT_GT(totals.displacement_steps, 0u);
  EXPECT_GT(totals.tcp_opens, 0u);
  EXPECT_GT(totals.tcp_progresses, 0u);
  EXPECT_GT(totals.tcp_repeated_opens, 0u);
  EXPECT_GT(totals.tcp_resets, 0u);
}

TEST(Parity, host_core_and_dpdk_worker_and_xdp_program_decide_alike) {
  const uint64_t seed = number_from_environment("SLUICE_PARITY_SEED", random_seed());
  const uint64_t packets = number_from_environment("SLUICE_PARITY_PACKETS", kBoundedPackets);
  std::printf("SLUICE_PARITY_SEED=%" PRIu64 " SLUICE_PARITY_PACKETS=%" PRIu64 "\n", seed, packets);
  std::fflush(stdout);
  const NetworkNamespaces network;
  const uint32_t other_port = ::if_nametoindex("port0");
  Totals totals;
  for (uint64_t world = seed; totals.packets < packets; world++) {
    Round round(world, other_port, &totals);
    const std::string difference = round.run(std::min(kPacketsPerWorld, packets - totals.packets));
    if (!difference.empty())
      FAIL() << difference << "SLUICE_PARITY_SEED=" << world << " begins with this world; " << totals.packets
             << " packets were decided";
  }
  print(totals);
  // A run that somebody made shorter need not meet everything.
  if (packets >= kBoundedPackets) expect_rich_worlds(totals);
}

}  // namespace
}  // namespace sluice
