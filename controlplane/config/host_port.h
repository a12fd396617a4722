// "HOST:PORT" as operators write it.
#ifndef SLUICE_CONTROLPLANE_CONFIG_HOST_PORT_H
#define SLUICE_CONTROLPLANE_CONFIG_HOST_PORT_H

#include <cstdint>
#include <optional>
#include <string_view>

namespace sluice {

struct HostPort {
  std::string_view host;  // without brackets
  std::optional<uint16_t> l4_port;
  bool bracketed = false;
};

/// "HOST", "HOST:PORT", "[IPV6]" or "[IPV6]:PORT"; a bare IPv6 address is a host. Nothing when the port is no
/// number from 1 to 65535, or a bracket is not closed; the host is not looked at.
std::optional<HostPort> split_host_port(std::string_view text);

}  // namespace sluice

#endif
