#include "dataplane/engine_choice.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace sluice {
namespace {

using ::testing::HasSubstr;
using Device = PortPossibilities::Device;

struct Case {
  const char *name;
  EngineChoice wanted;
  std::vector<Device> ports;
  size_t free_huge_page_mb;  // 100 are needed
  EngineChoice taken;
  const char *reason;  // a part of it
};

class EngineChoiceTest : public testing::TestWithParam<Case> {};

TEST_P(EngineChoiceTest, is_made_with_its_reason) {
  HostPossibilities host;
  for (const Device device : GetParam().ports)
    host.ports.push_back({.name = "p" + std::to_string(host.ports.size()),
                          .device = device,
                          .description = "d" + std::to_string(host.ports.size())});
  host.dpdk = {.memory_mb = 100, .free_huge_page_mb = GetParam().free_huge_page_mb, .refusal = ""};
  const ChosenEngine chosen = choose_engine(GetParam().wanted, host);
  EXPECT_EQ(chosen.engine, GetParam().taken) << chosen.reason;
  EXPECT_THAT(chosen.reason, HasSubstr(GetParam().reason));
}

constexpr EngineChoice kAuto = EngineChoice::kAuto;
constexpr EngineChoice kDpdk = EngineChoice::kDpdk;
constexpr EngineChoice kXdp = EngineChoice::kXdp;

INSTANTIATE_TEST_SUITE_P(
    Facts, EngineChoiceTest,
    testing::Values(
        Case{"asked_for_dpdk", kDpdk, {Device::kOfKernel}, 0, kDpdk, "--engine dpdk"},
        Case{"asked_for_xdp", kXdp, {Device::kOfDpdk}, 100, kXdp, "--engine xdp"},
        Case{"bound_for_dpdk",
             kAuto,
             {Device::kOfDpdk, Device::kOfDpdk},
             0,
             kDpdk,
             "p0: d0 is a device for DPDK"},
        Case{"one_is_dpdks_only", kAuto, {Device::kShared, Device::kOfDpdk}, 0, kDpdk, "p1: d1"},
        Case{"bound_to_the_kernel",
             kAuto,
             {Device::kShared, Device::kOfKernel},
             100,
             kXdp,
             "p1: d1 is bound to the kernel's driver"},
        Case{"interfaces_with_enough_huge_pages",
             kAuto,
             {Device::kShared},
             100,
             kDpdk,
             "100 MB of huge pages are free, DPDK needs about 100"},
        Case{"interfaces_with_too_few_huge_pages",
             kAuto,
             {Device::kShared},
             98,
             kXdp,
             "98 MB of huge pages are free, DPDK needs about 100, and every port"},
        Case{"interfaces_without_huge_pages",
             kAuto,
             {Device::kShared, Device::kShared},
             0,
             kXdp,
             "0 MB of huge pages are free"},
        Case{"not_there", kAuto, {Device::kShared, Device::kUnknown}, 0, kDpdk, "p1: d1 has no interface"}),
    [](const testing::TestParamInfo<Case> &one) { return one.param.name; });

TEST(EngineChoice, is_xdp_where_dpdk_cannot_be_though_there_is_memory) {
  HostPossibilities host;
  host.ports.push_back({.name = "p", .device = Device::kShared, .description = "interface eth1"});
  host.dpdk = {.memory_mb = 0, .free_huge_page_mb = 1000, .refusal = "--workers: 9 workers need a core each"};
  const ChosenEngine chosen = choose_engine(kAuto, host);
  EXPECT_EQ(chosen.engine, kXdp);
  EXPECT_THAT(chosen.reason, HasSubstr("DPDK cannot be: --workers: 9 workers need a core each"));
  host.ports[0].device = Device::kOfDpdk;
  EXPECT_EQ(choose_engine(kAuto, host).engine, kDpdk) << "it says itself why it does not start";
}

TEST(HostPossibilities, are_told_from_the_ports_options) {
  const Result<HostPossibilities> host =
      look_at_host({"name=a,device=net_null", "name=b,interface=eth1", "name=c,device=ffff:1f:1f.7",
                    "name=d,device=net_af_xdp:iface=eth2,device=net_af_xdp:iface=eth3"},
                   {.memory_mb = 7, .free_huge_page_mb = 8, .refusal = ""});
  ASSERT_TRUE(host.ok()) << host.error().message;
  EXPECT_EQ(host.value().ports[0].device, Device::kOfDpdk);
  EXPECT_EQ(host.value().ports[1].device, Device::kShared);
  EXPECT_EQ(host.value().ports[1].description, "interface eth1");
  EXPECT_EQ(host.value().ports[2].device, Device::kUnknown);
  EXPECT_EQ(host.value().ports[3].device, Device::kOfDpdk) << "XDP takes one interface for a port";
  EXPECT_EQ(host.value().dpdk.memory_mb, 7u);
  EXPECT_FALSE(look_at_host({"name=a"}, {}).ok());
}

}  // namespace
}  // namespace sluice
