// Who may do what: each role and scope against each route.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "controlplane/api/router.h"
#include "tests/controlplane/api/fixed_control.h"

namespace sluice::api {
namespace {

using model::Role;
using nlohmann::json;
using testing::ElementsAre;
using testing::HasSubstr;

// A path that the route matches: of backend web/b1 where it has names.
std::string path_of(const RouteInfo &route) {
  std::string path = "/";
  int stars = 0;
  for (const char c : route.pattern) {
    if (c != '*') {
      path += c;
    } else {
      path += stars++ == 0 ? "web" : "b1";
    }
  }
  return path;
}

class Roles : public testing::Test {
 protected:
  Response ask(const std::string &method, const std::string &target, const model::Grant &grant) {
    return handle({.method = method,
                   .target = target,
                   .body = R"({"address": "10.0.0.1", "ttl": "10s"})",
                   .caller = {"ci", "token", "192.0.2.1:1", grant}},
                  control);
  }
  json read(const std::string &target, const model::Grant &grant) {
    const Response response = ask("GET", target, grant);
    EXPECT_EQ(response.status, 200u) << target << response.body;
    return json::parse(response.body);
  }

  FixedControl control;
};

const model::Grant kWebOperator{Role::kOperator, {{"web"}}};
const model::Grant kDnsOperator{Role::kOperator, {{"dns"}}};

TEST_F(Roles, every_route_is_refused_below_its_role_and_names_it) {
  for (const RouteInfo &route : routes()) {
    for (const Role role : {Role::kViewer, Role::kOperator, Role::kAdmin}) {
      const std::string path = path_of(route);
      control.calls.clear();
      const Response response = ask(std::string(route.method), path, {role, {}});
      const bool allowed = role >= route.need.role;
      EXPECT_EQ(response.status == 403, !allowed) << route.method << " " << path << " " << role_name(role);
      if (allowed) continue;
      EXPECT_THAT(response.body, HasSubstr("this needs the role " + std::string(role_name(route.need.role))));
      EXPECT_TRUE(control.calls.empty());
    }
  }
}

TEST_F(Roles, roles_of_routes_are_these) {
  for (const RouteInfo &route : routes()) {
    const bool reads = route.method == "GET";
    // Whole configurations have secrets.
    const bool is_secret = route.pattern == "v1/configuration" || route.pattern == "v1/revisions/*/document";
    EXPECT_EQ(route.need.role <= Role::kViewer, reads && !is_secret) << route.pattern;
    const bool is_open = route.need.role == kEverybody;
    EXPECT_EQ(is_open, route.pattern == "healthz" || route.pattern == "readyz") << route.pattern;
  }
  EXPECT_EQ(needed("POST", "/v1/reload").role, Role::kAdmin);
  EXPECT_EQ(needed("GET", "/nothing").role, Role::kViewer);  // strangers learn nothing of paths
  EXPECT_EQ(needed("GET", "//").role, Role::kViewer);
}

TEST_F(Roles, without_a_grant_only_what_is_open) {
  const auto ask_nobody = [&](const std::string &path) {
    return handle({.method = "GET", .target = path, .caller = {}}, control).status;
  };
  EXPECT_EQ(ask_nobody("/v1/services"), 403u);
  EXPECT_EQ(ask_nobody("/healthz"), 200u);
  EXPECT_EQ(ask_nobody("/readyz"), 200u);
  control.dataplane_reachable = false;
  EXPECT_EQ(ask_nobody("/healthz"), 200u);
  EXPECT_EQ(ask_nobody("/readyz"), 503u);
}

TEST_F(Roles, scoped_operator_changes_pools_that_only_its_services_use) {
  EXPECT_EQ(ask("POST", "/v1/backends/web/b1/drain", kWebOperator).status, 200u);
  EXPECT_THAT(control.calls, ElementsAre("drain web/b1"));
  for (const char *target : {"/v1/backends/web/b1/drain", "/v1/backends/nope/b1/drain"}) {
    const Response response = ask("POST", target, kDnsOperator);
    EXPECT_EQ(response.status, 403u) << target;  // whether it is there or not
    EXPECT_THAT(response.body, HasSubstr("is not in the scope of ci: services dns"));
  }
  control.pool_users["web"] = {"web", "dns"};
  EXPECT_EQ(ask("POST", "/v1/backends/web/b1/drain", kWebOperator).status, 403u);
  EXPECT_EQ(ask("PUT", "/v1/pools/web/registrations/b1", kWebOperator).status, 403u);
  EXPECT_EQ(ask("POST", "/v1/backends/web/b1/drain", {Role::kOperator, {{"dns", "web"}}}).status, 200u);
  control.pool_users["web"] = {};  // of no service: of nobody's
  EXPECT_EQ(ask("POST", "/v1/backends/web/b1/drain", kWebOperator).status, 403u);
  EXPECT_EQ(control.calls.size(), 2u);
}

TEST_F(Roles, scoped_identity_sees_what_is_in_its_scope) {
  EXPECT_EQ(read("/v1/services", kWebOperator)["services"].size(), 1u);
  EXPECT_EQ(read("/v1/backends", kWebOperator)["backends"].size(), 2u);
  EXPECT_EQ(read("/v1/discovery", kWebOperator)["sources"].size(), 1u);
  EXPECT_EQ(read("/v1/services", kDnsOperator)["services"].size(), 0u);
  EXPECT_EQ(read("/v1/backends", kDnsOperator)["backends"].size(), 0u);
  EXPECT_EQ(read("/v1/discovery", kDnsOperator)["sources"].size(), 0u);
  for (const char *target : {"/v1/services/web", "/v1/services/nope", "/v1/backends?pool=web",
                             "/v1/backends?pool=nope", "/v1/connections?service=web",
                             "/v1/connections?pool=web", "/v1/connections?backend=web/b1", "/v1/counters"}) {
    EXPECT_EQ(ask("GET", target, kDnsOperator).status, 403u) << target;
  }
  read("/v1/connections", kDnsOperator);
  EXPECT_THAT(*control.last_filter.services, ElementsAre("dns"));
  read("/v1/connections", {Role::kViewer, {}});
  EXPECT_FALSE(control.last_filter.services);
}

TEST_F(Roles, a_shared_pool_may_be_seen_and_not_changed) {
  control.pool_users["web"] = {"web", "dns"};
  EXPECT_EQ(read("/v1/backends?pool=web", kDnsOperator)["backends"].size(), 2u);
  EXPECT_EQ(ask("POST", "/v1/backends/web/b1/undrain", kDnsOperator).status, 403u);
}

TEST_F(Roles, answers_have_the_version_and_changes_respect_it) {
  const model::Grant admin{Role::kAdmin, {}};
  const std::string tag = ask("GET", "/v1/backends", admin).header("ETag");
  EXPECT_EQ(tag, "\"5f-0\"");
  const auto drain = [&](const std::string &if_match) {
    return handle({.method = "POST",
                   .target = "/v1/backends/web/b1/drain",
                   .caller = administrator(),
                   .if_match = if_match},
                  control);
  };
  EXPECT_EQ(drain(tag).status, 200u);
  const Response refused = drain(tag);
  EXPECT_EQ(refused.status, 412u);
  EXPECT_EQ(refused.header("ETag"), "\"5f-1\"");
  EXPECT_EQ(refused.change->outcome, "refused");
  EXPECT_EQ(control.calls.size(), 1u);
  EXPECT_EQ(drain(refused.header("ETag")).status, 200u);
}

TEST_F(Roles, changes_say_what_was_before_and_is_after) {
  const Response response = ask("POST", "/v1/backends/web/b1/drain", kWebOperator);
  ASSERT_TRUE(response.change);
  EXPECT_EQ(response.change->outcome, "applied");
  EXPECT_EQ(response.change->revision, 9u);
  EXPECT_EQ(response.change->before["state"], "up");
  EXPECT_EQ(response.change->after["state"], "changed");
  EXPECT_FALSE(ask("GET", "/v1/backends", kWebOperator).change);
  EXPECT_FALSE(ask("POST", "/v1/check-config", kWebOperator).change);
}

TEST_F(Roles, backends_come_in_pages) {
  const model::Grant viewer{Role::kViewer, {}};
  const json first = read("/v1/backends?limit=1", viewer);
  ASSERT_EQ(first["backends"].size(), 1u);
  EXPECT_EQ(first["backends"][0]["name"], "b1");
  EXPECT_EQ(first["next_cursor"], "web/b1/");
  const json second = read("/v1/backends?limit=1&cursor=web%2Fb1%2F", viewer);
  EXPECT_EQ(second["backends"][0]["name"].get<std::string>().substr(0, 2), "b2");
  EXPECT_FALSE(second.contains("next_cursor"));
  EXPECT_EQ(read("/v1/backends?cursor=web%2Fb0%2F", viewer)["backends"].size(), 2u);  // of one that has gone
  for (const char *wrong : {"limit=0", "limit=x", "limit=100001", "cursor=", "cursor=web",
                            "cursor=a%2Fb%2Fc%3Fd%3D1", "cursor=%25"})
    EXPECT_EQ(ask("GET", "/v1/backends?" + std::string(wrong), viewer).status, 400u) << wrong;
  EXPECT_EQ(ask("GET", "/v1/connections?cursor=12x", viewer).status, 400u);
}

}  // namespace
}  // namespace sluice::api
