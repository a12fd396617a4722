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
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/statvfs.h>

#include "dataplane/core/connection_entry.h"
#include "dataplane/core/hash.h"
#include "dataplane/server/connection_entries.h"

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

/// Why entries under `old` cannot be kept in a region like `wanted`; empty when they can.
std::string reason_to_start_afresh(const ConnectionRegionHeader &old, uint64_t file_size,
                                   const ConnectionRegionHeader &wanted, const BootClock &now) {
  if (old.magic != SLUICE_CONNECTION_MAGIC) return "it holds no connection tables";
  if (old.version != SLUICE_CONNECTION_VERSION || old.header_size != kConnectionHeaderSize)
    return fmt::format("its layout has version {}, this dataplane's has {}", old.version,
                       SLUICE_CONNECTION_VERSION);
  if (old.ipv4_buckets != wanted.ipv4_buckets || old.ipv6_buckets != wanted.ipv6_buckets)
    return fmt::format("its tables have {} IPv4 and {} IPv6 buckets, {} and {} are configured",
                       old.ipv4_buckets, old.ipv6_buckets, wanted.ipv4_buckets, wanted.ipv6_buckets);
  if (old.table_count == 0 || old.table_count > kMaxConnectionTables)
    return fmt::format("its table_count is {}", old.table_count);
  const uint64_t size = region_size(old.table_count, old.ipv4_buckets, old.ipv6_buckets);
  if (old.total_size != size || file_size < size)
    return fmt::format("its size is {} bytes, not {}", file_size, size);
  if (old.boot_id != now.boot_id || old.alive_boottime_s > now.boottime_s)
    return "the host has been started anew since";
  if (now.boottime_s - old.alive_boottime_s > SLUICE_MAX_TIMEOUT_S)
    return fmt::format("no dataplane has kept it for {} s, longer than any timeout",
                       now.boottime_s - old.alive_boottime_s);
  return "";
}

Error no_room(const std::filesystem::path &path, uint64_t size) {
  const std::string cause = errno_text();
  struct statvfs filesystem = {};
  ::statvfs(path.c_str(), &filesystem);
  return Error{fmt::format(
      "{}: the connection tables need {} MiB, its filesystem has {} MiB free: {}; ask for fewer connections "
      "or "
      "make the filesystem larger",
      path.string(), size / kMebibyte, filesystem.f_bavail * filesystem.f_frsize / kMebibyte, cause)};
}

/// Gives the file `size` bytes of real memory: a worker must not meet SIGBUS on a full filesystem.
Status reserve(int fd, const std::filesystem::path &path, uint64_t size, uint64_t size_before) {
  if (::ftruncate(fd, static_cast<off_t>(size)) == 0 &&
      (::fallocate(fd, 0, 0, static_cast<off_t>(size)) == 0 || errno == EOPNOTSUPP))
    return Done{};
  const Error error = no_room(path, size);
  if (::ftruncate(fd, static_cast<off_t>(size_before)) != 0)
    spdlog::warn("{}: cannot give memory back: {}", path.string(), errno_text());
  return error;
}

/// The file's header, zero when it is too short to have one.
Result<ConnectionRegionHeader> peek_header(int fd, uint64_t file_size) {
  if (file_size < kHugePage) return ConnectionRegionHeader{};
  const Result<Mapping> mapping = map_shared(fd, kHugePage, "connection region's header");
  if (!mapping.ok()) return mapping.error();
  return *reinterpret_cast<const ConnectionRegionHeader *>(mapping.value().data());
}

Result<UniqueFd> open_and_lock(const std::filesystem::path &path) {
  UniqueFd file(::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600));
  if (!file.valid()) return Error{fmt::format("{}: cannot open or create: {}", path.string(), errno_text())};
  if (::flock(file.get(), LOCK_EX | LOCK_NB) != 0)
    return Error{
        fmt::format("{}: cannot lock: {}; another sluice-dataplane uses it: stop that one or give this one "
                    "another file",
                    path.string(), errno_text())};
  return file;
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
  Result<UniqueFd> file = open_and_lock(options.path);
  if (!file.ok()) return file.error();
  const int fd = file.value().get();
  struct stat info = {};
  if (::fstat(fd, &info) != 0) return Error{fmt::format("{}: {}", options.path.string(), errno_text())};
  auto file_size = static_cast<uint64_t>(info.st_size);
  const Result<ConnectionRegionHeader> old = peek_header(fd, file_size);
  if (!old.ok()) return old.error();

  ConnectionRegionHeader header = fresh_header(options);
  const std::string reason =
      file_size == 0 ? "there was none before" : reason_to_start_afresh(old.value(), file_size, header, now);
  if (reason.empty()) {
    header.table_count = std::max(old.value().table_count, options.worker_count);
    header.total_size = region_size(header.table_count, header.ipv4_buckets, header.ipv6_buckets);
    header.flow_hash_key_fingerprint = old.value().flow_hash_key_fingerprint;
  } else if (::ftruncate(fd, 0) == 0) {
    file_size = 0;
  } else {
    return Error{fmt::format("{}: cannot truncate: {}", options.path.string(), errno_text())};
  }
  const Status reserved = reserve(fd, options.path, header.total_size, file_size);
  if (!reserved.ok()) return reserved.error();
  Result<Mapping> mapping = map_shared(fd, header.total_size, options.path.string());
  if (!mapping.ok()) return mapping.error();
  // Granted where the filesystem may (tmpfs with huge=advise); a wish, so its failure is no error.
  ::madvise(mapping.value().data(), header.total_size, MADV_HUGEPAGE);

  header.live_tables = old.value().live_tables;
  header.boot_id = now.boot_id;
  header.alive_boottime_s = old.value().alive_boottime_s;
  std::memcpy(mapping.value().data(), &header, sizeof(header));
  ConnectionRegion region(std::move(file).value(), options.path, std::move(mapping).value());
  if (reason.empty()) region.take_over(old.value(), options.worker_count, now);
  // Only now: if this is killed while it takes over, the next one must do it again, and whole.
  region.mutable_header().live_tables = options.worker_count;
  region.mutable_header().alive_boottime_s = now.boottime_s;
  region.opened_as_ = reason.empty() ? fmt::format("kept {} tables for {} workers", old.value().table_count,
                                                   options.worker_count)
                                     : fmt::format("started afresh: {}", reason);
  spdlog::info("connection tables in {} ({} MiB): {}", options.path.string(), header.total_size / kMebibyte,
               region.opened_as_);
  return region;
}

std::byte *ConnectionRegion::table(uint32_t index) const {
  return mapping_.data() + kConnectionHeaderSize +
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
    spdlog::info("connection tables in {}: {} entries had timed out, {} were out of date", path_.string(),
                 expired, outdated);
}

ConnectionRegion::Entries ConnectionRegion::set_flow_hash_key(const FlowHashKey &key) {
  const uint64_t now = fingerprint(key);
  const uint64_t before = std::exchange(mutable_header().flow_hash_key_fingerprint, now);
  const KeyState state = std::exchange(key_state_, KeyState::kInUse);
  if (before == now || before == 0) return Entries::kKept;
  if (state == KeyState::kFromFile) {
    spdlog::warn(
        "flow_hash_key is another than the connection tables in {} were filled with: their connections "
        "cannot be found any more and are forgotten",
        path_.string());
    std::memset(table(0), 0, mapping_.size() - kConnectionHeaderSize);
    return Entries::kCleared;
  }
  spdlog::warn(
      "flow_hash_key changed: connections made before cannot be found any more, and are left to time out");
  return Entries::kKept;
}

void ConnectionRegion::heartbeat(const BootClock &now) {
  ConnectionRegionHeader &header = mutable_header();
  const uint64_t alive_before_s = std::exchange(header.alive_boottime_s, now.boottime_s);
  const uint64_t gap_s = now.boottime_s - alive_before_s;
  if (header.table_count == header.live_tables) return;
  const uint64_t parts = std::min<uint64_t>(kSweepParts, 1 + gap_s / kSweepPartS);
  for (uint64_t i = 0; i < parts; i++) {
    for (uint32_t table = header.live_tables; table < header.table_count; table++)
      for (const BucketArray &array : {ipv4_array(table), ipv6_array(table)}) {
        const size_t size = array.buckets.size() / kSweepParts;
        expire_entries({array.buckets.subspan(next_part_ * size, size), array.entry_words}, alive_before_s,
                       gap_s);
      }
    next_part_ = (next_part_ + 1) % kSweepParts;
  }
}

Result<UniqueFd> ConnectionRegion::read_only_descriptor() const { return reopen_for_reading(file_.get()); }

}  // namespace sluice
