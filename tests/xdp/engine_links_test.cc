// Interfaces that go, come back, get another MTU, and that somebody takes the program off, while the engine
// runs or waits for tables.
#include <algorithm>
#include <filesystem>

#include <gmock/gmock.h>
#include <nlohmann/json.hpp>

#include "tests/xdp/engine_fixture.h"

namespace sluice {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::Not;
using ::testing::StartsWith;
using Look = Engine::Look;

constexpr uint32_t kMoreSlots = 300'000;  // than a program has room for at first

/// Ports "front" on port0 and, when there is an interface out0, "back" on it.
class XdpEngineLinksTest : public XdpFixture {
 protected:
  void make_out() const {
    run("ip link add out0 type veth peer name out1 && ip link set out0 up && ip link set out1 up");
  }
  /// Not started.
  void create_both(const std::string &fields_of_front = "") {
    const std::vector<std::string> names = {"port0", "out0"};
    std::vector<InterfaceFacts> facts;
    XdpMemoryOptions options = memory_options();
    options.port_ifindexes.clear();
    for (const std::string &name : names) {
      facts.push_back(interface_facts(name));
      options.port_ifindexes.push_back(facts.back().ifindex);
    }
    ASSERT_NO_FATAL_FAILURE(open_memory(options));
    const auto ports =
        parse_ports({"name=front,interface=port0" + fields_of_front, "name=back,interface=out0"}).value();
    Result<XdpPreflight> preflight = make_preflight(ports, facts, names, probe_kernel().value());
    ASSERT_TRUE(preflight.ok()) << preflight.error().message;
    engine_ = std::make_unique<XdpEngine>(preflight.value(), XdpModeChoice::kNative,
                                          std::move(memory_.program), setup());
  }
  void start_both(const std::string &fields_of_front = "") {
    ASSERT_NO_FATAL_FAILURE(create_both(fields_of_front));
    ASSERT_TRUE(engine_->install(tables_of(100)).ok());
    const Status started = engine_->start();
    ASSERT_TRUE(started.ok()) << started.error().message;
  }
  /// An engine over what another has left, without tables.
  void wait_for_tables() {
    make_out();
    ASSERT_NO_FATAL_FAILURE(start_both());
    ASSERT_NO_FATAL_FAILURE(forget_engine());
    ASSERT_NO_FATAL_FAILURE(create_both());
    ASSERT_TRUE(engine_->start().ok());
  }
  /// Takes the program off port0 and puts another there.
  Attachment occupy_front(const UniqueFd &other) const {
    EXPECT_EQ(bpf_link_detach(pins_->get(link_pin("front")).get()), 0);
    Result<Attachment> there = attach(other.get(), "port0", network_.port_ifindex(), XdpModeChoice::kNative);
    EXPECT_TRUE(there.ok());
    return std::move(there).value();
  }
  /// Where the interface's program sends what leaves by a port; 0: nowhere.
  static uint32_t redirects_to(const std::string &interface, uint32_t port) {
    const UniqueFd program(bpf_prog_get_fd_by_id(program_id_on(interface)));
    uint32_t maps[64] = {};
    bpf_prog_info info = {};
    info.nr_map_ids = std::size(maps);
    info.map_ids = reinterpret_cast<uintptr_t>(maps);
    uint32_t info_size = sizeof(info);
    EXPECT_EQ(bpf_obj_get_info_by_fd(program.get(), &info, &info_size), 0);
    for (uint32_t i = 0; i < info.nr_map_ids; i++) {
      const UniqueFd map(bpf_map_get_fd_by_id(maps[i]));
      bpf_map_info about = {};
      uint32_t size = sizeof(about);
      uint32_t ifindex = 0;
      if (bpf_obj_get_info_by_fd(map.get(), &about, &size) == 0 && std::string_view(about.name) == "ports" &&
          bpf_map_lookup_elem(map.get(), &port, &ifindex) == 0)
        return ifindex;
    }
    return 0;
  }

  std::string mode(size_t port) const { return engine_->status()["ports"][port]["mode"]; }
  std::string problem() const { return engine_->status().value("problem", ""); }
  bool is_pinned(const std::string &name) const { return pins_->get(name).valid(); }
};

TEST_F(XdpEngineLinksTest, an_interface_that_is_back_and_cannot_be_attached_is_tried_again_now_and_then) {
  ASSERT_NO_FATAL_FAILURE(start_engine());
  run("ip link del port0 && ip link add port0 type veth peer name peer0");
  const UniqueFd program = load_program("firewall");
  Result<Attachment> other = attach(program.get(), "port0", network_.port_ifindex(), XdpModeChoice::kAuto);
  ASSERT_TRUE(other.ok());
  EXPECT_EQ(engine_->follow_links(Look::kAtChanges), Engine::Links::kChanged);
  EXPECT_EQ(engine_->ports()[0].kernel_ifindex, 0u);
  EXPECT_THAT(engine_->status()["problem"].get<std::string>(),
              AllOf(HasSubstr("interface port0 is back, but: "), HasSubstr("firewall")));
  EXPECT_EQ(engine_->follow_links(Look::kAtAll), Engine::Links::kSame);

  other.value().link.reset(-1);
  wait_for_packets();
  EXPECT_EQ(engine_->follow_links(Look::kAtChanges), Engine::Links::kSame) << "the interface is the same";
  EXPECT_EQ(program_id_on("port0"), 0u);
  EXPECT_EQ(engine_->follow_links(Look::kAtAll), Engine::Links::kChanged);
  EXPECT_NE(program_id_on("port0"), 0u);
  EXPECT_FALSE(engine_->status().contains("problem"));
  EXPECT_TRUE(std::filesystem::exists(pin_directory() / "link-front"));
}

TEST_F(XdpEngineLinksTest, an_interface_that_could_not_be_attached_is_tried_again_when_there_is_another) {
  ASSERT_NO_FATAL_FAILURE(start_engine(XdpModeChoice::kNative));
  run("ip link del port0 && ip link add port0 type bridge");
  EXPECT_EQ(engine_->follow_links(Look::kAtChanges), Engine::Links::kChanged);
  EXPECT_THAT(engine_->status()["problem"].get<std::string>(), HasSubstr("interface port0 is back, but: "));
  run("ip link del port0 && ip link add port0 type veth peer name peer0");
  EXPECT_EQ(engine_->follow_links(Look::kAtChanges), Engine::Links::kChanged);
  EXPECT_NE(program_id_on("port0"), 0u);
}

// Each port by itself.

TEST_F(XdpEngineLinksTest, a_port_that_somebody_has_taken_keeps_no_other_from_coming_back) {
  make_out();
  ASSERT_NO_FATAL_FAILURE(start_both());
  const UniqueFd firewall = load_program("firewall");
  const Attachment other = occupy_front(firewall);
  run("ip link del out0");
  make_out();
  EXPECT_EQ(engine_->follow_links(Look::kAtChanges), Engine::Links::kChanged);
  EXPECT_NE(program_id_on("out0"), 0u);
  EXPECT_TRUE(is_pinned("link-back"));
  EXPECT_THAT(mode(1), StartsWith("native"));
  EXPECT_THAT(mode(0), AllOf(StartsWith("down: somebody has detached the program"), HasSubstr("firewall")));
  EXPECT_EQ(engine_->ports()[0].kernel_ifindex, 0u);
}

TEST_F(XdpEngineLinksTest, a_port_that_somebody_has_taken_keeps_no_other_from_a_larger_program) {
  make_out();
  ASSERT_NO_FATAL_FAILURE(start_both());
  const uint32_t before = program_id_on("out0");
  const UniqueFd firewall = load_program("firewall");
  const Attachment other = occupy_front(firewall);
  const Status installed = engine_->install(tables_of(kMoreSlots, 2));
  ASSERT_TRUE(installed.ok()) << installed.error().message;
  EXPECT_NE(program_id_on("out0"), before);
  EXPECT_NE(program_id_on("out0"), 0u);
  EXPECT_THAT(problem(), AllOf(StartsWith("port front: down: "), HasSubstr("firewall")));
  EXPECT_FALSE(is_pinned("link-front"));
  EXPECT_EQ(engine_->follow_links(Look::kAtChanges), Engine::Links::kChanged) << "since it was asked last";
  EXPECT_EQ(engine_->follow_links(Look::kAtChanges), Engine::Links::kSame);
}

TEST_F(XdpEngineLinksTest, a_link_that_somebody_detached_is_made_again_now_and_then) {
  make_out();
  ASSERT_NO_FATAL_FAILURE(start_both());
  ASSERT_EQ(bpf_link_detach(pins_->get(link_pin("front")).get()), 0);
  EXPECT_EQ(engine_->follow_links(Look::kAtAll), Engine::Links::kSame) << "of what the server knows";
  EXPECT_NE(program_id_on("port0"), 0u);
  EXPECT_EQ(program_id_on("port0"), program_id_on("out0"));
  const uint32_t program = program_id_on("port0");
  ASSERT_NO_FATAL_FAILURE(forget_engine());
  EXPECT_EQ(program_id_on("port0"), program) << "it is pinned";
}

TEST_F(XdpEngineLinksTest, a_port_that_cannot_be_pinned_forwards_and_is_pinned_later_and_others_are_at_once) {
  make_out();
  ASSERT_NO_FATAL_FAILURE(start_both());
  run("ip link del port0 && ip link del out0");
  EXPECT_EQ(engine_->follow_links(Look::kAtChanges), Engine::Links::kChanged);
  std::filesystem::create_directory(pin_directory() / "link-front");
  run("ip link add port0 type veth peer name peer0");
  make_out();
  EXPECT_EQ(engine_->follow_links(Look::kAtChanges), Engine::Links::kChanged);
  EXPECT_NE(program_id_on("port0"), 0u);
  EXPECT_TRUE(is_pinned("link-back"));
  EXPECT_THAT(mode(0), AllOf(StartsWith("native"), HasSubstr("only as long as this process runs: "),
                             HasSubstr("link-front")));
  EXPECT_THAT(problem(), StartsWith("port front: it forwards only as long as this process runs: "));
  EXPECT_THAT(mode(1), Not(HasSubstr("process")));

  std::filesystem::remove(pin_directory() / "link-front");
  EXPECT_EQ(engine_->follow_links(Look::kAtAll), Engine::Links::kSame);
  EXPECT_TRUE(is_pinned("link-front"));
  EXPECT_EQ(problem(), "");
  EXPECT_EQ(mode(0), mode(1));
}

// Before there are tables.

TEST_F(XdpEngineLinksTest, an_interface_that_is_made_anew_while_tables_are_waited_for_is_taken_over) {
  ASSERT_NO_FATAL_FAILURE(wait_for_tables());
  const uint32_t before = program_id_on("out0");
  run("ip link del port0");
  EXPECT_EQ(engine_->follow_links(Look::kAtChanges), Engine::Links::kChanged);
  EXPECT_EQ(engine_->ports()[0].kernel_ifindex, 0u);
  EXPECT_THAT(problem(), HasSubstr("port front: down: interface port0 has gone"));
  run("ip link add port0 type veth peer name peer0");
  EXPECT_EQ(engine_->follow_links(Look::kAtChanges), Engine::Links::kChanged);
  EXPECT_EQ(engine_->ports()[0].kernel_ifindex, network_.port_ifindex());
  EXPECT_THAT(problem(), Not(HasSubstr("down")));
  EXPECT_EQ(program_id_on("out0"), before) << "there are no tables yet";

  const Status installed = engine_->install(tables_of(100));
  ASSERT_TRUE(installed.ok()) << installed.error().message;
  EXPECT_NE(program_id_on("port0"), 0u);
  EXPECT_EQ(program_id_on("port0"), program_id_on("out0"));
  EXPECT_EQ(redirects_to("out0", 0), network_.port_ifindex());
  EXPECT_TRUE(is_pinned("link-front"));
}

TEST_F(XdpEngineLinksTest, tables_that_come_before_the_engine_hears_of_new_interfaces_are_taken) {
  ASSERT_NO_FATAL_FAILURE(wait_for_tables());
  run("ip link del port0 && ip link add port0 type veth peer name peer0");
  const std::shared_ptr<const ForwardingTables> tables = tables_of(kMoreSlots);
  ASSERT_TRUE(engine_->make_room(tables->snapshot).ok());
  const Status installed = engine_->install(tables);
  ASSERT_TRUE(installed.ok()) << installed.error().message;
  EXPECT_EQ(redirects_to("port0", 0), network_.port_ifindex());
  EXPECT_EQ(program_id_on("port0"), program_id_on("out0"));
  EXPECT_EQ(engine_->follow_links(Look::kAtChanges), Engine::Links::kChanged) << "to tell the server";
}

TEST_F(XdpEngineLinksTest, the_other_ports_are_taken_over_without_one_that_has_gone) {
  ASSERT_NO_FATAL_FAILURE(wait_for_tables());
  const uint32_t before = program_id_on("out0");
  run("ip link del port0");
  const Status installed = engine_->install(tables_of(100));
  ASSERT_TRUE(installed.ok()) << installed.error().message;
  EXPECT_NE(program_id_on("out0"), before);
  run("ip link add port0 type veth peer name peer0");
  EXPECT_EQ(engine_->follow_links(Look::kAtChanges), Engine::Links::kChanged);
  EXPECT_EQ(program_id_on("port0"), program_id_on("out0"));
}

// MTUs.

TEST_F(XdpEngineLinksTest, another_mtu_is_told_to_the_server) {
  ASSERT_NO_FATAL_FAILURE(start_engine());
  const uint32_t program = program_id_on("port0");
  run("ip link set port0 mtu 2000");
  EXPECT_EQ(engine_->follow_links(Look::kAtChanges), Engine::Links::kChanged);
  EXPECT_EQ(engine_->ports()[0].mtu, 2000);
  EXPECT_EQ(engine_->status()["ports"][0]["mtu"], 2000);
  EXPECT_EQ(engine_->follow_links(Look::kAtChanges), Engine::Links::kSame);
  run("ip link set port0 down && ip link set port0 name port9 && ip link set port9 mtu 1400 up");
  EXPECT_EQ(engine_->follow_links(Look::kAtChanges), Engine::Links::kChanged);
  EXPECT_EQ(engine_->ports()[0].mtu, 1400);
  EXPECT_EQ(program_id_on("port9"), program);
}

TEST_F(XdpEngineLinksTest, an_mtu_that_the_program_is_not_loaded_for_is_a_problem_until_it_is_another) {
  ASSERT_NO_FATAL_FAILURE(start_engine());
  run("ip link set port0 mtu 9000");
  EXPECT_EQ(engine_->follow_links(Look::kAtChanges), Engine::Links::kChanged);
  EXPECT_THAT(problem(), AllOf(HasSubstr("has MTU 9000, and the program is loaded for 3498 at most"),
                               HasSubstr("ip link set dev port0 mtu 1500")));
  EXPECT_NE(program_id_on("port0"), 0u);
  run("ip link set port0 mtu 1500");
  EXPECT_EQ(engine_->follow_links(Look::kAtChanges), Engine::Links::kChanged);
  EXPECT_EQ(problem(), "");
}

TEST_F(XdpEngineLinksTest, an_interface_has_to_have_the_configured_mtu) {
  make_out();
  ASSERT_NO_FATAL_FAILURE(start_both(",mtu=1500"));
  run("ip link set port0 mtu 1400");
  EXPECT_EQ(engine_->follow_links(Look::kAtChanges), Engine::Links::kChanged);
  EXPECT_THAT(problem(), HasSubstr("port front: mtu: \"1500\" is not that of port0, 1400"));
  EXPECT_NE(program_id_on("port0"), 0u) << "it forwards";
  run("ip link del port0 && ip link add port0 mtu 1400 type veth peer name peer0");
  EXPECT_EQ(engine_->follow_links(Look::kAtChanges), Engine::Links::kChanged);
  EXPECT_THAT(problem(), HasSubstr("port front: down: port front: mtu: \"1500\" is not that of port0, 1400"));
  run("ip link set port0 mtu 1500");
  EXPECT_EQ(engine_->follow_links(Look::kAtChanges), Engine::Links::kChanged);
  EXPECT_NE(program_id_on("port0"), 0u);
  EXPECT_EQ(problem(), "");
}

}  // namespace
}  // namespace sluice
