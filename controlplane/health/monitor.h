// Keeps the health of every backend: schedules the checks, feeds the state machine, tells of changes.
#ifndef SLUICE_CONTROLPLANE_HEALTH_MONITOR_H
#define SLUICE_CONTROLPLANE_HEALTH_MONITOR_H

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "controlplane/health/check.h"
#include "controlplane/health/check_totals.h"
#include "controlplane/health/health_state.h"
#include "controlplane/model/observed_state.h"
#include "dataplane/abi/result.h"

namespace sluice {

/// One backend to watch: the same address in two pools is checked for each. At another `address` it is
/// another backend, even when the check asks where it did before. `initial` counts only when the backend
/// was not watched before.
struct CheckTarget {
  model::BackendKey key;
  Address address{};  // the backend's own; the check may ask elsewhere
  CheckSpec spec;
  model::Health initial = model::Health::kUnknown;
};

/// What is known of one backend.
struct CheckReport {
  model::BackendKey key;
  model::Health health = model::Health::kUnknown;
  CheckOutcome last_outcome = CheckOutcome::kNotCarriedOut;
  std::string last_text;             // of the last check, in words; "not checked yet" before the first
  std::chrono::milliseconds age{0};  // since the last check ended; 0 before the first
  uint64_t checks = 0;               // ended so far
};

struct MonitorStats {
  size_t targets = 0;
  size_t through_dataplane = 0;           // of the targets
  uint64_t through_dataplane_checks = 0;  // of these that ended, whatever became of their targets
  size_t running = 0;
  size_t waiting = 0;  // due, but held back by max_concurrent, or for a turn
  size_t max_concurrent = 0;
  // Of any check behind its schedule, up to where it begins to ask, since the monitor's start.
  std::chrono::microseconds worst_lateness{0};
};

struct MonitorOptions {
  size_t max_concurrent = 1024;  // see concurrent_check_limit()
  uint64_t seed = 0;             // of the jitter that spreads the checks
};

/// Runs on a thread of its own. The first check of a target starts at a random time within its interval
/// (at most a second), the second another random part of the interval later, and the rest at the
/// interval (the fast one while a state is changing), give or take the jitter: so that checks that began
/// together do not stay together.
class HealthMonitor {
 public:
  /// Called on the monitor's thread, outside of its lock, when a backend's health has changed. `address`
  /// is the backend's own: by the time the change is heard of, the key may have another.
  using OnChange = std::function<void(const model::BackendKey &key, const Address &address,
                                      model::Health health, const std::string &reason)>;

  /// Starts the thread. Fails when the host gives no event queue.
  static Result<std::unique_ptr<HealthMonitor>> start(MonitorOptions options, OnChange on_change);
  /// Stops the thread; checks that run are dropped.
  ~HealthMonitor();
  HealthMonitor(const HealthMonitor &) = delete;
  HealthMonitor &operator=(const HealthMonitor &) = delete;

  /// Replaces the whole list. A target that stays keeps its health; one whose check has changed starts
  /// counting anew and is checked soon.
  void set_targets(const std::vector<CheckTarget> &targets);

  /// Every target's report, ordered by key.
  std::vector<CheckReport> reports() const;

  MonitorStats stats() const;

  /// Of all checks since the monitor's start.
  CheckTotalsByKind totals() const;

 private:
  struct Impl;
  explicit HealthMonitor(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace sluice

#endif
