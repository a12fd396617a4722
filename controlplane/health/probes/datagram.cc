#include "controlplane/health/probes/datagram.h"

#include <cstring>
#include <utility>

#include <boost/asio/ip/udp.hpp>
#include <boost/asio/redirect_error.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <netinet/in.h>
#include <spdlog/fmt/fmt.h>

#include "controlplane/health/check_text.h"
#include "controlplane/health/probes/endpoint.h"
#include "controlplane/health/probes/expected_bytes.h"
#include "controlplane/health/probes/system_error.h"

namespace sluice {

namespace asio = boost::asio;
using boost::system::error_code;

namespace {

// ICMP's sockets have no port.
asio::generic::datagram_protocol::endpoint endpoint(const Address &address, uint16_t l4_port) {
  return endpoint_of<asio::ip::udp>(address, l4_port);
}

Address address_of(const sockaddr_storage &from) {
  if (from.ss_family == AF_INET) {
    sockaddr_in ipv4{};
    std::memcpy(&ipv4, &from, sizeof(ipv4));
    return address_from_ipv4(ipv4.sin_addr.s_addr);
  }
  sockaddr_in6 ipv6{};
  std::memcpy(&ipv6, &from, sizeof(ipv6));
  Address address{};
  std::memcpy(address.word, &ipv6.sin6_addr, sizeof(address.word));
  return address;
}

}  // namespace

ProbeDatagram::ProbeDatagram(ProbeContext &context, const CheckSpec &spec, int ip_protocol)
    : context_(context),
      spec_(spec),
      ip_protocol_(ip_protocol),
      socket_(context.io),
      deadline_(context.io, spec.health.timeout, [this] {
        error_code ignored;
        socket_.close(ignored);
      }) {}

Ended ProbeDatagram::judge(const error_code &error) {
  if (deadline_.expired()) return unhealthy("no answer within " + duration_text(spec_.health.timeout));
  if (!error) return std::nullopt;
  if (error.value() == ECONNREFUSED) return unhealthy("port unreachable");
  return judge_system_error(error.value(), spec_.address);
}

Ended ProbeDatagram::open() {
  error_code error;
  const int family = address_is_ipv4(&spec_.address) ? AF_INET : AF_INET6;
  socket_.open({family, ip_protocol_}, error);
  if (error.value() == EACCES && ip_protocol_ != IPPROTO_UDP) {
    return not_carried_out(
        "this host lets sluiced send no echo requests; its group must be in net.ipv4.ping_group_range");
  }
  if (error) return judge_system_error(error.value(), spec_.address);
  // Without it the kernel tells only that the port refuses, not that the host cannot be reached.
  const int on = 1;
  const int told = family == AF_INET
                       ? ::setsockopt(socket_.native_handle(), IPPROTO_IP, IP_RECVERR, &on, sizeof(on))
                       : ::setsockopt(socket_.native_handle(), IPPROTO_IPV6, IPV6_RECVERR, &on, sizeof(on));
  if (told != 0) return judge_system_error(errno, spec_.address);
  if (const auto &source = source_of(spec_)) {
    socket_.bind(endpoint(*source, choose_source_port(context_, spec_)), error);
    if (error) return source_failure(*source, error.value());
  }
  socket_.connect(endpoint(spec_.address, spec_.l4_port), error);
  if (error) return judge_system_error(error.value(), spec_.address);
  return std::nullopt;
}

ProbeStep ProbeDatagram::send(std::string_view bytes) {
  error_code error;
  co_await socket_.async_send(asio::buffer(bytes.data(), bytes.size()),
                              asio::redirect_error(asio::use_awaitable, error));
  co_return judge(error);
}

ProbeStep ProbeDatagram::receive(std::string *bytes, Address *sender) {
  bytes->clear();
  while (true) {
    error_code error;
    // The room for a datagram is all checks' and thousands wait for theirs: it is taken only for one that is
    // here.
    co_await socket_.async_wait(asio::socket_base::wait_read,
                                asio::redirect_error(asio::use_awaitable, error));
    if (const Ended ended = judge(error)) co_return ended;
    sockaddr_storage from{};
    socklen_t length = sizeof(from);
    const ssize_t count = recvfrom(socket_.native_handle(), context_.scratch.data(), context_.scratch.size(),
                                   MSG_DONTWAIT, reinterpret_cast<sockaddr *>(&from), &length);
    if (count >= 0) {
      if (sender != nullptr) *sender = address_of(from);
      bytes->assign(context_.scratch.data(), static_cast<size_t>(count));
      co_return std::nullopt;
    }
    const int why = errno;
    if (why == EAGAIN || why == EINTR) continue;  // what came was damaged
    co_return judge(error_code(why, boost::system::system_category()));
  }
}

}  // namespace sluice
