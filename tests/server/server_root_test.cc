#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstring>
#include <functional>
#include <mutex>
#include <thread>

#include <arpa/inet.h>
#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "dataplane/server/server.h"
#include "dataplane/server/snapshot_store.h"
#include "tests/server/network_namespaces.h"
#include "tests/server/snapshot_builder.h"
#include "tests/server/temporary_directory.h"

namespace sluice {
namespace {

using testing::HasSubstr;
using Json = nlohmann::json;
using namespace std::chrono_literals;

/// An engine that moves no packets: it keeps what it is given.
class RecordingEngine : public Engine {
 public:
  explicit RecordingEngine(uint32_t ifindex) : ifindex_(ifindex) {}
  std::string name() const override { return "recording"; }
  std::vector<EnginePort> ports() const override {
    const std::lock_guard lock(mutex_);
    return {{0, ifindex_, 1500}};
  }
  Links follow_links(Look look) override {
    const std::lock_guard lock(mutex_);
    looks_at_all_ += look == Look::kAtAll ? 1 : 0;
    changed_.notify_all();
    const uint32_t ifindex = ::if_nametoindex("port0");
    return std::exchange(ifindex_, ifindex) == ifindex ? Links::kSame : Links::kChanged;
  }
  int looks_at_all() const {
    const std::lock_guard lock(mutex_);
    return looks_at_all_;
  }
  Json status() const override { return {{"ports", Json::array({"port0"})}, {"workers", 1}}; }
  void merge_active_connections() override {
    const std::lock_guard lock(mutex_);
    merges_++;
    changed_.notify_all();
  }
  Status make_room(const std::shared_ptr<const MappedSnapshot> &snapshot) override {
    if (while_making_room_) while_making_room_();
    if (snapshot->header().revision < no_room_from_revision_) return Done{};
    return Error{"slots: no room"};
  }
  /// What happens on the server's thread before a publication that is under way is installed.
  void while_making_room(const std::function<void()> &happens) { while_making_room_ = happens; }
  /// Snapshots of this revision and later do not fit.
  void refuse_from(uint64_t revision) { no_room_from_revision_ = revision; }
  Status install(std::shared_ptr<const ForwardingTables> tables) override {
    const std::lock_guard lock(mutex_);
    attempts_++;
    changed_.notify_all();
    if (tables->snapshot->header().revision == failing_revision_)
      return Error{"port front: a link's program cannot be replaced"};
    installed_.push_back(std::move(tables));
    return Done{};
  }
  /// Tables of this revision have room but cannot be installed.
  void fail_at(uint64_t revision) { failing_revision_ = revision; }
  int attempts() const {
    const std::lock_guard lock(mutex_);
    return attempts_;
  }

  size_t installations() const {
    const std::lock_guard lock(mutex_);
    return installed_.size();
  }
  std::shared_ptr<const ForwardingTables> tables(size_t index) const {
    const std::lock_guard lock(mutex_);
    return installed_.at(index);
  }
  std::shared_ptr<const ForwardingTables> latest() const { return tables(installations() - 1); }
  int merges() const {
    const std::lock_guard lock(mutex_);
    return merges_;
  }
  bool until(const std::function<bool()> &condition) {
    for (int i = 0; i < 2000; i++) {
      if (condition()) return true;
      std::unique_lock lock(mutex_);
      changed_.wait_for(lock, 10ms);
    }
    return false;
  }

 private:
  uint32_t ifindex_;
  std::function<void()> while_making_room_;
  std::atomic<uint64_t> no_room_from_revision_ = UINT64_MAX;
  std::atomic<uint64_t> failing_revision_ = UINT64_MAX;
  mutable std::mutex mutex_;
  std::condition_variable changed_;
  std::vector<std::shared_ptr<const ForwardingTables>> installed_;
  int merges_ = 0;
  int looks_at_all_ = 0;
  int attempts_ = 0;
};

AlignedBytes snapshot_of(uint64_t revision, const std::string &backend = "10.0.0.2",
                         Scheduler scheduler = kSchedulerMaglev, uint32_t key_word = 0) {
  SnapshotBuilder builder;
  if (key_word != 0) builder.flow_hash_key.word[0] = key_word;
  builder.revision = revision;
  const uint32_t b1 = builder.add_backend("web", "b1", backend);
  const uint32_t web = builder.add_service("web", builder.add_pool({b1}), scheduler);
  builder.add_vip("198.51.100.10", {{80, 80, web}});
  return builder.build();
}

struct Answer {
  Json json;
  UniqueFd descriptor;
};

class ServerTest : public testing::Test {
 protected:
  void TearDown() override { stop(); }

  void start() {
    engine_ = std::make_unique<RecordingEngine>(namespaces_.port_ifindex());
    engine_->fail_at(failing_revision_);
    CounterRegionShape shape;
    shape.backend_capacity = 10;
    shape.service_capacity = 10;
    counters_.emplace(std::move(CounterRegion::create(shape)).value());
    counters_->backends(0)[1].active_connections = counted_at_start_;
    ConnectionRegionOptions connection_options;
    connection_options.path = directory_.path() / "connections";
    connection_options.ipv4_connections = connection_options.ipv6_connections = 100;
    connections_.emplace(std::move(ConnectionRegion::open(connection_options, read_boot_clock())).value());
    ServerOptions options;
    options.control_socket.path = directory_.path() / "socket";
    options.snapshot_path = snapshot_path_;
    options.version = "1.2.3";
    options.links_at_start = links_at_start_;
    options.next_hop_wait_at_start = next_hop_wait_at_start_;
    options.link_look_gap = link_look_gap_;
    auto server = Server::create(options, engine_.get(), &*counters_, &*connections_);
    ASSERT_TRUE(server.ok()) << server.error().message;
    server_ = std::move(server).value();
    stop_.reset(::eventfd(0, EFD_CLOEXEC));
    thread_ = std::thread([this] { ended_well_ = server_->run(stop_.get()).ok(); });
  }

  void stop() {
    if (!thread_.joinable()) return;
    ::eventfd_write(stop_.get(), 1);
    thread_.join();
    EXPECT_TRUE(ended_well_);
    server_.reset();
    connections_.reset();
  }

  Answer ask(const std::string &request, std::span<const std::byte> snapshot = {}) const {
    UniqueFd memfd;
    if (!snapshot.empty()) {
      memfd.reset(::memfd_create("snapshot", MFD_CLOEXEC | MFD_ALLOW_SEALING));
      EXPECT_EQ(::write(memfd.get(), snapshot.data(), snapshot.size()),
                static_cast<ssize_t>(snapshot.size()));
      ::fcntl(memfd.get(), F_ADD_SEALS, F_SEAL_WRITE | F_SEAL_SHRINK | F_SEAL_GROW);
    }
    return exchange(Json({{"protocol", 1}, {"id", 1}, {"request", request}}).dump(), memfd.get());
  }
  Json publish(std::span<const std::byte> snapshot) const { return ask("publish", snapshot).json; }

  Answer exchange(const std::string &text, int descriptor) const {
    const UniqueFd socket(::socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0));
    sockaddr_un address = {};
    address.sun_family = AF_UNIX;
    std::strncpy(address.sun_path, (directory_.path() / "socket").c_str(), sizeof(address.sun_path) - 1);
    EXPECT_EQ(::connect(socket.get(), reinterpret_cast<sockaddr *>(&address), sizeof(address)), 0);
    alignas(cmsghdr) std::array<char, CMSG_SPACE(sizeof(int))> control = {};
    std::vector<char> buffer(kControlMessageMaxSize);
    iovec part = {const_cast<char *>(text.data()), text.size()};
    msghdr message = {};
    message.msg_iov = &part;
    message.msg_iovlen = 1;
    if (descriptor >= 0) {
      message.msg_control = control.data();
      message.msg_controllen = control.size();
      cmsghdr *header = CMSG_FIRSTHDR(&message);
      header->cmsg_level = SOL_SOCKET;
      header->cmsg_type = SCM_RIGHTS;
      header->cmsg_len = CMSG_LEN(sizeof(int));
      std::memcpy(CMSG_DATA(header), &descriptor, sizeof(int));
    }
    EXPECT_GT(::sendmsg(socket.get(), &message, MSG_NOSIGNAL), 0);
    part = {buffer.data(), buffer.size()};
    message.msg_control = control.data();
    message.msg_controllen = control.size();
    const ssize_t size = ::recvmsg(socket.get(), &message, MSG_CMSG_CLOEXEC);
    Answer answer;
    answer.json = Json::parse(buffer.data(), buffer.data() + std::max<ssize_t>(size, 0), nullptr, false);
    if (const cmsghdr *header = CMSG_FIRSTHDR(&message); header != nullptr) {
      int received = -1;
      std::memcpy(&received, CMSG_DATA(header), sizeof(int));
      answer.descriptor.reset(received);
    }
    return answer;
  }

  static bool first_is_ready(const ForwardingTables &tables) {
    return (tables.egress[1].flags & kEgressReady) != 0;
  }

  NetworkNamespaces namespaces_;
  TemporaryDirectory directory_;
  std::filesystem::path snapshot_path_ = directory_.path() / "snapshot";
  std::unique_ptr<RecordingEngine> engine_;
  std::optional<CounterRegion> counters_;
  std::optional<ConnectionRegion> connections_;
  std::unique_ptr<Server> server_;
  UniqueFd stop_;
  std::thread thread_;
  bool ended_well_ = false;
  uint32_t counted_at_start_ = 0;  // active connections that the engine found in the kept tables
  LinksAtStart links_at_start_ = LinksAtStart::kSilent;
  std::chrono::milliseconds next_hop_wait_at_start_ = 100ms;
  std::chrono::milliseconds link_look_gap_ = 30s;
  uint64_t failing_revision_ = UINT64_MAX;
};

TEST_F(ServerTest, introduces_itself) {
  start();
  EXPECT_EQ(ask("hello").json,
            Json::parse(R"({"protocol":1,"id":1,"ok":true,"engine":"recording","version":"1.2.3",
      "abi":{"snapshot":4,"connections":4,"counters":3},"revision":0})"));
}

TEST_F(ServerTest, starts_with_nothing_and_installs_what_is_published) {
  start();
  EXPECT_EQ(engine_->installations(), 0);
  EXPECT_FALSE(ask("snapshot").descriptor.valid());
  const Json answer = publish(snapshot_of(5));
  EXPECT_EQ(answer, Json::parse(R"({"protocol":1,"id":1,"ok":true,"revision":5,"stored":true})"));
  ASSERT_GE(engine_->installations(), 1);
  EXPECT_EQ(engine_->latest()->snapshot->header().revision, 5);
  EXPECT_EQ(engine_->latest()->egress.size(), 2);
}

// A real error of a real router: unreachable_reader_root_test.cc has all kinds of them.
TEST_F(ServerTest, counts_icmp_errors_about_backends_beside_what_the_workers_count) {
  namespaces_.in_peer("echo 1 > /proc/sys/net/ipv4/ip_forward; ip route add unreachable 10.1.0.11");
  run("ip route add 10.1.0.11 via 10.0.0.2");
  start();
  EXPECT_EQ(ask("status").json["icmp_errors"], "counted");
  ASSERT_TRUE(publish(snapshot_of(5, "10.1.0.11"))["ok"]);
  const UniqueFd tunnel(::socket(AF_INET, SOCK_RAW | SOCK_CLOEXEC, IPPROTO_IPIP));
  sockaddr_in backend = {};
  backend.sin_family = AF_INET;
  backend.sin_addr.s_addr = inet_addr("10.1.0.11");
  const std::array<char, 40> inner = {};
  ASSERT_EQ(::sendto(tunnel.get(), inner.data(), inner.size(), 0, reinterpret_cast<sockaddr *>(&backend),
                     sizeof(backend)),
            static_cast<ssize_t>(inner.size()));
  EXPECT_TRUE(engine_->until(
      [this] { return __atomic_load_n(&counters_->unreachables()[1], __ATOMIC_RELAXED) == 1; }));
}

TEST_F(ServerTest, waits_a_moment_for_the_link_address_of_a_new_backend) {
  start();
  ASSERT_TRUE(publish(snapshot_of(1))["ok"]);
  EXPECT_TRUE(first_is_ready(*engine_->tables(0))) << "its first connections would have been dropped";
}

TEST_F(ServerTest, does_not_wait_for_ever_for_a_backend_that_nobody_answers_for) {
  start();
  ASSERT_TRUE(publish(snapshot_of(1, "10.0.0.77"))["ok"]);
  EXPECT_FALSE(first_is_ready(*engine_->tables(0)));
  const Json status = ask("status").json;
  EXPECT_THAT(status["next_hops"]["list"][0]["state"].get<std::string>(), HasSubstr("10.0.0.77"));
}

TEST_F(ServerTest, keeps_the_old_snapshot_when_the_new_one_is_refused) {
  start();
  ASSERT_TRUE(publish(snapshot_of(5))["ok"]);
  AlignedBytes damaged = snapshot_of(6);
  damaged[400] ^= std::byte{1};
  const Json answer = publish(damaged);
  EXPECT_FALSE(answer["ok"]);
  EXPECT_THAT(answer["error"].get<std::string>(), HasSubstr("checksum"));
  EXPECT_EQ(ask("hello").json["revision"], 5);
  EXPECT_EQ(engine_->latest()->snapshot->header().revision, 5);
  EXPECT_EQ(SnapshotStore(snapshot_path_).load().value()->header().revision, 5);
}

TEST_F(ServerTest, refuses_a_publication_without_a_snapshot) {
  start();
  EXPECT_THAT(ask("publish").json["error"].get<std::string>(), HasSubstr("no descriptor was passed"));
  EXPECT_THAT(ask("nonsense").json["error"].get<std::string>(),
              HasSubstr("request: \"nonsense\" is unknown"));
}

TEST_F(ServerTest, starts_with_the_stored_snapshot) {
  start();
  ASSERT_TRUE(publish(snapshot_of(5))["ok"]);
  stop();
  start();
  ASSERT_GE(engine_->installations(), 1);
  EXPECT_EQ(engine_->tables(0)->snapshot->header().revision, 5);
  EXPECT_EQ(ask("hello").json["revision"], 5);
}

TEST_F(ServerTest, starts_with_the_link_addresses_that_the_kernel_knows) {
  start();
  ASSERT_TRUE(publish(snapshot_of(5))["ok"]);
  ASSERT_TRUE(engine_->until([this] { return first_is_ready(*engine_->latest()); })) << "now it knows it";
  stop();
  start();
  EXPECT_TRUE(first_is_ready(*engine_->tables(0)));
}

TEST_F(ServerTest, does_not_wait_at_the_start_for_what_no_worker_can_ask_the_link_yet) {
  start();
  ASSERT_TRUE(publish(snapshot_of(5))["ok"]);
  stop();
  run("ip neigh flush dev port0 && ip neigh del 10.0.0.2 dev port0 2>/dev/null || true");
  start();
  EXPECT_FALSE(first_is_ready(*engine_->tables(0))) << "it was asked for, and the answer was waited for";
  EXPECT_TRUE(engine_->until([this] { return first_is_ready(*engine_->latest()); }));
}

TEST_F(ServerTest, waits_at_the_start_for_link_addresses_where_the_kernel_can_ask_for_them) {
  start();
  ASSERT_TRUE(publish(snapshot_of(5))["ok"]);
  stop();
  run("ip neigh flush dev port0 && ip neigh del 10.0.0.2 dev port0 2>/dev/null || true");
  links_at_start_ = LinksAtStart::kCarryQuestions;
  start();
  EXPECT_TRUE(first_is_ready(*engine_->tables(0)));
}

TEST_F(ServerTest, refuses_what_the_engine_has_no_room_for_and_goes_on) {
  start();
  ASSERT_TRUE(publish(snapshot_of(5))["ok"]);
  engine_->refuse_from(6);
  const Json refused = publish(snapshot_of(6, "10.0.0.3"));
  EXPECT_FALSE(refused["ok"]);
  EXPECT_EQ(refused["error"], "slots: no room");
  EXPECT_EQ(ask("hello").json["revision"], 5);
  EXPECT_EQ(engine_->latest()->snapshot->header().revision, 5);
  stop();
  start();
  EXPECT_EQ(ask("hello").json["revision"], 5) << "the stored one";
}

TEST_F(ServerTest, a_snapshot_that_cannot_be_installed_is_refused_and_not_stored) {
  start();
  ASSERT_TRUE(publish(snapshot_of(5))["ok"]);
  engine_->fail_at(6);
  const Json refused = publish(snapshot_of(6, "10.0.0.3"));
  EXPECT_FALSE(refused["ok"]);
  EXPECT_EQ(refused["error"], "port front: a link's program cannot be replaced");
  const Json status = ask("status").json;
  EXPECT_EQ(status["revision"], 5);
  EXPECT_EQ(status["next_hops"]["list"][0]["address"], "10.0.0.2");
  EXPECT_EQ(SnapshotStore(snapshot_path_).load().value()->header().revision, 5);
  EXPECT_TRUE(publish(snapshot_of(7, "10.0.0.3"))["ok"]) << "a later one may do";
}

TEST_F(ServerTest, a_stored_snapshot_that_cannot_be_installed_is_not_said_to_be_in_force) {
  start();
  ASSERT_TRUE(publish(snapshot_of(5))["ok"]);
  stop();
  failing_revision_ = 5;
  start();
  EXPECT_EQ(engine_->attempts(), 1);
  EXPECT_EQ(ask("hello").json["revision"], 0);
  EXPECT_EQ(ask("status").json["next_hops"]["list"].size(), 0u);
}

TEST_F(ServerTest, new_neighbours_that_cannot_be_installed_are_tried_again) {
  start();
  ASSERT_TRUE(publish(snapshot_of(5))["ok"]);
  engine_->fail_at(5);
  const int before = engine_->attempts();
  run("ip neigh replace 10.0.0.2 lladdr 02:00:00:00:00:99 dev port0 nud reachable");
  ASSERT_TRUE(engine_->until([&] { return engine_->attempts() > before; }));
  const size_t installed = engine_->installations();
  engine_->fail_at(UINT64_MAX);
  EXPECT_TRUE(engine_->until([&] { return engine_->installations() > installed; }));
}

TEST_F(ServerTest, a_neighbour_that_changes_while_a_publication_fails_is_followed) {
  start();
  ASSERT_TRUE(publish(snapshot_of(5))["ok"]);
  engine_->fail_at(6);
  engine_->while_making_room(
      [] { run("ip neigh replace 10.0.0.2 lladdr 02:00:00:00:00:99 dev port0 nud reachable"); });
  ASSERT_FALSE(publish(snapshot_of(6))["ok"]);
  EXPECT_TRUE(engine_->until([this] { return engine_->latest()->egress[1].headers[5] == 0x99; }));
  EXPECT_EQ(engine_->latest()->snapshot->header().revision, 5);
}

TEST_F(ServerTest, at_the_start_link_addresses_may_come_as_late_as_it_is_told) {
  start();
  ASSERT_TRUE(publish(snapshot_of(5, "10.0.0.77"))["ok"]);
  stop();
  links_at_start_ = LinksAtStart::kCarryQuestions;
  next_hop_wait_at_start_ = 20s;
  const std::jthread late([] {
    std::this_thread::sleep_for(400ms);
    run("ip neigh replace 10.0.0.77 lladdr 02:00:00:00:00:99 dev port0 nud reachable");
  });
  start();
  EXPECT_TRUE(first_is_ready(*engine_->tables(0)));
}

TEST_F(ServerTest, starts_with_nothing_when_the_stored_snapshot_is_damaged) {
  start();
  ASSERT_TRUE(publish(snapshot_of(5))["ok"]);
  stop();
  std::filesystem::resize_file(snapshot_path_, 100);
  start();
  EXPECT_EQ(ask("hello").json["revision"], 0);
  EXPECT_EQ(engine_->installations(), 0);
  EXPECT_TRUE(publish(snapshot_of(6))["ok"]);
}

TEST_F(ServerTest, accepts_the_same_snapshot_again_without_installing_it) {
  start();
  ASSERT_TRUE(publish(snapshot_of(5))["ok"]);
  const auto before = engine_->latest()->snapshot;
  EXPECT_EQ(publish(snapshot_of(5))["revision"], 5);
  EXPECT_EQ(engine_->latest()->snapshot, before);
  EXPECT_TRUE(publish(snapshot_of(5, "10.0.0.3"))["ok"]) << "same revision, other contents";
  EXPECT_NE(engine_->latest()->snapshot, before);
}

TEST_F(ServerTest, gives_the_current_snapshot_back) {
  start();
  const AlignedBytes published = snapshot_of(5);
  ASSERT_TRUE(publish(published)["ok"]);
  Answer answer = ask("snapshot");
  EXPECT_EQ(answer.json["revision"], 5);
  const auto snapshot = MappedSnapshot::from_memfd(std::move(answer.descriptor));
  ASSERT_TRUE(snapshot.ok()) << snapshot.error().message;
  EXPECT_TRUE(std::ranges::equal(snapshot.value()->bytes(), published));
}

TEST_F(ServerTest, follows_the_neighbours_with_the_same_snapshot) {
  start();
  ASSERT_TRUE(publish(snapshot_of(5))["ok"]);
  const auto before = engine_->latest();
  run("ip neigh replace 10.0.0.2 lladdr 02:00:00:00:00:99 dev port0 nud reachable");
  ASSERT_TRUE(engine_->until([this] { return engine_->latest()->egress[1].headers[5] == 0x99; }));
  EXPECT_EQ(engine_->latest()->snapshot, before->snapshot);
  EXPECT_NE(before->egress[1].headers[5], 0x99) << "tables in force must not change";
}

TEST_F(ServerTest, follows_a_port_whose_interface_is_made_anew) {
  start();
  ASSERT_TRUE(publish(snapshot_of(5))["ok"]);
  const auto ready = [this] { return (engine_->latest()->egress[1].flags & kEgressReady) != 0; };
  ASSERT_TRUE(engine_->until(ready));
  run("ip link del port0");
  ASSERT_TRUE(engine_->until([&] { return !ready(); }));
  namespaces_.make_pair();
  EXPECT_TRUE(engine_->until(ready));
}

TEST_F(ServerTest, looks_at_the_ports_interfaces_now_and_then_without_an_event) {
  link_look_gap_ = 10ms;
  start();
  EXPECT_TRUE(engine_->until([this] { return engine_->looks_at_all() >= 5; }));
}

TEST_F(ServerTest, forgets_the_counts_of_connections_that_another_key_makes_unfindable) {
  start();
  ASSERT_TRUE(publish(snapshot_of(5))["ok"]);
  stop();
  counted_at_start_ = 7;
  start();
  EXPECT_EQ(counters_->backends(0)[1].active_connections, 7) << "the same key: they are still there";
  stop();
  const auto other_key = MappedSnapshot::from_bytes(snapshot_of(6, "10.0.0.2", kSchedulerMaglev, 99));
  ASSERT_TRUE(SnapshotStore(snapshot_path_).save(*other_key.value()).ok());
  start();
  EXPECT_EQ(counters_->backends(0)[1].active_connections, 0);
  EXPECT_EQ(engine_->merges(), 1) << "workers must not go by the sums of before";
}

TEST_F(ServerTest, merges_counts_only_while_a_service_needs_them) {
  start();
  ASSERT_TRUE(publish(snapshot_of(1))["ok"]);
  EXPECT_EQ(engine_->merges(), 0);
  ASSERT_TRUE(publish(snapshot_of(2, "10.0.0.2", kSchedulerLeastConnection))["ok"]);
  EXPECT_TRUE(engine_->until([this] { return engine_->merges() >= 5; }));
  ASSERT_TRUE(publish(snapshot_of(3))["ok"]);
  const int merges = engine_->merges();
  std::this_thread::sleep_for(50ms);
  EXPECT_EQ(engine_->merges(), merges);
}

TEST_F(ServerTest, hands_out_the_regions_for_reading) {
  start();
  ASSERT_TRUE(publish(snapshot_of(1))["ok"]);
  const Answer counters = ask("counters");
  const Answer connections = ask("connections");
  CounterRegionHeader counter_header = {};
  ASSERT_EQ(::pread(counters.descriptor.get(), &counter_header, sizeof(counter_header), 0),
            static_cast<ssize_t>(sizeof(counter_header)));
  EXPECT_EQ(counter_header.magic, SLUICE_COUNTER_MAGIC);
  ConnectionRegionHeader connection_header = {};
  ASSERT_EQ(::pread(connections.descriptor.get(), &connection_header, sizeof(connection_header), 0),
            static_cast<ssize_t>(sizeof(connection_header)));
  EXPECT_EQ(connection_header.magic, SLUICE_CONNECTION_MAGIC);
  EXPECT_NE(connection_header.flow_hash_key_fingerprint, 0);
}

// A SYN from 192.0.2.1:40000 to 198.51.100.10:80.
constexpr const char *kSyn =
    "0200000000010200000000020800450000280000400040060000c0000201c633640a9c4000500000000000000000500200000000"
    "0000";

TEST_F(ServerTest, explains_by_what_packets_see) {
  start();
  const auto explain = [this](Json fields) {
    fields.update({{"protocol", 1}, {"id", 1}, {"request", "explain"}});
    return exchange(fields.dump(), -1).json;
  };
  EXPECT_EQ(explain({{"frame", kSyn}})["verdict"], "pass_no_snapshot");
  publish(snapshot_of(5, "10.0.0.77"));  // nobody has that address
  Json answer = explain({{"frame", kSyn}});
  EXPECT_EQ(answer["verdict"], "drop_no_next_hop");
  EXPECT_EQ(answer["snapshot"], 5);
  EXPECT_EQ(answer["engine"], "recording");
  EXPECT_EQ(answer["backend"], "web/b1");
  EXPECT_THAT(answer["stages"].dump(), HasSubstr("waiting for the link address of 10.0.0.77"));
  publish(snapshot_of(6));
  answer = explain({{"frame", kSyn}});
  EXPECT_EQ(answer["verdict"], "forward_new");
  EXPECT_THAT(answer["stages"].dump(), HasSubstr("by port port0 via 10.0.0.2 dev port0"));
  engine_->fail_at(7);
  publish(snapshot_of(7, "10.0.0.77"));
  answer = explain({{"frame", kSyn}});
  EXPECT_EQ(answer["verdict"], "forward_new");  // what could not be installed is seen by nobody
  EXPECT_EQ(answer["snapshot"], 6);
  for (const auto &bucket : connections_->ipv4_buckets(0)) EXPECT_EQ(bucket.word[1], 0u);
}

TEST_F(ServerTest, refuses_to_explain_what_is_no_frame_or_for_no_worker) {
  start();
  const auto error = [this](Json fields) {
    fields.update({{"protocol", 1}, {"id", 1}, {"request", "explain"}});
    return exchange(fields.dump(), -1).json["error"];
  };
  EXPECT_EQ(error(Json::object()), "explain: frame: is missing, or no string");
  EXPECT_EQ(error({{"frame", "0"}}), "explain: frame: 1 hex digits are no whole bytes");
  EXPECT_EQ(error({{"frame", "00"}, {"worker", 1}}), "explain: worker: 1 is none; there are 0 to 0");
}

TEST_F(ServerTest, says_in_its_status_what_people_want_to_know) {
  start();
  ASSERT_TRUE(publish(snapshot_of(1))["ok"]);
  const Json status = ask("status").json;
  EXPECT_EQ(status["engine"], "recording");
  EXPECT_EQ(status["workers"], 1);
  EXPECT_EQ(status["next_hops"]["ready"], 1);
  EXPECT_EQ(status["next_hops"]["list"][0]["name"], "b1");
  EXPECT_EQ(status["next_hops"]["list"][0]["state"], "ready");
  EXPECT_EQ(status["next_hops"]["list"][0]["via"], "10.0.0.2 dev port0");
  EXPECT_GT(status["memory"]["connections_bytes"], 0);
}

TEST_F(ServerTest, a_second_one_on_the_same_socket_is_refused) {
  start();
  ServerOptions options;
  options.control_socket.path = directory_.path() / "socket";
  options.snapshot_path = snapshot_path_;
  const auto second = Server::create(options, engine_.get(), &*counters_, &*connections_);
  ASSERT_FALSE(second.ok());
  EXPECT_THAT(second.error().message, HasSubstr("another process listens"));
}

/// A small filesystem, in a mount namespace that ends with the thread that made it; so the test's body
/// runs in a thread of its own.
TEST_F(ServerTest, forwards_a_snapshot_that_a_full_disk_has_no_room_for) {
  const auto disk = directory_.path() / "disk";
  std::filesystem::create_directory(disk);
  std::thread([&] {
    ASSERT_EQ(::unshare(CLONE_NEWNS), 0);
    ASSERT_EQ(::mount("none", "/", nullptr, MS_REC | MS_PRIVATE, nullptr), 0);
    ASSERT_EQ(::mount("sluice-test", disk.c_str(), "tmpfs", 0, "size=4096"), 0);
    const UniqueFd filler(::open((disk / "filler").c_str(), O_CREAT | O_WRONLY | O_CLOEXEC, 0600));
    const std::string page(4096, 'x');
    ASSERT_EQ(::write(filler.get(), page.data(), page.size()), 4096);
    snapshot_path_ = disk / "snapshot";
    start();
    const Json answer = publish(snapshot_of(5));
    EXPECT_TRUE(answer["ok"]);
    EXPECT_FALSE(answer["stored"]);
    EXPECT_THAT(answer.value("warning", ""), HasSubstr("No space left"));
    EXPECT_EQ(engine_->latest()->snapshot->header().revision, 5);
    // Room again: publishing the same once more stores it.
    ASSERT_EQ(::ftruncate(filler.get(), 0), 0);
    EXPECT_TRUE(publish(snapshot_of(5))["stored"]);
    ConnectionRegionOptions too_large;
    too_large.path = disk / "connections";
    const auto region = ConnectionRegion::open(too_large, read_boot_clock());
    ASSERT_FALSE(region.ok());
    EXPECT_THAT(region.error().message, HasSubstr("its filesystem has 0 MiB free"));
    stop();
  }).join();
}

}  // namespace
}  // namespace sluice
