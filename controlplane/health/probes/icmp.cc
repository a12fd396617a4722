// An echo request, and its reply, by the kernel's ping sockets, which need no privilege. The kernel fills in
// the checksum and the identifier, and hands out only the replies that carry that.
#include <netinet/icmp6.h>
#include <netinet/in.h>
#include <netinet/ip_icmp.h>

#include "controlplane/health/probes/datagram.h"

namespace sluice {

namespace {

constexpr std::string_view kPayload = "sluice-health";

// RFC 792 and RFC 4443 section 4: type, code, checksum, identifier, sequence number, data.
std::string echo_request(uint8_t type, uint16_t sequence) {
  std::string message(8, '\0');
  message[0] = static_cast<char>(type);
  message[6] = static_cast<char>(sequence >> 8);
  message[7] = static_cast<char>(sequence & 0xff);
  return message.append(kPayload);
}

}  // namespace

ProbeRun run_probe(ProbeContext &context, const CheckSpec &spec, const model::IcmpCheck & /*check*/) {
  const bool ipv4 = address_is_ipv4(&spec.address);
  constexpr uint16_t kSequence = 1;
  const std::string request =
      echo_request(ipv4 ? uint8_t{ICMP_ECHO} : uint8_t{ICMP6_ECHO_REQUEST}, kSequence);
  const std::string expected =
      echo_request(ipv4 ? uint8_t{ICMP_ECHOREPLY} : uint8_t{ICMP6_ECHO_REPLY}, kSequence);
  ProbeDatagram socket(context, spec, ipv4 ? int{IPPROTO_ICMP} : int{IPPROTO_ICMPV6});
  if (const Ended ended = socket.open()) co_return *ended;
  if (const Ended ended = co_await socket.send(request)) co_return *ended;
  std::string answer;
  if (const Ended ended = co_await socket.receive(&answer)) co_return *ended;
  const bool echoed = answer.size() == expected.size() && answer[0] == expected[0] &&
                      answer.compare(6, std::string::npos, expected, 6) == 0;
  if (!echoed) co_return unhealthy("the echo reply is not what was sent");
  co_return healthy("echo reply");
}

}  // namespace sluice
