// Takes a request target apart: path segments and query parameters, percent-decoded (RFC 3986).
#ifndef SLUICE_CONTROLPLANE_API_TARGET_H
#define SLUICE_CONTROLPLANE_API_TARGET_H

#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "dataplane/abi/result.h"

namespace sluice::api {

struct Target {
  std::vector<std::string> segments;         // "/v1/backends/web/b1" -> v1, backends, web, b1
  std::map<std::string, std::string> query;  // each name once
};

/// Errors: no leading '/', a bad percent escape, an empty segment, a parameter that is given twice.
Result<Target> parse_target(std::string_view text);

/// `text` with every byte outside of RFC 3986's unreserved set escaped: for one segment or value.
std::string percent_encode(std::string_view text);

}  // namespace sluice::api

#endif
