// The two regions that workers write and others read: counters (a memfd, new with every start) and
// the connection table (a file on tmpfs or hugetlbfs, so that connections outlive the process).
#ifndef SLUICE_SERVER_SHARED_MEMORY_H
#define SLUICE_SERVER_SHARED_MEMORY_H

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <span>
#include <string>

#include "dataplane/abi/connection.h"
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

/// What the dataplane wants its connection table to be.
struct ConnectionRegionOptions {
  std::filesystem::path path;           // a file on tmpfs (or hugetlbfs: then in huge pages)
  uint32_t worker_count = 1;            // 1 to kMaxConnectionTables
  uint64_t ipv4_connections = 1 << 20;  // per worker
  uint64_t ipv6_connections = 1 << 18;  // per worker
};

/// Buckets (a power of two) in which `connections` entries fill at most 85%.
uint32_t connection_buckets(uint64_t connections, uint32_t entries_per_bucket);

/// The time that entries' stamps count in, and what tells one boot from another.
struct BootClock {
  uint64_t boottime_s = 0;  // CLOCK_BOOTTIME
  uint64_t boot_id = 0;     // different after every boot
};

/// The clock of this host.
BootClock read_boot_clock();

/// The connection tables of every worker (dataplane/abi/connection.h). One dataplane at a time has the
/// file (flock). Opened again with the same layout, the entries are still there: the first
/// `worker_count` tables belong to workers, the others (of workers that are no more) are kept for
/// adoption. A file of another layout or size, of another boot, or unattended for longer than
/// SLUICE_MAX_TIMEOUT_S is started afresh, and the log says so.
class ConnectionRegion {
 public:
  /// Errors: path not writable, another dataplane has it, not enough memory in its filesystem.
  [[nodiscard]] static Result<ConnectionRegion> open(const ConnectionRegionOptions &options,
                                                     const BootClock &now);

  const ConnectionRegionHeader &header() const {
    return *reinterpret_cast<const ConnectionRegionHeader *>(mapping_.data());
  }
  /// `table` < header().table_count, in both.
  std::span<ConnectionBucket> ipv4_buckets(uint32_t table) const;
  std::span<ConnectionBucket> ipv6_buckets(uint32_t table) const;

  /// "kept N tables" or why the region was started afresh.
  const std::string &opened_as() const { return opened_as_; }

  /// Tells the region by which key entries are placed from now on. When entries of another key are in
  /// it they cannot be found any more (a warning is logged): they are cleared if no snapshot has been
  /// installed since the start, and otherwise left to the workers, which own them, to expire.
  void set_flow_hash_key(const FlowHashKey &key);

  /// To be called every few seconds: records that somebody keeps the entries' ages true, and forgets
  /// the tables without a worker once all their entries have timed out.
  void heartbeat(const BootClock &now);

  /// A descriptor for reading, for a client.
  [[nodiscard]] Result<UniqueFd> read_only_descriptor() const;

 private:
  ConnectionRegion(UniqueFd file, std::filesystem::path path, Mapping mapping)
      : file_(std::move(file)), path_(std::move(path)), mapping_(std::move(mapping)) {}

  ConnectionRegionHeader &mutable_header() const {
    return *reinterpret_cast<ConnectionRegionHeader *>(mapping_.data());
  }
  std::byte *table(uint32_t index) const;

  UniqueFd file_;
  std::filesystem::path path_;
  Mapping mapping_;
  std::string opened_as_;
  uint64_t opened_boottime_s_ = 0;
  enum class KeyState { kFromFile, kInUse } key_state_ = KeyState::kFromFile;
};

}  // namespace sluice

#endif
