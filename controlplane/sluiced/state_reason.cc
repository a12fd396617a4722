#include "controlplane/sluiced/state_reason.h"

#include <algorithm>

#include <spdlog/fmt/fmt.h>

namespace sluice {

namespace {

std::string who_drained(const Member &member) {
  return member.order != nullptr ? "drained by the operator" : "drained by the configuration";
}

std::string drain_progress(const model::DrainProgress &drain, model::SteadyTime now) {
  if (drain.deadline_passed) return "the deadline has passed, its connections are given up";
  if (drain.connections_left == 0u) return "no connections are left";
  std::string text =
      "connections left: " + (drain.connections_left ? std::to_string(*drain.connections_left) : "not known");
  if (drain.ends) text += fmt::format(", given up in {} s", seconds_until(*drain.ends, now));
  return text;
}

std::string drain_text(const std::string &who, const Member &member, const model::BackendCondition &condition,
                       const std::string &last_check, model::SteadyTime now) {
  std::string text = who;
  if (condition.drain) text += ": " + drain_progress(*condition.drain, now);
  if (member.order != nullptr && member.order->is_pending && member.order->deadline)
    text += fmt::format(", given up {} s after the dataplane has it", member.order->deadline->count());
  const bool is_bad = condition.health == model::Health::kDown || condition.health == model::Health::kFailing;
  if (member.pool.health.checks() && is_bad) text += "; its checks fail: " + last_check;
  return text;
}

std::string down_text(const Member &member, const model::BackendCondition &condition,
                      const std::string &last_check, model::SteadyTime now) {
  if (condition.health == model::Health::kDown || !condition.held_until) return last_check;
  const model::FlapDamping damping = member.pool.flap_damping.value_or(model::FlapDamping{});
  return fmt::format("well again, but it went down {} times within {} s: held for another {} s",
                     condition.held_for, damping.window.count(), seconds_until(*condition.held_until, now));
}

std::string own_reason(const Member &member, const model::BackendCondition &condition,
                       const EffectivePool &pool, const Findings &findings, ServingState state,
                       model::SteadyTime now) {
  const std::string &last_check = findings.last_check;
  switch (state) {
    case ServingState::kMaintenance:
      return drain_text("put there by the operator", member, condition, last_check, now);
    case ServingState::kDrained:
    case ServingState::kDraining:
      return drain_text(who_drained(member), member, condition, last_check, now);
    case ServingState::kDown:
      return down_text(member, condition, last_check, now);
    case ServingState::kUnknown:
    case ServingState::kFailing:
      return last_check;
    case ServingState::kEjected:
      return findings.passive;
    case ServingState::kStarting:
      if (condition.probing) return findings.passive;
      return fmt::format("slow start: {}% of its share", condition.ramp_step * 100 / kRampSteps);
    case ServingState::kUp:
      break;
  }
  if (!findings.passive.empty()) return findings.passive;
  if (member.backend.priority <= pool.priority || findings.slots > 0) return "";
  return fmt::format("stands by: priority {} serves", pool.priority);
}

}  // namespace

int64_t seconds_until(model::SteadyTime end, model::SteadyTime now) {
  return std::max<int64_t>(0, std::chrono::ceil<std::chrono::seconds>(end - now).count());
}

std::string state_reason(const Member &member, const model::BackendCondition &condition,
                         const EffectivePool &pool, const EffectiveBackend &effective,
                         const Findings &findings, model::SteadyTime now) {
  std::string text = own_reason(member, condition, pool, findings, effective.serving, now);
  if (!effective.failed_open) return text;
  const char *why = pool.fails_open ? "its whole pool failed, and fail_open says to go on"
                                    : "a service is below its quorum and takes all";
  return fmt::format("{}{}serves all the same: {}", text, text.empty() ? "" : "; ", why);
}

}  // namespace sluice
