#include "dataplane/server/connection_region.h"

#include <algorithm>
#include <bit>
#include <cerrno>
#include <cstring>
#include <ctime>
#include <fstream>
#include <utility>
#include <vector>

#include <fcntl.h>
#include <fmt/format.h>
#include <spdlog/spdlog.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "dataplane/core/connection_entry.h"
#include "dataplane/core/hash.h"
#include "dataplane/server/connection_entries.h"
#include "dataplane/server/connection_file.h"
#include "dataplane/server/connection_placer.h"

namespace sluice {
namespace {

constexpr uint64_t kHugePage = 2 << 20;  // bytes: the size's unit, so that huge pages can hold the region
constexpr uint64_t kMebibyte = 1 << 20;
constexpr uint32_t kMinBuckets = 64;
constexpr uint64_t kMaxBuckets = 1u << 31;
// Tables without a worker are swept in so many parts, one per heartbeat: all of it well within the time
// that stamps can tell beyond the longest timeout.
constexpr uint32_t kSweepParts = 64;
constexpr uint64_t kSweepPartS = 5;

std::string errno_text() { return std::strerror(errno); }  // NOLINT(concurrency-mt-unsafe)

uint64_t table_size(uint32_t ipv4_buckets, uint32_t ipv6_buckets) {
  return (uint64_t{ipv4_buckets} + ipv6_buckets) * sizeof(ConnectionBucket);
}

/// Bytes of a region of `tables` tables.
uint64_t region_size(uint32_t tables, uint32_t ipv4_buckets, uint32_t ipv6_buckets) {
  const uint64_t size = kConnectionHeaderSize + tables * table_size(ipv4_buckets, ipv6_buckets);
  return (size + kHugePage - 1) / kHugePage * kHugePage;
}

/// Which of two keys it is; never 0.
uint64_t fingerprint(const FlowHashKey &key) {
  uint64_t sum = 0;
  for (const uint32_t word : key.word) sum = mix_bits(sum + word + 1);
  return sum == 0 ? 1 : sum;
}

/// The header that a region made now would have.
ConnectionRegionHeader fresh_header(const ConnectionRegionOptions &options) {
  ConnectionRegionHeader header = {};
  header.magic = SLUICE_CONNECTION_MAGIC;
  header.version = SLUICE_CONNECTION_VERSION;
  header.header_size = kConnectionHeaderSize;
  header.table_count = options.worker_count;
  header.ipv4_buckets = connection_buckets(options.ipv4_connections, kIpv4EntriesPerBucket);
  header.ipv6_buckets = connection_buckets(options.ipv6_connections, kIpv6EntriesPerBucket);
  header.total_size = region_size(header.table_count, header.ipv4_buckets, header.ipv6_buckets);
  return header;
}

/// Why `size` bytes that begin with `header` are no region of this layout; empty when they are.
std::string reason_to_doubt(const ConnectionRegionHeader &header, uint64_t size) {
  if (header.magic != SLUICE_CONNECTION_MAGIC) return "it holds no connection tables";
  if (header.version != SLUICE_CONNECTION_VERSION || header.header_size != kConnectionHeaderSize)
    return fmt::format("its layout has version {}, this dataplane's has {}", header.version,
                       SLUICE_CONNECTION_VERSION);
  if (header.table_count == 0 || header.table_count > kMaxConnectionTables)
    return fmt::format("its table_count is {}", header.table_count);
  const uint64_t whole = region_size(header.table_count, header.ipv4_buckets, header.ipv6_buckets);
  if (header.total_size != whole)
    return fmt::format("its tables make {} bytes, its header says {}", whole, header.total_size);
  if (size < whole) return fmt::format("its size is {} bytes, not {}", size, whole);
  return "";
}

/// Why tables of `there` are of another size than those of `wanted`; empty when they are not.
std::string other_tables(const ConnectionRegionHeader &there, const ConnectionRegionHeader &wanted) {
  if (there.ipv4_buckets == wanted.ipv4_buckets && there.ipv6_buckets == wanted.ipv6_buckets) return "";
  return fmt::format("its tables have {} IPv4 and {} IPv6 buckets, {} and {} are configured",
                     there.ipv4_buckets, there.ipv6_buckets, wanted.ipv4_buckets, wanted.ipv6_buckets);
}

/// Why what is under `old` is of no use to anybody; empty when it may be.
std::string reason_to_forget(const ConnectionRegionHeader &old, uint64_t size, const BootClock &now) {
  if (std::string reason = reason_to_doubt(old, size); !reason.empty()) return reason;
  if (old.boot_id != now.boot_id || old.alive_boottime_s > now.boottime_s)
    return "the host has been started anew since";
  if (now.boottime_s - old.alive_boottime_s > SLUICE_MAX_TIMEOUT_S)
    return fmt::format("no dataplane has kept it for {} s, longer than any timeout",
                       now.boottime_s - old.alive_boottime_s);
  return "";
}

/// The file's header, zero when it is too short to have one.
Result<ConnectionRegionHeader> peek_header(int fd, uint64_t file_size) {
  if (file_size < kHugePage) return ConnectionRegionHeader{};
  const Result<Mapping> mapping = map_shared(fd, kHugePage, "connection region's header");
  if (!mapping.ok()) return mapping.error();
  return *reinterpret_cast<const ConnectionRegionHeader *>(mapping.value().data());
}

/// A copy of the header that `memory` begins with, zero when it is too short to have one.
ConnectionRegionHeader header_in(std::span<const std::byte> memory) {
  ConnectionRegionHeader header = {};
  if (memory.size() >= kConnectionHeaderSize) std::memcpy(&header, memory.data(), sizeof(header));
  return header;
}

/// The header of what `before` holds, as of when its entries' ages were true last.
ConnectionRegionHeader header_of(const ConnectionContents &before, const BootClock &now) {
  ConnectionRegionHeader header = header_in(before.bytes);
  if (before.keeper != ConnectionContents::Keeper::kDataplane) header.alive_boottime_s = now.boottime_s;
  return header;
}

/// The buckets of all tables of what `before` holds.
std::span<const ConnectionBucket> buckets_of(const ConnectionContents &before,
                                             const ConnectionRegionHeader &old) {
  return {reinterpret_cast<const ConnectionBucket *>(before.bytes.data() + kConnectionHeaderSize),
          old.table_count * (size_t{old.ipv4_buckets} + old.ipv6_buckets)};
}

/// The stored snapshot, whose flow_hash_key must be the one of `key` (a fingerprint; 0: any).
Result<std::shared_ptr<const MappedSnapshot>> load_snapshot(const std::filesystem::path &path, uint64_t key) {
  if (path.empty()) return Error{"there is no snapshot"};
  Result<std::shared_ptr<const MappedSnapshot>> snapshot = SnapshotStore(path).load();
  if (!snapshot.ok()) return snapshot;
  if (!snapshot.value()) return Error{fmt::format("{}: there is no stored snapshot", path.string())};
  if (key != 0 && key != fingerprint(snapshot.value()->header().flow_hash_key))
    return Error{fmt::format("{}: flow_hash_key is another than entries are placed by", path.string())};
  return snapshot;
}

/// Why a region of `size` bytes under `there` is not, as it is, what `wanted` asks for; empty when it is.
std::string misfit(const ConnectionRegionHeader &there, uint64_t size,
                   const ConnectionRegionOptions &wanted) {
  if (std::string reason = reason_to_doubt(there, size); !reason.empty()) return reason;
  if (std::string reason = other_tables(there, fresh_header(wanted)); !reason.empty()) return reason;
  // A table that gets a worker has to lose first what is out of date in it, which only take_over does.
  if (there.live_tables != wanted.worker_count)
    return fmt::format("it serves {} workers, {} are wanted", there.live_tables, wanted.worker_count);
  if (there.table_count < there.live_tables) return fmt::format("its table_count is {}", there.table_count);
  return "";
}

}  // namespace

uint32_t connection_buckets(uint64_t connections, uint32_t entries_per_bucket) {
  const uint64_t per_hundred = uint64_t{85} * entries_per_bucket;
  const uint64_t wanted = std::min(connections, kMaxBuckets) * 100 / per_hundred + 1;
  return static_cast<uint32_t>(std::clamp<uint64_t>(std::bit_ceil(wanted), kMinBuckets, kMaxBuckets));
}

BootClock read_boot_clock() {
  BootClock clock;
  struct timespec now = {};
  ::clock_gettime(CLOCK_BOOTTIME, &now);
  clock.boottime_s = static_cast<uint64_t>(now.tv_sec);
  std::ifstream file("/proc/sys/kernel/random/boot_id");
  for (char character = 0; file.get(character);)
    clock.boot_id = mix_bits(clock.boot_id + static_cast<uint8_t>(character) + 1);
  return clock;
}

Result<ConnectionRegion> ConnectionRegion::open(const ConnectionRegionOptions &options,
                                                const BootClock &now) {
  if (options.worker_count == 0 || options.worker_count > kMaxConnectionTables)
    return Error{fmt::format("connections: worker_count: {} is not between 1 and {}", options.worker_count,
                             +kMaxConnectionTables)};
  Result<UniqueFd> file = open_connection_file(options.path);
  if (!file.ok()) return file.error();
  struct stat info = {};
  if (::fstat(file.value().get(), &info) != 0)
    return Error{fmt::format("{}: {}", options.path.string(), errno_text())};
  const auto file_size = static_cast<uint64_t>(info.st_size);
  const Result<ConnectionRegionHeader> old = peek_header(file.value().get(), file_size);
  if (!old.ok()) return old.error();

  ConnectionRegionHeader header = fresh_header(options);
  const std::string reason =
      file_size == 0 ? "there was none before" : reason_to_forget(old.value(), file_size, now);
  if (reason.empty() && !other_tables(old.value(), header).empty())
    return open_resized(options, std::move(file).value(), file_size, now);
  if (reason.empty()) {
    header.table_count = std::max(old.value().table_count, options.worker_count);
    header.total_size = region_size(header.table_count, header.ipv4_buckets, header.ipv6_buckets);
    header.flow_hash_key_fingerprint = old.value().flow_hash_key_fingerprint;
    const Status reserved =
        reserve_connection_file(file.value().get(), options.path, header.total_size, file_size);
    if (!reserved.ok()) return reserved.error();
  } else {
    file = make_connection_file_anew(std::move(file).value(), options.path, header.total_size);
    if (!file.ok()) return file.error();
  }
  Result<SharedMemory> memory = map_connection_file(file.value().get(), options.path, header.total_size);
  if (!memory.ok()) return memory.error();

  header.live_tables = old.value().live_tables;
  header.boot_id = now.boot_id;
  header.alive_boottime_s = old.value().alive_boottime_s;
  ConnectionRegion region(std::move(memory).value(), std::move(file).value(), header);
  region.write_header();
  if (reason.empty()) region.take_over(old.value(), options.worker_count, now);
  // Only now: if this is killed while it takes over, the next one must do it again, and whole.
  region.header_.live_tables = options.worker_count;
  region.header_.alive_boottime_s = now.boottime_s;
  region.write_header();
  region.opened_as_ = reason.empty() ? fmt::format("kept {} tables for {} workers", old.value().table_count,
                                                   options.worker_count)
                                     : fmt::format("started afresh: {}", reason);
  spdlog::info("connection tables in {} ({} MiB): {}", options.path.string(), header.total_size / kMebibyte,
               region.opened_as_);
  return region;
}

Result<ConnectionRegion> ConnectionRegion::open_resized(const ConnectionRegionOptions &options, UniqueFd file,
                                                        uint64_t size, const BootClock &now) {
  const Result<Mapping> source = map_shared(file.get(), size, options.path.string());
  if (!source.ok()) return source.error();
  const ConnectionContents before = {.bytes = {source.value().data(), source.value().size()},
                                     .snapshot = options.snapshot};
  const ConnectionRegionHeader layout = connection_layout(before, options, now);
  Result<ConnectionFileReplacement> replacement =
      ConnectionFileReplacement::reserve(std::move(file), options.path, layout.total_size);
  if (!replacement.ok())
    return Error{
        fmt::format("{}; it holds connections of other table sizes: remove it if they are not needed",
                    replacement.error().message)};
  Result<SharedMemory> memory =
      map_connection_file(replacement.value().fd(), options.path, layout.total_size);
  if (!memory.ok()) return memory.error();
  Result<ConnectionRegion> region = empty_in(std::move(memory).value(), layout, options.worker_count);
  if (!region.ok()) return region;
  region.value().continue_from(before, now);
  Result<UniqueFd> placed = std::move(replacement).value().put_in_place();
  if (!placed.ok()) return placed.error();
  region.value().file_ = std::move(placed).value();
  return region;
}

Result<ConnectionRegion> ConnectionRegion::over(SharedMemory memory, const ConnectionRegionOptions &wanted) {
  const ConnectionRegionHeader header = header_in({memory.mapping.data(), memory.mapping.size()});
  const std::string reason = misfit(header, memory.mapping.size(), wanted);
  if (!reason.empty()) return Error{fmt::format("{}: {}", memory.name, reason)};
  ConnectionRegion region(std::move(memory), UniqueFd(), header);
  region.key_state_ = KeyState::kInUse;
  region.opened_as_ = fmt::format("kept {} tables in use by {} workers", region.header().table_count,
                                  region.header().live_tables);
  return region;
}

Result<ConnectionRegion> ConnectionRegion::empty_in(SharedMemory memory, const ConnectionRegionHeader &layout,
                                                    uint32_t workers) {
  if (memory.mapping.size() < layout.total_size)
    return Error{fmt::format("{}: the connection tables need {} bytes, it has {}", memory.name,
                             layout.total_size, memory.mapping.size())};
  ConnectionRegion region(std::move(memory), UniqueFd(), layout);
  region.header_.live_tables = workers;
  region.write_header();
  region.opened_as_ = "empty";
  return region;
}

void ConnectionRegion::continue_from(const ConnectionContents &before, const BootClock &now) {
  const uint32_t workers = header_.live_tables;
  const ConnectionRegionHeader old = header_of(before, now);
  std::string reason =
      before.bytes.empty() ? "there was none before" : reason_to_forget(old, before.bytes.size(), now);
  const uint64_t key = old.flow_hash_key_fingerprint;
  if (reason.empty() && header_.flow_hash_key_fingerprint != 0 && key != 0 &&
      key != header_.flow_hash_key_fingerprint)
    reason = "flow_hash_key is another than its entries were placed by";
  header_.boot_id = now.boot_id;
  std::string how;
  if (reason.empty()) {
    if (key != 0) header_.flow_hash_key_fingerprint = key;
    Result<std::string> brought = bring_entries(before, old, now);
    (brought.ok() ? how : reason) = brought.ok() ? std::move(brought).value() : brought.error().message;
  }
  if (reason.empty()) {
    // Workers touch what they use, also when no dataplane runs; in the other tables only a dataplane keeps
    // stamps true. What a worker's table holds unused for longer than stamps can tell (8,192 s, no dataplane
    // having swept) may look young, and then has one more timeout.
    header_.live_tables = old.live_tables;
    const uint64_t alive_s = header_in(before.bytes).alive_boottime_s;
    sweep_idle_tables(alive_s, now.boottime_s - std::min(alive_s, now.boottime_s), kSweepParts);
    take_over(old, workers, now);
  }
  header_.live_tables = workers;
  header_.alive_boottime_s = now.boottime_s;
  write_header();
  opened_as_ = reason.empty() ? fmt::format("kept {} tables for {} workers{}", old.table_count, workers, how)
                              : fmt::format("started afresh: {}", reason);
  spdlog::info("connection tables in {} ({} MiB): {}", memory_.name, header_.total_size / kMebibyte,
               opened_as_);
}

Result<std::string> ConnectionRegion::bring_entries(const ConnectionContents &before,
                                                    const ConnectionRegionHeader &old, const BootClock &now) {
  const std::string resized = other_tables(old, header_);
  const bool in_use = before.keeper == ConnectionContents::Keeper::kRunningWorkers;
  if (!resized.empty() || in_use) {
    const Result<std::shared_ptr<const MappedSnapshot>> snapshot =
        load_snapshot(before.snapshot, header_.flow_hash_key_fingerprint);
    if (snapshot.ok()) {
      const std::string lost = place_entries(before, old, snapshot.value(), now);
      return (resized.empty() ? "" : ", entered anew in tables of another size") + lost;
    }
    if (!resized.empty())
      return Error{fmt::format("{}, and where entries belong in these is not known: {}", resized,
                               snapshot.error().message)};
  }
  const std::span<const ConnectionBucket> from = buckets_of(before, old);
  std::ranges::transform(from, reinterpret_cast<ConnectionBucket *>(table(0)), read_whole);
  return std::string();
}

std::string ConnectionRegion::place_entries(const ConnectionContents &before,
                                            const ConnectionRegionHeader &old,
                                            const std::shared_ptr<const MappedSnapshot> &snapshot,
                                            const BootClock &now) {
  header_.flow_hash_key_fingerprint = fingerprint(snapshot->header().flow_hash_key);
  const std::span<const ConnectionBucket> from = buckets_of(before, old);
  ConnectionPlacer placer(snapshot, now.boottime_s);
  const auto place_all = [&](ConnectionPlacer::Order order) {
    ConnectionPlacer::Missing missing;
    for (uint32_t table = 0; table < old.table_count; table++) {
      const size_t first = table * (size_t{old.ipv4_buckets} + old.ipv6_buckets);
      missing += placer.place(from.subspan(first, old.ipv4_buckets), ipv4_buckets(table), kFamilyIpv4, order);
      missing += placer.place(from.subspan(first + old.ipv4_buckets, old.ipv6_buckets), ipv6_buckets(table),
                              kFamilyIpv6, order);
    }
    return missing;
  };
  ConnectionPlacer::Missing missing = place_all(ConnectionPlacer::Order::kByImportance);
  if (before.keeper == ConnectionContents::Keeper::kRunningWorkers)
    missing = place_all(ConnectionPlacer::Order::kAsTheyLie);
  if (missing.all() == 0) return "";
  const std::string lost = fmt::format(
      "without {} established and {} other connections that found no room, and {} of VIPs that "
      "are no more",
      missing.established, missing.others, missing.of_no_vip);
  spdlog::warn("connection tables in {}: gone on with {}", memory_.name, lost);
  return ", " + lost;
}

void ConnectionRegion::write_header() const {
  std::byte *const to = memory_.mapping.data();
  constexpr size_t kMagicSize = sizeof(header_.magic);
  std::memcpy(to + kMagicSize, reinterpret_cast<const std::byte *>(&header_) + kMagicSize,
              sizeof(header_) - kMagicSize);
  __atomic_store_n(&reinterpret_cast<ConnectionRegionHeader *>(to)->magic, header_.magic, __ATOMIC_RELEASE);
}

std::byte *ConnectionRegion::table(uint32_t index) const {
  return memory_.mapping.data() + kConnectionHeaderSize +
         index * table_size(header().ipv4_buckets, header().ipv6_buckets);
}

std::span<ConnectionBucket> ConnectionRegion::ipv4_buckets(uint32_t index) const {
  return {reinterpret_cast<ConnectionBucket *>(table(index)), header().ipv4_buckets};
}

std::span<ConnectionBucket> ConnectionRegion::ipv6_buckets(uint32_t index) const {
  return {reinterpret_cast<ConnectionBucket *>(table(index)) + header().ipv4_buckets, header().ipv6_buckets};
}

BucketArray ConnectionRegion::ipv4_array(uint32_t index) const { return {ipv4_buckets(index), kIpv4Width}; }

BucketArray ConnectionRegion::ipv6_array(uint32_t index) const { return {ipv6_buckets(index), kIpv6Width}; }

void ConnectionRegion::take_over(const ConnectionRegionHeader &old, uint32_t live_tables,
                                 const BootClock &now) {
  const uint32_t tables = old.table_count;
  const uint64_t gap_s = now.boottime_s - old.alive_boottime_s;
  size_t expired = 0;
  size_t outdated = 0;
  for (const auto array_of : {&ConnectionRegion::ipv4_array, &ConnectionRegion::ipv6_array}) {
    std::vector<BucketArray> arrays;
    for (uint32_t table = 0; table < tables; table++) {
      arrays.push_back((this->*array_of)(table));
      expired += expire_entries(arrays.back(), old.alive_boottime_s, gap_s);
    }
    // While a table had no worker, others may have moved its flows on.
    const uint32_t revived_end = std::min(tables, live_tables);
    if (old.live_tables < revived_end)
      outdated += drop_older_twins(arrays, old.live_tables, revived_end, now.boottime_s);
  }
  if (expired + outdated > 0)
    spdlog::info("connection tables in {}: {} entries had timed out, {} were out of date", memory_.name,
                 expired, outdated);
}

ConnectionRegion::Entries ConnectionRegion::set_flow_hash_key(const FlowHashKey &key) {
  const uint64_t now = fingerprint(key);
  const uint64_t before = std::exchange(header_.flow_hash_key_fingerprint, now);
  write_header();
  const KeyState state = std::exchange(key_state_, KeyState::kInUse);
  if (before == now || before == 0) return Entries::kKept;
  if (state == KeyState::kFromHeader) {
    spdlog::warn(
        "flow_hash_key is another than the connection tables in {} were filled with: their connections "
        "cannot be found any more and are forgotten",
        memory_.name);
    std::memset(table(0), 0, header().total_size - kConnectionHeaderSize);
    return Entries::kCleared;
  }
  spdlog::warn(
      "flow_hash_key changed: connections made before cannot be found any more, and are left to time out");
  return Entries::kKept;
}

void ConnectionRegion::heartbeat(const BootClock &now) {
  const uint64_t alive_before_s = std::exchange(header_.alive_boottime_s, now.boottime_s);
  write_header();
  const uint64_t gap_s = now.boottime_s - alive_before_s;
  if (header_.table_count == header_.live_tables) return;
  sweep_idle_tables(alive_before_s, gap_s, std::min<uint64_t>(kSweepParts, 1 + gap_s / kSweepPartS));
}

void ConnectionRegion::sweep_idle_tables(uint64_t alive_s, uint64_t gap_s, uint64_t parts) {
  for (uint64_t i = 0; i < parts; i++) {
    for (uint32_t table = header().live_tables; table < header().table_count; table++)
      for (const BucketArray &array : {ipv4_array(table), ipv6_array(table)}) {
        const size_t size = array.buckets.size() / kSweepParts;
        expire_entries({array.buckets.subspan(next_part_ * size, size), array.entry_words}, alive_s, gap_s);
      }
    next_part_ = (next_part_ + 1) % kSweepParts;
  }
}

std::string connection_region_misfit(std::span<const std::byte> memory,
                                     const ConnectionRegionOptions &wanted) {
  return misfit(header_in(memory), memory.size(), wanted);
}

ConnectionRegionHeader connection_layout(const ConnectionContents &before,
                                         const ConnectionRegionOptions &wanted, const BootClock &now) {
  ConnectionRegionHeader header = fresh_header(wanted);
  const ConnectionRegionHeader old = header_of(before, now);
  if (reason_to_forget(old, before.bytes.size(), now).empty()) {
    header.table_count = std::max(old.table_count, wanted.worker_count);
    header.total_size = region_size(header.table_count, header.ipv4_buckets, header.ipv6_buckets);
  }
  return header;
}

bool is_left_later(std::span<const std::byte> file, std::span<const std::byte> memory) {
  const ConnectionRegionHeader in_file = header_in(file);
  const ConnectionRegionHeader in_memory = header_in(memory);
  if (!reason_to_doubt(in_file, file.size()).empty()) return false;
  if (!reason_to_doubt(in_memory, memory.size()).empty()) return true;
  return in_file.boot_id == in_memory.boot_id && in_file.alive_boottime_s >= in_memory.alive_boottime_s;
}

Result<ConnectionSave> ConnectionSave::reserve(const std::filesystem::path &path,
                                               std::span<const std::byte> bytes) {
  const ConnectionRegionHeader header = header_in(bytes);
  const std::string doubt = reason_to_doubt(header, bytes.size());
  if (!doubt.empty())
    return Error{fmt::format("{}: the connections that were to be saved there cannot be used: {}",
                             path.string(), doubt)};
  Result<UniqueFd> owner = open_connection_file(path);
  if (!owner.ok()) return owner.error();
  Result<ConnectionFileReplacement> file =
      ConnectionFileReplacement::reserve(std::move(owner).value(), path, header.total_size);
  if (!file.ok()) return file.error();
  return ConnectionSave(path, bytes, header, std::move(file).value());
}

Status ConnectionSave::save(const BootClock &now) && {
  Result<Mapping> mapping = map_shared(file_.fd(), header_.total_size, path_.string());
  if (!mapping.ok()) return mapping.error();
  std::memcpy(mapping.value().data() + kConnectionHeaderSize, bytes_.data() + kConnectionHeaderSize,
              header_.total_size - kConnectionHeaderSize);
  const uint64_t alive_s = std::exchange(header_.alive_boottime_s, now.boottime_s);
  ConnectionRegion region({std::move(mapping).value(), UniqueFd(), path_.string()}, UniqueFd(), header_);
  // As in continue_from().
  region.sweep_idle_tables(alive_s, now.boottime_s - std::min(alive_s, now.boottime_s), kSweepParts);
  region.write_header();
  const Result<UniqueFd> placed = std::move(file_).put_in_place();
  if (!placed.ok()) return placed.error();
  spdlog::info("connection tables saved to {} ({} MiB)", path_.string(), header_.total_size / kMebibyte);
  return Done{};
}

}  // namespace sluice
