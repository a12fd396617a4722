// ICMP errors that say of one of our packets to a backend that it did not get there.
#ifndef SLUICE_SERVER_UNREACHABLE_MESSAGE_H
#define SLUICE_SERVER_UNREACHABLE_MESSAGE_H

#include <cstdint>
#include <optional>
#include <span>

#include "dataplane/abi/address.h"

namespace sluice {

/// The backend's address, of an ICMP message with its IPv4 header in front, as a raw socket gives it. Nothing
/// unless it is a whole Destination Unreachable (RFC 792) with a right checksum that quotes an IP in IP
/// packet of the host that it came to. Too big (code 4) and a failed source route (code 5) say nothing of a
/// backend.
std::optional<Address> unreachable_backend_ipv4(std::span<const uint8_t> packet);

/// The same of an ICMPv6 message without its IPv6 header, whose checksum the kernel has looked at, that came
/// to `receiver`: Destination Unreachable, or the Parameter Problem of a host that does not know IP in IP
/// (RFC 4443 sections 3.1 and 3.4).
std::optional<Address> unreachable_backend_ipv6(std::span<const uint8_t> message, const Address &receiver);

}  // namespace sluice

#endif
