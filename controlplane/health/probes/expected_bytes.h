// Answers of backends in messages to the operator.
#ifndef SLUICE_CONTROLPLANE_HEALTH_PROBES_EXPECTED_BYTES_H
#define SLUICE_CONTROLPLANE_HEALTH_PROBES_EXPECTED_BYTES_H

#include <cstddef>
#include <string>
#include <string_view>

namespace sluice {

/// So much of an answer is looked at.
inline constexpr size_t kMaxAnswerBytes = 64 * 1024;

/// In quotes, cut after 64 bytes, with \n, \r and \xNN for what is not printable ASCII.
std::string shown(std::string_view bytes);

/// "answered "HTTP/1.0 400...", which does not contain "+PONG"".
std::string missing_text(std::string_view expected, std::string_view answer);

}  // namespace sluice

#endif
