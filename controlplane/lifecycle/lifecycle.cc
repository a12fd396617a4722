#include "controlplane/lifecycle/lifecycle.h"

#include <algorithm>

namespace sluice {
namespace {

using model::BackendCondition;
using model::Health;
using model::SteadyTime;
using std::chrono::seconds;

bool is_well(Health health) { return health == Health::kUp || health == Health::kFailing; }

void forget_old_falls(const model::FlapDamping &damping, SteadyTime now, BackendCondition *condition) {
  std::erase_if(condition->falls, [&](SteadyTime fall) { return fall + damping.window <= now; });
}

void advance_hold(const model::Pool &pool, SteadyTime now, BackendCondition *condition) {
  if (!pool.flap_damping || !pool.health.checks()) {
    condition->falls.clear();
    condition->held_until.reset();
    return;
  }
  forget_old_falls(*pool.flap_damping, now, condition);
  if (condition->held_until && now >= *condition->held_until) condition->held_until.reset();
}

std::optional<seconds> deadline_of(const Member &member) {
  if (member.order != nullptr) return member.order->deadline;
  return member.pool.drain_deadline;
}

// When the deadline is. Of an operator's order a restart may have taken some of the time; a host's clock
// that was set meanwhile makes it neither longer than it was asked for nor shorter than nothing.
std::optional<SteadyTime> drain_end(const Member &member, Moment now) {
  const std::optional<seconds> deadline = deadline_of(member);
  if (!deadline) return std::nullopt;
  seconds passed{0};
  if (member.order != nullptr) {
    passed = std::clamp(seconds(now.unix_s - member.order->since_unix_s), seconds(0), *deadline);
  }
  return now.steady + (*deadline - passed);
}

void advance_drain(const Member &member, bool wanted, Moment now, std::optional<uint64_t> connections,
                   BackendCondition *condition) {
  if (wanted) {
    condition->drain.reset();
    return;
  }
  if (!condition->drain) {
    condition->drain = model::DrainProgress{};
    condition->drain->ends = drain_end(member, now);
  }
  condition->drain->connections_left = connections;
  const std::optional<SteadyTime> &ends = condition->drain->ends;
  if (ends && now.steady >= *ends) condition->drain->deadline_passed = true;
}

// One step is done for each kRampSteps-th part of the pool's slow_start that has passed, and the first at
// once.
uint8_t step_at(const model::Pool &pool, SteadyTime began, SteadyTime now) {
  const auto passed = now - began;
  if (passed >= pool.slow_start) return kRampSteps;
  return static_cast<uint8_t>(1 + passed * (kRampSteps - 1) / pool.slow_start);
}

void advance_ramp(const model::Pool &pool, bool serves, SteadyTime now, BackendCondition *condition) {
  const bool begins = serves && !condition->serving;
  condition->serving = serves;
  if (!serves || pool.slow_start.count() == 0) {
    condition->ramp_step = kRampSteps;
    return;
  }
  const bool is_ramping = begins || condition->probing || condition->ramp_step < kRampSteps;
  if (!is_ramping) return;
  if (begins || condition->probing) {
    condition->ramp_began = now;
  } else if (!condition->ramp_began) {
    condition->ramp_began = now - pool.slow_start * (condition->ramp_step - 1) / (kRampSteps - 1);
  }
  condition->ramp_step = step_at(pool, *condition->ramp_began, now);
}

}  // namespace

void note_health(const Member &member, Health health, SteadyTime now, BackendCondition *condition) {
  const Health before = condition->health;
  condition->health = health;
  if (!member.pool.flap_damping) return;
  const model::FlapDamping &damping = *member.pool.flap_damping;
  if (is_well(before) && health == Health::kDown) condition->falls.push_back(now);
  forget_old_falls(damping, now, condition);
  const bool damped = condition->held_until.has_value() || condition->falls.size() >= damping.falls;
  const bool comes_back = before == Health::kDown && health == Health::kUp;
  const bool fails_again = condition->held_until.has_value() && health != Health::kUp;
  if (damped && (comes_back || fails_again)) condition->held_until = now + damping.hold;
}

void advance(const Member &member, Moment now, std::optional<uint64_t> connections,
             BackendCondition *condition) {
  advance_hold(member.pool, now.steady, condition);
  const ServingState state =
      serving_state(standing_of(member.pool, member.backend, member.order, *condition));
  advance_drain(member, meaning_of(state).is_wanted, now, connections, condition);
  advance_ramp(member.pool, meaning_of(state).takes_new, now.steady, condition);
}

bool is_restless(const BackendCondition &condition) {
  return condition.ramp_step < kRampSteps || condition.held_until.has_value() || condition.drain.has_value();
}

uint8_t ramp_step_of(const BackendCondition &condition) {
  return condition.probing ? 1 : condition.ramp_step;
}

}  // namespace sluice
