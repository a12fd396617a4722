#include "dataplane/xdp/engine.h"

#include <algorithm>
#include <iterator>

#include <gmock/gmock.h>
#include <nlohmann/json.hpp>

#include "dataplane/xdp/release.h"
#include "tests/xdp/engine_fixture.h"

namespace sluice {
namespace {

using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::UnorderedElementsAre;
using ::testing::UnorderedElementsAreArray;

using Look = Engine::Look;

constexpr uint32_t kMoreSlots = 300'000;  // than a program has room for at first

class XdpEngineTest : public XdpFixture {
 protected:
  std::vector<std::string> pinned() const {
    std::vector<std::string> names;
    for (const auto &entry : std::filesystem::directory_iterator(pin_directory()))
      if (entry.path().extension() != ".debug") names.push_back(entry.path().filename());
    return names;
  }
  /// Whether packets of port0 run through the map that is pinned.
  bool runs_through(std::string_view pin) const {
    bpf_map_info map = {};
    uint32_t map_size = sizeof(map);
    EXPECT_EQ(bpf_obj_get_info_by_fd(pins_->get(pin).get(), &map, &map_size), 0);
    const UniqueFd program(bpf_prog_get_fd_by_id(program_id_on("port0")));
    uint32_t maps[64] = {};
    bpf_prog_info info = {};
    info.nr_map_ids = std::size(maps);
    info.map_ids = reinterpret_cast<uintptr_t>(maps);
    uint32_t info_size = sizeof(info);
    EXPECT_EQ(bpf_obj_get_info_by_fd(program.get(), &info, &info_size), 0);
    return std::find(maps, maps + info.nr_map_ids, map.id) != maps + info.nr_map_ids;
  }

  uint32_t link_id(std::string_view pin) const {
    bpf_link_info info = {};
    uint32_t size = sizeof(info);
    EXPECT_EQ(bpf_obj_get_info_by_fd(pins_->get(pin).get(), &info, &size), 0) << pin;
    return info.id;
  }

  /// Marks a bucket as an entry would be.
  static void mark(const ConnectionRegion &region) {
    region.ipv4_buckets(1)[3].word[0] = 0x1234;
    region.ipv4_buckets(1)[3].word[1] = entry_word();
  }
  static bool is_marked(const ConnectionRegion &region) {
    return region.ipv4_buckets(1)[3].word[0] == 0x1234 && region.ipv4_buckets(1)[3].word[1] == entry_word();
  }
  static uint64_t entry_word() {
    static const uint64_t now_s = read_boot_clock().boottime_s;
    const uint64_t meta = kConnectionEstablished << kMetaStateShift | (now_s & kStampMask) << kMetaStampShift;
    return uint64_t{1} << 48 | meta << 32;
  }
};

TEST_F(XdpEngineTest, attaches_and_pins) {
  ASSERT_NO_FATAL_FAILURE(start_engine());
  EXPECT_NE(program_id_on("port0"), 0u);
  EXPECT_THAT(pinned(), UnorderedElementsAre("connections", "counters", "link-front",
                                             tail_calls_pin(program_id_on("port0"))));
  const nlohmann::json status = engine_->status();
  EXPECT_THAT(status["ports"][0]["mode"].get<std::string>(), HasSubstr("native"));
  EXPECT_EQ(status["ports"][0]["interface"], "port0");
  EXPECT_EQ(status["workers"].size(), 2u);
  EXPECT_GT(status["memory"]["tables_bytes"].get<uint64_t>(), 0u);
  ASSERT_EQ(engine_->ports().size(), 1u);
  EXPECT_EQ(engine_->ports()[0].kernel_ifindex, network_.port_ifindex());
}

TEST_F(XdpEngineTest, forwarding_goes_on_when_the_process_is_gone_and_the_next_takes_over) {
  ASSERT_NO_FATAL_FAILURE(start_engine());
  mark(*memory_.connections);
  memory_.counters->worker(0).transmitted_packets = 77;
  const uint32_t first = program_id_on("port0");
  ASSERT_NO_FATAL_FAILURE(forget_engine());
  EXPECT_EQ(program_id_on("port0"), first);

  ASSERT_NO_FATAL_FAILURE(start_engine());
  EXPECT_NE(program_id_on("port0"), first);
  EXPECT_NE(program_id_on("port0"), 0u);
  EXPECT_TRUE(is_marked(*memory_.connections));
  EXPECT_EQ(memory_.counters->worker(0).transmitted_packets, 77u);
  EXPECT_FALSE(memory_.file.has_value());
  EXPECT_TRUE(runs_through(kConnectionsPin));
  EXPECT_TRUE(runs_through(kCountersPin));
}

TEST_F(XdpEngineTest, a_larger_snapshot_swaps_the_program_and_keeps_connections_and_counts) {
  ASSERT_NO_FATAL_FAILURE(start_engine());
  EXPECT_TRUE(engine_->install(tables_of(100)).ok());
  mark(*memory_.connections);
  memory_.counters->worker(1).transmitted_packets = 77;
  const uint32_t first = program_id_on("port0");
  const std::shared_ptr<const ForwardingTables> larger = tables_of(kMoreSlots, 2);
  ASSERT_TRUE(engine_->make_room(larger->snapshot).ok());
  EXPECT_EQ(program_id_on("port0"), first) << "not before the tables are in";
  EXPECT_TRUE(engine_->install(larger).ok());
  EXPECT_NE(program_id_on("port0"), first);
  EXPECT_NE(program_id_on("port0"), 0u);
  EXPECT_TRUE(is_marked(*memory_.connections));
  EXPECT_EQ(memory_.counters->worker(1).transmitted_packets, 77u);
  EXPECT_TRUE(runs_through(kConnectionsPin));
  EXPECT_TRUE(runs_through(kCountersPin));
  EXPECT_FALSE(engine_->status().contains("problem"));
  // The next process has to find the same link and map.
  const uint32_t second = program_id_on("port0");
  ASSERT_NO_FATAL_FAILURE(forget_engine());
  EXPECT_EQ(program_id_on("port0"), second);
  ASSERT_NO_FATAL_FAILURE(open_memory(memory_options()));
  EXPECT_TRUE(is_marked(*memory_.connections));
}

TEST_F(XdpEngineTest, a_larger_snapshot_that_cannot_be_swapped_in_leaves_room_for_smaller_ones) {
  ASSERT_NO_FATAL_FAILURE(start_engine());
  EXPECT_TRUE(engine_->install(tables_of(100)).ok());
  const uint32_t first = program_id_on("port0");
  const std::string pins = pin_directory();
  ASSERT_EQ(::mount(nullptr, pins.c_str(), nullptr, MS_REMOUNT | MS_BIND | MS_RDONLY, nullptr), 0);
  const Status refused = engine_->install(tables_of(kMoreSlots, 2));
  ASSERT_FALSE(refused.ok());
  EXPECT_THAT(refused.error().message, HasSubstr("Read-only file system"));
  EXPECT_EQ(engine_->status()["problem"], refused.error().message);
  EXPECT_EQ(program_id_on("port0"), first);
  EXPECT_THAT(pinned(), UnorderedElementsAre("connections", "counters", "link-front", tail_calls_pin(first)));
  ASSERT_EQ(::mount(nullptr, pins.c_str(), nullptr, MS_REMOUNT | MS_BIND, nullptr), 0);
  EXPECT_TRUE(engine_->install(tables_of(100, 3)).ok());
  EXPECT_FALSE(engine_->status().contains("problem"));
}

TEST_F(XdpEngineTest, a_snapshot_that_fits_needs_no_other_program) {
  ASSERT_NO_FATAL_FAILURE(start_engine());
  const uint32_t first = program_id_on("port0");
  for (uint32_t revision = 1; revision < 4; revision++)
    EXPECT_TRUE(engine_->install(tables_of(100 * revision, revision)).ok());
  EXPECT_EQ(program_id_on("port0"), first);
}

TEST_F(XdpEngineTest, tables_for_other_workers_get_the_connections_when_they_take_the_place) {
  ASSERT_NO_FATAL_FAILURE(start_engine());
  mark(*memory_.connections);
  const uint32_t first = program_id_on("port0");
  ASSERT_NO_FATAL_FAILURE(forget_engine());
  XdpMemoryOptions options = memory_options();
  options.connections.worker_count = 1;  // the second table is left for adoption
  ASSERT_NO_FATAL_FAILURE(open_memory(options));
  EXPECT_EQ(memory_.connections->header().live_tables, 1u);
  EXPECT_FALSE(is_marked(*memory_.connections)) << "packets still run through the tables of before";
  EXPECT_EQ(program_id_on("port0"), first);
  ASSERT_NO_FATAL_FAILURE(start_engine());
  EXPECT_TRUE(is_marked(*memory_.connections));
  EXPECT_NE(program_id_on("port0"), first);
  EXPECT_TRUE(runs_through(kConnectionsPin));
  EXPECT_TRUE(runs_through(kCountersPin));
  EXPECT_FALSE(std::filesystem::exists(connections_path()));
}

TEST_F(XdpEngineTest, tables_that_there_is_no_memory_for_change_nothing) {
  ASSERT_NO_FATAL_FAILURE(start_engine());
  mark(*memory_.connections);
  const uint32_t first = program_id_on("port0");
  ASSERT_NO_FATAL_FAILURE(forget_engine());
  ASSERT_NO_FATAL_FAILURE(open_pins());
  for (const uint64_t connections : {uint64_t{1} << 30, uint64_t{1} << 33}) {
    XdpMemoryOptions options = memory_options();
    options.connections.ipv4_connections = connections;
    const Result<XdpMemory> refused = sluice::open_memory(options, *pins_);
    ASSERT_FALSE(refused.ok());
    EXPECT_THAT(refused.error().message, HasSubstr("--ipv4-connections"));
  }
  EXPECT_EQ(program_id_on("port0"), first);
  ASSERT_NO_FATAL_FAILURE(open_memory(memory_options()));
  EXPECT_TRUE(is_marked(*memory_.connections));
}

TEST_F(XdpEngineTest, what_is_pinned_is_not_pinned_anew_and_a_lost_pin_comes_back) {
  ASSERT_NO_FATAL_FAILURE(start_engine());
  mark(*memory_.connections);
  ASSERT_NO_FATAL_FAILURE(forget_engine());
  // As when a process was killed between taking a pin away and putting another there.
  std::filesystem::remove(pin_directory() / "connections");
  std::filesystem::remove(pin_directory() / "counters");
  ASSERT_NO_FATAL_FAILURE(start_engine());
  EXPECT_TRUE(is_marked(*memory_.connections));
  EXPECT_TRUE(runs_through(kConnectionsPin));
  EXPECT_TRUE(runs_through(kCountersPin));
}

TEST_F(XdpEngineTest, without_tables_what_forwards_goes_on_until_there_are_some) {
  ASSERT_NO_FATAL_FAILURE(start_engine());
  const uint32_t first = program_id_on("port0");
  ASSERT_NO_FATAL_FAILURE(forget_engine());
  ASSERT_NO_FATAL_FAILURE(create_engine());
  ASSERT_TRUE(engine_->start().ok());
  EXPECT_EQ(program_id_on("port0"), first);
  EXPECT_THAT(engine_->status()["problem"].get<std::string>(), HasSubstr("no tables yet"));
  EXPECT_TRUE(engine_->install(tables_of(kMoreSlots, 2)).ok());
  EXPECT_NE(program_id_on("port0"), first);
  EXPECT_FALSE(engine_->status().contains("problem"));
  EXPECT_THAT(pinned(), UnorderedElementsAre("connections", "counters", "link-front",
                                             tail_calls_pin(program_id_on("port0"))));
}

TEST_F(XdpEngineTest, a_large_stored_snapshot_leaves_the_tail_calls_of_what_forwards_until_it_takes_over) {
  ASSERT_NO_FATAL_FAILURE(start_engine());
  const std::string tail_calls = tail_calls_pin(program_id_on("port0"));
  ASSERT_NO_FATAL_FAILURE(forget_engine());
  ASSERT_NO_FATAL_FAILURE(create_engine());
  ASSERT_TRUE(engine_->install(tables_of(kMoreSlots)).ok());
  EXPECT_TRUE(std::filesystem::exists(pin_directory() / tail_calls));
  ASSERT_TRUE(engine_->start().ok());
  EXPECT_FALSE(std::filesystem::exists(pin_directory() / tail_calls));
}

TEST_F(XdpEngineTest, connections_go_from_the_file_to_the_map_and_back) {
  {
    Result<ConnectionRegion> dpdk = ConnectionRegion::open(memory_options().connections, read_boot_clock());
    ASSERT_TRUE(dpdk.ok()) << dpdk.error().message;
    mark(dpdk.value());
  }
  ASSERT_NO_FATAL_FAILURE(start_engine());
  EXPECT_TRUE(is_marked(*memory_.connections));
  EXPECT_EQ(memory_.counters->backends(1)[1].active_connections, 1u) << "counted from the table";
  ASSERT_TRUE(memory_.file->discard().ok());
  EXPECT_FALSE(std::filesystem::exists(connections_path()));
  ASSERT_NO_FATAL_FAILURE(forget_engine());

  Result<std::string> released = release(pin_directory(), connections_path());
  ASSERT_TRUE(released.ok()) << released.error().message;
  EXPECT_THAT(released.value(), HasSubstr("detached from ports front"));
  EXPECT_EQ(program_id_on("port0"), 0u);
  EXPECT_FALSE(std::filesystem::exists(pin_directory()));
  Result<ConnectionRegion> again = ConnectionRegion::open(memory_options().connections, read_boot_clock());
  ASSERT_TRUE(again.ok()) << again.error().message;
  EXPECT_TRUE(is_marked(again.value()));
}

TEST_F(XdpEngineTest, pinned_tables_that_no_packets_run_through_are_copied_into_new_ones) {
  ASSERT_NO_FATAL_FAILURE(start_engine());
  mark(*memory_.connections);
  ASSERT_NO_FATAL_FAILURE(forget_engine());
  std::filesystem::remove(pin_directory() / "link-front");
  ASSERT_NO_FATAL_FAILURE(open_memory(memory_options()));
  EXPECT_TRUE(is_marked(*memory_.connections));
  EXPECT_THAT(memory_.connections->opened_as(), HasSubstr("kept 2 tables for 2 workers"))
      << "stamps may be out of date: they have to be looked at";
  EXPECT_EQ(memory_.counters->backends(1)[1].active_connections, 1u);
}

TEST_F(XdpEngineTest, a_release_that_has_no_room_for_the_file_detaches_nothing) {
  const std::filesystem::path small = directory_.path() / "small";
  std::filesystem::create_directory(small);
  ASSERT_EQ(::mount("tmpfs", small.c_str(), "tmpfs", 0, "size=1m"), 0);
  ASSERT_NO_FATAL_FAILURE(start_engine());
  const uint32_t first = program_id_on("port0");
  ASSERT_NO_FATAL_FAILURE(forget_engine());
  const Result<std::string> refused = release(pin_directory(), small / "connections");
  ASSERT_FALSE(refused.ok());
  EXPECT_THAT(refused.error().message, HasSubstr("its filesystem has 1 MiB free"));
  EXPECT_EQ(program_id_on("port0"), first);
  ASSERT_NO_FATAL_FAILURE(start_engine());
  ::umount2(small.c_str(), MNT_DETACH);
}

TEST_F(XdpEngineTest, a_release_that_is_undone_forwards_again_with_its_connections) {
  ASSERT_NO_FATAL_FAILURE(start_engine(XdpModeChoice::kGeneric));
  mark(*memory_.connections);
  const uint32_t first = program_id_on("port0");
  ASSERT_NO_FATAL_FAILURE(forget_engine());
  {
    PinnedEngine pinned(pin_directory(), connections_path());
    ASSERT_TRUE(pinned.stop().ok());
    EXPECT_EQ(program_id_on("port0"), 0u);
    EXPECT_TRUE(std::filesystem::exists(connections_path()));
    pinned.resume();
  }
  EXPECT_EQ(program_id_on("port0"), first);
  EXPECT_EQ(program_on("port0", network_.port_ifindex()).value().mode, XdpMode::kGeneric);
  EXPECT_FALSE(std::filesystem::exists(connections_path())) << "the map is the only holder";
  ASSERT_NO_FATAL_FAILURE(start_engine());
  EXPECT_TRUE(is_marked(*memory_.connections));
}

TEST_F(XdpEngineTest, killed_in_the_middle_of_a_release_it_leaves_the_connections) {
  ASSERT_NO_FATAL_FAILURE(start_engine());
  mark(*memory_.connections);
  ASSERT_NO_FATAL_FAILURE(forget_engine());
  {
    PinnedEngine pinned(pin_directory(), connections_path());
    ASSERT_TRUE(pinned.stop().ok());  // and neither resumed nor forgotten
  }
  ASSERT_NO_FATAL_FAILURE(start_engine());
  EXPECT_TRUE(is_marked(*memory_.connections));
  EXPECT_TRUE(memory_.file.has_value());
}

TEST_F(XdpEngineTest, releasing_nothing_is_fine_and_a_running_engine_is_left_alone) {
  Result<std::string> nothing = release(pin_directory(), connections_path());
  ASSERT_TRUE(nothing.ok());
  EXPECT_EQ(nothing.value(), "");
  ASSERT_NO_FATAL_FAILURE(start_engine());
  EXPECT_FALSE(release(pin_directory(), connections_path()).ok());
  EXPECT_NE(program_id_on("port0"), 0u);
}

TEST_F(XdpEngineTest, a_foreign_program_stays_and_nothing_is_left_pinned_for_the_port) {
  const UniqueFd other = load_program("firewall");
  const Result<Attachment> there =
      attach(other.get(), "port0", network_.port_ifindex(), XdpModeChoice::kAuto);
  ASSERT_TRUE(there.ok());
  ASSERT_NO_FATAL_FAILURE(create_engine());
  const Status started = engine_->start();
  ASSERT_FALSE(started.ok());
  EXPECT_THAT(started.error().message, HasSubstr("port front"));
  EXPECT_EQ(program_on("port0", network_.port_ifindex()).value().name, "firewall");
  EXPECT_FALSE(std::filesystem::exists(pin_directory() / "link-front"));
}

TEST_F(XdpEngineTest, a_link_of_a_port_that_is_no_more_is_detached) {
  run("ip link add port1 type veth peer name peer1 && ip link set port1 up");
  ASSERT_NO_FATAL_FAILURE(start_engine());
  const UniqueFd program = load_program("ours");
  Result<Attachment> other =
      attach(program.get(), "port1", interface_facts("port1").ifindex, XdpModeChoice::kAuto);
  ASSERT_TRUE(other.ok());
  ASSERT_TRUE(pins_->put(link_pin("back"), other.value().link.get()).ok());
  ASSERT_NO_FATAL_FAILURE(forget_engine());
  ASSERT_NO_FATAL_FAILURE(start_engine());
  EXPECT_EQ(program_id_on("port1"), 0u);
  EXPECT_THAT(pinned(), UnorderedElementsAre("connections", "counters", "link-front",
                                             tail_calls_pin(program_id_on("port0"))));
}

TEST_F(XdpEngineTest, a_port_whose_interface_goes_is_down_until_one_of_its_name_is_back) {
  ASSERT_NO_FATAL_FAILURE(start_engine());
  ASSERT_TRUE(engine_->install(tables_of(100)).ok());
  mark(*memory_.connections);
  EXPECT_EQ(engine_->follow_links(Look::kAtChanges), Engine::Links::kSame);
  run("ip link del port0");
  EXPECT_EQ(engine_->follow_links(Look::kAtChanges), Engine::Links::kChanged);
  EXPECT_EQ(engine_->ports()[0].kernel_ifindex, 0u);
  EXPECT_THAT(engine_->status()["ports"][0]["mode"].get<std::string>(),
              HasSubstr("interface port0 has gone"));
  EXPECT_THAT(engine_->status()["problem"].get<std::string>(), HasSubstr("port front: down"));
  EXPECT_FALSE(std::filesystem::exists(pin_directory() / "link-front"));
  EXPECT_EQ(engine_->follow_links(Look::kAtChanges), Engine::Links::kSame) << "said once";

  run("ip link add port0 type veth peer name peer0");
  EXPECT_EQ(engine_->follow_links(Look::kAtChanges), Engine::Links::kChanged);
  EXPECT_EQ(engine_->ports()[0].kernel_ifindex, network_.port_ifindex());
  EXPECT_NE(program_id_on("port0"), 0u);
  EXPECT_TRUE(runs_through(kConnectionsPin));
  EXPECT_TRUE(is_marked(*memory_.connections));
  EXPECT_THAT(interface_facts("port0").addresses, UnorderedElementsAre("10.0.0.1"));
  EXPECT_FALSE(engine_->status().contains("problem"));
  EXPECT_THAT(pinned(), UnorderedElementsAre("connections", "counters", "link-front",
                                             tail_calls_pin(program_id_on("port0"))));
}

TEST_F(XdpEngineTest, a_larger_snapshot_is_taken_while_a_port_is_down) {
  ASSERT_NO_FATAL_FAILURE(start_engine());
  run("ip link del port0");
  EXPECT_EQ(engine_->follow_links(Look::kAtChanges), Engine::Links::kChanged);
  const Status installed = engine_->install(tables_of(kMoreSlots));
  EXPECT_TRUE(installed.ok()) << installed.error().message;
  run("ip link add port0 type veth peer name peer0");
  EXPECT_EQ(engine_->follow_links(Look::kAtChanges), Engine::Links::kChanged);
  EXPECT_NE(program_id_on("port0"), 0u);
  EXPECT_TRUE(engine_->install(tables_of(kMoreSlots, 2)).ok());
}

TEST_F(XdpEngineTest, an_interface_that_is_back_and_cannot_be_the_ports_is_said_to_be_so) {
  ASSERT_NO_FATAL_FAILURE(start_engine());
  run("ip link del port0 && ip link add port0 mtu 9000 type veth peer name peer0 mtu 9000");
  EXPECT_EQ(engine_->follow_links(Look::kAtChanges), Engine::Links::kChanged);
  EXPECT_THAT(engine_->status()["problem"].get<std::string>(), HasSubstr("has MTU 9000"));
  EXPECT_EQ(engine_->ports()[0].kernel_ifindex, 0u);
  EXPECT_EQ(engine_->follow_links(Look::kAtChanges), Engine::Links::kSame);
  run("ip link set port0 mtu 1500");
  EXPECT_EQ(engine_->follow_links(Look::kAtChanges), Engine::Links::kChanged);
  EXPECT_NE(program_id_on("port0"), 0u);
}

TEST_F(XdpEngineTest, an_interface_with_another_name_is_still_the_ports) {
  ASSERT_NO_FATAL_FAILURE(start_engine());
  const uint32_t program = program_id_on("port0");
  run("ip link set port0 down && ip link set port0 name port9 && ip link set port9 up");
  EXPECT_EQ(engine_->follow_links(Look::kAtChanges), Engine::Links::kSame);
  EXPECT_EQ(program_id_on("port9"), program);
  EXPECT_TRUE(std::filesystem::exists(pin_directory() / "link-front"));
}

TEST_F(XdpEngineTest, a_failed_start_leaves_nothing_pinned) {
  const UniqueFd other = load_program("firewall");
  const Result<Attachment> there =
      attach(other.get(), "port0", network_.port_ifindex(), XdpModeChoice::kAuto);
  ASSERT_TRUE(there.ok());
  ASSERT_NO_FATAL_FAILURE(create_engine());
  ASSERT_FALSE(engine_->start().ok());
  EXPECT_THAT(pinned(), IsEmpty());
}

TEST_F(XdpEngineTest, tail_calls_that_nobody_needs_are_released) {
  ASSERT_NO_FATAL_FAILURE(start_engine());
  ASSERT_NO_FATAL_FAILURE(forget_engine());
  for (const char *name : {"connections", "counters", "link-front"})
    std::filesystem::remove(pin_directory() / name);
  const Result<std::string> released = release(pin_directory(), connections_path());
  ASSERT_TRUE(released.ok()) << released.error().message;
  EXPECT_FALSE(std::filesystem::exists(pin_directory()));
}

TEST_F(XdpEngineTest, a_pin_that_cannot_be_removed_keeps_no_other) {
  ASSERT_NO_FATAL_FAILURE(start_engine());
  for (const uint32_t program : {1, 2, 3})
    ASSERT_TRUE(pins_->put(tail_calls_pin(program), pins_->get(kCountersPin).get()).ok());
  const std::vector<std::string> kept = {"connections", "link-front", tail_calls_pin(2)};
  for (const std::string &name : kept) {  // nothing that is mounted on can be removed
    const std::string file = pin_directory() / name;
    ASSERT_EQ(::mount(file.c_str(), file.c_str(), nullptr, MS_BIND, nullptr), 0) << std::strerror(errno);
  }
  ASSERT_NO_FATAL_FAILURE(forget_engine());
  const Result<std::string> released = release(pin_directory(), connections_path());
  ASSERT_FALSE(released.ok());
  for (const std::string &name : kept)
    EXPECT_THAT(released.error().message, HasSubstr(name + ": cannot remove: Device or resource busy"));
  EXPECT_THAT(pinned(), UnorderedElementsAreArray(kept));
  for (const std::string &name : kept) ::umount2((pin_directory() / name).c_str(), MNT_DETACH);
  EXPECT_TRUE(release(pin_directory(), connections_path()).ok());
  EXPECT_FALSE(std::filesystem::exists(pin_directory()));
}

TEST_F(XdpEngineTest, another_mode_than_the_pinned_one_is_attached_anew) {
  ASSERT_NO_FATAL_FAILURE(start_engine());
  ASSERT_NO_FATAL_FAILURE(forget_engine());
  ASSERT_NO_FATAL_FAILURE(start_engine(XdpModeChoice::kGeneric));
  EXPECT_EQ(program_on("port0", network_.port_ifindex()).value().mode, XdpMode::kGeneric);
  const uint32_t program = program_id_on("port0");
  ASSERT_NO_FATAL_FAILURE(forget_engine());
  EXPECT_EQ(program_id_on("port0"), program) << "it is pinned";
}

TEST_F(XdpEngineTest, another_mode_that_the_driver_does_not_have_leaves_what_is_there) {
  run("ip link add bridge0 type bridge && ip link set bridge0 up");
  interface_ = "bridge0";
  ASSERT_NO_FATAL_FAILURE(start_engine());
  mark(*memory_.connections);
  const uint32_t first = program_id_on("bridge0");
  ASSERT_NE(first, 0u);
  ASSERT_NO_FATAL_FAILURE(forget_engine());
  ASSERT_NO_FATAL_FAILURE(create_engine(XdpModeChoice::kNative));
  ASSERT_TRUE(engine_->install(tables_of(100)).ok());
  EXPECT_FALSE(engine_->start().ok());
  ASSERT_NO_FATAL_FAILURE(forget_engine());
  EXPECT_EQ(program_id_on("bridge0"), first);
  EXPECT_THAT(pinned(), UnorderedElementsAre("connections", "counters", "link-front", tail_calls_pin(first)));
  ASSERT_NO_FATAL_FAILURE(start_engine());
  EXPECT_TRUE(is_marked(*memory_.connections));
}

TEST_F(XdpEngineTest, a_port_that_is_named_otherwise_keeps_its_link) {
  ASSERT_NO_FATAL_FAILURE(start_engine());
  const uint32_t link = link_id("link-front");
  ASSERT_NO_FATAL_FAILURE(forget_engine());
  port_name_ = "inside";
  ASSERT_NO_FATAL_FAILURE(start_engine());
  EXPECT_EQ(link_id("link-inside"), link);
  EXPECT_FALSE(std::filesystem::exists(pin_directory() / "link-front"));
  EXPECT_NE(program_id_on("port0"), 0u);
}

TEST_F(XdpEngineTest, a_link_that_somebody_detached_is_made_again_when_the_program_is_exchanged) {
  ASSERT_NO_FATAL_FAILURE(start_engine());
  ASSERT_EQ(bpf_link_detach(pins_->get(link_pin("front")).get()), 0);
  EXPECT_EQ(program_id_on("port0"), 0u);
  const Status installed = engine_->install(tables_of(kMoreSlots, 2));
  ASSERT_TRUE(installed.ok()) << installed.error().message;
  const uint32_t second = program_id_on("port0");
  EXPECT_NE(second, 0u);
  ASSERT_NO_FATAL_FAILURE(forget_engine());
  EXPECT_EQ(program_id_on("port0"), second) << "it is pinned";
}

TEST_F(XdpEngineTest, each_worker_is_told_of_the_others_active_connections) {
  ASSERT_NO_FATAL_FAILURE(start_engine());
  EXPECT_TRUE(engine_->install(tables_of(100)).ok());
  memory_.counters->backends(0)[1].active_connections = 5;
  memory_.counters->backends(1)[1].active_connections = 7;
  engine_->merge_active_connections();
  EXPECT_EQ(engine_->others_active(0, 1), 7u);
  EXPECT_EQ(engine_->others_active(1, 1), 5u);
}

TEST_F(XdpEngineTest, what_has_expired_is_swept_out) {
  ASSERT_NO_FATAL_FAILURE(create_engine());
  EXPECT_TRUE(engine_->install(tables_of(100)).ok());
  const uint64_t long_ago_s = read_boot_clock().boottime_s + kStampMask + 1 - 2000;
  const uint64_t meta = kConnectionEstablished << kMetaStateShift | (long_ago_s & kStampMask)
                                                                        << kMetaStampShift;
  for (uint32_t worker : {0u, 1u}) {
    memory_.connections->ipv4_buckets(worker)[3].word[0] = 0x1234;
    memory_.connections->ipv4_buckets(worker)[3].word[1] = uint64_t{1} << 48 | meta << 32;
  }
  ASSERT_TRUE(engine_->start().ok());
  const auto is_empty = [&](uint32_t worker) {
    return __atomic_load_n(&memory_.connections->ipv4_buckets(worker)[3].word[1], __ATOMIC_RELAXED) == 0;
  };
  for (int i = 0; i < 300 && !(is_empty(0) && is_empty(1)); i++) ::usleep(100'000);
  EXPECT_TRUE(is_empty(0));
  EXPECT_TRUE(is_empty(1));
}

}  // namespace
}  // namespace sluice
