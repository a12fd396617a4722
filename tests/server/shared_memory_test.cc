#include "dataplane/server/shared_memory.h"

#include <array>
#include <string>

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <unistd.h>

namespace sluice {
namespace {

CounterRegion region_of(uint32_t workers, uint32_t backends = 100, uint32_t services = 10) {
  CounterRegionShape shape;
  shape.worker_count = workers;
  shape.backend_capacity = backends;
  shape.service_capacity = services;
  shape.tsc_hz = 2'600'000'000;
  Result<CounterRegion> region = CounterRegion::create(shape);
  EXPECT_TRUE(region.ok());
  return std::move(region).value();
}

TEST(CounterRegion, describes_itself) {
  const CounterRegion region = region_of(3);
  const CounterRegionHeader &header = region.header();
  EXPECT_EQ(header.magic, SLUICE_COUNTER_MAGIC);
  EXPECT_EQ(header.worker_count, 3);
  EXPECT_EQ(header.verdict_count, kVerdictCount);
  EXPECT_EQ(header.tsc_hz, 2'600'000'000u);
  EXPECT_EQ(header.backends_offset % 64, 0);
  EXPECT_EQ(header.services_offset % 64, 0);
  EXPECT_EQ(header.worker_stride % 64, 0);
  EXPECT_EQ(header.total_size, header.header_size + 3 * header.worker_stride);
}

TEST(CounterRegion, gives_every_worker_its_own_records) {
  const CounterRegion region = region_of(2);
  for (uint32_t worker = 0; worker < 2; worker++) {
    region.worker(worker).received_packets = 10 + worker;
    for (BackendCounters &counters : region.backends(worker)) counters.packets = 20 + worker;
    for (TrafficCounters &counters : region.services(worker)) counters.packets = 30 + worker;
  }
  for (uint32_t worker = 0; worker < 2; worker++) {
    EXPECT_EQ(region.worker(worker).received_packets, 10 + worker);
    EXPECT_EQ(region.backends(worker).size(), 100);
    EXPECT_EQ(region.services(worker).size(), 10);
    for (const BackendCounters &counters : region.backends(worker)) EXPECT_EQ(counters.packets, 20 + worker);
    for (const TrafficCounters &counters : region.services(worker)) EXPECT_EQ(counters.packets, 30 + worker);
  }
}

TEST(CounterRegion, refuses_to_count_for_no_worker) {
  CounterRegionShape shape;
  shape.worker_count = 0;
  EXPECT_FALSE(CounterRegion::create(shape).ok());
}

TEST(CounterRegion, can_be_read_but_not_written_by_others) {
  const CounterRegion region = region_of(1);
  const Result<UniqueFd> descriptor = region.read_only_descriptor();
  ASSERT_TRUE(descriptor.ok());
  const int fd = descriptor.value().get();
  const size_t size = region.header().total_size;
  void *view = ::mmap(nullptr, size, PROT_READ, MAP_SHARED, fd, 0);
  ASSERT_NE(view, MAP_FAILED);
  region.worker(0).received_packets = 42;
  const auto *counters =
      reinterpret_cast<const WorkerCounters *>(static_cast<const std::byte *>(view) + kCounterHeaderSize);
  EXPECT_EQ(counters->received_packets, 42);

  EXPECT_NE(::mprotect(view, size, PROT_READ | PROT_WRITE), 0);
  EXPECT_EQ(::mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0), MAP_FAILED);
  EXPECT_NE(::ftruncate(fd, 0), 0);
  // A receiver that opens it anew for writing meets the seal.
  const UniqueFd writable(::open(("/proc/self/fd/" + std::to_string(fd)).c_str(), O_RDWR));
  if (writable.valid()) {
    EXPECT_LT(::pwrite(writable.get(), "x", 1, 0), 0);
    EXPECT_EQ(::mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_SHARED, writable.get(), 0), MAP_FAILED);
  }
  ::munmap(view, size);
}

TEST(MergeActiveConnections, sums_over_the_workers) {
  const CounterRegion region = region_of(3, 4);
  for (uint32_t worker = 0; worker < 3; worker++) {
    region.backends(worker)[1].active_connections = 100 + worker;
    region.backends(worker)[3].active_connections = 1;
  }
  std::array<uint32_t, 4> merged = {9, 9, 9, 9};
  merge_active_connections(region, merged);
  EXPECT_EQ(merged, (std::array<uint32_t, 4>{0, 303, 0, 3}));
}

TEST(MergeActiveConnections, stays_within_the_smaller_of_both) {
  const CounterRegion region = region_of(1, 2);
  region.backends(0)[1].active_connections = 5;
  std::array<uint32_t, 3> longer = {9, 9, 9};
  merge_active_connections(region, longer);
  EXPECT_EQ(longer, (std::array<uint32_t, 3>{0, 5, 9}));
  std::array<uint32_t, 1> shorter = {9};
  merge_active_connections(region, shorter);
  EXPECT_EQ(shorter[0], 0);
}

}  // namespace
}  // namespace sluice
