#include "controlplane/config/lifecycle_reader.h"

#include <string>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/controlplane/config/documents.h"

namespace sluice {
namespace {

using namespace std::chrono_literals;
using testing::ElementsAre;
using testing::HasSubstr;

// A service with this quorum, of pool "web"; a pool "standby" is there too.
std::string with_quorum(const std::string &quorum) {
  return with_service("more", "quorum: " + quorum) + "- {name: standby, backends: []}\n";
}

TEST(LifecycleReader, reads_quorums) {
  const model::DesiredState state =
      state_of(with_quorum("{min: 50%, recover: \"75%\", action: backup-pool, backup_pool: standby}"));
  EXPECT_EQ(state.services[0].quorum, (model::Quorum{.min = {50, true},
                                                     .recover = {75, true},
                                                     .action = model::QuorumAction::kBackupPool,
                                                     .backup_pool = "standby"}));
  const model::DesiredState short_one = state_of(with_quorum("{min: 1, action: serve-all}"));
  EXPECT_EQ(
      short_one.services[0].quorum,
      (model::Quorum{.min = {1, false}, .recover = {1, false}, .action = model::QuorumAction::kServeAll}));
  EXPECT_FALSE(state_of(with_service()).services[0].quorum.has_value());
}

TEST(LifecycleReader, tells_what_is_wrong_with_a_quorum) {
  const auto error = [](const std::string &quorum) {
    const auto errors = errors_of(with_quorum(quorum));
    return errors.size() == 1 ? errors[0] : "not one error but " + std::to_string(errors.size());
  };
  EXPECT_THAT(error("{action: withdraw}"), HasSubstr("services[0].quorum: key \"min\" is missing"));
  EXPECT_THAT(error("{min: 1}"), HasSubstr("key \"action\" is missing"));
  EXPECT_THAT(error("{min: 1, action: panic}"), HasSubstr("quorum.action: \"panic\" is not known"));
  for (const char *min : {"0", "-1", "0%", "101%", "half", "65536", "5 %"}) {
    EXPECT_THAT(error("{min: " + std::string(min) + ", action: withdraw}"),
                HasSubstr("quorum.min: \"" + std::string(min) + "\" is no threshold"));
  }
  EXPECT_THAT(error("{min: 2, action: withdraw}"), HasSubstr("asks for 2 backends, and pool \"web\" has 1"));
  EXPECT_THAT(error("{min: 2, recover: 1, action: withdraw}"), HasSubstr("quorum.recover: is less than min"));
  EXPECT_THAT(error("{min: 2, recover: 80%, action: withdraw}"), HasSubstr("of the same kind as min"));
  EXPECT_THAT(error("{min: 1, action: backup-pool}"), HasSubstr("key \"backup_pool\" is missing"));
  EXPECT_THAT(error("{min: 1, action: withdraw, backup_pool: standby}"),
              HasSubstr("with action backup-pool only"));
  EXPECT_THAT(error("{min: 1, action: backup-pool, backup_pool: nope}"),
              HasSubstr("services[0].quorum.backup_pool: there is no pool \"nope\""));
  EXPECT_THAT(error("{min: 1, action: backup-pool, backup_pool: web}"),
              HasSubstr("is the service's own pool"));
}

TEST(LifecycleReader, reads_what_pools_say_of_their_backends_lives) {
  const model::Pool pool = state_of(with_pool("  backends:\n"
                                              "  - {name: b1, address: 10.1.0.11, priority: 3}\n"
                                              "  slow_start: 1500ms\n"
                                              "  drain_deadline: 10m\n"
                                              "  health: {type: icmp}\n"
                                              "  flap_damping: {falls: 5, window: 1h, hold: 90s}\n"))
                               .pools[0];
  EXPECT_EQ(pool.slow_start, 1500ms);
  EXPECT_EQ(pool.drain_deadline, 600s);
  EXPECT_EQ(pool.flap_damping, (model::FlapDamping{.falls = 5, .window = 3600s, .hold = 90s}));
  EXPECT_EQ(pool.backends[0].priority, 3);
  const model::Pool plain = state_of(with_pool("  backends: []\n")).pools[0];
  EXPECT_EQ(plain.slow_start, 0ms);
  EXPECT_FALSE(plain.drain_deadline.has_value());
  EXPECT_FALSE(plain.flap_damping.has_value());
  EXPECT_EQ(state_of(with_pool("  backends: []\n  health: {type: icmp}\n  flap_damping: {}\n"))
                .pools[0]
                .flap_damping,
            model::FlapDamping{});
}

TEST(LifecycleReader, tells_what_is_wrong_with_a_pool) {
  EXPECT_THAT(errors_of(with_pool(
                  "  backends: []\n  health: {type: icmp}\n  slow_start: 25h\n  drain_deadline: 500ms\n"
                  "  flap_damping: {falls: 0, window: 0s, hold: forever, strength: 1}\n")),
              ElementsAre(HasSubstr("pools[0].slow_start"), HasSubstr("pools[0].drain_deadline"),
                          HasSubstr("flap_damping.falls"), HasSubstr("flap_damping.window"),
                          HasSubstr("flap_damping.hold"), HasSubstr("strength")));
  EXPECT_THAT(errors_of(with_pool("  backends: []\n  flap_damping: {}\n")),
              ElementsAre(HasSubstr("flap_damping: has no meaning in a pool without health checks")));
  EXPECT_THAT(errors_of(with_backend("{name: b1, address: 10.1.0.11, priority: 65535}")),
              ElementsAre(HasSubstr("backends[0].priority")));
}

TEST(LifecycleReader, a_pool_that_may_be_served_whole_counts_twice) {
  std::string pools = "version: 1\nservices:\n";
  std::string tail = "pools:\n";
  for (int i = 0; i < 100; i++) {
    const std::string n = std::to_string(i);
    pools += "- {name: s" + n + ", vips: [198.51.100." + n + "], protocol: tcp, ports: all, pool: p" + n +
             ", quorum: {min: 1%, action: serve-all}}\n";
    tail += "- {name: p" + n + ", slots: 1048573, backends: []}\n";
  }
  EXPECT_THAT(errors_of(pools + tail), testing::Contains(HasSubstr("pools[64].slots")));
}

}  // namespace
}  // namespace sluice
