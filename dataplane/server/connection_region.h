// The connection table's memory: a file on tmpfs (or hugetlbfs), so that connections outlive the process.
#ifndef SLUICE_SERVER_CONNECTION_REGION_H
#define SLUICE_SERVER_CONNECTION_REGION_H

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <span>
#include <string>

#include "dataplane/abi/connection.h"
#include "dataplane/abi/result.h"
#include "dataplane/abi/snapshot.h"
#include "dataplane/server/connection_entries.h"
#include "dataplane/server/shared_memory.h"
#include "dataplane/server/unique_fd.h"

namespace sluice {

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
/// file (flock). Opened again with the same layout, the entries are still there, but for those that are
/// older than any timeout by now: the first `worker_count` tables belong to workers, the others (of
/// workers that are no more) are kept for adoption. A table that gets a worker again loses the entries
/// whose flow another table has seen since. A file of another layout or size, of another boot, or
/// unattended for longer than SLUICE_MAX_TIMEOUT_S is started afresh, and the log says so.
class ConnectionRegion {
 public:
  /// Errors: path not writable, another dataplane has it, not enough memory in its filesystem.
  [[nodiscard]] static Result<ConnectionRegion> open(const ConnectionRegionOptions &options,
                                                     const BootClock &now);

  const ConnectionRegionHeader &header() const {
    return *reinterpret_cast<const ConnectionRegionHeader *>(mapping_.data());
  }
  /// `index` < header().table_count, in both.
  std::span<ConnectionBucket> ipv4_buckets(uint32_t index) const;
  std::span<ConnectionBucket> ipv6_buckets(uint32_t index) const;

  /// "kept N tables" or why the region was started afresh.
  const std::string &opened_as() const { return opened_as_; }

  /// Tells the region by which key entries are placed from now on. When entries of another key are in
  /// it they cannot be found any more (a warning is logged): they are cleared if no snapshot has been
  /// installed since the start, and otherwise left to the workers, which own them, to expire.
  enum class Entries { kKept, kCleared };
  Entries set_flow_hash_key(const FlowHashKey &key);

  /// To be called every few seconds: records that somebody keeps the entries' ages true, and empties
  /// entries of tables without a worker that are older than any timeout, a part of the tables at a time.
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
  BucketArray ipv4_array(uint32_t index) const;
  BucketArray ipv6_array(uint32_t index) const;
  /// Empties what has timed out meanwhile, and in tables that get a worker again what is out of date.
  void take_over(const ConnectionRegionHeader &old, uint32_t live_tables, const BootClock &now);

  UniqueFd file_;
  std::filesystem::path path_;
  Mapping mapping_;
  std::string opened_as_;
  enum class KeyState { kFromFile, kInUse } key_state_ = KeyState::kFromFile;
  uint32_t next_part_ = 0;  // of the tables without a worker, to be swept
};

}  // namespace sluice

#endif
