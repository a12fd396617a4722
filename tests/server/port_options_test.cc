#include "dataplane/server/port_options.h"

#include <filesystem>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/server/temporary_directory.h"

namespace sluice {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

PortOptions parsed(const std::string &text) {
  Result<PortOptions> port = parse_port_options(text);
  EXPECT_TRUE(port.ok()) << (port.ok() ? "" : port.error().message);
  return port.ok() ? port.value() : PortOptions();
}

std::string error_of(const std::string &text) {
  Result<PortOptions> port = parse_port_options(text);
  return port.ok() ? "" : port.error().message;
}

TEST(PortOptions, every_field_is_taken) {
  PortOptions port = parsed(
      "name=front,device=net_af_xdp:iface=lb0;busy_budget=0,queues=2,addresses=10.77.0.2/24;fd77::2/64,"
      "kernel=sl-f,mtu=1600,descriptors=512,steering=on");
  EXPECT_EQ(port.name, "front");
  ASSERT_EQ(port.devices.size(), 1u);
  EXPECT_EQ(port.devices[0].driver, "net_af_xdp");
  EXPECT_EQ(port.devices[0].argument("iface"), "lb0");
  EXPECT_EQ(port.devices[0].argument_text(), "iface=lb0,busy_budget=0");
  EXPECT_EQ(port.queues, 2);
  EXPECT_EQ(port.kernel_interface, "sl-f");
  EXPECT_EQ(port.mtu, 1600);
  EXPECT_EQ(port.descriptors, 512);
  EXPECT_EQ(port.steering, SteeringMode::kOn);
  ASSERT_EQ(port.addresses.size(), 2u);
  EXPECT_TRUE(address_is_ipv4(&port.addresses[0].address));
  EXPECT_EQ(port.addresses[0].address.word[3], host_to_be32(0x0a4d0002));
  EXPECT_EQ(port.addresses[0].prefix_length, 24);
  EXPECT_FALSE(address_is_ipv4(&port.addresses[1].address));
  EXPECT_EQ(port.addresses[1].prefix_length, 64);
}

TEST(PortOptions, what_is_not_said_has_a_default) {
  PortOptions port = parsed("name=front,device=net_null");
  EXPECT_EQ(port.kernel_interface, "sl-front");
  EXPECT_EQ(port.queues, 0);
  EXPECT_EQ(port.mtu, 0);
  EXPECT_EQ(port.steering, SteeringMode::kAuto);
  EXPECT_EQ(port.devices[0].argument_text(), "");
}

TEST(PortOptions, pci_addresses_keep_their_colons) {
  PortOptions port = parsed("name=front,device=0000:01:00.0;rx_queues=4,device=02:00.1");
  ASSERT_EQ(port.devices.size(), 2u);
  EXPECT_TRUE(port.devices[0].is_pci());
  EXPECT_EQ(port.devices[0].driver, "0000:01:00.0");
  EXPECT_EQ(port.devices[0].argument_text(), "rx_queues=4");
  EXPECT_EQ(port.devices[1].driver, "0000:02:00.1");
}

TEST(PortOptions, what_only_looks_like_a_pci_address_is_none) {
  for (const char *device : {"net_null", "0000:01:00", "0000:01:00.8", "0000:0g:00.0", "00000:01:00.0"}) {
    EXPECT_FALSE((DeviceOptions{device, {}}).is_pci()) << device;
  }
}

TEST(PortOptions, no_kernel_interface_when_none_is_wanted) {
  EXPECT_EQ(parsed("name=front,device=net_null,kernel=none").kernel_interface, "");
}

TEST(PortOptions, an_error_names_field_value_and_remedy) {
  EXPECT_THAT(error_of("name=front,device=net_null,mtu=65536"),
              AllOf(HasSubstr("mtu: \"65536\""), HasSubstr("576 to 9600")));
  EXPECT_THAT(error_of("name=front,device=net_null,queues=0"), HasSubstr("queues: \"0\""));
  EXPECT_THAT(error_of("name=front,device=net_null,queues=2x"), HasSubstr("queues: \"2x\""));
  EXPECT_THAT(error_of("name=fr ont,device=net_null"), HasSubstr("name: \"fr ont\""));
  EXPECT_THAT(error_of("name=front,device=net_null,addresses=10.0.0.1"),
              AllOf(HasSubstr("addresses: \"10.0.0.1\""), HasSubstr("ADDRESS/PREFIX-LENGTH")));
  EXPECT_THAT(error_of("name=front,device=net_null,addresses=10.0.0.1/33"), HasSubstr("10.0.0.1/33"));
  EXPECT_THAT(error_of("name=front,device=net_null,addresses=fd00::1/129"), HasSubstr("fd00::1/129"));
  EXPECT_THAT(error_of("name=front,device=net_null,steering=maybe"), HasSubstr("auto, on or off"));
  EXPECT_THAT(error_of("name=front,device=net_af_xdp:iface"), HasSubstr("argument \"iface\" has no '='"));
  EXPECT_THAT(error_of("name=front,device=:iface=x"), HasSubstr("give a PCI address"));
  EXPECT_THAT(error_of("name=front,device=net_null,kernel=a-name-that-is-long"), HasSubstr("kernel: "));
  EXPECT_THAT(error_of("name=front,device=net_null,kernel=none,addresses=10.0.0.1/24"),
              HasSubstr("kernel=none"));
}

TEST(PortOptions, missing_unknown_and_repeated_fields_are_errors) {
  EXPECT_THAT(error_of("device=net_null"), HasSubstr("name: is missing"));
  EXPECT_THAT(error_of("name=front"), HasSubstr("interface: is missing"));
  EXPECT_THAT(error_of("name=front,device=net_null,colour=red"), HasSubstr("colour: there is no such field"));
  EXPECT_THAT(error_of("name=front,name=back,device=net_null"), HasSubstr("name: is given twice"));
  EXPECT_THAT(error_of("name=front,device=net_null,"), HasSubstr("is no field"));
}

TEST(PortOptions, ports_must_differ) {
  auto error = [](const std::vector<std::string> &texts) {
    Result<std::vector<PortOptions>> ports = parse_ports(texts);
    return ports.ok() ? std::string() : ports.error().message;
  };
  EXPECT_EQ(error({"name=a,device=net_null", "name=b,device=net_null"}), "");
  EXPECT_THAT(error({"name=a,device=net_null", "name=a,device=net_null"}), HasSubstr("name: \"a\""));
  EXPECT_THAT(error({"name=a,device=net_null,kernel=k0", "name=b,device=net_null,kernel=k0"}),
              HasSubstr("kernel: \"k0\""));
  EXPECT_THAT(error({"name=a,device=01:00.0", "name=b,device=0000:01:00.0"}), HasSubstr("used twice"));
  EXPECT_THAT(error({}), HasSubstr("--port: there is none"));
}

TEST(PortOptions, an_interface_is_a_dpdk_port_over_af_xdp) {
  PortOptions port = parsed("name=front,interface=eth1");
  EXPECT_EQ(port.interface, "eth1");
  ASSERT_EQ(port.devices.size(), 1u);
  EXPECT_EQ(port.devices[0].driver, "net_af_xdp");
  EXPECT_EQ(port.devices[0].argument_text(), "iface=eth1");
}

TEST(PortOptions, an_interface_is_given_once_and_alone) {
  EXPECT_THAT(error_of("name=front,interface=eth1,device=net_null"),
              HasSubstr("interface: is given beside device="));
  EXPECT_THAT(error_of("name=front,interface=eth1,interface=eth2"), HasSubstr("interface: is given twice"));
  EXPECT_THAT(error_of("name=front,interface=a/b"), HasSubstr("interface: \"a/b\""));
  Result<std::vector<PortOptions>> ports = parse_ports({"name=a,interface=eth1", "name=b,interface=eth1"});
  ASSERT_FALSE(ports.ok());
  EXPECT_THAT(ports.error().message, HasSubstr("interface: \"eth1\" is used twice"));
}

TEST(XdpInterface, is_what_the_port_or_its_device_names) {
  for (const char *text : {"name=front,interface=eth1", "name=front,device=net_af_xdp:iface=eth1",
                           "name=front,device=net_af_packet:iface=eth1;qpairs=2",
                           "name=front,device=net_af_xdp:iface=eth1;start_queue=0,"
                           "device=net_af_xdp:iface=eth1;start_queue=1"}) {
    Result<std::string> interface = xdp_interface(parsed(text));
    ASSERT_TRUE(interface.ok()) << text;
    EXPECT_EQ(interface.value(), "eth1") << text;
  }
}

TEST(XdpInterface, of_a_pci_device_is_what_the_kernels_driver_made) {
  TemporaryDirectory devices;
  std::filesystem::create_directories(devices.path() / "0000:01:00.0" / "net" / "enp1s0");
  std::filesystem::create_directories(devices.path() / "0000:02:00.0");
  Result<std::string> bound = xdp_interface(parsed("name=front,device=01:00.0"), devices.path());
  ASSERT_TRUE(bound.ok());
  EXPECT_EQ(bound.value(), "enp1s0");
  Result<std::string> unbound = xdp_interface(parsed("name=front,device=02:00.0"), devices.path());
  ASSERT_FALSE(unbound.ok());
  EXPECT_THAT(unbound.error().message, HasSubstr("\"0000:02:00.0\" has no network interface"));
}

TEST(XdpInterface, a_device_of_dpdks_only_and_several_interfaces_are_errors) {
  Result<std::string> none = xdp_interface(parsed("name=front,device=net_null"));
  ASSERT_FALSE(none.ok());
  EXPECT_THAT(none.error().message, AllOf(HasSubstr("port front"), HasSubstr("of DPDK's only")));
  Result<std::string> two =
      xdp_interface(parsed("name=front,device=net_af_xdp:iface=eth1,device=net_af_xdp:iface=eth2"));
  ASSERT_FALSE(two.ok());
  EXPECT_THAT(two.error().message, HasSubstr("eth1 and eth2"));
}

TEST(CoreList, numbers_and_ranges) {
  EXPECT_THAT(parse_core_list("3,5-7").value(), ElementsAre(3, 5, 6, 7));
  for (const char *text : {"", "a", "3-", "5-4", "1,1", "0-2,2", "2000"}) {
    Result<std::vector<int>> cores = parse_core_list(text);
    ASSERT_FALSE(cores.ok()) << text;
    EXPECT_THAT(cores.error().message, HasSubstr("--cores"));
  }
}

}  // namespace
}  // namespace sluice
