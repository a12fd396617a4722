#include "controlplane/config/health_reader.h"

#include <string>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/controlplane/config/documents.h"

namespace sluice {
namespace {

using namespace std::chrono_literals;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::StartsWith;

model::HealthSpec health_of(const std::string &health) {
  const model::DesiredState state = state_of(with_health(health));
  return state.pools.empty() ? model::HealthSpec{} : state.pools[0].health;
}

template <typename Check>
Check check_of(const std::string &health) {
  const model::HealthSpec spec = health_of(health);
  const Check *check = std::get_if<Check>(&spec.kind);
  EXPECT_NE(check, nullptr) << health << ": " << model::health_kind_name(spec.kind);
  return check == nullptr ? Check{} : *check;
}

TEST(HealthReader, reads_the_pace_of_every_kind) {
  const model::HealthSpec health = health_of(
      "{type: quic, port: 443, source: [10.0.0.1, \"fd00::1\"], interval: 5s, fast_interval: 200ms, timeout: "
      "3s, jitter: 20, "
      "rise: 7, fall: 8}");
  EXPECT_EQ(health, (model::HealthSpec{.kind = model::QuicCheck{},
                                       .port = 443,
                                       .source_ipv4 = parse_address("10.0.0.1"),
                                       .source_ipv6 = parse_address("fd00::1"),
                                       .interval = 5000ms,
                                       .fast_interval = 200ms,
                                       .timeout = 3000ms,
                                       .jitter_percent = 20,
                                       .rise = 7,
                                       .fall = 8}));
}

TEST(HealthReader, the_fast_interval_is_half_of_the_interval_unless_given) {
  EXPECT_EQ(health_of("{type: icmp, interval: 3s}").fast_interval, 1500ms);
  EXPECT_EQ(health_of("{type: icmp, interval: 10ms}").fast_interval, 10ms);
  EXPECT_THAT(errors_of(with_health("{type: icmp, interval: 1s, fast_interval: 2s}")),
              ElementsAre(HasSubstr("fast_interval: \"2s\" is out of range; allowed: 10ms to 1s")));
}

TEST(HealthReader, reads_tcp_and_udp_bytes) {
  EXPECT_EQ(check_of<model::TcpCheck>("{type: tcp, port: 1, send: \"PING\\r\\n\", expect: \"hex:2bff\"}"),
            (model::TcpCheck{.send = "PING\r\n", .expect = "+\xff"}));
  EXPECT_EQ(check_of<model::UdpCheck>("{type: udp, port: 1, send: x}"),
            (model::UdpCheck{.send = "x", .expect = ""}));
  EXPECT_THAT(errors_of(with_health("{type: udp, port: 1}")),
              ElementsAre(HasSubstr("key \"send\" is missing")));
  for (const char *bytes : {"\"hex:0\"", "\"hex:0g\"", "\"hex:\"", "\"\""}) {
    EXPECT_THAT(errors_of(with_health("{type: udp, port: 1, send: " + std::string(bytes) + "}")),
                ElementsAre(HasSubstr("cannot be sent")))
        << bytes;
  }
}

TEST(HealthReader, reads_https) {
  const auto check = check_of<model::HttpCheck>(
      "{type: https, port: 443, method: OPTIONS, version: 2, path: /x, host: h, headers: [\"A: b c\", "
      "\"D:\"], "
      "status: [200, 300-302], body: ok, tls: {verify: true, server_name: n, ca_file: /ca, "
      "certificate_file: /c, "
      "key_file: /k, min_version: 1.3, min_validity: 90m}}");
  EXPECT_EQ(check, (model::HttpCheck{.tls = model::TlsOptions{.verify = true,
                                                              .server_name = "n",
                                                              .ca_file = "/ca",
                                                              .certificate_file = "/c",
                                                              .key_file = "/k",
                                                              .min_version = model::TlsVersion::kTls13,
                                                              .min_validity = std::chrono::hours(2)},
                                     .version = model::HttpVersion::kHttp2,
                                     .method = "OPTIONS",
                                     .path = "/x",
                                     .host = "h",
                                     .headers = {{"A", "b c"}, {"D", ""}},
                                     .statuses = {{200, 200}, {300, 302}},
                                     .body = "ok"}));
  EXPECT_TRUE(check_of<model::HttpCheck>("{type: https, port: 443}").tls.has_value());
  EXPECT_FALSE(check_of<model::HttpCheck>("{type: http, port: 80}").tls.has_value());
}

TEST(HealthReader, reads_the_other_kinds) {
  EXPECT_EQ(check_of<model::TlsCheck>("{type: tls, port: 1}").tls, model::TlsOptions{});
  EXPECT_EQ(check_of<model::GrpcCheck>("{type: grpc, port: 1, service: a.B, tls: {}}"),
            (model::GrpcCheck{.tls = model::TlsOptions{}, .service = "a.B"}));
  EXPECT_EQ(check_of<model::WebsocketCheck>("{type: websocket, port: 1, path: /w, host: h}"),
            (model::WebsocketCheck{.tls = std::nullopt, .path = "/w", .host = "h"}));
  EXPECT_EQ(check_of<model::DnsCheck>(
                "{type: dns, port: 53, name: x.org, record: aaaa, code: refused, answer: \"fd00::1\", "
                "transport: tcp}"),
            (model::DnsCheck{.transport = model::DnsTransport::kTcp,
                             .name = "x.org",
                             .record_type = 28,
                             .code = 5,
                             .answer = "fd00::1"}));
  EXPECT_EQ(check_of<model::MqttCheck>(
                "{type: mqtt, port: 1, client_id: c, username: u, password_file: /p, tls: {verify: false}}"),
            (model::MqttCheck{.tls = model::TlsOptions{.verify = false},
                              .client_id = "c",
                              .username = "u",
                              .password_file = "/p"}));
  EXPECT_EQ(health_of("{type: icmp}").port, 0);
}

TEST(HealthReader, reads_commands) {
  EXPECT_EQ(check_of<model::ExecCheck>(
                "{type: exec, command: [/usr/bin/x, \"\", 7, \"{address}:{port} {\\\"a\\\": {}}\"], "
                "port: 1, readable: [/etc/x, /srv]}"),
            (model::ExecCheck{.command = {"/usr/bin/x", "", "7", "{address}:{port} {\"a\": {}}"},
                              .readable = {"/etc/x", "/srv"}}));
  EXPECT_EQ(check_of<model::ExecCheck>("{type: exec, command: [/srv/x/y], readable: [/srv]}").command,
            std::vector<std::string>{"/srv/x/y"});
}

TEST(HealthReader, a_command_needs_a_port_when_it_names_one) {
  EXPECT_EQ(health_of("{type: exec, command: [/bin/x]}").port, 0);
  EXPECT_EQ(health_of("{type: exec, command: [/bin/x], port: 5}").port, 5);
  EXPECT_THAT(errors_of(with_health("{type: exec, command: [/bin/x, \"-p{port}\"]}")),
              ElementsAre(HasSubstr("pools[0].health: key \"port\" is missing; add it")));
}

TEST(HealthReader, a_command_is_an_absolute_path_that_its_sandbox_has) {
  EXPECT_THAT(errors_of(with_health("{type: exec}")), ElementsAre(HasSubstr("key \"command\" is missing")));
  EXPECT_THAT(errors_of(with_health("{type: exec, command: []}")),
              ElementsAre(HasSubstr("command: has 0 elements; allowed: 1 to 64")));
  for (const std::string path : {"x", "/", "/usr//x", "/usr/./x", "/usr/../etc/x", "/usr/x/", "./x"}) {
    EXPECT_THAT(errors_of(with_health("{type: exec, command: [\"" + path + "\"]}")),
                ElementsAre(HasSubstr("command[0]: \"" + path + "\" is no absolute path")))
        << path;
  }
  for (const std::string path : {"/opt/x", "/usrx/y", "/srv/y"}) {
    EXPECT_THAT(errors_of(with_health("{type: exec, command: [" + path + "], readable: [/srv/x]}")),
                ElementsAre(HasSubstr("command[0]: \"" + path + "\" is not in the command's sandbox")))
        << path;
  }
}

TEST(HealthReader, placeholders_that_stand_for_nothing_are_refused) {
  EXPECT_THAT(
      errors_of(with_health("{type: exec, command: [/bin/x, \"{address}{adress}\"]}")),
      ElementsAre(HasSubstr("command[1]: \"{adress}\" stands for nothing; allowed: {address}, {port}, "
                            "{pool}, {backend}")));
}

TEST(HealthReader, what_a_sandbox_has_of_its_own_is_not_readable) {
  for (const std::string path : {"/proc", "/dev/sda", "/sys/fs"}) {
    EXPECT_THAT(errors_of(with_health("{type: exec, command: [/bin/x], readable: [" + path + "]}")),
                ElementsAre(HasSubstr("readable[0]: \"" + path + "\" cannot be read by a command")))
        << path;
  }
}

// A pool with a TCP service on two VIPs and a UDP service, and these checks.
std::string through_dataplane(const std::string &health, const std::string &check = "") {
  return "version: 1\nservices:\n"
         "- {name: dns, vips: [198.51.100.3], protocol: udp, ports: [53], pool: web}\n"
         "- {name: web, vips: [198.51.100.1, \"2001:db8::1\"], protocol: tcp, ports: [80, \"8000-8099\"], "
         "pool: web}\n"
         "pools:\n- {name: web, backends: [{name: b, address: 10.0.0.2" +
         check + "}], health: {" + health + "}}\n";
}

TEST(HealthReader, checks_through_the_data_path_ask_the_first_vip_of_which_there_is_a_source) {
  const auto vip_of = [](const std::string &health) {
    const auto vip = state_of(through_dataplane(health)).pools.at(0).health.vip;
    return vip ? format_address(*vip) : "none";
  };
  EXPECT_EQ(vip_of("type: tcp, port: 80, via: dataplane, source: [10.0.0.1]"), "198.51.100.1");
  EXPECT_EQ(vip_of("type: tcp, port: 8050, via: dataplane, source: [\"fd00::1\"]"), "2001:db8::1");
  EXPECT_EQ(
      vip_of("type: tcp, port: 80, via: dataplane, source: [10.0.0.1, \"fd00::1\"], vip: \"2001:db8::1\""),
      "2001:db8::1");
  EXPECT_EQ(vip_of("type: quic, port: 53, via: dataplane, source: [10.0.0.1]"), "198.51.100.3");
  EXPECT_EQ(vip_of("type: dns, name: x, port: 53, via: dataplane, source: [10.0.0.1]"), "198.51.100.3");
  EXPECT_EQ(vip_of("type: tcp, port: 80, via: direct, source: [10.0.0.1]"), "none");
}

TEST(HealthReader, checks_that_cannot_go_through_the_data_path_are_refused) {
  const auto error_of = [](const std::string &health, const std::string &check = "") {
    const auto errors = errors_of(through_dataplane(health, check));
    return errors.size() == 1 ? errors[0] : std::to_string(errors.size()) + " errors";
  };
  EXPECT_THAT(error_of("type: tcp, port: 80, via: dataplane"),
              HasSubstr("health.via: \"dataplane\" needs a source of the family of its VIP"));
  EXPECT_THAT(error_of("type: tcp, port: 81, via: dataplane, source: [10.0.0.1]"),
              HasSubstr("health.via: \"dataplane\" needs a tcp service on port 81 that uses this pool"));
  EXPECT_THAT(error_of("type: quic, port: 80, via: dataplane, source: [10.0.0.1]"),
              HasSubstr("health.via: \"dataplane\" needs a udp service on port 80"));
  EXPECT_THAT(error_of("type: tcp, port: 80, via: dataplane, source: [10.0.0.1], vip: 198.51.100.3"),
              HasSubstr("health.vip: 198.51.100.3 is no VIP of a tcp service on port 80"));
  EXPECT_THAT(error_of("type: tcp, port: 80, via: dataplane, source: [10.0.0.1], vip: \"2001:db8::1\""),
              HasSubstr("health.via: \"dataplane\" needs a source of the family of its VIP"));
  EXPECT_THAT(error_of("type: tcp, port: 80, via: dataplane, source: [198.51.100.3]"),
              HasSubstr("health.source: \"198.51.100.3\" is a VIP"));
  EXPECT_THAT(
      error_of("type: tcp, port: 80, via: dataplane, source: [10.0.0.1]", ", check: {port: 81}"),
      HasSubstr("health.via: \"dataplane\" asks each backend as clients do, but backend \"b\" has a check of "
                "its own"));
  EXPECT_THAT(error_of("type: icmp, via: dataplane"), HasSubstr("health.via: has no meaning with type icmp"));
  EXPECT_THAT(error_of("type: tcp, port: 80, vip: 198.51.100.1"),
              HasSubstr("health.vip: has no meaning without via: dataplane"));
}

TEST(HealthReader, bad_values_of_single_kinds_are_refused) {
  EXPECT_THAT(errors_of(with_health("{type: ntp}")),
              ElementsAre("6:18: pools[0].health.type: \"ntp\" is not known; allowed: none, icmp, tcp, tls, "
                          "http, https, grpc, websocket, dns, udp, quic, mqtt, exec"));
  EXPECT_THAT(
      errors_of(with_health("{type: http, port: 1, headers: [\"no colon\", \"a b: c\", \"a: \\n\"]}")),
      ElementsAre(HasSubstr("headers[0]: \"no colon\" is no header"), HasSubstr("headers[1]"),
                  HasSubstr("headers[2]")));
  EXPECT_THAT(errors_of(with_health("{type: http, port: 1, status: []}")),
              ElementsAre(HasSubstr("status: is empty")));
  EXPECT_THAT(errors_of(with_health("{type: tls, port: 1, tls: {key_file: /k}}")),
              ElementsAre(HasSubstr("tls: has one of certificate_file and key_file")));
  EXPECT_THAT(errors_of(with_health("{type: tls, port: 1, tls: {colour: red}}")),
              ElementsAre(HasSubstr("key \"colour\" is not known")));
  EXPECT_THAT(errors_of(with_health("{type: dns, port: 1, name: n, answer: \"fd00::1\"}")),
              ElementsAre(HasSubstr("is in no answer of this record type; set record: aaaa")));
  EXPECT_THAT(errors_of(with_health("{type: icmp, source: [10.0.0.1, 10.0.0.2]}")),
              ElementsAre(HasSubstr("source[1]: \"10.0.0.2\" is the second address of its family")));
  EXPECT_THAT(errors_of(with_health("{type: icmp, jitter: 51}")), ElementsAre(HasSubstr("allowed: 0 to 50")));
}

TEST(HealthReader, checks_that_can_never_succeed_are_refused) {
  EXPECT_THAT(
      errors_of(with_health("{type: http, port: 1, method: HEAD, body: ok}")),
      ElementsAre(HasSubstr("health.body: has no meaning with method HEAD, whose answers have no body; "
                            "remove it or change the method")));
  EXPECT_THAT(errors_of(with_health("{type: mqtt, port: 1, password_file: /p}")),
              ElementsAre(HasSubstr("health.password_file: has no meaning without username")));
}

TEST(HealthReader, headers_that_the_check_writes_itself_are_refused) {
  for (const std::string name : {"Content-Length", "transfer-encoding", "CONNECTION"}) {
    EXPECT_THAT(errors_of(with_health("{type: http, port: 1, headers: [\"A: b\", \"" + name + ": x\"]}")),
                ElementsAre(HasSubstr("headers[1]: \"" + name +
                                      "\" is a header that the check writes itself; remove it")))
        << name;
  }
  EXPECT_THAT(
      errors_of(with_health("{type: http, port: 1, headers: [\"host: h\"]}")),
      ElementsAre(HasSubstr("headers[0]: \"host\" is a header that the check writes itself; use host")));
}

TEST(HealthReader, what_is_asked_of_a_certificate_that_is_not_verified_is_refused) {
  for (const std::string key : {"ca_file: /ca", "min_validity: 1h"}) {
    EXPECT_THAT(errors_of(with_health("{type: tls, port: 1, tls: {verify: false, " + key + "}}")),
                ElementsAre(HasSubstr("tls." + key.substr(0, key.find(':')) +
                                      ": has no meaning with verify: false; remove one of the two")));
  }
  EXPECT_EQ(
      check_of<model::TlsCheck>("{type: tls, port: 1, tls: {verify: false, server_name: n}}").tls.server_name,
      "n");
}

TEST(HealthReader, a_server_name_is_a_host_name) {
  for (const std::string name :
       {"192.0.2.1", "\"2001:db8::1\"", "\"a/b\"", "\"*.example.com\"", "a..b", ".a", "a."}) {
    EXPECT_THAT(
        errors_of(with_health("{type: tls, port: 1, tls: {server_name: " + name + "}}")),
        ElementsAre(HasSubstr("is no host name; allowed: letters, digits, \"-\", \"_\" and single \".\"")))
        << name;
  }
  for (const std::string name : {"a", "a-b_c.example.com", "1.2.3.4.example"}) {
    EXPECT_EQ(
        check_of<model::TlsCheck>("{type: tls, port: 1, tls: {server_name: " + name + "}}").tls.server_name,
        name);
  }
}

TEST(HealthReader, checks_ask_on_the_one_port_of_the_services) {
  const auto with_ports = [](const std::string &first, const std::string &second) {
    const std::string end = ", pool: web}\n";
    return "version: 1\nservices:\n- {name: a, vips: [198.51.100.1], protocol: tcp, ports: " + first + end +
           "- {name: b, vips: [198.51.100.2], protocol: tcp, ports: " + second + end +
           "pools:\n- {name: web, backends: [], health: {type: tcp}}\n";
  };
  EXPECT_EQ(state_of(with_ports("[80]", "[80]")).pools.at(0).health.port, 80);
  EXPECT_THAT(errors_of(with_ports("[80]", "[443, 80]")),
              ElementsAre(HasSubstr(
                  "pools[0].health: key \"port\" is missing; add it: its services have the ports 80, 443")));
  EXPECT_THAT(errors_of(with_ports("[80]", "all")),
              ElementsAre(HasSubstr("a service of this pool has a range of ports")));
}

TEST(HealthReader, a_backend_may_be_checked_elsewhere) {
  const std::string backend =
      "  backends:\n  - {name: b, address: 10.0.0.1, check: {address: \"fd00::9\", port: 81}}\n";
  const model::DesiredState state = state_of(with_pool(backend + "  health: {type: tcp, port: 80}\n"));
  const model::BackendSpec &spec = state.pools.at(0).backends.at(0);
  EXPECT_EQ(spec.checked_address(), *parse_address("fd00::9"));
  EXPECT_EQ(spec.check_port, 81);
  EXPECT_THAT(errors_of(with_pool(backend)),
              ElementsAre(HasSubstr("check: has no meaning in a pool without health checks")));
  EXPECT_THAT(errors_of(with_pool(backend + "  health: {type: icmp}\n")),
              ElementsAre(HasSubstr("check.port: has no meaning with type icmp")));
}

TEST(HealthReader, a_port_is_needed_where_there_are_ports) {
  EXPECT_THAT(
      errors_of(with_health("{type: tls}")),
      ElementsAre("6:11: pools[0].health: key \"port\" is missing; add it: no service uses this pool"));
  EXPECT_THAT(errors_of(with_health("{type: icmp, port: 1}")),
              ElementsAre(HasSubstr("port: has no meaning with type icmp")));
}

TEST(HealthReader, a_short_interval_shortens_the_default_timeout) {
  const auto state = state_of(with_health("{type: tcp, port: 80, interval: 100ms}"));
  EXPECT_EQ(state.pools.at(0).health.timeout, 100ms);
}

TEST(HealthReader, bad_health_checks_are_refused) {
  EXPECT_THAT(errors_of(with_health("{type: tcp, port: 0}")),
              ElementsAre("6:29: pools[0].health.port: \"0\" is out of range; allowed: 1 to 65535"));
  EXPECT_THAT(errors_of(with_health("{type: http, port: 1, path: x}")),
              ElementsAre("6:39: pools[0].health.path: \"x\" is no path; allowed: what begins with \"/\""));
  EXPECT_THAT(errors_of(with_health("{type: http, port: 1, path: \"/a b\"}")),
              ElementsAre(HasSubstr("cannot be sent; allowed: 1 to 2048 printable")));
  EXPECT_THAT(errors_of(with_health("{type: http, port: 1, host: \"a\\r\\nX: y\"}")),
              ElementsAre(StartsWith("6:39: pools[0].health.host: \"a??X: y\" cannot be sent")));
  EXPECT_THAT(
      errors_of(with_health("{type: http, port: 1, status: 99-700}")),
      ElementsAre(HasSubstr("is not an HTTP status or a range of them; allowed: a number or a range")));
  EXPECT_THAT(errors_of(with_health("{type: tcp, port: 1, interval: 1s, timeout: 2s}")),
              ElementsAre("6:55: pools[0].health.timeout: \"2s\" is out of range; allowed: 1ms to 1s"));
  EXPECT_THAT(errors_of(with_health("{type: tcp, port: 1, interval: 2h, rise: 0, fall: 101}")),
              ElementsAre(HasSubstr("health.interval: \"2h\" is out of range"),
                          HasSubstr("health.rise: \"0\""), HasSubstr("health.fall: \"101\"")));
}

TEST(HealthReader, keys_that_the_type_of_check_never_uses_are_refused) {
  EXPECT_THAT(
      errors_of(with_health("{type: tcp, port: 1, path: /x, status: 200}")),
      ElementsAre(
          "6:38: pools[0].health.path: has no meaning with type tcp; remove it or change the type",
          "6:50: pools[0].health.status: has no meaning with type tcp; remove it or change the type"));
  EXPECT_THAT(errors_of(with_health("{type: none, interval: 1s}")),
              ElementsAre(StartsWith("6:34: pools[0].health.interval: has no meaning with type none")));
}

}  // namespace
}  // namespace sluice
