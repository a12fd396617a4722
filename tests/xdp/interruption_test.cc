// sluice-dataplane killed at every call by which a start, a takeover, a switch of engines or a detachment
// changes something that outlives it: packets are forwarded as before or in the new way, the connections are
// somewhere, whole, and so are the host's addresses and routes. Needs root.
#include <algorithm>
#include <array>
#include <fstream>
#include <map>
#include <optional>
#include <set>
#include <span>
#include <string>
#include <vector>

#include <bpf/bpf.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "dataplane/server/connection_file.h"
#include "dataplane/server/connection_region.h"
#include "dataplane/xdp/earlier.h"
#include "dataplane/xdp/map_memory.h"
#include "tests/core/packet_builder.h"
#include "tests/xdp/dataplane_fixture.h"
#include "tests/xdp/traced_process.h"

namespace sluice {
namespace {

using ::testing::AllOf;
using ::testing::AnyOf;
using ::testing::HasSubstr;
using ::testing::IsSupersetOf;

/// Where a process is killed: as it enters a system call that changes something, for the nth time. What it
/// would have done stays undone; what it did before lasts.
struct Point {
  std::string change;  // "sendmsg RTM_NEWROUTE", "unlink link-front"
  int nth = 0;

  bool operator==(const Point &) const = default;
};

std::string text_of(const Point &point) {
  return "killed at " + point.change + " (" + std::to_string(point.nth) + ")";
}

class InterruptionTest : public DataplaneFixture {
 protected:
  void SetUp() override {
    DataplaneFixture::SetUp();
    store_snapshot();
    // What a host may have beside the port's addresses.
    run("ip addr add 10.0.0.9/24 dev port0 && ip route add 10.1.0.0/16 via 10.0.0.2 && "
        "ip -6 route add fd01::/64 via fd00::2");
  }

  static constexpr const char *kForwards = "forwarding with";

  /// Runs the program until it is at the point, forwards or ends, and kills it there. Returns the points that
  /// it went past and that changed something.
  std::vector<Point> run_and_kill(const std::vector<std::string> &more, const Point &end) {
    std::vector<Point> changes;
    std::map<std::string, int> counts;
    TracedProcess process(arguments(more), log_path());
    while (const std::optional<std::string> change = process.next_change(kForwards)) {
      const Point here = {*change, ++counts[*change]};
      if (here == end) killed_at_.insert(*change);
      if (here == end || *change == kForwards) break;
      if (process.finish_call()) changes.push_back(here);
    }
    return changes;
  }

  /// The points at which a run with `more` changes something that outlives it, and the one when it forwards.
  std::vector<Point> points_of(const std::vector<std::string> &more) {
    const Point end = {kForwards, 1};
    std::vector<Point> points = run_and_kill(more, end);
    EXPECT_GT(points.size(), 3u) << log();
    points.push_back(end);
    return points;
  }

  std::set<std::string> killed_at_;  // the points that were reached

  /// All that a host has is still there, by whichever interface.
  static void expect_nothing_lost(const Point &point) {
    EXPECT_THAT(output_of("ip -o addr show scope global; ip route; ip -6 route"),
                AllOf(HasSubstr("inet 10.0.0.1/24"), HasSubstr("inet6 fd00::1/64"),
                      HasSubstr("port0    inet 10.0.0.9/24"), HasSubstr("10.1.0.0/16 via 10.0.0.2 dev"),
                      HasSubstr("fd01::/64")))
        << text_of(point);
  }
  /// The port's addresses and what leaves by it are on one interface, and not on the other.
  static void expect_all_on(const std::string &interface, const Point &point) {
    const std::string addresses =
        output_of("ip -o addr show scope global | awk \"{print \\$2, \\$4}\" | sort");
    EXPECT_EQ(addresses, interface == "port0" ? "port0 10.0.0.1/24\nport0 10.0.0.9/24\nport0 fd00::1/64\n"
                                              : "port0 10.0.0.9/24\nsl-front 10.0.0.1/24\nsl-front "
                                                "fd00::1/64\n")
        << text_of(point);
    EXPECT_EQ(output_of("(ip route show 10.1.0.0/16; ip -6 route show fd01::/64) | sed \"s/ linkdown//\""),
              "10.1.0.0/16 via 10.0.0.2 dev " + interface + " \nfd01::/64 via fd00::2 dev " + interface +
                  " metric 1024 pref medium\n")
        << text_of(point);
  }

  /// The programs on port0 take the first packet of a new connection all the way: it leaves for a backend.
  /// This is decided in a program that the first one calls by a map, which has to be there still.
  void expect_new_flow_is_forwarded(const Point &point) {
    open_pins();
    const std::vector<EarlierPort> ports = earlier_ports(*pins_);
    pins_.reset();
    ASSERT_EQ(ports.size(), 1u) << text_of(point);
    const Bytes frame = hex_bytes("020000000001 020000000002 0800") +
                        ipv4({}, tcp({.source_port = next_flow_++, .flags = kTcpSyn}));
    Bytes out(frame.size() + 256);
    LIBBPF_OPTS(bpf_test_run_opts, options, .data_in = frame.data(), .data_out = out.data(),
                .data_size_in = static_cast<uint32_t>(frame.size()),
                .data_size_out = static_cast<uint32_t>(out.size()), .repeat = 1);
    ASSERT_EQ(bpf_prog_test_run_opts(ports.front().program_fd(), &options), 0);
    EXPECT_THAT(options.retval, AnyOf(XDP_TX, XDP_REDIRECT)) << text_of(point);
  }
  uint16_t next_flow_ = 10000;

  /// XDP forwards after the next start, with the connection, and nothing of what was begun is left.
  void expect_next_start_goes_on(const Point &point) {
    ASSERT_NO_FATAL_FAILURE(start_well({"--engine=xdp"}));
    kill_dataplane();
    ASSERT_TRUE(is_live_marked()) << text_of(point);
    EXPECT_FALSE(std::filesystem::exists(connections_path().string() + ".new")) << text_of(point);
    expect_new_flow_is_forwarded(point);
    expect_all_on("port0", point);
  }

  // A connection, as word 0 and 1 of a bucket of the first table.
  static constexpr uint64_t kClient = 0x1234;
  static size_t marked_bucket() { return kConnectionHeaderSize / sizeof(ConnectionBucket) + 3; }
  static uint64_t state_word() {
    const uint64_t now_s = read_boot_clock().boottime_s;
    return uint64_t{1} << 48 |
           (kConnectionEstablished << kMetaStateShift | (now_s & kStampMask) << kMetaStampShift) << 32;
  }
  static bool is_marked(std::span<const std::byte> region) {
    if (region.size() < (marked_bucket() + 1) * sizeof(ConnectionBucket)) return false;
    const auto *buckets = reinterpret_cast<const ConnectionBucket *>(region.data());
    return buckets[marked_bucket()].word[0] == kClient && buckets[marked_bucket()].word[1] != 0 &&
           reinterpret_cast<const ConnectionRegionHeader *>(region.data())->magic == SLUICE_CONNECTION_MAGIC;
  }

  bool is_map_marked(const UniqueFd &map) const {
    if (!map.valid()) return false;
    const Result<Mapping> memory = map_memory(map.get(), "connections");
    return memory.ok() && is_marked({memory.value().data(), memory.value().size()});
  }
  /// Of the tables that packets run through.
  bool is_live_marked() {
    open_pins();
    const bool marked = is_map_marked(live_maps(earlier_ports(*pins_)).connections);
    pins_.reset();
    return marked;
  }
  bool is_anywhere() {
    if (is_live_marked()) return true;
    const Result<std::optional<ConnectionFile>> file = ConnectionFile::open_existing(connections_path());
    if (file.ok() && file.value() && is_marked(file.value()->bytes())) return true;
    open_pins();
    const bool marked = is_map_marked(pins_->get(kConnectionsPin));
    pins_.reset();
    return marked;
  }

  /// XDP forwards without a process, with a connection in its table.
  void leave_forwarding() {
    ASSERT_NO_FATAL_FAILURE(start_well({"--engine=xdp"}));
    const UniqueFd map(bpf_obj_get((pin_directory() / "connections").c_str()));
    const Result<Mapping> memory = map_memory(map.get(), "connections");
    ASSERT_TRUE(memory.ok());
    ConnectionBucket &bucket = reinterpret_cast<ConnectionBucket *>(memory.value().data())[marked_bucket()];
    bucket.word[0] = kClient;
    bucket.word[1] = state_word();
    kill_dataplane();
    ASSERT_TRUE(is_live_marked());
  }
};

// What moves the settings of a port from an interface to another.
constexpr std::array<const char *, 4> kMoves = {"sendmsg RTM_NEWADDR", "sendmsg RTM_DELADDR",
                                                "sendmsg RTM_NEWROUTE", "sendmsg RTM_DELROUTE"};

bool is_move(const Point &point) {
  return std::find(kMoves.begin(), kMoves.end(), point.change) != kMoves.end();
}

TEST_F(InterruptionTest, a_takeover_forwards_throughout_and_keeps_the_connections) {
  ASSERT_NO_FATAL_FAILURE(leave_forwarding());
  for (const Point &point : points_of({"--engine=xdp"})) {
    run_and_kill({"--engine=xdp"}, point);
    expect_new_flow_is_forwarded(point);
    expect_all_on("port0", point);
    ASSERT_TRUE(is_live_marked()) << text_of(point);
  }
  EXPECT_THAT(killed_at_,
              IsSupersetOf({"bpf BPF_OBJ_PIN tail-calls+", "bpf BPF_LINK_UPDATE", "unlink tail-calls"}));
  ASSERT_NO_FATAL_FAILURE(start_well({"--engine=xdp"}));
  kill_dataplane();
  EXPECT_TRUE(is_live_marked());
}

TEST_F(InterruptionTest, a_takeover_by_tables_of_another_size_forwards_throughout) {
  ASSERT_NO_FATAL_FAILURE(leave_forwarding());
  const std::vector<std::string> larger = {"--engine=xdp", "--ipv4-connections=100000"};
  for (const Point &point : points_of(larger)) {
    // The first that gets through has the size already.
    run_and_kill(larger, point);
    expect_new_flow_is_forwarded(point);
    run_and_kill({"--engine=xdp"}, point);
    expect_new_flow_is_forwarded(point);
  }
  EXPECT_THAT(killed_at_, IsSupersetOf({"bpf BPF_OBJ_PIN tail-calls+", "bpf BPF_LINK_UPDATE",
                                        "rename connections+", "unlink tail-calls"}));
  ASSERT_NO_FATAL_FAILURE(start_well({"--engine=xdp"}));
}

TEST_F(InterruptionTest, a_detachment_loses_no_connection) {
  ASSERT_NO_FATAL_FAILURE(leave_forwarding());
  for (const Point &point : points_of({"--detach"})) {
    ASSERT_NO_FATAL_FAILURE(expect_next_start_goes_on(point));
    run_and_kill({"--detach"}, point);
    expect_all_on("port0", point);
    ASSERT_TRUE(is_anywhere()) << text_of(point);
  }
  EXPECT_THAT(killed_at_, IsSupersetOf({"bpf BPF_LINK_DETACH", "fallocate connections.new",
                                        "rename connections.new", "unlink connections", "umount2 bpf"}));
  ASSERT_NO_FATAL_FAILURE(start_well({"--engine=xdp"}));
  kill_dataplane();
  EXPECT_TRUE(is_live_marked());
}

TEST_F(InterruptionTest, a_first_start_takes_the_connections_of_the_file_or_leaves_them_there) {
  ASSERT_NO_FATAL_FAILURE(leave_forwarding());
  ASSERT_EQ(run_to_end({"--detach"}), 0) << log();
  for (const Point &point : points_of({"--engine=xdp"})) {
    ASSERT_EQ(run_to_end({"--detach"}), 0) << log();
    ASSERT_TRUE(is_anywhere());
    run_and_kill({"--engine=xdp"}, point);
    ASSERT_TRUE(is_anywhere()) << text_of(point);
    ASSERT_NO_FATAL_FAILURE(expect_next_start_goes_on(point));
  }
  EXPECT_THAT(killed_at_, IsSupersetOf({"bpf BPF_OBJ_PIN connections+", "bpf BPF_LINK_CREATE",
                                        "rename link-front+", "unlink connections"}));
}

TEST_F(InterruptionTest, a_switch_to_dpdk_loses_no_connection_address_or_route) {
  ASSERT_NO_FATAL_FAILURE(leave_forwarding());
  const std::vector<std::string> dpdk = {"--engine=dpdk", "--workers=1"};
  for (const Point &point : points_of(dpdk)) {
    ASSERT_NO_FATAL_FAILURE(expect_next_start_goes_on(point));
    run_and_kill(dpdk, point);
    ASSERT_TRUE(is_anywhere()) << text_of(point);
    expect_nothing_lost(point);
    if (!is_move(point)) continue;  // a start of either engine goes on from here
    ASSERT_NO_FATAL_FAILURE(start_well(dpdk));
    kill_dataplane();
    expect_all_on("sl-front", point);
  }
  EXPECT_THAT(killed_at_, IsSupersetOf(kMoves));
  EXPECT_THAT(killed_at_, IsSupersetOf({"bpf BPF_LINK_DETACH", "rename connections.new", "unlink link-front",
                                        "ioctl TUNSETPERSIST", "sendto RTM_SETLINK"}));
}

TEST_F(InterruptionTest, a_switch_from_dpdk_loses_no_connection_address_or_route) {
  ASSERT_NO_FATAL_FAILURE(leave_forwarding());
  const std::vector<std::string> dpdk = {"--engine=dpdk", "--workers=1"};
  ASSERT_NO_FATAL_FAILURE(start_well(dpdk));
  kill_dataplane();
  for (const Point &point : points_of({"--engine=xdp"})) {
    ASSERT_NO_FATAL_FAILURE(start_well(dpdk));
    kill_dataplane();
    expect_all_on("sl-front", point);
    run_and_kill({"--engine=xdp"}, point);
    ASSERT_TRUE(is_anywhere()) << text_of(point);
    expect_nothing_lost(point);
    if (!is_move(point)) continue;
    ASSERT_NO_FATAL_FAILURE(expect_next_start_goes_on(point));
  }
  EXPECT_THAT(killed_at_, IsSupersetOf(kMoves));
  EXPECT_THAT(killed_at_, IsSupersetOf({"bpf BPF_OBJ_PIN connections+", "bpf BPF_LINK_CREATE",
                                        "rename link-front+", "unlink connections", "sendmsg RTM_DELLINK"}));
}

}  // namespace
}  // namespace sluice
