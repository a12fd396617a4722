// Addresses of checks in Asio's types.
#ifndef SLUICE_CONTROLPLANE_HEALTH_PROBES_ENDPOINT_H
#define SLUICE_CONTROLPLANE_HEALTH_PROBES_ENDPOINT_H

#include <cstdint>
#include <cstring>
#include <string>

#include <boost/asio/ip/address.hpp>
#include <netinet/in.h>
#include <sys/socket.h>

#include "controlplane/model/address_text.h"
#include "dataplane/abi/address.h"

namespace sluice {

inline boost::asio::ip::address asio_address(const Address &address) {
  if (address_is_ipv4(&address)) {
    boost::asio::ip::address_v4::bytes_type bytes;
    std::memcpy(bytes.data(), &address.word[3], bytes.size());
    return boost::asio::ip::address_v4(bytes);
  }
  boost::asio::ip::address_v6::bytes_type bytes;
  std::memcpy(bytes.data(), address.word, bytes.size());
  return boost::asio::ip::address_v6(bytes);
}

/// As it stands in a URL: "192.0.2.1", "[2001:db8::1]".
inline std::string address_literal(const Address &address) {
  const std::string text = format_address(address);
  return address_is_ipv4(&address) ? text : "[" + text + "]";
}

/// So that bind() to a source address leaves the choice of the local port to connect(), which can give the
/// same one to connections to several backends (ip(7)): bind() would keep each port from all others. In
/// either family; without it a check still works.
inline void choose_port_at_connect(int socket) {
  const int on = 1;
  (void)setsockopt(socket, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &on, sizeof(on));
}

/// So that a connection from a chosen port leaves nothing behind that keeps the next one from it: it ends
/// with a reset, without TIME_WAIT. Of any socket; without it a check still works, mostly.
inline void free_port_at_once(int socket) {
  const int on = 1;
  (void)setsockopt(socket, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
  const linger no_wait = {.l_onoff = 1, .l_linger = 0};
  (void)setsockopt(socket, SOL_SOCKET, SO_LINGER, &no_wait, sizeof(no_wait));
}

/// Of TCP or UDP.
template <typename Protocol>
typename Protocol::endpoint endpoint_of(const Address &address, uint16_t l4_port) {
  return {asio_address(address), l4_port};
}

}  // namespace sluice

#endif
