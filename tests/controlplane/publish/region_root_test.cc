// The control plane's look at real BPF maps, through the descriptors that the dataplane hands out. Needs
// root.
#include <filesystem>
#include <string>

#include <bpf/bpf.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <linux/bpf.h>
#include <sys/eventfd.h>

#include "controlplane/publish/counter_reader.h"
#include "controlplane/publish/region.h"
#include "dataplane/server/connection_region.h"
#include "dataplane/server/shared_memory.h"
#include "tests/server/bpf_memory.h"
#include "tests/server/temporary_directory.h"

namespace sluice {
namespace {

using testing::HasSubstr;

constexpr CounterRegionShape kShape = {.worker_count = 3,
                                       .backend_capacity = 300,
                                       .service_capacity = 10,
                                       .tsc_hz = 1,
                                       .started_unix_ns = 2,
                                       .first_worker_part = FirstWorkerPart::kAfterOneStride};

uint32_t stride() { return static_cast<uint32_t>(counter_region_layout(kShape).worker_stride); }

FileDescriptor reader_of(const SharedMemory &memory) {
  Result<UniqueFd> reader = duplicate_reader(memory);
  EXPECT_TRUE(reader.ok()) << reader.error().message;
  return FileDescriptor(reader.value().release());
}

/// The error of a map of 4 elements with counters whose header was changed.
template <typename Change>
std::string error_after(Change change) {
  const SharedMemory memory = make_bpf_memory(stride(), 4);
  auto *header = reinterpret_cast<CounterRegionHeader *>(memory.mapping.data());
  *header = counter_region_layout(kShape);
  change(header);
  const Result<CounterView> view = CounterView::open(reader_of(memory));
  return view.ok() ? "no error" : view.error().message;
}

TEST(CounterViewOfBpfMap, reads_what_workers_write) {
  const Result<CounterRegion> written =
      CounterRegion::over(make_bpf_memory(stride(), 4), kShape, CounterContents::kNew);
  ASSERT_TRUE(written.ok()) << written.error().message;
  Result<UniqueFd> descriptor = written.value().read_only_descriptor();
  ASSERT_TRUE(descriptor.ok());
  const Result<CounterView> read = CounterView::open(FileDescriptor(descriptor.value().release()));
  ASSERT_TRUE(read.ok()) << read.error().message;
  for (uint32_t worker = 0; worker < 3; worker++) {
    written.value().worker(worker).received_packets = 10 + worker;
    written.value().backends(worker)[299].packets = 20 + worker;
    written.value().services(worker)[9].packets = 30 + worker;
  }
  for (uint32_t worker = 0; worker < 3; worker++) {
    EXPECT_EQ(read.value().worker(worker).received_packets, 10 + worker);
    EXPECT_EQ(read.value().backend(worker, 299).packets, 20 + worker);
    EXPECT_EQ(read.value().service(worker, 9).packets, 30 + worker);
  }
  EXPECT_EQ(read_totals(read.value()).received_packets, 33u);
}

TEST(CounterViewOfBpfMap, refuses_a_header_that_claims_more_than_the_map_holds) {
  EXPECT_EQ(error_after([](auto *) {}), "no error");
  EXPECT_THAT(error_after([](auto *h) { h->total_size += 4096; }),
              HasSubstr("mmap of 86016 bytes: Invalid argument"));
  EXPECT_THAT(error_after([](auto *h) { h->total_size = ~uint64_t{0}; }),
              HasSubstr("its header claims 18446744073709551615 bytes"));
  EXPECT_THAT(error_after([](auto *h) { h->total_size = 4095; }), HasSubstr("its header claims 4095 bytes"));
  const std::string more = "claims more than its 81920 bytes hold";
  EXPECT_THAT(error_after([](auto *h) { h->worker_count = 4; }), HasSubstr(more));
  EXPECT_THAT(error_after([](auto *h) { h->header_size += 64; }), HasSubstr(more));
  EXPECT_THAT(error_after([](auto *h) { h->header_size = ~0u - 63; }), HasSubstr(more));
  EXPECT_THAT(error_after([](auto *h) { h->header_size = 4096 - 64; }), HasSubstr(more));
  EXPECT_THAT(error_after([](auto *h) { h->header_size = 4096 + 8; }), HasSubstr(more));
  EXPECT_THAT(error_after([](auto *h) { h->version = 1; }), HasSubstr("version 1, this sluiced reads 3"));
}

TEST(CounterViewOfBpfMap, refuses_a_map_that_holds_no_counters) {
  EXPECT_THAT(CounterView::open(reader_of(make_bpf_memory(4096, 2))).error().message,
              HasSubstr("its header claims 0 bytes"));
  EXPECT_THAT(error_after([](auto *h) { h->magic = 0; }), HasSubstr("magic"));
}

TEST(CounterViewOfBpfMap, refuses_what_cannot_be_mapped) {
  const FileDescriptor plain(bpf_map_create(BPF_MAP_TYPE_ARRAY, "test", 4, 4096, 4, nullptr));
  ASSERT_TRUE(plain.valid()) << "needs root";
  EXPECT_THAT(CounterView::open(plain).error().message, HasSubstr("mmap of 4096 bytes"));
  EXPECT_THAT(CounterView::open(FileDescriptor(::eventfd(0, 0))).error().message,
              HasSubstr("mmap of 4096 bytes"));
}

TEST(ConnectionViewOfBpfMap, reads_the_tables_that_a_program_writes) {
  const TemporaryDirectory directory;
  const Result<ConnectionRegion> file = ConnectionRegion::open({.path = directory.path() / "connections",
                                                                .worker_count = 2,
                                                                .ipv4_connections = 64,
                                                                .ipv6_connections = 64},
                                                               read_boot_clock());
  ASSERT_TRUE(file.ok()) << file.error().message;
  const auto buckets = static_cast<uint32_t>(file.value().bytes().size() / sizeof(ConnectionBucket));
  const Result<ConnectionRegion> written = ConnectionRegion::empty_in(
      make_bpf_memory(sizeof(ConnectionBucket), buckets), file.value().header(), 2);
  ASSERT_TRUE(written.ok()) << written.error().message;
  Result<UniqueFd> descriptor = written.value().read_only_descriptor();
  ASSERT_TRUE(descriptor.ok());
  const Result<ConnectionView> read = ConnectionView::open(FileDescriptor(descriptor.value().release()));
  ASSERT_TRUE(read.ok()) << read.error().message;
  written.value().ipv4_buckets(1).back().word[0] = 42;
  written.value().ipv6_buckets(1).back().word[7] = 43;
  EXPECT_EQ(read.value().header().table_count, 2u);
  EXPECT_EQ(read.value().ipv4_buckets(1)[read.value().header().ipv4_buckets - 1].word[0], 42u);
  EXPECT_EQ(read.value().ipv6_buckets(1)[read.value().header().ipv6_buckets - 1].word[7], 43u);
}

TEST(ConnectionViewOfBpfMap, refuses_a_header_that_claims_more_than_the_map_holds) {
  const SharedMemory memory = make_bpf_memory(sizeof(ConnectionBucket), 4096);
  auto *header = reinterpret_cast<ConnectionRegionHeader *>(memory.mapping.data());
  header->magic = SLUICE_CONNECTION_MAGIC;
  header->version = SLUICE_CONNECTION_VERSION;
  header->header_size = kConnectionHeaderSize;
  header->total_size = uint64_t{4096} * sizeof(ConnectionBucket);
  header->table_count = 1;
  header->live_tables = 1;
  header->ipv4_buckets = 64;
  header->ipv6_buckets = 64;
  EXPECT_TRUE(ConnectionView::open(reader_of(memory)).ok());
  header->total_size++;
  EXPECT_THAT(ConnectionView::open(reader_of(memory)).error().message, HasSubstr("mmap of 262145 bytes"));
  header->total_size--;
  header->ipv4_buckets = 4096;
  EXPECT_THAT(ConnectionView::open(reader_of(memory)).error().message,
              HasSubstr("claims more than its 262144 bytes hold"));
}

}  // namespace
}  // namespace sluice
