// sluice-dataplane killed at every point at which a start, a takeover, a switch of engines or a detachment
// changes something: packets are forwarded as before or in the new way, and the connections are somewhere,
// whole. Needs root and strace.
#include <fstream>
#include <map>
#include <regex>
#include <span>
#include <string>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "dataplane/server/connection_file.h"
#include "dataplane/server/connection_region.h"
#include "dataplane/xdp/earlier.h"
#include "dataplane/xdp/map_memory.h"
#include "tests/xdp/dataplane_fixture.h"

namespace sluice {
namespace {

/// Where a process is killed: as it enters a system call for the nth time.
struct Point {
  std::string call;
  int nth = 0;
};

class InterruptionTest : public DataplaneFixture {
 protected:
  static constexpr const char *kCalls = "bpf,rename,unlink,rmdir,umount2,ftruncate,fallocate";

  void SetUp() override {
    DataplaneFixture::SetUp();
    store_snapshot();
  }

  std::filesystem::path trace_path() const { return directory_.path() / "trace"; }

  /// The points at which a run with `more` changes something that outlives it: those calls and the ones after
  /// them. The run itself is killed in the end.
  std::vector<Point> points_of(const std::vector<std::string> &more) {
    under_ = {"strace", "-f", "-o", trace_path(), "-e", std::string("trace=") + kCalls};
    start(more);
    kill_group();
    under_.clear();
    std::vector<Point> points;
    std::map<std::string, int> counts;
    std::ifstream trace(trace_path());
    const std::regex call(R"((\d+) +(\w+)\((\w*).*)");
    const std::regex lasting("BPF_OBJ_PIN|BPF_LINK_CREATE|BPF_LINK_UPDATE|BPF_LINK_DETACH");
    std::string first_thread;
    bool was_lasting = false;
    for (std::string line; std::getline(trace, line);) {
      std::smatch parts;
      if (!std::regex_match(line, parts, call)) continue;
      if (first_thread.empty()) first_thread = parts[1];
      if (parts[1] != first_thread) continue;  // the others change nothing
      const int nth = ++counts[parts[2]];
      const bool lasts = parts[2] != "bpf" || std::regex_match(parts[3].str(), lasting);
      if (lasts || was_lasting) points.push_back({parts[2], nth});
      was_lasting = lasts;
    }
    EXPECT_GT(points.size(), 3u) << "is strace there? " << log();
    return points;
  }

  void kill_group() {
    if (process_ < 0) return;
    ::kill(-process_, SIGKILL);
    ::waitpid(process_, &exit_status_, 0);
    process_ = -1;
  }

  void run_and_kill(const std::vector<std::string> &more, const Point &point) {
    under_ = {"strace", "-f",
              "-o",     "/dev/null",
              "-e",     "trace=" + point.call,
              "-e",     "inject=" + point.call + ":signal=SIGKILL:when=" + std::to_string(point.nth)};
    start(more);
    // Where it got farther than ever before there is nothing left to be killed at.
    if (process_ < 0 && WIFSIGNALED(exit_status_)) kills_++;
    kill_group();
    under_.clear();
  }
  int kills_ = 0;

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

std::string text_of(const Point &point) {
  return "killed at " + point.call + " " + std::to_string(point.nth);
}

TEST_F(InterruptionTest, a_takeover_forwards_throughout_and_keeps_the_connections) {
  ASSERT_NO_FATAL_FAILURE(leave_forwarding());
  for (const Point &point : points_of({"--engine=xdp"})) {
    run_and_kill({"--engine=xdp"}, point);
    EXPECT_NE(program_id_on("port0"), 0u) << text_of(point);
    ASSERT_TRUE(is_live_marked()) << text_of(point);
  }
  EXPECT_GT(kills_, 5);
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
    EXPECT_NE(program_id_on("port0"), 0u) << text_of(point);
    run_and_kill({"--engine=xdp"}, point);
    EXPECT_NE(program_id_on("port0"), 0u) << text_of(point);
  }
  EXPECT_GT(kills_, 5);
  ASSERT_NO_FATAL_FAILURE(start_well({"--engine=xdp"}));
}

TEST_F(InterruptionTest, a_detachment_loses_no_connection) {
  ASSERT_NO_FATAL_FAILURE(leave_forwarding());
  for (const Point &point : points_of({"--detach"})) {
    ASSERT_NO_FATAL_FAILURE(leave_forwarding());
    run_and_kill({"--detach"}, point);
    ASSERT_TRUE(is_anywhere()) << text_of(point);
    ASSERT_NO_FATAL_FAILURE(start_well({"--engine=xdp"}));
    kill_dataplane();
    ASSERT_TRUE(is_live_marked()) << text_of(point);
  }
  EXPECT_GT(kills_, 5);
}

TEST_F(InterruptionTest, a_first_start_takes_the_connections_of_the_file_or_leaves_them_there) {
  ASSERT_NO_FATAL_FAILURE(leave_forwarding());
  ASSERT_EQ(run_to_end({"--detach"}), 0) << log();
  for (const Point &point : points_of({"--engine=xdp"})) {
    ASSERT_EQ(run_to_end({"--detach"}), 0) << log();
    ASSERT_TRUE(is_anywhere());
    run_and_kill({"--engine=xdp"}, point);
    ASSERT_TRUE(is_anywhere()) << text_of(point);
    ASSERT_NO_FATAL_FAILURE(start_well({"--engine=xdp"}));
    kill_dataplane();
    ASSERT_TRUE(is_live_marked()) << text_of(point);
  }
  EXPECT_GT(kills_, 5);
}

TEST_F(InterruptionTest, a_switch_to_dpdk_loses_no_connection) {
  ASSERT_NO_FATAL_FAILURE(leave_forwarding());
  const std::vector<std::string> dpdk = {"--engine=dpdk", "--workers=1"};
  for (const Point &point : points_of(dpdk)) {
    run_and_kill(dpdk, point);
    ASSERT_TRUE(is_anywhere()) << text_of(point);
    ASSERT_NO_FATAL_FAILURE(start_well({"--engine=xdp"}));
    kill_dataplane();
    ASSERT_TRUE(is_live_marked()) << text_of(point);
  }
  EXPECT_GT(kills_, 5);
}

}  // namespace
}  // namespace sluice
