// What is so, whatever the configuration says: results of health checks, what time makes of them, and what
// the operator did to single backends at run time.
#ifndef SLUICE_CONTROLPLANE_MODEL_OBSERVED_STATE_H
#define SLUICE_CONTROLPLANE_MODEL_OBSERVED_STATE_H

#include <chrono>
#include <cstdint>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <unordered_map>
#include <vector>

#include "controlplane/model/desired_state.h"

namespace sluice::model {

/// A steady clock's: no step of the host's clock moves it.
using SteadyTime = std::chrono::steady_clock::time_point;

/// What checks say. kUnknown: never checked yet; kFailing: up, but the last checks failed. A pool with health
/// type none is not checked: this says nothing of its backends.
enum class Health : uint8_t { kUnknown, kUp, kFailing, kDown };

enum class OrderKind : uint8_t { kDrain, kMaintenance };

/// A deadline for what is asked: none, though the pool has one.
inline constexpr std::chrono::seconds kNoDeadline{0};

/// What the operator told of one backend at run time.
struct OperatorOrder {
  OrderKind kind = OrderKind::kDrain;
  std::optional<std::chrono::seconds> deadline;  // after `since_unix_s`: then its connections are given up
  int64_t since_unix_s = 0;
  bool is_pending = false;  // the dataplane does not have it yet: its deadline does not run

  bool operator==(const OperatorOrder &) const = default;
};

/// A drain (or maintenance) that goes on.
struct DrainProgress {
  SteadyTime began;
  int64_t began_unix_s = 0;
  std::optional<SteadyTime> ends;            // its deadline, as the order or the configuration has it now
  std::optional<uint64_t> connections_left;  // as the dataplane counts them; absent: not known now
  bool deadline_passed = false;
  bool is_told = false;  // that it is over
};

/// One backend's.
struct BackendCondition {
  Health health = Health::kUnknown;
  bool ejected = false;  // by passive health: what the dataplane sees of it is bad, whatever checks say
  bool probing = false;  // was ejected and is being tried again: gets the smallest share there is

  bool serving = false;                  // takes new connections
  uint8_t ramp_step = kRampSteps;        // parts of kRampSteps that it has of its weight while it serves
  std::optional<SteadyTime> ramp_began;  // absent: it went on before this sluiced started, or there was none
  std::chrono::milliseconds ramp_length{0};  // the pool's slow_start that ramp_began is for

  std::vector<SteadyTime> falls;                // when it went down, within the pool's flap_damping.window
  std::optional<SteadyTime> held_until;         // well again, but damped: takes nothing before that
  size_t held_for = 0;                          // how many falls that is for
  std::optional<DrainProgress> drain;           // while the operator or the configuration wants it out
  std::optional<int64_t> drained_since_unix_s;  // by the snapshot of before a start; until `drain` is there
};

struct ObservedState {
  std::unordered_map<BackendKey, BackendCondition> backends;  // absent: nothing is known
  std::map<BackendKey, OperatorOrder> orders;
  std::set<std::string> below_quorum;  // services

  const BackendCondition &condition_of(const BackendKey &key) const {
    static const BackendCondition kNothingKnown;
    const auto found = backends.find(key);
    return found == backends.end() ? kNothingKnown : found->second;
  }
  Health health_of(const BackendKey &key) const { return condition_of(key).health; }
  const OperatorOrder *order_of(const BackendKey &key) const {
    const auto found = orders.find(key);
    return found == orders.end() ? nullptr : &found->second;
  }
};

}  // namespace sluice::model

#endif
