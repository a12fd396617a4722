// Takes expired connections out of the CPUs' tables: a thread that goes from CPU to CPU once a second.
#ifndef SLUICE_XDP_SWEEPER_H
#define SLUICE_XDP_SWEEPER_H

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <functional>
#include <mutex>
#include <thread>

#include "dataplane/abi/result.h"

namespace sluice {

/// Runs of the sweep program per CPU and second, so that one pass over a table takes kSweepPeriodS.
uint32_t sweep_runs_per_second(uint32_t ipv4_buckets, uint32_t ipv6_buckets);

class Sweeper {
 public:
  /// `sweep` is called in the sweeper's thread, bound to one of the CPUs 0 to cpus - 1. After an error the
  /// log says so and the sweeper rests.
  Sweeper(uint32_t cpus, std::function<Status()> sweep);
  Sweeper(const Sweeper &) = delete;
  Sweeper &operator=(const Sweeper &) = delete;
  ~Sweeper();

  /// Whole rounds over all CPUs since the start.
  uint64_t rounds() const { return rounds_.load(); }
  bool failed() const { return failed_.load(); }

 private:
  void run();
  Status sweep_round() const;

  uint32_t cpus_;
  std::function<Status()> sweep_;
  std::atomic<uint64_t> rounds_ = 0;
  std::atomic<bool> failed_ = false;
  std::mutex mutex_;
  std::condition_variable wake_;
  bool stop_ = false;  // guarded by mutex_
  std::thread thread_;
};

}  // namespace sluice

#endif
