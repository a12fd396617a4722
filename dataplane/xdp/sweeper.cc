#include "dataplane/xdp/sweeper.h"

#include <algorithm>
#include <chrono>
#include <fstream>
#include <utility>

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <pthread.h>
#include <sched.h>
#include <spdlog/spdlog.h>

#include "bpf/layout.h"
#include "dataplane/core/limits.h"

namespace sluice {
namespace {

constexpr const char *kWithoutSweep =
    "expired connections make room when it is needed, and count as active until then";

bool is_online(uint32_t cpu) {
  std::ifstream file(fmt::format("/sys/devices/system/cpu/cpu{}/online", cpu));
  int online = cpu == 0 ? 1 : 0;  // the first has no such file where it cannot go offline
  file >> online;
  return online != 0;
}

std::string text_of(const std::vector<uint32_t> &forbidden) {
  if (forbidden.empty()) return "";
  return fmt::format(
      "not on CPUs {}, where this process may not run (its cpuset: AllowedCPUs= of the service); "
      "there, {}",
      fmt::join(forbidden, ", "), kWithoutSweep);
}

}  // namespace

uint32_t sweep_runs_per_second(uint32_t ipv4_buckets, uint32_t ipv6_buckets) {
  // One run looks at so many buckets of each family; the smaller one is looked at more often.
  const uint32_t runs = (std::max(ipv4_buckets, ipv6_buckets) + kXdpSweepBuckets - 1) / kXdpSweepBuckets;
  return (runs + kSweepPeriodS - 1) / kSweepPeriodS;
}

CpuVisit visit_cpu(uint32_t cpu) {
  cpu_set_t one;
  CPU_ZERO(&one);
  CPU_SET(cpu, &one);
  if (::pthread_setaffinity_np(::pthread_self(), sizeof(one), &one) == 0) return CpuVisit::kThere;
  return is_online(cpu) ? CpuVisit::kForbidden : CpuVisit::kOffline;
}

Sweeper::Sweeper(uint32_t cpus, std::function<Status()> sweep, std::function<CpuVisit(uint32_t)> visit)
    : cpus_(cpus), sweep_(std::move(sweep)), visit_(std::move(visit)), thread_([this] { run(); }) {}

Sweeper::~Sweeper() {
  {
    const std::lock_guard lock(mutex_);
    stop_ = true;
  }
  wake_.notify_all();
  thread_.join();
}

std::string Sweeper::problem() const {
  const std::lock_guard lock(mutex_);
  if (state_ == State::kResting) return "off: the kernel does not run it (the log says why)";
  return text_of(forbidden_);
}

Status Sweeper::sweep_round(std::vector<uint32_t> *forbidden) const {
  for (uint32_t cpu = 0; cpu < cpus_; cpu++) {
    const CpuVisit visit = visit_(cpu);
    if (visit == CpuVisit::kForbidden) forbidden->push_back(cpu);
    if (visit != CpuVisit::kThere) continue;
    Status swept = sweep_();
    if (!swept.ok()) return swept;
  }
  return Done{};
}

void Sweeper::run() {
  std::unique_lock lock(mutex_);
  while (!wake_.wait_for(lock, std::chrono::seconds(1), [this] { return stop_; })) {
    lock.unlock();
    std::vector<uint32_t> forbidden;
    const Status swept = sweep_round(&forbidden);
    lock.lock();
    if (!swept.ok()) {
      spdlog::warn("expired connections are not taken out, they make room when it is needed: {}",
                   swept.error().message);
      state_ = State::kResting;
      return;
    }
    if (forbidden != forbidden_ && !forbidden.empty()) spdlog::warn("sweep: {}", text_of(forbidden));
    forbidden_ = std::move(forbidden);
  }
}

}  // namespace sluice
