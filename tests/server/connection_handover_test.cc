// Connection tables on their way: into memory of an engine's, back into the file, to the next process.
#include <algorithm>
#include <csignal>
#include <cstring>
#include <thread>
#include <vector>

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "dataplane/server/connection_file.h"
#include "dataplane/server/connection_region.h"
#include "tests/server/connection_region_fixture.h"
#include "tests/server/memory.h"

namespace sluice {
namespace {

using testing::HasSubstr;
using testing::IsEmpty;

constexpr FlowHashKey kKey = {{1}};
constexpr uint64_t kLateS = kNow.boottime_s + 10'000;  // no heartbeat since kNow, but the program ran

class ConnectionHandover : public ConnectionRegionFixture {
 protected:
  /// A region in memory whose tables are marked as seen at `seen_s`, copied from a file that is gone.
  ConnectionRegion in_memory(uint32_t workers, uint64_t seen_s = kNow.boottime_s) const {
    ConnectionRegion file = open(options(workers));
    file.set_flow_hash_key(kKey);
    mark(file, seen_s);
    ConnectionRegion region = copy(file);
    std::filesystem::remove(options(1).path);
    return region;
  }
  static ConnectionRegion copy(const ConnectionRegion &from) {
    return continued({.bytes = from.bytes()}, wanted_by(from));
  }
  static ConnectionRegion continued(const ConnectionContents &before, const ConnectionRegionOptions &wanted,
                                    const BootClock &now = kNow) {
    const ConnectionRegionHeader layout = connection_layout(before, wanted, now);
    Result<ConnectionRegion> region =
        ConnectionRegion::empty_in(make_memory(layout.total_size), layout, wanted.worker_count);
    EXPECT_TRUE(region.ok()) << region.error().message;
    region.value().continue_from(before, now);
    return std::move(region).value();
  }
  static ConnectionRegionOptions wanted_by(const ConnectionRegion &region) {
    return {.path = {},
            .worker_count = region.header().live_tables,
            .ipv4_connections = 1000,
            .ipv6_connections = 100};
  }
  /// Memory with the bytes of `region`, as the next process finds it.
  static SharedMemory left_by(const ConnectionRegion &region) {
    SharedMemory memory = make_memory(region.bytes().size());
    std::ranges::copy(region.bytes(), memory.mapping.data());
    return memory;
  }
  static ConnectionRegionHeader *header_in(const SharedMemory &memory) {
    return reinterpret_cast<ConnectionRegionHeader *>(memory.mapping.data());
  }
  static Status save(const std::filesystem::path &path, std::span<const std::byte> bytes,
                     const BootClock &now) {
    Result<ConnectionSave> saving = ConnectionSave::reserve(path, bytes);
    return saving.ok() ? std::move(saving).value().save(now) : Status(saving.error());
  }
  std::string saving_error(std::span<const std::byte> bytes) const {
    const Status saved = save(options(1).path, bytes, kNow);
    return saved.ok() ? "no error" : saved.error().message;
  }
};

TEST_F(ConnectionHandover, a_copy_holds_every_byte_and_outlives_the_file) {
  const ConnectionRegion file = open(options(2));
  mark(file);
  const ConnectionRegion region = copy(file);
  EXPECT_TRUE(std::ranges::equal(region.bytes(), file.bytes()));
  EXPECT_EQ(region.bytes().size(), region.header().total_size);
  EXPECT_EQ(region.opened_as(), "kept 2 tables for 2 workers");
  mark(region, 1);
  EXPECT_FALSE(std::ranges::equal(region.bytes(), file.bytes())) << "a copy has memory of its own";
}

TEST_F(ConnectionHandover, a_copy_needs_memory_for_all_of_the_region) {
  const ConnectionRegion file = open(options(1));
  const Result<ConnectionRegion> region =
      ConnectionRegion::empty_in(make_memory(file.bytes().size() - 4096), file.header(), 1);
  ASSERT_FALSE(region.ok());
  EXPECT_EQ(region.error().message,
            "the engine's memory: the connection tables need 2097152 bytes, it has 2093056");
}

TEST_F(ConnectionHandover, another_key_empties_a_copy_that_no_worker_has_yet) {
  ConnectionRegion region = in_memory(1);
  EXPECT_EQ(region.set_flow_hash_key(FlowHashKey{{2}}), ConnectionRegion::Entries::kCleared);
  EXPECT_TRUE(is_empty(region, 0));
}

TEST_F(ConnectionHandover, tables_in_use_stay_as_they_are_however_old_their_entries) {
  const ConnectionRegion before = in_memory(2);
  mark(before, kNow.boottime_s - 7500);
  SharedMemory memory = left_by(before);
  const Result<ConnectionRegion> region = ConnectionRegion::over(std::move(memory), options(2));
  ASSERT_TRUE(region.ok()) << region.error().message;
  EXPECT_TRUE(std::ranges::equal(region.value().bytes(), before.bytes()));
  EXPECT_TRUE(is_marked(region.value(), 1));
  EXPECT_EQ(region.value().opened_as(), "kept 2 tables in use by 2 workers");
}

TEST_F(ConnectionHandover, another_key_leaves_tables_in_use_to_their_workers) {
  Result<ConnectionRegion> region = ConnectionRegion::over(left_by(in_memory(1)), options(1));
  ASSERT_TRUE(region.ok());
  EXPECT_EQ(region.value().set_flow_hash_key(FlowHashKey{{2}}), ConnectionRegion::Entries::kKept);
  EXPECT_TRUE(is_marked(region.value(), 0));
}

TEST_F(ConnectionHandover, a_heartbeat_sweeps_what_no_worker_has_in_tables_in_use) {
  { const ConnectionRegion three = open(options(3)); }
  ConnectionRegion file = open(options(1));  // two tables without a worker
  mark(file);
  Result<ConnectionRegion> region = ConnectionRegion::over(left_by(file), options(1));
  ASSERT_TRUE(region.ok()) << region.error().message;
  EXPECT_EQ(region.value().opened_as(), "kept 3 tables in use by 1 workers");
  region.value().heartbeat({kLateS, kNow.boot_id});
  EXPECT_EQ(region.value().header().alive_boottime_s, kLateS);
  EXPECT_TRUE(is_marked(region.value(), 0)) << "a worker's table is its own affair";
  EXPECT_TRUE(is_empty(region.value(), 1));
  EXPECT_TRUE(is_empty(region.value(), 2));
}

TEST_F(ConnectionHandover, memory_of_another_layout_is_refused_with_the_reason) {
  const ConnectionRegion region = in_memory(2);
  const auto misfit = [&](auto change, uint32_t workers = 2) {
    const SharedMemory memory = left_by(region);
    change(header_in(memory));
    return connection_region_misfit({memory.mapping.data(), memory.mapping.size()}, options(workers));
  };
  const auto nothing = [](ConnectionRegionHeader *) {};
  EXPECT_THAT(misfit(nothing), IsEmpty());
  EXPECT_EQ(misfit(nothing, 1), "it serves 2 workers, 1 are wanted");
  EXPECT_EQ(misfit(nothing, 3), "it serves 2 workers, 3 are wanted");
  EXPECT_EQ(misfit([](auto *h) { h->magic++; }), "it holds no connection tables");
  EXPECT_THAT(misfit([](auto *h) { h->version++; }), HasSubstr("its layout has version"));
  EXPECT_THAT(misfit([](auto *h) { h->header_size *= 2; }), HasSubstr("its layout has version"));
  EXPECT_EQ(misfit([](auto *h) { h->table_count = 65; }), "its table_count is 65");
  EXPECT_EQ(misfit([](auto *h) { h->table_count = 1; }), "its table_count is 1");
  EXPECT_EQ(misfit([](auto *h) { h->ipv6_buckets = 128; }),
            "its tables have 512 IPv4 and 128 IPv6 buckets, 512 and 64 are configured");
  EXPECT_EQ(misfit([](auto *h) { h->table_count = 60; }),
            "its tables make 4194304 bytes, its header says 2097152");
  EXPECT_EQ(misfit([](auto *h) { h->total_size = 4096; }),
            "its tables make 2097152 bytes, its header says 4096");
  EXPECT_THAT(connection_region_misfit(region.bytes().first(2 << 19), options(2)),
              HasSubstr("its size is 1048576 bytes"));
  EXPECT_THAT(connection_region_misfit(region.bytes().first(100), options(2)),
              HasSubstr("no connection tables"));
  EXPECT_EQ(ConnectionRegion::over(left_by(region), options(1)).error().message,
            "the engine's memory: it serves 2 workers, 1 are wanted");
}

TEST_F(ConnectionHandover, what_a_client_writes_into_the_header_is_not_believed) {
  { const ConnectionRegion two = open(options(2)); }
  const ConnectionRegion file = open(options(1));
  mark(file);
  SharedMemory memory = left_by(file);
  const SharedMemory client = same_memory(memory);
  Result<ConnectionRegion> region = ConnectionRegion::over(std::move(memory), options(1));
  ASSERT_TRUE(region.ok()) << region.error().message;
  header_in(client)->table_count = 1'000'000;
  header_in(client)->ipv4_buckets = 1u << 31;
  header_in(client)->total_size = uint64_t{1} << 40;
  EXPECT_EQ(region.value().ipv4_buckets(1).size(), 512);
  EXPECT_EQ(region.value().bytes().size(), file.bytes().size());
  region.value().heartbeat({kLateS, kNow.boot_id});
  EXPECT_TRUE(is_empty(region.value(), 1));
  EXPECT_EQ(header_in(client)->table_count, 2) << "and is put right again";
}

TEST_F(ConnectionHandover, a_descriptor_of_memory_is_its_readers_duplicate) {
  const ConnectionRegion region = in_memory(1);
  const Result<UniqueFd> descriptor = region.read_only_descriptor();
  ASSERT_TRUE(descriptor.ok());
  uint64_t word = 0;
  ASSERT_EQ(::pread(descriptor.value().get(), &word, sizeof(word), kConnectionHeaderSize), 8);
  EXPECT_EQ(word, kMark);
  EXPECT_LT(::pwrite(descriptor.value().get(), &word, sizeof(word), 0), 0);
}

TEST_F(ConnectionHandover, saved_connections_are_there_at_the_next_start) {
  const ConnectionRegion region = in_memory(2);
  ASSERT_EQ(saving_error(region.bytes()), "no error");
  ConnectionRegion opened = open(options(2));
  EXPECT_EQ(opened.opened_as(), "kept 2 tables for 2 workers");
  EXPECT_TRUE(is_marked(opened, 0));
  EXPECT_TRUE(is_marked(opened, 1));
  EXPECT_EQ(opened.set_flow_hash_key(kKey), ConnectionRegion::Entries::kKept);
  EXPECT_TRUE(is_marked(opened, 1));
}

TEST_F(ConnectionHandover, what_a_program_wrote_after_the_last_heartbeat_is_saved) {
  const ConnectionRegion region = in_memory(1, kLateS - 100);
  ASSERT_TRUE(save(options(1).path, region.bytes(), {kLateS, kNow.boot_id}).ok());
  const ConnectionRegion opened = open(options(1), {kLateS + 1, kNow.boot_id});
  EXPECT_EQ(opened.opened_as(), "kept 1 tables for 1 workers");
  EXPECT_TRUE(is_marked(opened, 0));
}

TEST_F(ConnectionHandover, what_timed_out_in_tables_without_a_worker_is_not_saved) {
  { const ConnectionRegion two = open(options(2)); }
  const ConnectionRegion file = open(options(1));
  mark(file, kNow.boottime_s);
  const ConnectionRegion region = copy(file);
  const ConnectionRegionOptions elsewhere = {.path = directory_.path() / "saved",
                                             .worker_count = 1,
                                             .ipv4_connections = 1000,
                                             .ipv6_connections = 100};
  ASSERT_TRUE(save(elsewhere.path, region.bytes(), {kLateS, kNow.boot_id}).ok());
  const ConnectionRegion opened = open(elsewhere, {kLateS, kNow.boot_id});
  EXPECT_EQ(opened.header().table_count, 2);
  EXPECT_TRUE(is_empty(opened, 1)) << "its stamps look 1808 s old";
}

TEST_F(ConnectionHandover, saving_replaces_what_the_file_held) {
  const ConnectionRegion region = in_memory(1);
  { mark(open(options(60)), 1); }
  ASSERT_EQ(saving_error(region.bytes()), "no error");
  EXPECT_EQ(std::filesystem::file_size(options(1).path), region.bytes().size());
  EXPECT_EQ(open(options(1)).opened_as(), "kept 1 tables for 1 workers");
}

TEST_F(ConnectionHandover, room_to_save_is_reserved_beside_what_the_file_holds) {
  const ConnectionRegion region = in_memory(1);
  { mark(open(options(60)), 1); }
  const std::filesystem::path path = options(1).path;
  const auto size = std::filesystem::file_size(path);
  {
    const Result<ConnectionSave> saving = ConnectionSave::reserve(path, region.bytes());
    ASSERT_TRUE(saving.ok()) << saving.error().message;
    EXPECT_EQ(std::filesystem::file_size(path), size);
    EXPECT_EQ(std::filesystem::file_size(path.string() + ".new"), region.bytes().size());
    EXPECT_FALSE(ConnectionRegion::open(options(1), kNow).ok()) << "the file is this one's until it is saved";
  }
  EXPECT_EQ(std::filesystem::file_size(path), size);
  EXPECT_FALSE(std::filesystem::exists(path.string() + ".new"));
}

TEST_F(ConnectionHandover, room_that_a_killed_process_had_reserved_is_given_back_at_the_next_start) {
  const ConnectionRegion region = in_memory(1);
  const std::filesystem::path path = options(1).path;
  const std::filesystem::path beside = path.string() + ".new";
  const auto be_killed = [&] {
    const pid_t child = ::fork();
    if (child == 0) {
      const Result<ConnectionSave> saving = ConnectionSave::reserve(path, region.bytes());
      ::kill(::getpid(), SIGKILL);
    }
    int status = 0;
    ::waitpid(child, &status, 0);
    ASSERT_TRUE(WIFSIGNALED(status));
    ASSERT_EQ(std::filesystem::file_size(beside), region.bytes().size());
  };
  ASSERT_NO_FATAL_FAILURE(be_killed());
  { EXPECT_TRUE(ConnectionFile::open_existing(path).ok()); }
  EXPECT_FALSE(std::filesystem::exists(beside)) << "at a start of the XDP engine";
  ASSERT_NO_FATAL_FAILURE(be_killed());
  { mark(open(options(1))); }
  EXPECT_FALSE(std::filesystem::exists(beside)) << "at a start of the DPDK engine";
  ASSERT_NO_FATAL_FAILURE(be_killed());
  EXPECT_TRUE(is_marked(open(options(1)), 0)) << "what the file held stays";
}

TEST_F(ConnectionHandover, room_that_another_process_has_reserved_stays_its_own) {
  const ConnectionRegion region = in_memory(1);
  const std::filesystem::path path = options(1).path;
  const Result<ConnectionSave> saving = ConnectionSave::reserve(path, region.bytes());
  ASSERT_TRUE(saving.ok()) << saving.error().message;
  EXPECT_FALSE(ConnectionFile::open_existing(path).ok());
  EXPECT_FALSE(ConnectionRegion::open(options(1), kNow).ok());
  EXPECT_TRUE(std::filesystem::exists(path.string() + ".new"));
}

TEST_F(ConnectionHandover, nothing_is_saved_into_a_file_that_another_dataplane_has) {
  const ConnectionRegion region = in_memory(1);
  const ConnectionRegion other = open(options(2));
  mark(other);
  EXPECT_THAT(saving_error(region.bytes()), HasSubstr("another sluice-dataplane uses it"));
  EXPECT_TRUE(is_marked(other, 1));
}

TEST_F(ConnectionHandover, bytes_that_are_no_region_are_not_saved) {
  { mark(open(options(1))); }
  const ConnectionRegion region = in_memory(1);
  { mark(open(options(1))); }
  SharedMemory memory = left_by(region);
  header_in(memory)->magic = 0;
  const std::span<const std::byte> bytes(memory.mapping.data(), memory.mapping.size());
  EXPECT_THAT(saving_error(bytes), HasSubstr("holds no connection tables"));
  EXPECT_THAT(saving_error(region.bytes().first(4096)), HasSubstr("its size is 4096 bytes, not 2097152"));
  EXPECT_THAT(saving_error({}), HasSubstr("holds no connection tables"));
  EXPECT_TRUE(is_marked(open(options(1)), 0)) << "what was in the file is lost";
}

TEST_F(ConnectionHandover, a_file_that_connections_come_from_stays_until_it_is_discarded) {
  const std::filesystem::path path = options(1).path;
  EXPECT_FALSE(ConnectionFile::open_existing(path).value().has_value());
  { mark(open(options(1))); }
  {
    const std::optional<ConnectionFile> file = ConnectionFile::open_existing(path).value();
    ASSERT_TRUE(file.has_value());
    EXPECT_FALSE(ConnectionRegion::open(options(1), kNow).ok()) << "one dataplane at a time has it";
    EXPECT_TRUE(is_marked(continued({.bytes = file->bytes()}, options(1)), 0));
    EXPECT_TRUE(std::filesystem::exists(path));
    EXPECT_TRUE(file->discard().ok());
  }
  EXPECT_EQ(open(options(1)).opened_as(), "started afresh: there was none before");
}

TEST_F(ConnectionHandover, tables_of_workers_that_are_no_more_are_continued_for_adoption) {
  const ConnectionRegion three = in_memory(3);
  const ConnectionRegion region = continued({.bytes = three.bytes()}, options(1));
  EXPECT_EQ(region.header().table_count, 3);
  EXPECT_EQ(region.header().live_tables, 1);
  EXPECT_TRUE(is_marked(region, 2));
}

TEST_F(ConnectionHandover, what_workers_wrote_after_the_last_heartbeat_is_continued) {
  const ConnectionRegion before = in_memory(1, kLateS - 100);
  const BootClock late = {kLateS, kNow.boot_id};
  using Keeper = ConnectionContents::Keeper;
  EXPECT_TRUE(is_marked(
      continued({.bytes = before.bytes(), .keeper = Keeper::kStoppedWorkers}, options(1), late), 0));
  EXPECT_THAT(
      continued({.bytes = before.bytes(), .keeper = Keeper::kDataplane}, options(1), late).opened_as(),
      HasSubstr("no dataplane has kept it"));
}

TEST_F(ConnectionHandover, entries_of_another_key_are_not_continued) {
  const ConnectionRegion before = in_memory(1);
  const ConnectionContents contents = {.bytes = before.bytes()};
  const ConnectionRegionHeader layout = connection_layout(contents, options(1), kNow);
  for (const auto &[key, kept] : {std::pair(kKey, true), std::pair(FlowHashKey{{2}}, false)}) {
    ConnectionRegion region = ConnectionRegion::empty_in(make_memory(layout.total_size), layout, 1).value();
    region.set_flow_hash_key(key);
    region.continue_from(contents, kNow);
    EXPECT_EQ(is_marked(region, 0), kept) << region.opened_as();
  }
}

TEST_F(ConnectionHandover, of_a_file_and_memory_the_one_left_later_is_told) {
  const ConnectionRegion region = in_memory(1);
  const SharedMemory earlier = left_by(region);
  const SharedMemory later = left_by(region);
  header_in(later)->alive_boottime_s++;
  const auto bytes = [](const SharedMemory &memory) {
    return std::span<const std::byte>(memory.mapping.data(), memory.mapping.size());
  };
  EXPECT_TRUE(is_left_later(bytes(later), bytes(earlier)));
  EXPECT_FALSE(is_left_later(bytes(earlier), bytes(later)));
  EXPECT_TRUE(is_left_later(bytes(earlier), bytes(earlier)));
  header_in(later)->magic = 0;
  EXPECT_FALSE(is_left_later(bytes(later), bytes(earlier)));
  EXPECT_TRUE(is_left_later(bytes(earlier), bytes(later)));
}

TEST_F(ConnectionHandover, a_file_left_behind_is_discarded_unless_a_dataplane_has_it) {
  const std::filesystem::path path = options(1).path;
  EXPECT_TRUE(discard_connection_file(path).ok()) << "there is none";
  {
    const ConnectionRegion used = open(options(1));
    EXPECT_THAT(discard_connection_file(path).error().message, HasSubstr("another sluice-dataplane uses it"));
    EXPECT_TRUE(std::filesystem::exists(path));
  }
  EXPECT_TRUE(discard_connection_file(path).ok());
  EXPECT_FALSE(std::filesystem::exists(path));
  EXPECT_THAT(discard_connection_file(directory_.path()).error().message, HasSubstr("cannot open"));
}

TEST_F(ConnectionHandover, nobody_is_given_a_file_that_its_last_owner_discarded) {
  const std::filesystem::path path = options(1).path;
  const auto open_and_discard = [&path](int *orphans) {
    for (int i = 0; i < 20'000; i++) {
      const Result<UniqueFd> file = open_connection_file(path);
      if (!file.ok()) continue;  // the other one has it
      struct stat info = {};
      if (::fstat(file.value().get(), &info) != 0 || info.st_nlink == 0) ++*orphans;
      ::unlink(path.c_str());
    }
  };
  int orphans[2] = {};
  {
    const std::jthread other(open_and_discard, &orphans[0]);
    open_and_discard(&orphans[1]);
  }
  EXPECT_EQ(orphans[0] + orphans[1], 0);
}

}  // namespace
}  // namespace sluice
