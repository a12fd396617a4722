#include "controlplane/model/address_text.h"

#include <arpa/inet.h>

namespace sluice {

std::optional<Address> parse_address(std::string_view text) {
  // inet_pton wants a terminator, and would stop silently at one inside the text.
  if (text.empty() || text.size() >= INET6_ADDRSTRLEN || text.find('\0') != text.npos) return std::nullopt;
  const std::string terminated(text);
  in_addr ipv4{};
  if (inet_pton(AF_INET, terminated.c_str(), &ipv4) == 1) return address_from_ipv4(ipv4.s_addr);
  Address ipv6{};
  if (inet_pton(AF_INET6, terminated.c_str(), &ipv6) != 1) return std::nullopt;
  if (address_is_ipv4(&ipv6)) return std::nullopt;
  return ipv6;
}

std::string format_address(const Address &address) {
  char text[INET6_ADDRSTRLEN] = {};
  if (address_is_ipv4(&address)) {
    inet_ntop(AF_INET, &address.word[3], text, sizeof(text));
  } else {
    inet_ntop(AF_INET6, &address, text, sizeof(text));
  }
  return text;
}

}  // namespace sluice
