// Memory that workers write and others read: mappings, and the counter region (a memfd, new with every
// start). The connection table, which outlives the process, is in connection_region.h.
#ifndef SLUICE_SERVER_SHARED_MEMORY_H
#define SLUICE_SERVER_SHARED_MEMORY_H

#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>

#include "dataplane/abi/counters.h"
#include "dataplane/abi/result.h"
#include "dataplane/abi/snapshot.h"
#include "dataplane/server/unique_fd.h"

namespace sluice {

/// A writable shared mapping, unmapped when it goes.
class Mapping {
 public:
  Mapping() = default;
  Mapping(std::byte *address, size_t size) : address_(address), size_(size) {}
  Mapping(Mapping &&other) noexcept;
  Mapping &operator=(Mapping &&other) noexcept;
  Mapping(const Mapping &) = delete;
  Mapping &operator=(const Mapping &) = delete;
  ~Mapping();

  std::byte *data() const { return address_; }
  size_t size() const { return size_; }

 private:
  std::byte *address_ = nullptr;
  size_t size_ = 0;  // bytes
};

/// Maps `size` bytes of a file for everybody who maps it. Errors name `what`.
[[nodiscard]] Result<Mapping> map_shared(int fd, size_t size, std::string_view what);

/// A read-only descriptor of the file that `fd` is open on.
[[nodiscard]] Result<UniqueFd> reopen_for_reading(int fd);

/// How large a counter region is, and what its header says of the process.
struct CounterRegionShape {
  uint32_t worker_count = 1;
  uint32_t backend_capacity = kMaxBackends;  // records
  uint32_t service_capacity = kMaxServices;  // records
  uint64_t tsc_hz = 0;
  uint64_t started_unix_ns = 0;
};

/// The counters of every worker (dataplane/abi/counters.h), zero at the start. A worker writes its own
/// part with plain stores; others read.
class CounterRegion {
 public:
  /// Errors: no memory, or a shape of no workers.
  [[nodiscard]] static Result<CounterRegion> create(const CounterRegionShape &shape);

  const CounterRegionHeader &header() const {
    return *reinterpret_cast<const CounterRegionHeader *>(mapping_.data());
  }
  /// `worker` < header().worker_count, in all three.
  WorkerCounters &worker(uint32_t worker) const;
  std::span<BackendCounters> backends(uint32_t worker) const;
  std::span<TrafficCounters> services(uint32_t worker) const;

  /// A descriptor that its receiver can map for reading only (the region is sealed against any other
  /// writer). One per client.
  [[nodiscard]] Result<UniqueFd> read_only_descriptor() const;

 private:
  CounterRegion(UniqueFd memfd, Mapping mapping) : memfd_(std::move(memfd)), mapping_(std::move(mapping)) {}

  UniqueFd memfd_;
  Mapping mapping_;
};

/// Sums every backend's active connections over the workers into `merged`, by backend identifier.
/// Reads and writes with relaxed atomics, so that workers may write and read meanwhile.
void merge_active_connections(const CounterRegion &counters, std::span<uint32_t> merged);

}  // namespace sluice

#endif
