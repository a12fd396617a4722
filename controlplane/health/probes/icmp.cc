// An echo request, and its reply, by the kernel's ping sockets, which need no privilege. The kernel fills in
// the checksum and the identifier, and hands out the replies that carry that, whoever sends them: one of the
// backend comes from its address and has the data of this check's request, which nobody else knows.
#include <array>
#include <string>

#include <netinet/icmp6.h>
#include <netinet/in.h>
#include <netinet/ip_icmp.h>
#include <sys/random.h>

#include "controlplane/health/probes/datagram.h"

namespace sluice {

namespace {

constexpr std::string_view kName = "sluice-health:";  // for who looks at packets

std::string random_data() {
  std::array<char, 16> bytes{};
  (void)getrandom(bytes.data(), bytes.size(), 0);  // for so few bytes it neither waits nor fails
  return std::string(kName).append(bytes.data(), bytes.size());
}

// RFC 792 and RFC 4443 section 4: type, code, checksum, identifier, sequence number, data.
std::string echo_message(uint8_t type, uint16_t sequence, std::string_view data) {
  std::string message(8, '\0');
  message[0] = static_cast<char>(type);
  message[6] = static_cast<char>(sequence >> 8);
  message[7] = static_cast<char>(sequence & 0xff);
  return message.append(data);
}

// The kernel has looked at the checksum and the identifier.
bool is_reply(const std::string &answer, const std::string &expected) {
  constexpr size_t kSequenceOffset = 6;
  return answer.size() == expected.size() && answer[0] == expected[0] &&
         answer.compare(kSequenceOffset, std::string::npos, expected, kSequenceOffset) == 0;
}

}  // namespace

ProbeRun run_probe(ProbeContext &context, const CheckSpec &spec, const model::IcmpCheck & /*check*/) {
  const bool ipv4 = address_is_ipv4(&spec.address);
  constexpr uint16_t kSequence = 1;
  const std::string data = random_data();
  const std::string request =
      echo_message(ipv4 ? uint8_t{ICMP_ECHO} : uint8_t{ICMP6_ECHO_REQUEST}, kSequence, data);
  const std::string expected =
      echo_message(ipv4 ? uint8_t{ICMP_ECHOREPLY} : uint8_t{ICMP6_ECHO_REPLY}, kSequence, data);
  ProbeDatagram socket(context, spec, ipv4 ? int{IPPROTO_ICMP} : int{IPPROTO_ICMPV6});
  if (const Ended ended = socket.open()) co_return *ended;
  if (const Ended ended = co_await socket.send(request)) co_return *ended;
  std::string other;  // passed over, and told if nothing better comes
  while (true) {
    std::string answer;
    Address sender{};
    if (Ended ended = co_await socket.receive(&answer, &sender)) {
      if (!other.empty()) ended->text += ", only " + other;
      co_return *ended;
    }
    if (sender != spec.address) {
      other = "an echo reply of " + format_address(sender);
    } else if (is_reply(answer, expected)) {
      co_return healthy("echo reply");
    } else {
      other = "an echo reply that is not what was sent";
    }
  }
}

}  // namespace sluice
