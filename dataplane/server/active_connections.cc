#include "dataplane/server/active_connections.h"

#include <span>

#include "dataplane/core/connection_entry.h"

namespace sluice {
namespace {

void count_active(std::span<const ConnectionBucket> buckets, uint32_t width,
                  std::span<BackendCounters> backends) {
  for (const ConnectionBucket &bucket : buckets) {
    for (uint32_t word = width - 1; word < kBucketWords; word += width) {
      const uint64_t entry = bucket.word[word];
      const uint32_t state = state_of(entry);
      const bool active = state == kConnectionEmbryonic || state == kConnectionEstablished;
      if (active && backend_of(entry) < backends.size()) backends[backend_of(entry)].active_connections++;
    }
  }
}

}  // namespace

void recount_active_connections(const ConnectionRegion &connections, const CounterRegion &counters,
                                uint32_t worker) {
  const std::span<BackendCounters> backends = counters.backends(worker);
  for (BackendCounters &backend : backends) backend.active_connections = 0;
  count_active(connections.ipv4_buckets(worker), kIpv4Width, backends);
  count_active(connections.ipv6_buckets(worker), kIpv6Width, backends);
}

}  // namespace sluice
