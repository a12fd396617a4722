// What is known of a port's queues before DPDK starts, with interfaces of the test's own. Needs root.
#include <cstdlib>

#include <gtest/gtest.h>
#include <sched.h>

#include "dataplane/dpdk/engine.h"
#include "dataplane/server/port_options.h"

namespace sluice {
namespace {

class PortQueues : public ::testing::Test {
 protected:
  void SetUp() override {
    ASSERT_EQ(unshare(CLONE_NEWNET), 0) << "needs root";
    ASSERT_EQ(system("ip link add four numrxqueues 4 numtxqueues 4 type veth peer name peer-a"), 0);
    ASSERT_EQ(system("ip link add two numrxqueues 2 numtxqueues 2 type veth peer name peer-b"), 0);
  }
  static PortOptions port(const std::string &fields) {
    Result<PortOptions> parsed = parse_port_options("name=p," + fields);
    EXPECT_TRUE(parsed.ok()) << parsed.error().message;
    return parsed.value();
  }
};

TEST_F(PortQueues, af_xdp_takes_all_that_its_interface_has) {
  EXPECT_EQ(known_queues(port("device=net_af_xdp:iface=four")), 4u);
  EXPECT_EQ(known_queues(port("device=net_af_xdp:iface=four,device=net_af_xdp:iface=two")), 6u);
  EXPECT_EQ(known_queues(port("device=net_af_xdp:iface=nosuch")), 1u);
}

TEST_F(PortQueues, what_the_operator_says_goes_before) {
  EXPECT_EQ(known_queues(port("device=net_af_xdp:iface=four,queues=2")), 2u);
  EXPECT_EQ(known_queues(port("device=net_af_xdp:iface=four;start_queue=3")), 1u);
  EXPECT_EQ(known_queues(port("device=01:00.0,device=02:00.0,queues=3")), 6u);
}

TEST_F(PortQueues, other_devices_have_one_queue_until_they_are_told) {
  EXPECT_EQ(known_queues(port("device=net_null")), 1u);
}

TEST_F(PortQueues, there_are_as_many_workers_as_queues_but_no_more_than_cores) {
  const std::vector<PortOptions> ports = {port("device=net_null"), port("device=net_af_xdp:iface=four")};
  EXPECT_EQ(default_worker_count(ports, 16), 4);
  EXPECT_EQ(default_worker_count(ports, 3), 3);
  EXPECT_EQ(default_worker_count(ports, 0), 1);
}

TEST_F(PortQueues, memory_is_estimated_for_the_interfaces_queues) {
  EXPECT_EQ(estimate_memory_mb({port("device=net_af_xdp:iface=four")}, 1),
            estimate_memory_mb({port("device=net_af_xdp:iface=four,queues=4")}, 1));
  EXPECT_GT(estimate_memory_mb({port("device=net_af_xdp:iface=four")}, 1),
            estimate_memory_mb({port("device=net_af_xdp:iface=two")}, 1));
}

}  // namespace
}  // namespace sluice
