#include "dataplane/xdp/sweeper.h"

#include <algorithm>
#include <chrono>
#include <utility>

#include <pthread.h>
#include <sched.h>
#include <spdlog/spdlog.h>

#include "bpf/layout.h"
#include "dataplane/core/limits.h"

namespace sluice {

uint32_t sweep_runs_per_second(uint32_t ipv4_buckets, uint32_t ipv6_buckets) {
  // One run looks at so many buckets of each family; the smaller one is looked at more often.
  const uint32_t runs = (std::max(ipv4_buckets, ipv6_buckets) + kXdpSweepBuckets - 1) / kXdpSweepBuckets;
  return (runs + kSweepPeriodS - 1) / kSweepPeriodS;
}

Sweeper::Sweeper(uint32_t cpus, std::function<Status()> sweep)
    : cpus_(cpus), sweep_(std::move(sweep)), thread_([this] { run(); }) {}

Sweeper::~Sweeper() {
  {
    const std::lock_guard lock(mutex_);
    stop_ = true;
  }
  wake_.notify_all();
  thread_.join();
}

Status Sweeper::sweep_round() const {
  for (uint32_t cpu = 0; cpu < cpus_; cpu++) {
    cpu_set_t one;
    CPU_ZERO(&one);
    CPU_SET(cpu, &one);
    // A CPU that is offline, or not this process's to use: its table waits.
    if (::pthread_setaffinity_np(::pthread_self(), sizeof(one), &one) != 0) continue;
    Status swept = sweep_();
    if (!swept.ok()) return swept;
  }
  return Done{};
}

void Sweeper::run() {
  std::unique_lock lock(mutex_);
  while (!wake_.wait_for(lock, std::chrono::seconds(1), [this] { return stop_; })) {
    lock.unlock();
    const Status swept = sweep_round();
    lock.lock();
    if (swept.ok()) {
      rounds_++;
      continue;
    }
    spdlog::warn("expired connections are not taken out, they make room when it is needed: {}",
                 swept.error().message);
    failed_ = true;
    return;
  }
}

}  // namespace sluice
