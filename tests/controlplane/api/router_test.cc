#include "controlplane/api/router.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/controlplane/api/fixed_control.h"

namespace sluice::api {
namespace {

using nlohmann::json;
using testing::HasSubstr;

class Router : public testing::Test {
 protected:
  Response ask(const std::string &method, const std::string &target, const std::string &body = "") {
    return handle({.method = method, .target = target, .body = body, .caller = administrator()}, control);
  }
  json get(const std::string &target) {
    const Response response = ask("GET", target);
    EXPECT_EQ(response.status, 200u) << response.body;
    EXPECT_EQ(response.content_type, "application/json");
    return json::parse(response.body);
  }
  std::string detail(const Response &response) {
    EXPECT_EQ(response.content_type, "application/problem+json");
    const json body = json::parse(response.body);
    EXPECT_EQ(body.at("status"), response.status);
    return body.at("detail");
  }

  FixedControl control;
};

TEST_F(Router, shows_the_status) {
  const json body = get("/v1/status");
  EXPECT_EQ(body["version"], "1.2.3");
  EXPECT_EQ(body["dataplane"]["state"], "connected");
}

TEST_F(Router, lists_services) {
  const json service = get("/v1/services")["services"][0];
  EXPECT_EQ(service["name"], "web");
  EXPECT_EQ(service["vips"], (json{"198.51.100.10", "2001:db8::10"}));
  EXPECT_EQ(service["ports"], (json{"80", "8000-8999"}));
  EXPECT_EQ(service["packets"], 10);
}

TEST_F(Router, shows_one_service_with_its_members) {
  const json service = get("/v1/services/web");
  EXPECT_EQ(service["name"], "web");
  EXPECT_EQ(service["members"].size(), 2u);
}

TEST_F(Router, unknown_service_is_not_found_and_named) {
  const Response response = ask("GET", "/v1/services/nope");
  EXPECT_EQ(response.status, 404u);
  EXPECT_NE(detail(response).find("\"nope\""), std::string::npos);
}

TEST_F(Router, lists_backends_with_their_share_of_slots) {
  const json backends = get("/v1/backends")["backends"];
  ASSERT_EQ(backends.size(), 2u);
  EXPECT_DOUBLE_EQ(backends[0]["slot_share"], 0.75);
  EXPECT_EQ(backends[0]["last_check"], "HTTP status 200");
  EXPECT_EQ(backends[1]["state"], "down");
  EXPECT_EQ(get("/v1/backends?pool=web")["backends"].size(), 2u);
}

TEST_F(Router, bytes_that_are_no_utf8_are_replaced) {
  EXPECT_EQ(get("/v1/backends")["backends"][1]["name"], "b2 \xef\xbf\xbd");
}

TEST_F(Router, passes_the_filter_of_connections_on) {
  const json body =
      get("/v1/connections?client=192.0.2.1&vip=2001:db8::10&port=80&service=web&pool=web&backend=b1"
          "&limit=3&expired=true");
  EXPECT_EQ(body["matched"], 5);
  EXPECT_EQ(body["connections"][0]["client"], "192.0.2.1");
  EXPECT_EQ(body["connections"][0]["state"], "established");
  const ConnectionFilter &filter = control.last_filter;
  EXPECT_EQ(filter.client, parse_address("192.0.2.1"));
  EXPECT_EQ(filter.vip, parse_address("2001:db8::10"));
  EXPECT_EQ(filter.vip_port, 80);
  EXPECT_EQ(filter.service, "web");
  EXPECT_EQ(filter.pool, "web");
  EXPECT_EQ(filter.backend, "b1");
  EXPECT_EQ(filter.limit, 3u);
  EXPECT_TRUE(filter.include_expired);
}

TEST_F(Router, a_backend_may_be_named_with_its_pool) {
  get("/v1/connections?backend=web/b1");
  EXPECT_EQ(control.last_filter.pool, "web");
  EXPECT_EQ(control.last_filter.backend, "b1");
  get("/v1/connections?backend=b1");
  EXPECT_EQ(control.last_filter.pool, std::nullopt);
  get("/v1/connections?backend=web%2Fb1&pool=web");
  EXPECT_EQ(control.last_filter.backend, "b1");
  const Response two = ask("GET", "/v1/connections?backend=web/b1&pool=dns");
  EXPECT_EQ(two.status, 400u);
  EXPECT_NE(detail(two).find("two pools"), std::string::npos);
}

TEST_F(Router, unknown_names_are_not_found_and_not_empty) {
  for (const char *target : {"/v1/backends?pool=nope", "/v1/connections?service=nope",
                             "/v1/connections?pool=nope", "/v1/connections?backend=nope",
                             "/v1/connections?backend=web/nope", "/v1/connections?backend=nope/b1"}) {
    const Response response = ask("GET", target);
    EXPECT_EQ(response.status, 404u) << target;
    EXPECT_NE(detail(response).find("\"nope\""), std::string::npos) << response.body;
    EXPECT_NE(detail(response).find("sluicectl "), std::string::npos) << response.body;
  }
  EXPECT_TRUE(control.calls.empty());
}

TEST_F(Router, bad_filter_values_are_refused_by_name) {
  for (const char *parameter : {"client=10.0.0", "vip=web", "port=65536", "port=-1", "port=", "limit=100001",
                                "limit=1e3", "expired=yes"}) {
    const Response response = ask("GET", std::string("/v1/connections?") + parameter);
    EXPECT_EQ(response.status, 400u) << parameter;
    const std::string name = std::string(parameter).substr(0, std::string(parameter).find('='));
    EXPECT_NE(detail(response).find("query parameter " + name), std::string::npos) << response.body;
  }
  EXPECT_TRUE(control.calls.empty());
}

TEST_F(Router, unknown_parameters_are_refused) {
  EXPECT_EQ(ask("GET", "/v1/connections?clinet=192.0.2.1").status, 400u);
  EXPECT_EQ(ask("GET", "/v1/status?x=1").status, 400u);
}

TEST_F(Router, counters_name_every_verdict) {
  const json body = get("/v1/counters");
  EXPECT_EQ(body["verdicts"].size(), static_cast<size_t>(kVerdictCount));
  EXPECT_EQ(body["verdicts"][kVerdictForwardNew]["name"], "forward_new");
  EXPECT_EQ(body["verdicts"][kVerdictForwardNew]["class"], "forward");
  EXPECT_EQ(body["verdicts"][kVerdictForwardNew]["packets"], 42);
  EXPECT_EQ(body["verdicts"][kVerdictForwardNew]["workers"], json{42});
  EXPECT_EQ(body["verdicts"][kVerdictDropInternal]["class"], "drop");
}

TEST_F(Router, what_only_the_dataplane_knows_is_unavailable_without_it) {
  control.dataplane_reachable = false;
  for (const char *target : {"/v1/counters", "/v1/connections"}) {
    const Response response = ask("GET", target);
    EXPECT_EQ(response.status, 503u);
    EXPECT_NE(detail(response).find("dataplane unreachable"), std::string::npos);
  }
}

TEST_F(Router, registers_the_backend_of_the_path) {
  const std::string target = "/v1/pools/web/registrations/b%31";
  EXPECT_EQ(ask("PUT", target, R"({"address": "2001:db8::1", "ttl": "10s"})").status, 200u);
  EXPECT_EQ(ask("DELETE", target).status, 200u);
  EXPECT_EQ(control.calls,
            (std::vector<std::string>{"register web/b1 at 2001:db8::1 for 10000 ms", "deregister web/b1"}));
}

TEST_F(Router, refuses_a_registration_that_says_nothing_of_use) {
  for (const char *body : {"", "[]", R"({"address": "10.0.0.1"})", R"({"address": "x", "ttl": "10s"})",
                           R"({"address": "10.0.0.1", "ttl": "10s", "wight": 7})"}) {
    const Response response = ask("PUT", "/v1/pools/web/registrations/b1", body);
    EXPECT_EQ(response.status, 400u) << body;
  }
  EXPECT_EQ(
      ask("PUT", "/v1/pools/web/registrations/b%2F1", R"({"address": "10.0.0.1", "ttl": "10s"})").status,
      400u);
  EXPECT_TRUE(control.calls.empty());
}

TEST_F(Router, shows_what_sources_say) {
  const nlohmann::json source = nlohmann::json::parse(ask("GET", "/v1/discovery").body).at("sources").at(0);
  EXPECT_EQ(source.at("pool"), "web");
  EXPECT_EQ(source.at("state"), "failing");
  EXPECT_EQ(source.at("text"), "server 10.0.0.1 did not answer");
  EXPECT_EQ(source.at("next_try_ms"), 8000);
  EXPECT_TRUE(source.at("last_answer_age_ms").is_null());
}

TEST_F(Router, drains_and_undrains_the_backend_of_the_path) {
  const Response response = ask("POST", "/v1/backends/web/b%201/drain");
  EXPECT_EQ(response.status, 200u);
  EXPECT_EQ(json::parse(response.body)["result"], "applied");
  EXPECT_EQ(json::parse(response.body)["snapshot"], 7);
  ask("POST", "/v1/backends/web/b2/undrain");
  ask("POST", "/v1/reload");
  EXPECT_EQ(control.calls, (std::vector<std::string>{"drain web/b 1", "undrain web/b2", "reload"}));
  control.calls.clear();
  ask("POST", "/v1/backends/web/b1/drain?deadline=90");
  ask("POST", "/v1/backends/web/b1/maintenance");
  ask("POST", "/v1/backends/web/b1/maintenance?deadline=5");
  ask("DELETE", "/v1/backends/web/b1/maintenance");
  EXPECT_EQ(control.calls, (std::vector<std::string>{"drain web/b1 within 90", "maintain web/b1",
                                                     "maintain web/b1 within 5", "end maintenance web/b1"}));
  control.calls.clear();
  ask("POST", "/v1/backends/web/b1/drain?deadline=none");
  EXPECT_EQ(control.calls.back(), "drain web/b1 within 0");
  control.calls.clear();
  for (const char *deadline : {"0", "soon", "None", "-1", "10m", "2592001"}) {
    for (const char *action : {"drain", "maintenance"}) {
      const Response refused =
          ask("POST", std::string("/v1/backends/web/b1/") + action + "?deadline=" + deadline);
      EXPECT_EQ(refused.status, 400u) << deadline;
      EXPECT_THAT(refused.body, HasSubstr(std::string("deadline: \\\"") + deadline));
    }
  }
  EXPECT_TRUE(control.calls.empty());
}

TEST_F(Router, outcomes_of_changes_have_their_status) {
  using Outcome = ChangeResult::Outcome;
  const std::vector<std::pair<Outcome, unsigned>> cases = {
      {Outcome::kApplied, 200},  {Outcome::kPending, 200},  {Outcome::kUnchanged, 200},
      {Outcome::kNotFound, 404}, {Outcome::kConflict, 409}, {Outcome::kInvalidConfig, 422},
      {Outcome::kRefused, 502}};
  for (const auto &[outcome, status] : cases) {
    control.answer.outcome = outcome;
    EXPECT_EQ(ask("POST", "/v1/reload").status, status);
  }
}

TEST_F(Router, a_refused_reload_tells_every_error) {
  control.answer = {
      .outcome = ChangeResult::Outcome::kInvalidConfig,
      .message = "two errors",
      .errors = {{"a.yaml", 3, 5, "services[0].ports", "99999", "too large"}, {"a.yaml", 0, 0, "", "", "x"}}};
  const json body = json::parse(ask("POST", "/v1/reload").body);
  ASSERT_EQ(body["errors"].size(), 2u);
  EXPECT_EQ(body["errors"][0]["line"], 3);
  EXPECT_EQ(body["errors"][0]["column"], 5);
  EXPECT_EQ(body["errors"][0]["field"], "services[0].ports");
  EXPECT_EQ(body["errors"][0]["value"], "99999");
}

TEST_F(Router, checks_a_configuration) {
  const std::string good =
      "version: 1\n"
      "services: [{name: web, vips: [198.51.100.10], protocol: tcp, ports: all, pool: web}]\n"
      "pools: [{name: web, forwarding: ipip, backends: [{name: b1, address: 10.1.0.1}]}]\n";
  const Response valid = ask("POST", "/v1/check-config", good);
  EXPECT_EQ(valid.status, 200u) << valid.body;
  EXPECT_EQ(json::parse(valid.body)["backends"], 1);
  const Response invalid = ask("POST", "/v1/check-config?file=my.yaml", "version: 7\nwhat: \"\xff\"\n");
  EXPECT_EQ(invalid.status, 422u);
  const json errors = json::parse(invalid.body)["errors"];
  ASSERT_FALSE(errors.empty());
  EXPECT_EQ(errors[0]["file"], "my.yaml");
  EXPECT_TRUE(control.calls.empty());
}

TEST_F(Router, unknown_paths_are_not_found) {
  for (const char *target : {"/", "/v1", "/v2/status", "/v1/backends/web", "/v1/backends/web/b1/explode",
                             "/v1/services/web/extra", "/v1/*"}) {
    EXPECT_EQ(ask("GET", target).status, 404u) << target;
  }
}

TEST_F(Router, wrong_methods_are_told_the_right_one) {
  Response response = ask("DELETE", "/v1/status");
  EXPECT_EQ(response.status, 405u);
  EXPECT_EQ(response.header("Allow"), "GET, HEAD");
  response = ask("GET", "/v1/backends/web/b1/drain");
  EXPECT_EQ(response.status, 405u);
  EXPECT_EQ(response.header("Allow"), "POST");
  EXPECT_TRUE(control.calls.empty());
}

TEST_F(Router, bad_targets_are_bad_requests) {
  for (const char *target : {"", "*", "/v1/%xy", "/v1//status"})
    EXPECT_EQ(ask("GET", target).status, 400u) << target;
}

TEST_F(Router, only_a_configuration_may_be_large) {
  EXPECT_EQ(max_body_bytes("POST", "/v1/check-config"), kMaxConfigBytes);
  EXPECT_EQ(max_body_bytes("POST", "/v1/check-config?file=x"), kMaxConfigBytes);
  EXPECT_EQ(max_body_bytes("POST", "/v1/reload"), kMaxOtherBodyBytes);
  EXPECT_EQ(max_body_bytes("GET", "/v1/check-config"), kMaxOtherBodyBytes);
}

TEST_F(Router, changes_are_made_by_the_callers_terms) {
  const Response response =
      ask("PUT", "/v1/configuration?dry_run=true&force=true&confirm=300&message=why%20not", "version: 1\n");
  EXPECT_EQ(response.status, 200u) << response.body;
  EXPECT_EQ(control.calls, std::vector<std::string>{"apply 11 bytes"});
  EXPECT_TRUE(control.last_terms.dry_run);
  EXPECT_TRUE(control.last_terms.force);
  EXPECT_EQ(control.last_terms.confirm_within, std::chrono::seconds(300));
  EXPECT_EQ(control.last_terms.message, "why not");
  EXPECT_EQ(control.last_terms.author, administrator().identity);
  EXPECT_EQ(control.last_terms.origin, administrator().from);
  for (const char *target : {"/v1/backends/web/b1/drain", "/v1/backends/web/b1/undrain", "/v1/reload",
                             "/v1/revisions/2/rollback", "/v1/backends/web/b1/maintenance"}) {
    control.last_terms = {};
    EXPECT_EQ(ask("POST", std::string(target) + "?dry_run=true").status, 200u) << target;
    EXPECT_TRUE(control.last_terms.dry_run) << target;
  }
}

TEST_F(Router, bad_terms_change_nothing) {
  for (const char *parameter : {"dry_run=yes", "force=1", "dry_run=", "if_revision=two", "confirm=1"}) {
    const Response response = ask("POST", std::string("/v1/backends/web/b1/drain?") + parameter);
    EXPECT_EQ(response.status, 400u) << parameter;
    EXPECT_THAT(detail(response),
                HasSubstr(std::string(parameter).substr(0, std::string(parameter).find('='))));
  }
  for (const char *confirm : {"0", "86401", "5m", "-1"})
    EXPECT_EQ(ask("POST", std::string("/v1/reload?confirm=") + confirm).status, 400u) << confirm;
  EXPECT_EQ(ask("POST", "/v1/reload?message=" + std::string(1025, 'x')).status, 400u);
  EXPECT_TRUE(control.calls.empty());
}

TEST_F(Router, a_change_of_an_older_revision_is_refused) {
  const Response response = ask("POST", "/v1/reload?if_revision=2");
  EXPECT_EQ(response.status, 412u);
  EXPECT_THAT(detail(response), HasSubstr("revision 2 is not the last one any more: 3 is"));
  EXPECT_TRUE(control.calls.empty());
  EXPECT_EQ(ask("POST", "/v1/reload?if_revision=3").status, 200u);
}

TEST_F(Router, weights_are_changed_by_a_merge_patch) {
  EXPECT_EQ(ask("PATCH", "/v1/backends/web/b1", R"({"weight": 50})").status, 200u);
  EXPECT_EQ(ask("PATCH", "/v1/backends/web/b1", R"({"weight": null})").status, 200u);
  EXPECT_EQ(control.calls, (std::vector<std::string>{"weigh web/b1 50", "weigh web/b1 as configured"}));
  control.calls.clear();
  for (const char *body :
       {"", "[]", "{", "{}", R"({"weight": -1})", R"({"weight": 1001})", R"({"weight": 1.5})",
        R"({"weight": "50"})", R"({"weight": 50, "address": "10.1.0.1"})"}) {
    EXPECT_EQ(ask("PATCH", "/v1/backends/web/b1", body).status, 400u) << body;
  }
  EXPECT_TRUE(control.calls.empty());
}

TEST_F(Router, what_would_move_too_much_is_a_409_with_the_plan) {
  ServiceForecast service{.service = "web", .slots = 251, .moved = 0.5};
  service.connections = ConnectionForecast{.live = 4, .broken = 2};
  control.answer = {.outcome = ChangeResult::Outcome::kTooMuch, .message = "it would break 2 of the 4"};
  control.answer.plan.emplace().at_once.services = {service, {.service = "other"}};
  const Response response = ask("POST", "/v1/reload");
  EXPECT_EQ(response.status, 409u);
  EXPECT_EQ(detail(response), "it would break 2 of the 4");
  const json plan = json::parse(response.body)["plan"];
  EXPECT_TRUE(plan["once_up"].is_null());
  EXPECT_EQ(plan["at_once"]["unaffected_services"], 1);
  EXPECT_EQ(
      plan["at_once"]["services"],
      json::array({{{"service", "web"},
                    {"goes", false},
                    {"slots", 251},
                    {"moved_share", 0.5},
                    {"connections", {{"live", 4}, {"moved", 0}, {"broken", 2}, {"until_deadline", 0}}}}}));
  EXPECT_EQ(response.change->outcome, "refused");
}

TEST_F(Router, a_dry_run_is_no_change) {
  control.answer = {.outcome = ChangeResult::Outcome::kPlanned, .message = "a dry run"};
  const Response response = ask("POST", "/v1/reload?dry_run=true");
  EXPECT_EQ(json::parse(response.body)["result"], "planned");
  EXPECT_EQ(response.change->outcome, "planned");
}

TEST_F(Router, lists_revisions_in_pages) {
  const json first = get("/v1/revisions?limit=2");
  ASSERT_EQ(first["revisions"].size(), 2u);
  EXPECT_EQ(first["revisions"][0]["revision"], 3);
  EXPECT_EQ(first["next_cursor"], "2");
  const json second = get("/v1/revisions?limit=2&cursor=2");
  ASSERT_EQ(second["revisions"].size(), 1u);
  EXPECT_FALSE(second.contains("next_cursor"));
  for (const char *parameter : {"limit=0", "limit=1001", "limit=x", "cursor=0", "cursor=-"})
    EXPECT_EQ(ask("GET", std::string("/v1/revisions?") + parameter).status, 400u) << parameter;
}

TEST_F(Router, shows_a_revision_and_what_differs_from_another) {
  EXPECT_EQ(get("/v1/revisions/2")["author"], "ci");
  EXPECT_EQ(get("/v1/revisions/3?against=1")["changes"],
            json::array({{{"path", "version"}, {"old", "1"}, {"new", "3"}}}));
  EXPECT_EQ(get("/v1/revisions/2/document")["document"], "version: 2\n");
  EXPECT_EQ(ask("GET", "/v1/revisions/9").status, 404u);
  EXPECT_EQ(ask("GET", "/v1/revisions/3?against=9").status, 404u);
  EXPECT_EQ(ask("GET", "/v1/revisions/9/document").status, 404u);
  EXPECT_EQ(ask("GET", "/v1/revisions/two").status, 400u);
  EXPECT_EQ(ask("POST", "/v1/revisions/two/rollback").status, 400u);
}

}  // namespace
}  // namespace sluice::api
