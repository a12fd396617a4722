#include "controlplane/api/router.h"

#include <algorithm>
#include <array>
#include <optional>
#include <span>

#include <spdlog/fmt/fmt.h>

#include "controlplane/api/handlers.h"
#include "controlplane/api/preconditions.h"
#include "controlplane/api/render.h"
#include "controlplane/api/target.h"

namespace sluice::api {

namespace {

constexpr std::string_view kCheckConfigPath = "/v1/check-config";
constexpr std::string_view kConfigurationPath = "/v1/configuration";

struct Route {
  RouteInfo info;
  Response (*handler)(const Call &call);
};

using model::Role;

constexpr Need kReads{Role::kViewer, Reach::kFiltered};
constexpr Need kReadsHost{Role::kViewer, Reach::kHost};
constexpr Need kAdministers{Role::kAdmin, Reach::kHost};
constexpr Need kOperates{Role::kOperator, Reach::kNamedPool};

constexpr std::array kRoutes = {
    Route{{"GET", "healthz", "", {kEverybody, Reach::kHost}}, get_health},
    Route{{"GET", "readyz", "", {kEverybody, Reach::kHost}}, get_readiness},
    Route{{"GET", "v1/status", "", kReads}, get_status},
    Route{{"GET", "v1/services", "", kReads}, get_services},
    Route{{"GET", "v1/services/*", "", kReads}, get_service},
    Route{{"GET", "v1/backends", "pool,limit,cursor", kReads}, get_backends},
    Route{{"GET", "v1/connections", "client,vip,port,service,pool,backend,limit,cursor,expired", kReads},
          get_connections},
    Route{{"GET", "v1/explain", "frame,length,worker,protocol,client,client_port,vip,port,flags", kReads},
          get_explain},
    Route{{"GET", "v1/counters", "", kReadsHost}, get_counters},
    Route{{"GET", "metrics", "services,pools,backends,pool", kReadsHost}, get_metrics},
    Route{{"GET", "v1/discovery", "", kReads}, get_discovery},
    Route{{"GET", "v1/configuration", "", kAdministers}, get_configuration},
    Route{{"PUT", "v1/configuration", "file,dry_run,force,message,if_revision,confirm", kAdministers},
          put_configuration},
    Route{{"GET", "v1/revisions", "limit,cursor", kReadsHost}, get_revisions},
    Route{{"GET", "v1/revisions/*", "against", kReadsHost}, get_revision},
    Route{{"GET", "v1/revisions/*/document", "", kAdministers}, get_revision_document},
    Route{{"POST", "v1/revisions/*/rollback", "dry_run,force,message,if_revision,confirm", kAdministers},
          post_rollback},
    Route{{"POST", "v1/revisions/*/confirm", "dry_run", kAdministers}, post_confirm},
    Route{{"PATCH", "v1/backends/*/*", "dry_run,force,message,if_revision", kOperates}, patch_backend},
    Route{{"POST", "v1/backends/*/*/drain", "deadline,dry_run,force,message,if_revision", kOperates},
          post_drain},
    Route{{"POST", "v1/backends/*/*/undrain", "dry_run,force,message,if_revision", kOperates}, post_undrain},
    Route{{"POST", "v1/backends/*/*/maintenance", "deadline,dry_run,force,message,if_revision", kOperates},
          post_maintenance},
    Route{{"DELETE", "v1/backends/*/*/maintenance", "dry_run,force,message,if_revision", kOperates},
          delete_maintenance},
    Route{{"PUT", "v1/pools/*/registrations/*", "", kOperates}, put_registration},
    Route{{"DELETE", "v1/pools/*/registrations/*", "", kOperates}, delete_registration},
    Route{{"POST", "v1/reload", "dry_run,force,message,if_revision,confirm", kAdministers}, post_reload},
    Route{{"POST", "v1/check-config", "file", {Role::kOperator, Reach::kNotTheHost}}, post_check_config},
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

struct Found {
  const Route *route = nullptr;    // nullptr: none for this method
  std::vector<std::string> names;  // of the route
  std::string allow;               // the methods of the path; empty: there is no such path
};

// What may be read may be asked for its headers alone: the transport drops the body.
Found find_route(std::string_view method, std::span<const std::string> segments) {
  Found found;
  for (const Route &route : kRoutes) {
    auto names = match_pattern(route.info.pattern, segments);
    if (!names) continue;
    const bool is_get = route.info.method == "GET";
    if (route.info.method == method || (is_get && method == "HEAD")) {
      found.route = &route;
      found.names = std::move(*names);
      return found;
    }
    found.allow += found.allow.empty() ? "" : ", ";
    found.allow += is_get ? "GET, HEAD" : route.info.method;
  }
  return found;
}

// Names the first parameter that the route does not know; "" when it knows all.
std::string unknown_parameter(const RouteInfo &route, const std::map<std::string, std::string> &query) {
  const std::vector<std::string_view> known = split(route.parameters, ',');
  for (const auto &[name, value] : query) {
    if (std::find(known.begin(), known.end(), name) != known.end()) continue;
    const std::string allowed =
        known.empty() ? "this path takes none" : fmt::format("known: {}", route.parameters);
    return fmt::format("query parameter \"{}\" is unknown; {}", name, allowed);
  }
  return "";
}

// Why this call is not the caller's to make; nothing when it is.
std::optional<Response> refusal(const Need &need, const Call &call) {
  if (need.role == kEverybody) return std::nullopt;
  const Caller &caller = call.request.caller;
  if (!caller.grant || caller.grant->role < need.role) return forbidden(need.role, caller);
  if (call.scope.is_everything()) return std::nullopt;
  if (need.reach == Reach::kHost) return out_of_scope(call, "this is about the whole host, which");
  if (need.reach == Reach::kNamedPool && !call.scope.may_change_pool(call.names[0]))
    return out_of_scope(call, fmt::format("pool \"{}\", or a service that uses it,", call.names[0]));
  return std::nullopt;
}

Response call_route(const Route &route, const Call &call) {
  const bool is_change = route.info.method != "GET" && route.handler != post_check_config;
  if (is_change) {
    std::optional<Response> failed = failed_precondition(call.request.if_match, call.control.version());
    if (failed) {
      failed->change = ChangeNote{.outcome = "refused"};
      return std::move(*failed);
    }
  }
  Response response = route.handler(call);
  if (is_change && !response.change) response.change = ChangeNote{.outcome = "refused"};
  const Need &need = route.info.need;
  const bool has_version =
      need.role != kEverybody && need.reach != Reach::kNotTheHost && response.status == 200;
  if (has_version) response.headers.emplace_back("ETag", entity_tag(call.control.version()));
  return response;
}

}  // namespace

std::vector<RouteInfo> routes() {
  std::vector<RouteInfo> rows;
  rows.reserve(kRoutes.size());
  for (const Route &route : kRoutes) rows.push_back(route.info);
  return rows;
}

Need needed(std::string_view method, std::string_view target) {
  constexpr Need kUnknown{Role::kViewer, Reach::kHost};
  const Result<Target> parsed = parse_target(target);
  if (!parsed.ok()) return kUnknown;
  const Found found = find_route(method, parsed.value().segments);
  return found.route == nullptr ? kUnknown : found.route->info.need;
}

Response handle(const Request &request, Control &control) {
  const Result<Target> target = parse_target(request.target);
  if (!target.ok()) return problem(400, target.error().message);
  Found found = find_route(request.method, target.value().segments);
  if (found.route == nullptr && found.allow.empty())
    return problem(404, "there is no such path; GET /v1/status is a place to start");
  if (found.route == nullptr) {
    Response response =
        problem(405, fmt::format("{} is not possible here; use {}", request.method, found.allow));
    response.headers.emplace_back("Allow", found.allow);
    return response;
  }
  const Call call{request, std::move(found.names), target.value().query, control,
                  Scope(request.caller, control)};
  if (std::optional<Response> refused = refusal(found.route->info.need, call)) return std::move(*refused);
  const std::string unknown = unknown_parameter(found.route->info, target.value().query);
  if (!unknown.empty()) return problem(400, unknown);
  return call_route(*found.route, call);
}

Response forbidden(Role needed_role, const Caller &caller) {
  const std::string_view has = caller.grant ? model::role_name(caller.grant->role) : "none";
  return problem(403, fmt::format("this needs the role {}; {} has the role {}", model::role_name(needed_role),
                                  caller.identity.empty() ? "who asks" : caller.identity, has));
}

size_t max_body_bytes(std::string_view method, std::string_view target) {
  const std::string_view path = target.substr(0, target.find('?'));
  const bool config =
      (method == "POST" && path == kCheckConfigPath) || (method == "PUT" && path == kConfigurationPath);
  return config ? kMaxConfigBytes : kMaxOtherBodyBytes;
}

}  // namespace sluice::api
