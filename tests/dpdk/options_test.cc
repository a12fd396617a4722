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
                                                     {"--nosuch"}}) {
    auto parsed = parse(arguments);
    ASSERT_TRUE(std::holds_alternative<ProgramEnd>(parsed)) << arguments.front();
    EXPECT_EQ(std::get<ProgramEnd>(parsed).exit_code, 2);
  }
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
