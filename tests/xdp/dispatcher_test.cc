// The engine under libxdp's dispatcher, beside other programs. Needs root and a kernel that lets programs
// replace functions of others (freplace); tests/xdp/on_kernel.py runs it on one.
#include "dataplane/xdp/dispatcher.h"

#include <atomic>
#include <cstring>
#include <thread>

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <linux/if_packet.h>
#include <net/ethernet.h>
#include <net/if.h>
#include <sys/socket.h>
#include <xdp/libxdp.h>

#include "dataplane/xdp/port_attachment.h"
#include "dataplane/xdp/release.h"
#include "tests/xdp/counting.skel.h"
#include "tests/xdp/engine_fixture.h"

namespace sluice {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

/// For as long as it lives, libxdp finds no dispatcher to make: a program cannot be taken out from beside
/// another.
class NoDispatcherFile {
 public:
  NoDispatcherFile() { ::setenv("LIBXDP_OBJECT_PATH", "/nowhere", 1); }
  NoDispatcherFile(const NoDispatcherFile &) = delete;
  NoDispatcherFile &operator=(const NoDispatcherFile &) = delete;
  ~NoDispatcherFile() { ::unsetenv("LIBXDP_OBJECT_PATH"); }
};

constexpr uint32_t kMoreSlots = 300'000;  // than a program has room for at first

/// Under the dispatcher of an interface, before the engine's entry.
class CountingProgram {
 public:
  explicit CountingProgram(const std::string &interface)
      : ifindex_(static_cast<int>(::if_nametoindex(interface.c_str()))), object_(counting::open()) {
    DECLARE_LIBXDP_OPTS(xdp_program_opts, options, .obj = object_->obj);
    program_ = xdp_program__create(&options);
    EXPECT_EQ(libxdp_get_error(program_), 0);
    EXPECT_EQ(xdp_program__set_run_prio(program_, 10), 0);
    EXPECT_EQ(xdp_program__attach(program_, ifindex_, XDP_MODE_NATIVE, 0), 0);
  }
  CountingProgram(const CountingProgram &) = delete;
  CountingProgram &operator=(const CountingProgram &) = delete;
  ~CountingProgram() {
    xdp_program__detach(program_, ifindex_, XDP_MODE_NATIVE, 0);
    xdp_program__close(program_);
    counting::destroy(object_);
  }

  uint32_t id() const { return xdp_program__id(program_); }
  uint64_t counted() const {
    uint64_t value = 0;
    const uint32_t element = 0;
    EXPECT_EQ(bpf_map_lookup_elem(bpf_map__fd(object_->maps.bss), &element, &value), 0);
    return value;
  }

 private:
  int ifindex_;
  counting *object_;
  xdp_program *program_ = nullptr;
};

/// Sends frames out of an interface for as long as it lives.
class Sender {
 public:
  explicit Sender(const std::string &interface) : thread_([this, interface] { run(interface); }) {}
  Sender(const Sender &) = delete;
  Sender &operator=(const Sender &) = delete;
  ~Sender() {
    stop_ = true;
    thread_.join();
  }
  void wait_for(uint64_t more) const {
    const uint64_t wanted = sent_ + more;
    while (sent_ < wanted) ::usleep(1000);
  }

 private:
  void run(const std::string &interface) {
    const UniqueFd socket(::socket(AF_PACKET, SOCK_RAW, 0));
    sockaddr_ll to = {};
    to.sll_family = AF_PACKET;
    to.sll_ifindex = static_cast<int>(::if_nametoindex(interface.c_str()));
    uint8_t frame[64] = {};
    frame[12] = 0x08;  // IPv4, and nothing right behind it
    while (!stop_) {
      if (::sendto(socket.get(), frame, sizeof(frame), 0, reinterpret_cast<sockaddr *>(&to), sizeof(to)) > 0)
        sent_++;
      ::usleep(100);
    }
  }

  std::atomic<bool> stop_ = false;
  std::atomic<uint64_t> sent_ = 0;
  std::thread thread_;
};

/// Port "front" is port1, whose other end, peer1, is in the same namespace.
class DispatcherTest : public XdpFixture {
 protected:
  // libxdp looks for its files there, and thinks once only that it has to make its folder.
  static void SetUpTestSuite() {
    ASSERT_EQ(::unshare(CLONE_NEWNS), 0) << "needs root";
    ASSERT_EQ(::mount("none", "/", nullptr, MS_REC | MS_PRIVATE, nullptr), 0) << std::strerror(errno);
    ASSERT_EQ(::mount("bpf", "/sys/fs/bpf", "bpf", 0, nullptr), 0) << std::strerror(errno);
  }
  void SetUp() override {
    XdpFixture::SetUp();
    run("ip link add port1 type veth peer name peer1 && ip link set port1 up && ip link set peer1 up");
  }
  void TearDown() override {
    if (engine_) {
      forget_engine();
      EXPECT_TRUE(release(pin_directory(), connections_path()).ok());
    }
    XdpFixture::TearDown();
  }

  static uint32_t ifindex() { return ::if_nametoindex("port1"); }
  static std::vector<DispatchedProgram> dispatched() {
    const Result<std::optional<Dispatcher>> there = dispatcher_on("port1", ifindex());
    EXPECT_TRUE(there.ok()) << there.error().message;
    return there.value() ? there.value()->programs : std::vector<DispatchedProgram>();
  }
  static uint32_t entries() {
    uint32_t found = 0;
    for (const DispatchedProgram &program : dispatched()) found += program.name == "sluice_entry" ? 1 : 0;
    return found;
  }

  static void take_entries_out() {
    for (const DispatchedProgram &program : dispatched()) {
      if (program.name != "sluice_entry") continue;
      xdp_program *entry = xdp_program__from_id(program.id);
      ASSERT_EQ(xdp_program__detach(entry, static_cast<int>(ifindex()), XDP_MODE_NATIVE, 0), 0);
      xdp_program__close(entry);
    }
  }

  /// What a process leaves that is killed before it has pinned its entry.
  static void add_dead_entry() {
    const UniqueFd program = load_program("ours");
    uint32_t entry = 0;
    {
      const Result<PortAttachment> made = PortAttachment::make(program.get(), PortSharing::kDispatcher,
                                                               {.interface = "port1", .ifindex = ifindex()});
      ASSERT_TRUE(made.ok()) << made.error().message;
      entry = made.value().program();
    }
    const UniqueFd fd(bpf_prog_get_fd_by_id(entry));
    ASSERT_TRUE(map_of_program(fd.get(), "sluice_jump").valid());
    // The kernel empties it a little later.
    while (program_behind(map_of_program(fd.get(), "sluice_jump").get()) != 0) ::usleep(1000);
  }

  /// With front_, and interfaces beside it that are alone.
  Status start(PortSharing sharing = PortSharing::kDispatcher, XdpModeChoice mode = XdpModeChoice::kAuto,
               const std::vector<std::string> &others = {}) {
    open_memory(memory_options());
    std::vector<std::string> ports = {"name=front,interface=" + front_};
    std::vector<std::string> names = {front_};
    std::vector<InterfaceFacts> facts = {interface_facts(front_)};
    for (const std::string &other : others) {
      ports.push_back(fmt::format("name={},interface={}", other, other));
      names.push_back(other);
      facts.push_back(interface_facts(other));
    }
    XdpPreflight preflight =
        make_preflight(parse_ports(ports).value(), facts, names, probe_kernel().value()).value();
    preflight.ports[0].sharing = sharing;
    engine_ = std::make_unique<XdpEngine>(preflight, mode, std::move(memory_.program), setup());
    Status started = engine_->install(tables_of(100));
    return started.ok() ? engine_->start() : started;
  }
  void start_well() {
    const Status started = start();
    ASSERT_TRUE(started.ok()) << started.error().message;
  }
  /// The program that the entry jumps to.
  uint32_t jumps_to() const {
    uint32_t program = 0;
    const uint32_t element = 0;
    EXPECT_EQ(bpf_map_lookup_elem(pins_->get(jump_pin("front")).get(), &element, &program), 0);
    return program;
  }
  uint64_t received() const {
    uint64_t sum = 0;
    for (uint32_t worker = 0; worker < 2; worker++) sum += memory_.counters->worker(worker).received_packets;
    return sum;
  }

  std::string front_ = "port1";
};

TEST_F(DispatcherTest, this_kernel_has_dispatchers) { EXPECT_EQ(why_no_dispatcher(), ""); }

TEST_F(DispatcherTest, the_engine_is_in_a_dispatcher_that_is_made_and_goes_with_it) {
  ASSERT_NO_FATAL_FAILURE(start_well());
  EXPECT_EQ(program_on("port1", ifindex()).value().name, "xdp_dispatcher");
  EXPECT_EQ(entries(), 1u);
  EXPECT_THAT(engine_->preflight().ports[0].mode, HasSubstr("native: under libxdp's dispatcher"));
  forget_engine();
  EXPECT_EQ(entries(), 1u);
  const Result<std::string> released = release(pin_directory(), connections_path());
  ASSERT_TRUE(released.ok()) << released.error().message;
  EXPECT_EQ(program_id_on("port1"), 0u);
  EXPECT_FALSE(std::filesystem::exists(pin_directory()));
}

TEST_F(DispatcherTest, packets_run_through_both_programs_and_the_other_ones_stays) {
  CountingProgram other("port1");
  ASSERT_NO_FATAL_FAILURE(start_well());
  const uint64_t counted = other.counted();
  const uint64_t before = received();
  {
    const Sender sender("peer1");
    sender.wait_for(100);
  }
  EXPECT_GE(received() - before, 100u);
  EXPECT_EQ(received() - before, other.counted() - counted);
  engine_.reset();
  memory_ = {};
  ASSERT_TRUE(release(*pins_, connections_path()).ok());
  ASSERT_EQ(dispatched().size(), 1u);
  EXPECT_EQ(dispatched()[0].id, other.id());
}

TEST_F(DispatcherTest,
       no_packet_goes_past_it_while_processes_take_over_programs_grow_and_others_come_and_go) {
  CountingProgram other("port1");
  ASSERT_NO_FATAL_FAILURE(start_well());
  const uint64_t offset = other.counted() - received();
  {
    const Sender sender("peer1");
    for (uint32_t round = 1; round < 4; round++) {
      sender.wait_for(50);
      const uint32_t before = jumps_to();
      forget_engine();
      sender.wait_for(50);
      ASSERT_NO_FATAL_FAILURE(start_well());
      const uint32_t after = jumps_to();
      EXPECT_NE(after, before);
      EXPECT_THAT(engine_->preflight().ports[0].mode, HasSubstr("as the process before this one"));
      EXPECT_EQ(entries(), 1u);
      EXPECT_TRUE(engine_->install(tables_of(100, round)).ok());
      EXPECT_TRUE(engine_->install(tables_of(kMoreSlots, round + 1)).ok());
      EXPECT_NE(jumps_to(), after) << "the larger one";
      const CountingProgram third("port1");
      sender.wait_for(50);
    }
  }
  EXPECT_GT(received(), 400u);
  EXPECT_EQ(received() + offset, other.counted());
}

TEST_F(DispatcherTest, an_entry_that_somebody_takes_out_while_it_runs_is_put_in_anew) {
  CountingProgram other("port1");
  ASSERT_NO_FATAL_FAILURE(start_well());
  EXPECT_EQ(engine_->follow_links(Engine::Look::kAtAll), Engine::Links::kSame);
  EXPECT_EQ(entries(), 1u) << "one is there";
  const auto packets_come = [this] {
    const uint64_t before = received();
    const Sender sender("peer1");
    sender.wait_for(100);
    return received() > before;
  };
  take_entries_out();
  ASSERT_FALSE(packets_come());
  EXPECT_EQ(engine_->follow_links(Engine::Look::kAtAll), Engine::Links::kSame);
  EXPECT_EQ(entries(), 1u);
  EXPECT_TRUE(packets_come());

  take_entries_out();
  const Status installed = engine_->install(tables_of(kMoreSlots, 2));
  EXPECT_TRUE(installed.ok()) << installed.error().message;
  EXPECT_EQ(entries(), 1u);
  EXPECT_TRUE(packets_come());
  forget_engine();
  EXPECT_EQ(entries(), 1u);
  EXPECT_NE(program_behind(UniqueFd(bpf_obj_get((pin_directory() / jump_pin("front")).c_str())).get()), 0u)
      << "it is pinned";
}

TEST_F(DispatcherTest, a_port_whose_dispatcher_somebody_replaced_by_another_program_is_down) {
  ASSERT_NO_FATAL_FAILURE(start_well());
  take_entries_out();
  const UniqueFd firewall = load_program("firewall");
  const Result<Attachment> there = attach(firewall.get(), "port1", ifindex(), XdpModeChoice::kAuto);
  ASSERT_TRUE(there.ok());
  const Status installed = engine_->install(tables_of(kMoreSlots, 2));
  EXPECT_TRUE(installed.ok()) << installed.error().message;
  EXPECT_THAT(engine_->preflight().ports[0].mode, HasSubstr("down: somebody has detached the program"));
  EXPECT_EQ(program_on("port1", ifindex()).value().name, "firewall");
}

TEST_F(DispatcherTest, an_entry_that_somebody_took_out_is_put_in_anew) {
  CountingProgram other("port1");
  for (const std::vector<std::string> &others : {std::vector<std::string>{}, {"port0"}}) {
    const Status started = start(PortSharing::kDispatcher, XdpModeChoice::kAuto, others);
    ASSERT_TRUE(started.ok()) << started.error().message;
    EXPECT_EQ(entries(), 1u) << "with " << others.size() << " others, by which packets still come";
    take_entries_out();
    forget_engine();
    EXPECT_EQ(entries(), 0u);
  }
  const Status started = start(PortSharing::kDispatcher, XdpModeChoice::kAuto, {"port0"});
  ASSERT_TRUE(started.ok()) << started.error().message;
  EXPECT_EQ(entries(), 1u);
}

TEST_F(DispatcherTest, the_other_mode_than_the_dispatchers_is_refused) {
  CountingProgram other("port1");
  const Status started = start(PortSharing::kDispatcher, XdpModeChoice::kGeneric);
  ASSERT_FALSE(started.ok());
  EXPECT_THAT(started.error().message, HasSubstr("in the other mode, native, for \"counting\""));
  EXPECT_EQ(dispatched().size(), 1u);
  engine_.reset();
}

TEST_F(DispatcherTest, a_release_that_cannot_take_the_entry_out_leaves_all_ports_forwarding) {
  CountingProgram other("port1");
  const Status started = start(PortSharing::kDispatcher, XdpModeChoice::kAuto, {"port0"});
  ASSERT_TRUE(started.ok()) << started.error().message;
  const uint32_t front = jumps_to();
  ASSERT_NE(front, 0u);
  forget_engine();
  {
    const NoDispatcherFile no_file;
    const Result<std::string> released = release(pin_directory(), connections_path());
    ASSERT_FALSE(released.ok());
    EXPECT_THAT(released.error().message,
                AllOf(HasSubstr("port front: "), HasSubstr("cannot be taken out of libxdp's dispatcher")));
  }
  open_pins();
  EXPECT_EQ(jumps_to(), front);
  EXPECT_EQ(entries(), 1u);
  EXPECT_EQ(program_id_on("port0"), front);
  std::error_code missing;
  const uintmax_t saved = std::filesystem::file_size(connections_path(), missing);
  EXPECT_TRUE(missing || saved == 0) << "the map is the only holder";
  EXPECT_TRUE(release(*pins_, connections_path()).ok());
  EXPECT_EQ(entries(), 0u);
  EXPECT_EQ(program_id_on("port0"), 0u);
}

TEST_F(DispatcherTest, a_shared_port_that_cannot_be_taken_out_to_be_alone_stays_as_it_is) {
  CountingProgram other("port1");
  ASSERT_NO_FATAL_FAILURE(start_well());
  const uint32_t before = jumps_to();
  forget_engine();
  {
    const NoDispatcherFile no_file;
    const Status started = start(PortSharing::kAlone);
    ASSERT_FALSE(started.ok());
    EXPECT_THAT(started.error().message, HasSubstr("port front: "));
  }
  EXPECT_EQ(jumps_to(), before);
  EXPECT_EQ(entries(), 1u);
}

TEST_F(DispatcherTest, an_entry_that_is_no_ports_and_cannot_be_taken_out_runs_whole_until_a_start_can) {
  CountingProgram other("port1");
  ASSERT_NO_FATAL_FAILURE(start_well());
  const uint32_t before = jumps_to();
  const std::filesystem::path tail_calls = pin_directory() / tail_calls_pin(before);
  forget_engine();
  port_name_ = "back";  // on port0
  {
    const NoDispatcherFile no_file;
    ASSERT_NO_FATAL_FAILURE(start_engine());
  }
  EXPECT_EQ(jumps_to(), before);
  EXPECT_EQ(entries(), 1u);
  EXPECT_TRUE(std::filesystem::exists(tail_calls));
  forget_engine();
  ASSERT_NO_FATAL_FAILURE(start_engine());
  EXPECT_EQ(entries(), 0u);
  EXPECT_FALSE(std::filesystem::exists(pin_directory() / "entry-front"));
  EXPECT_FALSE(std::filesystem::exists(tail_calls));
}

TEST_F(DispatcherTest, a_shared_port_that_moves_to_another_interface_leaves_no_entry_on_the_one_before) {
  CountingProgram other("port1");
  for (const PortSharing sharing : {PortSharing::kAlone, PortSharing::kDispatcher}) {
    ASSERT_NO_FATAL_FAILURE(start_well());
    EXPECT_EQ(entries(), 1u);
    EXPECT_EQ(program_id_on("port0"), 0u) << "where it was before";
    forget_engine();
    front_ = "port0";
    const Status started = start(sharing);
    ASSERT_TRUE(started.ok()) << started.error().message;
    EXPECT_NE(program_id_on("port0"), 0u);
    ASSERT_EQ(dispatched().size(), 1u);
    EXPECT_EQ(dispatched()[0].id, other.id());
    forget_engine();
    front_ = "port1";
  }
  ASSERT_TRUE(release(pin_directory(), connections_path()).ok());
}

TEST_F(DispatcherTest, an_entry_that_was_never_pinned_goes_with_the_next_start) {
  CountingProgram other("port1");
  ASSERT_NO_FATAL_FAILURE(add_dead_entry());
  ASSERT_NO_FATAL_FAILURE(add_dead_entry());
  EXPECT_EQ(entries(), 2u);
  ASSERT_NO_FATAL_FAILURE(start_well());
  EXPECT_EQ(entries(), 1u);
  const uint64_t before = received();
  {
    const Sender sender("peer1");
    sender.wait_for(100);
  }
  EXPECT_GT(received(), before);
}

TEST_F(DispatcherTest, an_entry_that_was_never_pinned_goes_with_a_release) {
  CountingProgram other("port1");
  ASSERT_NO_FATAL_FAILURE(start_well());
  forget_engine();
  ASSERT_NO_FATAL_FAILURE(add_dead_entry());
  EXPECT_EQ(entries(), 2u);
  ASSERT_TRUE(release(pin_directory(), connections_path()).ok());
  ASSERT_EQ(dispatched().size(), 1u);
  EXPECT_EQ(dispatched()[0].id, other.id());
}

TEST_F(DispatcherTest, an_entry_that_jumps_to_another_engines_program_stays) {
  const UniqueFd program = load_program("ours");
  const Result<PortAttachment> others = PortAttachment::make(program.get(), PortSharing::kDispatcher,
                                                             {.interface = "port1", .ifindex = ifindex()});
  ASSERT_TRUE(others.ok()) << others.error().message;
  ASSERT_NO_FATAL_FAILURE(start_well());
  EXPECT_EQ(entries(), 2u);
  forget_engine();
  ASSERT_TRUE(release(pin_directory(), connections_path()).ok());
  ASSERT_EQ(dispatched().size(), 1u);
  EXPECT_EQ(dispatched()[0].id, others.value().program());
  EXPECT_TRUE(others.value().detach().ok());
}

TEST_F(DispatcherTest, a_driver_that_refuses_makes_it_generic_and_that_is_said) {
  const UniqueFd program = load_program("ours");
  const AttachmentPlace place = {.interface = "lo", .ifindex = ::if_nametoindex("lo")};
  const Result<PortAttachment> made = PortAttachment::make(program.get(), PortSharing::kDispatcher, place);
  ASSERT_TRUE(made.ok()) << made.error().message;
  EXPECT_EQ(made.value().mode(), XdpMode::kGeneric);
  EXPECT_THAT(made.value().reason(), AllOf(HasSubstr("under libxdp's dispatcher; "),
                                           HasSubstr("native (driver unknown, MTU 65535, frames in "
                                                     "one buffer): Operation not supported")));
  EXPECT_TRUE(made.value().detach().ok());
}

TEST_F(DispatcherTest, a_port_that_was_alone_is_shared_when_that_is_wanted_and_back) {
  ASSERT_TRUE(start(PortSharing::kAlone).ok());
  EXPECT_EQ(entries(), 0u);
  forget_engine();
  ASSERT_NO_FATAL_FAILURE(start_well());
  EXPECT_EQ(entries(), 1u);
  EXPECT_FALSE(std::filesystem::exists(pin_directory() / "link-front"));
  forget_engine();
  ASSERT_TRUE(start(PortSharing::kAlone).ok());
  EXPECT_EQ(program_on("port1", ifindex()).value().name, "sluice_xdp");
  EXPECT_FALSE(std::filesystem::exists(pin_directory() / "entry-front"));
  EXPECT_FALSE(std::filesystem::exists(pin_directory() / "jump-front"));
}

}  // namespace
}  // namespace sluice
