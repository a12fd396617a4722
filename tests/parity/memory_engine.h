// What the host core and the DPDK worker's burst share in the parity test: tables in plain memory.
#ifndef SLUICE_TESTS_PARITY_MEMORY_ENGINE_H
#define SLUICE_TESTS_PARITY_MEMORY_ENGINE_H

#include <vector>

#include "dataplane/server/memory_tables.h"
#include "tests/core/test_tables.h"
#include "tests/parity/engines.h"

namespace sluice {

class MemoryEngine : public ParityEngine {
 public:
  explicit MemoryEngine(const WorldShape &shape);

  void install(const ForwardingTables &tables) override;
  void set_budgets(uint32_t worker, const Budgets &budgets) override { workers_[worker].budgets = budgets; }
  void set_others_active(uint32_t worker, std::span<const uint32_t> active) override;
  void sweep(uint32_t worker, uint32_t now_s) override;

  Budgets budgets(uint32_t worker) const override { return workers_[worker].budgets; }
  std::span<ConnectionBucket> table(uint32_t table) override { return tables_[table]; }
  const WorkerCounters &counters(uint32_t worker) const override { return workers_[worker].counters; }
  std::span<const BackendCounters> backends(uint32_t worker) const override {
    return workers_[worker].backends;
  }
  std::span<const TrafficCounters> services(uint32_t worker) const override {
    return workers_[worker].services;
  }

 protected:
  const Tables &tables_of(uint32_t worker) const { return workers_[worker].tables; }
  WorkerCounters &counters_of(uint32_t worker) { return workers_[worker].counters; }
  uint32_t &sweep_cursor(uint32_t worker) { return workers_[worker].sweep_cursor; }

  /// Counts a frame that the host sends on: `transmitted` bytes, 0 if none are.
  void count_transmitted(uint32_t worker, const Outcome &outcome);

 private:
  struct Worker {
    Tables tables;
    Budgets budgets = {};
    DisplacementPath displacement_path = {};
    WorkerCounters counters = {};
    std::vector<BackendCounters> backends = std::vector<BackendCounters>(kMaxBackends);
    std::vector<TrafficCounters> services = std::vector<TrafficCounters>(kMaxServices);
    std::vector<uint32_t> others_active = std::vector<uint32_t>(kMaxBackends);
    std::vector<ConnectionTable> peers;
    uint32_t sweep_cursor = 0;
  };
  void connect(uint32_t worker, const WorldShape &shape);

  ForwardingTables generation_;
  std::vector<BucketArray> tables_;
  std::vector<Worker> workers_;
};

/// Of a frame that goes back or on: by the port.
inline Way way_by_port(uint32_t port) { return port == 0 ? Way::kBack : Way::kByOtherPort; }

}  // namespace sluice

#endif
