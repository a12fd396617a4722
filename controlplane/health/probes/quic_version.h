// QUIC's version negotiation, as bytes (RFC 8999; RFC 9000 sections 6 and 17.2.1).
#ifndef SLUICE_CONTROLPLANE_HEALTH_PROBES_QUIC_VERSION_H
#define SLUICE_CONTROLPLANE_HEALTH_PROBES_QUIC_VERSION_H

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace sluice {

using QuicConnectionId = std::array<uint8_t, 8>;

/// A datagram of 1,200 bytes with a long header of a version that is reserved to be unknown: every server
/// answers it with its list of versions.
std::string quic_version_probe(const QuicConnectionId &destination, const QuicConnectionId &source);

/// The versions in a Version Negotiation packet that answers quic_version_probe(destination, source); nothing
/// when it is no such packet.
std::optional<std::vector<uint32_t>> parse_quic_versions(std::string_view datagram,
                                                         const QuicConnectionId &destination,
                                                         const QuicConnectionId &source);

}  // namespace sluice

#endif
