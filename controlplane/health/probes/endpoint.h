// Addresses of checks in Asio's types.
#ifndef SLUICE_CONTROLPLANE_HEALTH_PROBES_ENDPOINT_H
#define SLUICE_CONTROLPLANE_HEALTH_PROBES_ENDPOINT_H

#include <cstdint>
#include <cstring>

#include <boost/asio/ip/address.hpp>

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

/// Of TCP or UDP.
template <typename Protocol>
typename Protocol::endpoint endpoint_of(const Address &address, uint16_t l4_port) {
  return {asio_address(address), l4_port};
}

}  // namespace sluice

#endif
