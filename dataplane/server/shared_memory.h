// Memory that workers write and others read: mappings, and the counter region (a memfd, new with every
// start, or memory that an engine made, a BPF map say). The connection table, which outlives the process,
// is in connection_region.h.
#ifndef SLUICE_SERVER_SHARED_MEMORY_H
#define SLUICE_SERVER_SHARED_MEMORY_H

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <utility>

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

/// Memory that workers write, whoever made it (a memfd, a file, a BPF map), and what clients read it by. Of a
/// memfd and a file, `reader` can be mapped for reading only. Of a BPF map it has to be the writable
/// descriptor: the kernel does not map another one (its mmap clears VM_SHARED then, and a map's asks for it).
/// So a client could write a map, and what a header in memory says is never believed twice.
struct SharedMemory {
  Mapping mapping;
  UniqueFd reader;   // clients get duplicates of it
  std::string name;  // in messages
};

/// A duplicate of `memory.reader`, for a client.
[[nodiscard]] Result<UniqueFd> duplicate_reader(const SharedMemory &memory);

/// Where the part of worker 0 begins in a counter region (CounterRegionHeader::header_size).
enum class FirstWorkerPart {
  kAfterOnePage,
  kAfterOneStride,  // so that the header is one more element of an array of workers' parts
};

/// How large a counter region is, and what its header says of the process.
struct CounterRegionShape {
  uint32_t worker_count = 1;
  uint32_t backend_capacity = kMaxBackends;  // records
  uint32_t service_capacity = kMaxServices;  // records
  uint64_t tsc_hz = 0;
  uint64_t started_unix_ns = 0;
  FirstWorkerPart first_worker_part = FirstWorkerPart::kAfterOnePage;
};

/// The header of a region of that shape: with its worker_stride and total_size, memory for one can be made.
/// worker_stride is a multiple of 4096, and header_size is it with kAfterOneStride.
CounterRegionHeader counter_region_layout(const CounterRegionShape &shape);

/// What is in memory that a counter region is to lie in.
enum class CounterContents {
  kNew,   // zeros: the region's header is written
  kKept,  // the counts of a process before this one, which go on; workers may be writing them now
};

/// The counters of every worker (dataplane/abi/counters.h). A worker writes its own part with plain stores;
/// others read.
class CounterRegion {
 public:
  /// A region of its own, zero at the start. Errors: no memory, or a shape of no workers.
  [[nodiscard]] static Result<CounterRegion> create(const CounterRegionShape &shape);

  /// The region in memory that somebody else made. Errors: a shape of no workers or larger than the memory;
  /// with kKept also a header of another layout, by field (tsc_hz and started_unix_ns stay those in it).
  [[nodiscard]] static Result<CounterRegion> over(SharedMemory memory, const CounterRegionShape &shape,
                                                  CounterContents contents);

  const CounterRegionHeader &header() const { return header_; }
  /// `worker` < header().worker_count, in all three.
  WorkerCounters &worker(uint32_t worker) const;
  std::span<BackendCounters> backends(uint32_t worker) const;
  std::span<TrafficCounters> services(uint32_t worker) const;
  /// ICMP errors by backend identifier: the server's, who writes them with relaxed atomics.
  std::span<uint64_t> unreachables() const;

  /// A descriptor for a client, which can map a region made by create() for reading only (SharedMemory).
  [[nodiscard]] Result<UniqueFd> read_only_descriptor() const { return duplicate_reader(memory_); }

 private:
  CounterRegion(SharedMemory memory, const CounterRegionHeader &header)
      : memory_(std::move(memory)), header_(header) {}
  std::byte *part(uint32_t worker) const;

  SharedMemory memory_;
  CounterRegionHeader header_;  // copied: what was checked is what is used
};

/// Sums every backend's active connections over the workers into `merged`, by backend identifier.
/// Reads and writes with relaxed atomics, so that workers may write and read meanwhile.
void merge_active_connections(const CounterRegion &counters, std::span<uint32_t> merged);

}  // namespace sluice

#endif
