#include "dataplane/server/server.h"

#include <algorithm>
#include <array>
#include <cerrno>
#include <chrono>
#include <cstring>
#include <optional>
#include <utility>

#include <fcntl.h>
#include <fmt/format.h>
#include <net/if.h>
#include <nlohmann/json.hpp>
#include <poll.h>
#include <spdlog/spdlog.h>
#include <sys/epoll.h>

#include "dataplane/server/explain.h"
#include "dataplane/server/neighbours.h"
#include "dataplane/server/netlink.h"
#include "dataplane/server/snapshot_store.h"
#include "dataplane/server/unreachable_reader.h"

namespace sluice {
namespace {

using Clock = std::chrono::steady_clock;
using Json = nlohmann::json;
using namespace std::chrono_literals;

constexpr auto kNextHopWait = 100ms;  // that a new snapshot may wait for its new backends' link addresses
constexpr auto kInstallGap = 20ms;    // between two installations that follow the neighbours
constexpr auto kRetryGap = 1s;        // the same after one that failed
constexpr auto kMergeInterval = 5ms;  // of least-connection's counts
constexpr auto kHeartbeatInterval = 5s;
constexpr size_t kNextHopsShown = 500;  // in `status`: an answer has room for about a thousand

bool has_least_connection(const MappedSnapshot &snapshot) {
  const auto services = snapshot.services();
  return std::any_of(services.begin(), services.end(),
                     [](const Service &service) { return service.scheduler == kSchedulerLeastConnection; });
}

Result<UniqueFd> duplicate(int fd) {
  UniqueFd copy(::fcntl(fd, F_DUPFD_CLOEXEC, 0));
  if (!copy.valid()) return Error{fmt::format("cannot duplicate a descriptor: {}", std::strerror(errno))};
  return copy;
}

bool is_same(const MappedSnapshot &a, const MappedSnapshot &b) {
  return a.header().revision == b.header().revision && a.header().checksum == b.header().checksum &&
         a.header().total_size == b.header().total_size;
}

}  // namespace

class Server::Impl {
 public:
  Impl(const ServerOptions &options, Engine *engine, const CounterRegion *counters,
       ConnectionRegion *connections)
      : options_(options),
        engine_(engine),
        counters_(counters),
        connections_(connections),
        store_(options.snapshot_path) {}

  Status open();
  Status run(int stop_fd);

 private:
  Status watch(int fd);
  Status watch_unreachables();
  void install_stored();
  /// What an installation waits for, for a moment. Link addresses: workers run and carry the questions.
  enum class Await { kRoutes, kLinkAddresses };
  Status install(std::shared_ptr<const MappedSnapshot> snapshot, Await await, Clock::duration wait);
  void follow(std::shared_ptr<const MappedSnapshot> snapshot);
  void forget_active_connections();
  void wait_for_next_hops(Await await, Clock::duration wait);
  Status install_tables(Clock::time_point now);
  void follow_neighbours(Clock::time_point now);
  void keep_time(Clock::time_point now);
  int milliseconds_to_next(Clock::time_point now) const;

  Result<ControlAnswer> handle(ControlRequest request);
  Result<ControlAnswer> answer_hello() const;
  Result<ControlAnswer> answer_publish(ControlRequest request);
  Result<ControlAnswer> answer_snapshot() const;
  Result<ControlAnswer> answer_status() const;
  Result<ControlAnswer> answer_explain(const ControlRequest &request) const;
  LiveTables live_tables() const;
  std::string next_hop_words(uint16_t backend) const;
  std::string port_name(uint16_t index) const;
  Json next_hops() const;
  uint64_t revision() const { return snapshot_ ? snapshot_->header().revision : 0; }

  ServerOptions options_;
  Engine *engine_;
  const CounterRegion *counters_;
  ConnectionRegion *connections_;
  SnapshotStore store_;
  std::string store_error_;  // of the last save; empty when it is on disk
  std::unique_ptr<ControlSocket> socket_;
  std::unique_ptr<Neighbours> neighbours_;
  std::optional<UnreachableReader> unreachables_;  // nothing: not to be had, and why
  std::string unreachables_error_;
  UniqueFd epoll_;
  std::shared_ptr<const MappedSnapshot> snapshot_;     // in force; null before the first
  std::shared_ptr<const ForwardingTables> installed_;  // what packets see; null before the first
  std::optional<uint64_t> in_force_since_s_;  // CLOCK_BOOTTIME of the publication; none: of a process before
  enum class Counts { kNotNeeded, kMerged } counts_ = Counts::kNotNeeded;
  enum class Tables { kCurrent, kOutdated } tables_ = Tables::kCurrent;
  Clock::time_point next_install_ = Clock::time_point::min();
  Clock::time_point next_merge_ = Clock::time_point::min();
  Clock::time_point next_heartbeat_ = Clock::time_point::min();
  Clock::time_point next_link_look_ = Clock::time_point::min();
};

Status Server::Impl::watch(int fd) {
  epoll_event event = {};
  event.events = EPOLLIN;
  event.data.fd = fd;
  if (::epoll_ctl(epoll_.get(), EPOLL_CTL_ADD, fd, &event) != 0)
    return Error{fmt::format("server: cannot watch a descriptor: {}", std::strerror(errno))};
  return Done{};
}

Status Server::Impl::open() {
  epoll_.reset(::epoll_create1(EPOLL_CLOEXEC));
  if (!epoll_.valid()) return Error{fmt::format("server: epoll: {}", std::strerror(errno))};
  auto socket = ControlSocket::listen(options_.control_socket);
  if (!socket.ok()) return socket.error();
  socket_ = std::move(socket).value();
  auto neighbours = Neighbours::open(engine_->ports());
  if (!neighbours.ok()) return neighbours.error();
  neighbours_ = std::move(neighbours).value();
  for (const int fd : {socket_->fd(), neighbours_->fd()}) {
    Status watched = watch(fd);
    if (!watched.ok()) return watched;
  }
  Status watched = watch_unreachables();
  if (!watched.ok()) return watched;
  install_stored();
  return Done{};
}

/// Forwarding needs none of it: without the privilege it goes on without.
Status Server::Impl::watch_unreachables() {
  auto reader = UnreachableReader::open();
  if (!reader.ok()) {
    unreachables_error_ = reader.error().message;
    spdlog::warn("ICMP errors about backends are not counted: {}", unreachables_error_);
    return Done{};
  }
  unreachables_ = std::move(reader).value();
  for (const int fd : unreachables_->fds()) {
    if (fd < 0) continue;
    Status watched = watch(fd);
    if (!watched.ok()) return watched;
  }
  return Done{};
}

void Server::Impl::install_stored() {
  auto stored = store_.load();
  if (stored.ok() && stored.value() == nullptr) {
    spdlog::info("no stored snapshot in {}: sluiced has to publish one", store_.path().string());
    return;
  }
  Status used = stored.ok() ? engine_->make_room(stored.value()) : Status(stored.error());
  const bool asks = options_.links_at_start == LinksAtStart::kCarryQuestions;
  if (used.ok())
    used = install(std::move(stored).value(), asks ? Await::kLinkAddresses : Await::kRoutes,
                   options_.next_hop_wait_at_start);
  if (used.ok())
    spdlog::info("revision {} from {} is in force", revision(), store_.path().string());
  else
    spdlog::error("the stored snapshot is not used: {}; sluiced has to publish one", used.error().message);
}

// Installation.

/// On an error the snapshot of before stays in force.
Status Server::Impl::install(std::shared_ptr<const MappedSnapshot> snapshot, Await await,
                             Clock::duration wait) {
  std::shared_ptr<const MappedSnapshot> before = snapshot_;
  follow(std::move(snapshot));
  wait_for_next_hops(await, wait);
  if (connections_->set_flow_hash_key(snapshot_->header().flow_hash_key) ==
      ConnectionRegion::Entries::kCleared)
    forget_active_connections();
  Status installed = install_tables(Clock::now());
  if (!installed.ok()) {
    follow(std::move(before));
    if (snapshot_) connections_->set_flow_hash_key(snapshot_->header().flow_hash_key);
    // What the neighbours have said meanwhile, and what could not be installed before, is still to come.
    tables_ = snapshot_ ? Tables::kOutdated : Tables::kCurrent;
    return installed;
  }
  counts_ = has_least_connection(*snapshot_) ? Counts::kMerged : Counts::kNotNeeded;
  return Done{};
}

/// Makes it the snapshot whose backends' next hops are known; null: none.
void Server::Impl::follow(std::shared_ptr<const MappedSnapshot> snapshot) {
  snapshot_ = std::move(snapshot);
  const std::span<const Backend> backends = snapshot_ ? snapshot_->backends() : std::span<const Backend>();
  neighbours_->set_backends(backends);
  if (unreachables_) unreachables_->set_backends(backends);
}

/// The engine has counted entries that are no more. No worker counts yet: without a snapshot there are no
/// connections.
void Server::Impl::forget_active_connections() {
  for (uint32_t worker = 0; worker < counters_->header().worker_count; worker++)
    for (BackendCounters &backend : counters_->backends(worker)) backend.active_connections = 0;
  engine_->merge_active_connections();
}

/// A new backend whose link address is not known yet would cost its first connections a retransmission;
/// the tables of before go on meanwhile. At the start of an engine whose workers carry the questions to the
/// link only what the kernel knows by itself is asked for.
void Server::Impl::wait_for_next_hops(Await await, Clock::duration wait) {
  const Clock::time_point deadline = Clock::now() + wait;
  for (;;) {
    const Clock::time_point now = Clock::now();
    neighbours_->process(now);
    const uint32_t pending =
        await == Await::kRoutes ? neighbours_->unasked_new_backends() : neighbours_->pending_new_backends();
    if (pending == 0 || now >= deadline) return;
    const auto left = std::chrono::ceil<std::chrono::milliseconds>(deadline - now);
    pollfd wanted = {neighbours_->fd(), POLLIN, 0};
    ::poll(&wanted, 1, static_cast<int>(left.count()));
  }
}

Status Server::Impl::install_tables(Clock::time_point now) {
  auto tables = std::make_shared<ForwardingTables>();
  tables->snapshot = snapshot_;
  tables->egress = neighbours_->egress();
  Status installed = engine_->install(tables);
  if (installed.ok()) installed_ = std::move(tables);
  tables_ = installed.ok() ? Tables::kCurrent : Tables::kOutdated;
  next_install_ = now + (installed.ok() ? Clock::duration(kInstallGap) : kRetryGap);
  return installed;
}

void Server::Impl::follow_neighbours(Clock::time_point now) {
  if (neighbours_->process(now) == Neighbours::Change::kEgress && snapshot_) tables_ = Tables::kOutdated;
  const bool have_changed = neighbours_->take_link_changes() == Neighbours::Links::kChanged;
  const bool is_due = now >= next_link_look_;
  if (!have_changed && !is_due) return;
  if (is_due) next_link_look_ = now + options_.link_look_gap;
  const Engine::Links links = engine_->follow_links(is_due ? Engine::Look::kAtAll : Engine::Look::kAtChanges);
  if (links == Engine::Links::kChanged) neighbours_->set_ports(engine_->ports());
}

void Server::Impl::keep_time(Clock::time_point now) {
  if (tables_ == Tables::kOutdated && now >= next_install_) {
    const Status installed = install_tables(now);
    if (!installed.ok())
      spdlog::error("the kernel's new neighbours are not in force yet: {}", installed.error().message);
  }
  if (counts_ == Counts::kMerged && now >= next_merge_) {
    engine_->merge_active_connections();
    next_merge_ = now + kMergeInterval;
  }
  if (now >= next_heartbeat_) {
    connections_->heartbeat(read_boot_clock());
    next_heartbeat_ = now + kHeartbeatInterval;
  }
}

int Server::Impl::milliseconds_to_next(Clock::time_point now) const {
  Clock::time_point next = next_heartbeat_;
  if (tables_ == Tables::kOutdated) next = std::min(next, next_install_);
  if (counts_ == Counts::kMerged) next = std::min(next, next_merge_);
  if (options_.longest_turn) next = std::min(next, now + *options_.longest_turn);
  if (next <= now) return 0;
  return static_cast<int>(std::chrono::ceil<std::chrono::milliseconds>(next - now).count());
}

Status Server::Impl::run(int stop_fd) {
  Status watched = watch(stop_fd);
  if (!watched.ok()) return watched;
  Status result = Done{};
  for (bool stopped = false; !stopped;) {
    options_.at_each_turn();
    keep_time(Clock::now());
    std::array<epoll_event, 6> events = {};
    const int count =
        ::epoll_wait(epoll_.get(), events.data(), events.size(), milliseconds_to_next(Clock::now()));
    if (count < 0 && errno != EINTR) {
      result = Error{fmt::format("server: epoll_wait: {}", std::strerror(errno))};
      break;
    }
    for (int i = 0; i < count; i++) {
      const int fd = events[i].data.fd;
      if (fd == stop_fd) stopped = true;
      if (fd == neighbours_->fd()) follow_neighbours(Clock::now());
      if (unreachables_ && std::ranges::count(unreachables_->fds(), fd) > 0)
        unreachables_->read(counters_->unreachables());
      if (fd == socket_->fd())
        socket_->process([this](ControlRequest request) { return handle(std::move(request)); });
    }
  }
  ::epoll_ctl(epoll_.get(), EPOLL_CTL_DEL, stop_fd, nullptr);
  return result;
}

// Requests.

Result<ControlAnswer> Server::Impl::handle(ControlRequest request) {
  if (request.name == "hello") return answer_hello();
  if (request.name == "publish") return answer_publish(std::move(request));
  if (request.name == "snapshot") return answer_snapshot();
  if (request.name == "status") return answer_status();
  if (request.name == "explain") return answer_explain(request);
  if (request.name == "counters" || request.name == "connections") {
    Result<UniqueFd> descriptor =
        request.name == "counters" ? counters_->read_only_descriptor() : connections_->read_only_descriptor();
    if (!descriptor.ok()) return descriptor.error();
    ControlAnswer answer;
    answer.descriptor = std::move(descriptor).value();
    return answer;
  }
  return Error{fmt::format(
      "request: \"{}\" is unknown; there are hello, publish, snapshot, status, counters, connections and "
      "explain",
      request.name.substr(0, 60))};
}

Result<ControlAnswer> Server::Impl::answer_hello() const {
  ControlAnswer answer;
  answer.fields = {{"engine", engine_->name()},
                   {"version", options_.version},
                   {"abi",
                    {{"snapshot", SLUICE_SNAPSHOT_VERSION},
                     {"connections", SLUICE_CONNECTION_VERSION},
                     {"counters", SLUICE_COUNTER_VERSION}}},
                   {"revision", revision()}};
  return answer;
}

Result<ControlAnswer> Server::Impl::answer_publish(ControlRequest request) {
  if (!request.descriptor.valid())
    return Error{"publish: no descriptor was passed: pass the snapshot's sealed memfd"};
  const auto refuse = [this](const Error &error) {
    spdlog::error("a snapshot is refused, revision {} stays in force: {}", revision(), error.message);
    return error;
  };
  auto snapshot = MappedSnapshot::from_memfd(std::move(request.descriptor));
  if (!snapshot.ok()) return refuse(snapshot.error());
  if (const Status room = engine_->make_room(snapshot.value()); !room.ok()) return refuse(room.error());
  if (!snapshot_ || !is_same(*snapshot_, *snapshot.value()) || !store_error_.empty()) {
    if (snapshot.value()->header().revision < revision())
      spdlog::warn("revision {} replaces revision {}: sluiced counts anew",
                   snapshot.value()->header().revision, revision());
    const bool is_new = !snapshot_ || !is_same(*snapshot_, *snapshot.value());
    const uint64_t before_s = read_boot_clock().boottime_s;
    const Status installed = install(std::move(snapshot).value(), Await::kLinkAddresses, kNextHopWait);
    if (!installed.ok()) return refuse(installed.error());
    if (is_new) in_force_since_s_ = before_s;
    const Status saved = store_.save(*snapshot_);
    store_error_ = saved.ok() ? "" : saved.error().message;
    // Forwarding goes on with it; only the next start would lack it.
    if (!saved.ok()) spdlog::error("revision {} is in force but not on disk: {}", revision(), store_error_);
    spdlog::info("revision {} is in force", revision());
  }
  ControlAnswer answer;
  answer.fields = {{"revision", revision()}, {"stored", store_error_.empty()}};
  if (!store_error_.empty()) answer.fields["warning"] = store_error_;
  return answer;
}

Result<ControlAnswer> Server::Impl::answer_snapshot() const {
  ControlAnswer answer;
  answer.fields = {{"revision", revision()}};
  if (!snapshot_) return answer;
  Result<UniqueFd> descriptor = duplicate(snapshot_->memfd());
  if (!descriptor.ok()) return descriptor.error();
  answer.descriptor = std::move(descriptor).value();
  return answer;
}

Json Server::Impl::next_hops() const {
  const NextHopCounts counts = neighbours_->counts();
  Json list = Json::array();
  for (const NextHopStatus &hop : neighbours_->status(kNextHopsShown)) {
    const Backend &backend = snapshot_->backends()[hop.backend];
    list.push_back({{"backend", hop.backend},
                    {"pool", snapshot_->string(backend.pool)},
                    {"name", snapshot_->string(backend.name)},
                    {"address", address_text(backend.address)},
                    {"state", hop.state},
                    {"via", hop.via}});
  }
  const size_t total = size_t{counts.ready} + counts.waiting + counts.unreachable;
  return {{"ready", counts.ready},
          {"waiting", counts.waiting},
          {"unreachable", counts.unreachable},
          {"not_shown", total - list.size()},
          {"list", std::move(list)}};
}

Result<ControlAnswer> Server::Impl::answer_status() const {
  ControlAnswer answer;
  answer.fields = engine_->status();
  Json &fields = answer.fields;
  fields["engine"] = engine_->name();
  fields["version"] = options_.version;
  fields["revision"] = revision();
  fields["stored"] = snapshot_ != nullptr && store_error_.empty();
  if (!store_error_.empty()) fields["warning"] = store_error_;
  fields["next_hops"] = next_hops();
  fields["icmp_errors"] = unreachables_ ? "counted" : "not counted: " + unreachables_error_;
  fields["memory"]["connections_bytes"] = connections_->header().total_size;
  fields["memory"]["connections"] = connections_->opened_as();
  fields["memory"]["counters_bytes"] = counters_->header().total_size;
  return answer;
}

/// What workers see, as it is now: they go on meanwhile.
LiveTables Server::Impl::live_tables() const {
  LiveTables live;
  live.forwarding = installed_.get();
  const ConnectionRegionHeader &header = connections_->header();
  for (uint32_t table = 0; table < header.table_count; table++)
    live.connections.push_back({{connections_->ipv4_buckets(table), connections_->ipv6_buckets(table)}});
  live.workers = header.live_tables;
  live.active_connections = [this](uint32_t /*worker*/, uint16_t backend) {
    uint32_t sum = 0;
    if (backend >= counters_->header().backend_capacity) return sum;
    for (uint32_t worker = 0; worker < counters_->header().worker_count; worker++)
      sum += __atomic_load_n(&counters_->backends(worker)[backend].active_connections, __ATOMIC_RELAXED);
    return sum;
  };
  live.now_s = static_cast<uint32_t>(read_boot_clock().boottime_s);
  return live;
}

std::string Server::Impl::next_hop_words(uint16_t backend) const {
  const NextHopStatus hop = neighbours_->status_of(backend);
  return hop.state == "ready" ? hop.via : hop.state;
}

std::string Server::Impl::port_name(uint16_t index) const {
  char name[IF_NAMESIZE] = {};
  for (const EnginePort &port : engine_->ports())
    if (port.index == index && ::if_indextoname(port.kernel_ifindex, name) != nullptr) return name;
  return std::to_string(index);
}

/// Reads what packets read, and changes nothing of it.
Result<ControlAnswer> Server::Impl::answer_explain(const ControlRequest &request) const {
  const Result<ExplainRequest> wanted = parse_explain_request(request.fields);
  if (!wanted.ok()) return Error{"explain: " + wanted.error().message};
  const LiveTables live = live_tables();
  const ExplainContext context = {live, in_force_since_s_,
                                  [this](uint16_t backend) { return next_hop_words(backend); },
                                  [this](uint16_t port) { return port_name(port); }};
  Result<Json> explained = explain(context, wanted.value());
  if (!explained.ok()) return Error{"explain: " + explained.error().message};
  ControlAnswer answer;
  answer.fields = std::move(explained).value();
  answer.fields["engine"] = engine_->name();
  answer.fields["snapshot"] = revision();
  return answer;
}

Server::Server(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
Server::~Server() = default;

Result<std::unique_ptr<Server>> Server::create(const ServerOptions &options, Engine *engine,
                                               const CounterRegion *counters, ConnectionRegion *connections) {
  auto impl = std::make_unique<Impl>(options, engine, counters, connections);
  const Status opened = impl->open();
  if (!opened.ok()) return opened.error();
  return std::unique_ptr<Server>(new Server(std::move(impl)));
}

Status Server::run(int stop_fd) { return impl_->run(stop_fd); }

}  // namespace sluice
