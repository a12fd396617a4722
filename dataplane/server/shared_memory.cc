#include "dataplane/server/shared_memory.h"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <string>
#include <utility>

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/mman.h>

namespace sluice {
namespace {

constexpr size_t align_up(size_t size, size_t alignment) {
  return (size + alignment - 1) / alignment * alignment;
}

std::string errno_text() { return std::strerror(errno); }  // NOLINT(concurrency-mt-unsafe)

void lay_out(CounterRegionHeader *header, const CounterRegionShape &shape) {
  header->magic = SLUICE_COUNTER_MAGIC;
  header->version = SLUICE_COUNTER_VERSION;
  header->header_size = kCounterHeaderSize;
  header->worker_count = shape.worker_count;
  header->verdict_count = kVerdictCount;
  header->backend_capacity = shape.backend_capacity;
  header->service_capacity = shape.service_capacity;
  header->backends_offset = align_up(sizeof(WorkerCounters), 64);
  header->services_offset =
      align_up(header->backends_offset + size_t{shape.backend_capacity} * sizeof(BackendCounters), 64);
  // A page between workers: the prefetcher of one must not pull another's lines.
  header->worker_stride =
      align_up(header->services_offset + size_t{shape.service_capacity} * sizeof(TrafficCounters), 4096);
  header->total_size = kCounterHeaderSize + shape.worker_count * header->worker_stride;
  header->tsc_hz = shape.tsc_hz;
  header->started_unix_ns = shape.started_unix_ns;
}

}  // namespace

Mapping::Mapping(Mapping &&other) noexcept
    : address_(std::exchange(other.address_, nullptr)), size_(std::exchange(other.size_, 0)) {}

Mapping &Mapping::operator=(Mapping &&other) noexcept {
  std::swap(address_, other.address_);
  std::swap(size_, other.size_);
  return *this;
}

Mapping::~Mapping() {
  if (address_ != nullptr) ::munmap(address_, size_);
}

Result<Mapping> map_shared(int fd, size_t size, std::string_view what) {
  void *address = ::mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  if (address == MAP_FAILED)  // NOLINT(performance-no-int-to-ptr)
    return Error{fmt::format("{}: cannot map {} bytes: {}", what, size, errno_text())};
  return Mapping(static_cast<std::byte *>(address), size);
}

Result<UniqueFd> reopen_for_reading(int fd) {
  const std::string path = fmt::format("/proc/self/fd/{}", fd);
  UniqueFd reopened(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (!reopened.valid()) return Error{fmt::format("{}: cannot open for reading: {}", path, errno_text())};
  return reopened;
}

Result<CounterRegion> CounterRegion::create(const CounterRegionShape &shape) {
  if (shape.worker_count == 0) return Error{"counters: worker_count: 0 workers have no counters"};
  CounterRegionHeader header = {};
  lay_out(&header, shape);
  UniqueFd memfd(::memfd_create("sluice-counters", MFD_CLOEXEC | MFD_ALLOW_SEALING));
  if (!memfd.valid()) return Error{"counters: memfd_create: " + errno_text()};
  if (::ftruncate(memfd.get(), static_cast<off_t>(header.total_size)) != 0)
    return Error{fmt::format("counters: no room for {} bytes: {}", header.total_size, errno_text())};
  Result<Mapping> mapping = map_shared(memfd.get(), header.total_size, "counters");
  if (!mapping.ok()) return mapping.error();
  // Only this mapping may write from here on, whatever a receiver of the descriptor tries.
  if (::fcntl(memfd.get(), F_ADD_SEALS, F_SEAL_FUTURE_WRITE | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) != 0)
    return Error{"counters: cannot seal: " + errno_text()};
  std::memcpy(mapping.value().data(), &header, sizeof(header));
  return CounterRegion(std::move(memfd), std::move(mapping).value());
}

WorkerCounters &CounterRegion::worker(uint32_t worker) const {
  return *reinterpret_cast<WorkerCounters *>(mapping_.data() + header().header_size +
                                             worker * header().worker_stride);
}

std::span<BackendCounters> CounterRegion::backends(uint32_t worker) const {
  std::byte *part = mapping_.data() + header().header_size + worker * header().worker_stride;
  return {reinterpret_cast<BackendCounters *>(part + header().backends_offset), header().backend_capacity};
}

std::span<TrafficCounters> CounterRegion::services(uint32_t worker) const {
  std::byte *part = mapping_.data() + header().header_size + worker * header().worker_stride;
  return {reinterpret_cast<TrafficCounters *>(part + header().services_offset), header().service_capacity};
}

Result<UniqueFd> CounterRegion::read_only_descriptor() const { return reopen_for_reading(memfd_.get()); }

void merge_active_connections(const CounterRegion &counters, std::span<uint32_t> merged) {
  const uint32_t workers = counters.header().worker_count;
  const size_t count = std::min<size_t>(merged.size(), counters.header().backend_capacity);
  for (size_t backend = 0; backend < count; backend++) {
    uint32_t sum = 0;
    for (uint32_t worker = 0; worker < workers; worker++)
      sum += __atomic_load_n(&counters.backends(worker)[backend].active_connections, __ATOMIC_RELAXED);
    __atomic_store_n(&merged[backend], sum, __ATOMIC_RELAXED);
  }
}

}  // namespace sluice
