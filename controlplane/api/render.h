// Views as JSON: the shape of every answer of the API.
#ifndef SLUICE_CONTROLPLANE_API_RENDER_H
#define SLUICE_CONTROLPLANE_API_RENDER_H

#include <string>
#include <vector>

#include <nlohmann/json.hpp>

#include "controlplane/api/control.h"
#include "controlplane/api/message.h"

namespace sluice::api {

nlohmann::json to_json(const StatusView &status);
nlohmann::json to_json(const std::vector<SourceReport> &sources);
nlohmann::json to_json(const ServiceView &service);
nlohmann::json to_json(const BackendView &backend);
nlohmann::json to_json(const ConnectionList &connections);
nlohmann::json to_json(const CountersView &counters);
nlohmann::json to_json(const ConfigError &error);
nlohmann::json to_json(const Plan &plan);
nlohmann::json to_json(const Revision &revision);

/// "forward", "reply", "pass" or "drop".
const char *verdict_class_name(Verdict verdict);

/// `body` with `status`. Bytes that are not UTF-8 become U+FFFD.
Response json_response(unsigned status, const nlohmann::json &body);

/// An error as application/problem+json (RFC 9457); `errors` beside it when there are any.
Response problem(unsigned status, const std::string &detail, const std::vector<ConfigError> &errors = {});

}  // namespace sluice::api

#endif
