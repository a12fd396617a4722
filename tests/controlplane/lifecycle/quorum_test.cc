#include "controlplane/lifecycle/quorum.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace sluice {
namespace {

using model::Health;
using testing::HasSubstr;

// Service "web" of pool "p" with `count` checked backends b0, b1 ...
model::DesiredState pool_of(size_t count, model::Quorum quorum) {
  model::DesiredState desired;
  desired.services.push_back({.name = "web", .pool = "p", .quorum = std::move(quorum)});
  model::Pool &pool = desired.pools.emplace_back();
  pool.name = "p";
  pool.health.kind = model::TcpCheck{};
  for (size_t i = 0; i < count; i++) pool.backends.push_back({.name = "b" + std::to_string(i)});
  return desired;
}

void set_up(model::ObservedState *observed, size_t up, size_t count) {
  for (size_t i = 0; i < count; i++)
    observed->backends[{"p", "b" + std::to_string(i)}].health = i < up ? Health::kUp : Health::kDown;
}

TEST(Quorum, share_is_rounded_up) {
  EXPECT_EQ(needed({50, true}, 4), 2u);
  EXPECT_EQ(needed({50, true}, 5), 3u);
  EXPECT_EQ(needed({1, true}, 5), 1u);
  EXPECT_EQ(needed({100, true}, 5), 5u);
  EXPECT_EQ(needed({50, true}, 0), 1u) << "nobody is no quorum";
  EXPECT_EQ(needed({7, false}, 5), 7u);
}

TEST(Quorum, has_hysteresis) {
  const auto desired = pool_of(10, {.min = {5, false}, .recover = {8, false}});
  model::ObservedState observed;
  std::string history;
  for (const size_t up : {5, 4, 5, 7, 8, 5, 4}) {
    set_up(&observed, up, 10);
    update_quorums(desired, &observed);
    history += observed.below_quorum.contains("web") ? 'B' : '-';
  }
  EXPECT_EQ(history, "-BBB--B");
}

TEST(Quorum, is_a_share_of_those_that_the_operator_wants) {
  const auto desired = pool_of(10, {.min = {50, true}, .recover = {50, true}});
  model::ObservedState observed;
  set_up(&observed, 4, 10);
  update_quorums(desired, &observed);
  EXPECT_TRUE(observed.below_quorum.contains("web"));
  observed.orders[{"p", "b8"}].kind = model::OrderKind::kDrain;
  observed.orders[{"p", "b9"}].kind = model::OrderKind::kMaintenance;
  update_quorums(desired, &observed);
  EXPECT_FALSE(observed.below_quorum.contains("web")) << "4 of 8";
}

TEST(Quorum, is_lost_when_the_operator_takes_everybody_out) {
  const auto desired = pool_of(2, {.min = {50, true}, .recover = {50, true}});
  model::ObservedState observed;
  set_up(&observed, 2, 2);
  for (const char *name : {"b0", "b1"}) observed.orders[{"p", name}] = {};
  update_quorums(desired, &observed);
  EXPECT_TRUE(observed.below_quorum.contains("web"));
}

TEST(Quorum, is_not_lost_by_new_backends_nor_met_by_the_first_of_many) {
  const auto desired = pool_of(10, {.min = {50, true}, .recover = {70, true}});
  model::ObservedState observed;
  set_up(&observed, 3, 3);  // the other seven were never checked
  update_quorums(desired, &observed);
  EXPECT_FALSE(observed.below_quorum.contains("web"));
  observed.below_quorum = {"web"};
  update_quorums(desired, &observed);
  EXPECT_TRUE(observed.below_quorum.contains("web"));
  set_up(&observed, 7, 10);
  update_quorums(desired, &observed);
  EXPECT_FALSE(observed.below_quorum.contains("web"));
}

TEST(Quorum, is_gone_with_its_service) {
  auto desired = pool_of(2, {.min = {2, false}, .recover = {2, false}});
  model::ObservedState observed;
  update_quorums(desired, &observed);
  EXPECT_TRUE(observed.below_quorum.contains("web"));
  desired.services[0].quorum.reset();
  update_quorums(desired, &observed);
  EXPECT_TRUE(observed.below_quorum.empty());
}

TEST(Quorum, says_what_it_does) {
  model::Quorum quorum{.action = model::QuorumAction::kBackupPool, .backup_pool = "standby"};
  EXPECT_THAT(quorum_text(quorum, true), HasSubstr("backup pool standby"));
  EXPECT_THAT(quorum_text(quorum, false), HasSubstr("enough"));
  quorum.action = model::QuorumAction::kWithdraw;
  EXPECT_THAT(quorum_text(quorum, true), HasSubstr("withdrawn"));
  quorum.action = model::QuorumAction::kServeAll;
  EXPECT_THAT(quorum_text(quorum, true), HasSubstr("good or bad"));
}

}  // namespace
}  // namespace sluice
