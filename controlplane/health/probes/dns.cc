// One DNS query to one server, by c-ares.
#include <algorithm>
#include <array>
#include <cstring>
#include <utility>

#include <ares.h>
#include <arpa/inet.h>
#include <arpa/nameser.h>
#include <boost/asio/posix/stream_descriptor.hpp>
#include <boost/asio/redirect_error.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <netdb.h>
#include <spdlog/fmt/fmt.h>
#include <unistd.h>

#include "controlplane/health/check_text.h"
#include "controlplane/health/probes/deadline.h"
#include "controlplane/health/probes/probe.h"

namespace sluice {

namespace asio = boost::asio;
using boost::system::error_code;

namespace {

constexpr int kHeaderBytes = 12;  // RFC 1035 section 4.1.1
constexpr int kMaxUdpPayload = 1232;

// A channel of c-ares to one server, for one query.
class Query {
 public:
  Query() = default;
  ~Query() {
    if (channel_ != nullptr) ares_destroy(channel_);
  }
  Query(const Query &) = delete;
  Query &operator=(const Query &) = delete;

  int open(const CheckSpec &spec, const model::DnsCheck &check) {
    ares_options options{};
    // NOCHECKRESP: SERVFAIL and its like are answers. IGNTC: a truncated one is, too.
    options.flags = ARES_FLAG_NOCHECKRESP | ARES_FLAG_NOSEARCH | ARES_FLAG_IGNTC |
                    (check.transport == model::DnsTransport::kTcp ? ARES_FLAG_USEVC : 0);
    options.tries = 1;
    options.timeout = 2 * static_cast<int>(spec.health.timeout.count());  // the check's deadline comes first
    constexpr int kMask = ARES_OPT_FLAGS | ARES_OPT_TRIES | ARES_OPT_TIMEOUTMS;
    const int made = ares_init_options(&channel_, &options, kMask);
    if (made != ARES_SUCCESS) return made;
    if (const auto &source = source_of(spec)) set_source(*source);
    ares_addr_port_node server{};
    const bool ipv4 = address_is_ipv4(&spec.address);
    server.family = ipv4 ? AF_INET : AF_INET6;
    server.udp_port = spec.l4_port;
    server.tcp_port = spec.l4_port;
    if (ipv4) std::memcpy(&server.addr.addr4, &spec.address.word[3], sizeof(server.addr.addr4));
    if (!ipv4) std::memcpy(&server.addr.addr6, spec.address.word, sizeof(server.addr.addr6));
    return ares_set_servers_ports(channel_, &server);
  }

  int send(const model::DnsCheck &check) {
    unsigned char *message = nullptr;
    int length = 0;
    const int made = ares_create_query(check.name.c_str(), ns_c_in, check.record_type, 0, 1, &message,
                                       &length, kMaxUdpPayload);
    if (made != ARES_SUCCESS) return made;
    ares_send(channel_, message, length, on_answer, this);
    ares_free_string(message);
    return ARES_SUCCESS;
  }

  // The socket that it waits for, and whether to be written to; nothing: it waits no more.
  struct Wait {
    int fd = -1;
    bool to_write = false;
  };
  std::optional<Wait> waits_for() const {
    std::array<ares_socket_t, ARES_GETSOCK_MAXNUM> sockets{};
    const auto mask =
        static_cast<unsigned>(ares_getsock(channel_, sockets.data(), static_cast<int>(sockets.size())));
    if (ended_ || mask == 0) return std::nullopt;
    return Wait{sockets[0], ARES_GETSOCK_WRITABLE(mask, 0) != 0};
  }

  void serve(const Wait &ready) {
    ares_process_fd(channel_, ready.to_write ? ARES_SOCKET_BAD : ready.fd,
                    ready.to_write ? ready.fd : ARES_SOCKET_BAD);
  }

  int status() const { return status_; }  // ARES_SUCCESS: there is an answer
  const std::string &answer() const { return answer_; }

 private:
  static void on_answer(void *user, int status, int /*timeouts*/, unsigned char *answer, int length) {
    auto *query = static_cast<Query *>(user);
    query->ended_ = true;
    query->status_ = status;
    if (answer != nullptr)
      query->answer_.assign(reinterpret_cast<const char *>(answer), static_cast<size_t>(length));
  }

  void set_source(const Address &source) {
    if (address_is_ipv4(&source)) {
      ares_set_local_ip4(channel_, ntohl(source.word[3]));
    } else {
      ares_set_local_ip6(channel_, reinterpret_cast<const unsigned char *>(source.word));
    }
  }

  ares_channel channel_ = nullptr;
  bool ended_ = false;
  int status_ = ARES_ETIMEOUT;
  std::string answer_;
};

std::string code_text(unsigned code) {
  constexpr std::array<const char *, 6> kNames = {"NOERROR",  "FORMERR", "SERVFAIL",
                                                  "NXDOMAIN", "NOTIMP",  "REFUSED"};
  return code < kNames.size() ? kNames[code] : fmt::format("RCODE {}", code);
}

std::vector<std::string> addresses_in(const std::string &answer, uint16_t record_type) {
  constexpr int kMost = 64;
  std::vector<std::string> texts;
  std::array<char, INET6_ADDRSTRLEN> text{};
  const auto *bytes = reinterpret_cast<const unsigned char *>(answer.data());
  const int length = static_cast<int>(answer.size());
  int count = kMost;
  if (record_type == ns_t_a) {
    std::array<ares_addrttl, kMost> found{};
    if (ares_parse_a_reply(bytes, length, nullptr, found.data(), &count) != ARES_SUCCESS) return texts;
    for (int i = 0; i < count; ++i) {
      texts.emplace_back(inet_ntop(AF_INET, &found[static_cast<size_t>(i)].ipaddr, text.data(), text.size()));
    }
  } else {
    std::array<ares_addr6ttl, kMost> found{};
    if (ares_parse_aaaa_reply(bytes, length, nullptr, found.data(), &count) != ARES_SUCCESS) return texts;
    for (int i = 0; i < count; ++i) {
      texts.emplace_back(
          inet_ntop(AF_INET6, &found[static_cast<size_t>(i)].ip6addr, text.data(), text.size()));
    }
  }
  return texts;
}

CheckResult judge_answer(const std::string &answer, const model::DnsCheck &check) {
  if (answer.size() < kHeaderBytes) return unhealthy("the answer is not DNS");
  const unsigned code = static_cast<uint8_t>(answer[3]) & 0x0fu;
  const unsigned answers = static_cast<uint8_t>(answer[6]) << 8u | static_cast<uint8_t>(answer[7]);
  const std::string text = fmt::format("{}, {} answer{}", code_text(code), answers, answers == 1 ? "" : "s");
  if (code != check.code) return unhealthy(fmt::format("{}, expected {}", text, code_text(check.code)));
  if (check.answer.empty()) return healthy(text);
  const std::vector<std::string> addresses = addresses_in(answer, check.record_type);
  if (std::ranges::find(addresses, check.answer) != addresses.end()) return healthy(text);
  return unhealthy(fmt::format("{}: {}; expected {}", text, fmt::join(addresses, ", "), check.answer));
}

CheckResult judge_failure(int status) {
  switch (status) {
    case ARES_ECONNREFUSED:
      return unhealthy("connection refused");
    case ARES_EBADRESP:
      return unhealthy("the answer is not DNS");
    case ARES_ENOMEM:
      return not_carried_out("out of memory on this host");
    default:
      return unhealthy(ares_strerror(status));
  }
}

}  // namespace

ProbeRun run_probe(ProbeContext &context, const CheckSpec &spec, const model::DnsCheck &check) {
  asio::posix::stream_descriptor watched(context.io);
  Deadline deadline(context.io, spec.health.timeout, [&watched] {
    error_code ignored;
    watched.close(ignored);
  });
  Query query;
  int failed = query.open(spec, check);
  if (failed == ARES_SUCCESS) failed = query.send(check);
  if (failed != ARES_SUCCESS) co_return not_carried_out(ares_strerror(failed));
  int watched_fd = -1;
  while (const auto wait = query.waits_for()) {
    if (wait->fd != watched_fd) {
      // c-ares closes its descriptor when it likes; Asio's is another one of the same socket.
      const int copy = dup(wait->fd);
      if (copy < 0) co_return not_carried_out(std::string(std::strerror(errno)) + " on this host");
      watched.assign(copy);
      watched_fd = wait->fd;
    }
    error_code error;
    const auto what = wait->to_write ? asio::posix::stream_descriptor::wait_write
                                     : asio::posix::stream_descriptor::wait_read;
    co_await watched.async_wait(what, asio::redirect_error(asio::use_awaitable, error));
    if (deadline.expired()) co_return unhealthy("no answer within " + duration_text(spec.health.timeout));
    if (error) co_return unhealthy(error.message());
    query.serve(*wait);
  }
  if (query.status() == ARES_SUCCESS || !query.answer().empty())
    co_return judge_answer(query.answer(), check);
  co_return judge_failure(query.status());
}

}  // namespace sluice
