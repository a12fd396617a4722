// One DNS query to one server. c-ares writes the query and reads the answer; asking is ours, for c-ares tells
// of every failure on the way that the server refused the connection.
#include <algorithm>
#include <array>
#include <string>
#include <vector>

#include <ares.h>
#include <arpa/inet.h>
#include <arpa/nameser.h>
#include <netdb.h>
#include <netinet/in.h>
#include <spdlog/fmt/fmt.h>
#include <sys/random.h>

#include "controlplane/health/probes/datagram.h"
#include "controlplane/health/probes/expected_bytes.h"
#include "controlplane/health/probes/stream.h"

namespace sluice {

namespace {

constexpr size_t kHeaderBytes = 12;  // RFC 1035 section 4.1.1
constexpr int kMaxUdpPayload = 1232;

// Unlike the connection IDs of QUIC, it has to be guessed by who forges an answer.
uint16_t random_id() {
  uint16_t id = 0;
  (void)getrandom(&id, sizeof(id), 0);  // for so few bytes it neither waits nor fails
  return id;
}

// The query as bytes; otherwise the error of c-ares.
struct Query {
  uint16_t id = random_id();
  int error = ARES_SUCCESS;
  std::string bytes;
};

Query make_query(const model::DnsCheck &check) {
  Query query;
  unsigned char *message = nullptr;
  int length = 0;
  constexpr int kRecursionDesired = 1;
  query.error = ares_create_query(check.name.c_str(), ns_c_in, check.record_type, query.id, kRecursionDesired,
                                  &message, &length, kMaxUdpPayload);
  if (query.error != ARES_SUCCESS) return query;
  query.bytes.assign(reinterpret_cast<const char *>(message), static_cast<size_t>(length));
  ares_free_string(message);
  return query;
}

unsigned number_at(const std::string &bytes, size_t offset) {
  return static_cast<uint8_t>(bytes[offset]) << 8u | static_cast<uint8_t>(bytes[offset + 1]);
}

bool answers(const std::string &message, const Query &query) {
  constexpr uint8_t kResponse = 0x80;
  return message.size() >= kHeaderBytes && number_at(message, 0) == query.id &&
         (static_cast<uint8_t>(message[2]) & kResponse) != 0;
}

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

// Whether it was longer than the transport takes.
bool is_cut(const std::string &message) {
  constexpr uint8_t kTruncated = 0x02;
  return (static_cast<uint8_t>(message[2]) & kTruncated) != 0;
}

CheckResult judge_answer(const std::string &answer, const model::DnsCheck &check) {
  const unsigned code = static_cast<uint8_t>(answer[3]) & 0x0fu;
  const unsigned count = number_at(answer, 6);
  const std::string text = fmt::format("{}, {} answer{}", code_text(code), count, count == 1 ? "" : "s");
  if (code != check.code) return unhealthy(fmt::format("{}; expected {}", text, code_text(check.code)));
  if (check.answer.empty()) return healthy(text);
  const std::vector<std::string> addresses = addresses_in(answer, check.record_type);
  if (std::ranges::find(addresses, check.answer) != addresses.end()) return healthy(text);
  if (is_cut(answer) && check.transport == model::DnsTransport::kUdp)
    return unhealthy(text + "; the answer is cut, use transport: tcp");
  return unhealthy(fmt::format("{}{}{}; expected {}", text, addresses.empty() ? "" : ": ",
                               fmt::join(addresses, ", "), check.answer));
}

// What answers another query may be forged: it is passed over, and told if nothing better comes.
ProbeRun ask_by_udp(ProbeContext &context, const CheckSpec &spec, const model::DnsCheck &check,
                    const Query &query) {
  ProbeDatagram socket(context, spec, IPPROTO_UDP);
  if (const Ended ended = socket.open()) co_return *ended;
  if (const Ended ended = co_await socket.send(query.bytes)) co_return *ended;
  std::string other;
  while (true) {
    std::string answer;
    if (Ended ended = co_await socket.receive(&answer)) {
      if (!other.empty()) ended->text += fmt::format(", only {}, which answers no such query", other);
      co_return *ended;
    }
    if (answers(answer, query)) co_return judge_answer(answer, check);
    other = shown(answer);
  }
}

// RFC 1035 section 4.2.2: two bytes of length before each message.
ProbeRun ask_by_tcp(ProbeContext &context, const CheckSpec &spec, const model::DnsCheck &check,
                    const Query &query) {
  ProbeStream stream(context, spec);
  if (const Ended ended = co_await stream.connect()) co_return *ended;
  std::string request;
  request.push_back(static_cast<char>(query.bytes.size() >> 8));
  request.push_back(static_cast<char>(query.bytes.size() & 0xff));
  request += query.bytes;
  if (const Ended ended = co_await stream.write(request)) co_return *ended;
  constexpr size_t kLengthBytes = 2;
  std::string answer;
  for (size_t wanted = kLengthBytes; answer.size() < wanted;) {
    if (const Ended ended = co_await stream.read_some(&answer, wanted)) co_return *ended;
    if (answer.size() >= kLengthBytes) wanted = kLengthBytes + number_at(answer, 0);
  }
  answer.erase(0, kLengthBytes);
  if (answers(answer, query)) co_return judge_answer(answer, check);
  co_return unhealthy(fmt::format("answered {}, which answers no such query", shown(answer)));
}

}  // namespace

ProbeRun run_probe(ProbeContext &context, const CheckSpec &spec, const model::DnsCheck &check) {
  const Query query = make_query(check);
  if (query.error != ARES_SUCCESS) {
    co_return not_carried_out(fmt::format("cannot ask for {}: {}", check.name, ares_strerror(query.error)));
  }
  if (check.transport == model::DnsTransport::kTcp)
    co_return co_await ask_by_tcp(context, spec, check, query);
  co_return co_await ask_by_udp(context, spec, check, query);
}

}  // namespace sluice
