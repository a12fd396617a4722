// Takes expired connections out of the CPUs' tables: a thread that goes from CPU to CPU once a second.
#ifndef SLUICE_XDP_SWEEPER_H
#define SLUICE_XDP_SWEEPER_H

#include <condition_variable>
#include <cstdint>
#include <functional>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "dataplane/abi/result.h"

namespace sluice {

/// Runs of the sweep program per CPU and second, so that one pass over a table takes kSweepPeriodS.
uint32_t sweep_runs_per_second(uint32_t ipv4_buckets, uint32_t ipv6_buckets);

/// Where the calling thread comes to when it is to run on one CPU.
enum class CpuVisit {
  kThere,
  kOffline,   // no packets come there either
  kForbidden  // the CPU runs, but not for this process (a cpuset)
};
CpuVisit visit_cpu(uint32_t cpu);

class Sweeper {
 public:
  /// `sweep` is called in the sweeper's thread, bound to one of the CPUs 0 to cpus - 1 by `visit`. After an
  /// error the log says so and the sweeper rests. Of CPUs that are forbidden the log tells once.
  Sweeper(uint32_t cpus, std::function<Status()> sweep, std::function<CpuVisit(uint32_t)> visit = visit_cpu);
  Sweeper(const Sweeper &) = delete;
  Sweeper &operator=(const Sweeper &) = delete;
  ~Sweeper();

  /// What is not swept and why, for `status`; empty: every CPU's table is.
  std::string problem() const;

 private:
  enum class State { kWorking, kResting };

  void run();
  Status sweep_round(std::vector<uint32_t> *forbidden) const;

  uint32_t cpus_;
  std::function<Status()> sweep_;
  std::function<CpuVisit(uint32_t)> visit_;
  mutable std::mutex mutex_;
  std::condition_variable wake_;
  // Guarded by mutex_.
  bool stop_ = false;
  State state_ = State::kWorking;
  std::vector<uint32_t> forbidden_;  // CPUs, in the last round
  std::thread thread_;
};

}  // namespace sluice

#endif
