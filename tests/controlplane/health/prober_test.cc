#include "controlplane/health/prober.h"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <functional>
#include <map>
#include <set>
#include <thread>

#include <gtest/gtest.h>
#include <malloc.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/controlplane/health/loopback_server.h"

namespace sluice {
namespace {

using namespace std::chrono_literals;

constexpr auto kLongTimeout = 20'000ms;  // for checks that must end by themselves
constexpr auto kShortTimeout = 200ms;    // for checks that must run out of time
constexpr auto kGiveUp = 30s;
const model::HttpCheck kHttp = {.path = "/healthz"};

// A port of loopback that takes datagrams and answers none.
class SilentDatagramPort {
 public:
  explicit SilentDatagramPort(Family family)
      : socket_(socket(family == Family::kIpv4 ? AF_INET : AF_INET6, SOCK_DGRAM | SOCK_NONBLOCK, 0)) {
    // Its unspecified address is what both families have at zero; the port is the kernel's choice.
    sockaddr_in6 any{};
    any.sin6_family = family == Family::kIpv4 ? AF_INET : AF_INET6;
    socklen_t length = sizeof(any);
    EXPECT_EQ(bind(socket_, reinterpret_cast<const sockaddr *>(&any), length), 0);
    EXPECT_EQ(getsockname(socket_, reinterpret_cast<sockaddr *>(&any), &length), 0);
    l4_port_ = ntohs(any.sin6_port);  // where IPv4 has it too
  }
  ~SilentDatagramPort() { close(socket_); }
  SilentDatagramPort(const SilentDatagramPort &) = delete;
  SilentDatagramPort &operator=(const SilentDatagramPort &) = delete;

  uint16_t l4_port() const { return l4_port_; }

  // Where the next one comes from; it waits for it.
  uint16_t wait_for_peer() const {
    sockaddr_in6 peer{};
    socklen_t length = sizeof(peer);
    char byte = 0;
    const auto give_up = std::chrono::steady_clock::now() + kGiveUp;
    while (recvfrom(socket_, &byte, 1, 0, reinterpret_cast<sockaddr *>(&peer), &length) < 0 &&
           std::chrono::steady_clock::now() < give_up) {
      std::this_thread::sleep_for(1ms);
    }
    return ntohs(peer.sin6_port);
  }

  // How many have come since it was last asked.
  uint64_t received() const {
    char byte = 0;
    uint64_t count = 0;
    while (recv(socket_, &byte, 1, 0) >= 0) count++;
    return count;
  }

 private:
  int socket_;
  uint16_t l4_port_ = 0;
};

class ProberTest : public testing::TestWithParam<Family> {
 protected:
  static CheckSpec spec(model::HealthKind kind, uint16_t l4_port, std::chrono::milliseconds timeout) {
    CheckSpec spec;
    spec.address = loopback_address(GetParam());
    spec.l4_port = l4_port;
    spec.health.kind = std::move(kind);
    spec.health.timeout = timeout;
    return spec;
  }

  // Carries out one check.
  static CheckResult run(const CheckSpec &spec) {
    CheckResult last;
    run_times(1, spec, [&](const CheckResult &result) { last = result; });
    return last;
  }

  // Carries out a check so often, one after the other.
  static void run_times(int times, const CheckSpec &spec,
                        const std::function<void(const CheckResult &)> &done) {
    int ended = 0;
    auto prober = Prober::create([&](uint64_t token, const CheckResult &result) {
      EXPECT_EQ(token, 7u);
      ended++;
      done(result);
    });
    ASSERT_TRUE(prober.ok()) << prober.error().message;
    const auto give_up = Prober::Clock::now() + kGiveUp;
    for (int started = 1; started <= times; started++) {
      prober.value()->start(7, spec);
      while (ended < started && Prober::Clock::now() < give_up) prober.value()->serve_until(give_up);
    }
    EXPECT_EQ(prober.value()->running(), 0u);
  }

  CheckResult http(const LoopbackServer &server, std::chrono::milliseconds timeout = kLongTimeout) const {
    return run(spec(kHttp, server.l4_port(), timeout));
  }

  CheckResult http_answer(const std::string &answer) const {
    LoopbackServer server(GetParam(), [&](LoopbackServer &, int connection) {
      read_request(connection);
      send_text(connection, answer);
    });
    return http(server);
  }

  // Of an answer that begins so and goes on without end.
  CheckResult http_endless(const std::string &begin) const {
    LoopbackServer server(GetParam(), [&](LoopbackServer &self, int connection) {
      read_request(connection);
      send_text(connection, begin);
      const std::string block(16 * 1024, 'x');
      while (!self.stopping() && send_text(connection, block)) {
      }
    });
    return http(server);
  }
};

#define EXPECT_RESULT(result, expected_outcome, expected_text) \
  do {                                                         \
    const CheckResult actual = (result);                       \
    EXPECT_EQ(actual.outcome, CheckOutcome::expected_outcome); \
    EXPECT_EQ(actual.text, (expected_text));                   \
  } while (false)

TEST_P(ProberTest, tcp_succeeds_when_a_handshake_does) {
  LoopbackServer server(GetParam(), [](LoopbackServer &, int) {});
  EXPECT_RESULT(run(spec(model::TcpCheck{}, server.l4_port(), kLongTimeout)), kSuccess, "connected");
}

TEST_P(ProberTest, tcp_succeeds_when_the_server_says_nothing) {
  LoopbackServer server(GetParam(), [](LoopbackServer &self, int) { self.hold(); });
  EXPECT_RESULT(run(spec(model::TcpCheck{}, server.l4_port(), kLongTimeout)), kSuccess, "connected");
}

// The most that ran at once.
TEST(Prober, commands_take_turns_and_all_get_theirs) {
  constexpr uint64_t kChecks = 80;
  size_t running = 0;
  size_t most = 0;
  uint64_t healthy = 0;
  auto prober = Prober::create(
      [&](uint64_t, const CheckResult &result) {
        running--;
        if (result.outcome == CheckOutcome::kSuccess) healthy++;
      },
      [&](uint64_t) {
        most = std::max(most, ++running);
        return true;
      });
  ASSERT_TRUE(prober.ok());
  CheckSpec spec;
  spec.health.kind = model::ExecCheck{.command = {"/usr/bin/true"}, .readable = {}};
  spec.health.timeout = kLongTimeout;
  for (uint64_t i = 0; i < kChecks; ++i) prober.value()->start(i, spec);
  const auto give_up = Prober::Clock::now() + kGiveUp;
  while (prober.value()->running() + prober.value()->waiting() > 0 && Prober::Clock::now() < give_up)
    prober.value()->serve_until(give_up);
  EXPECT_EQ(healthy, kChecks);
  EXPECT_EQ(most, 32u);
}

TEST(Prober, commands_that_wait_for_their_turn_do_not_run_and_need_not_any_more) {
  constexpr uint64_t kChecks = 40;
  bool is_wanted = true;
  uint64_t begun = 0;
  uint64_t unwanted = 0;
  auto prober = Prober::create(
      [&](uint64_t, const CheckResult &result) {
        if (result.outcome == CheckOutcome::kNotCarriedOut) unwanted++;
      },
      [&](uint64_t) {
        begun++;
        return is_wanted;
      });
  ASSERT_TRUE(prober.ok());
  CheckSpec spec;
  spec.health.kind = model::ExecCheck{.command = {"/usr/bin/sleep", "0.5"}, .readable = {}};
  spec.health.timeout = kLongTimeout;
  for (uint64_t i = 0; i < kChecks; ++i) prober.value()->start(i, spec);
  const auto give_up = Prober::Clock::now() + kGiveUp;
  while (prober.value()->waiting() < kChecks - 32 && Prober::Clock::now() < give_up)
    prober.value()->serve_until(give_up);
  EXPECT_EQ(prober.value()->running(), 32u);
  EXPECT_EQ(begun, 32u);
  is_wanted = false;
  while (prober.value()->running() + prober.value()->waiting() > 0 && Prober::Clock::now() < give_up)
    prober.value()->serve_until(give_up);
  EXPECT_EQ(unwanted, kChecks - 32);
}

// And of those that wait for their turn.
TEST(Prober, commands_that_run_end_with_it) {
  auto prober = Prober::create([](uint64_t, const CheckResult &) {});
  ASSERT_TRUE(prober.ok());
  CheckSpec spec;
  spec.health.kind = model::ExecCheck{.command = {"/usr/bin/sleep", "3600"}, .readable = {}};
  spec.health.timeout = kLongTimeout;
  for (uint64_t i = 0; i < 40; ++i) prober.value()->start(i, spec);
  prober.value()->serve_until(Prober::Clock::now() + 1ms);
  prober.value().reset();
  EXPECT_EQ(waitpid(-1, nullptr, WNOHANG), -1) << "a process of a check is still there";
}

TEST_P(ProberTest, tcp_refused) {
  const ClosedPort port(GetParam());
  EXPECT_RESULT(run(spec(model::TcpCheck{}, port.l4_port(), kLongTimeout)), kFailure, "connection refused");
}

TEST_P(ProberTest, http_refused) {
  const ClosedPort port(GetParam());
  EXPECT_RESULT(run(spec(kHttp, port.l4_port(), kLongTimeout)), kFailure, "connection refused");
}

TEST_P(ProberTest, tcp_handshake_unanswered) {
  const SilentPort port(GetParam());
  EXPECT_RESULT(run(spec(model::TcpCheck{}, port.l4_port(), kShortTimeout)), kFailure,
                "no connection within 200ms");
}

TEST_P(ProberTest, http_expected_status) {
  EXPECT_RESULT(http_answer("HTTP/1.1 204 No Content\r\n\r\n"), kSuccess, "HTTP status 204");
}

TEST_P(ProberTest, http_wrong_status) {
  EXPECT_RESULT(http_answer("HTTP/1.1 503 Service Unavailable\r\nContent-Length: 2\r\n\r\nno"), kFailure,
                "HTTP status 503, expected 200-399");
}

TEST_P(ProberTest, http_redirect_is_not_followed) {
  EXPECT_RESULT(http_answer("HTTP/1.1 302 Found\r\nLocation: http://192.0.2.1/\r\nContent-Length: 0\r\n\r\n"),
                kSuccess, "HTTP status 302");
}

TEST_P(ProberTest, http_sends_path_and_host_and_asks_to_close) {
  std::string request;
  {
    LoopbackServer server(GetParam(), [&](LoopbackServer &, int connection) {
      request = read_request(connection);
      send_text(connection, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
    });
    const model::HttpCheck check = {
        .path = "/a/../b?c=d", .host = "web.example", .headers = {{"X-Why", "health"}}};
    EXPECT_RESULT(run(spec(check, server.l4_port(), kLongTimeout)), kSuccess, "HTTP status 200");
  }
  EXPECT_NE(request.find("GET /a/../b?c=d HTTP/1.1\r\n"), std::string::npos) << request;
  EXPECT_NE(request.find("Host: web.example\r\n"), std::string::npos) << request;
  EXPECT_NE(request.find("Connection: close\r\n"), std::string::npos) << request;
  EXPECT_NE(request.find("X-Why: health\r\n"), std::string::npos) << request;
}

TEST_P(ProberTest, http_no_answer) {
  LoopbackServer server(GetParam(), [](LoopbackServer &self, int) { self.hold(); });
  EXPECT_RESULT(http(server, kShortTimeout), kFailure, "no answer within 200ms");
}

TEST_P(ProberTest, http_header_that_drips_is_no_answer) {
  LoopbackServer server(GetParam(), [](LoopbackServer &self, int connection) {
    read_request(connection);
    for (const char c : std::string("HTTP/1.1 200 OK\r\nX: ")) send_text(connection, std::string(1, c));
    while (!self.stopping()) {
      send_text(connection, "x");
      std::this_thread::sleep_for(10ms);
    }
  });
  const CheckResult result = http(server, kShortTimeout);
  EXPECT_EQ(result.outcome, CheckOutcome::kFailure);
  EXPECT_NE(result.text.find("within 200ms"), std::string::npos) << result.text;
}

TEST_P(ProberTest, http_body_that_drips_is_not_complete) {
  LoopbackServer server(GetParam(), [](LoopbackServer &self, int connection) {
    read_request(connection);
    send_text(connection, "HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n");
    while (!self.stopping()) {
      send_text(connection, "x");
      std::this_thread::sleep_for(10ms);
    }
  });
  EXPECT_RESULT(http(server, kShortTimeout), kFailure,
                "HTTP status 200, but the answer was not complete within 200ms");
}

TEST_P(ProberTest, http_endless_body_is_cut_and_judged_by_its_status) {
  EXPECT_RESULT(http_endless("HTTP/1.1 200 OK\r\n\r\n"), kSuccess, "HTTP status 200");
}

TEST_P(ProberTest, http_length_beyond_all_memory_takes_none) {
  for (const char *length : {"4000000000000000000", "18446744073709551615"}) {
    EXPECT_RESULT(http_answer("HTTP/1.1 200 OK\r\nContent-Length: " + std::string(length) + "\r\n\r\nabc"),
                  kFailure, "connection closed in the middle of the answer");
  }
}

TEST_P(ProberTest, http_body_of_a_length_beyond_all_memory_is_cut) {
  EXPECT_RESULT(http_endless("HTTP/1.1 200 OK\r\nContent-Length: 18446744073709551615\r\n\r\n"), kSuccess,
                "HTTP status 200");
}

TEST_P(ProberTest, http_endless_chunk_extension_is_cut) {
  EXPECT_RESULT(http_endless("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1;a="), kFailure,
                "the answer's chunk header or trailer is over 64 KiB");
}

TEST_P(ProberTest, http_endless_trailer_is_cut) {
  EXPECT_RESULT(http_endless("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\nX: "),
                kFailure, "the answer's chunk header or trailer is over 64 KiB");
}

TEST_P(ProberTest, http_header_of_many_kilobytes) {
  EXPECT_RESULT(
      http_answer("HTTP/1.1 200 OK\r\nX: " + std::string(60'000, 'x') + "\r\nContent-Length: 0\r\n\r\n"),
      kSuccess, "HTTP status 200");
}

TEST_P(ProberTest, http_endless_header_is_cut) {
  EXPECT_RESULT(http_endless("HTTP/1.1 200 OK\r\nX: "), kFailure, "the answer's header is over 64 KiB");
}

TEST_P(ProberTest, websocket_refused_with_a_body) {
  for (const char *length : {"100000000", "4000000", "18446744073709551615"}) {
    LoopbackServer server(GetParam(), [&](LoopbackServer &self, int connection) {
      read_request(connection);
      send_text(connection, "HTTP/1.1 403 Forbidden\r\nContent-Length: " + std::string(length) + "\r\n\r\n");
      const std::string block(70 * 1024, 'x');
      send_text(connection, block);
      self.hold();
    });
    EXPECT_RESULT(run(spec(model::WebsocketCheck{.path = "/"}, server.l4_port(), kLongTimeout)), kFailure,
                  "HTTP status 403, expected 101");
  }
}

TEST_P(ProberTest, http_half_closed_without_an_answer) {
  LoopbackServer server(GetParam(), [](LoopbackServer &self, int connection) {
    read_request(connection);
    shutdown(connection, SHUT_WR);
    self.hold();
  });
  EXPECT_RESULT(http(server), kFailure, "connection closed without an answer");
}

TEST_P(ProberTest, http_half_closed_in_the_middle) {
  EXPECT_RESULT(http_answer("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc"), kFailure,
                "connection closed in the middle of the answer");
}

TEST_P(ProberTest, http_reset) {
  LoopbackServer server(GetParam(), [](LoopbackServer &, int connection) {
    read_request(connection);
    const linger reset{1, 0};
    setsockopt(connection, SOL_SOCKET, SO_LINGER, &reset, sizeof(reset));
  });
  EXPECT_RESULT(http(server), kFailure, "connection reset");
}

TEST_P(ProberTest, http_from_a_server_of_another_protocol) {
  EXPECT_RESULT(http_answer("220 mail.example ESMTP\r\n"), kFailure, "the answer is not HTTP/1");
}

TEST_P(ProberTest, proxy_of_the_environment_is_not_used) {
  const ClosedPort proxy(GetParam());
  const std::string url = "http://localhost:" + std::to_string(proxy.l4_port());
  setenv("http_proxy", url.c_str(), 1);
  const CheckResult result = http_answer("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
  unsetenv("http_proxy");
  EXPECT_RESULT(result, kSuccess, "HTTP status 200");
}

TEST_P(ProberTest, a_thousand_checks_run_at_once_on_one_thread) {
  constexpr uint64_t kChecks = 1000;
  LoopbackServer silent(GetParam(), [](LoopbackServer &self, int) { self.hold(); });
  uint64_t timed_out = 0;
  auto prober = Prober::create([&](uint64_t, const CheckResult &result) {
    timed_out += result.text.find("within 3s") != std::string::npos ? 1 : 0;
  });
  ASSERT_TRUE(prober.ok());
  for (uint64_t i = 0; i < kChecks; i++) {
    prober.value()->start(i, spec(kHttp, silent.l4_port(), 3s));
  }
  EXPECT_EQ(prober.value()->running(), kChecks);
  const auto give_up = Prober::Clock::now() + kGiveUp;
  while (prober.value()->running() > 0 && Prober::Clock::now() < give_up)
    prober.value()->serve_until(give_up);
  EXPECT_EQ(timed_out, kChecks);
}

TEST_P(ProberTest, checks_that_wait_for_a_datagram_hold_no_room_for_the_longest_one) {
  constexpr uint64_t kChecks = 500;
  constexpr uint64_t kMostBytesEach = 16'384;  // a datagram has up to 65,536
  const SilentDatagramPort silent(GetParam());
  auto prober = Prober::create([](uint64_t, const CheckResult &) {});
  ASSERT_TRUE(prober.ok());
  const size_t before = mallinfo2().uordblks;
  uint64_t asked = 0;
  for (uint64_t i = 0; i < kChecks; i++) {
    prober.value()->start(i, spec(model::UdpCheck{.send = "ping", .expect = ""}, silent.l4_port(), kGiveUp));
    prober.value()->serve_until(Prober::Clock::now() + 1ms);
    asked += silent.received();
  }
  const auto give_up = Prober::Clock::now() + kGiveUp;
  while (asked < kChecks && Prober::Clock::now() < give_up) {
    prober.value()->serve_until(Prober::Clock::now() + 1ms);
    asked += silent.received();
  }
  ASSERT_EQ(asked, kChecks);
  for (uint64_t i = 0; i < kChecks; i++)
    prober.value()->serve_until(Prober::Clock::now() + 1ms);  // all wait by now
  EXPECT_EQ(prober.value()->running(), kChecks);
  EXPECT_LT(mallinfo2().uordblks - before, kChecks * kMostBytesEach);
}

// A check through the data path.
CheckSpec pinned(CheckSpec spec) {
  spec.health.vip = spec.address;
  (address_is_ipv4(&spec.address) ? spec.health.source_ipv4 : spec.health.source_ipv6) = spec.address;
  spec.first_source_port = kFirstCheckPort + kCheckPortsPerPin * 100;
  return spec;
}

TEST_P(ProberTest, checks_through_the_data_path_come_from_their_ports) {
  std::atomic<uint16_t> peer{0};
  LoopbackServer server(GetParam(), [&](LoopbackServer &, int connection) {
    sockaddr_in6 address{};
    socklen_t length = sizeof(address);
    getpeername(connection, reinterpret_cast<sockaddr *>(&address), &length);
    peer = ntohs(address.sin6_port);
  });
  const SilentDatagramPort datagrams(GetParam());
  const model::HealthKind over_tcp[] = {
      model::TcpCheck{.send = "x", .expect = "y"},
      model::TlsCheck{},
      model::HttpCheck{},
      model::HttpCheck{.tls = model::TlsOptions{}},
      model::HttpCheck{.version = model::HttpVersion::kHttp2},
      model::HttpCheck{.tls = model::TlsOptions{}, .version = model::HttpVersion::kHttp2},
      model::GrpcCheck{},
      model::WebsocketCheck{},
      model::DnsCheck{.transport = model::DnsTransport::kTcp, .name = "."},
      model::MqttCheck{},
  };
  for (const model::HealthKind &kind : over_tcp) {
    SCOPED_TRACE(kind.index());
    std::set<uint16_t> ports;
    run_times(20, pinned(spec(kind, server.l4_port(), kLongTimeout)), [&](const CheckResult &result) {
      EXPECT_EQ(result.outcome, CheckOutcome::kFailure) << result.text;
      const uint16_t port = peer.exchange(0);
      EXPECT_EQ((port - kFirstCheckPort) / kCheckPortsPerPin, 100);
      ports.insert(port);
    });
    EXPECT_GT(ports.size(), 1u);  // each serves again at once, and not one alone
  }
  const model::HealthKind over_udp[] = {model::UdpCheck{.send = "x", .expect = ""},
                                        model::DnsCheck{.name = "."}, model::QuicCheck{}};
  for (const model::HealthKind &kind : over_udp) {
    SCOPED_TRACE(kind.index());
    EXPECT_EQ(run(pinned(spec(kind, datagrams.l4_port(), kShortTimeout))).outcome, CheckOutcome::kFailure);
    EXPECT_EQ((datagrams.wait_for_peer() - kFirstCheckPort) / kCheckPortsPerPin, 100);
    (void)datagrams.received();
  }
}

TEST_P(ProberTest, checks_that_rest_are_not_carried_out) {
  LoopbackServer server(GetParam(), [](LoopbackServer &, int) {});
  CheckSpec resting = spec(model::TcpCheck{}, server.l4_port(), kLongTimeout);
  resting.rests = "nobody is there";
  EXPECT_RESULT(run(resting), kNotCarriedOut, "not checked: nobody is there");
  EXPECT_EQ(server.accepted(), 0);
}

TEST_P(ProberTest, wake_ends_a_wait) {
  auto prober = Prober::create([](uint64_t, const CheckResult &) {});
  ASSERT_TRUE(prober.ok());
  std::jthread waker([&] { prober.value()->wake(); });
  const auto give_up = Prober::Clock::now() + kGiveUp;
  prober.value()->serve_until(give_up);
  EXPECT_LT(Prober::Clock::now(), give_up);
}

INSTANTIATE_TEST_SUITE_P(families, ProberTest, testing::Values(Family::kIpv4, Family::kIpv6),
                         [](const auto &each) { return std::string(family_name(each.param)); });

TEST(ConcurrentCheckLimit, leaves_descriptors_for_the_daemon) {
  EXPECT_EQ(concurrent_check_limit(0), 16u);
  EXPECT_EQ(concurrent_check_limit(512), 16u);
  EXPECT_EQ(concurrent_check_limit(1024), 512u);
  EXPECT_EQ(concurrent_check_limit(10'000), 9'488u);
  EXPECT_EQ(concurrent_check_limit(1'000'000), 16'384u);
}

}  // namespace
}  // namespace sluice
