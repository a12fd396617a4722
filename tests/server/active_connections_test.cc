#include "dataplane/server/active_connections.h"

#include <gtest/gtest.h>

#include "tests/server/connection_region_fixture.h"

namespace sluice {
namespace {

class RecountActiveConnections : public ConnectionRegionFixture {
 protected:
  RecountActiveConnections()
      : connections_(open(options(2))),
        counters_(CounterRegion::create({.worker_count = 2, .backend_capacity = 10, .service_capacity = 1})
                      .value()) {}
  static uint16_t meta(ConnectionState state) { return static_cast<uint16_t>(state << kMetaStateShift); }
  void put(uint32_t worker, ConnectionState state, uint16_t backend, size_t place) {
    connections_.ipv4_buckets(worker)[place / 4].ipv4[place % 4] = {.meta = meta(state), .backend = backend};
  }
  void put_ipv6(uint32_t worker, ConnectionState state, uint16_t backend, size_t place) {
    connections_.ipv6_buckets(worker)[place / 2].ipv6[place % 2] = {.meta = meta(state), .backend = backend};
  }
  uint32_t active(uint32_t worker, uint16_t backend) const {
    return counters_.backends(worker)[backend].active_connections;
  }

  ConnectionRegion connections_;
  CounterRegion counters_;
};

TEST_F(RecountActiveConnections, counts_embryonic_and_established_entries_of_both_families) {
  put(0, kConnectionEmbryonic, 3, 0);
  put(0, kConnectionEstablished, 3, 1);
  put(0, kConnectionEstablished, 3, 2047);  // the last entry of the last bucket
  put(0, kConnectionClosing, 3, 5);
  put_ipv6(0, kConnectionEmbryonic, 3, 0);
  put_ipv6(0, kConnectionEstablished, 4, 127);
  put_ipv6(0, kConnectionClosing, 4, 3);
  recount_active_connections(connections_, counters_, 0);
  EXPECT_EQ(active(0, 3), 4u);
  EXPECT_EQ(active(0, 4), 1u);
  EXPECT_EQ(active(0, 0), 0u) << "empty entries count for nobody";
}

TEST_F(RecountActiveConnections, counts_a_workers_own_table_only) {
  put(0, kConnectionEstablished, 3, 0);
  put(1, kConnectionEstablished, 4, 0);
  recount_active_connections(connections_, counters_, 1);
  EXPECT_EQ(active(1, 3), 0u);
  EXPECT_EQ(active(1, 4), 1u);
  EXPECT_EQ(active(0, 3), 0u) << "nobody asked for worker 0";
}

TEST_F(RecountActiveConnections, forgets_what_was_counted_before) {
  counters_.backends(0)[3] = {.packets = 7, .active_connections = 99};
  counters_.backends(0)[9].active_connections = 99;
  put(0, kConnectionEstablished, 3, 0);
  recount_active_connections(connections_, counters_, 0);
  EXPECT_EQ(active(0, 3), 1u);
  EXPECT_EQ(active(0, 9), 0u);
  EXPECT_EQ(counters_.backends(0)[3].packets, 7u);
}

TEST_F(RecountActiveConnections, leaves_out_backends_that_have_no_counters) {
  put(0, kConnectionEstablished, 10, 0);
  put(0, kConnectionEstablished, 65535, 1);
  recount_active_connections(connections_, counters_, 0);
  for (uint16_t backend = 0; backend < 10; backend++) EXPECT_EQ(active(0, backend), 0u) << backend;
  EXPECT_EQ(counters_.services(0)[0].packets, 0u);
}

}  // namespace
}  // namespace sluice
