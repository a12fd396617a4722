// Regions in real BPF maps, and connections on their way between a map and the file. Needs root.
#include <filesystem>
#include <vector>

#include <bpf/bpf.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sched.h>
#include <sys/mman.h>
#include <sys/mount.h>

#include "dataplane/server/connection_region.h"
#include "dataplane/server/shared_memory.h"
#include "tests/server/bpf_memory.h"
#include "tests/server/connection_region_fixture.h"

namespace sluice {
namespace {

using testing::AllOf;
using testing::HasSubstr;

class RegionsInBpfMaps : public ConnectionRegionFixture {
 protected:
  static Status save(const std::filesystem::path &path, std::span<const std::byte> bytes) {
    Result<ConnectionSave> saving = ConnectionSave::reserve(path, bytes);
    return saving.ok() ? std::move(saving).value().save(kNow) : Status(saving.error());
  }
  static SharedMemory memory_for(const ConnectionRegion &region) {
    return make_bpf_memory(sizeof(ConnectionBucket),
                           static_cast<uint32_t>(region.bytes().size() / sizeof(ConnectionBucket)));
  }
};

TEST_F(RegionsInBpfMaps, counters_of_a_worker_are_the_element_after_its_number) {
  CounterRegionShape shape;  // of the full capacities
  shape.worker_count = 2;
  shape.first_worker_part = FirstWorkerPart::kAfterOneStride;
  const auto stride = static_cast<uint32_t>(counter_region_layout(shape).worker_stride);
  const Result<CounterRegion> region =
      CounterRegion::over(make_bpf_memory(stride, 3), shape, CounterContents::kNew);
  ASSERT_TRUE(region.ok()) << region.error().message;
  region.value().worker(1).received_packets = 42;
  std::vector<std::byte> element(stride);
  const uint32_t key = 2;
  const Result<UniqueFd> reader = region.value().read_only_descriptor();
  ASSERT_TRUE(reader.ok());
  ASSERT_EQ(bpf_map_lookup_elem(reader.value().get(), &key, element.data()), 0);
  EXPECT_EQ(reinterpret_cast<const WorkerCounters *>(element.data())->received_packets, 42u);
}

TEST_F(RegionsInBpfMaps, a_client_can_neither_write_what_it_maps_for_reading_nor_map_more) {
  const ConnectionRegion file = open(options(1));
  const Result<ConnectionRegion> region = ConnectionRegion::empty_in(memory_for(file), file.header(), 1);
  ASSERT_TRUE(region.ok()) << region.error().message;
  const Result<UniqueFd> descriptor = region.value().read_only_descriptor();
  ASSERT_TRUE(descriptor.ok()) << descriptor.error().message;
  const int fd = descriptor.value().get();
  void *page = ::mmap(nullptr, 4096, PROT_READ, MAP_SHARED, fd, 0);
  ASSERT_NE(page, MAP_FAILED) << "a kernel that does not map a map's writable descriptor";
  EXPECT_EQ(static_cast<const ConnectionRegionHeader *>(page)->magic, SLUICE_CONNECTION_MAGIC);
  EXPECT_NE(::mprotect(page, 4096, PROT_READ | PROT_WRITE), 0);
  ::munmap(page, 4096);
  EXPECT_EQ(::mmap(nullptr, file.bytes().size() + 1, PROT_READ, MAP_SHARED, fd, 0), MAP_FAILED);
}

TEST_F(RegionsInBpfMaps, connections_go_from_the_file_into_a_map_and_back) {
  const ConnectionRegion file = open(options(3));
  mark(file);
  Result<ConnectionRegion> in_map = ConnectionRegion::empty_in(memory_for(file), file.header(), 3);
  ASSERT_TRUE(in_map.ok()) << in_map.error().message;
  in_map.value().continue_from({.bytes = file.bytes()}, kNow);
  std::filesystem::remove(options(3).path);
  EXPECT_EQ(connection_region_misfit(in_map.value().bytes(), options(3)), "");
  put_ipv4(in_map.value(), 2, 100, 42, kNow.boottime_s);  // as the program does
  ASSERT_TRUE(save(options(3).path, in_map.value().bytes()).ok());
  const ConnectionRegion back = open(options(3));
  EXPECT_EQ(back.opened_as(), "kept 3 tables for 3 workers");
  for (uint32_t table = 0; table < 3; table++) EXPECT_TRUE(is_marked(back, table)) << table;
  EXPECT_TRUE(has_ipv4(back, 2, 100, 42));
}

TEST_F(RegionsInBpfMaps, a_filesystem_without_room_says_so_and_gets_its_memory_back) {
  const ConnectionRegion region = open(options(1));
  mark(region);
  ASSERT_EQ(::unshare(CLONE_NEWNS), 0) << "needs root";
  ASSERT_EQ(::mount("none", "/", nullptr, MS_REC | MS_PRIVATE, nullptr), 0);
  const TemporaryDirectory small;
  ASSERT_EQ(::mount("tmpfs", small.path().c_str(), "tmpfs", 0, "size=1m"), 0);
  const std::filesystem::path path = small.path() / "connections";
  const Status saved = save(path, region.bytes());
  ASSERT_FALSE(saved.ok());
  EXPECT_THAT(saved.error().message,
              HasSubstr("the connection tables need 2 MiB, its filesystem has 1 MiB free"));
  EXPECT_EQ(std::filesystem::file_size(path), 0);
  ASSERT_EQ(::mount("tmpfs", small.path().c_str(), "tmpfs", MS_REMOUNT, "size=3m"), 0);
  EXPECT_TRUE(save(path, region.bytes()).ok()) << "once there is room";
  ConnectionRegionOptions wanted = options(1);
  wanted.path = path;
  EXPECT_TRUE(is_marked(open(wanted), 0));
  ASSERT_EQ(::umount2(small.path().c_str(), MNT_DETACH), 0);
}

TEST_F(RegionsInBpfMaps, tables_of_a_size_that_there_is_no_room_for_leave_the_connections_of_before) {
  ASSERT_EQ(::unshare(CLONE_NEWNS), 0) << "needs root";
  ASSERT_EQ(::mount("none", "/", nullptr, MS_REC | MS_PRIVATE, nullptr), 0);
  const TemporaryDirectory small;
  ASSERT_EQ(::mount("tmpfs", small.path().c_str(), "tmpfs", 0, "size=5m"), 0);
  ConnectionRegionOptions wanted = options(1);
  wanted.path = small.path() / "connections";
  { mark(open(wanted)); }
  ConnectionRegionOptions larger = wanted;
  larger.ipv4_connections = 100'000;  // 4 MiB
  const Result<ConnectionRegion> refused = ConnectionRegion::open(larger, kNow);
  ASSERT_FALSE(refused.ok());
  EXPECT_THAT(refused.error().message, AllOf(HasSubstr("its filesystem has 3 MiB free"),
                                             HasSubstr("remove it if they are not needed")));
  EXPECT_TRUE(is_marked(open(wanted), 0));
  EXPECT_TRUE(ConnectionRegion::open(larger, {kNow.boottime_s, kNow.boot_id + 1}).ok())
      << "nobody can use them after a reboot: they make room";
  ASSERT_EQ(::umount2(small.path().c_str(), MNT_DETACH), 0);
}

}  // namespace
}  // namespace sluice
