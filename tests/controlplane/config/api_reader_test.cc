#include "controlplane/config/api_reader.h"

#include <string>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/controlplane/config/documents.h"

namespace sluice {
namespace {

using namespace std::chrono_literals;
using testing::ElementsAre;
using testing::HasSubstr;

// A service "s", and this API.
std::string with_api(const std::string &api) { return with_service() + "api: {" + api + "}\n"; }

const std::string kHttps = "listen: [\"192.0.2.1:8443\"], certificate: /c, key: /k, client_ca: /ca";

std::string error(const std::string &api) {
  const auto errors = errors_of(with_api(api));
  return errors.size() == 1 ? errors[0] : "not one error but " + std::to_string(errors.size());
}

TEST(ApiReader, reads_everything) {
  const model::ApiSpec api =
      state_of(
          with_api("socket: {group: sluice, mode: \"0600\"}, "
                   "local: [{user: deploy, role: operator, services: [s]}, {group: \"100\", role: viewer}], "
                   "listen: [\"192.0.2.1:8443\", \"[2001:db8::1]:443\", \"0.0.0.0:1\", \"[::]:1\"], "
                   "certificate: /c, key: /k, client_ca: /ca, tokens_file: /t, min_tls_version: 1.3, "
                   "clients: [{certificate: a@example.com, role: admin}], "
                   "limits: {connections: 7, body_timeout: 2s}"))
          .api;
  EXPECT_EQ(api.socket_group, "sluice");
  EXPECT_EQ(api.socket_mode, 0600u);
  EXPECT_TRUE(api.has_local);
  EXPECT_THAT(api.local,
              ElementsAre(model::LocalGrant{.user = "deploy", .grant = {model::Role::kOperator, {{"s"}}}},
                          model::LocalGrant{.group = "100", .grant = {model::Role::kViewer, {}}}));
  ASSERT_EQ(api.listen.size(), 4u);
  EXPECT_EQ(api.listen[1], (model::ListenAddress{*parse_address("2001:db8::1"), 443}));
  EXPECT_EQ(api.certificate_file + api.key_file + api.client_ca_file + api.tokens_file, "/c/k/ca/t");
  EXPECT_EQ(api.min_tls_version, model::TlsVersion::kTls13);
  EXPECT_THAT(api.clients, ElementsAre(model::CertificateGrant{"a@example.com", {model::Role::kAdmin, {}}}));
  EXPECT_EQ(api.limits, (model::ApiLimits{.connections = 7, .body_timeout = 2s}));
  EXPECT_EQ(state_of(with_service()).api, model::ApiSpec{});
}

TEST(ApiReader, refuses_addresses_without_port_and_names) {
  for (const char *listen : {"192.0.2.1", "localhost:8443", "2001:db8::1", "192.0.2.1:0", "192.0.2.1:65536",
                             "[192.0.2.1]:1", "::1:8443", "[::ffff:1.2.3.4]:1", ""}) {
    EXPECT_THAT(error("certificate: /c, key: /k, tokens_file: /t, listen: [\"" + std::string(listen) + "\"]"),
                HasSubstr("api.listen[0]: \"" + std::string(listen) + "\" is no address with a port"));
  }
  EXPECT_THAT(error("certificate: /c, key: /k, tokens_file: /t, listen: [\"[::1]:1\", \"[0::1]:1\"]"),
              HasSubstr("api.listen[1]: \"[0::1]:1\" is there twice"));
}

TEST(ApiReader, says_what_https_needs_and_what_needs_https) {
  EXPECT_THAT(error("listen: [\"192.0.2.1:8443\"], key: /k, tokens_file: /t"),
              HasSubstr("api: key \"certificate\" is missing"));
  EXPECT_THAT(error("listen: [\"192.0.2.1:8443\"], certificate: /c, key: /k"),
              HasSubstr("neither client_ca nor tokens_file: nobody could use the API"));
  EXPECT_THAT(error("listen: [\"192.0.2.1:8443\"], certificate: /c, key: /k, tokens_file: /t, clients: []"),
              HasSubstr("api.clients: has no meaning without client_ca"));
  EXPECT_THAT(error("tokens_file: /t"), HasSubstr("api.tokens_file: has no meaning without listen"));
}

TEST(ApiReader, says_what_is_wrong_with_a_grant) {
  const auto client = [](const std::string &rest) { return error(kHttps + ", clients: [{" + rest + "}]"); };
  EXPECT_THAT(client("certificate: a"), HasSubstr("api.clients[0]: key \"role\" is missing"));
  EXPECT_THAT(client("certificate: a, role: root"), HasSubstr("api.clients[0].role: \"root\" is not known"));
  EXPECT_THAT(client("role: viewer"), HasSubstr("key \"certificate\" is missing"));
  EXPECT_THAT(client("certificate: a, role: admin, services: [s]"),
              HasSubstr("has no meaning with role admin"));
  EXPECT_THAT(client("certificate: a, role: viewer, services: []"), HasSubstr("has 0 elements"));
  EXPECT_THAT(client("certificate: a, role: viewer, services: [s, nope]"),
              HasSubstr("api.clients[0].services[1]: there is no service \"nope\""));
  EXPECT_THAT(client("certificate: a, role: viewer}, {certificate: a, role: viewer"),
              HasSubstr("api.clients[1].certificate: \"a\" is there twice"));
  EXPECT_THAT(error("local: [{role: viewer}]"), HasSubstr("api.local[0]: needs one of user and group"));
  EXPECT_THAT(error("local: [{user: a, group: b, role: viewer}]"), HasSubstr("needs one of user and group"));
  EXPECT_THAT(error("local: [{user: a, role: viewer, services: [t]}]"),
              HasSubstr("api.local[0].services[0]: there is no service \"t\""));
}

TEST(ApiReader, says_what_is_wrong_with_modes_and_limits) {
  EXPECT_THAT(error("socket: {mode: \"0666\"}"), HasSubstr("lets every process of this host be admin"));
  EXPECT_THAT(error("socket: {mode: \"0777\"}"), HasSubstr("api.socket.mode: \"0777\" is not known"));
  EXPECT_THAT(error("limits: {connections: 0}"), HasSubstr("api.limits.connections"));
  EXPECT_THAT(error("limits: {header_timeout: 1ms}"), HasSubstr("api.limits.header_timeout"));
  EXPECT_THAT(error("limits: {burst: 1}"), HasSubstr("burst"));
}

}  // namespace
}  // namespace sluice
