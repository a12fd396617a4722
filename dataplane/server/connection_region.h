// The connection table's memory: a file on tmpfs (or hugetlbfs), or memory that an engine made and keeps (a
// pinned BPF map), so that connections outlive the process.
#ifndef SLUICE_SERVER_CONNECTION_REGION_H
#define SLUICE_SERVER_CONNECTION_REGION_H

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <span>
#include <string>
#include <utility>

#include "dataplane/abi/connection.h"
#include "dataplane/abi/result.h"
#include "dataplane/abi/snapshot.h"
#include "dataplane/server/connection_entries.h"
#include "dataplane/server/connection_file.h"
#include "dataplane/server/shared_memory.h"
#include "dataplane/server/snapshot_store.h"
#include "dataplane/server/unique_fd.h"

namespace sluice {

/// What the dataplane wants its connection table to be.
struct ConnectionRegionOptions {
  std::filesystem::path path;           // a file on tmpfs (or hugetlbfs: then in huge pages)
  uint32_t worker_count = 1;            // 1 to kMaxConnectionTables
  uint64_t ipv4_connections = 1 << 20;  // per worker
  uint64_t ipv6_connections = 1 << 18;  // per worker
  std::filesystem::path snapshot;       // ConnectionContents::snapshot
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

/// Why the region that lies in `memory` is not, as it is, what `wanted` asks for (the path aside); empty when
/// it is. A region that is not can be saved to the file, from which ConnectionRegion::open takes what it can.
std::string connection_region_misfit(std::span<const std::byte> memory,
                                     const ConnectionRegionOptions &wanted);

/// Connections that a region is to go on with.
struct ConnectionContents {
  std::span<const std::byte> bytes;  // a region's (ConnectionRegion::bytes; more may follow it), or nothing
  /// Who kept the entries' ages true, as far as they are used. kDataplane: one that is no more, until it said
  /// so last. Workers, an engine's, without a dataplane: until now. kRunningWorkers still write.
  enum class Keeper { kDataplane, kStoppedWorkers, kRunningWorkers } keeper = Keeper::kDataplane;
  // The file of the stored snapshot (SnapshotStore), which says where each of them belongs in tables of
  // another size; also that of connections in use, which may move while they are read. Empty: none.
  std::filesystem::path snapshot;
};

/// How large a region must be for `wanted` that goes on with `before`: the buckets, table_count and
/// total_size of its header are set.
ConnectionRegionHeader connection_layout(const ConnectionContents &before,
                                         const ConnectionRegionOptions &wanted, const BootClock &now);

/// Whether the region in `file` was left later than the one in `memory`, or at the same time, by headers;
/// both of a dataplane that is no more.
bool is_left_later(std::span<const std::byte> file, std::span<const std::byte> memory);

/// A region's way into the file, for the next ConnectionRegion::open of either engine. Memory for it is
/// reserved first, so that it can be known that it will succeed before workers are stopped.
class ConnectionSave {
 public:
  /// `bytes`: the region (as ConnectionContents); they outlive this object. What the file holds stays there
  /// until save(). Errors: `bytes` is no region, another dataplane has the file, not enough memory.
  [[nodiscard]] static Result<ConnectionSave> reserve(const std::filesystem::path &path,
                                                      std::span<const std::byte> bytes);

  /// Makes the file hold the region, in one step. Nobody may write it any more, and until `now` its workers
  /// did. Errors: the file cannot be put in place.
  [[nodiscard]] Status save(const BootClock &now) &&;

 private:
  ConnectionSave(std::filesystem::path path, std::span<const std::byte> bytes,
                 const ConnectionRegionHeader &header, ConnectionFileReplacement file)
      : path_(std::move(path)), bytes_(bytes), header_(header), file_(std::move(file)) {}

  std::filesystem::path path_;
  std::span<const std::byte> bytes_;
  ConnectionRegionHeader header_;
  ConnectionFileReplacement file_;
};

/// The connection tables of every worker (dataplane/abi/connection.h): the first `worker_count` tables belong
/// to workers, the others (of workers that are no more) are kept for adoption.
class ConnectionRegion {
 public:
  /// The region in the file, for the one dataplane at a time that has it (flock). The entries of before are
  /// still there, but for those that are older than any timeout by now; a table that gets a worker again
  /// loses the entries whose flow another table has seen since. Into tables of another size they are entered
  /// anew, as continue_from() does, in a new file that takes the place of the old one when all are there. A
  /// file of another version or boot, or unattended for longer than SLUICE_MAX_TIMEOUT_S is started afresh.
  /// The log says what was done; on an error the file stays as it was. Errors: path not writable, another
  /// dataplane has it, not enough memory in its filesystem.
  [[nodiscard]] static Result<ConnectionRegion> open(const ConnectionRegionOptions &options,
                                                     const BootClock &now);

  /// The region in memory in which workers go on writing, a BPF program say: nothing of it is changed.
  /// Errors: it is not what `wanted` asks for (connection_region_misfit).
  [[nodiscard]] static Result<ConnectionRegion> over(SharedMemory memory,
                                                     const ConnectionRegionOptions &wanted);

  /// An empty region of `layout` (connection_layout) in memory that holds zeros, for `workers`. Errors: not
  /// enough of it.
  [[nodiscard]] static Result<ConnectionRegion> empty_in(SharedMemory memory,
                                                         const ConnectionRegionHeader &layout,
                                                         uint32_t workers);

  /// Takes what can be gone on with of `before` into this region, which was made by empty_in() for its layout
  /// and which nobody writes yet; opened_as() says what came of it. Tables of another size, and those that
  /// workers may write meanwhile, are entered anew by the stored snapshot; a warning says how many did not
  /// fit, of which embryonic and closing ones and those not seen for long are the first. Without a snapshot
  /// tables of another size stay empty. Entries of another key than set_flow_hash_key() has named since are
  /// left out.
  void continue_from(const ConnectionContents &before, const BootClock &now);

  const ConnectionRegionHeader &header() const { return header_; }
  /// The whole region, header().total_size bytes.
  std::span<const std::byte> bytes() const { return {memory_.mapping.data(), header().total_size}; }
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

  /// A descriptor for a client, which can map a file's region for reading only (SharedMemory).
  [[nodiscard]] Result<UniqueFd> read_only_descriptor() const { return duplicate_reader(memory_); }

 private:
  friend class ConnectionSave;

  /// By which key entries are placed that are there before the first set_flow_hash_key: the header says it,
  /// or workers place by it already.
  enum class KeyState { kFromHeader, kInUse };

  ConnectionRegion(SharedMemory memory, UniqueFd file, const ConnectionRegionHeader &header)
      : memory_(std::move(memory)), file_(std::move(file)), header_(header) {}

  /// open() for tables of another size than those in the file, which has `size` bytes.
  static Result<ConnectionRegion> open_resized(const ConnectionRegionOptions &options, UniqueFd file,
                                               uint64_t size, const BootClock &now);
  /// Brings what `before` holds under `old` into the tables, and tells how, for opened_as_. Errors: where
  /// entries belong in tables of another size is not known.
  Result<std::string> bring_entries(const ConnectionContents &before, const ConnectionRegionHeader &old,
                                    const BootClock &now);
  /// The same, each entry where `snapshot` says.
  std::string place_entries(const ConnectionContents &before, const ConnectionRegionHeader &old,
                            const std::shared_ptr<const MappedSnapshot> &snapshot, const BootClock &now);
  /// Puts header_ into the memory; whether it is a region (the magic number) is said last.
  void write_header() const;
  std::byte *table(uint32_t index) const;
  BucketArray ipv4_array(uint32_t index) const;
  BucketArray ipv6_array(uint32_t index) const;
  /// Empties what has timed out meanwhile, and in tables that get a worker again what is out of date.
  void take_over(const ConnectionRegionHeader &old, uint32_t live_tables, const BootClock &now);
  /// Empties what has timed out in `parts` of the kSweepParts parts of each table without a worker.
  void sweep_idle_tables(uint64_t alive_s, uint64_t gap_s, uint64_t parts);

  SharedMemory memory_;
  UniqueFd file_;                  // what is locked; none when the memory is somebody else's
  ConnectionRegionHeader header_;  // a copy: what was checked is what is used; only this object changes it
  std::string opened_as_;
  KeyState key_state_ = KeyState::kFromHeader;
  uint32_t next_part_ = 0;  // of the tables without a worker, to be swept
};

}  // namespace sluice

#endif
