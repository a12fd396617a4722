#include "dataplane/server/connection_region.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <unistd.h>

#include "tests/server/connection_region_fixture.h"

namespace sluice {
namespace {

using testing::HasSubstr;

class ConnectionRegionTest : public ConnectionRegionFixture {};

TEST(ConnectionBuckets, hold_the_connections_at_85_percent_of_their_entries) {
  EXPECT_EQ(connection_buckets(1'000'000, 4), 524288);  // 294,118 needed
  EXPECT_EQ(connection_buckets(870'000, 4), 262144);    // 255,883 needed
  EXPECT_EQ(connection_buckets(1'000'000, 2), 1048576);
  EXPECT_EQ(connection_buckets(0, 4), 64);
  EXPECT_EQ(connection_buckets(UINT64_MAX, 4), 1u << 30);
}

TEST_F(ConnectionRegionTest, starts_empty_and_describes_itself) {
  const ConnectionRegion region = open(options(2));
  EXPECT_EQ(region.header().magic, SLUICE_CONNECTION_MAGIC);
  EXPECT_EQ(region.header().table_count, 2);
  EXPECT_EQ(region.header().live_tables, 2);
  EXPECT_EQ(region.header().ipv4_buckets, 512);
  EXPECT_EQ(region.header().ipv6_buckets, 64);
  EXPECT_EQ(region.header().total_size % (2 << 20), 0) << "huge pages could not hold it";
  EXPECT_EQ(reinterpret_cast<uintptr_t>(region.ipv4_buckets(1).data()) % 64, 0);
  EXPECT_EQ(region.ipv4_buckets(1).data(), region.ipv6_buckets(0).data() + 64) << "tables follow one another";
  EXPECT_TRUE(is_empty(region, 0));
  EXPECT_TRUE(is_empty(region, 1));
}

TEST_F(ConnectionRegionTest, keeps_entries_across_a_restart) {
  {
    ConnectionRegion region = open(options(2));
    region.set_flow_hash_key(FlowHashKey{{1}});
    mark(region);
  }
  ConnectionRegion region = open(options(2));
  EXPECT_EQ(region.set_flow_hash_key(FlowHashKey{{1}}), ConnectionRegion::Entries::kKept);
  EXPECT_TRUE(is_marked(region, 0));
  EXPECT_TRUE(is_marked(region, 1));
  EXPECT_EQ(region.opened_as(), "kept 2 tables for 2 workers");
}

TEST_F(ConnectionRegionTest, keeps_the_tables_of_workers_that_are_no_more) {
  mark(open(options(3)));
  const ConnectionRegion region = open(options(1));
  EXPECT_EQ(region.header().table_count, 3);
  EXPECT_EQ(region.header().live_tables, 1);
  for (uint32_t table = 0; table < 3; table++) EXPECT_TRUE(is_marked(region, table)) << table;
}

TEST_F(ConnectionRegionTest, adds_empty_tables_for_more_workers) {
  mark(open(options(1)));
  ConnectionRegionOptions more = options(60);
  const ConnectionRegion region = open(more);
  EXPECT_EQ(region.header().table_count, 60);
  EXPECT_EQ(region.header().live_tables, 60);
  EXPECT_TRUE(is_marked(region, 0));
  for (uint32_t table = 1; table < 60; table++) EXPECT_TRUE(is_empty(region, table)) << table;
}

TEST_F(ConnectionRegionTest, belongs_to_one_dataplane_at_a_time) {
  const ConnectionRegion first = open(options(1));
  mark(first);
  const Result<ConnectionRegion> second = ConnectionRegion::open(options(1), kNow);
  ASSERT_FALSE(second.ok());
  EXPECT_THAT(second.error().message, HasSubstr("another sluice-dataplane"));
  EXPECT_TRUE(is_marked(first, 0));
}

TEST_F(ConnectionRegionTest, starts_afresh_after_a_reboot) {
  mark(open(options(1)));
  {
    const ConnectionRegion region = open(options(1), {kNow.boottime_s + 1, kNow.boot_id + 1});
    EXPECT_TRUE(is_empty(region, 0));
    mark(region);
  }
  EXPECT_TRUE(is_empty(open(options(1), {kNow.boottime_s - 1, kNow.boot_id + 1}), 0));
}

TEST_F(ConnectionRegionTest, starts_afresh_after_a_pause_longer_than_any_timeout) {
  mark(open(options(1)));
  const ConnectionRegion late = open(options(1), {kNow.boottime_s + SLUICE_MAX_TIMEOUT_S + 1, kNow.boot_id});
  EXPECT_TRUE(is_empty(late, 0));
  EXPECT_THAT(late.opened_as(), HasSubstr("longer than any timeout"));
}

TEST_F(ConnectionRegionTest, forgets_after_a_pause_what_has_timed_out_meanwhile) {
  const auto kept_of_age = [this](uint64_t age_s, uint64_t pause_s) {
    std::filesystem::remove(options(1).path);
    mark(open(options(1)), kNow.boottime_s - age_s);
    const ConnectionRegion region = open(options(1), {kNow.boottime_s + pause_s, kNow.boot_id});
    EXPECT_EQ(is_marked(region, 0), !is_empty(region, 0));
    return is_marked(region, 0);
  };
  EXPECT_TRUE(kept_of_age(0, SLUICE_MAX_TIMEOUT_S));
  EXPECT_FALSE(kept_of_age(1, SLUICE_MAX_TIMEOUT_S));
  EXPECT_TRUE(kept_of_age(7000, 260));
  EXPECT_FALSE(kept_of_age(7000, 261));
  EXPECT_FALSE(kept_of_age(SLUICE_MAX_TIMEOUT_S, 1000)) << "its stamp is 68 s old by the clock of now";
  EXPECT_FALSE(kept_of_age(SLUICE_MAX_TIMEOUT_S, SLUICE_MAX_TIMEOUT_S));
  EXPECT_TRUE(kept_of_age(uint64_t{0} - 5, 1000)) << "seen after the last heartbeat";
}

TEST_F(ConnectionRegionTest, a_heartbeat_keeps_it_from_being_started_afresh) {
  {
    ConnectionRegion region = open(options(1));
    mark(region, kNow.boottime_s + 50'000);
    region.heartbeat({kNow.boottime_s + 50'000, kNow.boot_id});
  }
  EXPECT_TRUE(is_marked(open(options(1), {kNow.boottime_s + 50'100, kNow.boot_id}), 0));
}

TEST_F(ConnectionRegionTest, forgets_entries_without_a_worker_once_they_have_timed_out) {
  mark(open(options(2)), kNow.boottime_s - 1000);
  ConnectionRegion region = open(options(1));
  put_ipv4(region, 1, 511, 42, kNow.boottime_s);
  auto beat_until = [&region, time_s = kNow.boottime_s](uint64_t end_s) mutable {
    for (; time_s <= end_s; time_s += 5) region.heartbeat({time_s, kNow.boot_id});
  };
  beat_until(kNow.boottime_s + SLUICE_MAX_TIMEOUT_S - 1000);
  EXPECT_TRUE(is_marked(region, 1));
  beat_until(kNow.boottime_s + SLUICE_MAX_TIMEOUT_S);
  EXPECT_FALSE(has_ipv4(region, 1, 0, kMark + 1));
  EXPECT_TRUE(has_ipv4(region, 1, 511, 42)) << "has not timed out yet";
  beat_until(kNow.boottime_s + SLUICE_MAX_TIMEOUT_S + 500);
  EXPECT_TRUE(is_empty(region, 1));
  EXPECT_TRUE(is_marked(region, 0)) << "a worker's table is its own affair";
}

TEST_F(ConnectionRegionTest, forgets_entries_without_a_worker_across_a_long_silence) {
  mark(open(options(2)));
  ConnectionRegion region = open(options(1));
  region.heartbeat({kNow.boottime_s + 9000, kNow.boot_id});  // stamps of 9000 s look 808 s old
  EXPECT_TRUE(is_empty(region, 1));
}

TEST_F(ConnectionRegionTest, forgets_entries_without_a_worker_however_often_it_is_opened) {
  mark(open(options(2)));
  for (const uint64_t pause_s : {3000, 6000}) {
    const ConnectionRegion region = open(options(1), {kNow.boottime_s + pause_s, kNow.boot_id});
    EXPECT_TRUE(is_marked(region, 1)) << pause_s;
  }
  EXPECT_TRUE(is_empty(open(options(1), {kNow.boottime_s + 9000, kNow.boot_id}), 1));
}

TEST_F(ConnectionRegionTest, a_table_that_gets_a_worker_again_keeps_only_what_nobody_has_seen_since) {
  constexpr uint64_t kMoved = 42;
  constexpr uint64_t kIdle = 43;
  constexpr uint64_t kStayed = 44;
  constexpr uint16_t kOther = 2;
  {
    const ConnectionRegion region = open(options(3));
    put_ipv4(region, 1, 10, kMoved, kNow.boottime_s);
    put_ipv4(region, 2, 20, kMoved, kNow.boottime_s - 50);
    put_ipv4(region, 1, 11, kIdle, kNow.boottime_s);
    put_ipv4(region, 1, 12, kStayed, kNow.boottime_s);
    put_ipv4(region, 0, 12, kStayed, kNow.boottime_s - 100, kOther);
  }
  {
    const ConnectionRegion region = open(options(1), {kNow.boottime_s + 10, kNow.boot_id});
    EXPECT_TRUE(has_ipv4(region, 1, 10, kMoved)) << "no worker has the table: it is kept for adoption";
    put_ipv4(region, 0, 30, kMoved, kNow.boottime_s + 10, kOther);  // in the flow's other bucket
  }
  const ConnectionRegion region = open(options(3), {kNow.boottime_s + 20, kNow.boot_id});
  EXPECT_TRUE(has_ipv4(region, 0, 30, kMoved));
  EXPECT_FALSE(has_ipv4(region, 1, 10, kMoved));
  EXPECT_FALSE(has_ipv4(region, 2, 20, kMoved));
  EXPECT_TRUE(has_ipv4(region, 1, 11, kIdle));
  EXPECT_TRUE(has_ipv4(region, 1, 12, kStayed)) << "what it has is younger";
}

TEST_F(ConnectionRegionTest, of_entries_equally_old_in_tables_that_get_workers_again_one_stays) {
  {
    const ConnectionRegion region = open(options(3));
    for (const uint32_t table : {1, 2}) {
      ConnectionBucket &bucket = region.ipv6_buckets(table)[table];
      bucket.word[0] = 42;
      bucket.word[3] = state_word(kNow.boottime_s);
    }
  }
  { const ConnectionRegion alone = open(options(1)); }
  const ConnectionRegion region = open(options(3));
  EXPECT_NE(is_empty(region, 1), is_empty(region, 2));
}

TEST_F(ConnectionRegionTest, a_file_that_is_something_else_is_started_afresh) {
  const ConnectionRegionOptions wanted = options(1);
  for (const off_t size : {1, 4096, 2 << 20}) {
    const UniqueFd file(::open(wanted.path.c_str(), O_RDWR | O_CREAT | O_TRUNC, 0600));
    ASSERT_EQ(::ftruncate(file.get(), size), 0);
    EXPECT_THAT(open(wanted).opened_as(), HasSubstr("holds no connection tables")) << size;
  }
}

TEST_F(ConnectionRegionTest, a_file_cut_short_is_started_afresh) {
  const ConnectionRegionOptions wanted = options(60);
  mark(open(wanted));
  ASSERT_EQ(::truncate(wanted.path.c_str(), 2 << 20), 0);
  const ConnectionRegion region = open(wanted);
  EXPECT_THAT(region.opened_as(), HasSubstr("its size is 2097152 bytes"));
  EXPECT_TRUE(is_empty(region, 59));
}

TEST_F(ConnectionRegionTest, another_key_at_the_start_empties_the_tables) {
  {
    ConnectionRegion region = open(options(2));
    region.set_flow_hash_key(FlowHashKey{{1}});
    mark(region);
  }
  ConnectionRegion region = open(options(1));
  EXPECT_EQ(region.set_flow_hash_key(FlowHashKey{{2}}), ConnectionRegion::Entries::kCleared);
  EXPECT_TRUE(is_empty(region, 0));
  EXPECT_TRUE(is_empty(region, 1));
}

TEST_F(ConnectionRegionTest, another_key_later_leaves_the_tables_to_their_workers) {
  ConnectionRegion region = open(options(1));
  region.set_flow_hash_key(FlowHashKey{{1}});
  mark(region);
  const uint64_t before = region.header().flow_hash_key_fingerprint;
  EXPECT_EQ(region.set_flow_hash_key(FlowHashKey{{2}}), ConnectionRegion::Entries::kKept);
  EXPECT_TRUE(is_marked(region, 0));
  EXPECT_NE(region.header().flow_hash_key_fingerprint, before);
}

TEST_F(ConnectionRegionTest, refuses_a_worker_count_that_the_layout_has_no_room_for) {
  EXPECT_THAT(ConnectionRegion::open(options(65), kNow).error().message, HasSubstr("worker_count: 65"));
  EXPECT_FALSE(ConnectionRegion::open(options(0), kNow).ok());
}

TEST_F(ConnectionRegionTest, names_a_path_that_cannot_be_had) {
  ConnectionRegionOptions wanted = options(1);
  wanted.path = "/nonexistent-directory/connections";
  EXPECT_THAT(ConnectionRegion::open(wanted, kNow).error().message,
              HasSubstr("/nonexistent-directory/connections"));
}

TEST_F(ConnectionRegionTest, its_descriptor_is_for_reading) {
  const ConnectionRegion region = open(options(1));
  mark(region);
  const Result<UniqueFd> descriptor = region.read_only_descriptor();
  ASSERT_TRUE(descriptor.ok());
  const int fd = descriptor.value().get();
  uint64_t word = 0;
  ASSERT_EQ(::pread(fd, &word, sizeof(word), kConnectionHeaderSize), 8);
  EXPECT_EQ(word, kMark);
  EXPECT_LT(::pwrite(fd, &word, sizeof(word), 0), 0);
  EXPECT_EQ(::mmap(nullptr, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0), MAP_FAILED);
}

TEST(BootClock, is_the_same_within_a_boot) {
  const BootClock first = read_boot_clock();
  const BootClock second = read_boot_clock();
  EXPECT_NE(first.boot_id, 0);
  EXPECT_EQ(first.boot_id, second.boot_id);
  EXPECT_GE(second.boottime_s, first.boottime_s);
  EXPECT_GT(first.boottime_s, 0);
}

}  // namespace
}  // namespace sluice
