#include "dataplane/server/shared_memory.h"

#include <array>
#include <string>
#include <utility>

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <unistd.h>

#include "tests/server/memory.h"

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

// What the server counts is in nobody else's lines, however small the region.
TEST(CounterRegion, has_a_part_of_the_servers_own_before_the_workers) {
  for (const FirstWorkerPart first : {FirstWorkerPart::kAfterOnePage, FirstWorkerPart::kAfterOneStride})
    for (const uint32_t backends : {1u, 512u, 513u, 65536u}) {
      const Result<CounterRegion> region = CounterRegion::create({.worker_count = 1,
                                                                  .backend_capacity = backends,
                                                                  .service_capacity = 1,
                                                                  .first_worker_part = first});
      ASSERT_TRUE(region.ok());
      const std::span<uint64_t> unreachables = region.value().unreachables();
      ASSERT_EQ(unreachables.size(), backends);
      const auto *begin = reinterpret_cast<const std::byte *>(&region.value().worker(0)) -
                          region.value().header().header_size;
      EXPECT_GE(reinterpret_cast<const std::byte *>(unreachables.data()),
                begin + sizeof(CounterRegionHeader));
      EXPECT_LE(static_cast<const void *>(unreachables.data() + backends),
                static_cast<const void *>(&region.value().worker(0)));
      EXPECT_EQ(reinterpret_cast<uintptr_t>(region.value().backends(0).data()) % 64, 0u)
          << "a backend's counters are one line";
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
  const auto *counters = reinterpret_cast<const WorkerCounters *>(static_cast<const std::byte *>(view) +
                                                                  region.header().header_size);
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

constexpr CounterRegionShape kInMemory = {.worker_count = 3,
                                          .backend_capacity = 300,
                                          .service_capacity = 10,
                                          .tsc_hz = 5,
                                          .started_unix_ns = 6,
                                          .first_worker_part = FirstWorkerPart::kAfterOneStride};

TEST(CounterRegionLayout, is_of_one_more_element_than_workers_when_the_header_is_one) {
  const CounterRegionHeader layout = counter_region_layout(kInMemory);
  EXPECT_EQ(layout.header_size, layout.worker_stride);
  EXPECT_EQ(layout.worker_stride % 4096, 0);
  EXPECT_EQ(layout.total_size, 4 * layout.worker_stride);
}

TEST(CounterRegionLayout, of_the_largest_shape_has_elements_that_a_bpf_array_takes) {
  CounterRegionShape shape = kInMemory;
  shape.backend_capacity = kMaxBackends;
  shape.service_capacity = kMaxServices;
  const CounterRegionHeader layout = counter_region_layout(shape);
  EXPECT_EQ(layout.header_size, layout.worker_stride);
  EXPECT_LE(layout.worker_stride, 6u << 20) << "each CPU has one, whether it sees packets or not";
}

TEST(CounterRegionInMemory, gives_every_worker_an_element_after_the_header) {
  const uint64_t stride = counter_region_layout(kInMemory).worker_stride;
  SharedMemory memory = make_memory(4 * stride);
  std::byte *const start = memory.mapping.data();
  const Result<CounterRegion> region =
      CounterRegion::over(std::move(memory), kInMemory, CounterContents::kNew);
  ASSERT_TRUE(region.ok()) << region.error().message;
  EXPECT_EQ(region.value().header().magic, SLUICE_COUNTER_MAGIC);
  EXPECT_EQ(region.value().header().started_unix_ns, 6u);
  for (uint32_t worker = 0; worker < 3; worker++) {
    std::byte *const part = start + (1 + worker) * stride;
    EXPECT_EQ(reinterpret_cast<std::byte *>(&region.value().worker(worker)), part);
    EXPECT_EQ(reinterpret_cast<std::byte *>(region.value().backends(worker).data()),
              part + region.value().header().backends_offset);
    EXPECT_EQ(reinterpret_cast<std::byte *>(region.value().services(worker).data()),
              part + region.value().header().services_offset);
  }
}

TEST(CounterRegionInMemory, goes_on_with_the_counts_of_the_process_before) {
  SharedMemory memory = make_memory(counter_region_layout(kInMemory).total_size);
  SharedMemory later = same_memory(memory);
  const Result<CounterRegion> before =
      CounterRegion::over(std::move(memory), kInMemory, CounterContents::kNew);
  ASSERT_TRUE(before.ok());
  before.value().worker(2).received_packets = 42;
  CounterRegionShape shape = kInMemory;
  shape.tsc_hz = 7;
  shape.started_unix_ns = 8;
  const Result<CounterRegion> region = CounterRegion::over(std::move(later), shape, CounterContents::kKept);
  ASSERT_TRUE(region.ok()) << region.error().message;
  EXPECT_EQ(region.value().worker(2).received_packets, 42u);
  EXPECT_EQ(region.value().header().tsc_hz, 5u);
  EXPECT_EQ(region.value().header().started_unix_ns, 6u) << "since when its counts are";
}

TEST(CounterRegionInMemory, refuses_counts_of_another_layout_by_field) {
  const auto error_after = [](auto change) -> std::string {
    SharedMemory memory = make_memory(counter_region_layout(kInMemory).total_size);
    auto *header = reinterpret_cast<CounterRegionHeader *>(memory.mapping.data());
    *header = counter_region_layout(kInMemory);
    change(header);
    const Result<CounterRegion> region =
        CounterRegion::over(std::move(memory), kInMemory, CounterContents::kKept);
    return region.ok() ? "no error" : region.error().message;
  };
  EXPECT_EQ(error_after([](auto *) {}), "no error");
  EXPECT_EQ(error_after([](auto *h) { h->worker_count = 2; }),
            "the engine's memory: its counters are of another layout: worker_count is 2, not 3");
  EXPECT_THAT(error_after([](auto *h) { h->magic = 0; }), testing::HasSubstr("magic is 0"));
  EXPECT_THAT(error_after([](auto *h) { h->version = 1; }), testing::HasSubstr("version is 1, not 3"));
  EXPECT_THAT(error_after([](auto *h) { h->header_size = 4096; }), testing::HasSubstr("header_size is 4096"));
  EXPECT_THAT(error_after([](auto *h) { h->verdict_count = 1; }), testing::HasSubstr("verdict_count is 1"));
  EXPECT_THAT(error_after([](auto *h) { h->backend_capacity = 1; }),
              testing::HasSubstr("backend_capacity is 1, not 300"));
  EXPECT_THAT(error_after([](auto *h) { h->service_capacity = 1; }),
              testing::HasSubstr("service_capacity is 1, not 10"));
  EXPECT_THAT(error_after([](auto *h) { h->worker_stride = 64; }), testing::HasSubstr("worker_stride is 64"));
  EXPECT_THAT(error_after([](auto *h) { h->backends_offset = 64; }), testing::HasSubstr("backends_offset"));
  EXPECT_THAT(error_after([](auto *h) { h->services_offset = 64; }), testing::HasSubstr("services_offset"));
  EXPECT_THAT(error_after([](auto *h) { h->unreachables_offset = 64; }),
              testing::HasSubstr("unreachables_offset is 64"));
  EXPECT_THAT(error_after([](auto *h) { h->total_size = 64; }), testing::HasSubstr("total_size is 64"));
}

TEST(CounterRegionInMemory, does_not_believe_what_a_client_writes_into_the_header) {
  SharedMemory memory = make_memory(counter_region_layout(kInMemory).total_size);
  const SharedMemory client = same_memory(memory);
  const Result<CounterRegion> region =
      CounterRegion::over(std::move(memory), kInMemory, CounterContents::kNew);
  ASSERT_TRUE(region.ok());
  const WorkerCounters *before = &region.value().worker(2);
  auto *header = reinterpret_cast<CounterRegionHeader *>(client.mapping.data());
  header->worker_stride = uint64_t{1} << 40;
  header->backend_capacity = 1u << 31;
  EXPECT_EQ(&region.value().worker(2), before);
  EXPECT_EQ(region.value().backends(2).size(), 300);
}

TEST(CounterRegionInMemory, refuses_memory_that_is_too_small) {
  for (const CounterContents contents : {CounterContents::kNew, CounterContents::kKept}) {
    const Result<CounterRegion> region = CounterRegion::over(make_memory(4096), kInMemory, contents);
    ASSERT_FALSE(region.ok());
    EXPECT_THAT(region.error().message,
                testing::HasSubstr("counters of 3 workers need 81920 bytes, it has 4096"));
  }
}

TEST(CounterRegionInMemory, hands_out_duplicates_of_its_reader) {
  SharedMemory memory = make_memory(counter_region_layout(kInMemory).total_size);
  const Result<CounterRegion> region =
      CounterRegion::over(std::move(memory), kInMemory, CounterContents::kNew);
  ASSERT_TRUE(region.ok());
  const Result<UniqueFd> first = region.value().read_only_descriptor();
  const Result<UniqueFd> second = region.value().read_only_descriptor();
  ASSERT_TRUE(first.ok() && second.ok());
  EXPECT_NE(first.value().get(), second.value().get());
  EXPECT_EQ(::fcntl(first.value().get(), F_GETFD), FD_CLOEXEC);
  uint64_t magic = 0;
  ASSERT_EQ(::pread(second.value().get(), &magic, sizeof(magic), 0), 8);
  EXPECT_EQ(magic, SLUICE_COUNTER_MAGIC);
  EXPECT_EQ(::mmap(nullptr, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, first.value().get(), 0), MAP_FAILED);
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
