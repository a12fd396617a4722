// From a request to the daemon and back: every path, method and parameter of the API, and the role that each
// needs.
#ifndef SLUICE_CONTROLPLANE_API_ROUTER_H
#define SLUICE_CONTROLPLANE_API_ROUTER_H

#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

#include "controlplane/api/control.h"
#include "controlplane/api/message.h"
#include "controlplane/config/yaml_tree.h"

namespace sluice::api {

/// What a scoped identity may do with a route.
enum class Reach : uint8_t {
  kHost = 1,    // nothing: it is about the whole host
  kFiltered,    // it sees what is in its scope, and no more
  kNamedPool,   // if nobody but services in its scope uses the pool that is the path's first name
  kNotTheHost,  // everything: it is about nothing of this host, and asks nothing of `Control`
};

/// Below every role: who asks need not be known.
inline constexpr model::Role kEverybody{};

/// What a route needs of who calls it. There is no default: a route without it does not compile.
struct Need {
  model::Role role;
  Reach reach;
  constexpr Need(model::Role needed_role, Reach needed_reach) : role(needed_role), reach(needed_reach) {}
};

/// A row of the table of routes.
struct RouteInfo {
  std::string_view method;
  std::string_view pattern;     // "*" stands for one segment
  std::string_view parameters;  // of the query, comma-separated
  Need need;
};

/// Every route, for tests and documentation.
std::vector<RouteInfo> routes();

/// What this request needs. A path that is not there needs a viewer: strangers learn nothing of paths.
Need needed(std::string_view method, std::string_view target);

/// Answers one request. Whatever it is, there is an answer: an unknown path is a 404, a wrong method a
/// 405 with Allow, a bad parameter a 400 that names it, 403 for whom the route is not.
Response handle(const Request &request, Control &control);

/// 403 that names the role.
Response forbidden(model::Role needed_role, const Caller &caller);

/// How large the body of a request may be: a configuration is sent to one path only.
size_t max_body_bytes(std::string_view method, std::string_view target);

inline constexpr size_t kMaxConfigBytes = kMaxYamlBytes;  // what sluiced reads from a file too
inline constexpr size_t kMaxOtherBodyBytes = 4 * 1024;
inline constexpr uint64_t kMaxListedConnections = 100'000;
inline constexpr uint64_t kMaxListedBackends = 100'000;

}  // namespace sluice::api

#endif
