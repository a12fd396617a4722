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

/// The first field in which a header is of another layout than `wanted`; empty when there is none.
std::string difference(const CounterRegionHeader &there, const CounterRegionHeader &wanted) {
  struct Field {
    const char *name;
    uint64_t there;
    uint64_t wanted;
  };
  const Field fields[] = {
      {"magic", there.magic, wanted.magic},
      {"version", there.version, wanted.version},
      {"header_size", there.header_size, wanted.header_size},
      {"worker_count", there.worker_count, wanted.worker_count},
      {"verdict_count", there.verdict_count, wanted.verdict_count},
      {"backend_capacity", there.backend_capacity, wanted.backend_capacity},
      {"service_capacity", there.service_capacity, wanted.service_capacity},
      {"worker_stride", there.worker_stride, wanted.worker_stride},
      {"backends_offset", there.backends_offset, wanted.backends_offset},
      {"services_offset", there.services_offset, wanted.services_offset},
      {"unreachables_offset", there.unreachables_offset, wanted.unreachables_offset},
      {"total_size", there.total_size, wanted.total_size},
  };
  for (const Field &field : fields)
    if (field.there != field.wanted)
      return fmt::format("{} is {}, not {}", field.name, field.there, field.wanted);
  return "";
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

Result<UniqueFd> duplicate_reader(const SharedMemory &memory) {
  UniqueFd duplicate(::fcntl(memory.reader.get(), F_DUPFD_CLOEXEC, 0));
  if (!duplicate.valid())
    return Error{fmt::format("{}: cannot duplicate its descriptor: {}", memory.name, errno_text())};
  return duplicate;
}

CounterRegionHeader counter_region_layout(const CounterRegionShape &shape) {
  CounterRegionHeader header = {};
  header.magic = SLUICE_COUNTER_MAGIC;
  header.version = SLUICE_COUNTER_VERSION;
  header.worker_count = shape.worker_count;
  header.verdict_count = kVerdictCount;
  header.backend_capacity = shape.backend_capacity;
  header.service_capacity = shape.service_capacity;
  header.backends_offset = align_up(sizeof(WorkerCounters), 64);
  header.services_offset =
      align_up(header.backends_offset + size_t{shape.backend_capacity} * sizeof(BackendCounters), 64);
  // A page between workers: the prefetcher of one must not pull another's lines.
  header.worker_stride =
      align_up(header.services_offset + size_t{shape.service_capacity} * sizeof(TrafficCounters), 4096);
  header.unreachables_offset = kCounterHeaderSize;
  uint64_t front =
      align_up(header.unreachables_offset + size_t{shape.backend_capacity} * sizeof(uint64_t), 4096);
  if (shape.first_worker_part == FirstWorkerPart::kAfterOneStride)
    header.worker_stride = front = std::max(front, header.worker_stride);
  header.header_size = static_cast<uint32_t>(front);
  header.total_size = header.header_size + shape.worker_count * header.worker_stride;
  header.tsc_hz = shape.tsc_hz;
  header.started_unix_ns = shape.started_unix_ns;
  return header;
}

Result<CounterRegion> CounterRegion::create(const CounterRegionShape &shape) {
  const uint64_t size = counter_region_layout(shape).total_size;
  UniqueFd memfd(::memfd_create("sluice-counters", MFD_CLOEXEC | MFD_ALLOW_SEALING));
  if (!memfd.valid()) return Error{"counters: memfd_create: " + errno_text()};
  if (::ftruncate(memfd.get(), static_cast<off_t>(size)) != 0)
    return Error{fmt::format("counters: no room for {} bytes: {}", size, errno_text())};
  Result<Mapping> mapping = map_shared(memfd.get(), size, "counters");
  if (!mapping.ok()) return mapping.error();
  // Only this mapping may write from here on, whatever a receiver of the descriptor tries.
  if (::fcntl(memfd.get(), F_ADD_SEALS, F_SEAL_FUTURE_WRITE | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) != 0)
    return Error{"counters: cannot seal: " + errno_text()};
  Result<UniqueFd> reader = reopen_for_reading(memfd.get());
  if (!reader.ok()) return reader.error();
  return over({std::move(mapping).value(), std::move(reader).value(), "counters"}, shape,
              CounterContents::kNew);
}

Result<CounterRegion> CounterRegion::over(SharedMemory memory, const CounterRegionShape &shape,
                                          CounterContents contents) {
  if (shape.worker_count == 0)
    return Error{fmt::format("{}: worker_count: 0 workers have no counters", memory.name)};
  const CounterRegionHeader wanted = counter_region_layout(shape);
  if (memory.mapping.size() < wanted.total_size)
    return Error{fmt::format("{}: counters of {} workers need {} bytes, it has {}", memory.name,
                             wanted.worker_count, wanted.total_size, memory.mapping.size())};
  if (contents == CounterContents::kNew) {
    std::memcpy(memory.mapping.data(), &wanted, sizeof(wanted));
    return CounterRegion(std::move(memory), wanted);
  }
  CounterRegionHeader there;
  std::memcpy(&there, memory.mapping.data(), sizeof(there));
  const std::string other = difference(there, wanted);
  if (!other.empty())
    return Error{fmt::format("{}: its counters are of another layout: {}", memory.name, other)};
  return CounterRegion(std::move(memory), there);
}

std::byte *CounterRegion::part(uint32_t worker) const {
  return memory_.mapping.data() + header().header_size + worker * header().worker_stride;
}

WorkerCounters &CounterRegion::worker(uint32_t worker) const {
  return *reinterpret_cast<WorkerCounters *>(part(worker));
}

std::span<BackendCounters> CounterRegion::backends(uint32_t worker) const {
  return {reinterpret_cast<BackendCounters *>(part(worker) + header().backends_offset),
          header().backend_capacity};
}

std::span<TrafficCounters> CounterRegion::services(uint32_t worker) const {
  return {reinterpret_cast<TrafficCounters *>(part(worker) + header().services_offset),
          header().service_capacity};
}

std::span<uint64_t> CounterRegion::unreachables() const {
  return {reinterpret_cast<uint64_t *>(memory_.mapping.data() + header().unreachables_offset),
          header().backend_capacity};
}

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
