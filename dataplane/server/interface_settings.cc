#include "dataplane/server/interface_settings.h"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <iterator>
#include <string_view>
#include <utility>

#include <fmt/format.h>
#include <linux/if_addr.h>
#include <linux/ip.h>
#include <linux/neighbour.h>
#include <linux/rtnetlink.h>
#include <net/if.h>
#include <netlink/attr.h>
#include <netlink/cache.h>
#include <netlink/msg.h>
#include <netlink/netlink.h>
#include <netlink/route/addr.h>
#include <netlink/route/link.h>
#include <netlink/route/link/inet.h>
#include <netlink/route/neighbour.h>
#include <netlink/route/route.h>
#include <spdlog/spdlog.h>
#include <sys/socket.h>

namespace sluice {
namespace {

struct SocketDeleter {
  void operator()(nl_sock *socket) const { nl_socket_free(socket); }
};
struct CacheDeleter {
  void operator()(nl_cache *cache) const { nl_cache_free(cache); }
};
struct ObjectDeleter {
  void operator()(nl_object *object) const { nl_object_put(object); }
};
using Socket = std::unique_ptr<nl_sock, SocketDeleter>;
using Cache = std::unique_ptr<nl_cache, CacheDeleter>;
using Object = std::unique_ptr<nl_object, ObjectDeleter>;

Error failed(const std::string &interface, std::string_view what, int error) {
  return Error{fmt::format("interface {}: {}: {}", interface, what, nl_geterror(error))};
}

Result<Socket> connect(const std::string &interface) {
  Socket socket(nl_socket_alloc());
  if (!socket) return failed(interface, "netlink", -NLE_NOMEM);
  const int error = nl_connect(socket.get(), NETLINK_ROUTE);
  if (error < 0) return failed(interface, "netlink", error);
  return socket;
}

/// Calls `visit` with every object of a cache.
template <typename Visit>
void for_each(const Cache &cache, Visit visit) {
  if (!cache) return;
  for (nl_object *object = nl_cache_get_first(cache.get()); object != nullptr;
       object = nl_cache_get_next(object))
    visit(object);
}

/// The kernel's addresses, none when it cannot be asked.
Cache all_addresses(nl_sock *socket) {
  nl_cache *cache = nullptr;
  return Cache(rtnl_addr_alloc_cache(socket, &cache) == 0 ? cache : nullptr);
}
Cache all_routes(nl_sock *socket) {
  nl_cache *cache = nullptr;
  return Cache(rtnl_route_alloc_cache(socket, AF_UNSPEC, 0, &cache) == 0 ? cache : nullptr);
}
Cache all_neighbours(nl_sock *socket) {
  nl_cache *cache = nullptr;
  return Cache(rtnl_neigh_alloc_cache(socket, &cache) == 0 ? cache : nullptr);
}

rtnl_addr *address_of(nl_object *object) { return reinterpret_cast<rtnl_addr *>(object); }
rtnl_route *route_of(nl_object *object) { return reinterpret_cast<rtnl_route *>(object); }
rtnl_neigh *neighbour_of(nl_object *object) { return reinterpret_cast<rtnl_neigh *>(object); }

bool is_one_of(rtnl_addr *address, const std::vector<InterfaceAddress> &wanted) {
  nl_addr *local = rtnl_addr_get_local(address);
  if (local == nullptr) return false;
  return std::any_of(wanted.begin(), wanted.end(), [local](const InterfaceAddress &one) {
    const bool ipv4 = address_is_ipv4(&one.address);
    const void *bytes = ipv4 ? static_cast<const void *>(&one.address.word[3]) : &one.address;
    const size_t size = ipv4 ? 4 : sizeof(one.address);
    return nl_addr_get_len(local) == size && nl_addr_get_prefixlen(local) == one.prefix_length &&
           std::memcmp(nl_addr_get_binary_addr(local), bytes, size) == 0;
  });
}

/// Whether somebody put the route there: an operator, a routing daemon. The kernel's own come and go with
/// the addresses.
bool is_given_route(rtnl_route *route) {
  const uint8_t protocol = rtnl_route_get_protocol(route);
  if (protocol == RTPROT_KERNEL || protocol == RTPROT_REDIRECT || protocol == RTPROT_RA) return false;
  return rtnl_route_get_type(route) == RTN_UNICAST;
}

std::vector<rtnl_nexthop *> hops_of(rtnl_route *route) {
  std::vector<rtnl_nexthop *> hops(static_cast<size_t>(rtnl_route_get_nnexthops(route)));
  for (size_t i = 0; i < hops.size(); i++) hops[i] = rtnl_route_nexthop_n(route, static_cast<int>(i));
  return hops;
}

/// A route that is to move, and which of its next hops do: those by the interface.
struct MovingRoute {
  Object object;
  std::vector<rtnl_nexthop *> hops;  // the object's

  rtnl_route *route() const { return route_of(object.get()); }
  void set_ifindex(int ifindex) const {
    for (rtnl_nexthop *hop : hops) rtnl_route_nh_set_ifindex(hop, ifindex);
  }
  bool has_gateway() const {
    return std::any_of(hops.begin(), hops.end(),
                       [](rtnl_nexthop *hop) { return rtnl_route_nh_get_gateway(hop) != nullptr; });
  }
};

/// What of a route leaves by an interface. An IPv6 route of several next hops is as many routes to the
/// kernel, siblings that come and go one by one: also the same gateway by two interfaces, as an interrupted
/// move leaves it. An IPv4 route is one whole.
std::vector<MovingRoute> moving_routes(nl_object *object, int ifindex) {
  const auto is_by_it = [ifindex](rtnl_nexthop *hop) { return rtnl_route_nh_get_ifindex(hop) == ifindex; };
  std::vector<MovingRoute> moving;
  const bool has_siblings = rtnl_route_get_family(route_of(object)) == AF_INET6;
  const size_t parts = has_siblings ? hops_of(route_of(object)).size() : 1;
  for (size_t i = 0; i < parts; i++) {
    MovingRoute part{Object(nl_object_clone(object)), {}};
    std::vector<rtnl_nexthop *> hops = hops_of(part.route());
    if (has_siblings) {
      for (rtnl_nexthop *other : hops) {
        if (other == hops[i]) continue;
        rtnl_route_remove_nexthop(part.route(), other);
        rtnl_route_nh_free(other);
      }
      hops = {hops[i]};
    }
    std::copy_if(hops.begin(), hops.end(), std::back_inserter(part.hops), is_by_it);
    if (!part.hops.empty()) moving.push_back(std::move(part));
  }
  return moving;
}

/// Adds a route behind those that there are. The weight of an only next hop is nothing that libnl sends.
int append_route(nl_sock *socket, rtnl_route *route) {
  rtnl_nexthop *hop = rtnl_route_nexthop_n(route, 0);
  const uint8_t weight = rtnl_route_nh_get_weight(hop);
  nl_addr *gateway = rtnl_route_nh_get_gateway(hop);
  if (rtnl_route_get_nnexthops(route) != 1 || weight == 0 || gateway == nullptr)
    return rtnl_route_add(socket, route, NLM_F_APPEND);
  nl_msg *message = nullptr;
  const int error = rtnl_route_build_add_request(route, NLM_F_APPEND, &message);
  if (error < 0) return error;
  nlattr *several = nla_nest_start(message, RTA_MULTIPATH);
  auto *only = static_cast<rtnexthop *>(nlmsg_reserve(message, sizeof(rtnexthop), NLA_ALIGNTO));
  if (several == nullptr || only == nullptr ||
      nla_put(message, RTA_GATEWAY, static_cast<int>(nl_addr_get_len(gateway)),
              nl_addr_get_binary_addr(gateway)) < 0) {
    nlmsg_free(message);
    return -NLE_NOMEM;
  }
  *only = {.rtnh_len = static_cast<uint16_t>(sizeof(rtnexthop) + nla_total_size(nl_addr_get_len(gateway))),
           .rtnh_flags = static_cast<uint8_t>(rtnl_route_nh_get_flags(hop)),
           .rtnh_hops = weight,
           .rtnh_ifindex = rtnl_route_nh_get_ifindex(hop)};
  nla_nest_end(message, several);
  return nl_send_sync(socket, message);
}

bool is_known_neighbour(rtnl_neigh *neighbour, int ifindex) {
  constexpr int kKnown = NUD_REACHABLE | NUD_STALE | NUD_DELAY | NUD_PROBE | NUD_PERMANENT;
  return rtnl_neigh_get_ifindex(neighbour) == ifindex && (rtnl_neigh_get_state(neighbour) & kKnown) != 0 &&
         rtnl_neigh_get_lladdr(neighbour) != nullptr;
}

/// Of a tap: whether somebody has it open. (IFF_RUNNING says so up to a second later.)
bool has_carrier(nl_sock *socket, const std::string &interface) {
  rtnl_link *link = nullptr;
  if (rtnl_link_get_kernel(socket, 0, interface.c_str(), &link) < 0) return false;
  const bool carrier = rtnl_link_get_carrier(link) != 0;
  rtnl_link_put(link);
  return carrier;
}

std::string text_of(nl_addr *address) {
  char text[128] = {};
  return address == nullptr ? "" : nl_addr2str(address, text, sizeof(text));
}

std::string counted(size_t count, std::string_view one, std::string_view many) {
  return fmt::format("{} {}", count, count == 1 ? one : many);
}

/// The addresses on an interface.
std::vector<Object> addresses_on(nl_sock *socket, int ifindex) {
  std::vector<Object> addresses;
  for_each(all_addresses(socket), [&](nl_object *object) {
    if (rtnl_addr_get_ifindex(address_of(object)) == ifindex) addresses.emplace_back(nl_object_clone(object));
  });
  return addresses;
}

bool contains(const std::vector<Object> &addresses, const Object &wanted) {
  return std::any_of(addresses.begin(), addresses.end(), [&wanted](const Object &one) {
    const nl_addr *local = rtnl_addr_get_local(address_of(one.get()));
    const nl_addr *other = rtnl_addr_get_local(address_of(wanted.get()));
    return nl_addr_cmp(local, other) == 0;
  });
}

enum class Secondaries : uint32_t { kGo = 0, kPromoted = 1 };

/// What an interface's secondary addresses do when their primary one goes; returns what they did before.
Secondaries set_secondaries(nl_sock *socket, int ifindex, Secondaries wanted) {
  rtnl_link *link = nullptr;
  if (rtnl_link_get_kernel(socket, ifindex, nullptr, &link) < 0) return wanted;
  const Object link_owner(OBJ_CAST(link));
  uint32_t before = 0;
  if (rtnl_link_inet_get_conf(link, IPV4_DEVCONF_PROMOTE_SECONDARIES, &before) < 0) return wanted;
  const Object change(OBJ_CAST(rtnl_link_alloc()));
  auto *changed = reinterpret_cast<rtnl_link *>(change.get());
  if (before == static_cast<uint32_t>(wanted) || changed == nullptr) return wanted;
  rtnl_link_set_ifindex(changed, ifindex);
  rtnl_link_inet_set_conf(changed, IPV4_DEVCONF_PROMOTE_SECONDARIES, static_cast<uint32_t>(wanted));
  const int error = rtnl_link_change(socket, changed, changed, 0);
  if (error < 0)
    spdlog::debug("interface {}: promoting secondary addresses: {}", ifindex, nl_geterror(error));
  return before == 0 ? Secondaries::kGo : Secondaries::kPromoted;
}

/// Removes the addresses and leaves all others: by default the kernel takes secondary ones away with their
/// primary one.
int remove_addresses(nl_sock *socket, int ifindex, const std::vector<Object> &addresses) {
  const std::vector<Object> before = addresses_on(socket, ifindex);
  const bool has_others = std::any_of(before.begin(), before.end(), [&](const Object &address) {
    return rtnl_addr_get_family(address_of(address.get())) == AF_INET && !contains(addresses, address);
  });
  // Who is killed in between leaves them promoted, not lost.
  const Secondaries secondaries =
      has_others ? set_secondaries(socket, ifindex, Secondaries::kPromoted) : Secondaries::kPromoted;
  for (const Object &address : addresses) {
    const int error = rtnl_addr_delete(socket, address_of(address.get()), 0);
    if (error < 0 && error != -NLE_NOADDR && error != -NLE_NODEV) return error;
  }
  if (secondaries == Secondaries::kGo) set_secondaries(socket, ifindex, secondaries);
  const std::vector<Object> after = addresses_on(socket, ifindex);
  // Where it did not let itself be told so.
  for (const Object &address : before) {
    if (contains(addresses, address) || contains(after, address)) continue;
    const int error = rtnl_addr_add(socket, address_of(address.get()), NLM_F_REPLACE);
    if (error < 0) return error;
  }
  return 0;
}

}  // namespace

class SettingsMove::Impl {
 public:
  enum class Source { kInterface, kTap };

  Impl(std::string from, std::string to, Source source)
      : from_(std::move(from)),
        to_(std::move(to)),
        source_(source),
        from_index_(static_cast<int>(::if_nametoindex(from_.c_str()))),
        to_index_(static_cast<int>(::if_nametoindex(to_.c_str()))) {}
  Impl(const Impl &) = delete;
  Impl &operator=(const Impl &) = delete;
  ~Impl() {
    if (state_ == State::kMade) undo();
  }

  Status make(const std::vector<InterfaceAddress> &addresses);
  void keep();
  std::string text() const;

 private:
  enum class State { kMade, kKept };

  Status check_tap() const;
  void remember(const std::vector<InterfaceAddress> &addresses);
  void put_on(const std::string &interface, int ifindex) const;
  Status take_from(const std::string &interface, int ifindex, const std::vector<Object> &addresses) const;
  void undo();

  std::string from_;
  std::string to_;
  Source source_;
  int from_index_;  // 0: there is none
  int to_index_;
  State state_ = State::kMade;
  Socket socket_;
  std::vector<Object> addresses_;    // those that `from` had
  std::vector<Object> added_;        // those that `to` did not have
  std::vector<MovingRoute> routes_;  // those without a gateway first
  std::vector<Object> neighbours_;
};

Status SettingsMove::Impl::make(const std::vector<InterfaceAddress> &addresses) {
  if (to_index_ == 0) return Error{fmt::format("interface {}: there is none of this name", to_)};
  Result<Socket> socket = connect(to_);
  if (!socket.ok()) return socket.error();
  socket_ = std::move(socket).value();
  if (source_ == Source::kTap && from_index_ != 0) {
    Status checked = check_tap();
    if (!checked.ok()) return checked;
  }
  remember(addresses);
  const std::vector<Object> before = addresses_on(socket_.get(), to_index_);
  Status added = add_addresses(to_, addresses);
  for (Object &address : addresses_on(socket_.get(), to_index_))
    if (is_one_of(address_of(address.get()), addresses) && !contains(before, address))
      added_.push_back(std::move(address));
  if (!added.ok()) return added;
  put_on(to_, to_index_);
  return take_from(from_, from_index_, addresses_);
}

Status SettingsMove::Impl::check_tap() const {
  // Not by /sys/class/net: that is of the network namespace in which it was mounted.
  if (interface_facts(from_).driver != "tun")
    return Error{
        fmt::format("kernel: \"{}\": an interface of this name exists and is no tap of a DPDK engine: remove "
                    "it or give another name",
                    from_)};
  if (has_carrier(socket_.get(), from_))
    return Error{fmt::format("kernel: \"{}\": a process has this tap open: stop it first", from_)};
  return Done{};
}

/// Looks for what is to move.
void SettingsMove::Impl::remember(const std::vector<InterfaceAddress> &addresses) {
  if (from_index_ == 0) return;
  for (Object &address : addresses_on(socket_.get(), from_index_))
    if (is_one_of(address_of(address.get()), addresses)) addresses_.push_back(std::move(address));
  if (addresses_.empty() && source_ == Source::kInterface) return;
  for_each(all_routes(socket_.get()), [&](nl_object *object) {
    if (!is_given_route(route_of(object))) return;
    for (MovingRoute &moving : moving_routes(object, from_index_)) routes_.push_back(std::move(moving));
  });
  std::stable_partition(routes_.begin(), routes_.end(),
                        [](const MovingRoute &moving) { return !moving.has_gateway(); });
  for_each(all_neighbours(socket_.get()), [&](nl_object *object) {
    if (is_known_neighbour(neighbour_of(object), from_index_))
      neighbours_.emplace_back(nl_object_clone(object));
  });
}

/// Puts routes and neighbours on an interface that has the addresses.
void SettingsMove::Impl::put_on(const std::string &interface, int ifindex) const {
  for (const MovingRoute &moving : routes_) {
    rtnl_route *route = moving.route();
    moving.set_ifindex(ifindex);
    // What the kernel said of the links is nothing that it takes.
    for (rtnl_nexthop *hop : hops_of(route)) rtnl_route_nh_unset_flags(hop, ~uint32_t{RTNH_F_ONLINK});
    rtnl_route_unset_flags(route, ~uint32_t{RTNH_F_ONLINK});
    // Behind the one by the other interface, not in its place: there is a route all the time.
    const int error = append_route(socket_.get(), route);
    if (error < 0 && error != -NLE_EXIST)
      spdlog::warn("interface {}: route to {} cannot be put there: {}", interface,
                   text_of(rtnl_route_get_dst(route)), nl_geterror(error));
  }
  for (const Object &object : neighbours_) {
    rtnl_neigh *neighbour = neighbour_of(object.get());
    rtnl_neigh_set_ifindex(neighbour, ifindex);
    // Usable, and to be confirmed when used. One that somebody wrote down stays so.
    const bool permanent = (rtnl_neigh_get_state(neighbour) & NUD_PERMANENT) != 0;
    rtnl_neigh_unset_state(neighbour, 0xffff);
    rtnl_neigh_set_state(neighbour, permanent ? NUD_PERMANENT : NUD_STALE);
    const int error = rtnl_neigh_add(socket_.get(), neighbour, NLM_F_CREATE | NLM_F_REPLACE);
    if (error < 0)
      spdlog::debug("interface {}: neighbour {} cannot be put there: {}", interface,
                    text_of(rtnl_neigh_get_dst(neighbour)), nl_geterror(error));
  }
}

/// Takes the routes and `addresses` away from an interface, not the neighbours: nobody asks for them there.
Status SettingsMove::Impl::take_from(const std::string &interface, int ifindex,
                                     const std::vector<Object> &addresses) const {
  for (const MovingRoute &moving : routes_) {
    moving.set_ifindex(ifindex);
    const int error = rtnl_route_delete(socket_.get(), moving.route(), 0);
    if (error < 0 && error != -NLE_OBJ_NOTFOUND) return failed(interface, "removing a route", error);
  }
  const int error = remove_addresses(socket_.get(), ifindex, addresses);
  if (error < 0) return failed(interface, "removing an address", error);
  return Done{};
}

void SettingsMove::Impl::undo() {
  if (!socket_) return;
  for (const Object &address : addresses_) {
    rtnl_addr *given = address_of(address.get());
    if (rtnl_addr_get_family(given) == AF_INET6) rtnl_addr_set_flags(given, IFA_F_NODAD);
    const int error = rtnl_addr_add(socket_.get(), given, NLM_F_REPLACE);
    if (error < 0)
      spdlog::error("interface {}: address {} cannot be put back: {}", from_,
                    text_of(rtnl_addr_get_local(given)), nl_geterror(error));
  }
  if (from_index_ != 0) put_on(from_, from_index_);
  const Status taken = take_from(to_, to_index_, added_);
  if (!taken.ok()) spdlog::error("{}", taken.error().message);
  const std::string moved = text();
  if (!moved.empty()) spdlog::info("moved {} back from {} to {}", moved, to_, from_);
}

void SettingsMove::Impl::keep() {
  state_ = State::kKept;
  if (source_ != Source::kTap || from_index_ == 0) return;
  rtnl_link *link = rtnl_link_alloc();
  if (link == nullptr) return;
  rtnl_link_set_ifindex(link, from_index_);
  const int error = rtnl_link_delete(socket_.get(), link);
  rtnl_link_put(link);
  if (error < 0) spdlog::warn("interface {}: removing it: {}", from_, nl_geterror(error));
}

std::string SettingsMove::Impl::text() const {
  if (addresses_.size() + routes_.size() == 0) return "";
  return fmt::format("{}, {}, {}", counted(addresses_.size(), "address", "addresses"),
                     counted(routes_.size(), "route", "routes"),
                     counted(neighbours_.size(), "neighbour", "neighbours"));
}

SettingsMove::SettingsMove(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
SettingsMove::SettingsMove(SettingsMove &&) noexcept = default;
SettingsMove &SettingsMove::operator=(SettingsMove &&) noexcept = default;
SettingsMove::~SettingsMove() = default;

Result<SettingsMove> SettingsMove::make(const std::string &from, const std::string &to,
                                        const std::vector<InterfaceAddress> &addresses) {
  auto impl = std::make_unique<Impl>(from, to, Impl::Source::kInterface);
  const Status made = impl->make(addresses);
  if (!made.ok()) return made.error();
  return SettingsMove(std::move(impl));
}

Result<SettingsMove> SettingsMove::make_from_tap(const std::string &tap, const std::string &to,
                                                 const std::vector<InterfaceAddress> &addresses) {
  auto impl = std::make_unique<Impl>(tap, to, Impl::Source::kTap);
  const Status made = impl->make(addresses);
  if (!made.ok()) return made.error();
  return SettingsMove(std::move(impl));
}

void SettingsMove::keep() { impl_->keep(); }

std::string SettingsMove::text() const { return impl_->text(); }

}  // namespace sluice
