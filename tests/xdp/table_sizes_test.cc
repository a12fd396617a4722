// sluice-dataplane started with other sizes of its connection tables, by either engine. Needs root.
#include <string>
#include <vector>

#include <bpf/bpf.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "dataplane/server/connection_file.h"
#include "dataplane/server/connection_region.h"
#include "dataplane/xdp/earlier.h"
#include "dataplane/xdp/map_memory.h"
#include "tests/server/region_flows.h"
#include "tests/xdp/dataplane_fixture.h"

namespace sluice {
namespace {

using ::testing::HasSubstr;

class TableSizesTest : public DataplaneFixture {
 protected:
  void SetUp() override {
    DataplaneFixture::SetUp();
    const AlignedBytes bytes = flows_snapshot().build();
    snapshot_ = MappedSnapshot::from_bytes(bytes).value();
    ASSERT_TRUE(SnapshotStore(directory_.path() / "snapshot").save(*snapshot_).ok());
  }

  static std::vector<RegionFlow> flows() {
    std::vector<RegionFlow> flows;
    for (uint32_t client = 1; client <= 200; client++)
      flows.push_back(
          {.family = client % 2 == 0 ? uint8_t{kFamilyIpv4} : uint8_t{kFamilyIpv6}, .client = client});
    return flows;
  }
  static uint16_t backend_for(const RegionFlow &flow) { return static_cast<uint16_t>(1 + flow.client % 8); }

  /// Enters the flows into the first table that packets run through.
  void enter_flows() {
    const Result<Mapping> memory = live_tables();
    ASSERT_TRUE(memory.ok()) << memory.error().message;
    RegionFlows tables(snapshot_);
    for (const RegionFlow &flow : flows())
      ASSERT_TRUE(
          tables.enter(bytes_of(memory.value()), 0, flow, backend_for(flow), read_boot_clock().boottime_s));
  }
  /// How many of them are there, of the XDP engine's tables or the DPDK engine's, with their backends.
  size_t kept_by_xdp() {
    const Result<Mapping> memory = live_tables();
    return memory.ok() ? kept(bytes_of(memory.value())) : 0;
  }
  size_t kept_by_dpdk() const {
    const Result<std::optional<ConnectionFile>> file = ConnectionFile::open_existing(connections_path());
    return file.ok() && file.value() ? kept(file.value()->bytes()) : 0;
  }

 private:
  Result<Mapping> live_tables() {
    open_pins();
    const LiveMaps maps = live_maps(earlier_ports(*pins_));
    pins_.reset();
    return map_memory(maps.connections.get(), "connections");
  }
  static std::span<const std::byte> bytes_of(const Mapping &memory) { return {memory.data(), memory.size()}; }
  size_t kept(std::span<const std::byte> region) const {
    RegionFlows tables(snapshot_);
    size_t kept = 0;
    for (const RegionFlow &flow : flows()) kept += tables.backend(region, 0, flow) == backend_for(flow);
    return kept;
  }

  std::shared_ptr<const MappedSnapshot> snapshot_;
};

TEST_F(TableSizesTest, connections_keep_their_backends_in_larger_and_in_smaller_tables_of_either_engine) {
  const std::vector<std::string> larger = {"--ipv4-connections=100000", "--ipv6-connections=50000"};
  const std::vector<std::string> smaller = {"--ipv4-connections=1024", "--ipv6-connections=1024"};
  const auto restart = [this](std::vector<std::string> engine, const std::vector<std::string> &sizes) {
    engine.insert(engine.end(), sizes.begin(), sizes.end());
    start_well(engine);
    EXPECT_THAT(log(), HasSubstr("entered anew in tables of another size\n"));
    kill_dataplane();
  };
  const std::vector<std::string> xdp = {"--engine=xdp"};
  const std::vector<std::string> dpdk = {"--engine=dpdk", "--workers=1"};
  const size_t all = flows().size();
  ASSERT_NO_FATAL_FAILURE(start_well(xdp));
  kill_dataplane();
  ASSERT_NO_FATAL_FAILURE(enter_flows());
  for (const std::vector<std::string> &sizes : {larger, smaller}) {
    ASSERT_NO_FATAL_FAILURE(restart(xdp, sizes));
    EXPECT_EQ(kept_by_xdp(), all);
  }
  for (const std::vector<std::string> &sizes : {larger, smaller}) {
    ASSERT_NO_FATAL_FAILURE(restart(dpdk, sizes));
    EXPECT_EQ(kept_by_dpdk(), all);
  }
  ASSERT_NO_FATAL_FAILURE(restart(xdp, larger));
  EXPECT_EQ(kept_by_xdp(), all);
}

}  // namespace
}  // namespace sluice
