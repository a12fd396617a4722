#include "controlplane/api/gate.h"

#include <fstream>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "controlplane/api/tokens.h"
#include "tests/server/temporary_directory.h"

namespace sluice::api {
namespace {

using namespace std::chrono_literals;
using nlohmann::json;
using testing::HasSubstr;
using testing::Not;

class ApiGate : public testing::Test {
 protected:
  void SetUp() override {
    gate_.log_to(AuditLog::open({.path = changes()}).value(), AuditLog::open({.path = refusals()}).value());
    spec_.tokens_file = directory_.path() / "tokens";
    std::ofstream(spec_.tokens_file) << "- {name: ci, role: operator, sha256: "
                                     << hash_text(hash_token(token_)) << "}\n";
    spec_.limits.requests_per_second = 5;
    spec_.limits.failures_per_minute = 3;
    gate_.use(Access::make(spec_).value(), spec_.limits);
  }
  std::variant<Caller, Response> admit(const std::string &method, const std::string &target,
                                       const std::string &authorization, const Peer &peer) {
    return gate_.admit(peer, {method, target, authorization}, now_);
  }
  unsigned status(const std::string &method, const std::string &target, const std::string &authorization) {
    const auto answer = admit(method, target, authorization, stranger_);
    return std::holds_alternative<Caller>(answer) ? 200 : std::get<Response>(answer).status;
  }
  std::filesystem::path changes() const { return directory_.path() / "audit.log"; }
  std::filesystem::path refusals() const { return directory_.path() / "audit-refused.log"; }
  static std::vector<json> lines_of(const std::filesystem::path &path) {
    std::ifstream file(path);
    std::vector<json> lines;
    for (std::string line; std::getline(file, line);) lines.push_back(json::parse(line));
    return lines;
  }

  TemporaryDirectory directory_;
  std::string token_ = make_token().value();
  std::string bearer_ = "Bearer " + token_;
  Peer stranger_{.text = "192.0.2.1:5", .limit_key = "192.0.2.1"};
  model::ApiSpec spec_;
  Gate gate_;
  Gate::Clock::time_point now_{1h};
};

TEST_F(ApiGate, asks_for_credentials_and_says_which_are_bad) {
  const Response none = std::get<Response>(admit("GET", "/v1/status", "", stranger_));
  EXPECT_EQ(none.status, 401u);
  EXPECT_EQ(none.header("WWW-Authenticate"), "Bearer realm=\"sluice\"");
  const Response bad = std::get<Response>(admit("GET", "/v1/status", "Bearer nope", stranger_));
  EXPECT_EQ(bad.status, 401u);
  EXPECT_THAT(bad.header("WWW-Authenticate"), HasSubstr("error=\"invalid_token\""));
  EXPECT_EQ(status("GET", "/v1/status", bearer_), 200u);
  EXPECT_EQ(status("GET", "/healthz", ""), 200u);
}

TEST_F(ApiGate, refuses_before_the_body_is_read_what_the_role_may_not) {
  const Response refused = std::get<Response>(admit("POST", "/v1/reload", bearer_, stranger_));
  EXPECT_EQ(refused.status, 403u);
  EXPECT_THAT(refused.body, HasSubstr("this needs the role admin; ci has the role operator"));
}

TEST_F(ApiGate, an_identity_has_so_many_requests_a_second) {
  for (int i = 0; i < 10; i++) EXPECT_EQ(status("GET", "/v1/status", bearer_), 200u);
  const Response refused = std::get<Response>(admit("GET", "/v1/status", bearer_, stranger_));
  EXPECT_EQ(refused.status, 429u);
  EXPECT_EQ(refused.header("Retry-After"), "1");
  now_ += 200ms;
  EXPECT_EQ(status("GET", "/v1/status", bearer_), 200u);
}

TEST_F(ApiGate, guesses_are_limited_and_the_right_token_is_not_kept_out_by_them) {
  for (int i = 0; i < 3; i++) EXPECT_EQ(status("GET", "/v1/status", "Bearer guess"), 401u);
  const Response refused = std::get<Response>(admit("GET", "/v1/status", "Bearer guess", stranger_));
  EXPECT_EQ(refused.status, 429u);
  EXPECT_EQ(refused.header("Retry-After"), "20");
  EXPECT_EQ(status("GET", "/v1/status", bearer_), 200u);
  stranger_.limit_key = "192.0.2.2";
  EXPECT_EQ(status("GET", "/v1/status", "Bearer guess"), 401u);
}

TEST_F(ApiGate, open_paths_are_limited_by_address) {
  for (int i = 0; i < 20; i++) EXPECT_EQ(status("GET", "/healthz", ""), 200u);
  EXPECT_EQ(status("GET", "/healthz", ""), 429u);
}

TEST_F(ApiGate, new_connections_of_an_address_are_limited) {
  int let_in = 0;
  while (let_in < 10'000 && gate_.may_connect(stranger_, now_)) let_in++;
  EXPECT_EQ(let_in, 100);
  EXPECT_TRUE(gate_.may_connect({.limit_key = "192.0.2.2"}, now_));
  EXPECT_TRUE(gate_.may_connect(stranger_, now_ + 100ms));
}

TEST_F(ApiGate, an_identity_has_so_many_requests_in_service) {
  const Caller ci{"ci", "token", "", model::Grant{}};
  std::vector<Gate::Turn> turns;
  for (size_t i = 0; i < Gate::kMaxTurns; i++) turns.push_back(gate_.begin_turn(stranger_, ci));
  for (const Gate::Turn &turn : turns) EXPECT_TRUE(turn);
  EXPECT_FALSE(gate_.begin_turn(stranger_, ci));
  EXPECT_TRUE(gate_.begin_turn(stranger_, {"other", "token", "", model::Grant{}}));
  turns.pop_back();
  EXPECT_TRUE(gate_.begin_turn(stranger_, ci));
}

TEST_F(ApiGate, logs_changes_with_who_where_what_and_outcome_and_never_a_token) {
  Request request{.method = "POST",
                  .target = "/v1/backends/web/" + token_ + "/drain?deadline=5&x=" + token_,
                  .caller = {"ci", "token", "192.0.2.1:5", model::Grant{model::Role::kOperator, {}}}};
  Response response;
  response.change = ChangeNote{"applied", 7, {{"state", "up"}}, {{"state", "draining"}}};
  gate_.note(request, response, now_);
  response.change->outcome = "unchanged";
  gate_.note(request, response, now_);
  const std::vector<json> lines = lines_of(changes());
  ASSERT_EQ(lines.size(), 1u);
  const json expected = {{"event", "change"},
                         {"identity", "ci"},
                         {"role", "operator"},
                         {"method", "token"},
                         {"from", "192.0.2.1:5"},
                         {"request",
                          {{"method", "POST"},
                           {"path", "/v1/backends/web/[token]/drain"},
                           {"parameters", {{"deadline", "5"}, {"x", "[token]"}}}}},
                         {"status", 200},
                         {"outcome", "applied"},
                         {"revision", 7},
                         {"old", {{"state", "up"}}},
                         {"new", {{"state", "draining"}}}};
  json line = lines[0];
  line.erase("time");
  EXPECT_EQ(line, expected);
}

TEST_F(ApiGate, refusals_are_logged_apart_and_a_flood_of_them_is_counted) {
  status("POST", "/v1/reload", bearer_);
  for (int i = 0; i < 1000; i++) status("GET", "/v1/" + token_, "Bearer " + token_ + "x");
  now_ += 10s;
  status("GET", "/v1/status", "");
  EXPECT_TRUE(lines_of(changes()).empty());
  const std::vector<json> lines = lines_of(refusals());
  ASSERT_EQ(lines.size(), 22u);
  EXPECT_EQ(lines[0]["status"], 403);
  EXPECT_EQ(lines[0]["identity"], "ci");
  EXPECT_EQ(lines.back()["suppressed_before"], 980);
  for (const json &line : lines) EXPECT_THAT(line.dump(), Not(HasSubstr(token_)));
}

}  // namespace
}  // namespace sluice::api
