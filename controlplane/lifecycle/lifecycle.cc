#include "controlplane/lifecycle/lifecycle.h"

#include <algorithm>

namespace sluice {
namespace {

using model::BackendCondition;
using model::Health;
using model::SteadyTime;
using std::chrono::seconds;

constexpr seconds kLongestDrain = std::chrono::hours(24 * 365);

bool is_well(Health health) { return health == Health::kUp || health == Health::kFailing; }

void forget_old_falls(const model::FlapDamping &damping, SteadyTime now, BackendCondition *condition) {
  std::erase_if(condition->falls, [&](SteadyTime fall) { return fall + damping.window <= now; });
}

void advance_hold(const model::Pool &pool, SteadyTime now, BackendCondition *condition) {
  if (!pool.flap_damping || !pool.health.checks()) {
    condition->falls.clear();
    condition->held_until.reset();
    condition->held_for = 0;
    return;
  }
  forget_old_falls(*pool.flap_damping, now, condition);
  if (!condition->held_until || now < *condition->held_until) return;
  condition->held_until.reset();
  condition->held_for = 0;
}

std::optional<seconds> deadline_of(const Member &member) {
  if (member.order != nullptr) return member.order->deadline;
  return member.pool.drain_deadline;
}

// When the drain began, on the host's clock. A restart does not begin it anew.
int64_t drain_begin(const Member &member, const BackendCondition &condition, int64_t now_unix_s) {
  if (member.order != nullptr) return member.order->since_unix_s;
  return condition.drained_since_unix_s.value_or(now_unix_s);
}

void advance_drain(const Member &member, bool wanted, Moment now, std::optional<uint64_t> connections,
                   BackendCondition *condition) {
  if (wanted) {
    condition->drain.reset();
    condition->drained_since_unix_s.reset();
    return;
  }
  const std::optional<seconds> deadline = deadline_of(member);
  if (!condition->drain) {
    const int64_t began_unix_s = drain_begin(member, *condition, now.unix_s);
    // A clock that was set meanwhile makes a deadline neither longer than it was asked for nor shorter than
    // nothing.
    const seconds passed = std::clamp(seconds(now.unix_s - began_unix_s), seconds(0), kLongestDrain);
    condition->drain = model::DrainProgress{.began = now.steady - passed, .began_unix_s = began_unix_s};
  }
  model::DrainProgress &drain = *condition->drain;
  drain.connections_left = connections;
  drain.ends.reset();
  if (member.order != nullptr && member.order->is_pending) {
    drain.deadline_passed = false;
    return;
  }
  if (deadline) drain.ends = drain.began + *deadline;
  drain.deadline_passed = drain.ends && now.steady >= *drain.ends;
}

// A pool's steps go by one beat, so that backends that start at different times step together.
std::chrono::nanoseconds beat_of(const model::Pool &pool) {
  return std::max(std::chrono::nanoseconds(pool.slow_start) / (kRampSteps - 1), std::chrono::nanoseconds(1));
}

uint8_t step_at(const model::Pool &pool, SteadyTime began, SteadyTime now) {
  const std::chrono::nanoseconds beat = beat_of(pool);
  const int64_t beats = now.time_since_epoch() / beat - began.time_since_epoch() / beat;
  return static_cast<uint8_t>(std::clamp<int64_t>(1 + beats, 1, kRampSteps));
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
  } else if (!condition->ramp_began || condition->ramp_length != pool.slow_start) {
    condition->ramp_began = now - beat_of(pool) * (condition->ramp_step - 1);  // goes on from its step
  }
  condition->ramp_length = pool.slow_start;
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
  if (!damped || (!comes_back && !fails_again)) return;
  condition->held_until = now + damping.hold;
  condition->held_for = std::max(condition->held_for, condition->falls.size());
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
