#include "dataplane/server/unreachable_reader.h"

#include <cerrno>
#include <cstring>
#include <optional>

#include <fmt/format.h>
#include <netinet/icmp6.h>
#include <netinet/in.h>
#include <sys/socket.h>

// Behind the C library's, whose records it would take the place of.
#include <linux/icmp.h>

#include "dataplane/server/unreachable_message.h"

namespace sluice {
namespace {

constexpr int kMessagesPerTurn = 64;  // of each family: a flood of them must leave the thread its other work
constexpr size_t kLongestMessage = 2048;  // RFC 1812 section 4.3.2.3 and RFC 4443 section 2.4 allow less

Error refused(const char *what) { return Error{fmt::format("{}: {}", what, std::strerror(errno))}; }

Result<UniqueFd> open_ipv4() {
  UniqueFd fd(::socket(AF_INET, SOCK_RAW | SOCK_NONBLOCK | SOCK_CLOEXEC, IPPROTO_ICMP));
  if (!fd.valid()) return refused("raw ICMP socket");
  icmp_filter filter = {};
  filter.data = ~(1u << ICMP_DEST_UNREACH);  // a bit that is set keeps that type away
  if (::setsockopt(fd.get(), SOL_RAW, ICMP_FILTER, &filter, sizeof(filter)) != 0)
    return refused("raw ICMP socket: ICMP_FILTER");
  return fd;
}

/// An invalid descriptor on a host without IPv6.
Result<UniqueFd> open_ipv6() {
  UniqueFd fd(::socket(AF_INET6, SOCK_RAW | SOCK_NONBLOCK | SOCK_CLOEXEC, IPPROTO_ICMPV6));
  if (!fd.valid() && errno == EAFNOSUPPORT) return fd;
  if (!fd.valid()) return refused("raw ICMPv6 socket");
  icmp6_filter filter = {};
  ICMP6_FILTER_SETBLOCKALL(&filter);
  ICMP6_FILTER_SETPASS(ICMP6_DST_UNREACH, &filter);
  ICMP6_FILTER_SETPASS(ICMP6_PARAM_PROB, &filter);
  if (::setsockopt(fd.get(), IPPROTO_ICMPV6, ICMP6_FILTER, &filter, sizeof(filter)) != 0)
    return refused("raw ICMPv6 socket: ICMP6_FILTER");
  const int on = 1;
  if (::setsockopt(fd.get(), IPPROTO_IPV6, IPV6_RECVPKTINFO, &on, sizeof(on)) != 0)
    return refused("raw ICMPv6 socket: IPV6_RECVPKTINFO");
  return fd;
}

/// The address that a message came to.
std::optional<Address> receiver_of(msghdr *header) {
  for (cmsghdr *part = CMSG_FIRSTHDR(header); part != nullptr; part = CMSG_NXTHDR(header, part)) {
    if (part->cmsg_level != IPPROTO_IPV6 || part->cmsg_type != IPV6_PKTINFO) continue;
    in6_pktinfo info = {};
    std::memcpy(&info, CMSG_DATA(part), sizeof(info));
    Address address;
    std::memcpy(&address, &info.ipi6_addr, sizeof(address));
    return address;
  }
  return std::nullopt;
}

struct Message {
  std::array<uint8_t, kLongestMessage> bytes = {};
  size_t size = 0;
  std::optional<Address> receiver;  // of IPv6

  std::span<const uint8_t> content() const { return {bytes.data(), size}; }
};

/// False when there is none, or the socket cannot be read just now.
bool receive(int fd, Message *message) {
  alignas(cmsghdr) std::array<char, 256> control = {};
  iovec into = {message->bytes.data(), message->bytes.size()};
  msghdr header = {};
  header.msg_iov = &into;
  header.msg_iovlen = 1;
  header.msg_control = control.data();
  header.msg_controllen = control.size();
  const ssize_t size = ::recvmsg(fd, &header, MSG_DONTWAIT);
  if (size < 0) return false;
  message->size = static_cast<size_t>(size);
  message->receiver = receiver_of(&header);
  return true;
}

}  // namespace

Result<UnreachableReader> UnreachableReader::open() {
  Result<UniqueFd> ipv4 = open_ipv4();
  if (!ipv4.ok()) return ipv4.error();
  Result<UniqueFd> ipv6 = open_ipv6();
  if (!ipv6.ok()) return ipv6.error();
  return UnreachableReader(std::move(ipv4).value(), std::move(ipv6).value());
}

void UnreachableReader::set_backends(std::span<const Backend> backends) {
  backends_.clear();
  for (uint32_t id = 1; id < backends.size(); id++)
    if (backends[id].state != kBackendUnused) backends_.emplace(backends[id].address, id);
}

void UnreachableReader::read(std::span<uint64_t> counts) {
  Message message;
  for (int i = 0; i < kMessagesPerTurn && receive(ipv4_.get(), &message); i++)
    if (const auto backend = unreachable_backend_ipv4(message.content())) count(*backend, counts);
  if (!ipv6_.valid()) return;
  for (int i = 0; i < kMessagesPerTurn && receive(ipv6_.get(), &message); i++) {
    if (!message.receiver) continue;
    if (const auto backend = unreachable_backend_ipv6(message.content(), *message.receiver))
      count(*backend, counts);
  }
}

void UnreachableReader::count(const Address &backend, std::span<uint64_t> counts) const {
  const auto [first, last] = backends_.equal_range(backend);
  for (auto it = first; it != last; ++it)
    if (it->second < counts.size()) __atomic_fetch_add(&counts[it->second], 1, __ATOMIC_RELAXED);
}

}  // namespace sluice
