// What a backend says when it registers itself.
#ifndef SLUICE_CONTROLPLANE_DISCOVERY_MESSAGES_REGISTRATION_H
#define SLUICE_CONTROLPLANE_DISCOVERY_MESSAGES_REGISTRATION_H

#include <string_view>

#include "controlplane/discovery/found.h"
#include "dataplane/abi/result.h"

namespace sluice {

/// {"address": "10.1.0.11", "ttl": "10s", "weight": 100, ...} of the backend `name`. Any bytes are safe;
/// errors name the field and the value.
Result<FoundBackend> parse_registration(std::string_view name, std::string_view body);

inline constexpr std::chrono::milliseconds kMinRegistrationTtl{1000};
inline constexpr std::chrono::milliseconds kMaxRegistrationTtl{24 * 3600 * 1000};

}  // namespace sluice

#endif
