#include "controlplane/lifecycle/serving_state.h"

#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "tests/controlplane/lifecycle/documented_rows.h"

namespace sluice {
namespace {

using model::Health;
using Order = Standing::Order;

std::string cell_of(const std::optional<bool> &value) { return value ? (*value ? "yes" : "no") : ""; }

std::string cell_of(const std::optional<Order> &order) {
  if (!order) return "";
  return *order == Order::kMaintenance ? "in maintenance" : *order == Order::kDrain ? "drained" : "serving";
}

std::string cell_of(const std::optional<Health> &health) {
  if (!health) return "";
  switch (*health) {
    case Health::kUnknown:
      return "unknown";
    case Health::kUp:
      return "up";
    case Health::kFailing:
      return "failing";
    case Health::kDown:
      break;
  }
  return "down";
}

TEST(ServingState, table_is_the_documented_one) {
  std::vector<Cells> rows;
  for (const StateRow &row : state_table()) {
    rows.push_back({cell_of(row.order), cell_of(row.drain_over), cell_of(row.health), cell_of(row.held),
                    cell_of(row.ejected), cell_of(row.ramping), std::string(meaning_of(row.state).name)});
  }
  EXPECT_EQ(documented_rows("operator wants it"), rows);
}

TEST(ServingState, meanings_are_the_documented_ones) {
  const std::vector<Cells> rows = documented_rows("state |");
  ASSERT_EQ(rows.size(), kServingStateCount);
  for (size_t i = 0; i < rows.size(); i++) {
    const StateMeaning &meaning = meaning_of(static_cast<ServingState>(i));
    EXPECT_EQ(rows[i][0], meaning.name);
    EXPECT_EQ(rows[i][1].starts_with("yes"), meaning.takes_new) << meaning.name;
    EXPECT_EQ(rows[i][3] != "no", meaning.is_wanted) << meaning.name;
    EXPECT_EQ(rows[i][3] == "as serving", meaning.takes_new) << meaning.name;
  }
}

// Written down once more, as rules instead of rows.
ServingState expected(const Standing &standing) {
  if (standing.order == Order::kMaintenance) return ServingState::kMaintenance;
  if (standing.order == Order::kDrain)
    return standing.drain_over ? ServingState::kDrained : ServingState::kDraining;
  if (standing.health == Health::kUnknown) return ServingState::kUnknown;
  if (standing.health == Health::kDown || standing.held) return ServingState::kDown;
  if (standing.ejected) return ServingState::kEjected;
  if (standing.health == Health::kFailing) return ServingState::kFailing;
  return standing.ramping ? ServingState::kStarting : ServingState::kUp;
}

TEST(ServingState, every_combination_has_its_state) {
  size_t combinations = 0;
  for (const Order order : {Order::kServe, Order::kDrain, Order::kMaintenance}) {
    for (const Health health : {Health::kUnknown, Health::kUp, Health::kFailing, Health::kDown}) {
      for (unsigned bits = 0; bits < 16; bits++) {
        const Standing standing{.order = order,
                                .drain_over = (bits & 1) != 0,
                                .health = health,
                                .held = (bits & 2) != 0,
                                .ejected = (bits & 4) != 0,
                                .ramping = (bits & 8) != 0};
        EXPECT_EQ(serving_state(standing), expected(standing))
            << static_cast<int>(order) << " " << static_cast<int>(health) << " " << bits;
        combinations++;
      }
    }
  }
  EXPECT_EQ(combinations, 192u);
}

TEST(Standing, is_made_of_configuration_order_and_condition) {
  model::Pool pool;
  model::BackendSpec backend;
  model::BackendCondition condition;
  const auto state = [&](const model::OperatorOrder *order = nullptr) {
    return serving_state(standing_of(pool, backend, order, condition));
  };
  EXPECT_EQ(state(), ServingState::kUp) << "nothing is checked";
  pool.health.kind = model::TcpCheck{};
  EXPECT_EQ(state(), ServingState::kUnknown);
  condition.health = Health::kUp;
  condition.ramp_step = 3;
  EXPECT_EQ(state(), ServingState::kStarting);
  condition.ramp_step = kRampSteps;
  condition.probing = true;
  EXPECT_EQ(state(), ServingState::kStarting);
  condition.probing = false;
  condition.held_until = model::SteadyTime{};
  EXPECT_EQ(state(), ServingState::kDown);
  backend.weight = 0;
  EXPECT_EQ(state(), ServingState::kDraining);
  backend.weight = 1;
  backend.drain = true;
  condition.drain = model::DrainProgress{.connections_left = 1};
  EXPECT_EQ(state(), ServingState::kDraining);
  condition.drain->connections_left = 0;
  EXPECT_EQ(state(), ServingState::kDrained);
  condition.drain = model::DrainProgress{.connections_left = 1, .deadline_passed = true};
  EXPECT_EQ(state(), ServingState::kDrained);
  const model::OperatorOrder maintenance{.kind = model::OrderKind::kMaintenance};
  EXPECT_EQ(state(&maintenance), ServingState::kMaintenance);
}

}  // namespace
}  // namespace sluice
