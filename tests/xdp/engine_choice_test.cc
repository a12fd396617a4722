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
  uint64_t free_huge_pages;
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
  host.free_huge_pages = GetParam().free_huge_pages;
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
        Case{"asked_for_xdp", kXdp, {Device::kOfDpdk}, 8, kXdp, "--engine xdp"},
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
             8,
             kXdp,
             "p1: d1 is bound to the kernel's driver"},
        Case{"interfaces_with_huge_pages", kAuto, {Device::kShared}, 8, kDpdk, "8 huge pages are free"},
        Case{"interfaces_without_huge_pages",
             kAuto,
             {Device::kShared, Device::kShared},
             0,
             kXdp,
             "no huge pages are free"},
        Case{"not_there", kAuto, {Device::kShared, Device::kUnknown}, 0, kDpdk, "p1: d1 has no interface"}),
    [](const testing::TestParamInfo<Case> &one) { return one.param.name; });

TEST(HostPossibilities, are_told_from_the_ports_options) {
  const Result<HostPossibilities> host =
      look_at_host({"name=a,device=net_null", "name=b,interface=eth1", "name=c,device=ffff:1f:1f.7",
                    "name=d,device=net_af_xdp:iface=eth2,device=net_af_xdp:iface=eth3"});
  ASSERT_TRUE(host.ok()) << host.error().message;
  EXPECT_EQ(host.value().ports[0].device, Device::kOfDpdk);
  EXPECT_EQ(host.value().ports[1].device, Device::kShared);
  EXPECT_EQ(host.value().ports[1].description, "interface eth1");
  EXPECT_EQ(host.value().ports[2].device, Device::kUnknown);
  EXPECT_EQ(host.value().ports[3].device, Device::kOfDpdk) << "XDP takes one interface for a port";
  EXPECT_FALSE(look_at_host({"name=a"}).ok());
}

}  // namespace
}  // namespace sluice
