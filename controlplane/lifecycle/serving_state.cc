#include "controlplane/lifecycle/serving_state.h"

#include <utility>

namespace sluice {
namespace {

using enum ServingState;
using Order = Standing::Order;
using model::Health;

// What the operator says counts before what checks say, and these before what traffic and time say.
constexpr std::array kTable = {
    StateRow{.order = Order::kMaintenance, .state = kMaintenance},
    StateRow{.order = Order::kDrain, .drain_over = true, .state = kDrained},
    StateRow{.order = Order::kDrain, .state = kDraining},
    StateRow{.health = Health::kUnknown, .state = kUnknown},
    StateRow{.health = Health::kDown, .state = kDown},
    StateRow{.held = true, .state = kDown},
    StateRow{.ejected = true, .state = kEjected},
    StateRow{.health = Health::kFailing, .state = kFailing},
    StateRow{.ramping = true, .state = kStarting},
    StateRow{.state = kUp},
};

constexpr std::array<StateMeaning, kServingStateCount> kMeanings = {{
    {.name = "maintenance", .takes_new = false, .is_wanted = false},
    {.name = "drained", .takes_new = false, .is_wanted = false},
    {.name = "draining", .takes_new = false, .is_wanted = false},
    {.name = "unknown", .takes_new = false, .is_wanted = true},
    {.name = "down", .takes_new = false, .is_wanted = true},
    {.name = "ejected", .takes_new = false, .is_wanted = true},
    {.name = "failing", .takes_new = true, .is_wanted = true},
    {.name = "starting", .takes_new = true, .is_wanted = true},
    {.name = "up", .takes_new = true, .is_wanted = true},
}};

template <typename Value>
bool fits(const std::optional<Value> &wanted, const Value &value) {
  return !wanted || *wanted == value;
}

bool fits(const StateRow &row, const Standing &standing) {
  return fits(row.order, standing.order) && fits(row.drain_over, standing.drain_over) &&
         fits(row.health, standing.health) && fits(row.held, standing.held) &&
         fits(row.ejected, standing.ejected) && fits(row.ramping, standing.ramping);
}

Order order_of(const model::BackendSpec &backend, const model::OperatorOrder *order) {
  if (order != nullptr && order->kind == model::OrderKind::kMaintenance) return Order::kMaintenance;
  const bool drained = order != nullptr || backend.drain || backend.weight == 0;
  return drained ? Order::kDrain : Order::kServe;
}

}  // namespace

bool is_over(const model::DrainProgress &drain) {
  return drain.deadline_passed || drain.connections_left == 0u;
}

std::span<const StateRow> state_table() { return kTable; }

ServingState serving_state(const Standing &standing) {
  for (const StateRow &row : kTable) {
    if (fits(row, standing)) return row.state;
  }
  return kUp;  // the last row fits all
}

const StateMeaning &meaning_of(ServingState state) { return kMeanings[static_cast<size_t>(state)]; }

Standing standing_of(const model::Pool &pool, const model::BackendSpec &backend,
                     const model::OperatorOrder *order, const model::BackendCondition &condition) {
  return {.order = order_of(backend, order),
          .drain_over = condition.drain.has_value() && is_over(*condition.drain),
          .health = pool.health.checks() ? condition.health : Health::kUp,
          .held = condition.held_until.has_value(),
          .ejected = condition.ejected,
          .ramping = condition.probing || condition.ramp_step < kRampSteps};
}

ServingState serving_state_of(const model::Pool &pool, const model::BackendSpec &backend,
                              const model::ObservedState &observed) {
  const model::BackendKey key{pool.name, backend.name};
  return serving_state(standing_of(pool, backend, observed.order_of(key), observed.condition_of(key)));
}

}  // namespace sluice
