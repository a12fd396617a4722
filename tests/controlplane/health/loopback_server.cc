#include "tests/controlplane/health/loopback_server.h"

#include <array>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>

#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

namespace sluice {

namespace {

using namespace std::chrono_literals;

struct Endpoint {
  sockaddr_storage storage{};
  socklen_t length = 0;
};

Endpoint loopback_endpoint(Family family, uint16_t l4_port) {
  Endpoint endpoint;
  if (family == Family::kIpv4) {
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_port = htons(l4_port);
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    std::memcpy(&endpoint.storage, &address, sizeof(address));
    endpoint.length = sizeof(address);
  } else {
    sockaddr_in6 address{};
    address.sin6_family = AF_INET6;
    address.sin6_port = htons(l4_port);
    address.sin6_addr = in6addr_loopback;
    std::memcpy(&endpoint.storage, &address, sizeof(address));
    endpoint.length = sizeof(address);
  }
  return endpoint;
}

// A test without its sockets proves nothing: it ends here, loudly.
void require(bool condition, const char *what) {
  if (condition) return;
  std::perror(what);
  std::abort();
}

int bound_socket(Family family, int type_flags, uint16_t *l4_port) {
  const int fd =
      socket(family == Family::kIpv4 ? AF_INET : AF_INET6, SOCK_STREAM | SOCK_CLOEXEC | type_flags, 0);
  require(fd >= 0, "socket");
  const Endpoint any_port = loopback_endpoint(family, 0);
  require(bind(fd, reinterpret_cast<const sockaddr *>(&any_port.storage), any_port.length) == 0, "bind");
  Endpoint bound;
  bound.length = sizeof(bound.storage);
  require(getsockname(fd, reinterpret_cast<sockaddr *>(&bound.storage), &bound.length) == 0, "getsockname");
  // The port is at the same place in both families' addresses.
  sockaddr_in head{};
  std::memcpy(&head, &bound.storage, sizeof(head));
  *l4_port = ntohs(head.sin_port);
  return fd;
}

}  // namespace

Address loopback_address(Family family) {
  if (family == Family::kIpv4) return address_from_ipv4(host_to_be32(INADDR_LOOPBACK));
  Address address{};
  address.word[3] = host_to_be32(1);
  return address;
}

LoopbackServer::LoopbackServer(Family family, Serve serve) : serve_(std::move(serve)) {
  listener_ = bound_socket(family, SOCK_NONBLOCK, &l4_port_);
  require(listen(listener_, 1024) == 0, "listen");
  acceptor_ = std::jthread([this] { accept_loop(); });
}

LoopbackServer::~LoopbackServer() {
  stopping_ = true;
  stopping_.notify_all();
  acceptor_.join();
  connections_.clear();
  close(listener_);
}

void LoopbackServer::hold() const {
  stopping_.wait(false);  // a thousand at once, on few cores
}

void LoopbackServer::accept_loop() {
  while (!stopping_) {
    pollfd waiting{listener_, POLLIN, 0};
    if (poll(&waiting, 1, 5) <= 0) continue;
    const int connection = accept4(listener_, nullptr, nullptr, SOCK_CLOEXEC);
    if (connection < 0) continue;
    accepted_++;
    connections_.emplace_back([this, connection] {
      serve_(*this, connection);
      close(connection);
    });
  }
}

ClosedPort::ClosedPort(Family family) { socket_ = bound_socket(family, 0, &l4_port_); }
ClosedPort::~ClosedPort() { close(socket_); }

SilentPort::SilentPort(Family family) {
  listener_ = bound_socket(family, 0, &l4_port_);
  require(listen(listener_, 0) == 0, "listen");
  const Endpoint server = loopback_endpoint(family, l4_port_);
  // A queue of 0 takes one; a few more make sure of it.
  for (int i = 0; i < 4; i++) {
    const int fd =
        socket(family == Family::kIpv4 ? AF_INET : AF_INET6, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    require(fd >= 0, "socket");
    const int connected = connect(fd, reinterpret_cast<const sockaddr *>(&server.storage), server.length);
    require(connected == 0 || errno == EINPROGRESS, "connect");
    fillers_.push_back(fd);
  }
}

SilentPort::~SilentPort() {
  for (const int fd : fillers_) close(fd);
  close(listener_);
}

std::string read_request(int connection) {
  std::string request;
  std::array<char, 1024> part{};
  while (request.find("\r\n\r\n") == std::string::npos) {
    const ssize_t got = recv(connection, part.data(), part.size(), 0);
    if (got <= 0) break;
    request.append(part.data(), static_cast<size_t>(got));
  }
  return request;
}

bool send_text(int connection, const std::string &text) {
  size_t sent = 0;
  while (sent < text.size()) {
    const ssize_t put = send(connection, text.data() + sent, text.size() - sent, MSG_NOSIGNAL);
    if (put <= 0) return false;
    sent += static_cast<size_t>(put);
  }
  return true;
}

}  // namespace sluice
