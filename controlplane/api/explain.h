// What `explain` is asked about: a frame, or the five values that name a connection.
#ifndef SLUICE_CONTROLPLANE_API_EXPLAIN_H
#define SLUICE_CONTROLPLANE_API_EXPLAIN_H

#include <map>
#include <string>

#include <nlohmann/json.hpp>

#include "dataplane/abi/result.h"

namespace sluice::api {

/// The fields of the control socket's `explain` (dataplane/abi/control_protocol.h) out of a query: of
/// `frame`, or of a frame that is made of `client`, `client_port`, `vip`, `port` and `protocol`. Errors name
/// the parameter and its value.
Result<nlohmann::json> parse_explain_query(const std::map<std::string, std::string> &query);

}  // namespace sluice::api

#endif
