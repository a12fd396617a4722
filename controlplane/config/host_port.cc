#include "controlplane/config/host_port.h"

#include <charconv>

namespace sluice {

namespace {

std::optional<uint16_t> parse_port(std::string_view text) {
  uint16_t number = 0;
  const auto [end, fault] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (fault != std::errc{} || end != text.data() + text.size() || number == 0) return std::nullopt;
  return number;
}

}  // namespace

std::optional<HostPort> split_host_port(std::string_view text) {
  if (text.starts_with('[')) {
    const size_t close = text.find(']');
    if (close == text.npos) return std::nullopt;
    HostPort split{text.substr(1, close - 1), std::nullopt, true};
    const std::string_view rest = text.substr(close + 1);
    if (rest.empty()) return split;
    split.l4_port = rest.starts_with(':') ? parse_port(rest.substr(1)) : std::nullopt;
    return split.l4_port ? std::optional(split) : std::nullopt;
  }
  const size_t colon = text.find(':');
  if (colon == text.npos || text.find(':', colon + 1) != text.npos)
    return HostPort{text, std::nullopt, false};
  const auto l4_port = parse_port(text.substr(colon + 1));
  if (!l4_port) return std::nullopt;
  return HostPort{text.substr(0, colon), l4_port, false};
}

}  // namespace sluice
