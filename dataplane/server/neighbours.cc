#include "dataplane/server/neighbours.h"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <deque>
#include <optional>
#include <set>
#include <unordered_map>
#include <utility>

#include <fmt/format.h>
#include <spdlog/spdlog.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/timerfd.h>

#include "dataplane/server/address_keys.h"
#include "dataplane/server/netlink.h"
#include "dataplane/server/unique_fd.h"

namespace sluice {
namespace {

using Clock = std::chrono::steady_clock;
using namespace std::chrono_literals;

constexpr size_t kRoutesPerTurn = 256;  // questions in one call of process()
constexpr size_t kNeighboursPerSweep = 1024;
constexpr uint32_t kAddressBits = 128;
constexpr size_t kMaxChangedPrefixes = 16;  // more are taken as "every route"
constexpr auto kTick = 100ms;
constexpr auto kRoundGap = 100ms;  // between two rounds of asking for routes that may have changed
constexpr int kRoundShare = 4;     // and at least so many times as long as the round before took
constexpr auto kRefresh = 30s;     // every route is asked for anew: the kernel's exceptions have no events
constexpr auto kSweepGap = 500ms;  // between two looks at the next hops
constexpr auto kAskAgain = 1s;     // a next hop without an answer, or one that went stale

/// A neighbour on a port's link. Its link address is kept when the kernel forgets it (a flush must not
/// stop traffic) until the kernel says that nobody answers.
struct Hop {
  enum class Answer { kNone, kGiven, kRefused };  // refused: the kernel asked and nobody answered
  std::optional<LinkAddress> link;
  KernelNeighbour::State state = KernelNeighbour::State::kGone;
  Answer answer = Answer::kNone;
  int error_number = 0;  // of the last question
  uint32_t users = 0;    // destinations that are reached through it
  Clock::time_point asked_at = Clock::time_point::min();
};

enum class Problem { kNone, kNotAsked, kNoRoute, kLocal, kNotPort, kLinkDown, kNoSource, kWaiting, kNobody };

/// A distinct backend address.
struct Destination {
  uint64_t generation = 0;  // of the set_backends that last named it
  enum class Queue { kNo, kYes } queue = Queue::kNo;
  std::optional<KernelRoute> route;
  Hop *hop = nullptr;
};

}  // namespace

class Neighbours::Impl : public KernelEvents {
 public:
  explicit Impl(const std::vector<EnginePort> &ports) { take_ports(ports); }

  Status open();
  int fd() const { return epoll_.get(); }
  void set_backends(std::span<const Backend> backends);
  void set_ports(const std::vector<EnginePort> &ports);
  Links take_link_changes() { return std::exchange(link_changes_, Links::kSame); }
  Change process(Clock::time_point now);
  uint32_t pending_new_backends() const;
  uint32_t unasked_new_backends() const;
  std::vector<Egress> egress() const;
  NextHopCounts counts() const;
  std::vector<NextHopStatus> status(size_t limit) const;
  NextHopStatus status_of(uint32_t backend) const;

  void on_link(const KernelLink &link) override;
  void on_neighbour(const KernelNeighbour &neighbour) override;
  void on_route(const Address &prefix, uint32_t prefix_bits) override;
  void on_all_routes() override { every_route_changed_ = true; }

 private:
  Status watch(int fd);
  void take_ports(const std::vector<EnginePort> &ports);
  void resync();
  void drop_unlisted(const std::vector<KernelLink> &listed);
  void give_up_failed();
  void ask_soon(Hop *hop);
  void start_round(Clock::time_point now);
  void enqueue(const Address &address, Destination *destination);
  void ask_for_routes(Clock::time_point now);
  void ask_for_route(const Address &address, Destination *destination, Clock::time_point now);
  void release(Destination *destination);
  void use(const HopKey &key, Hop *hop, Clock::time_point now);
  void sweep(Clock::time_point now);
  Problem problem(const Destination &destination) const;
  EgressPath path(const Destination &destination) const;
  NextHopStatus describe(uint32_t backend) const;
  std::string explain(const Address &address, const Destination &destination) const;
  std::string link_name(uint32_t ifindex) const;
  std::string advice_without_port(uint32_t ifindex) const;
  void warn_without_port(const Address &address, const Destination &destination);

  std::unique_ptr<Netlink> netlink_;
  UniqueFd epoll_;
  UniqueFd timer_;
  UniqueFd work_;                                   // an eventfd: readable while the queue is not empty
  std::unordered_map<uint32_t, EnginePort> ports_;  // by kernel ifindex
  std::unordered_map<uint32_t, KernelLink> links_;  // by ifindex
  std::unordered_map<HopKey, Hop, HopKeyHash, HopKeyEqual> hops_;
  std::unordered_map<Address, Destination, AddressHash, AddressEqual> destinations_;
  std::vector<Backend> backends_;
  std::vector<const Destination *> of_backend_;  // by identifier; null for unused ones
  std::vector<Address> new_addresses_;  // of backends that are up, first named by the last set_backends
  uint64_t generation_ = 0;

  Links link_changes_ = Links::kSame;

  // Whether every event was heard; retrying: not, and reading everything anew has failed so far.
  enum class Sync { kKept, kLost, kRetrying } sync_ = Sync::kKept;
  std::set<uint32_t> warned_of_;  // interfaces that are no port
  std::vector<HopKey> failed_;    // in the events of this call
  std::deque<Address> queue_;     // destinations whose route is to be asked for
  std::vector<std::pair<Address, uint32_t>> changed_prefixes_;
  bool every_route_changed_ = false;
  bool egress_changed_ = false;
  Clock::time_point round_started_ = Clock::time_point::min();
  Clock::time_point next_round_ = Clock::time_point::min();
  Clock::time_point next_refresh_ = Clock::time_point::min();
  Clock::time_point next_sweep_ = Clock::time_point::min();
};

Status Neighbours::Impl::watch(int fd) {
  epoll_event event = {};
  event.events = EPOLLIN;
  if (fd < 0 || ::epoll_ctl(epoll_.get(), EPOLL_CTL_ADD, fd, &event) != 0)
    return Error{fmt::format("neighbours: cannot watch a descriptor: {}", std::strerror(errno))};
  return Done{};
}

Status Neighbours::Impl::open() {
  Result<std::unique_ptr<Netlink>> netlink = Netlink::open();
  if (!netlink.ok()) return netlink.error();
  netlink_ = std::move(netlink).value();
  epoll_.reset(::epoll_create1(EPOLL_CLOEXEC));
  timer_.reset(::timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK));
  work_.reset(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  itimerspec tick = {};
  tick.it_value.tv_nsec = std::chrono::nanoseconds(kTick).count();
  tick.it_interval = tick.it_value;
  ::timerfd_settime(timer_.get(), 0, &tick, nullptr);
  for (const int fd : {netlink_->event_fd(), timer_.get(), work_.get()}) {
    Status watched = watch(fd);
    if (!watched.ok()) return watched;
  }
  return netlink_->dump(this);
}

// Events.

void Neighbours::Impl::on_link(const KernelLink &link) {
  KernelLink &known = links_[link.ifindex];
  if (known == link) return;
  const bool is_gone = link.state == KernelLink::State::kGone;
  if (known.name != link.name || known.mtu != link.mtu ||
      is_gone != (known.state == KernelLink::State::kGone))
    link_changes_ = Links::kChanged;
  if (ports_.contains(link.ifindex)) {
    egress_changed_ = true;
    next_sweep_ = Clock::time_point::min();
    // What nobody answered while the link was down is asked again now that it is up.
    for (auto &[key, hop] : hops_)
      if (key.ifindex == link.ifindex) hop.asked_at = Clock::time_point::min();
  }
  known = link;
  // The kernel drops the IPv4 routes of a link that goes down without saying so.
  every_route_changed_ = true;
}

void Neighbours::Impl::on_neighbour(const KernelNeighbour &neighbour) {
  using State = KernelNeighbour::State;
  if (!ports_.contains(neighbour.ifindex)) return;
  const HopKey key = {neighbour.ifindex, neighbour.address};
  auto found = hops_.find(key);
  const bool worth_keeping = neighbour.state == State::kValid || neighbour.state == State::kStale;
  if (found == hops_.end() && !worth_keeping) return;
  if (found == hops_.end()) found = hops_.try_emplace(key).first;
  Hop &hop = found->second;
  if (!worth_keeping && hop.users == 0) {
    hops_.erase(found);
    return;
  }
  hop.state = neighbour.state;
  if (worth_keeping) {
    if (hop.users > 0 && hop.link != neighbour.link_address) egress_changed_ = true;
    hop.link = neighbour.link_address;
    hop.answer = Hop::Answer::kGiven;
  } else if (neighbour.state == State::kFailed) {
    failed_.push_back(key);
  } else if (neighbour.state == State::kGone) {
    ask_soon(&hop);
  }
}

/// A deletion by hand is told as a failure first and as a deletion right after. Only what is still
/// failed when all events are read was really asked for in vain.
void Neighbours::Impl::give_up_failed() {
  for (const HopKey &key : std::exchange(failed_, {})) {
    const auto found = hops_.find(key);
    if (found == hops_.end() || found->second.state != KernelNeighbour::State::kFailed) continue;
    Hop &hop = found->second;
    hop.answer = Hop::Answer::kRefused;
    if (!hop.link) continue;
    hop.link.reset();
    egress_changed_ = true;
    ask_soon(&hop);  // the peer may only have changed its address
  }
}

void Neighbours::Impl::ask_soon(Hop *hop) {
  hop->asked_at = Clock::time_point::min();
  next_sweep_ = Clock::time_point::min();
}

void Neighbours::Impl::on_route(const Address &prefix, uint32_t prefix_bits) {
  if (every_route_changed_) return;
  for (const auto &[known, bits] : changed_prefixes_)
    if (bits <= prefix_bits && within(prefix, known, bits)) return;
  changed_prefixes_.emplace_back(prefix, prefix_bits);
  if (changed_prefixes_.size() > kMaxChangedPrefixes) every_route_changed_ = true;
}

/// The other links are compared with what is listed: being read anew is no change.
void Neighbours::Impl::drop_unlisted(const std::vector<KernelLink> &listed) {
  std::set<uint32_t> indexes;
  for (const KernelLink &link : listed) indexes.insert(link.ifindex);
  std::erase_if(links_, [&](const auto &known) {
    const auto &[ifindex, link] = known;
    if (indexes.contains(ifindex)) return false;
    if (link.state != KernelLink::State::kGone) link_changes_ = Links::kChanged;
    return true;
  });
}

/// Reads everything anew, when the kernel says that it dropped events. Until that has worked, what was
/// known before stays in use.
void Neighbours::Impl::resync() {
  KernelListing listing;
  const Status dumped = netlink_->dump(&listing);
  if (!dumped.ok()) {
    if (sync_ == Sync::kLost)
      spdlog::error("{}; what was known stays in use meanwhile", dumped.error().message);
    sync_ = Sync::kRetrying;
    return;
  }
  if (sync_ == Sync::kRetrying) spdlog::info("neighbours: links, neighbours and routes are known again");
  sync_ = Sync::kKept;
  drop_unlisted(listing.links);
  const auto before = std::exchange(hops_, {});
  std::unordered_map<const Hop *, HopKey> key_of;
  for (const auto &[key, hop] : before) {
    if (hop.users == 0) continue;
    Hop &kept = hops_[key];
    kept = hop;
    kept.state = KernelNeighbour::State::kGone;  // unless the list below has it
    kept.asked_at = Clock::time_point::min();
    key_of[&hop] = key;
  }
  for (auto &[address, destination] : destinations_)
    if (destination.hop != nullptr) destination.hop = &hops_[key_of[destination.hop]];
  for (const KernelLink &link : listing.links) on_link(link);
  for (const KernelNeighbour &neighbour : listing.neighbours) on_neighbour(neighbour);
  egress_changed_ = true;
  every_route_changed_ = true;
  next_sweep_ = Clock::time_point::min();
}

// Questions.

void Neighbours::Impl::set_backends(std::span<const Backend> backends) {
  generation_++;
  backends_.assign(backends.begin(), backends.end());
  of_backend_.assign(backends.size(), nullptr);
  new_addresses_.clear();
  for (size_t i = 0; i < backends.size(); i++) {
    if (backends[i].state == kBackendUnused) continue;
    const auto [entry, added] = destinations_.try_emplace(backends[i].address);
    entry->second.generation = generation_;
    of_backend_[i] = &entry->second;
    if (!added) continue;
    enqueue(entry->first, &entry->second);
    if (backends[i].state == kBackendUp) new_addresses_.push_back(entry->first);
  }
  for (auto entry = destinations_.begin(); entry != destinations_.end();) {
    if (entry->second.generation == generation_) {
      ++entry;
      continue;
    }
    release(&entry->second);
    entry = destinations_.erase(entry);
  }
}

void Neighbours::Impl::take_ports(const std::vector<EnginePort> &ports) {
  ports_.clear();
  for (const EnginePort &port : ports)
    if (port.kernel_ifindex != 0) ports_[port.kernel_ifindex] = port;
}

void Neighbours::Impl::set_ports(const std::vector<EnginePort> &ports) {
  const std::unordered_map<uint32_t, EnginePort> before = ports_;
  take_ports(ports);
  warned_of_.clear();
  for (auto &[address, destination] : destinations_) {
    if (!destination.route || destination.route->kind != KernelRoute::Kind::kUnicast) continue;
    const uint32_t ifindex = destination.route->ifindex;
    if (before.contains(ifindex) == ports_.contains(ifindex)) continue;
    release(&destination);
    destination.route.reset();
    enqueue(address, &destination);
  }
  egress_changed_ = true;
  // Neighbours on a link that was no port have not been listened to.
  sync_ = Sync::kLost;
}

void Neighbours::Impl::enqueue(const Address &address, Destination *destination) {
  if (destination->queue == Destination::Queue::kYes) return;
  destination->queue = Destination::Queue::kYes;
  queue_.push_back(address);
  ::eventfd_write(work_.get(), 1);
}

Neighbours::Change Neighbours::Impl::process(Clock::time_point now) {
  uint64_t expirations = 0;
  while (::read(timer_.get(), &expirations, sizeof(expirations)) > 0) continue;
  if (netlink_->read_events(this) == Netlink::Heard::kOverrun) {
    spdlog::warn("neighbours: the kernel dropped events; links, neighbours and routes are read anew");
    sync_ = Sync::kLost;
  }
  if (sync_ != Sync::kKept) resync();
  give_up_failed();
  if (now >= next_refresh_) {
    every_route_changed_ = true;
    next_refresh_ = now + kRefresh;
  }
  if (queue_.empty() && now >= next_round_) start_round(now);
  ask_for_routes(now);
  if (now >= next_sweep_) sweep(now);
  return std::exchange(egress_changed_, false) ? Change::kEgress : Change::kNone;
}

void Neighbours::Impl::start_round(Clock::time_point now) {
  if (!every_route_changed_ && changed_prefixes_.empty()) return;
  for (auto &[address, destination] : destinations_) {
    bool asked = every_route_changed_;
    for (const auto &[prefix, bits] : changed_prefixes_) asked = asked || within(address, prefix, bits);
    if (asked) enqueue(address, &destination);
  }
  every_route_changed_ = false;
  changed_prefixes_.clear();
  round_started_ = now;
  next_round_ = now + kRoundGap;
}

void Neighbours::Impl::ask_for_routes(Clock::time_point now) {
  eventfd_t ignored = 0;
  ::eventfd_read(work_.get(), &ignored);
  if (queue_.empty()) return;
  for (size_t i = 0; i < kRoutesPerTurn && !queue_.empty(); i++) {
    const Address address = queue_.front();
    queue_.pop_front();
    const auto found = destinations_.find(address);
    if (found == destinations_.end()) continue;
    found->second.queue = Destination::Queue::kNo;
    ask_for_route(address, &found->second, now);
  }
  if (!queue_.empty()) {
    ::eventfd_write(work_.get(), 1);
  } else if (round_started_ != Clock::time_point::min()) {
    next_round_ = now + std::max<Clock::duration>(kRoundGap, kRoundShare * (now - round_started_));
    round_started_ = Clock::time_point::min();
  }
}

void Neighbours::Impl::ask_for_route(const Address &address, Destination *destination,
                                     Clock::time_point now) {
  const KernelRoute route = netlink_->route_to(address);
  if (route.kind == KernelRoute::Kind::kUnknown) {
    on_route(address, kAddressBits);  // asked again in the next round
    return;
  }
  if (destination->route && *destination->route == route) return;
  egress_changed_ = true;
  release(destination);
  destination->route = route;
  if (route.kind != KernelRoute::Kind::kUnicast) return;
  if (!ports_.contains(route.ifindex)) {
    warn_without_port(address, *destination);
    return;
  }
  const HopKey key = {route.ifindex, route.next_hop};
  Hop &hop = hops_[key];
  hop.users++;
  destination->hop = &hop;
  if (!hop.link && hop.answer == Hop::Answer::kNone) use(key, &hop, now);
}

void Neighbours::Impl::release(Destination *destination) {
  if (destination->hop != nullptr) destination->hop->users--;
  destination->hop = nullptr;
}

void Neighbours::Impl::use(const HopKey &key, Hop *hop, Clock::time_point now) {
  if (hop->asked_at != Clock::time_point::min() && now - hop->asked_at < kAskAgain) return;
  hop->asked_at = now;
  hop->error_number = netlink_->use_neighbour(key.ifindex, key.address);
}

/// Has the kernel resolve what has no answer, and confirm what went stale: it sees none of the packets
/// that go there, so it would forget the neighbour.
void Neighbours::Impl::sweep(Clock::time_point now) {
  next_sweep_ = now + kSweepGap;
  size_t asked = 0;
  for (auto entry = hops_.begin(); entry != hops_.end();) {
    auto &[key, hop] = *entry;
    if (hop.users == 0 && !hop.link) {
      entry = hops_.erase(entry);
      continue;
    }
    ++entry;
    if (hop.users == 0 || hop.state == KernelNeighbour::State::kValid) continue;
    if (hop.asked_at != Clock::time_point::min() && now - hop.asked_at < kAskAgain) continue;
    if (asked++ < kNeighboursPerSweep) use(key, &hop, now);
  }
}

// Answers.

Problem Neighbours::Impl::problem(const Destination &destination) const {
  if (!destination.route) return Problem::kNotAsked;
  const KernelRoute &route = *destination.route;
  if (route.kind == KernelRoute::Kind::kNone) return Problem::kNoRoute;
  if (route.kind == KernelRoute::Kind::kLocal) return Problem::kLocal;
  if (destination.hop == nullptr) return Problem::kNotPort;
  const auto link = links_.find(route.ifindex);
  if (link == links_.end() || link->second.state != KernelLink::State::kUp) return Problem::kLinkDown;
  if (!route.source) return Problem::kNoSource;
  if (destination.hop->link) return Problem::kNone;
  return destination.hop->answer == Hop::Answer::kRefused ? Problem::kNobody : Problem::kWaiting;
}

EgressPath Neighbours::Impl::path(const Destination &destination) const {
  const KernelRoute &route = *destination.route;
  const EnginePort &port = ports_.at(route.ifindex);
  const KernelLink &link = links_.at(route.ifindex);
  EgressPath path;
  path.source_link = link.address;
  path.next_hop_link = *destination.hop->link;
  path.source = *route.source;
  path.port = port.index;
  const uint32_t mtu = std::min({uint32_t{port.mtu}, link.mtu, route.mtu == 0 ? link.mtu : route.mtu});
  path.mtu = static_cast<uint16_t>(std::min<uint32_t>(mtu, UINT16_MAX));
  return path;
}

std::vector<Egress> Neighbours::Impl::egress() const {
  std::vector<Egress> records;
  records.reserve(backends_.size());
  for (size_t i = 0; i < backends_.size(); i++) {
    const Destination *destination = of_backend_[i];
    const bool ready = destination != nullptr && problem(*destination) == Problem::kNone;
    records.push_back(ready ? make_egress(backends_[i], path(*destination)) : make_egress(backends_[i]));
  }
  return records;
}

uint32_t Neighbours::Impl::pending_new_backends() const {
  uint32_t pending = 0;
  for (const Address &address : new_addresses_) {
    const Problem why = problem(destinations_.at(address));
    if (why == Problem::kNotAsked || why == Problem::kWaiting) pending++;
  }
  return pending;
}

uint32_t Neighbours::Impl::unasked_new_backends() const {
  return static_cast<uint32_t>(
      std::count_if(new_addresses_.begin(), new_addresses_.end(),
                    [this](const Address &address) { return !destinations_.at(address).route; }));
}

NextHopCounts Neighbours::Impl::counts() const {
  NextHopCounts counts;
  for (const Destination *destination : of_backend_) {
    if (destination == nullptr) continue;
    const Problem why = problem(*destination);
    if (why == Problem::kNone) {
      counts.ready++;
    } else if (why == Problem::kNotAsked || why == Problem::kWaiting) {
      counts.waiting++;
    } else {
      counts.unreachable++;
    }
  }
  return counts;
}

std::string Neighbours::Impl::link_name(uint32_t ifindex) const {
  const auto link = links_.find(ifindex);
  return link == links_.end() ? fmt::format("interface {}", ifindex) : link->second.name;
}

/// What to do about routes that leave by an interface that is no port.
std::string Neighbours::Impl::advice_without_port(uint32_t ifindex) const {
  const auto link = links_.find(ifindex);
  if (link != links_.end() && ports_.contains(link->second.lower_ifindex)) {
    const std::string lower = link_name(link->second.lower_ifindex);
    return fmt::format("VLANs and other interfaces on top of {} are not followed, route it by {} itself",
                       lower, lower);
  }
  std::string names;
  for (const auto &[index, port] : ports_) names += (names.empty() ? "" : " or ") + link_name(index);
  return names.empty() ? "no port has an interface in the kernel" : fmt::format("route it by {}", names);
}

/// Once for each interface: every backend is in `status`.
void Neighbours::Impl::warn_without_port(const Address &address, const Destination &destination) {
  if (!warned_of_.insert(destination.route->ifindex).second) return;
  spdlog::warn("backend {} gets no packets: {}", address_text(address), explain(address, destination));
}

std::string Neighbours::Impl::explain(const Address &address, const Destination &destination) const {
  const std::string to = address_text(address);
  const KernelRoute route = destination.route.value_or(KernelRoute{});
  const std::string name = link_name(route.ifindex);
  switch (problem(destination)) {
    case Problem::kNone:
      return "ready";
    case Problem::kNotAsked:
      return "the route is being asked for";
    case Problem::kNoRoute:
      return fmt::format("the kernel has no route to {}: {}", to, std::strerror(route.error_number));
    case Problem::kLocal:
      return fmt::format("{} is no address of another host: see ip route get {}", to, to);
    case Problem::kNotPort:
      return fmt::format("the route to {} leaves by {}, which is no port: {}", to, name,
                         advice_without_port(route.ifindex));
    case Problem::kLinkDown:
      return fmt::format("{} is down", name);
    case Problem::kNoSource:
      return fmt::format("{} has no address to send to {} from", name, to);
    case Problem::kWaiting:
      break;
    case Problem::kNobody:
      return fmt::format("nobody answers for {} on {}", address_text(route.next_hop), name);
  }
  if (destination.hop->error_number != 0)
    return fmt::format(
        "the kernel does not resolve {} on {}: {} (a full table? net.ipv4.neigh.default.gc_thresh3)",
        address_text(route.next_hop), name, std::strerror(destination.hop->error_number));
  return fmt::format("waiting for the link address of {} on {}", address_text(route.next_hop), name);
}

NextHopStatus Neighbours::Impl::describe(uint32_t backend) const {
  const Destination &destination = *of_backend_[backend];
  NextHopStatus status;
  status.backend = backend;
  status.state = explain(backends_[backend].address, destination);
  if (destination.route && destination.route->kind == KernelRoute::Kind::kUnicast)
    status.via = fmt::format("{} dev {}", address_text(destination.route->next_hop),
                             link_name(destination.route->ifindex));
  return status;
}

std::vector<NextHopStatus> Neighbours::Impl::status(size_t limit) const {
  std::vector<NextHopStatus> list;
  for (const Problem wanted : {Problem::kWaiting, Problem::kNone}) {  // not ready, then ready
    for (uint32_t i = 0; i < of_backend_.size() && list.size() < limit; i++) {
      if (of_backend_[i] == nullptr) continue;
      const bool ready = problem(*of_backend_[i]) == Problem::kNone;
      if (ready == (wanted == Problem::kNone)) list.push_back(describe(i));
    }
  }
  return list;
}

NextHopStatus Neighbours::Impl::status_of(uint32_t backend) const {
  const bool is_there = backend < of_backend_.size() && of_backend_[backend] != nullptr;
  return is_there ? describe(backend) : NextHopStatus{};
}

Neighbours::Neighbours(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
Neighbours::~Neighbours() = default;

Result<std::unique_ptr<Neighbours>> Neighbours::open(const std::vector<EnginePort> &ports) {
  auto impl = std::make_unique<Impl>(ports);
  const Status opened = impl->open();
  if (!opened.ok()) return opened.error();
  return std::unique_ptr<Neighbours>(new Neighbours(std::move(impl)));
}

int Neighbours::fd() const { return impl_->fd(); }
void Neighbours::set_backends(std::span<const Backend> backends) { impl_->set_backends(backends); }
void Neighbours::set_ports(const std::vector<EnginePort> &ports) { impl_->set_ports(ports); }
Neighbours::Links Neighbours::take_link_changes() { return impl_->take_link_changes(); }
Neighbours::Change Neighbours::process(Clock::time_point now) { return impl_->process(now); }
uint32_t Neighbours::pending_new_backends() const { return impl_->pending_new_backends(); }
uint32_t Neighbours::unasked_new_backends() const { return impl_->unasked_new_backends(); }
std::vector<Egress> Neighbours::egress() const { return impl_->egress(); }
NextHopCounts Neighbours::counts() const { return impl_->counts(); }
std::vector<NextHopStatus> Neighbours::status(size_t limit) const { return impl_->status(limit); }
NextHopStatus Neighbours::status_of(uint32_t backend) const { return impl_->status_of(backend); }

}  // namespace sluice
