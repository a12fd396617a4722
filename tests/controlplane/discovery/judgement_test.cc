// What is done with answers: the gate, the wait after a failure, the merge with the configuration, and what
// the operator reads of it.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "controlplane/discovery/answer_gate.h"
#include "controlplane/discovery/backoff.h"
#include "controlplane/discovery/merge.h"
#include "controlplane/discovery/pool_feed.h"
#include "controlplane/discovery/registrations.h"
#include "dataplane/abi/snapshot.h"

namespace sluice {
namespace {

using namespace std::chrono_literals;
using testing::ElementsAre;
using testing::HasSubstr;
using Decision = AnswerGate::Decision;

FoundBackend backend(int number) {
  FoundBackend made;
  made.address.word[2] = 0xffff0000;
  made.address =
      *parse_address("10.1." + std::to_string(number / 250) + "." + std::to_string(number % 250 + 1));
  made.name = "b" + std::to_string(100000 + number);
  return made;
}

std::vector<FoundBackend> backends(int count, int first = 0) {
  std::vector<FoundBackend> made;
  for (int i = first; i < first + count; ++i) made.push_back(backend(i));
  return made;
}

model::DiscoverySpec spec() {
  model::DiscoverySpec spec;
  spec.kind = model::FileSource{"/web.yaml"};
  return spec;
}

constexpr AnswerGate::Clock::time_point kStart{};

TEST(AnswerGate, refuses_what_is_less_than_the_lower_bound) {
  AnswerGate gate;
  const auto verdict = gate.judge(backends(3), {}, spec(), kStart);
  EXPECT_EQ(verdict.decision, Decision::kRefuse);
  EXPECT_EQ(verdict.text, "gave 0 backends, fewer than min_backends, which is 1");
  model::DiscoverySpec any = spec();
  any.min_backends = 0;
  any.max_lost_percent = 100;
  EXPECT_EQ(gate.judge(backends(3), {}, any, kStart).decision, Decision::kTake);
}

TEST(AnswerGate, takes_few_backends_where_there_were_fewer) {
  AnswerGate gate;
  model::DiscoverySpec five = spec();
  five.min_backends = 5;
  EXPECT_EQ(gate.judge({}, {}, five, kStart).decision, Decision::kTake);
  EXPECT_EQ(gate.judge(backends(2), backends(3), five, kStart).decision, Decision::kTake);
  EXPECT_EQ(gate.judge(backends(3), backends(2), five, kStart).decision, Decision::kRefuse);
}

TEST(AnswerGate, holds_what_takes_much_away_until_it_has_stood_for_a_while) {
  AnswerGate gate;
  EXPECT_EQ(gate.judge(backends(4), backends(2), spec(), kStart).decision, Decision::kTake);  // half
  const auto held = gate.judge(backends(4), backends(1), spec(), kStart);
  EXPECT_EQ(held.decision, Decision::kHold);
  EXPECT_EQ(held.text, "takes 3 of 4 backends away at once, more than max_lost_percent, which is 50");
  EXPECT_EQ(held.until, kStart + 30s);
  EXPECT_EQ(gate.judge(backends(4), backends(1), spec(), kStart + 29s).decision, Decision::kHold);
  EXPECT_EQ(gate.judge(backends(4), backends(1), spec(), kStart + 30s).decision, Decision::kTake);
}

TEST(AnswerGate, begins_to_wait_anew_after_an_answer_that_takes_little) {
  AnswerGate gate;
  EXPECT_EQ(gate.judge(backends(4), backends(1), spec(), kStart).decision, Decision::kHold);
  EXPECT_EQ(gate.judge(backends(4), backends(4), spec(), kStart + 20s).decision, Decision::kTake);
  EXPECT_EQ(gate.judge(backends(4), backends(1), spec(), kStart + 30s).decision, Decision::kHold);
  EXPECT_EQ(gate.judge(backends(4), backends(1), spec(), kStart + 60s).decision, Decision::kTake);
}

TEST(AnswerGate, counts_a_backend_at_another_address_as_lost) {
  std::vector<FoundBackend> moved = backends(2);
  moved[1].address = *parse_address("10.9.9.9");
  EXPECT_EQ(count_lost(backends(2), moved), 1u);
  EXPECT_EQ(count_lost(backends(3), backends(3, 1)), 1u);
  EXPECT_EQ(count_lost({}, backends(3)), 0u);
  moved[1] = backends(2)[1];
  moved[1].name = "renamed";
  EXPECT_EQ(count_lost(backends(2), moved), 0u);
}

TEST(Backoff, doubles_up_to_its_limit_with_jitter) {
  std::mt19937_64 random(7);
  for (int i = 0; i < 100; ++i) {
    const auto first = backoff(1, 30s, random);
    EXPECT_GE(first, 500ms);
    EXPECT_LE(first, 1s);
    const auto fourth = backoff(4, 30s, random);
    EXPECT_GE(fourth, 4s);
    EXPECT_LE(fourth, 8s);
    const auto late = backoff(1000000, 30s, random);
    EXPECT_GE(late, 15s);
    EXPECT_LE(late, 30s);
  }
  EXPECT_NE(backoff(10, 1h, random), backoff(10, 1h, random));
}

TEST(Registrations, end_when_they_are_not_heard_of) {
  Registrations registrations;
  FoundBackend first = backend(1);
  first.ttl = 10s;
  FoundBackend second = backend(2);
  second.ttl = 3s;
  registrations.put(first, kStart);
  registrations.put(second, kStart);
  EXPECT_EQ(registrations.next_end(), kStart + 3s);
  registrations.put(second, kStart + 2s);  // a heartbeat
  EXPECT_EQ(registrations.expire(kStart + 4s), 0u);
  EXPECT_EQ(registrations.expire(kStart + 5s), 1u);
  EXPECT_THAT(registrations.backends(), ElementsAre(first));
  EXPECT_FALSE(registrations.remove(second.name));
  EXPECT_TRUE(registrations.remove(first.name));
  EXPECT_FALSE(registrations.next_end().has_value());
}

TEST(Registrations, have_a_whole_time_after_a_restart) {
  FoundBackend known = backend(1);
  known.ttl = 10s;
  Registrations registrations({known}, kStart + 1h);
  EXPECT_EQ(registrations.next_end(), kStart + 1h + 10s);
}

model::DesiredState configured(uint32_t slots = 101) {
  model::DesiredState state;
  state.services.push_back(
      {.name = "web", .vips = {*parse_address("198.51.100.10")}, .ports = {{80, 80}}, .pool = "web"});
  model::Pool pool;
  pool.name = "web";
  pool.slots = slots;
  pool.discovery = spec();
  pool.backends.push_back({.name = "own", .address = *parse_address("10.9.0.1")});
  state.pools.push_back(pool);
  return state;
}

FoundPools found(std::vector<FoundBackend> of_web) {
  return {{"web", std::make_shared<const std::vector<FoundBackend>>(std::move(of_web))}};
}

TEST(Merge, adds_what_was_found_to_the_pools_own_backends) {
  FoundBackend drained = backend(1);
  drained.weight = 0;
  drained.check_port = 8080;
  const auto merged = merge(configured(), found({backend(0), drained}));
  ASSERT_TRUE(merged.ok()) << merged.error().message;
  const auto &members = merged.value().state.pools[0].backends;
  ASSERT_EQ(members.size(), 3u);
  EXPECT_EQ(members[0].name, "own");
  EXPECT_EQ(members[1].name, backend(0).name);
  EXPECT_EQ(members[1].address, backend(0).address);
  EXPECT_EQ(members[1].weight, 100);
  EXPECT_FALSE(members[1].drain);
  EXPECT_TRUE(members[2].drain);
  EXPECT_EQ(members[2].check_port, 0) << "the pool has no checks";
  EXPECT_TRUE(merged.value().left_out.empty());
}

TEST(Merge, keeps_a_port_to_check_where_checks_go_to_a_port) {
  model::DesiredState state = configured();
  state.pools[0].health.kind = model::TcpCheck{};
  FoundBackend one = backend(1);
  one.check_port = 8080;
  EXPECT_EQ(merge(state, found({one})).value().state.pools[0].backends[1].check_port, 8080);
  state.pools[0].health.kind = model::IcmpCheck{};
  EXPECT_EQ(merge(state, found({one})).value().state.pools[0].backends[1].check_port, 0);
}

TEST(Merge, leaves_out_what_the_configuration_has_already_and_vips) {
  FoundBackend vip = backend(1);
  vip.address = *parse_address("198.51.100.10");
  FoundBackend same_name = backend(2);
  same_name.name = "own";
  FoundBackend same_address = backend(3);
  same_address.address = *parse_address("10.9.0.1");
  auto merged = merge(configured(), found({vip, same_address, same_name, backend(4)}));
  ASSERT_TRUE(merged.ok());
  EXPECT_EQ(merged.value().state.pools[0].backends.size(), 2u);
  EXPECT_THAT(merged.value().left_out["web"].first(),
              ElementsAre("b100001: 198.51.100.10 is a VIP",
                          "b100003: the configuration has a backend with the address 10.9.0.1",
                          "own (10.1.0.3): the configuration has a backend of that name"));
}

TEST(Merge, ignores_what_was_found_for_a_pool_without_a_source) {
  model::DesiredState state = configured();
  state.pools[0].discovery = {};
  EXPECT_EQ(merge(state, found(backends(3))).value().state, state);
}

TEST(Merge, refuses_more_backends_than_slots_and_than_a_snapshot_holds) {
  EXPECT_TRUE(merge(configured(), found(backends(100))).ok());
  EXPECT_EQ(merge(configured(), found(backends(101))).error().message,
            "pool web would have 102 backends and has 101 slots");
  EXPECT_TRUE(merge(configured(1048573), found(backends(20000))).ok());
  const int most = kMaxBackends - 1;
  EXPECT_TRUE(merge(configured(1048573), found(backends(most - 1))).ok());
  EXPECT_THAT(merge(configured(1048573), found(backends(most))).error().message,
              HasSubstr("all pools would have 65536 backends; allowed: 65535"));
}

TEST(LostBackends, are_those_that_a_pool_has_neither_by_name_nor_by_address) {
  model::Pool before;
  for (const char *name : {"b3", "b1", "b2"})
    before.backends.push_back({.name = name, .address = *parse_address(std::string("10.0.0.") + name[1])});
  before.backends[0].drain = true;
  before.backends[0].check_address = *parse_address("10.0.1.3");
  before.backends[0].check_port = 81;
  model::Pool now;
  now.backends.push_back({.name = "other", .address = *parse_address("10.0.0.2")});
  const std::vector<FoundBackend> lost = lost_backends(before, now);
  ASSERT_EQ(lost.size(), 2u);
  EXPECT_EQ(lost[0].name, "b1");
  EXPECT_EQ(lost[1].name, "b3");
  EXPECT_TRUE(lost[1].drain);
  EXPECT_EQ(lost[1].check_address, *parse_address("10.0.1.3"));
  EXPECT_EQ(lost[1].check_port, 81);
}

Now at(std::chrono::seconds time) { return {kStart + time, 1'795'262'400 + time.count()}; }

Status any(const std::vector<FoundBackend> & /*backends*/, SkippedEntries * /*left_out*/) { return Done{}; }

TEST(PoolFeed, tells_of_a_source_that_fails_and_of_what_is_kept) {
  PoolFeed feed("web", spec());
  EXPECT_EQ(feed.report(kStart).text, "no answer yet; nothing is known from before");
  EXPECT_TRUE(feed.note_answer({backends(5), {}}, at(10s), any));
  EXPECT_EQ(feed.report(kStart + 12s).text, "5 backends, said 2 s ago");
  EXPECT_FALSE(feed.note_answer({backends(5), {}}, at(20s), any));
  feed.note_failure("server 10.0.0.1 did not answer", at(30s));
  feed.note_failure("server 10.0.0.1 did not answer", at(40s));
  feed.set_next_try(kStart + 68s);
  const SourceReport report = feed.report(kStart + 60s);
  EXPECT_EQ(
      report.text,
      "server 10.0.0.1 did not answer; failing for 30 s; 5 backends of 2026-11-21 12:00:20 UTC are kept; "
      "next try in 8 s");
  EXPECT_EQ(report.state, SourceState::kFailing);
  EXPECT_EQ(report.failures, 2u);
  EXPECT_EQ(report.backends, 5u);
  EXPECT_EQ(report.source, "file /web.yaml");
  EXPECT_EQ(*feed.found(), backends(5));
}

TEST(PoolFeed, takes_a_held_answer_when_its_time_has_come) {
  PoolFeed feed("web", spec());
  feed.note_answer({backends(4), {}}, at(0s), any);
  EXPECT_FALSE(feed.note_answer({backends(1), {}}, at(10s), any));
  EXPECT_EQ(feed.state(), SourceState::kHeld);
  EXPECT_EQ(feed.review_at(), kStart + 40s);
  EXPECT_THAT(
      feed.report(kStart + 19s).text,
      HasSubstr(
          "the answer takes 3 of 4 backends away at once, more than max_lost_percent, which is 50; it is "
          "taken in 21 s if it stays so, meanwhile 4 backends of 2026-11-21 12:00:00 UTC are kept"));
  EXPECT_FALSE(feed.review(at(39s), any));
  EXPECT_TRUE(feed.review(at(40s), any));
  EXPECT_EQ(feed.found()->size(), 1u);
  EXPECT_EQ(feed.state(), SourceState::kOk);
}

TEST(PoolFeed, forgets_a_held_answer_when_the_source_fails) {
  PoolFeed feed("web", spec());
  feed.note_answer({backends(4), {}}, at(0s), any);
  feed.note_answer({backends(1), {}}, at(10s), any);
  feed.note_failure("gone", at(20s));
  EXPECT_FALSE(feed.review_at().has_value());
  EXPECT_FALSE(feed.review(at(1000s), any));
  EXPECT_EQ(feed.found()->size(), 4u);
}

TEST(PoolFeed, keeps_what_it_has_when_an_answer_does_not_fit_and_takes_it_when_it_does) {
  PoolFeed feed("web", spec());
  feed.note_answer({backends(4), {}}, at(0s), any);
  const auto full = [](const auto &, auto *) -> Status { return Error{"pool web has 101 slots"}; };
  EXPECT_FALSE(feed.note_answer({backends(200), {}}, at(1s), full));
  EXPECT_EQ(
      feed.report(kStart + 1s).text,
      "the source gave 200 backends: pool web has 101 slots; 4 backends of 2026-11-21 12:00:00 UTC are kept");
  EXPECT_EQ(feed.found()->size(), 4u);
  EXPECT_TRUE(feed.review(at(2s), any));
  EXPECT_EQ(feed.found()->size(), 200u);
}

TEST(PoolFeed, names_what_it_skips) {
  PoolFeed feed("web", spec());
  Answer answer{{backend(1), backend(1)}, {}};
  answer.skipped.add("line 3: address is missing");
  const auto leaves_one_out = [](const auto &, auto *left_out) -> Status {
    left_out->add("b100001: 10.1.0.2 is a VIP");
    return Done{};
  };
  EXPECT_TRUE(feed.note_answer(tidied(answer), at(0s), leaves_one_out));
  const SourceReport report = feed.report(kStart);
  EXPECT_EQ(report.text,
            "1 backend, said 0 s ago; 2 entries skipped, the first: line 3: address is missing; 1 entry left "
            "out, the "
            "first: b100001: 10.1.0.2 is a VIP");
  EXPECT_THAT(report.skipped,
              ElementsAre("line 3: address is missing", "b100001 (10.1.0.2): the name is there twice",
                          "b100001: 10.1.0.2 is a VIP"));
}

TEST(PoolFeed, does_what_was_asked_for_name_by_name_without_protection) {
  PoolFeed feed("web", spec());
  feed.note_answer({backends(4), {}}, at(0s), any);
  EXPECT_TRUE(feed.note_order({}, at(1s), any));
  EXPECT_TRUE(feed.found()->empty());
}

}  // namespace
}  // namespace sluice
