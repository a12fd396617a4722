// The program sluice-dataplane as a process, from its options to what it leaves behind. Its path is the
// test's first argument. Needs root.
#include <string>

#include <bpf/libbpf.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "dataplane/server/connection_region.h"
#include "dataplane/xdp/dispatcher.h"
#include "tests/xdp/dataplane_fixture.h"

namespace sluice {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::Not;

using DataplaneTest = DataplaneFixture;

TEST_F(DataplaneTest, killed_or_stopped_it_leaves_forwarding_and_the_next_takes_over) {
  store_snapshot();
  ASSERT_NO_FATAL_FAILURE(start_well({"--engine=xdp"}));
  EXPECT_THAT(log(), AllOf(HasSubstr("engine xdp: --engine xdp"), HasSubstr("port front: mode: native")));
  EXPECT_FALSE(std::filesystem::exists(connections_path())) << "the map is the only holder";
  const uint32_t first = program_id_on("port0");
  EXPECT_NE(first, 0u);
  kill_dataplane();
  EXPECT_EQ(program_id_on("port0"), first);

  ASSERT_NO_FATAL_FAILURE(start_well({"--engine=xdp"}));
  const uint32_t second = program_id_on("port0");
  EXPECT_NE(second, first);
  stop_dataplane();
  EXPECT_EQ(WEXITSTATUS(exit_status_), 0);
  EXPECT_THAT(log(), HasSubstr("forwarding goes on with the last tables"));
  EXPECT_EQ(program_id_on("port0"), second);
}

TEST_F(DataplaneTest, detach_removes_everything_and_keeps_the_connections) {
  ASSERT_NO_FATAL_FAILURE(start_well({"--engine=xdp"}));
  kill_dataplane();
  EXPECT_EQ(run_to_end({"--detach"}), 0) << log();
  EXPECT_EQ(program_id_on("port0"), 0u);
  EXPECT_FALSE(std::filesystem::exists(pin_directory()));
  EXPECT_TRUE(std::filesystem::exists(connections_path()));
  EXPECT_EQ(run_to_end({"--detach"}), 0) << "nothing there is fine";
  EXPECT_THAT(log(), HasSubstr("nothing is pinned"));
}

TEST_F(DataplaneTest, a_running_one_is_not_detached_by_another) {
  ASSERT_NO_FATAL_FAILURE(start_well({"--engine=xdp"}));
  const pid_t running = process_;
  for (const char *more : {"--detach", "--engine=xdp"}) {
    EXPECT_EQ(run_to_end({more}), 1);
    EXPECT_THAT(log(), HasSubstr("another sluice-dataplane uses it"));
  }
  process_ = running;
  EXPECT_NE(program_id_on("port0"), 0u);
}

TEST_F(DataplaneTest, detach_at_stop_ends_forwarding_at_a_clean_stop_only) {
  ASSERT_NO_FATAL_FAILURE(start_well({"--engine=xdp", "--detach-at-stop"}));
  kill_dataplane();
  EXPECT_NE(program_id_on("port0"), 0u);
  ASSERT_NO_FATAL_FAILURE(start_well({"--engine=xdp", "--detach-at-stop"}));
  stop_dataplane();
  EXPECT_EQ(WEXITSTATUS(exit_status_), 0) << log();
  EXPECT_EQ(program_id_on("port0"), 0u);
  EXPECT_TRUE(std::filesystem::exists(connections_path()));
}

TEST_F(DataplaneTest, an_interface_that_is_made_anew_is_attached_and_addressed_again) {
  ASSERT_NO_FATAL_FAILURE(start_well({"--engine=xdp"}));
  run("ip link del port0");
  EXPECT_TRUE(until_logged("port front: down: interface port0 has gone"));
  run("ip link add port0 type veth peer name peer0");
  EXPECT_TRUE(until_logged("port front: mode: native", 2));
  EXPECT_NE(program_id_on("port0"), 0u);
  EXPECT_THAT(addresses_on("port0"), AllOf(HasSubstr("10.0.0.1/24"), HasSubstr("fd00::1/64")));
}

TEST_F(DataplaneTest, an_interface_that_is_back_and_cannot_be_attached_is_tried_once_and_others_go_on) {
  run("ip link add out0 type veth peer name out1 && ip link set out0 up");
  ASSERT_NO_FATAL_FAILURE(
      start_well({"--engine=xdp", "--xdp-mode=native", "--port=name=front,interface=port0",
                  "--port=name=back,interface=out0,addresses=10.5.0.1/24"}));
  const uint32_t other = program_id_on("out0");
  run("ip link del port0");
  EXPECT_TRUE(until_logged("port front: down: interface port0 has gone"));
  run("ip link add port0 type bridge");  // whose driver has no native XDP
  EXPECT_TRUE(until_logged("port front: down: interface port0 is back, but: "));
  run("ip link add new0 type bridge && ip link del new0");  // events of no port's
  ::sleep(2);
  EXPECT_EQ(times_logged("interface port0 is back, but: "), 1);
  EXPECT_EQ(program_id_on("out0"), other) << "a port that is well has no part in it";

  run("ip link del port0 && ip link add port0 type veth peer name peer0");
  EXPECT_TRUE(until_logged("port front: mode: native", 2));
  EXPECT_NE(program_id_on("port0"), 0u);
  EXPECT_EQ(program_id_on("out0"), program_id_on("port0")) << "one program, which knows both interfaces";
}

TEST_F(DataplaneTest, of_two_interfaces_that_are_back_the_one_that_can_be_attached_is) {
  run("ip link add out0 type veth peer name out1 && ip link set out0 up");
  ASSERT_NO_FATAL_FAILURE(
      start_well({"--engine=xdp", "--xdp-mode=native", "--port=name=front,interface=port0",
                  "--port=name=back,interface=out0,addresses=10.5.0.1/24"}));
  const pid_t running = process_;
  ::kill(running, SIGSTOP);  // so that it hears of all at once
  run("ip link del port0 && ip link del out0");
  run("ip link add port0 type bridge && ip link add out0 type veth peer name out1");
  ::kill(running, SIGCONT);
  EXPECT_TRUE(until_logged("port back: mode: native", 2));
  EXPECT_EQ(times_logged("port front: down: interface port0 is back, but: "), 1);
  EXPECT_NE(program_id_on("out0"), 0u);
  EXPECT_EQ(program_id_on("port0"), 0u);
}

TEST_F(DataplaneTest, a_port_that_cannot_send_what_a_native_one_hands_it_is_warned_of) {
  run("ip link add out0 type bridge && ip link set out0 up");
  const std::string front = "--port=name=front,interface=port0,addresses=10.0.0.1/24";
  const std::string back = "--port=name=back,interface=out0,addresses=10.5.0.1/24";
  const char *const warning = "port back: WARNING: packets that come by port front, which is native";
  ASSERT_NO_FATAL_FAILURE(start_well({"--engine=xdp", front, back}));
  EXPECT_THAT(log(), HasSubstr(warning));
  stop_dataplane();
  ASSERT_NO_FATAL_FAILURE(start_well({"--engine=xdp", "--xdp-mode=generic", front, back}));
  EXPECT_THAT(log(), Not(HasSubstr(warning)));
}

TEST_F(DataplaneTest, generic_is_taken_when_it_is_asked_for) {
  ASSERT_NO_FATAL_FAILURE(start_well({"--engine=xdp", "--xdp-mode=generic"}));
  EXPECT_EQ(program_on("port0", network_.port_ifindex()).value().mode, XdpMode::kGeneric);
  EXPECT_THAT(log(), HasSubstr("port front: mode: generic: --xdp-mode generic"));
}

TEST_F(DataplaneTest, the_engines_hand_connections_and_addresses_to_each_other) {
  run("ip route add 10.1.0.0/16 via 10.0.0.2");
  ASSERT_NO_FATAL_FAILURE(start_well({"--engine=dpdk", "--workers=1"}));
  EXPECT_THAT(addresses_on("sl-front"), AllOf(HasSubstr("10.0.0.1/24"), HasSubstr("fd00::1/64")));
  EXPECT_EQ(addresses_on("port0"), "");
  EXPECT_THAT(output_of("ip route"), HasSubstr("10.1.0.0/16 via 10.0.0.2 dev sl-front"));
  stop_dataplane();

  ASSERT_NO_FATAL_FAILURE(start_well({"--engine=xdp"}));
  EXPECT_THAT(log(), HasSubstr("kept 1 table"));
  EXPECT_THAT(addresses_on("port0"), AllOf(HasSubstr("10.0.0.1/24"), HasSubstr("fd00::1/64")));
  EXPECT_THAT(addresses_on("sl-front"), HasSubstr("does not exist"));
  EXPECT_THAT(output_of("ip route"), HasSubstr("10.1.0.0/16 via 10.0.0.2 dev port0"));
  kill_dataplane();

  ASSERT_NO_FATAL_FAILURE(start_well({"--engine=dpdk", "--workers=1"}));
  EXPECT_THAT(log(), AllOf(HasSubstr("XDP programs detached from ports front"), HasSubstr("kept ")));
  EXPECT_FALSE(std::filesystem::exists(pin_directory() / "link-front"));
  EXPECT_EQ(addresses_on("port0"), "");
  EXPECT_THAT(output_of("ip route"), HasSubstr("10.1.0.0/16 via 10.0.0.2 dev sl-front"));
}

TEST_F(DataplaneTest, what_cannot_be_removed_in_the_end_does_not_stop_an_engine_that_forwards) {
  ASSERT_NO_FATAL_FAILURE(start_well({"--engine=xdp"}));
  stop_dataplane();
  ASSERT_EQ(::mount(nullptr, pin_directory().c_str(), nullptr, MS_REMOUNT | MS_BIND | MS_RDONLY, nullptr), 0);
  ASSERT_NO_FATAL_FAILURE(start_well({"--engine=dpdk", "--workers=1"}));
  EXPECT_THAT(log(), HasSubstr("link-front: cannot remove: Read-only file system"));
  stop_dataplane();
  EXPECT_EQ(WEXITSTATUS(exit_status_), 0) << log();
  ASSERT_EQ(::mount(nullptr, pin_directory().c_str(), nullptr, MS_REMOUNT | MS_BIND, nullptr), 0);

  const std::string file = connections_path();  // which cannot be removed while something is mounted there
  ASSERT_EQ(::mount(file.c_str(), file.c_str(), nullptr, MS_BIND, nullptr), 0);
  ASSERT_NO_FATAL_FAILURE(start_well({"--engine=xdp"}));
  EXPECT_THAT(log(), HasSubstr(file + ": cannot remove: Device or resource busy"));
  EXPECT_NE(program_id_on("port0"), 0u);
  stop_dataplane();
  EXPECT_EQ(WEXITSTATUS(exit_status_), 0) << log();
  ::umount2(file.c_str(), MNT_DETACH);
}

TEST_F(DataplaneTest, a_refused_start_of_the_other_engine_leaves_addresses_and_routes) {
  run("ip route add 10.1.0.0/16 via 10.0.0.2");
  const std::string folder = directory_.path() / "folder";
  std::filesystem::create_directory(folder);
  const auto expect_all_on = [](const std::string &interface) {
    EXPECT_THAT(addresses_on(interface), AllOf(HasSubstr("10.0.0.1/24"), HasSubstr("fd00::1/64")));
    EXPECT_THAT(output_of("ip route"), HasSubstr("10.1.0.0/16 via 10.0.0.2 dev " + interface));
  };
  // Refused late: the control socket is the last thing that is opened.
  EXPECT_EQ(run_to_end({"--engine=dpdk", "--workers=1", "--control-socket=" + folder}), 1);
  EXPECT_THAT(log(), HasSubstr("moved 2 addresses, 1 route, 0 neighbours back from sl-front to port0"));
  expect_all_on("port0");

  ASSERT_NO_FATAL_FAILURE(start_well({"--engine=dpdk", "--workers=1"}));
  stop_dataplane();
  EXPECT_EQ(run_to_end({"--engine=xdp", "--control-socket=" + folder}), 1);
  expect_all_on("sl-front");
  EXPECT_EQ(addresses_on("port0"), "");
  EXPECT_EQ(program_id_on("port0"), 0u);
}

TEST_F(DataplaneTest, a_dpdk_start_whose_interface_cannot_be_made_leaves_addresses_and_routes) {
  run("ip route add 10.1.0.0/16 via 10.0.0.2");
  ASSERT_NO_FATAL_FAILURE(start_well({"--engine=xdp"}));
  kill_dataplane();
  run("ip link add sl-front type bridge");
  EXPECT_EQ(run_to_end({"--engine=dpdk", "--workers=1"}), 1);
  EXPECT_THAT(log(), HasSubstr("kernel interface sl-front"));
  EXPECT_THAT(addresses_on("port0"), AllOf(HasSubstr("10.0.0.1/24"), HasSubstr("fd00::1/64")));
  EXPECT_THAT(output_of("ip route"), HasSubstr("10.1.0.0/16 via 10.0.0.2 dev port0"));
}

TEST_F(DataplaneTest, a_start_that_cannot_use_the_stored_snapshot_leaves_what_forwards) {
  store_snapshot();
  ASSERT_NO_FATAL_FAILURE(start_well({"--engine=xdp"}));
  const uint32_t first = program_id_on("port0");
  kill_dataplane();
  std::filesystem::resize_file(directory_.path() / "snapshot", 200);
  ASSERT_NO_FATAL_FAILURE(start_well({"--engine=xdp"}));
  EXPECT_THAT(log(), AllOf(HasSubstr("the stored snapshot is not used"), HasSubstr("stay in force")));
  EXPECT_EQ(program_id_on("port0"), first);
}

TEST_F(DataplaneTest, a_dpdk_engine_that_cannot_start_leaves_what_forwards) {
  run("ip route add 10.1.0.0/16 via 10.0.0.2");
  ASSERT_NO_FATAL_FAILURE(start_well({"--engine=xdp"}));
  const uint32_t first = program_id_on("port0");
  kill_dataplane();
  run("ip link add sl-front type bridge");  // where the tap would be
  EXPECT_EQ(run_to_end({"--engine=dpdk", "--workers=1"}), 1);
  EXPECT_THAT(log(), HasSubstr("attached again"));
  EXPECT_EQ(program_id_on("port0"), first);
  EXPECT_FALSE(std::filesystem::exists(connections_path())) << "the map is the only holder";
  EXPECT_THAT(addresses_on("port0"), AllOf(HasSubstr("10.0.0.1/24"), HasSubstr("fd00::1/64")));
  EXPECT_THAT(output_of("ip route"), HasSubstr("10.1.0.0/16 via 10.0.0.2 dev port0"));
}

TEST_F(DataplaneTest, a_foreign_program_is_named_and_stays) {
  const UniqueFd other = load_program("firewall");
  const Result<Attachment> there =
      attach(other.get(), "port0", network_.port_ifindex(), XdpModeChoice::kAuto);
  ASSERT_TRUE(there.ok());
  EXPECT_EQ(run_to_end({"--engine=xdp"}), 1);
  const std::string id = std::to_string(program_id(other.get()));
  EXPECT_THAT(log(), AllOf(HasSubstr("port front: interface: \"port0\" has another XDP program"),
                           HasSubstr("\"firewall\" (id " + id + ", native)"),
                           HasSubstr("remove it with: bpftool link detach id ")));
  EXPECT_EQ(program_id_on("port0"), program_id(other.get()));
}

// What a kernel does not let programs do is tried, so that both ends are: on_kernel.py runs this on others.
TEST_F(DataplaneTest, interfaces_are_shared_where_the_kernel_lets_programs_and_it_says_why_where_not) {
  ASSERT_EQ(::mount("bpf", "/sys/fs/bpf", "bpf", 0, nullptr), 0) << std::strerror(errno);
  const std::string obstacle = why_no_dispatcher();
  if (obstacle.empty()) {
    ASSERT_NO_FATAL_FAILURE(start_well({"--engine=xdp", "--xdp-sharing=on"}));
    EXPECT_EQ(program_on("port0", network_.port_ifindex()).value().name, "xdp_dispatcher");
    EXPECT_THAT(log(), HasSubstr("port front: mode: native: under libxdp's dispatcher"));
    kill_dataplane();
    EXPECT_EQ(run_to_end({"--detach"}), 0);
  } else {
    EXPECT_EQ(run_to_end({"--engine=xdp", "--xdp-sharing=on"}), 1);
    EXPECT_THAT(log(), AllOf(HasSubstr("--xdp-sharing: \"on\" is not possible"), HasSubstr(obstacle)));
    ASSERT_NO_FATAL_FAILURE(start_well({"--engine=xdp", "--detach-at-stop"}));
    EXPECT_THAT(log(), AllOf(HasSubstr("sharing: not on this host"), HasSubstr(obstacle)));
    stop_dataplane();
  }
  EXPECT_EQ(program_id_on("port0"), 0u);
  ::umount2("/sys/fs/bpf", MNT_DETACH);
}

TEST_F(DataplaneTest, what_a_killed_af_xdp_process_left_is_removed) {
  {
    const UniqueFd leftover = load_program("xsk_def_prog");
    ASSERT_EQ(bpf_xdp_attach(static_cast<int>(network_.port_ifindex()), leftover.get(), 0, nullptr), 0);
  }
  ASSERT_NO_FATAL_FAILURE(start_well({"--engine=xdp"}));
  EXPECT_THAT(log(), HasSubstr("removed XDP program \"xsk_def_prog\""));
}

}  // namespace
}  // namespace sluice

int main(int argc, char **argv) {
  testing::InitGoogleTest(&argc, argv);
  if (argc != 2) {
    std::fprintf(stderr, "usage: %s PATH-OF-sluice-dataplane\n", argv[0]);
    return 2;
  }
  sluice::program_path = argv[1];
  return RUN_ALL_TESTS();
}
