// Addresses as people write them, and the comparisons that containers need.
#ifndef SLUICE_CONTROLPLANE_MODEL_ADDRESS_TEXT_H
#define SLUICE_CONTROLPLANE_MODEL_ADDRESS_TEXT_H

#include <compare>
#include <cstring>
#include <optional>
#include <string>
#include <string_view>

#include "dataplane/abi/address.h"

namespace sluice {

inline bool operator==(const Address &a, const Address &b) { return address_equal(&a, &b); }

/// Network order: IPv4 sorts as one block within IPv6.
inline std::strong_ordering operator<=>(const Address &a, const Address &b) {
  return std::memcmp(&a, &b, sizeof(Address)) <=> 0;
}

/// Reads "192.0.2.1" or "2001:db8::1"; nothing for any other text, IPv4-mapped IPv6 included (an IPv4
/// address has one way to be written here).
std::optional<Address> parse_address(std::string_view text);

/// "192.0.2.1" or "2001:db8::1" (RFC 5952).
std::string format_address(const Address &address);

}  // namespace sluice

#endif
