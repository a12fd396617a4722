#include "controlplane/config/passive_reader.h"

#include <string>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/controlplane/config/documents.h"

namespace sluice {
namespace {

using namespace std::chrono_literals;
using testing::ElementsAre;
using testing::EndsWith;
using testing::HasSubstr;
using testing::IsEmpty;

std::optional<model::PassiveHealth> passive_of(const std::string &passive) {
  const model::DesiredState state = state_of(with_passive(passive));
  return state.pools.empty() ? std::nullopt : state.pools[0].passive;
}

TEST(PassiveReader, is_off_without_the_map_and_has_every_default_in_an_empty_one) {
  EXPECT_EQ(state_of(with_pool("  backends: []\n")).pools[0].passive, std::nullopt);
  EXPECT_EQ(passive_of("{}"), model::PassiveHealth());
}

TEST(PassiveReader, reads_every_key) {
  model::PassiveHealth expected;
  expected.signals = 0b1010;
  expected.consecutive = 7;
  expected.failure_rate_percent = 30;
  expected.window = 2min;
  expected.min_connections = 50;
  expected.ejection = 5s;
  expected.max_ejection = 1h;
  expected.max_ejected_percent = 25;
  expected.probes = 10;
  EXPECT_EQ(passive_of("{signals: [resets, repeated-opens], consecutive: 7, failure_rate: 30, window: 2m, "
                       "min_connections: 50, ejection: 5s, max_ejection: 1h, max_ejected: 25, probes: 10}"),
            expected);
}

TEST(PassiveReader, one_of_the_two_limits_may_be_off) {
  EXPECT_EQ(passive_of("{consecutive: 0}")->consecutive, 0u);
  EXPECT_EQ(passive_of("{failure_rate: 0}")->failure_rate_percent, 0u);
  EXPECT_THAT(errors_of(with_passive("{consecutive: 0, failure_rate: 0}")),
              ElementsAre(HasSubstr("pools[0].passive: has consecutive: 0 and failure_rate: 0")));
}

TEST(PassiveReader, the_longest_ejection_follows_a_longer_one) {
  EXPECT_EQ(passive_of("{ejection: 20m}")->max_ejection, 20min);
  EXPECT_EQ(passive_of("{ejection: 20m, max_ejection: 20m}")->max_ejection, 20min);
  EXPECT_THAT(
      errors_of(with_passive("{ejection: 20m, max_ejection: 19m}")),
      ElementsAre(HasSubstr("pools[0].passive.max_ejection: \"19m\" is out of range; allowed: 1200s to")));
  EXPECT_THAT(errors_of(with_passive("{ejection: x, max_ejection: 10s}")),
              ElementsAre(HasSubstr("pools[0].passive.ejection")))
      << "one error, not two";
}

TEST(PassiveReader, says_of_each_wrong_value_what_is_allowed) {
  const std::pair<const char *, const char *> kWrong[] = {
      {"{consecutive: -1}", "consecutive: \"-1\""},
      {"{consecutive: 1000001}", "allowed: 0 to 1000000"},
      {"{failure_rate: 101}", "allowed: 0 to 100"},
      {"{window: 999ms}", "window: \"999ms\" is out of range; allowed: 1s to"},
      {"{min_connections: 0}", "allowed: 1 to 1000000"},
      {"{ejection: 0s}", "ejection: \"0s\" is out of range; allowed: 1s to"},
      {"{ejection: 25h}", "ejection: \"25h\" is out of range"},
      {"{max_ejected: 0}", "allowed: 1 to 100"},
      {"{max_ejected: 101}", "allowed: 1 to 100"},
      {"{probes: 0}", "allowed: 1 to 1000000"},
      {"{signals: []}",
       "signals: names none; allowed: one or more of unanswered, repeated-opens, unreachable, "
       "resets"},
      {"{signals: unanswered}", "signals"},
      {"{signals: [rst]}",
       "signals[0]: \"rst\" is not known; allowed: unanswered, repeated-opens, unreachable, "
       "resets"},
      {"{signals: [resets, resets]}", "signals[1]: \"resets\" is there twice; remove one"},
      {"{timeout: 1s}", "timeout"},
      {"true", "passive"},
  };
  for (const auto &[passive, message] : kWrong)
    EXPECT_THAT(errors_of(with_passive(passive)), ElementsAre(HasSubstr(message))) << passive;
}

}  // namespace
}  // namespace sluice
