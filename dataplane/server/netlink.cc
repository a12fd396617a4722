#include "dataplane/server/netlink.h"

#include <array>
#include <cerrno>
#include <cstring>

#include <arpa/inet.h>
#include <fmt/format.h>
#include <linux/neighbour.h>
#include <linux/rtnetlink.h>
#include <net/if.h>
#include <netlink/msg.h>
#include <netlink/netlink.h>
#include <netlink/route/neighbour.h>
#include <netlink/route/route.h>
#include <sys/socket.h>
#include <sys/time.h>

namespace sluice {
namespace {

constexpr int kEventBufferSize = 8 << 20;  // bytes: a burst of BGP's routes should fit
constexpr int kDatagramsPerTurn = 64;
constexpr int kDumpAttempts = 5;  // a list that changes while it is read is read again
constexpr uint32_t kMappedPrefixBits = 96;

struct MessageDeleter {
  void operator()(nl_msg *message) const { nlmsg_free(message); }
  void operator()(rtnl_neigh *neighbour) const { rtnl_neigh_put(neighbour); }
  void operator()(rtnl_route *route) const { rtnl_route_put(route); }
};
template <typename T>
using Owned = std::unique_ptr<T, MessageDeleter>;

std::optional<Address> to_address(const nl_addr *address) {
  if (address == nullptr) return std::nullopt;
  const unsigned size = nl_addr_get_len(address);
  if (nl_addr_get_family(address) == AF_INET && (size == 4 || size == 0)) {
    be32 ipv4 = 0;
    if (size != 0) std::memcpy(&ipv4, nl_addr_get_binary_addr(address), sizeof(ipv4));
    return address_from_ipv4(ipv4);
  }
  if (nl_addr_get_family(address) == AF_INET6 && (size == 16 || size == 0)) {
    Address ipv6 = {};
    if (size != 0) std::memcpy(ipv6.word, nl_addr_get_binary_addr(address), sizeof(ipv6.word));
    return ipv6;
  }
  return std::nullopt;
}

std::optional<LinkAddress> to_link_address(nl_addr *address) {
  LinkAddress link = {};
  if (address == nullptr || nl_addr_get_len(address) != link.size()) return std::nullopt;
  std::memcpy(link.data(), nl_addr_get_binary_addr(address), link.size());
  return link;
}

void hear_link(nlmsghdr *header, KernelEvents *events) {
  const auto *message = static_cast<const ifinfomsg *>(nlmsg_data(header));
  // Bridges report their members' state in messages of family AF_BRIDGE: not the link's own.
  if (message->ifi_family != AF_UNSPEC) return;
  nlattr *attributes[IFLA_MAX + 1] = {};
  if (nlmsg_parse(header, sizeof(ifinfomsg), attributes, IFLA_MAX, nullptr) < 0) return;
  KernelLink link;
  link.ifindex = static_cast<uint32_t>(message->ifi_index);
  if (attributes[IFLA_IFNAME] != nullptr) link.name = nla_get_string(attributes[IFLA_IFNAME]);
  if (attributes[IFLA_MTU] != nullptr) link.mtu = nla_get_u32(attributes[IFLA_MTU]);
  if (attributes[IFLA_LINK] != nullptr && attributes[IFLA_LINK_NETNSID] == nullptr)
    link.lower_ifindex = nla_get_u32(attributes[IFLA_LINK]);
  if (attributes[IFLA_ADDRESS] != nullptr && nla_len(attributes[IFLA_ADDRESS]) == sizeof(LinkAddress))
    std::memcpy(link.address.data(), nla_data(attributes[IFLA_ADDRESS]), sizeof(LinkAddress));
  if ((message->ifi_flags & IFF_UP) != 0 && (message->ifi_flags & IFF_RUNNING) != 0)
    link.state = KernelLink::State::kUp;
  if (header->nlmsg_type == RTM_DELLINK) link.state = KernelLink::State::kGone;
  events->on_link(link);
}

KernelNeighbour::State neighbour_state(int state) {
  using State = KernelNeighbour::State;
  if ((state & (NUD_PERMANENT | NUD_NOARP | NUD_REACHABLE | NUD_DELAY | NUD_PROBE)) != 0)
    return State::kValid;
  if ((state & NUD_STALE) != 0) return State::kStale;
  if ((state & NUD_FAILED) != 0) return State::kFailed;
  return State::kIncomplete;
}

void hear_neighbour(nlmsghdr *header, KernelEvents *events) {
  const auto *message = static_cast<const ndmsg *>(nlmsg_data(header));
  if ((message->ndm_family != AF_INET && message->ndm_family != AF_INET6) ||
      (message->ndm_flags & NTF_PROXY) != 0)
    return;
  rtnl_neigh *parsed = nullptr;
  if (rtnl_neigh_parse(header, &parsed) < 0) return;
  const Owned<rtnl_neigh> owned(parsed);
  const std::optional<Address> address = to_address(rtnl_neigh_get_dst(parsed));
  if (!address) return;
  KernelNeighbour neighbour;
  neighbour.ifindex = static_cast<uint32_t>(rtnl_neigh_get_ifindex(parsed));
  neighbour.address = *address;
  neighbour.state = neighbour_state(message->ndm_state);
  const std::optional<LinkAddress> link = to_link_address(rtnl_neigh_get_lladdr(parsed));
  using State = KernelNeighbour::State;
  if (link) neighbour.link_address = *link;
  if (!link && (neighbour.state == State::kValid || neighbour.state == State::kStale))
    neighbour.state = State::kIncomplete;
  if (header->nlmsg_type == RTM_DELNEIGH) neighbour.state = State::kGone;
  events->on_neighbour(neighbour);
}

void hear_route(nlmsghdr *header, KernelEvents *events) {
  const auto *message = static_cast<const rtmsg *>(nlmsg_data(header));
  if ((message->rtm_flags & RTM_F_CLONED) != 0) return;
  if (message->rtm_family != AF_INET && message->rtm_family != AF_INET6) return;
  const uint32_t first_bit = message->rtm_family == AF_INET ? kMappedPrefixBits : 0;
  Address prefix = message->rtm_family == AF_INET ? address_from_ipv4(0) : Address{};
  const nlattr *attribute = nlmsg_find_attr(header, sizeof(rtmsg), RTA_DST);
  if (attribute != nullptr && message->rtm_family == AF_INET && nla_len(attribute) == 4)
    std::memcpy(&prefix.word[3], nla_data(attribute), 4);
  if (attribute != nullptr && message->rtm_family == AF_INET6 && nla_len(attribute) == 16)
    std::memcpy(prefix.word, nla_data(attribute), 16);
  events->on_route(prefix, first_bit + message->rtm_dst_len);
}

int hear(nl_msg *message, void *argument) {
  auto *events = static_cast<KernelEvents *>(argument);
  nlmsghdr *header = nlmsg_hdr(message);
  switch (header->nlmsg_type) {
    case RTM_NEWLINK:
    case RTM_DELLINK:
      if (nlmsg_valid_hdr(header, sizeof(ifinfomsg)) != 0) hear_link(header, events);
      break;
    case RTM_NEWNEIGH:
    case RTM_DELNEIGH:
      if (nlmsg_valid_hdr(header, sizeof(ndmsg)) != 0) hear_neighbour(header, events);
      break;
    case RTM_NEWROUTE:
    case RTM_DELROUTE:
      if (nlmsg_valid_hdr(header, sizeof(rtmsg)) != 0) hear_route(header, events);
      break;
    default:
      events->on_all_routes();
  }
  return NL_OK;
}

KernelRoute read_route(nlmsghdr *header, const Address &destination) {
  KernelRoute route;
  rtnl_route *parsed = nullptr;
  const int error = rtnl_route_parse(header, &parsed);
  route.error_number = EPROTO;
  if (error < 0) return route;
  const Owned<rtnl_route> owned(parsed);
  rtnl_nexthop *hop = rtnl_route_nexthop_n(parsed, 0);
  if (hop == nullptr) return route;
  route.error_number = 0;
  route.kind =
      rtnl_route_get_type(parsed) == RTN_UNICAST ? KernelRoute::Kind::kUnicast : KernelRoute::Kind::kLocal;
  route.ifindex = static_cast<uint32_t>(rtnl_route_nh_get_ifindex(hop));
  route.next_hop = destination;
  // "via" names a gateway of the other family (RFC 5549: IPv4 over an IPv6 next hop).
  if (const auto gateway = to_address(rtnl_route_nh_get_gateway(hop))) route.next_hop = *gateway;
  if (const auto gateway = to_address(rtnl_route_nh_get_via(hop))) route.next_hop = *gateway;
  route.source = to_address(rtnl_route_get_pref_src(parsed));
  uint32_t mtu = 0;
  if (rtnl_route_get_metric(parsed, RTAX_MTU, &mtu) == 0) route.mtu = mtu;
  return route;
}

struct RouteQuestion {
  const Address *destination;
  KernelRoute answer;
};

int answer_route(nl_msg *message, void *argument) {
  auto *question = static_cast<RouteQuestion *>(argument);
  nlmsghdr *header = nlmsg_hdr(message);
  if (header->nlmsg_type == RTM_NEWROUTE) question->answer = read_route(header, *question->destination);
  return NL_OK;
}

int keep_error(sockaddr_nl * /*from*/, nlmsgerr *error, void *argument) {
  *static_cast<int *>(argument) = -error->error;
  return NL_STOP;
}

int stop_at_end(nl_msg * /*message*/, void * /*argument*/) { return NL_STOP; }

int put_address(nl_msg *message, int attribute, const Address &address) {
  if (address_is_ipv4(&address)) return nla_put(message, attribute, 4, &address.word[3]);
  return nla_put(message, attribute, 16, address.word);
}

/// Sends `message` and gives its answer to `valid`. Returns 0 or an errno (EAGAIN: a list changed while
/// it was read).
int ask(nl_sock *socket, nl_msg *message, nl_recvmsg_msg_cb_t valid, void *argument) {
  int error = 0;
  nl_cb *callbacks = nl_cb_alloc(NL_CB_DEFAULT);
  if (callbacks == nullptr) return ENOMEM;
  nl_cb_err(callbacks, NL_CB_CUSTOM, keep_error, &error);
  nl_cb_set(callbacks, NL_CB_ACK, NL_CB_CUSTOM, stop_at_end, nullptr);
  if (valid != nullptr) nl_cb_set(callbacks, NL_CB_VALID, NL_CB_CUSTOM, valid, argument);
  int result = nl_send_auto(socket, message);
  if (result >= 0) result = nl_recvmsgs(socket, callbacks);
  nl_cb_put(callbacks);
  if (error != 0) return error;
  if (result >= 0) return 0;
  if (result == -NLE_DUMP_INTR) return EAGAIN;
  // Whatever comes late must not be taken for the next question's answer.
  std::array<char, 64> rest = {};
  while (::recv(nl_socket_get_fd(socket), rest.data(), rest.size(), MSG_DONTWAIT) >= 0) continue;
  return EIO;
}

Error netlink_error(std::string_view what, int error) {
  return Error{fmt::format("netlink: {}: {}", what, nl_geterror(error))};
}

}  // namespace

bool KernelRoute::operator==(const KernelRoute &other) const {
  const bool same_source =
      source.has_value() == other.source.has_value() && (!source || address_equal(&*source, &*other.source));
  return kind == other.kind && error_number == other.error_number && ifindex == other.ifindex &&
         mtu == other.mtu && same_source && address_equal(&next_hop, &other.next_hop);
}

std::string address_text(const Address &address) {
  char text[INET6_ADDRSTRLEN] = {};
  if (address_is_ipv4(&address)) {
    inet_ntop(AF_INET, &address.word[3], text, sizeof(text));
  } else {
    inet_ntop(AF_INET6, address.word, text, sizeof(text));
  }
  return text;
}

Result<std::unique_ptr<Netlink>> Netlink::open() {
  std::unique_ptr<Netlink> netlink(new Netlink());
  netlink->events_ = nl_socket_alloc();
  netlink->questions_ = nl_socket_alloc();
  if (netlink->events_ == nullptr || netlink->questions_ == nullptr) return Error{"netlink: no memory"};
  nl_sock *events = netlink->events_;
  nl_socket_disable_seq_check(events);
  // One question, one answer: the kernel's answer comes alone, without an acknowledgement after it.
  nl_socket_disable_seq_check(netlink->questions_);
  nl_socket_disable_auto_ack(netlink->questions_);
  int error = nl_connect(events, NETLINK_ROUTE);
  if (error == 0) error = nl_connect(netlink->questions_, NETLINK_ROUTE);
  if (error < 0) return netlink_error("cannot connect", error);
  error = nl_socket_add_memberships(events, RTNLGRP_LINK, RTNLGRP_NEIGH, RTNLGRP_IPV4_ROUTE,
                                    RTNLGRP_IPV6_ROUTE, RTNLGRP_IPV4_IFADDR, RTNLGRP_IPV6_IFADDR,
                                    RTNLGRP_IPV4_RULE, RTNLGRP_IPV6_RULE, RTNLGRP_NEXTHOP, NFNLGRP_NONE);
  if (error < 0) return netlink_error("cannot listen to events", error);
  nl_socket_set_nonblocking(events);
  const int size = kEventBufferSize;
  if (::setsockopt(nl_socket_get_fd(events), SOL_SOCKET, SO_RCVBUFFORCE, &size, sizeof(size)) != 0)
    ::setsockopt(nl_socket_get_fd(events), SOL_SOCKET, SO_RCVBUF, &size, sizeof(size));
  // Answers are there when sendmsg returns; should one ever be missing, the thread does not hang.
  const timeval longest = {1, 0};
  ::setsockopt(nl_socket_get_fd(netlink->questions_), SOL_SOCKET, SO_RCVTIMEO, &longest, sizeof(longest));
  return netlink;
}

Netlink::~Netlink() {
  nl_socket_free(events_);
  nl_socket_free(questions_);
}

int Netlink::event_fd() const { return nl_socket_get_fd(events_); }

Netlink::Heard Netlink::read_events(KernelEvents *events) {
  nl_socket_modify_cb(events_, NL_CB_VALID, NL_CB_CUSTOM, hear, events);
  for (int i = 0; i < kDatagramsPerTurn; i++) {
    const int result = nl_recvmsgs_default(events_);
    if (result == -NLE_AGAIN) return Heard::kAll;
    if (result < 0) return Heard::kOverrun;
  }
  return Heard::kAll;
}

Status Netlink::dump_one(int message_type, KernelEvents *events) {
  const Owned<nl_msg> message(nlmsg_alloc_simple(message_type, NLM_F_REQUEST | NLM_F_DUMP));
  if (!message) return Error{"netlink: no memory"};
  // Either header starts with its family, AF_UNSPEC; ifinfomsg is the longer one and good for links only.
  ifinfomsg link = {};
  ndmsg neighbour = {};
  const int error = message_type == RTM_GETLINK
                        ? nlmsg_append(message.get(), &link, sizeof(link), NLMSG_ALIGNTO)
                        : nlmsg_append(message.get(), &neighbour, sizeof(neighbour), NLMSG_ALIGNTO);
  if (error < 0) return netlink_error("cannot make a question", error);
  int failed = EAGAIN;
  for (int attempt = 0; attempt < kDumpAttempts && failed == EAGAIN; attempt++)
    failed = ask(questions_, message.get(), hear, events);
  if (failed != 0)
    return Error{fmt::format("netlink: cannot list links or neighbours: {}", std::strerror(failed))};
  return Done{};
}

Status Netlink::dump(KernelEvents *events) {
  Status links = dump_one(RTM_GETLINK, events);
  if (!links.ok()) return links;
  return dump_one(RTM_GETNEIGH, events);
}

KernelRoute Netlink::route_to(const Address &destination) {
  const bool ipv4 = address_is_ipv4(&destination);
  RouteQuestion question = {&destination, {}};
  question.answer.error_number = ENETUNREACH;
  const Owned<nl_msg> message(nlmsg_alloc_simple(RTM_GETROUTE, NLM_F_REQUEST));
  rtmsg header = {};
  header.rtm_family = ipv4 ? AF_INET : AF_INET6;
  header.rtm_dst_len = ipv4 ? 32 : 128;
  if (!message || nlmsg_append(message.get(), &header, sizeof(header), NLMSG_ALIGNTO) < 0 ||
      put_address(message.get(), RTA_DST, destination) < 0) {
    question.answer.kind = KernelRoute::Kind::kUnknown;
    question.answer.error_number = ENOMEM;
    return question.answer;
  }
  const int error = ask(questions_, message.get(), answer_route, &question);
  if (error != 0) {
    question.answer = KernelRoute{};
    // Anything else is what a lookup without a way ends with: ENETUNREACH, EACCES for prohibit, ...
    const bool is_answer = error != EIO && error != ENOMEM && error != ENOBUFS && error != EAGAIN;
    question.answer.kind = is_answer ? KernelRoute::Kind::kNone : KernelRoute::Kind::kUnknown;
    question.answer.error_number = error;
  }
  return question.answer;
}

int Netlink::use_neighbour(uint32_t ifindex, const Address &address) {
  const Owned<nl_msg> message(nlmsg_alloc_simple(RTM_NEWNEIGH, NLM_F_REQUEST | NLM_F_CREATE | NLM_F_ACK));
  ndmsg header = {};
  header.ndm_family = address_is_ipv4(&address) ? AF_INET : AF_INET6;
  header.ndm_ifindex = static_cast<int>(ifindex);
  header.ndm_flags = NTF_USE;
  if (!message || nlmsg_append(message.get(), &header, sizeof(header), NLMSG_ALIGNTO) < 0 ||
      put_address(message.get(), NDA_DST, address) < 0)
    return ENOMEM;
  return ask(questions_, message.get(), nullptr, nullptr);
}

}  // namespace sluice
