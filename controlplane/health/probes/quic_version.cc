#include "controlplane/health/probes/quic_version.h"

#include <algorithm>

namespace sluice {

namespace {

constexpr size_t kProbeBytes = 1200;               // RFC 9000 section 14.1: a server may ignore less
constexpr uint32_t kReservedVersion = 0x1a2a3a4a;  // RFC 9000 section 15: 0x?a?a?a?a
constexpr uint8_t kLongHeader = 0x80;
constexpr uint8_t kFixedBit = 0x40;

void put_connection_id(std::string *bytes, const QuicConnectionId &id) {
  bytes->push_back(static_cast<char>(id.size()));
  bytes->append(id.begin(), id.end());
}

uint32_t number_at(std::string_view bytes, size_t offset) {
  uint32_t number = 0;
  for (size_t i = 0; i < 4; ++i) number = number << 8 | static_cast<uint8_t>(bytes[offset + i]);
  return number;
}

// Takes a connection ID of the very bytes off the front.
bool take_connection_id(std::string_view *bytes, const QuicConnectionId &id) {
  if (bytes->size() < 1 + id.size() || static_cast<uint8_t>(bytes->front()) != id.size()) return false;
  const auto same = [](char a, uint8_t b) { return static_cast<uint8_t>(a) == b; };
  if (!std::ranges::equal(bytes->substr(1, id.size()), id, same)) return false;
  bytes->remove_prefix(1 + id.size());
  return true;
}

}  // namespace

std::string quic_version_probe(const QuicConnectionId &destination, const QuicConnectionId &source) {
  std::string probe(1, static_cast<char>(kLongHeader | kFixedBit));
  for (int shift = 24; shift >= 0; shift -= 8)
    probe.push_back(static_cast<char>(kReservedVersion >> shift & 0xff));
  put_connection_id(&probe, destination);
  put_connection_id(&probe, source);
  probe.resize(kProbeBytes, '\0');
  return probe;
}

std::optional<std::vector<uint32_t>> parse_quic_versions(std::string_view datagram,
                                                         const QuicConnectionId &destination,
                                                         const QuicConnectionId &source) {
  constexpr size_t kFlagsAndVersion = 5;
  if (datagram.size() < kFlagsAndVersion || (static_cast<uint8_t>(datagram[0]) & kLongHeader) == 0 ||
      number_at(datagram, 1) != 0) {
    return std::nullopt;
  }
  datagram.remove_prefix(kFlagsAndVersion);
  // The server answers from our destination to our source.
  if (!take_connection_id(&datagram, source) || !take_connection_id(&datagram, destination))
    return std::nullopt;
  if (datagram.empty() || datagram.size() % 4 != 0) return std::nullopt;
  std::vector<uint32_t> versions;
  for (size_t offset = 0; offset < datagram.size(); offset += 4)
    versions.push_back(number_at(datagram, offset));
  return versions;
}

}  // namespace sluice
