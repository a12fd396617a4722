#include "controlplane/health/outlier.h"

#include <functional>
#include <utility>

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
      : config_(config), samples_(backends) {
    for (size_t i = 0; i < backends; i++) {
      members_.push_back({"b" + std::to_string(i), static_cast<uint32_t>(i + 1)});
      samples_[i].serves = true;
    }
    pool_.set_members(members_);
    pass(100ms);
  }

  PassiveCounts &counts(size_t backend) { return samples_[backend].counts; }
  void set_serves(size_t backend, bool serves) { samples_[backend].serves = serves; }
  model::PassiveHealth &config() { return config_; }
  void identify(size_t backend, uint32_t identifier) {
    members_[backend].identifier = identifier;
    pool_.set_members(members_);
  }
  void remove(size_t backend) {
    members_.erase(members_.begin() + static_cast<ptrdiff_t>(backend));
    samples_.erase(samples_.begin() + static_cast<ptrdiff_t>(backend));
    pool_.set_members(members_);
  }
  void look_away(milliseconds time) {
    now_ += time;
    note(pool_.let_back(now_));
  }

  void pass(milliseconds time) {
    for (; time > 0ms; time -= 100ms) {
      now_ += 100ms;
      note(pool_.observe(config_, now_, samples_));
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

  OutlierState state(size_t backend) const { return pool_.state(backend); }
  size_t count(OutlierState state) const {
    size_t count = 0;
    for (size_t i = 0; i < members_.size(); i++) count += pool_.state(i) == state ? 1 : 0;
    return count;
  }
  std::string text(size_t backend) const { return pool_.text(config_, backend, now_); }
  /// Everything that happened since this was last asked, as "b0: text".
  std::vector<std::string> events() { return std::exchange(events_, {}); }

 private:
  void note(const std::vector<OutlierEvent> &events) {
    constexpr const char *kKinds[] = {" ejected: ", " ", " tried: ", " back: "};
    for (const OutlierEvent &event : events) {
      const bool is_pools = event.kind == OutlierEvent::Kind::kAllFail;
      events_.push_back(
          (is_pools ? "all: " : members_[event.place].name + kKinds[static_cast<size_t>(event.kind)]) +
          event.text);
    }
  }

  model::PassiveHealth config_;
  std::vector<OutlierPool::Member> members_;
  std::vector<OutlierPool::Sample> samples_;
  OutlierPool pool_;
  OutlierTime now_{1000s};
  std::vector<std::string> events_;
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
         pool.identify(0, 77);
         pool.counts(0).repeated_opens = 50;
         pool.pass(100ms);
       },
       kServing, ""},
      {"failures while it is down for another reason",
       [](Pool &pool) {
         pool.set_serves(0, false);
         pool.repeat(0, 50);
         pool.set_serves(0, true);
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
  pool_.pass(30s + 30s - 100ms);  // the window and its ejection
  EXPECT_EQ(pool_.state(0), kProbing);
  pool_.pass(100ms);
  EXPECT_EQ(pool_.state(0), kServing);
  EXPECT_THAT(pool_.events(), ElementsAre("b0 back: nothing spoke against it while it was tried"));
}

TEST_F(OutlierProbing, whose_clients_all_reset_is_decided_as_if_it_had_none) {
  for (int i = 0; i < 59; i++) {
    pool_.counts(0).opens++;
    pool_.counts(0).resets++;
    pool_.pass(1s);
    EXPECT_EQ(pool_.state(0), kProbing) << i;
  }
  pool_.pass(1s);
  EXPECT_EQ(pool_.state(0), kServing);
}

TEST_F(OutlierProbing, a_reset_ejects_it_where_resets_are_failures) {
  pool_.config().signals = 0b1000;
  pool_.counts(0).resets++;
  pool_.pass(100ms);
  EXPECT_EQ(pool_.state(0), kEjected);
}

/// Of a pool whose backends from `first` on serve well: their clients go on while the others fail.
void serve_all_from(Pool *pool, size_t first, size_t end) {
  for (size_t i = first; i < end; i++) pool->counts(i).progresses++;
  pool->pass(100ms);
}

TEST(OutlierOfAll, nobody_is_ejected_when_all_fail) {
  Pool pool(config(), 4);
  for (size_t i = 0; i < 4; i++) pool.counts(i).repeated_opens += 5;
  pool.pass(5s);
  EXPECT_EQ(pool.count(kEjected), 0u);
  EXPECT_EQ(pool.text(3),
            "5 repeated SYNs in a row without progress; not ejected: all 4 backends that have traffic fail");
  EXPECT_THAT(pool.events(), ElementsAre("all: all 4 backends that have traffic fail, so none is ejected"));
  for (int i = 0; i < 50; i++) {
    for (size_t backend = 0; backend < 4; backend++) pool.counts(backend).repeated_opens++;
    pool.pass(1s);
  }
  EXPECT_THAT(pool.events(), ElementsAre()) << "said once";
}

TEST(OutlierOfAll, nobody_is_ejected_when_all_fail_though_their_failures_add_up_one_after_the_other) {
  Pool pool(config(), 4);
  serve_all_from(&pool, 0, 4);
  pool.pass(5s);
  for (int i = 0; i < 7; i++) {
    for (size_t backend = 0; backend < 4; backend++) {
      pool.counts(backend).repeated_opens++;
      pool.pass(100ms);
    }
  }
  EXPECT_EQ(pool.count(kEjected), 0u);
}

TEST(OutlierOfAll, all_fail_too_when_others_have_no_traffic) {
  Pool pool(config(), 4);
  pool.counts(0).repeated_opens += 5;
  pool.counts(1).repeated_opens += 5;
  pool.pass(2s);
  EXPECT_EQ(pool.count(kEjected), 0u);
  EXPECT_THAT(pool.events(), ElementsAre("all: all 2 backends that have traffic fail, so none is ejected"));
}

TEST(OutlierOfAll, they_fail_by_rate_too) {
  Pool pool(by_rate(), 3);
  for (size_t i = 0; i < 3; i++) {
    pool.counts(i).progresses += 20;
    pool.counts(i).unreachables += 20 + i;
  }
  pool.pass(1s);
  EXPECT_EQ(pool.count(kEjected), 0u);
}

/// Datagrams only: nobody is seen to go on.
TEST(OutlierOfAll, who_gets_packets_and_no_icmp_error_does_better) {
  for (const bool others_have_traffic : {false, true}) {
    for (const model::PassiveHealth &each : {config(), by_rate()}) {
      Pool pool(each, 4);
      for (int i = 0; i < 20; i++) {
        for (size_t backend = 0; backend < 4; backend++)
          pool.counts(backend).packets += backend < 2 || others_have_traffic ? 3 : 0;
        for (size_t backend = 0; backend < 2; backend++) pool.counts(backend).unreachables += 3;
        pool.pass(100ms);
      }
      EXPECT_EQ(pool.count(kEjected), others_have_traffic ? 2u : 0u);
    }
  }
}

TEST(OutlierOfAll, who_has_icmp_errors_now_and_then_among_many_packets_is_no_proof) {
  Pool pool(config(), 3);
  for (int i = 0; i < 50; i++) {
    for (size_t backend = 0; backend < 3; backend++) pool.counts(backend).packets += 10;
    pool.counts(i < 5 ? 2 : 0).unreachables += i < 4 ? 1 : i == 4 ? 0 : 1;
    pool.counts(1).unreachables += 1;
    pool.pass(100ms);
  }
  EXPECT_EQ(pool.count(kEjected), 0u);
}

TEST(OutlierOfAll, they_die_together_and_fail_by_rate_one_after_the_other) {
  Pool pool(by_rate(), 3);
  for (int i = 0; i < 10; i++) serve_all_from(&pool, 0, 3);
  for (int i = 0; i < 40; i++) {
    for (size_t backend = 0; backend < 3; backend++) pool.counts(backend).unreachables += 1 + backend;
    pool.pass(500ms);
  }
  EXPECT_EQ(pool.count(kEjected), 0u);
}

TEST(OutlierOfAll, clients_of_others_that_go_on_with_what_they_got_before_are_no_proof) {
  Pool pool(config(), 2);
  pool.counts(0).opens += 5;
  pool.pass(300ms);
  pool.counts(1).progresses++;  // its SYN-ACK was on its way
  pool.pass(600ms);
  pool.counts(1).repeated_opens++;
  pool.pass(1s);
  EXPECT_EQ(pool.count(kEjected), 0u);
  EXPECT_THAT(pool.text(0), testing::EndsWith("not ejected: all 2 backends that have traffic fail"));
}

TEST(OutlierOfAll, what_the_next_client_refutes_is_not_told) {
  Pool pool(config(), 3);
  pool.counts(0).unreachables += 5;
  pool.counts(1).unreachables += 6;
  pool.pass(500ms);
  EXPECT_EQ(pool.count(kEjected), 0u);
  serve_all_from(&pool, 2, 3);
  EXPECT_EQ(pool.state(1), kEjected);
  EXPECT_THAT(pool.events(), ElementsAre(testing::StartsWith("b1 ejected"), testing::StartsWith("b0 5")));
}

TEST(OutlierOfAll, who_still_fails_when_others_go_on_is_ejected) {
  Pool pool(config(), 4);
  for (size_t i = 0; i < 4; i++) pool.counts(i).repeated_opens += 5;
  pool.pass(5s);
  for (int i = 0; i < 20; i++) {
    serve_all_from(&pool, 1, 4);
    EXPECT_EQ(pool.count(kServing), 4u) << i << ": they may be mended one after the other";
  }
  pool.pass(500ms);
  pool.repeat(0, 1);
  EXPECT_EQ(pool.state(0), kEjected);
  EXPECT_EQ(pool.count(kServing), 3u);
  EXPECT_EQ(pool.text(1), "");
}

TEST(OutlierOfAll, said_again_after_a_window_without_it) {
  Pool pool(config(), 2);
  for (int times = 0; times < 3; times++) {
    for (size_t i = 0; i < 2; i++) pool.counts(i).repeated_opens += 5;
    pool.pass(times == 0 ? 20s : 61s);
    EXPECT_EQ(pool.events().size(), times == 1 ? 0u : 1u) << times;
  }
}

TEST(OutlierOfAll, an_ejection_lasts_no_longer_than_the_first_while_all_fail) {
  Pool pool(config(), 3);
  pool.repeat(0, 5);
  pool.pass(30s);
  pool.repeat(0, 1);
  EXPECT_THAT(pool.text(0), testing::EndsWith("tried again in 60 s (2nd time)"));
  pool.events();
  for (int i = 0; i < 30; i++) {
    for (size_t backend = 0; backend < 3; backend++) pool.counts(backend).repeated_opens += 5;
    EXPECT_EQ(pool.state(0), kEjected) << i;
    pool.pass(1s);
  }
  EXPECT_EQ(pool.state(0), kProbing);
  EXPECT_THAT(pool.events(), testing::Contains("b0 tried: all others fail, too"));
}

TEST(OutlierOfAll, who_is_half_open_then_is_not_ejected_for_longer) {
  Pool pool(config(), 3);
  pool.repeat(0, 5);
  pool.pass(30s);
  EXPECT_EQ(pool.state(0), kProbing);
  for (size_t i = 0; i < 3; i++) pool.counts(i).repeated_opens += 5;
  pool.pass(1s);
  EXPECT_EQ(pool.state(0), kProbing);
  EXPECT_THAT(pool.text(0), testing::EndsWith("not ejected: all 3 backends that have traffic fail"));
}

struct WorstCase {
  const char *what;
  std::function<void(Pool &)> happens;  // while b2 is well
  size_t ejected;
};

TEST(OutlierCeiling, the_worst_goes_first) {
  const WorstCase kCases[] = {
      {"more failures in a row",
       [](Pool &pool) {
         pool.counts(0).unreachables += 5;
         pool.counts(1).unreachables += 6;
       },
       1},
      {"as many: by name",
       [](Pool &pool) {
         pool.counts(0).unreachables += 6;
         pool.counts(1).unreachables += 6;
       },
       0},
      {"a higher rate, of fewer connections",
       [](Pool &pool) {
         pool.counts(0) = {.progresses = 100, .unreachables = 150};
         pool.counts(1) = {.progresses = 10, .unreachables = 20};
       },
       1},
      {"no progress at all is worse than a rate",
       [](Pool &pool) {
         pool.counts(0) = {.progresses = 100, .unreachables = 900};
         pool.counts(1).unreachables += 5;
       },
       1},
  };
  for (const WorstCase &each : kCases) {
    model::PassiveHealth with_both = config();
    with_both.failure_rate_percent = 50;
    Pool pool(with_both, 3);
    each.happens(pool);
    serve_all_from(&pool, 2, 3);
    EXPECT_EQ(pool.count(kEjected), 1u) << each.what;
    EXPECT_EQ(pool.state(each.ejected), kEjected) << each.what;
    EXPECT_THAT(pool.text(1 - each.ejected), testing::EndsWith("not ejected: 1 of 3 are, max_ejected is 50%"))
        << each.what;
  }
}

TEST(OutlierCeiling, whom_it_spares_says_so_until_it_does_well) {
  Pool pool(config(), 3);
  serve_all_from(&pool, 2, 3);
  pool.repeat(0, 5);
  serve_all_from(&pool, 2, 3);
  pool.repeat(1, 5);
  serve_all_from(&pool, 2, 3);
  EXPECT_EQ(pool.text(1),
            "5 repeated SYNs in a row without progress; not ejected: 1 of 3 are, max_ejected is 50%");
  pool.repeat(1, 1);
  EXPECT_EQ(pool.text(1),
            "6 repeated SYNs in a row without progress; not ejected: 1 of 3 are, max_ejected is 50%");
  pool.serve(1, 1);
  EXPECT_EQ(pool.text(1), "");
  pool.set_serves(0, false);
  pool.set_serves(2, false);
  pool.pass(31s);  // what was before is no comparison any more
  pool.repeat(1, 5);
  EXPECT_EQ(pool.text(1),
            "5 repeated SYNs in a row without progress; not ejected: no other backend of the pool serves");
}

TEST(OutlierCeiling, whom_it_spares_is_told_once_for_each_reason_however_long_it_fails) {
  Pool pool(config(), 3);
  pool.repeat(0, 5);
  serve_all_from(&pool, 2, 3);
  for (int i = 0; i < 10; i++) {  // fails, and now and then does not
    pool.repeat(1, 6);
    serve_all_from(&pool, 1, 3);
  }
  EXPECT_THAT(pool.events(), ElementsAre(testing::StartsWith("b0 ejected"),
                                         testing::EndsWith("not ejected: 1 of 3 are, max_ejected is 50%")));
  pool.set_serves(2, false);
  pool.repeat(1, 20);
  EXPECT_THAT(pool.events(), ElementsAre("all: all 2 backends that have traffic fail, so none is ejected"));
}

TEST(OutlierCeiling, of_a_small_share_lets_one_go_and_of_all_keeps_one) {
  struct {
    size_t backends;
    uint16_t percent;
    size_t failing;
    size_t ejected;
  } const kCeilings[] = {{1, 100, 1, 0}, {2, 1, 1, 1},   {2, 100, 1, 1}, {3, 50, 2, 1},
                         {4, 75, 3, 3},  {4, 100, 3, 3}, {10, 10, 9, 1}, {10, 29, 9, 2}};
  for (const auto &[backends, percent, failing, ejected] : kCeilings) {
    model::PassiveHealth with_percent = config();
    with_percent.max_ejected_percent = percent;
    Pool pool(with_percent, backends);
    for (size_t i = 0; i < failing; i++) pool.counts(i).repeated_opens += 5;
    serve_all_from(&pool, failing, backends);
    EXPECT_EQ(pool.count(kEjected), ejected) << backends << " backends, " << percent << "%";
  }
}

TEST(OutlierCeiling, the_next_one_goes_when_there_is_room_and_it_still_fails) {
  Pool pool(config(), 2);
  pool.repeat(0, 5);
  pool.repeat(1, 5);
  EXPECT_EQ(pool.state(1), kServing);
  pool.pass(29s);
  pool.repeat(1, 1);
  pool.pass(1s);
  pool.serve(0, 3);
  EXPECT_EQ(pool.state(0), kServing);
  EXPECT_EQ(pool.state(1), kEjected);
}

TEST(OutlierCeiling, counts_only_who_serves) {
  Pool pool(config(), 4);
  pool.set_serves(2, false);
  pool.set_serves(3, false);
  pool.repeat(0, 5);
  pool.pass(31s);
  pool.counts(0).progresses++;  // half-open, and well until now
  pool.repeat(1, 5);
  EXPECT_EQ(pool.state(1), kServing);
  EXPECT_THAT(pool.text(1), testing::EndsWith("not ejected: no other backend of the pool serves"));
}

TEST(OutlierCeiling, who_is_ejected_counts_while_its_checks_take_it_down_too) {
  Pool pool(config(), 3);
  pool.repeat(0, 5);
  EXPECT_EQ(pool.state(0), kEjected);
  pool.set_serves(0, false);
  pool.pass(100ms);
  pool.repeat(1, 5);
  serve_all_from(&pool, 2, 3);
  EXPECT_EQ(pool.state(1), kServing);
  EXPECT_THAT(pool.text(1), testing::EndsWith("not ejected: 1 of 3 are, max_ejected is 50%"));
  pool.set_serves(0, true);
  pool.pass(100ms);
  EXPECT_EQ(pool.count(kEjected), 1u) << "else one of three would serve";
}

TEST(OutlierCeiling, who_is_down_when_its_ejection_is_over_counts_no_longer_and_is_tried_when_it_is_up) {
  Pool pool(config(), 3);
  pool.repeat(0, 5);
  pool.set_serves(0, false);
  pool.events();
  pool.pass(300s);
  EXPECT_THAT(pool.events(), ElementsAre()) << "nobody can try it";
  pool.repeat(1, 5);
  serve_all_from(&pool, 2, 3);
  EXPECT_EQ(pool.state(1), kEjected);
  pool.set_serves(0, true);
  pool.pass(100ms);
  EXPECT_EQ(pool.state(0), kProbing);
}

TEST(OutlierCeiling, who_is_half_open_and_goes_down_has_shown_nothing_meanwhile) {
  Pool pool(config(), 3);
  pool.repeat(0, 5);
  pool.pass(30s);
  EXPECT_EQ(pool.state(0), kProbing);
  pool.set_serves(0, false);
  pool.pass(600s);
  EXPECT_EQ(pool.state(0), kProbing);
  pool.set_serves(0, true);
  pool.pass(59s);
  EXPECT_EQ(pool.state(0), kProbing);
}

TEST(OutlierCeiling, who_is_ejected_is_tried_at_once_when_nobody_else_serves) {
  Pool pool(config(), 2);
  pool.repeat(0, 5);
  pool.events();
  pool.set_serves(1, false);
  pool.pass(100ms);
  EXPECT_EQ(pool.state(0), kProbing);
  EXPECT_THAT(pool.events(), ElementsAre("b0 tried: no other backend of the pool serves"));
}

TEST(OutlierCeiling, who_is_tried_since_nobody_else_serves_is_not_ejected_over_and_over) {
  Pool pool(config(), 2);
  pool.repeat(0, 5);
  pool.set_serves(1, false);
  pool.pass(100ms);
  pool.events();
  pool.repeat(0, 100);
  EXPECT_EQ(pool.state(0), kProbing);
  EXPECT_THAT(pool.events(), ElementsAre("b0 1 repeated SYN without progress; not ejected: no other backend "
                                         "of the pool serves"));
  pool.serve(0, 3);
  EXPECT_EQ(pool.state(0), kServing);
  pool.set_serves(1, true);
  pool.repeat(0, 5);
  EXPECT_THAT(pool.text(0), testing::EndsWith("(2nd time)"));
}

TEST(OutlierBlind, whose_time_is_over_serves_again_while_nothing_is_seen) {
  Pool pool(config(), 4);
  pool.repeat(0, 5);
  pool.events();
  pool.look_away(29s);
  EXPECT_EQ(pool.state(0), kEjected);
  pool.look_away(1s);
  EXPECT_EQ(pool.state(0), kServing);
  EXPECT_THAT(pool.events(), ElementsAre("b0 back: its time is over, and it cannot be seen how it does"));
}

TEST(OutlierPool, another_identifier_is_another_backend) {
  Pool pool(config(), 4);
  pool.repeat(0, 5);
  pool.identify(0, 77);
  pool.pass(100ms);
  EXPECT_EQ(pool.state(0), kServing);
}

TEST(OutlierPool, forgets_who_is_no_longer_there) {
  Pool pool(config(), 4);
  pool.repeat(3, 5);
  EXPECT_EQ(pool.state(3), kEjected);
  pool.remove(0);
  pool.pass(100ms);
  EXPECT_EQ(pool.state(2), kEjected) << "the same backend at another place";
  pool.remove(2);
  pool.pass(100ms);
  EXPECT_EQ(pool.count(kEjected), 0u);
}

}  // namespace
}  // namespace sluice
