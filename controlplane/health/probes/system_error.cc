#include "controlplane/health/probes/system_error.h"

#include <cerrno>
#include <cstring>
#include <system_error>

#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

namespace sluice {

namespace {

// Whether the kernel finds a source address for packets to `address`. Connecting a UDP socket sends nothing
// and takes none of TCP's local ports.
bool has_source_address(const Address &address) {
  sockaddr_storage storage{};
  socklen_t length = 0;
  if (address_is_ipv4(&address)) {
    auto *ipv4 = reinterpret_cast<sockaddr_in *>(&storage);
    ipv4->sin_family = AF_INET;
    ipv4->sin_port = htons(9);
    std::memcpy(&ipv4->sin_addr, &address.word[3], sizeof(ipv4->sin_addr));
    length = sizeof(*ipv4);
  } else {
    auto *ipv6 = reinterpret_cast<sockaddr_in6 *>(&storage);
    ipv6->sin6_family = AF_INET6;
    ipv6->sin6_port = htons(9);
    std::memcpy(&ipv6->sin6_addr, address.word, sizeof(ipv6->sin6_addr));
    length = sizeof(*ipv6);
  }
  const int probe = socket(storage.ss_family, SOCK_DGRAM | SOCK_CLOEXEC, 0);
  if (probe < 0) return true;  // cannot tell
  const int connected = connect(probe, reinterpret_cast<const sockaddr *>(&storage), length);
  const int why = errno;
  close(probe);
  return connected == 0 || why != EADDRNOTAVAIL;
}

}  // namespace

CheckResult judge_system_error(int error, const Address &address) {
  const bool missing = error == EADDRNOTAVAIL && !has_source_address(address);
  return judge_system_error(error, missing ? SourceAddress::kMissing : SourceAddress::kExists);
}

CheckResult judge_system_error(int error, SourceAddress source) {
  switch (error) {
    case ECONNREFUSED:
      return unhealthy("connection refused");
    case ECONNRESET:
    case EPIPE:
      return unhealthy("connection reset");
    case EHOSTUNREACH:
      return unhealthy("host unreachable");
    case ENETUNREACH:
      return unhealthy("network unreachable");
    case ETIMEDOUT:
      return unhealthy("connection timed out");
    case EMFILE:
    case ENFILE:
    case ENOBUFS:
    case ENOMEM:
      return not_carried_out(std::generic_category().message(error) + " on this host");
    case EADDRNOTAVAIL:
      // One of two things. That all local ports are in use passes by itself. That the host has no source
      // address (an interface lost its IPv6 address) stays: as with a missing route, nothing gets from here
      // to the backend, and if that changed no state the backend would stay up for ever.
      if (source == SourceAddress::kMissing)
        return unhealthy("this host has no source address to reach it from");
      return not_carried_out(std::generic_category().message(error) + " on this host");
    default:
      return unhealthy("cannot connect: " + std::generic_category().message(error));
  }
}

CheckResult source_failure(const Address &source, int error) {
  if (error == EADDRNOTAVAIL)
    return not_carried_out("this host does not have the source address " + format_address(source));
  return not_carried_out(std::generic_category().message(error) + " on this host");
}

}  // namespace sluice
