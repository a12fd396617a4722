// The dataplane's shared memory, mapped read-only: a file (the DPDK engine's) or a BPF map (the XDP
// engine's). Nothing that a header claims is read before it is known to lie inside: a file's size is asked
// for, a map's is what the kernel agrees to map.
#ifndef SLUICE_CONTROLPLANE_PUBLISH_REGION_H
#define SLUICE_CONTROLPLANE_PUBLISH_REGION_H

#include <cstddef>
#include <cstdint>
#include <utility>

#include "controlplane/publish/file_descriptor.h"
#include "dataplane/abi/connection.h"
#include "dataplane/abi/counters.h"
#include "dataplane/abi/result.h"

namespace sluice {

/// A read-only mapping that unmaps itself.
class ReadOnlyMapping {
 public:
  ReadOnlyMapping() = default;
  ReadOnlyMapping(ReadOnlyMapping &&other) noexcept
      : data_(std::exchange(other.data_, nullptr)), size_bytes_(std::exchange(other.size_bytes_, 0)) {}
  ReadOnlyMapping &operator=(ReadOnlyMapping &&other) noexcept;
  ~ReadOnlyMapping();

  /// Maps the whole region behind `descriptor`, which must have at least `minimum_bytes` (a page). Nobody can
  /// ask for the size of a BPF map: so many bytes of one are mapped as the header at its beginning claims
  /// (total_size), and the kernel refuses to map more than there are.
  static Result<ReadOnlyMapping> map(const FileDescriptor &descriptor, uint64_t minimum_bytes);

  const std::byte *data() const { return data_; }
  uint64_t size_bytes() const { return size_bytes_; }

 private:
  static Result<ReadOnlyMapping> map_bytes(int descriptor, uint64_t size_bytes);

  const std::byte *data_ = nullptr;
  uint64_t size_bytes_ = 0;
};

/// The counters (dataplane/abi/counters.h). Workers write while this is read: each number is right by
/// itself, sums of several may be some packets apart.
class CounterView {
 public:
  /// Checks magic, version, verdict count, and that every worker's part lies inside the memory.
  static Result<CounterView> open(const FileDescriptor &descriptor);

  const CounterRegionHeader &header() const { return header_; }
  const WorkerCounters &worker(uint32_t index) const;
  const BackendCounters &backend(uint32_t worker_index, uint32_t backend_id) const;
  const TrafficCounters &service(uint32_t worker_index, uint32_t service_id) const;
  const uint64_t &unreachables(uint32_t backend_id) const;

 private:
  const std::byte *worker_part(uint32_t index) const;

  CounterRegionHeader header_{};  // copied: what was checked is what is used
  ReadOnlyMapping mapping_;
};

/// The connection tables (dataplane/abi/connection.h). Workers write while this is read.
class ConnectionView {
 public:
  /// Checks magic, version, and that every table lies inside the memory.
  static Result<ConnectionView> open(const FileDescriptor &descriptor);

  const ConnectionRegionHeader &header() const { return header_; }

  /// The buckets of one table: header().ipv4_buckets of them.
  const ConnectionBucket *ipv4_buckets(uint32_t table) const;
  /// The buckets of one table: header().ipv6_buckets of them.
  const ConnectionBucket *ipv6_buckets(uint32_t table) const;

 private:
  ConnectionRegionHeader header_{};  // copied: what was checked is what is used
  ReadOnlyMapping mapping_;
};

}  // namespace sluice

#endif
