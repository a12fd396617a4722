#include "controlplane/publish/counter_reader.h"

#include <algorithm>

namespace sluice {
namespace {

// A counter that its worker writes at the same time: one load, whole.
uint64_t read(const uint64_t &counter) { return __atomic_load_n(&counter, __ATOMIC_RELAXED); }
uint32_t read(const uint32_t &counter) { return __atomic_load_n(&counter, __ATOMIC_RELAXED); }

void add_worker(const WorkerCounters &worker, CounterTotals *totals) {
  for (size_t verdict = 0; verdict < kVerdictCount; ++verdict) {
    totals->verdict_packets[verdict] += read(worker.verdict_packets[verdict]);
  }
  totals->received_packets += read(worker.received_packets);
  totals->received_bytes += read(worker.received_bytes);
  totals->transmitted_packets += read(worker.transmitted_packets);
  totals->transmitted_bytes += read(worker.transmitted_bytes);
  totals->kernel_packets += read(worker.kernel_packets);
  totals->steered_packets += read(worker.steered_packets);
  totals->evicted_entries += read(worker.evicted_entries);
  totals->expired_entries += read(worker.expired_entries);
  totals->adoption_lookups += read(worker.adoption_lookups);
  totals->busy_cycles += read(worker.busy_cycles);
  totals->total_cycles += read(worker.total_cycles);
}

void add_backend(const BackendCounters &backend, BackendTotals *totals) {
  totals->packets += read(backend.packets);
  totals->bytes += read(backend.bytes);
  totals->opened_connections += read(backend.opened_connections);
  totals->active_connections += read(backend.active_connections);
  totals->tcp_opens += read(backend.tcp_opens);
  totals->tcp_progresses += read(backend.tcp_progresses);
  totals->tcp_repeated_opens += read(backend.tcp_repeated_opens);
  totals->tcp_resets += read(backend.tcp_resets);
}

}  // namespace

const std::array<VerdictText, kVerdictCount> &verdict_texts() {
  static constexpr std::array<VerdictText, kVerdictCount> kTexts = {{
#define SLUICE_VERDICT(identifier, class_, metric, help) {metric, help},
#include "dataplane/abi/verdicts.def"
#undef SLUICE_VERDICT
  }};
  return kTexts;
}

CounterTotals read_worker(const CounterView &region, uint32_t worker_index) {
  CounterTotals totals;
  add_worker(region.worker(worker_index), &totals);
  return totals;
}

CounterTotals read_totals(const CounterView &region) {
  CounterTotals totals;
  for (uint32_t worker = 0; worker < region.header().worker_count; ++worker) {
    add_worker(region.worker(worker), &totals);
  }
  return totals;
}

BackendTotals read_backend(const CounterView &region, uint32_t backend_id) {
  BackendTotals totals;
  if (backend_id >= region.header().backend_capacity) return totals;
  for (uint32_t worker = 0; worker < region.header().worker_count; ++worker)
    add_backend(region.backend(worker, backend_id), &totals);
  totals.unreachables = read(region.unreachables(backend_id));
  return totals;
}

std::vector<BackendTotals> read_backends(const CounterView &region) {
  std::vector<BackendTotals> totals(region.header().backend_capacity);
  for (uint32_t worker = 0; worker < region.header().worker_count; ++worker)
    for (uint32_t id = 0; id < totals.size(); ++id) add_backend(region.backend(worker, id), &totals[id]);
  for (uint32_t id = 0; id < totals.size(); ++id) totals[id].unreachables = read(region.unreachables(id));
  return totals;
}

std::vector<ServiceTotals> read_services(const CounterView &region) {
  std::vector<ServiceTotals> totals(region.header().service_capacity);
  for (uint32_t worker = 0; worker < region.header().worker_count; ++worker) {
    for (uint32_t id = 0; id < totals.size(); ++id) {
      const TrafficCounters &counters = region.service(worker, id);
      totals[id].packets += read(counters.packets);
      totals[id].bytes += read(counters.bytes);
    }
  }
  return totals;
}

}  // namespace sluice
