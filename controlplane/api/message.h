// A request and a response of the REST API, apart from any transport.
#ifndef SLUICE_CONTROLPLANE_API_MESSAGE_H
#define SLUICE_CONTROLPLANE_API_MESSAGE_H

#include <optional>
#include <string>
#include <utility>
#include <vector>

#include <nlohmann/json.hpp>

#include "controlplane/api/caller.h"

namespace sluice::api {

struct Request {
  std::string method;  // "GET"
  std::string target;  // path and query, as on the request line
  std::string body;
  Caller caller;
  std::string if_match;         // the header's text; empty: none
  std::string idempotency_key;  // the header's text; empty: none
};

/// What the audit log says of a request that was to change something.
struct ChangeNote {
  std::string outcome;    // "applied", "pending", "unchanged", "planned", "refused"
  uint64_t revision = 0;  // 0: none
  nlohmann::json before;  // null: not known
  nlohmann::json after;   // null: not known
};

struct Response {
  unsigned status = 200;
  std::string content_type = "application/json";
  std::string body;
  std::vector<std::pair<std::string, std::string>> headers;  // further ones
  std::optional<ChangeNote> change;                          // the request was one to change something

  /// The value of a header; empty: there is none.
  std::string header(const std::string &name) const {
    for (const auto &[each, value] : headers)
      if (each == name) return value;
    return "";
  }
};

}  // namespace sluice::api

#endif
