// Connection regions in a directory that goes with the test, and entries that say where they were put.
#ifndef SLUICE_TESTS_SERVER_CONNECTION_REGION_FIXTURE_H
#define SLUICE_TESTS_SERVER_CONNECTION_REGION_FIXTURE_H

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <utility>

#include <gtest/gtest.h>

#include "dataplane/server/connection_region.h"
#include "tests/server/temporary_directory.h"

namespace sluice {

inline constexpr BootClock kNow = {100'000, 77};
inline constexpr uint64_t kMark = 0x1122334455667788;

class ConnectionRegionFixture : public testing::Test {
 protected:
  ConnectionRegionOptions options(uint32_t workers) const {
    ConnectionRegionOptions options;
    options.path = directory_.path() / "connections";
    options.worker_count = workers;
    options.ipv4_connections = 1000;
    options.ipv6_connections = 100;
    return options;
  }
  static ConnectionRegion open(const ConnectionRegionOptions &options, const BootClock &now = kNow) {
    Result<ConnectionRegion> region = ConnectionRegion::open(options, now);
    EXPECT_TRUE(region.ok()) << region.error().message;
    return std::move(region).value();
  }
  /// The last word of an entry that was last seen at `seen_s`.
  static uint64_t state_word(uint64_t seen_s, uint16_t backend = 1) {
    const uint64_t meta = kConnectionEstablished << kMetaStateShift | (seen_s & kStampMask)
                                                                          << kMetaStampShift;
    return uint64_t{backend} << 48 | meta << 32 | 0x12345678;
  }
  /// Puts an entry into the first and the last bucket of every table; what it holds says which.
  static void mark(const ConnectionRegion &region, uint64_t seen_s = kNow.boottime_s) {
    for (uint32_t table = 0; table < region.header().table_count; table++) {
      put_ipv4(region, table, 0, kMark + table, seen_s);
      ConnectionBucket &last = region.ipv6_buckets(table).back();
      last.word[4] = ~kMark - table;
      last.word[7] = state_word(seen_s);
    }
  }
  static void put_ipv4(const ConnectionRegion &region, uint32_t table, size_t bucket, uint64_t flow,
                       uint64_t seen_s, uint16_t backend = 1) {
    region.ipv4_buckets(table)[bucket].word[0] = flow;
    region.ipv4_buckets(table)[bucket].word[1] = state_word(seen_s, backend);
  }
  static bool has_ipv4(const ConnectionRegion &region, uint32_t table, size_t bucket, uint64_t flow) {
    const ConnectionBucket &found = region.ipv4_buckets(table)[bucket];
    return found.word[0] == flow && found.word[1] != 0;
  }
  static bool is_marked(const ConnectionRegion &region, uint32_t table) {
    const ConnectionBucket &last = region.ipv6_buckets(table).back();
    return has_ipv4(region, table, 0, kMark + table) && last.word[4] == ~kMark - table && last.word[7] != 0;
  }
  static bool is_empty(const ConnectionRegion &region, uint32_t table) {
    const auto empty = [](const ConnectionBucket &bucket) {
      return std::ranges::all_of(bucket.word, [](uint64_t word) { return word == 0; });
    };
    return std::ranges::all_of(region.ipv4_buckets(table), empty) &&
           std::ranges::all_of(region.ipv6_buckets(table), empty);
  }
  TemporaryDirectory directory_;
};

}  // namespace sluice

#endif
