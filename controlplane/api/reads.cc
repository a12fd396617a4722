#include <algorithm>
#include <charconv>
#include <tuple>

#include <spdlog/fmt/fmt.h>

#include "controlplane/api/handlers.h"
#include "controlplane/api/metrics.h"
#include "controlplane/api/render.h"
#include "controlplane/api/router.h"
#include "controlplane/api/target.h"
#include "controlplane/model/address_text.h"

namespace sluice::api {

namespace {

using nlohmann::json;

// An unknown name must not look like one without traffic. Each says what lists the names: for people the
// command, for programs the path.
std::string unknown_service(const std::string &name) {
  return fmt::format("no service is named \"{}\"; sluicectl services (GET /v1/services) lists them", name);
}

std::string unknown_pool(const std::string &name) {
  return fmt::format("no pool is named \"{}\"; sluicectl backends (GET /v1/backends) lists them", name);
}

// Where a page of backends ends: they are listed by pool, name and identifier then, which is stable while
// others come and go.
using BackendPlace = std::tuple<std::string, std::string, std::string>;

BackendPlace place_of(const BackendView &view) {
  return {view.pool, view.name, view.state == "removed" ? std::to_string(view.id) : ""};
}

std::string cursor_text(const BackendPlace &place) {
  const auto &[pool, name, id] = place;
  return percent_encode(pool) + "/" + percent_encode(name) + "/" + id;
}

// Whatever comes after it in the order is the next page: a cursor need not name a backend that is still
// there.
Result<BackendPlace> parse_cursor(const std::string &text) {
  const Result<Target> parts = parse_target("/" + text + (text.ends_with('/') ? "-" : ""));
  if (!parts.ok() || parts.value().segments.size() != 3 || !parts.value().query.empty())
    return Error{
        fmt::format("query parameter cursor: \"{}\" is none of this path's; take next_cursor", text)};
  const std::vector<std::string> &names = parts.value().segments;
  return BackendPlace{names[0], names[1], text.ends_with('/') ? "" : names[2]};
}

Result<json> page_of(std::vector<BackendView> backends, const Call &call) {
  const std::optional<std::string> limit_text = call.parameter("limit");
  const std::optional<std::string> cursor = call.parameter("cursor");
  const std::optional<uint64_t> limit =
      limit_text ? parse_number(*limit_text, kMaxListedBackends) : kMaxListedBackends;
  if (!limit || *limit == 0) {
    return Error{fmt::format("query parameter limit: \"{}\" is no number from 1 to {}", *limit_text,
                             kMaxListedBackends)};
  }
  size_t begin = 0;
  if (limit_text || cursor) {
    const auto is_before = [](const BackendView &a, const BackendView &b) {
      return place_of(a) < place_of(b);
    };
    std::ranges::sort(backends, is_before);
  }
  if (cursor) {
    const Result<BackendPlace> after = parse_cursor(*cursor);
    if (!after.ok()) return after.error();
    begin = static_cast<size_t>(
        std::ranges::partition_point(
            backends, [&](const BackendView &view) { return place_of(view) <= after.value(); }) -
        backends.begin());
  }
  const size_t end = std::min<size_t>(backends.size(), begin + *limit);
  json list = json::array();
  for (size_t i = begin; i < end; i++) list.push_back(to_json(backends[i]));
  json body = {{"backends", std::move(list)}};
  if (end < backends.size() && end > begin) body["next_cursor"] = cursor_text(place_of(backends[end - 1]));
  return body;
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
    } else if (name == "cursor") {
      filter.after = parse_number(value, UINT64_MAX);
      if (!filter.after) return Error{wrong.message + "cursor of this path; take next_cursor"};
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
  // To whom names of other pools are not shown, none is confirmed either.
  if (filter.services && !filter.pool) return "";
  if (!filter.backend || control.has_backend(filter.pool, *filter.backend)) return "";
  return fmt::format("no backend is named \"{}\"{}; sluicectl backends (GET /v1/backends) lists them",
                     *filter.backend, filter.pool ? fmt::format(" in pool \"{}\"", *filter.pool) : "");
}

// What of the filter is outside of the caller's scope, in words; "" when nothing is. Without a name the list
// has what is in it.
std::string outside(const ConnectionFilter &filter, const Scope &scope) {
  if (filter.service && !scope.has_service(*filter.service))
    return fmt::format("service \"{}\"", *filter.service);
  if (filter.pool && !scope.may_read_pool(*filter.pool)) return fmt::format("pool \"{}\"", *filter.pool);
  return "";
}

void leave_readable(std::vector<SourceReport> *sources, const Scope &scope) {
  std::erase_if(*sources, [&](const SourceReport &source) { return !scope.may_read_pool(source.pool); });
}

}  // namespace

std::optional<uint64_t> parse_number(const std::string &text, uint64_t largest) {
  uint64_t number = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (error != std::errc() || end != text.data() + text.size() || number > largest) return std::nullopt;
  return number;
}

Response out_of_scope(const Call &call, const std::string &what) {
  return problem(403, fmt::format("{} is not in the scope of {}: {}", what, call.request.caller.identity,
                                  call.scope.text()));
}

Response get_health(const Call & /*call*/) { return json_response(200, {{"status", "alive"}}); }

Response get_readiness(const Call &call) {
  if (const Status ready = call.control.readiness(); !ready.ok()) return problem(503, ready.error().message);
  return json_response(200, {{"status", "ready"}});
}

Response get_status(const Call &call) {
  StatusView status = call.control.status();
  leave_readable(&status.sources, call.scope);
  if (!call.scope.is_everything()) {
    // Words about others' services, and about the host.
    status.config_problem.clear();
    status.dataplane.details = nullptr;
  }
  return json_response(200, to_json(status));
}

Response get_services(const Call &call) {
  json list = json::array();
  for (const ServiceView &service : call.control.services(std::nullopt))
    if (call.scope.has_service(service.service.name)) list.push_back(to_json(service));
  return json_response(200, {{"services", std::move(list)}});
}

Response get_service(const Call &call) {
  const std::string &name = call.names[0];
  if (!call.scope.has_service(name)) return out_of_scope(call, fmt::format("service \"{}\"", name));
  const std::vector<ServiceView> services = call.control.services(name);
  if (services.empty()) return problem(404, unknown_service(name));
  json body = to_json(services[0]);
  json members = json::array();
  for (const BackendView &backend : call.control.backends(services[0].service.pool)) {
    members.push_back(to_json(backend));
  }
  body["members"] = std::move(members);
  return json_response(200, body);
}

Response get_backends(const Call &call) {
  const std::optional<std::string> pool = call.parameter("pool");
  if (pool && !call.scope.may_read_pool(*pool)) return out_of_scope(call, fmt::format("pool \"{}\"", *pool));
  if (pool && !call.control.has_pool(*pool)) return problem(404, unknown_pool(*pool));
  std::vector<BackendView> backends = call.control.backends(pool);
  if (!call.scope.is_everything()) {
    std::map<std::string, bool> readable;
    for (const BackendView &view : backends)
      if (!readable.contains(view.pool)) readable[view.pool] = call.scope.may_read_pool(view.pool);
    std::erase_if(backends, [&](const BackendView &view) { return !readable[view.pool]; });
  }
  const Result<json> page = page_of(std::move(backends), call);
  if (!page.ok()) return problem(400, page.error().message);
  return json_response(200, page.value());
}

Response get_connections(const Call &call) {
  Result<ConnectionFilter> filter = parse_filter(call.query);
  if (!filter.ok()) return problem(400, filter.error().message);
  const Status split = split_backend(&filter.value());
  if (!split.ok()) return problem(400, split.error().message);
  if (const std::string what = outside(filter.value(), call.scope); !what.empty())
    return out_of_scope(call, what);
  if (const std::vector<std::string> *services = call.scope.services()) filter.value().services = *services;
  const std::string unknown = unknown_name(filter.value(), call.control);
  if (!unknown.empty()) return problem(404, unknown);
  const Result<ConnectionList> connections = call.control.connections(filter.value());
  if (!connections.ok()) return problem(503, connections.error().message);
  return json_response(200, to_json(connections.value()));
}

Response get_counters(const Call &call) {
  const Result<CountersView> counters = call.control.counters();
  if (!counters.ok()) return problem(503, counters.error().message);
  return json_response(200, to_json(counters.value()));
}

Response get_metrics(const Call &call) {
  const Result<MetricsFilter> filter = parse_metrics_filter(call.query);
  if (!filter.ok()) return problem(400, filter.error().message);
  const std::optional<std::string> &pool = filter.value().pool;
  if (pool && !call.control.has_pool(*pool)) return problem(404, unknown_pool(*pool));
  Response response;
  response.content_type = kMetricsContentType;
  response.body = render_metrics(call.control.metrics(filter.value()));
  return response;
}

Response get_discovery(const Call &call) {
  std::vector<SourceReport> sources = call.control.discovery();
  leave_readable(&sources, call.scope);
  return json_response(200, {{"sources", to_json(sources)}});
}

}  // namespace sluice::api
