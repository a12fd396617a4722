// Counters as plain numbers, summed over workers.
#ifndef SLUICE_CONTROLPLANE_PUBLISH_COUNTER_READER_H
#define SLUICE_CONTROLPLANE_PUBLISH_COUNTER_READER_H

#include <array>
#include <cstdint>
#include <string_view>
#include <vector>

#include "controlplane/publish/region.h"
#include "dataplane/abi/verdict.h"

namespace sluice {

/// All since the region was made (header().started_unix_ns); packets and bytes of frames as received.
struct CounterTotals {
  std::array<uint64_t, kVerdictCount> verdict_packets{};  // by enum Verdict
  uint64_t received_packets = 0;
  uint64_t received_bytes = 0;
  uint64_t transmitted_packets = 0;
  uint64_t transmitted_bytes = 0;
  uint64_t kernel_packets = 0;
  uint64_t steered_packets = 0;
  uint64_t evicted_entries = 0;
  uint64_t expired_entries = 0;
  uint64_t adoption_lookups = 0;
  uint64_t busy_cycles = 0;   // TSC
  uint64_t total_cycles = 0;  // TSC
};

struct BackendTotals {
  uint64_t packets = 0;
  uint64_t bytes = 0;
  uint64_t opened_connections = 0;
  uint64_t active_connections = 0;  // embryonic and established now
  uint64_t tcp_opens = 0;  // this and the rest: what passive health goes by (dataplane/abi/counters.h)
  uint64_t tcp_progresses = 0;
  uint64_t tcp_repeated_opens = 0;
  uint64_t tcp_resets = 0;
  uint64_t unreachables = 0;

  bool operator==(const BackendTotals &) const = default;
};

struct ServiceTotals {
  uint64_t packets = 0;
  uint64_t bytes = 0;
};

/// One verdict as the list (verdicts.def) describes it.
struct VerdictText {
  std::string_view metric;  // "forward_existing"
  std::string_view help;
};

/// Indexed by enum Verdict.
const std::array<VerdictText, kVerdictCount> &verdict_texts();

/// Sums over all workers.
CounterTotals read_totals(const CounterView &region);

/// The same for one worker (below header().worker_count).
CounterTotals read_worker(const CounterView &region, uint32_t worker_index);

/// Sums over all workers. Of an identifier that the region has no room for, zeros.
BackendTotals read_backend(const CounterView &region, uint32_t backend_id);

/// Sums over all workers, by identifier: as many records as the region has room for.
std::vector<BackendTotals> read_backends(const CounterView &region);
std::vector<ServiceTotals> read_services(const CounterView &region);

}  // namespace sluice

#endif
