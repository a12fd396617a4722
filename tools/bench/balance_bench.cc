// How evenly a scheduler spreads long-lived connections of skewed length: the core's own schedule()
// over the tables, with connections that come, stay and go in simulated time.
#include <cmath>
#include <queue>
#include <random>

#include "dataplane/core/forward.h"
#include "tools/bench/bench_world.h"
#include "tools/bench/benches.h"

namespace sluice::bench {

namespace {

constexpr uint32_t kBackends = 100;
constexpr double kArrivalsPerSecond = 20000;
constexpr double kMeanSeconds = 2;        // of a connection
constexpr double kSkew = 1.5;             // shape of the Pareto distribution of lengths
constexpr double kLongestSeconds = 300;   // lengths are cut here, so that the mean settles
constexpr double kMergeInterval = 0.005;  // the server's: how old the other workers' counts may be
constexpr double kWarmUp = 20;            // simulated seconds before the first sample

struct Departure {
  double time;
  uint32_t worker;
  uint16_t backend;
  bool operator>(const Departure &other) const { return time > other.time; }
};

/// The workers of a dataplane, each with its own counters, merged now and then.
class Simulation {
 public:
  Simulation(Scheduler scheduler, uint32_t workers, uint64_t seed)
      : world_({.connections = 1024, .services = 1, .backends = kBackends, .scheduler = scheduler}),
        own_(workers, std::vector<BackendCounters>(kBackends + 1)),
        others_(workers, std::vector<uint32_t>(kBackends + 1)),
        random_(seed) {}

  /// Largest over mean of the backends' active connections, averaged over samples of a simulated second.
  double imbalance(double seconds) {
    double sum = 0;
    uint32_t samples = 0;
    for (double next_sample = kWarmUp; now_ < seconds; arrive()) {
      if (now_ < next_sample) continue;
      next_sample += 1;
      sum += largest_over_mean();
      samples++;
    }
    return sum / samples;
  }

 private:
  void arrive() {
    now_ += std::exponential_distribution<double>(kArrivalsPerSecond)(random_);
    while (!departures_.empty() && departures_.top().time <= now_) {
      const Departure &gone = departures_.top();
      tables_connection_closed(tables_of(gone.worker), gone.backend);
      departures_.pop();
    }
    if (now_ >= next_merge_) merge();
    const uint64_t hash = random_();
    const auto worker = static_cast<uint32_t>(random_() % own_.size());
    const Tables *tables = tables_of(worker);
    const Service *service = tables_service(tables, 0);
    const uint16_t backend = schedule(tables, service, hash, backend_of_hash(tables, service, hash));
    tables_connection_opened(tables, backend);
    departures_.push({now_ + length(), worker, backend});
  }

  /// Pareto: many short connections, few very long ones.
  double length() {
    const double shortest = kMeanSeconds * (kSkew - 1) / kSkew;
    const double uniform = std::uniform_real_distribution<double>(1e-9, 1)(random_);
    return std::min(kLongestSeconds, shortest / std::pow(uniform, 1 / kSkew));
  }

  const Tables *tables_of(uint32_t worker) {
    world_.tables().backend_counters = own_[worker].data();
    world_.tables().others_active = others_[worker].data();
    return &world_.tables();
  }

  void merge() {
    next_merge_ = now_ + kMergeInterval;
    for (uint32_t backend = 1; backend <= kBackends; backend++) {
      uint32_t total = 0;
      for (const auto &counters : own_) total += counters[backend].active_connections;
      for (size_t worker = 0; worker < own_.size(); worker++) {
        others_[worker][backend] = total - own_[worker][backend].active_connections;
      }
    }
  }

  double largest_over_mean() const {
    uint64_t total = 0;
    uint64_t largest = 0;
    for (uint32_t backend = 1; backend <= kBackends; backend++) {
      uint64_t active = 0;
      for (const auto &counters : own_) active += counters[backend].active_connections;
      total += active;
      largest = std::max(largest, active);
    }
    return static_cast<double>(largest) * kBackends / static_cast<double>(total);
  }

  World world_;
  std::vector<std::vector<BackendCounters>> own_;
  std::vector<std::vector<uint32_t>> others_;
  std::mt19937_64 random_;
  std::priority_queue<Departure, std::vector<Departure>, std::greater<>> departures_;
  double now_ = 0;
  double next_merge_ = 0;
};

}  // namespace

void bench_balance(const BenchOptions &options, Report *report) {
  const double seconds = options.depth == Depth::kQuick ? 30 : 60;
  report->section("Balance: 100 backends, 40,000 active connections of Pareto-distributed length",
                  {"scheduler", "workers", "largest/mean"});
  for (const uint32_t workers : {1u, 4u}) {
    for (const Scheduler scheduler : {kSchedulerMaglev, kSchedulerLeastConnection}) {
      const double imbalance = Simulation(scheduler, workers, options.seed).imbalance(seconds);
      const char *name = scheduler == kSchedulerMaglev ? "maglev" : "least-connection";
      char cell[16];
      std::snprintf(cell, sizeof(cell), "%.3f", imbalance);
      report->line({name, std::to_string(workers), cell}, {{"bench", "balance"},
                                                           {"scheduler", name},
                                                           {"workers", workers},
                                                           {"largest_over_mean", imbalance}});
    }
  }
}

}  // namespace sluice::bench
