// Passive health: what one look at every backend's clients costs sluiced, which takes ten of them a second.
// One pool with every backend that there can be; the dataplane's counters are real shared memory, written
// here. Time is a parameter of the look: nothing waits.
#include <algorithm>
#include <chrono>
#include <functional>
#include <stdexcept>

#include "controlplane/sluiced/client_watch.h"
#include "dataplane/server/shared_memory.h"
#include "tools/bench/benches.h"

namespace sluice::bench {

namespace {

using std::chrono::milliseconds;

constexpr uint32_t kBackends = kMaxBackends - 1;
constexpr uint32_t kQuickBackends = 1000;
constexpr milliseconds kTick{100};
constexpr int kWarmUp = 320;  // looks: more than a window's
constexpr int kLooks = 100;

/// What a backend's clients do between two looks, by its place.
using Life = std::function<void(uint32_t place, BackendCounters *counters)>;

struct Lives {
  const char *name;
  Life life;
};

const Lives kLives[] = {
    {"no clients", [](uint32_t, BackendCounters *) {}},
    {"clients of all go on",
     [](uint32_t, BackendCounters *counters) {
       counters->tcp_opens += 3;
       counters->tcp_progresses += 3;
     }},
    {"of all, one in a hundred opens again",
     [](uint32_t, BackendCounters *counters) {
       counters->tcp_opens += 100;
       counters->tcp_progresses += 99;
       counters->tcp_repeated_opens += 1;
     }},
    {"half of the backends are dead",
     [](uint32_t place, BackendCounters *counters) {
       counters->tcp_opens += 3;
       (place % 2 == 0 ? counters->tcp_progresses : counters->tcp_repeated_opens) += 3;
     }},
    {"all are dead",
     [](uint32_t, BackendCounters *counters) {
       counters->tcp_opens += 3;
       counters->tcp_repeated_opens += 3;
     }},
};

/// One pool with passive health and its defaults.
model::DesiredState one_pool(uint32_t backends) {
  model::DesiredState desired;
  model::Pool &pool = desired.pools.emplace_back();
  pool.name = "pool";
  pool.passive.emplace();
  pool.backends.resize(backends);
  for (uint32_t i = 0; i < backends; i++) {
    pool.backends[i].name = "backend-" + std::to_string(i);
    pool.backends[i].address = address_from_ipv4(__builtin_bswap32(0x0a000000u + i));
  }
  return desired;
}

template <typename Value>
Value must(Result<Value> result) {
  if (!result.ok()) throw std::runtime_error(result.error().message);
  return std::move(result).value();
}

/// The watch, and the counters that it reads.
class World {
 public:
  World(uint32_t backends, uint32_t workers)
      : desired_(one_pool(backends)),
        written_(must(CounterRegion::create({.worker_count = workers}))),
        read_(must(CounterView::open(FileDescriptor(must(written_.read_only_descriptor()).release())))) {
    model::Identifiers identifiers;
    if (const Status assigned = identifiers.assign(desired_, 0); !assigned.ok())
      throw std::runtime_error(assigned.error().message);
    watch_.watch(desired_, identifiers);
    for (uint32_t i = 0; i < backends; i++) {
      watch_.set_serves({0, i}, true);
      identifiers_.push_back(*identifiers.backend_id({"pool", desired_.pools[0].backends[i].name}));
    }
  }

  /// Lets clients live for a tick, on one worker after the other, and looks. How long the look took, in ms.
  double look(const Life &life) {
    const std::span<BackendCounters> counters =
        written_.backends(static_cast<uint32_t>(looks_++) % written_.header().worker_count);
    for (uint32_t i = 0; i < identifiers_.size(); i++) life(i, &counters[identifiers_[i]]);
    now_ += kTick;
    const auto start = std::chrono::steady_clock::now();
    watch_.look(read_, now_);
    return std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - start).count();
  }

 private:
  model::DesiredState desired_;
  CounterRegion written_;
  CounterView read_;
  ClientWatch watch_;
  std::vector<uint16_t> identifiers_;  // by place
  OutlierTime now_{std::chrono::hours(1)};
  uint64_t looks_ = 0;
};

}  // namespace

void bench_passive(const BenchOptions &options, Report *report) {
  const uint32_t backends = options.depth == Depth::kQuick ? kQuickBackends : kBackends;
  report->section("Passive health: one look at all backends of a pool, of which there are ten a second",
                  {"clients", "backends", "workers", "ms", "worst ms"});
  for (const uint32_t workers : {2u, 16u}) {
    for (const Lives &lives : kLives) {
      World world(backends, workers);
      for (int i = 0; i < kWarmUp; i++) world.look(lives.life);
      std::vector<double> times;
      times.reserve(kLooks);
      for (int i = 0; i < kLooks; i++) times.push_back(world.look(lives.life));
      const double worst = *std::ranges::max_element(times);
      const double middle = median(times);
      report->line(
          {lives.name, std::to_string(backends), std::to_string(workers), number(middle), number(worst)},
          {{"bench", "passive"},
           {"clients", lives.name},
           {"backends", backends},
           {"workers", workers},
           {"look_ms", middle},
           {"worst_look_ms", worst}});
    }
  }
}

}  // namespace sluice::bench
