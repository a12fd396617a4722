#include "controlplane/health/outlier.h"

#include <functional>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace sluice {
namespace {

using namespace std::chrono_literals;
using std::chrono::milliseconds;
using testing::ElementsAre;

/// Ejection for 30 s and at most 2 min, half of the backends at most, back after 3 connections.
model::PassiveHealth config() {
  model::PassiveHealth config;
  config.consecutive = 5;
  config.failure_rate_percent = 0;
  config.max_ejection = 120s;
  return config;
}

/// What the dataplane counts of pool's backends "b0", "b1", ..., and what is made of it every 100 ms.
class Pool {
 public:
  explicit Pool(const model::PassiveHealth &config, size_t backends = 4)
      : config_(config), members_(backends) {
    for (size_t i = 0; i < backends; i++) {
      members_[i].name = "b" + std::to_string(i);
      members_[i].identifier = static_cast<uint32_t>(i + 1);
      members_[i].serves = true;
    }
    pass(100ms);
  }

  PassiveCounts &counts(size_t backend) { return members_[backend].counts; }
  OutlierPool::Member &member(size_t backend) { return members_[backend]; }
  model::PassiveHealth &config() { return config_; }
  void remove_last() { members_.pop_back(); }

  void pass(milliseconds time) {
    for (; time > 0ms; time -= 100ms) {
      now_ += 100ms;
      for (OutlierEvent &event : pool_.observe(config_, now_, members_)) events_.push_back(std::move(event));
    }
  }
  /// Connections that are opened and go on, one in each 100 ms.
  void serve(size_t backend, int connections) {
    for (int i = 0; i < connections; i++) {
      counts(backend).opens++;
      counts(backend).progresses++;
      pass(100ms);
    }
  }
  /// SYNs that are sent again; each in its own 100 ms.
  void repeat(size_t backend, int syns) {
    for (int i = 0; i < syns; i++) {
      counts(backend).repeated_opens++;
      pass(100ms);
    }
  }

  OutlierState state(size_t backend) const { return state(members_[backend].name); }
  OutlierState state(const std::string &name) const { return pool_.state(name); }
  std::string text(size_t backend) const { return pool_.text(config_, members_[backend].name, now_); }
  /// Everything that happened since this was last asked, as "b0: text".
  std::vector<std::string> events() {
    std::vector<std::string> texts;
    for (const OutlierEvent &event : events_) {
      constexpr const char *kKinds[] = {"ejected: ", "", "tried: ", "back: "};
      texts.push_back(event.backend + " " + kKinds[static_cast<size_t>(event.kind)] + event.text);
    }
    events_.clear();
    return texts;
  }

 private:
  model::PassiveHealth config_;
  std::vector<OutlierPool::Member> members_;
  OutlierPool pool_;
  OutlierTime now_{1000s};
  std::vector<OutlierEvent> events_;
};

constexpr OutlierState kServing = OutlierState::kServing;
constexpr OutlierState kEjected = OutlierState::kEjected;
constexpr OutlierState kProbing = OutlierState::kProbing;

/// What happens to one backend of four, and what is said of it.
struct Case {
  const char *what;
  std::function<void(Pool &)> happens;
  OutlierState state;
  std::string text;
};

const std::vector<Case> &cases() {
  static const std::vector<Case> kCases = {
      {"nothing", [](Pool &pool) { pool.pass(60s); }, kServing, ""},
      {"four repeated SYNs", [](Pool &pool) { pool.repeat(0, 4); }, kServing, ""},
      {"five repeated SYNs", [](Pool &pool) { pool.repeat(0, 5); }, kEjected,
       "5 repeated SYNs in a row without progress; tried again in 30 s (1st time)"},
      {"five repeated SYNs at once",
       [](Pool &pool) {
         pool.counts(0).repeated_opens += 5;
         pool.pass(100ms);
       },
       kEjected, "5 repeated SYNs in a row without progress; tried again in 30 s (1st time)"},
      {"progress between repeated SYNs",
       [](Pool &pool) {
         pool.repeat(0, 4);
         pool.serve(0, 1);
         pool.repeat(0, 4);
       },
       kServing, ""},
      {"a minute between repeated SYNs",
       [](Pool &pool) {
         pool.repeat(0, 4);
         pool.pass(60s);
         pool.repeat(0, 1);
       },
       kServing, ""},
      {"five ICMP errors",
       [](Pool &pool) {
         pool.counts(0).unreachables += 5;
         pool.pass(100ms);
       },
       kEjected, "5 ICMP errors in a row: unreachable; tried again in 30 s (1st time)"},
      {"three ICMP errors and three repeated SYNs, of the same connections perhaps",
       [](Pool &pool) {
         pool.counts(0).unreachables += 3;
         pool.counts(0).repeated_opens += 3;
         pool.pass(100ms);
       },
       kServing, ""},
      {"a hundred resets, which are no failures unless configured",
       [](Pool &pool) {
         pool.counts(0).resets += 100;
         pool.pass(100ms);
       },
       kServing, ""},
      {"resets that are configured as failures",
       [](Pool &pool) {
         pool.config().signals = 0b1000;
         pool.counts(0).resets += 6;
         pool.pass(100ms);
       },
       kEjected, "6 resets in a row by clients; tried again in 30 s (1st time)"},
      {"repeated SYNs that are not",
       [](Pool &pool) {
         pool.config().signals = 0b1000;
         pool.repeat(0, 50);
       },
       kServing, ""},
      {"five connections, not answered for less than a second",
       [](Pool &pool) {
         pool.counts(0).opens += 5;
         pool.pass(1000ms);
       },
       kServing, ""},
      {"five connections, not answered for a second",
       [](Pool &pool) {
         pool.counts(0).opens += 5;
         pool.pass(1100ms);
       },
       kEjected, "5 connections in a row made no progress; tried again in 30 s (1st time)"},
      {"five connections, one of which is answered late",
       [](Pool &pool) {
         pool.counts(0).opens += 5;
         pool.pass(900ms);
         pool.counts(0).progresses += 1;
         pool.pass(5s);
       },
       kServing, ""},
      {"connections that clients reset, so that they had an answer",
       [](Pool &pool) {
         for (int i = 0; i < 20; i++) {
           pool.counts(0).opens++;
           pool.counts(0).resets++;
           pool.pass(500ms);
         }
       },
       kServing, ""},
      {"one connection in ten seconds, never answered",
       [](Pool &pool) {
         for (int i = 0; i < 5; i++) {
           pool.counts(0).opens++;
           pool.pass(10s);
         }
       },
       kEjected, "5 connections in a row made no progress; tried again in 22 s (1st time)"},
      {"no consecutive limit",
       [](Pool &pool) {
         pool.config().consecutive = 0;
         pool.repeat(0, 100);
       },
       kServing, ""},
      {"counts that begin anew: another dataplane",
       [](Pool &pool) {
         pool.counts(0).progresses = 100;
         pool.pass(100ms);
         pool.counts(0) = {.repeated_opens = 50};
         pool.pass(100ms);
       },
       kServing, ""},
      {"counts of another identifier",
       [](Pool &pool) {
         pool.member(0).identifier = 77;
         pool.counts(0).repeated_opens = 50;
         pool.pass(100ms);
       },
       kServing, ""},
      {"failures while it is down for another reason",
       [](Pool &pool) {
         pool.member(0).serves = false;
         pool.repeat(0, 50);
         pool.member(0).serves = true;
         pool.repeat(0, 4);
       },
       kServing, ""},
  };
  return kCases;
}

TEST(Outlier, each_case) {
  for (const Case &each : cases()) {
    Pool pool(config());
    each.happens(pool);
    EXPECT_EQ(pool.state(0), each.state) << each.what;
    EXPECT_EQ(pool.text(0), each.text) << each.what;
    for (size_t other = 1; other < 4; other++) EXPECT_EQ(pool.state(other), kServing) << each.what;
  }
}

/// By rate alone: half of the connections, of 20 at least within 30 s.
model::PassiveHealth by_rate() {
  model::PassiveHealth rate = config();
  rate.consecutive = 0;
  rate.failure_rate_percent = 50;
  return rate;
}

TEST(OutlierRate, half_of_enough_connections_is_too_much) {
  Pool pool(by_rate());
  for (int i = 0; i < 10; i++) {
    EXPECT_EQ(pool.state(0), kServing) << 2 * i << " connections are too few";
    pool.serve(0, 1);
    pool.counts(0).unreachables++;
    pool.pass(100ms);
  }
  EXPECT_EQ(pool.state(0), kEjected);
  EXPECT_EQ(
      pool.text(0),
      "10 failures beside 10 connections that made progress within 30 s; tried again in 30 s (1st time)");
}

TEST(OutlierRate, less_than_the_rate_is_not) {
  Pool pool(by_rate());
  for (int i = 0; i < 100; i++) {
    pool.serve(0, 2);
    pool.counts(0).unreachables++;
    pool.pass(100ms);
  }
  EXPECT_EQ(pool.state(0), kServing);
}

TEST(OutlierRate, repeated_opens_are_no_share_of_connections) {
  Pool pool(by_rate());
  for (int i = 0; i < 100; i++) {
    pool.serve(0, 1);
    pool.repeat(0, 3);  // of one dead connection beside it
  }
  EXPECT_EQ(pool.state(0), kServing);
}

TEST(OutlierRate, what_is_older_than_the_window_does_not_count) {
  for (const milliseconds pause : {26s, 30s}) {
    Pool pool(by_rate());
    pool.counts(0).unreachables += 10;
    pool.pass(pause);
    pool.serve(0, 9);
    pool.counts(0).unreachables++;
    pool.pass(100ms);
    EXPECT_EQ(pool.state(0), pause < 27s ? kEjected : kServing) << pause.count() << " ms";
  }
}

TEST(OutlierRate, kinds_of_failures_are_not_added_up) {
  Pool pool(by_rate());
  for (int i = 0; i < 30; i++) {
    pool.serve(0, 3);
    pool.counts(0).unreachables += 2;
    pool.repeat(0, 2);
  }
  EXPECT_EQ(pool.state(0), kServing);
}

TEST(OutlierEjection, doubles_up_to_its_longest) {
  Pool pool(config());
  pool.repeat(0, 5);
  for (const int seconds : {30, 60, 120, 120}) {
    EXPECT_EQ(pool.state(0), kEjected);
    pool.pass(seconds * 1000ms - 100ms);
    EXPECT_EQ(pool.state(0), kEjected) << seconds;
    pool.pass(100ms);
    EXPECT_EQ(pool.state(0), kProbing) << seconds;
    pool.repeat(0, 1);
  }
  EXPECT_EQ(pool.text(0), "1 repeated SYN without progress; tried again in 120 s (5th time)");
}

TEST(OutlierEjection, is_shorter_again_after_serving_for_as_long) {
  Pool pool(config());
  const auto eject_and_return = [&pool] {
    pool.repeat(0, 5);
    while (pool.state(0) != kProbing) pool.pass(100ms);
    pool.serve(0, 3);
    EXPECT_EQ(pool.state(0), kServing);
  };
  eject_and_return();
  pool.pass(10s);
  eject_and_return();
  pool.pass(59s);
  pool.repeat(0, 5);
  EXPECT_THAT(pool.text(0), testing::EndsWith("in 120 s (3rd time)"))
      << "60 s of quiet would have been needed";
  while (pool.state(0) != kProbing) pool.pass(100ms);
  pool.serve(0, 3);
  pool.pass(120s + 60s);
  pool.repeat(0, 5);
  EXPECT_THAT(pool.text(0), testing::EndsWith("in 60 s (2nd time)"));
}

TEST(OutlierEjection, what_clients_still_do_meanwhile_changes_nothing) {
  Pool pool(config());
  pool.repeat(0, 5);
  pool.repeat(0, 100);
  pool.serve(0, 10);
  EXPECT_EQ(pool.state(0), kEjected);
  pool.pass(30s);
  EXPECT_EQ(pool.state(0), kProbing);
  EXPECT_EQ(pool.text(0),
            "tried again: 0 of 3 connections made progress; ejected before: 5 repeated SYNs in a row without "
            "progress");
}

class OutlierProbing : public testing::Test {
 protected:
  OutlierProbing() {
    pool_.repeat(0, 5);
    while (pool_.state(0) != kProbing) pool_.pass(100ms);
    pool_.events();
  }
  Pool pool_{config()};
};

TEST_F(OutlierProbing, enough_connections_bring_it_back) {
  pool_.serve(0, 2);
  EXPECT_EQ(pool_.state(0), kProbing);
  pool_.serve(0, 1);
  EXPECT_EQ(pool_.state(0), kServing);
  EXPECT_EQ(pool_.text(0), "");
  EXPECT_THAT(pool_.events(), ElementsAre("b0 back: 3 connections made progress without a failure"));
}

TEST_F(OutlierProbing, one_failure_ejects_it_for_longer) {
  pool_.serve(0, 2);
  pool_.repeat(0, 1);
  EXPECT_EQ(pool_.state(0), kEjected);
  EXPECT_THAT(pool_.events(),
              ElementsAre("b0 ejected: 1 repeated SYN without progress; tried again in 60 s (2nd time)"));
}

TEST_F(OutlierProbing, a_failure_beside_the_last_connection_ejects_it) {
  pool_.counts(0).progresses += 3;
  pool_.counts(0).repeated_opens += 1;
  pool_.pass(100ms);
  EXPECT_EQ(pool_.state(0), kEjected);
}

TEST_F(OutlierProbing, one_connection_without_an_answer_is_a_failure) {
  pool_.counts(0).opens += 1;
  pool_.pass(1100ms);
  EXPECT_EQ(pool_.state(0), kEjected);
}

TEST_F(OutlierProbing, without_clients_ends_when_nothing_spoke_against_it_for_long) {
  pool_.pass(30s);
  EXPECT_EQ(pool_.state(0), kProbing);
  pool_.pass(3600s);
  EXPECT_EQ(pool_.state(0), kServing);
}

TEST(OutlierCeiling, holds_when_all_fail) {
  Pool pool(config(), 4);
  for (size_t i = 0; i < 4; i++) pool.counts(i).repeated_opens += 5;
  pool.pass(5s);
  EXPECT_THAT(
      pool.events(),
      ElementsAre("b0 ejected: 5 repeated SYNs in a row without progress; tried again in 30 s (1st time)",
                  "b1 ejected: 5 repeated SYNs in a row without progress; tried again in 30 s (1st time)",
                  "b2 5 repeated SYNs in a row without progress; not ejected: 2 of 4 are, max_ejected "
                  "is 50%",
                  "b3 5 repeated SYNs in a row without progress; not ejected: 2 of 4 are, max_ejected "
                  "is 50%"));
}

TEST(OutlierCeiling, whom_it_spares_says_so_until_it_does_well) {
  Pool pool(config(), 2);
  pool.repeat(0, 5);
  pool.repeat(1, 5);
  EXPECT_EQ(pool.text(1),
            "5 repeated SYNs in a row without progress; not ejected: 1 of 2 are, max_ejected is 50%");
  pool.repeat(1, 1);
  EXPECT_EQ(pool.text(1),
            "6 repeated SYNs in a row without progress; not ejected: 1 of 2 are, max_ejected is 50%");
  pool.serve(1, 1);
  EXPECT_EQ(pool.text(1), "");
  pool.member(0).serves = false;
  pool.repeat(1, 5);
  EXPECT_EQ(pool.text(1),
            "5 repeated SYNs in a row without progress; not ejected: no other backend of the pool serves");
}

TEST(OutlierCeiling, of_a_small_share_lets_one_go_and_of_all_keeps_one) {
  struct {
    size_t backends;
    uint16_t percent;
    int ejected;
  } const kCeilings[] = {{1, 100, 0}, {2, 1, 1},   {2, 100, 1}, {3, 50, 1},
                         {4, 75, 3},  {4, 100, 3}, {10, 10, 1}, {10, 29, 2}};
  for (const auto &[backends, percent, ejected] : kCeilings) {
    model::PassiveHealth with_percent = config();
    with_percent.max_ejected_percent = percent;
    Pool pool(with_percent, backends);
    for (size_t i = 0; i < backends; i++) pool.counts(i).repeated_opens += 5;
    pool.pass(5s);
    int count = 0;
    for (size_t i = 0; i < backends; i++) count += pool.state(i) == kEjected;
    EXPECT_EQ(count, ejected) << backends << " backends, " << percent << "%";
  }
}

TEST(OutlierCeiling, the_next_one_goes_when_there_is_room_and_it_still_fails) {
  Pool pool(config(), 2);
  pool.repeat(0, 5);
  pool.repeat(1, 5);
  EXPECT_EQ(pool.state(1), kServing);
  pool.pass(30s);
  pool.serve(0, 3);
  EXPECT_EQ(pool.state(0), kServing);
  EXPECT_EQ(pool.state(1), kEjected);
}

TEST(OutlierCeiling, counts_only_who_serves) {
  Pool pool(config(), 4);
  pool.member(2).serves = pool.member(3).serves = false;
  pool.repeat(0, 5);
  pool.repeat(1, 5);
  EXPECT_EQ(pool.state(0), kEjected);
  EXPECT_EQ(pool.state(1), kServing) << "the last one that serves";
}

TEST(OutlierCeiling, who_is_ejected_is_tried_at_once_when_nobody_else_serves) {
  Pool pool(config(), 2);
  pool.repeat(0, 5);
  pool.events();
  pool.member(1).serves = false;
  pool.pass(100ms);
  EXPECT_EQ(pool.state(0), kProbing);
  EXPECT_THAT(pool.events(), ElementsAre("b0 tried: no other backend of the pool serves"));
}

TEST(OutlierPool, another_identifier_is_another_backend) {
  Pool pool(config(), 4);
  pool.repeat(0, 5);
  pool.member(0).identifier = 77;
  pool.pass(100ms);
  EXPECT_EQ(pool.state(0), kServing);
}

TEST(OutlierPool, forgets_who_is_no_longer_there) {
  Pool pool(config(), 4);
  pool.repeat(3, 5);
  EXPECT_EQ(pool.state("b3"), kEjected);
  pool.remove_last();
  pool.pass(100ms);
  EXPECT_EQ(pool.state("b3"), kServing);
}

}  // namespace
}  // namespace sluice
