#include "controlplane/config/discovery_reader.h"

#include <string>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/controlplane/config/documents.h"

namespace sluice {
namespace {

using namespace std::chrono_literals;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

std::string with_discovery(const std::string &discovery) {
  return with_pool("  discovery: " + discovery + "\n");
}

model::DiscoverySpec spec_of(const std::string &discovery) {
  const model::DesiredState state = state_of(with_discovery(discovery));
  return state.pools.empty() ? model::DiscoverySpec{} : state.pools[0].discovery;
}

template <typename Kind>
Kind source_of(const std::string &discovery) {
  const model::DiscoverySpec spec = spec_of(discovery);
  const Kind *kind = std::get_if<Kind>(&spec.kind);
  EXPECT_NE(kind, nullptr) << discovery;
  return kind == nullptr ? Kind{} : *kind;
}

TEST(DiscoveryReader, makes_a_pools_own_list_optional) {
  const model::DesiredState state = state_of(with_discovery("{type: file, path: /etc/web.yaml}"));
  EXPECT_TRUE(state.pools.at(0).backends.empty());
  EXPECT_TRUE(state.pools.at(0).discovery.finds());
  EXPECT_THAT(errors_of(with_pool("")), ElementsAre(HasSubstr("key \"backends\" is missing")));
  const model::DesiredState both = state_of(with_pool(
      "  discovery: {type: file, path: /etc/web.yaml}\n  backends: [{name: b1, address: 10.1.0.11}]\n"));
  EXPECT_EQ(both.pools.at(0).backends.size(), 1u);
}

TEST(DiscoveryReader, reads_what_all_sources_share) {
  EXPECT_EQ(spec_of("{type: file, path: /a, interval: 3s, max_backoff: 1m, weight: 7, min_backends: 0, "
                    "max_lost_percent: 100, lost_hold: 0ms}"),
            (model::DiscoverySpec{.kind = model::FileSource{"/a"},
                                  .interval = 3s,
                                  .timeout = 5s,
                                  .max_backoff = 1min,
                                  .weight = 7,
                                  .min_backends = 0,
                                  .max_lost_percent = 100,
                                  .lost_hold = 0ms}));
  EXPECT_EQ(spec_of("{type: dns, name: web.example}").interval, 5s);
  EXPECT_EQ(spec_of("{type: consul, endpoints: [\"http://127.0.0.1:8500\"], service: web}").interval, 1min);
}

TEST(DiscoveryReader, reads_each_type) {
  EXPECT_EQ(
      source_of<model::DnsSource>("{type: dns, name: _web._tcp.example., record: srv, servers: [10.0.0.1, "
                                  "\"10.0.0.2:5353\", \"::1\", \"[::1]:54\"], max_interval: 7s}"),
      (model::DnsSource{.name = "_web._tcp.example.",
                        .record = model::DnsRecord::kSrv,
                        .servers = {{*parse_address("10.0.0.1"), 53},
                                    {*parse_address("10.0.0.2"), 5353},
                                    {*parse_address("::1"), 53},
                                    {*parse_address("::1"), 54}},
                        .max_interval = 7s}));
  EXPECT_EQ(source_of<model::DnsSource>("{type: dns, name: web.example, interval: 10m}").max_interval, 10min);
  EXPECT_EQ(source_of<model::EtcdSource>(
                "{type: etcd, endpoints: [\"http://[::1]:2379\", \"https://e.example:2379\"], "
                "prefix: /web/, username: u, password_file: /p}"),
            (model::EtcdSource{.endpoints = {"http://[::1]:2379", "https://e.example:2379"},
                               .prefix = "/web/",
                               .tls = model::TlsOptions{},
                               .username = "u",
                               .password_file = "/p"}));
  EXPECT_EQ(
      source_of<model::ConsulSource>("{type: consul, endpoints: [\"https://127.0.0.1:8501\"], service: web, "
                                     "datacenter: d, tag: t, token_file: /t, tls: {verify: false}}"),
      (model::ConsulSource{.endpoints = {"https://127.0.0.1:8501"},
                           .service = "web",
                           .datacenter = "d",
                           .tag = "t",
                           .token_file = "/t",
                           .tls = model::TlsOptions{.verify = false}}));
  source_of<model::RegistrationSource>("{type: registration}");
}

TEST(DiscoveryReader, names_what_a_type_lacks_and_what_it_does_not_know) {
  EXPECT_THAT(errors_of(with_discovery("{type: dns}")),
              ElementsAre(HasSubstr("discovery: key \"name\" is missing")));
  EXPECT_THAT(errors_of(with_discovery("{type: etcd}")),
              ElementsAre(HasSubstr("\"endpoints\" is missing"), HasSubstr("\"prefix\" is missing")));
  EXPECT_THAT(errors_of(with_discovery("{type: registration, interval: 1s}")),
              ElementsAre(HasSubstr("discovery.interval: has no meaning with type registration")));
  EXPECT_THAT(errors_of(with_discovery("{type: file, path: /a, name: web}")),
              ElementsAre(HasSubstr("discovery.name: has no meaning with type file")));
  EXPECT_THAT(errors_of(with_discovery("{type: zookeeper}")),
              ElementsAre(HasSubstr("allowed: file, dns, etcd")));
  EXPECT_THAT(errors_of(with_discovery("{path: /a}")), ElementsAre(HasSubstr("\"type\" is missing")));
}

TEST(DiscoveryReader, refuses_values_that_cannot_be) {
  const auto error_of = [](const std::string &discovery) {
    const auto errors = errors_of(with_discovery(discovery));
    return errors.empty() ? "none" : errors.front();
  };
  EXPECT_THAT(error_of("{type: file, path: web.yaml}"), HasSubstr("\"web.yaml\" is no whole path"));
  EXPECT_THAT(error_of("{type: dns, name: web..example}"), HasSubstr("\"web..example\" is no name"));
  EXPECT_THAT(error_of("{type: dns, name: a, servers: [dns.example]}"), HasSubstr("is no DNS server"));
  EXPECT_THAT(error_of("{type: dns, name: a, servers: [\"10.0.0.1:0\"]}"), HasSubstr("is no DNS server"));
  EXPECT_THAT(error_of("{type: dns, name: a, servers: []}"), HasSubstr("has 0 elements"));
  EXPECT_THAT(error_of("{type: dns, name: a, interval: 5s, max_interval: 4s}"),
              HasSubstr("allowed: 5s to 24h"));
  for (const char *endpoint : {"127.0.0.1:2379", "http://127.0.0.1", "http://::1:2379", "http://h:2379/path",
                               "ftp://h:21", "http://h:0", "http://:2379"}) {
    EXPECT_THAT(error_of(std::string("{type: etcd, prefix: a, endpoints: [\"") + endpoint + "\"]}"),
                HasSubstr("is no endpoint"))
        << endpoint;
  }
  EXPECT_THAT(error_of("{type: etcd, prefix: a, endpoints: [\"http://h:1\"], tls: {}}"),
              HasSubstr("discovery.tls: has no meaning without an endpoint that begins with https://"));
  EXPECT_THAT(error_of("{type: etcd, prefix: a, endpoints: [\"http://h:1\"], username: u}"),
              HasSubstr("etcd wants both or none"));
  EXPECT_THAT(error_of("{type: etcd, prefix: a, endpoints: [\"https://h:1\"], tls: {key_file: /k}}"),
              HasSubstr("has one of certificate_file and key_file"));
}

}  // namespace
}  // namespace sluice
