#include "controlplane/api/access.h"

#include <filesystem>
#include <fstream>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>

#include "controlplane/api/tokens.h"
#include "tests/server/temporary_directory.h"

namespace sluice::api {
namespace {

using testing::HasSubstr;

constexpr int64_t kNow = 1'800'000'000;  // 2027-01-15

class AccessRules : public testing::Test {
 protected:
  void SetUp() override {
    spec_.tokens_file = directory_.path() / "tokens";
    write_tokens("- {name: ci, role: operator, services: [web], expires: \"2027-01-15T08:00:01Z\", sha256: " +
                 hash_text(hash_token("secret")) +
                 "}\n- {name: boss, role: admin, sha256: " + hash_text(hash_token("other")) + "}\n");
    spec_.clients = {{"monitor.example", {model::Role::kViewer, {}}}};
  }
  void write_tokens(const std::string &text) const { std::ofstream(spec_.tokens_file) << text; }
  Caller known(const Peer &peer, const std::string &authorization, int64_t now = kNow) const {
    const auto answer = Access::make(spec_).value().identify(peer, authorization, now);
    EXPECT_TRUE(std::holds_alternative<Caller>(answer));
    return std::holds_alternative<Caller>(answer) ? std::get<Caller>(answer) : Caller{};
  }
  Denial denied(const Peer &peer, const std::string &authorization, int64_t now = kNow) const {
    const auto answer = Access::make(spec_).value().identify(peer, authorization, now);
    EXPECT_TRUE(std::holds_alternative<Denial>(answer));
    return std::holds_alternative<Denial>(answer) ? std::get<Denial>(answer) : Denial{};
  }
  std::string error() const {
    const auto made = Access::make(spec_);
    return made.ok() ? "" : made.error().message;
  }

  TemporaryDirectory directory_;
  model::ApiSpec spec_;
};

TEST_F(AccessRules, token_is_who_has_it_until_it_expires) {
  const Caller caller = known({.text = "192.0.2.1:5"}, "Bearer secret");
  EXPECT_EQ(caller.identity, "ci");
  EXPECT_EQ(caller.method, "token");
  EXPECT_EQ(caller.from, "192.0.2.1:5");
  EXPECT_EQ(caller.grant, (model::Grant{model::Role::kOperator, {{"web"}}}));
  EXPECT_EQ(denied({}, "Bearer secret", kNow + 1).kind, Denial::Kind::kBadCredentials);
  EXPECT_THAT(denied({}, "Bearer secret", kNow + 1).detail, HasSubstr("expired on 2027-01-15T08:00:01Z"));
  EXPECT_EQ(known({}, "Bearer other", kNow + 1'000'000'000).grant->role, model::Role::kAdmin);
}

TEST_F(AccessRules, what_is_no_token_is_refused_whoever_shows_it) {
  for (const char *wrong : {"Bearer secre", "Bearer secrets", "Basic secret", "secret"}) {
    EXPECT_EQ(denied({.certificate_names = {"monitor.example"}}, wrong).kind, Denial::Kind::kBadCredentials);
    EXPECT_EQ(denied({.local = LocalPeer{}}, wrong).kind, Denial::Kind::kBadCredentials);
  }
}

TEST_F(AccessRules, certificate_counts_by_any_of_its_names) {
  EXPECT_EQ(known({.certificate_names = {"x", "monitor.example"}}, "").identity, "monitor.example");
  EXPECT_EQ(denied({.certificate_names = {"x"}}, "").kind, Denial::Kind::kNoGrant);
  EXPECT_EQ(denied({}, "").kind, Denial::Kind::kNoCredentials);
}

TEST_F(AccessRules, processes_are_admins_unless_there_is_a_list) {
  const Peer peer{.local = LocalPeer{1, 12345, {600, 700}}};
  EXPECT_EQ(known(peer, "").grant->role, model::Role::kAdmin);
  spec_.has_local = true;
  EXPECT_EQ(denied(peer, "").kind, Denial::Kind::kNoGrant);
  spec_.local = {{.group = "700", .grant = {model::Role::kViewer, {}}},
                 {.user = "12345", .grant = {model::Role::kOperator, {}}}};
  EXPECT_EQ(known(peer, "").grant->role, model::Role::kViewer);  // the first that fits
  EXPECT_EQ(known({.local = LocalPeer{1, 12345, {600}}}, "").grant->role, model::Role::kOperator);
  EXPECT_EQ(known({.local = LocalPeer{1, 0, {}}}, "").grant->role, model::Role::kAdmin);
}

TEST_F(AccessRules, errors_name_the_field_and_the_file_or_account) {
  write_tokens("- {name: ci, role: king, sha256: " + hash_text(hash_token("a")) + "}\n- {name: b}\n");
  EXPECT_THAT(error(), HasSubstr("api.tokens_file: " + spec_.tokens_file + ":1:"));
  EXPECT_THAT(error(), HasSubstr("\"king\" is not known"));
  EXPECT_THAT(error(), HasSubstr("(and 2 more)"));
  chmod(spec_.tokens_file.c_str(), 0666);
  EXPECT_THAT(error(), HasSubstr("others than its owner may write it"));
  std::filesystem::remove(spec_.tokens_file);
  EXPECT_THAT(error(), HasSubstr("No such file"));
  std::filesystem::create_directory(spec_.tokens_file);
  EXPECT_THAT(error(), HasSubstr("no regular file"));
  spec_.local = {{.user = "nobody-of-that-name"}};
  EXPECT_THAT(error(), HasSubstr("api.local[0].user: this host has no user \"nobody-of-that-name\""));
}

}  // namespace
}  // namespace sluice::api
