#include "controlplane/publish/region.h"

#include <bit>
#include <cerrno>
#include <cstddef>
#include <cstring>
#include <string>

#include <sys/mman.h>
#include <sys/stat.h>

namespace sluice {
namespace {

constexpr uint64_t kMaxRegionBytes = uint64_t{1} << 42;  // so that no product of checked fields overflows
constexpr uint32_t kMaxWorkers = 1024;

Error unusable(const std::string &region, const std::string &why) {
  return Error{"dataplane: its " + region + " region cannot be used: " + why};
}

// What every region's header begins with, so that the size can be read before anything else is known.
struct HeaderStart {
  uint64_t magic;
  uint32_t version;
  uint32_t header_size;
  uint64_t total_size;
};
static_assert(offsetof(HeaderStart, total_size) == offsetof(CounterRegionHeader, total_size));
static_assert(offsetof(HeaderStart, total_size) == offsetof(ConnectionRegionHeader, total_size));

// A BPF map is of no file type, and has no size.
bool is_anonymous(const struct stat &file) { return (file.st_mode & S_IFMT) == 0 && file.st_size == 0; }

Status check_header(const std::string &region, uint64_t magic, uint64_t expected_magic, uint32_t version,
                    uint32_t expected_version) {
  if (magic != expected_magic) return unusable(region, "it does not begin with the magic number");
  if (version == expected_version) return Done{};
  return unusable(region, "version " + std::to_string(version) + ", this sluiced reads " +
                              std::to_string(expected_version) + "; use both of one release");
}

// Whether the server's part, every worker's part, and every record in them, lie inside. What is multiplied is
// bounded first.
bool counters_fit(const CounterRegionHeader &header) {
  const uint64_t backends_size = uint64_t{header.backend_capacity} * sizeof(BackendCounters);
  const uint64_t services_size = uint64_t{header.service_capacity} * sizeof(TrafficCounters);
  const uint64_t unreachables_size = uint64_t{header.backend_capacity} * sizeof(uint64_t);
  return header.header_size >= kCounterHeaderSize && header.header_size % 64 == 0 &&
         header.unreachables_offset >= sizeof(header) && header.unreachables_offset <= header.header_size &&
         header.unreachables_offset % alignof(uint64_t) == 0 &&
         unreachables_size <= header.header_size - header.unreachables_offset &&
         header.worker_count <= kMaxWorkers && header.worker_stride % alignof(uint64_t) == 0 &&
         header.backends_offset % alignof(uint64_t) == 0 && header.services_offset % alignof(uint64_t) == 0 &&
         header.worker_stride <= kMaxRegionBytes / kMaxWorkers &&
         header.worker_stride >= sizeof(WorkerCounters) && header.backends_offset <= header.worker_stride &&
         header.services_offset <= header.worker_stride &&
         backends_size <= header.worker_stride - header.backends_offset &&
         services_size <= header.worker_stride - header.services_offset &&
         header.header_size + header.worker_count * header.worker_stride <= header.total_size;
}

bool tables_fit(const ConnectionRegionHeader &header) {
  const uint64_t table_size =
      (uint64_t{header.ipv4_buckets} + header.ipv6_buckets) * sizeof(ConnectionBucket);
  return header.table_count <= kMaxConnectionTables && header.live_tables <= header.table_count &&
         kConnectionHeaderSize + header.table_count * table_size <= header.total_size;
}

}  // namespace

ReadOnlyMapping &ReadOnlyMapping::operator=(ReadOnlyMapping &&other) noexcept {
  std::swap(data_, other.data_);
  std::swap(size_bytes_, other.size_bytes_);
  return *this;
}

ReadOnlyMapping::~ReadOnlyMapping() {
  if (data_ != nullptr) munmap(const_cast<std::byte *>(data_), size_bytes_);
}

Result<ReadOnlyMapping> ReadOnlyMapping::map_bytes(int descriptor, uint64_t size_bytes) {
  void *data = mmap(nullptr, size_bytes, PROT_READ, MAP_SHARED, descriptor, 0);
  if (data == MAP_FAILED)
    return Error{"mmap of " + std::to_string(size_bytes) + " bytes: " + std::strerror(errno)};
  ReadOnlyMapping mapping;
  mapping.data_ = static_cast<const std::byte *>(data);
  mapping.size_bytes_ = size_bytes;
  return mapping;
}

Result<ReadOnlyMapping> ReadOnlyMapping::map(const FileDescriptor &descriptor, uint64_t minimum_bytes) {
  struct stat file {};
  if (fstat(descriptor.get(), &file) != 0) return Error{std::string("fstat: ") + std::strerror(errno)};
  auto size = static_cast<uint64_t>(file.st_size);
  std::string has = "it has ";
  if (is_anonymous(file)) {
    const auto first_page = map_bytes(descriptor.get(), minimum_bytes);
    if (!first_page.ok()) return first_page.error();
    size = reinterpret_cast<const HeaderStart *>(first_page.value().data())->total_size;
    has = "its header claims ";
  } else if (!S_ISREG(file.st_mode)) {
    return Error{"the descriptor is no memory or file"};
  }
  if (size < minimum_bytes || size > kMaxRegionBytes) {
    return Error{has + std::to_string(size) + " bytes, " + std::to_string(minimum_bytes) + " to " +
                 std::to_string(kMaxRegionBytes) + " can be used"};
  }
  return map_bytes(descriptor.get(), size);
}

Result<CounterView> CounterView::open(const FileDescriptor &descriptor) {
  auto mapping = ReadOnlyMapping::map(descriptor, kCounterHeaderSize);
  if (!mapping.ok()) return unusable("counter", mapping.error().message);
  CounterView view;
  view.mapping_ = std::move(mapping).value();
  std::memcpy(&view.header_, view.mapping_.data(), sizeof(view.header_));
  const CounterRegionHeader &header = view.header_;
  const Status status =
      check_header("counter", header.magic, SLUICE_COUNTER_MAGIC, header.version, SLUICE_COUNTER_VERSION);
  if (!status.ok()) return status.error();
  if (header.verdict_count != kVerdictCount) {
    return unusable("counter", std::to_string(header.verdict_count) + " verdicts, this sluiced knows " +
                                   std::to_string(int{kVerdictCount}) + "; use both of one release");
  }
  const bool fits = header.total_size <= view.mapping_.size_bytes() && counters_fit(header);
  if (!fits)
    return unusable("counter", "its header claims more than its " +
                                   std::to_string(view.mapping_.size_bytes()) + " bytes hold");
  return view;
}

const std::byte *CounterView::worker_part(uint32_t index) const {
  return mapping_.data() + header_.header_size + index * header_.worker_stride;
}

const WorkerCounters &CounterView::worker(uint32_t index) const {
  return *reinterpret_cast<const WorkerCounters *>(worker_part(index));
}

const BackendCounters &CounterView::backend(uint32_t worker_index, uint32_t backend_id) const {
  return reinterpret_cast<const BackendCounters *>(worker_part(worker_index) +
                                                   header_.backends_offset)[backend_id];
}

const TrafficCounters &CounterView::service(uint32_t worker_index, uint32_t service_id) const {
  return reinterpret_cast<const TrafficCounters *>(worker_part(worker_index) +
                                                   header_.services_offset)[service_id];
}

const uint64_t &CounterView::unreachables(uint32_t backend_id) const {
  return reinterpret_cast<const uint64_t *>(mapping_.data() + header_.unreachables_offset)[backend_id];
}

Result<ConnectionView> ConnectionView::open(const FileDescriptor &descriptor) {
  auto mapping = ReadOnlyMapping::map(descriptor, kConnectionHeaderSize);
  if (!mapping.ok()) return unusable("connection", mapping.error().message);
  ConnectionView view;
  view.mapping_ = std::move(mapping).value();
  std::memcpy(&view.header_, view.mapping_.data(), sizeof(view.header_));
  const ConnectionRegionHeader &header = view.header_;
  const Status status = check_header("connection", header.magic, SLUICE_CONNECTION_MAGIC, header.version,
                                     SLUICE_CONNECTION_VERSION);
  if (!status.ok()) return status.error();
  const bool fits = header.header_size == kConnectionHeaderSize &&
                    header.total_size <= view.mapping_.size_bytes() && tables_fit(header);
  if (!fits)
    return unusable("connection", "its header claims more than its " +
                                      std::to_string(view.mapping_.size_bytes()) + " bytes hold");
  return view;
}

const ConnectionBucket *ConnectionView::ipv4_buckets(uint32_t table) const {
  const uint64_t buckets = uint64_t{table} * (uint64_t{header_.ipv4_buckets} + header_.ipv6_buckets);
  return reinterpret_cast<const ConnectionBucket *>(mapping_.data() + kConnectionHeaderSize) + buckets;
}

const ConnectionBucket *ConnectionView::ipv6_buckets(uint32_t table) const {
  return ipv4_buckets(table) + header_.ipv4_buckets;
}

}  // namespace sluice
