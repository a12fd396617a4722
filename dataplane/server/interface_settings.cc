#include "dataplane/server/interface_settings.h"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <string_view>

#include <fmt/format.h>
#include <linux/neighbour.h>
#include <linux/rtnetlink.h>
#include <net/if.h>
#include <netlink/cache.h>
#include <netlink/netlink.h>
#include <netlink/route/addr.h>
#include <netlink/route/link.h>
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
using Socket = std::unique_ptr<nl_sock, SocketDeleter>;
using Cache = std::unique_ptr<nl_cache, CacheDeleter>;

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
bool is_given_route(rtnl_route *route, int ifindex) {
  const uint8_t protocol = rtnl_route_get_protocol(route);
  if (protocol == RTPROT_KERNEL || protocol == RTPROT_REDIRECT || protocol == RTPROT_RA) return false;
  if (rtnl_route_get_type(route) != RTN_UNICAST || rtnl_route_get_nnexthops(route) != 1) return false;
  return rtnl_route_nh_get_ifindex(rtnl_route_nexthop_n(route, 0)) == ifindex;
}

bool has_gateway(const nl_object *object) {
  auto *route = route_of(const_cast<nl_object *>(object));
  return rtnl_route_nh_get_gateway(rtnl_route_nexthop_n(route, 0)) != nullptr;
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

}  // namespace

void InterfaceSettings::Deleter::operator()(nl_object *object) const { nl_object_put(object); }

void InterfaceSettings::remember(nl_sock *socket, int ifindex) {
  for_each(all_routes(socket), [&](nl_object *object) {
    if (is_given_route(route_of(object), ifindex)) routes_.emplace_back(nl_object_clone(object));
  });
  std::stable_partition(routes_.begin(), routes_.end(),
                        [](const Object &route) { return !has_gateway(route.get()); });
  for_each(all_neighbours(socket), [&](nl_object *object) {
    if (is_known_neighbour(neighbour_of(object), ifindex)) neighbours_.emplace_back(nl_object_clone(object));
  });
}

Result<InterfaceSettings> InterfaceSettings::take_from(const std::string &interface,
                                                       const std::vector<InterfaceAddress> &addresses) {
  InterfaceSettings settings;
  const int ifindex = static_cast<int>(::if_nametoindex(interface.c_str()));
  if (ifindex == 0 || addresses.empty()) return settings;
  Result<Socket> socket = connect(interface);
  if (!socket.ok()) return socket.error();
  nl_sock *const netlink = socket.value().get();
  std::vector<Object> there;
  for_each(all_addresses(netlink), [&](nl_object *object) {
    auto *address = reinterpret_cast<rtnl_addr *>(object);
    if (rtnl_addr_get_ifindex(address) == ifindex && is_one_of(address, addresses))
      there.emplace_back(nl_object_clone(object));
  });
  if (there.empty()) return settings;
  settings.addresses_ = there.size();
  settings.remember(netlink, ifindex);
  for (const Object &route : settings.routes_) {
    const int error = rtnl_route_delete(netlink, route_of(route.get()), 0);
    if (error < 0 && error != -NLE_OBJ_NOTFOUND) return failed(interface, "removing a route", error);
  }
  for (const Object &address : there) {
    const int error = rtnl_addr_delete(netlink, reinterpret_cast<rtnl_addr *>(address.get()), 0);
    if (error < 0 && error != -NLE_NOADDR) return failed(interface, "removing an address", error);
  }
  return settings;
}

Result<InterfaceSettings> InterfaceSettings::take_from_tap(const std::string &interface,
                                                           const std::vector<InterfaceAddress> &addresses) {
  InterfaceSettings settings;
  const int ifindex = static_cast<int>(::if_nametoindex(interface.c_str()));
  if (ifindex == 0) return settings;
  // Not by /sys/class/net: that is of the network namespace in which it was mounted.
  if (interface_facts(interface).driver != "tun")
    return Error{
        fmt::format("kernel: \"{}\": an interface of this name exists and is no tap of a DPDK engine: remove "
                    "it or give another name",
                    interface)};
  Result<Socket> socket = connect(interface);
  if (!socket.ok()) return socket.error();
  nl_sock *const netlink = socket.value().get();
  if (has_carrier(netlink, interface))
    return Error{fmt::format("kernel: \"{}\": a process has this tap open: stop it first", interface)};
  for_each(all_addresses(netlink), [&](nl_object *object) {
    auto *address = reinterpret_cast<rtnl_addr *>(object);
    if (rtnl_addr_get_ifindex(address) == ifindex && is_one_of(address, addresses)) settings.addresses_++;
  });
  settings.remember(netlink, ifindex);
  rtnl_link *link = rtnl_link_alloc();
  if (link == nullptr) return failed(interface, "removing it", -NLE_NOMEM);
  rtnl_link_set_ifindex(link, ifindex);
  const int error = rtnl_link_delete(netlink, link);
  rtnl_link_put(link);
  if (error < 0) return failed(interface, "removing it", error);
  return settings;
}

void InterfaceSettings::give_to(const std::string &interface) const {
  if (routes_.empty() && neighbours_.empty()) return;
  const int ifindex = static_cast<int>(::if_nametoindex(interface.c_str()));
  Result<Socket> socket = connect(interface);
  if (!socket.ok()) {
    spdlog::warn("{}", socket.error().message);
    return;
  }
  for (const Object &object : routes_) {
    rtnl_route *route = route_of(object.get());
    rtnl_nexthop *hop = rtnl_route_nexthop_n(route, 0);
    rtnl_route_nh_set_ifindex(hop, ifindex);
    // What the kernel said of the link is nothing that it takes.
    rtnl_route_nh_unset_flags(hop, ~uint32_t{RTNH_F_ONLINK});
    rtnl_route_unset_flags(route, ~uint32_t{RTNH_F_ONLINK});
    const int error = rtnl_route_add(socket.value().get(), route, NLM_F_REPLACE);
    if (error < 0)
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
    const int error = rtnl_neigh_add(socket.value().get(), neighbour, NLM_F_CREATE | NLM_F_REPLACE);
    if (error < 0)
      spdlog::debug("interface {}: neighbour {} cannot be put there: {}", interface,
                    text_of(rtnl_neigh_get_dst(neighbour)), nl_geterror(error));
  }
}

std::string InterfaceSettings::text() const {
  if (addresses_ + routes_.size() == 0) return "";
  return fmt::format("{}, {}, {}", counted(addresses_, "address", "addresses"),
                     counted(routes_.size(), "route", "routes"),
                     counted(neighbours_.size(), "neighbour", "neighbours"));
}

}  // namespace sluice
