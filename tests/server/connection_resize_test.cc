// Connections that go on in tables of another size, or that are read while their workers write.
#include <csignal>
#include <cstring>
#include <string>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/mman.h>

#include "dataplane/server/connection_placer.h"
#include "dataplane/server/connection_region.h"
#include "tests/server/connection_region_fixture.h"
#include "tests/server/memory.h"
#include "tests/server/region_flows.h"

namespace sluice {
namespace {

using testing::AllOf;
using testing::EndsWith;
using testing::HasSubstr;

class ConnectionResize : public ConnectionRegionFixture {
 protected:
  void SetUp() override { store(flows_snapshot()); }

  void store(const SnapshotBuilder &builder) {
    const AlignedBytes bytes = builder.build();
    Result<std::shared_ptr<const MappedSnapshot>> snapshot = MappedSnapshot::from_bytes(bytes);
    ASSERT_TRUE(snapshot.ok()) << snapshot.error().message;
    const Status saved = SnapshotStore(snapshot_path()).save(*snapshot.value());
    ASSERT_TRUE(saved.ok()) << saved.error().message;
  }
  std::filesystem::path snapshot_path() const { return directory_.path() / "snapshot"; }

  ConnectionRegionOptions sized(uint64_t ipv4, uint64_t ipv6, uint32_t workers = 2) const {
    ConnectionRegionOptions wanted = options(workers);
    wanted.ipv4_connections = ipv4;
    wanted.ipv6_connections = ipv6;
    wanted.snapshot = snapshot_path();
    return wanted;
  }
  RegionFlows flows() const { return RegionFlows(SnapshotStore(snapshot_path()).load().value()); }
  static uint16_t backend_for(uint32_t client) { return static_cast<uint16_t>(1 + client % 8); }

  /// Enters connections of both families and protocols into each of the tables.
  void fill(const ConnectionRegion &region, uint32_t count) const {
    RegionFlows flows = this->flows();
    for (uint32_t table = 0; table < region.header().table_count; table++)
      for (uint32_t i = 0; i < count; i++)
        ASSERT_TRUE(flows.enter(region.bytes(), table, flow(table, i), backend_for(i), kNow.boottime_s - i));
  }
  /// Of those that fill() entered, how many are in their table with their backend.
  size_t kept(const ConnectionRegion &region, uint32_t tables, uint32_t count) const {
    RegionFlows flows = this->flows();
    size_t kept = 0;
    for (uint32_t table = 0; table < tables; table++)
      for (uint32_t i = 0; i < count; i++)
        kept += flows.backend(region.bytes(), table, flow(table, i)) == backend_for(i) ? 1 : 0;
    return kept;
  }
  static RegionFlow flow(uint32_t table, uint32_t i) {
    return {.family = i % 3 == 0 ? uint8_t{kFamilyIpv6} : uint8_t{kFamilyIpv4},
            .client = 1000 * table + i,
            .protocol = i % 50 == 7 ? uint8_t{kProtocolUdp} : uint8_t{kProtocolTcp}};
  }
  /// Connections that are no longer than that ago are kept in any case.
  static constexpr uint32_t kFew = 30;  // UDP times out after 30 s

  static ConnectionRegion continued(const ConnectionContents &before, const ConnectionRegionOptions &wanted) {
    const ConnectionRegionHeader layout = connection_layout(before, wanted, kNow);
    Result<ConnectionRegion> region =
        ConnectionRegion::empty_in(make_memory(layout.total_size), layout, wanted.worker_count);
    EXPECT_TRUE(region.ok()) << region.error().message;
    region.value().continue_from(before, kNow);
    return std::move(region).value();
  }
};

TEST_F(ConnectionResize, connections_keep_their_backends_in_larger_and_in_smaller_tables_of_the_file) {
  {
    const ConnectionRegion region = open(sized(1000, 200));
    fill(region, kFew);
  }
  for (const auto &[ipv4, ipv6] : {std::pair(5000, 900), std::pair(100, 50), std::pair(100, 900)}) {
    const ConnectionRegion region = open(sized(ipv4, ipv6));
    EXPECT_EQ(region.header().ipv4_buckets, connection_buckets(ipv4, kIpv4EntriesPerBucket));
    EXPECT_EQ(region.header().ipv6_buckets, connection_buckets(ipv6, kIpv6EntriesPerBucket));
    EXPECT_EQ(region.opened_as(), "kept 2 tables for 2 workers, entered anew in tables of another size");
    EXPECT_EQ(kept(region, 2, kFew), 2 * kFew);
    EXPECT_EQ(RegionFlows::entries(region.bytes()), 2 * kFew);
    EXPECT_FALSE(ConnectionRegion::open(sized(ipv4, ipv6), kNow).ok()) << "the new file is this one's";
    EXPECT_EQ(std::filesystem::file_size(options(1).path), region.bytes().size());
  }
}

TEST_F(ConnectionResize, entries_keep_their_state_and_their_age) {
  uint64_t before = 0;
  {
    const ConnectionRegion region = open(sized(1000, 200));
    ASSERT_TRUE(flows().enter(region.bytes(), 1, {.client = 5}, 3, kNow.boottime_s - 5, kConnectionClosing));
    before = *flows().find(region.bytes(), 1, {.client = 5});
  }
  const ConnectionRegion region = open(sized(5000, 200));
  const uint64_t *after = flows().find(region.bytes(), 1, {.client = 5});
  ASSERT_NE(after, nullptr);
  EXPECT_EQ(*after, before);
  EXPECT_EQ(flows().find(region.bytes(), 0, {.client = 5}), nullptr) << "it was in the other table";
}

TEST_F(ConnectionResize, tables_of_workers_that_are_no_more_are_resized_too) {
  { fill(open(sized(1000, 200, 3)), kFew); }
  const ConnectionRegion region = open(sized(5000, 900, 1));
  EXPECT_EQ(region.header().table_count, 3);
  EXPECT_EQ(region.header().live_tables, 1);
  EXPECT_EQ(kept(region, 3, kFew), 3 * kFew);
}

TEST_F(ConnectionResize, connections_keep_their_backends_in_memory_of_an_engine) {
  const ConnectionRegion before = open(sized(1000, 200));
  fill(before, kFew);
  using Keeper = ConnectionContents::Keeper;
  for (const Keeper keeper : {Keeper::kDataplane, Keeper::kStoppedWorkers, Keeper::kRunningWorkers})
    for (const auto &[ipv4, ipv6] : {std::pair(5000, 900), std::pair(100, 50), std::pair(1000, 200)}) {
      const ConnectionRegion region = continued(
          {.bytes = before.bytes(), .keeper = keeper, .snapshot = snapshot_path()}, sized(ipv4, ipv6));
      EXPECT_EQ(kept(region, 2, kFew), 2 * kFew) << region.opened_as();
      EXPECT_EQ(RegionFlows::entries(region.bytes()), 2 * kFew);
    }
}

TEST_F(ConnectionResize, of_too_many_connections_those_matter_that_are_established_and_were_seen_last) {
  size_t entered = 0;
  RegionFlows flows = this->flows();
  {
    const ConnectionRegion region = open(sized(2000, 200, 1));
    const auto enter = [&](uint32_t first, uint32_t end, uint64_t age_s, ConnectionState state) {
      for (uint32_t i = first; i < end; i++)
        entered += flows.enter(region.bytes(), 0, {.client = i}, 1, kNow.boottime_s - age_s, state) ? 1 : 0;
    };
    enter(0, 300, 4, kConnectionEmbryonic);
    enter(300, 600, 4, kConnectionClosing);
    enter(600, 900, 800, kConnectionEstablished);
    enter(900, 1050, 10, kConnectionEstablished);
    ASSERT_EQ(entered, 1050);
    entered = RegionFlows::entries(region.bytes());  // embryonic ones have given way
  }
  const ConnectionRegion region = open(sized(100, 200, 1));  // 256 entries
  const auto kept_of = [&](uint32_t first, uint32_t end) {
    size_t kept = 0;
    for (uint32_t i = first; i < end; i++)
      kept += flows.find(region.bytes(), 0, {.client = i}) != nullptr ? 1 : 0;
    return kept;
  };
  EXPECT_EQ(kept_of(900, 1050), 150);
  EXPECT_GT(kept_of(600, 900), 80);
  EXPECT_LT(kept_of(0, 300), 10);
  const size_t old_ones_lost = 300 - kept_of(600, 900);
  const size_t others_lost = entered - old_ones_lost - RegionFlows::entries(region.bytes());
  EXPECT_EQ(region.opened_as(),
            "kept 1 tables for 1 workers, entered anew in tables of another size, without " +
                std::to_string(old_ones_lost) + " established and " + std::to_string(others_lost) +
                " other connections that found no room, and 0 of VIPs that are no more");
}

TEST_F(ConnectionResize, an_embryonic_entry_that_gives_way_is_counted) {
  RegionFlows flows = this->flows();
  size_t entered = 0;
  {
    const ConnectionRegion region = open(sized(2000, 200, 1));
    for (uint32_t i = 0; i < 600; i++)
      entered += flows.enter(region.bytes(), 0, {.client = i}, 1, kNow.boottime_s - 4, kConnectionEmbryonic);
  }
  const ConnectionRegion region = open(sized(100, 200, 1));
  const size_t lost = entered - RegionFlows::entries(region.bytes());
  EXPECT_GT(lost, 300);
  EXPECT_THAT(region.opened_as(),
              HasSubstr("without 0 established and " + std::to_string(lost) + " other connections"));
}

TEST_F(ConnectionResize, what_has_timed_out_is_not_entered_anew) {
  {
    const ConnectionRegion region = open(sized(1000, 200, 1));
    ASSERT_TRUE(flows().enter(region.bytes(), 0, {.client = 1}, 1, kNow.boottime_s - 901));
    ASSERT_TRUE(flows().enter(region.bytes(), 0, {.client = 2}, 1, kNow.boottime_s - 899));
  }
  const ConnectionRegion region = open(sized(5000, 200, 1));
  EXPECT_EQ(flows().backend(region.bytes(), 0, {.client = 1}), 0);
  EXPECT_EQ(flows().backend(region.bytes(), 0, {.client = 2}), 1);
  EXPECT_THAT(region.opened_as(), EndsWith("in tables of another size")) << "nobody misses it";
}

TEST_F(ConnectionResize, connections_to_vips_that_are_no_more_are_counted) {
  {
    const ConnectionRegion region = open(sized(1000, 200, 1));
    ASSERT_TRUE(flows().enter(region.bytes(), 0, {.family = kFamilyIpv6}, 1, kNow.boottime_s));
  }
  SnapshotBuilder builder;
  const uint32_t backend = builder.add_backend("web", "b1", "10.0.0.2");
  const uint32_t web = builder.add_service("web", builder.add_pool({backend}));
  builder.add_vip("198.51.100.10", {{80, 80, web}});
  store(builder);
  const ConnectionRegion region = open(sized(1000, 900, 1));
  EXPECT_THAT(region.opened_as(), HasSubstr("and 1 of VIPs that are no more"));
}

TEST_F(ConnectionResize, without_a_snapshot_other_tables_begin_empty_and_the_reason_is_told) {
  const auto opened_without = [this](const std::filesystem::path &snapshot) {
    std::filesystem::remove(options(1).path);
    { fill(open(sized(1000, 200)), kFew); }
    ConnectionRegionOptions wanted = sized(5000, 200);
    wanted.snapshot = snapshot;
    const ConnectionRegion region = open(wanted);
    EXPECT_EQ(RegionFlows::entries(region.bytes()), 0);
    return region.opened_as();
  };
  EXPECT_THAT(opened_without(""), HasSubstr("and where entries belong in these is not known: there is no"));
  EXPECT_THAT(
      opened_without(directory_.path() / "none"),
      AllOf(HasSubstr("started afresh: its tables have 512 IPv4"), HasSubstr("none: there is no stored")));
}

TEST_F(ConnectionResize, entries_of_another_key_are_not_placed_by_the_snapshots) {
  {
    ConnectionRegion region = open(sized(1000, 200));
    region.set_flow_hash_key(FlowHashKey{{1}});
    fill(region, kFew);
  }
  EXPECT_THAT(open(sized(5000, 200)).opened_as(), HasSubstr("flow_hash_key is another"));
}

TEST_F(ConnectionResize, the_key_that_entries_are_placed_by_is_the_regions) {
  { fill(open(sized(1000, 200)), kFew); }  // no snapshot has been installed
  {
    ConnectionRegion region = open(sized(5000, 200));
    EXPECT_EQ(region.set_flow_hash_key(flows_snapshot().flow_hash_key), ConnectionRegion::Entries::kKept);
    EXPECT_EQ(kept(region, 2, kFew), 2 * kFew);
  }
  std::filesystem::remove(options(1).path);
  { fill(open(sized(1000, 200)), kFew); }
  ConnectionRegion region = open(sized(5000, 200));
  EXPECT_EQ(region.set_flow_hash_key(FlowHashKey{{1}}), ConnectionRegion::Entries::kCleared);
  EXPECT_EQ(RegionFlows::entries(region.bytes()), 0);
}

// What a worker does to an entry while its table is read: at the first look at a page, there and then.

struct PageWatch {
  std::byte *page = nullptr;
  ConnectionBucket *from = nullptr;
  ConnectionBucket *to = nullptr;
  int moves = 0;
};
PageWatch watched;  // NOLINT(cppcoreguidelines-avoid-non-const-global-variables): a signal handler's

void move_entry(int /*signal*/, siginfo_t * /*information*/, void * /*context*/) {
  ::mprotect(watched.page, 4096, PROT_READ | PROT_WRITE);
  *watched.to = *watched.from;
  *watched.from = {};
  watched.moves++;
}

/// The region's bytes, in memory of which one page is watched.
class WatchedCopy {
 public:
  explicit WatchedCopy(std::span<const std::byte> region)
      : size_(region.size()),
        memory_(static_cast<std::byte *>(
            ::mmap(nullptr, size_, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0))) {
    std::memcpy(memory_, region.data(), size_);
    struct sigaction action = {};
    action.sa_sigaction = move_entry;
    action.sa_flags = SA_SIGINFO;
    ::sigaction(SIGSEGV, &action, &before_);
  }
  WatchedCopy(const WatchedCopy &) = delete;
  WatchedCopy &operator=(const WatchedCopy &) = delete;
  ~WatchedCopy() {
    ::sigaction(SIGSEGV, &before_, nullptr);
    ::munmap(memory_, size_);
  }
  std::span<const std::byte> bytes() const { return {memory_, size_}; }
  ConnectionBucket *bucket(uint32_t index) const {
    return reinterpret_cast<ConnectionBucket *>(memory_ + kConnectionHeaderSize) + index;
  }
  /// Moves the only entry of bucket `from` when bucket `at` is looked at first.
  void move_at(uint32_t at, uint32_t from, uint32_t to) const {
    std::byte *const page = memory_ + kConnectionHeaderSize + at * sizeof(ConnectionBucket) / 4096 * 4096;
    watched = {.page = page, .from = bucket(from), .to = bucket(to)};
    ASSERT_EQ(::mprotect(page, 4096, PROT_NONE), 0);
  }

 private:
  size_t size_;
  std::byte *memory_;
  struct sigaction before_ = {};
};

TEST_F(ConnectionResize, a_connection_that_moves_while_tables_in_use_are_read_is_there_once) {
  constexpr uint32_t kPageOfBuckets = 64;
  for (const uint64_t ipv4 : {1000, 5000}) {
    for (const bool backwards : {true, false}) {
      std::filesystem::remove(options(1).path);
      const ConnectionRegion region = open(sized(1000, 200, 1));
      // A flow whose buckets are so far apart that there is a page between them.
      RegionFlow flow;
      const auto places = [&] { return flows().buckets(region.bytes(), flow); };
      while (std::max(places().first, places().second) / kPageOfBuckets <
             std::min(places().first, places().second) / kPageOfBuckets + 2)
        flow.client++;
      const auto [low, high] = std::minmax({places().first, places().second});
      ASSERT_TRUE(flows().enter(region.bytes(), 0, flow, 3, kNow.boottime_s));
      const WatchedCopy live(region.bytes());
      const uint32_t from = backwards ? high : low;
      const uint32_t to = backwards ? low : high;
      if (live.bucket(to)->word[0] != 0 || live.bucket(to)->word[2] != 0 || live.bucket(to)->word[4] != 0 ||
          live.bucket(to)->word[6] != 0)
        std::swap(*live.bucket(to), *live.bucket(from));
      ASSERT_NO_FATAL_FAILURE(live.move_at(low / kPageOfBuckets * kPageOfBuckets + kPageOfBuckets, from, to));
      const ConnectionRegion after = continued({.bytes = live.bytes(),
                                                .keeper = ConnectionContents::Keeper::kRunningWorkers,
                                                .snapshot = snapshot_path()},
                                               sized(ipv4, 200, 1));
      EXPECT_EQ(watched.moves, 1);
      EXPECT_EQ(flows().backend(after.bytes(), 0, flow), 3) << "backwards: " << backwards;
      EXPECT_EQ(RegionFlows::entries(after.bytes()), 1) << "backwards: " << backwards;
    }
  }
}

TEST_F(ConnectionResize, a_round_over_tables_in_use_brings_what_has_changed_and_what_is_new) {
  const ConnectionRegion before = open(sized(1000, 200, 1));
  const ConnectionRegion after = continued({}, sized(5000, 200, 1));
  ASSERT_TRUE(flows().enter(before.bytes(), 0, {.client = 1}, 3, kNow.boottime_s - 5, kConnectionEmbryonic));
  ConnectionPlacer placer(SnapshotStore(snapshot_path()).load().value(), kNow.boottime_s);
  const auto place = [&](ConnectionPlacer::Order order) {
    return placer.place(before.ipv4_buckets(0), after.ipv4_buckets(0), kFamilyIpv4, order).all();
  };
  EXPECT_EQ(place(ConnectionPlacer::Order::kByImportance), 0);
  uint64_t *entry = flows().find(before.bytes(), 0, {.client = 1});
  *entry = make_state(*entry, kConnectionEstablished, kNow.boottime_s, 4);
  ASSERT_TRUE(flows().enter(before.bytes(), 0, {.client = 2}, 5, kNow.boottime_s));
  EXPECT_EQ(place(ConnectionPlacer::Order::kAsTheyLie), 0);
  ASSERT_NE(flows().find(after.bytes(), 0, {.client = 1}), nullptr);
  EXPECT_EQ(*flows().find(after.bytes(), 0, {.client = 1}), *entry);
  EXPECT_EQ(flows().backend(after.bytes(), 0, {.client = 2}), 5);
  EXPECT_EQ(RegionFlows::entries(after.bytes()), 2);
}

}  // namespace
}  // namespace sluice
