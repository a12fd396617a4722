// From a request to the daemon and back: every path, method and parameter of the API.
#ifndef SLUICE_CONTROLPLANE_API_ROUTER_H
#define SLUICE_CONTROLPLANE_API_ROUTER_H

#include <cstddef>
#include <string_view>

#include "controlplane/api/control.h"
#include "controlplane/api/message.h"
#include "controlplane/config/yaml_tree.h"

namespace sluice::api {

/// Answers one request. Whatever it is, there is an answer: an unknown path is a 404, a wrong method a
/// 405 with Allow, a bad parameter a 400 that names it.
Response handle(const Request &request, Control &control);

/// How large the body of a request may be: a configuration is sent to one path only.
size_t max_body_bytes(std::string_view method, std::string_view target);

inline constexpr size_t kMaxConfigBytes = kMaxYamlBytes;  // what sluiced reads from a file too
inline constexpr size_t kMaxOtherBodyBytes = 4 * 1024;
inline constexpr uint64_t kMaxListedConnections = 100'000;

}  // namespace sluice::api

#endif
