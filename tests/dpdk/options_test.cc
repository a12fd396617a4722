#include "dataplane/options.h"

#include <filesystem>
#include <fstream>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace sluice {
namespace {

using ::testing::ElementsAre;

/// Parses a command line. The file that --config defaults to is kept out of it.
std::variant<DataplaneOptions, ProgramEnd> parse(std::vector<const char *> arguments) {
  arguments.insert(arguments.begin(), "sluice-dataplane");
  return parse_options(static_cast<int>(arguments.size()), arguments.data());
}

TEST(DataplaneOptions, each_port_is_one_value_with_its_commas) {
  auto parsed = parse({"--port", "name=a,device=net_null,addresses=10.0.0.1/24;fd00::1/64", "--port",
                       "name=b,device=net_null", "--idle", "sleep", "--engine=dpdk", "--workers", "2"});
  ASSERT_TRUE(std::holds_alternative<DataplaneOptions>(parsed));
  const auto &options = std::get<DataplaneOptions>(parsed);
  EXPECT_THAT(options.ports, ElementsAre("name=a,device=net_null,addresses=10.0.0.1/24;fd00::1/64",
                                         "name=b,device=net_null"));
  EXPECT_EQ(options.idle, IdleChoice::kSleep);
  EXPECT_EQ(options.engine, EngineChoice::kDpdk);
  EXPECT_EQ(options.workers, 2);
}

TEST(DataplaneOptions, defaults_are_a_bare_metal_hosts) {
  auto parsed = parse({});
  ASSERT_TRUE(std::holds_alternative<DataplaneOptions>(parsed));
  const auto &options = std::get<DataplaneOptions>(parsed);
  EXPECT_EQ(options.idle, IdleChoice::kPoll);
  EXPECT_EQ(options.huge_pages, HugePagesChoice::kAuto);
  EXPECT_EQ(options.control_socket, "/run/sluice/dataplane.sock");
  EXPECT_EQ(options.connections, "/run/sluice/connections");
}

TEST(DataplaneOptions, a_file_says_the_same_and_the_command_line_wins) {
  std::string path = testing::TempDir() + "dataplane.conf";
  std::ofstream(path) << "# ports of this host\n"
                         "idle = \"sleep\"\n"
                         "workers = 3\n"
                         "remove-kernel-interfaces = true\n"
                         "port = [\"name=a,device=0000:01:00.0,addresses=10.0.0.1/24;10.0.0.2/24\", "
                         "\"name=b,device=net_null\"]\n";
  auto parsed = parse({"--config", path.c_str(), "--workers", "2"});
  ASSERT_TRUE(std::holds_alternative<DataplaneOptions>(parsed));
  const auto &options = std::get<DataplaneOptions>(parsed);
  EXPECT_THAT(options.ports, ElementsAre("name=a,device=0000:01:00.0,addresses=10.0.0.1/24;10.0.0.2/24",
                                         "name=b,device=net_null"));
  EXPECT_EQ(options.idle, IdleChoice::kSleep);
  EXPECT_EQ(options.kernel_interfaces, KernelInterfacesChoice::kRemove);
  EXPECT_EQ(options.workers, 2);
}

TEST(DataplaneOptions, unknown_keys_and_values_end_the_program_with_an_error) {
  std::string path = testing::TempDir() + "bad.conf";
  std::ofstream(path) << "prot = \"name=a,device=net_null\"\n";
  for (const std::vector<const char *> &arguments : {std::vector<const char *>{"--config", path.c_str()},
                                                     {"--idle", "doze"},
                                                     {"--workers", "0"},
                                                     {"--workers", "65"},
                                                     {"--engine", "afpacket"},
                                                     {"--xdp-mode", "offload"},
                                                     {"--xdp-sharing", "maybe"},
                                                     {"--bpf-directory", "bpf"},
                                                     {"--bpf-directory", "/run/bpf/"},
                                                     {"--nosuch"}}) {
    auto parsed = parse(arguments);
    ASSERT_TRUE(std::holds_alternative<ProgramEnd>(parsed)) << arguments.front();
    EXPECT_EQ(std::get<ProgramEnd>(parsed).exit_code, 2);
  }
}

TEST(DataplaneOptions, xdp_forwards_natively_if_it_can_and_goes_on_after_a_stop_unless_told_otherwise) {
  const auto defaults = std::get<DataplaneOptions>(parse({}));
  EXPECT_EQ(defaults.engine, EngineChoice::kAuto);
  EXPECT_EQ(defaults.xdp_mode, XdpModeOption::kAuto);
  EXPECT_EQ(defaults.xdp_sharing, XdpSharing::kAuto);
  EXPECT_EQ(defaults.xdp_at_stop, XdpAtStop::kForward);
  EXPECT_EQ(defaults.bpf_directory, "/sys/fs/bpf/sluice");
  EXPECT_EQ(defaults.task, Task::kForward);
  const auto given = std::get<DataplaneOptions>(
      parse({"--engine", "xdp", "--xdp-mode", "generic", "--detach-at-stop", "--bpf-directory", "/run/bpf"}));
  EXPECT_EQ(given.engine, EngineChoice::kXdp);
  EXPECT_EQ(given.xdp_mode, XdpModeOption::kGeneric);
  EXPECT_EQ(given.xdp_at_stop, XdpAtStop::kDetach);
  EXPECT_EQ(given.bpf_directory, "/run/bpf");
  EXPECT_EQ(std::get<DataplaneOptions>(parse({"--detach"})).task, Task::kDetach);
}

TEST(DataplaneOptions, a_file_can_name_the_engine) {
  std::string path = testing::TempDir() + "engine.conf";
  std::ofstream(path)
      << "engine = \"xdp\"\nxdp-mode = \"native\"\nxdp-sharing = \"on\"\ndetach-at-stop = true\n";
  const auto options = std::get<DataplaneOptions>(parse({"--config", path.c_str()}));
  EXPECT_EQ(options.engine, EngineChoice::kXdp);
  EXPECT_EQ(options.xdp_mode, XdpModeOption::kNative);
  EXPECT_EQ(options.xdp_sharing, XdpSharing::kOn);
  EXPECT_EQ(options.xdp_at_stop, XdpAtStop::kDetach);
}

TEST(DataplaneOptions, help_and_version_end_the_program_well) {
  for (const char *argument : {"--help", "--version"}) {
    auto parsed = parse({argument});
    ASSERT_TRUE(std::holds_alternative<ProgramEnd>(parsed));
    EXPECT_EQ(std::get<ProgramEnd>(parsed).exit_code, 0);
  }
}

}  // namespace
}  // namespace sluice
