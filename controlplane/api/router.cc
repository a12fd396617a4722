#include "controlplane/api/router.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <span>

#include <spdlog/fmt/fmt.h>

#include "controlplane/api/metrics.h"
#include "controlplane/api/render.h"
#include "controlplane/api/target.h"
#include "controlplane/discovery/messages/registration.h"
#include "controlplane/model/address_text.h"

namespace sluice::api {

namespace {

using nlohmann::json;

constexpr uint64_t kMaxDrainDeadlineS = 30 * 24 * 3600;
constexpr std::string_view kCheckConfigPath = "/v1/check-config";

// A matched route: what stood in place of "*", and the query.
struct Match {
  std::vector<std::string> names;
  std::map<std::string, std::string> query;
};

using Handler = Response (*)(const Request &request, const Match &match, Control &control);

struct Route {
  std::string_view method;
  std::string_view pattern;     // "*" stands for one segment
  std::string_view parameters;  // of the query, comma-separated
  Handler handler;
};

Response get_status(const Request & /*request*/, const Match & /*match*/, Control &control) {
  return json_response(200, to_json(control.status()));
}

Response get_services(const Request & /*request*/, const Match & /*match*/, Control &control) {
  json list = json::array();
  for (const ServiceView &service : control.services(std::nullopt)) list.push_back(to_json(service));
  return json_response(200, {{"services", std::move(list)}});
}

// An unknown name must not look like one without traffic. Each says what lists the names: for people the
// command, for programs the path.
std::string unknown_service(const std::string &name) {
  return fmt::format("no service is named \"{}\"; sluicectl services (GET /v1/services) lists them", name);
}

std::string unknown_pool(const std::string &name) {
  return fmt::format("no pool is named \"{}\"; sluicectl backends (GET /v1/backends) lists them", name);
}

Response get_service(const Request & /*request*/, const Match &match, Control &control) {
  const std::vector<ServiceView> services = control.services(match.names[0]);
  if (services.empty()) {
    return problem(404, unknown_service(match.names[0]));
  }
  json body = to_json(services[0]);
  json members = json::array();
  for (const BackendView &backend : control.backends(services[0].service.pool)) {
    members.push_back(to_json(backend));
  }
  body["members"] = std::move(members);
  return json_response(200, body);
}

Response get_backends(const Request & /*request*/, const Match &match, Control &control) {
  std::optional<std::string> pool;
  if (const auto found = match.query.find("pool"); found != match.query.end()) pool = found->second;
  if (pool && !control.has_pool(*pool)) return problem(404, unknown_pool(*pool));
  const std::vector<BackendView> backends = control.backends(pool);
  json list = json::array();
  for (const BackendView &backend : backends) list.push_back(to_json(backend));
  return json_response(200, {{"backends", std::move(list)}});
}

Response get_metrics(const Request & /*request*/, const Match &match, Control &control) {
  const Result<MetricsFilter> filter = parse_metrics_filter(match.query);
  if (!filter.ok()) return problem(400, filter.error().message);
  const std::optional<std::string> &pool = filter.value().pool;
  if (pool && !control.has_pool(*pool)) return problem(404, unknown_pool(*pool));
  return {.content_type = kMetricsContentType,
          .body = render_metrics(control.metrics(filter.value())),
          .allow = ""};
}

// Reads a number of at most `largest`.
std::optional<uint64_t> parse_number(const std::string &text, uint64_t largest) {
  uint64_t number = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (error != std::errc() || end != text.data() + text.size() || number > largest) return std::nullopt;
  return number;
}

Result<ConnectionFilter> parse_filter(const std::map<std::string, std::string> &query) {
  ConnectionFilter filter;
  for (const auto &[name, value] : query) {
    const Error wrong{fmt::format("query parameter {}: \"{}\" is no ", name, value)};
    if (name == "client" || name == "vip") {
      const std::optional<Address> address = parse_address(value);
      if (!address) return Error{wrong.message + "IPv4 or IPv6 address"};
      (name == "client" ? filter.client : filter.vip) = *address;
    } else if (name == "port") {
      const auto port = parse_number(value, 65535);
      if (!port) return Error{wrong.message + "port from 0 to 65535"};
      filter.vip_port = static_cast<uint16_t>(*port);
    } else if (name == "limit") {
      const auto limit = parse_number(value, kMaxListedConnections);
      if (!limit) return Error{fmt::format("{}number from 0 to {}", wrong.message, kMaxListedConnections)};
      filter.limit = *limit;
    } else if (name == "expired") {
      if (value != "true" && value != "false") return Error{wrong.message + "\"true\" or \"false\""};
      filter.include_expired = value == "true";
    } else if (name == "service") {
      filter.service = value;
    } else if (name == "pool") {
      filter.pool = value;
    } else if (name == "backend") {
      filter.backend = value;
    }
  }
  return filter;
}

// "POOL/BACKEND" is what every list shows: takes the pool out of it.
Status split_backend(ConnectionFilter *filter) {
  const size_t slash = filter->backend ? filter->backend->find('/') : std::string::npos;
  if (slash == std::string::npos) return Done{};
  const std::string pool = filter->backend->substr(0, slash);
  if (filter->pool && *filter->pool != pool) {
    return Error{fmt::format("query parameters pool and backend: \"{}\" and \"{}\" are two pools",
                             *filter->pool, pool)};
  }
  filter->pool = pool;
  filter->backend = filter->backend->substr(slash + 1);
  return Done{};
}

// The first name of the filter that nothing has, in words; "" when all are known.
std::string unknown_name(const ConnectionFilter &filter, Control &control) {
  if (filter.service && !control.has_service(*filter.service)) return unknown_service(*filter.service);
  if (filter.pool && !control.has_pool(*filter.pool)) return unknown_pool(*filter.pool);
  if (!filter.backend || control.has_backend(filter.pool, *filter.backend)) return "";
  return fmt::format("no backend is named \"{}\"{}; sluicectl backends (GET /v1/backends) lists them",
                     *filter.backend, filter.pool ? fmt::format(" in pool \"{}\"", *filter.pool) : "");
}

Response get_connections(const Request & /*request*/, const Match &match, Control &control) {
  Result<ConnectionFilter> filter = parse_filter(match.query);
  if (!filter.ok()) return problem(400, filter.error().message);
  const Status split = split_backend(&filter.value());
  if (!split.ok()) return problem(400, split.error().message);
  const std::string unknown = unknown_name(filter.value(), control);
  if (!unknown.empty()) return problem(404, unknown);
  const Result<ConnectionList> connections = control.connections(filter.value());
  if (!connections.ok()) return problem(503, connections.error().message);
  return json_response(200, to_json(connections.value()));
}

Response get_counters(const Request & /*request*/, const Match & /*match*/, Control &control) {
  const Result<CountersView> counters = control.counters();
  if (!counters.ok()) return problem(503, counters.error().message);
  return json_response(200, to_json(counters.value()));
}

Response change_response(const ChangeResult &change) {
  using Outcome = ChangeResult::Outcome;
  switch (change.outcome) {
    case Outcome::kNotFound:
      return problem(404, change.message);
    case Outcome::kConflict:
      return problem(409, change.message);
    case Outcome::kInvalidConfig:
      return problem(422, change.message, change.errors);
    case Outcome::kRefused:
      return problem(502, change.message);
    case Outcome::kApplied:
    case Outcome::kPending:
    case Outcome::kUnchanged:
      break;
  }
  const char *result = change.outcome == Outcome::kApplied   ? "applied"
                       : change.outcome == Outcome::kPending ? "pending"
                                                             : "unchanged";
  return json_response(200, {{"result", result}, {"message", change.message}, {"revision", change.revision}});
}

// The query's "deadline" in seconds, or "none"; nothing when it is not there.
Result<std::optional<std::chrono::seconds>> parse_deadline(const std::map<std::string, std::string> &query) {
  const auto found = query.find("deadline");
  if (found == query.end()) return std::optional<std::chrono::seconds>();
  if (found->second == "none") return std::optional(model::kNoDeadline);
  const auto number = parse_number(found->second, kMaxDrainDeadlineS);
  if (!number || *number == 0) {
    return Error{
        fmt::format("query parameter deadline: \"{}\" is neither none nor a number of seconds from 1 to {}",
                    found->second, kMaxDrainDeadlineS)};
  }
  return std::optional(std::chrono::seconds(*number));
}

Response post_drain(const Request & /*request*/, const Match &match, Control &control) {
  const auto deadline = parse_deadline(match.query);
  if (!deadline.ok()) return problem(400, deadline.error().message);
  return change_response(control.drain({match.names[0], match.names[1]}, deadline.value()));
}

Response post_maintenance(const Request & /*request*/, const Match &match, Control &control) {
  const auto deadline = parse_deadline(match.query);
  if (!deadline.ok()) return problem(400, deadline.error().message);
  return change_response(control.maintain({match.names[0], match.names[1]}, deadline.value()));
}

Response delete_maintenance(const Request & /*request*/, const Match &match, Control &control) {
  return change_response(control.end_maintenance({match.names[0], match.names[1]}));
}

Response post_undrain(const Request & /*request*/, const Match &match, Control &control) {
  return change_response(control.undrain({match.names[0], match.names[1]}));
}

Response get_discovery(const Request & /*request*/, const Match & /*match*/, Control &control) {
  return json_response(200, {{"sources", to_json(control.discovery())}});
}

Response put_registration(const Request &request, const Match &match, Control &control) {
  const Result<FoundBackend> backend = parse_registration(match.names[1], request.body);
  if (!backend.ok()) return problem(400, backend.error().message);
  return change_response(control.put_registration(match.names[0], backend.value()));
}

Response delete_registration(const Request & /*request*/, const Match &match, Control &control) {
  return change_response(control.remove_registration(match.names[0], match.names[1]));
}

Response post_reload(const Request & /*request*/, const Match & /*match*/, Control &control) {
  return change_response(control.reload());
}

Response post_check_config(const Request &request, const Match &match, Control & /*control*/) {
  const auto named = match.query.find("file");
  const std::string file = named == match.query.end() ? "request body" : named->second;
  const LoadedConfig loaded = load_config(request.body, file);
  if (!loaded.ok()) {
    return problem(422, fmt::format("the configuration has {} error(s)", loaded.errors.size()),
                   loaded.errors);
  }
  uint64_t backends = 0;
  for (const model::Pool &pool : loaded.state->pools) backends += pool.backends.size();
  return json_response(200, {{"result", "valid"},
                             {"services", loaded.state->services.size()},
                             {"pools", loaded.state->pools.size()},
                             {"backends", backends}});
}

constexpr std::array kRoutes = {
    Route{"GET", "v1/status", "", get_status},
    Route{"GET", "v1/services", "", get_services},
    Route{"GET", "v1/services/*", "", get_service},
    Route{"GET", "v1/backends", "pool", get_backends},
    Route{"GET", "v1/connections", "client,vip,port,service,pool,backend,limit,expired", get_connections},
    Route{"GET", "v1/counters", "", get_counters},
    Route{"POST", "v1/backends/*/*/drain", "deadline", post_drain},
    Route{"POST", "v1/backends/*/*/undrain", "", post_undrain},
    Route{"POST", "v1/backends/*/*/maintenance", "deadline", post_maintenance},
    Route{"DELETE", "v1/backends/*/*/maintenance", "", delete_maintenance},
    Route{"GET", "metrics", "services,pools,backends,pool", get_metrics},
    Route{"GET", "v1/discovery", "", get_discovery},
    Route{"PUT", "v1/pools/*/registrations/*", "", put_registration},
    Route{"DELETE", "v1/pools/*/registrations/*", "", delete_registration},
    Route{"POST", "v1/reload", "", post_reload},
    Route{"POST", "v1/check-config", "file", post_check_config},
};

std::vector<std::string_view> split(std::string_view text, char separator) {
  std::vector<std::string_view> parts;
  while (!text.empty()) {
    const size_t end = text.find(separator);
    parts.push_back(text.substr(0, end));
    text = end == std::string_view::npos ? std::string_view() : text.substr(end + 1);
  }
  return parts;
}

std::optional<std::vector<std::string>> match_pattern(std::string_view pattern,
                                                      std::span<const std::string> segments) {
  const std::vector<std::string_view> parts = split(pattern, '/');
  if (parts.size() != segments.size()) return std::nullopt;
  std::vector<std::string> names;
  for (size_t i = 0; i < parts.size(); i++) {
    if (parts[i] == "*") {
      names.push_back(segments[i]);
    } else if (parts[i] != segments[i]) {
      return std::nullopt;
    }
  }
  return names;
}

// Names the first parameter that the route does not know; "" when it knows all.
std::string unknown_parameter(const Route &route, const std::map<std::string, std::string> &query) {
  const std::vector<std::string_view> known = split(route.parameters, ',');
  for (const auto &[name, value] : query) {
    if (std::find(known.begin(), known.end(), name) != known.end()) continue;
    const std::string allowed =
        known.empty() ? "this path takes none" : fmt::format("known: {}", route.parameters);
    return fmt::format("query parameter \"{}\" is unknown; {}", name, allowed);
  }
  return "";
}

}  // namespace

Response handle(const Request &request, Control &control) {
  const Result<Target> target = parse_target(request.target);
  if (!target.ok()) return problem(400, target.error().message);
  std::string allow;
  for (const Route &route : kRoutes) {
    const auto names = match_pattern(route.pattern, target.value().segments);
    if (!names) continue;
    // What may be read may be asked for its headers alone: the transport drops the body.
    const bool head = request.method == "HEAD" && route.method == "GET";
    if (route.method != request.method && !head) {
      allow += allow.empty() ? "" : ", ";
      allow += route.method == "GET" ? "GET, HEAD" : route.method;
      continue;
    }
    const std::string unknown = unknown_parameter(route, target.value().query);
    if (!unknown.empty()) return problem(400, unknown);
    return route.handler(request, {*names, target.value().query}, control);
  }
  if (!allow.empty()) {
    Response response = problem(405, fmt::format("{} is not possible here; use {}", request.method, allow));
    response.allow = allow;
    return response;
  }
  return problem(404, "there is no such path; GET /v1/status is a place to start");
}

size_t max_body_bytes(std::string_view method, std::string_view target) {
  const bool config = method == "POST" && target.substr(0, target.find('?')) == kCheckConfigPath;
  return config ? kMaxConfigBytes : kMaxOtherBodyBytes;
}

}  // namespace sluice::api
