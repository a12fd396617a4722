// A datagram, and its answer.
#include <netinet/in.h>
#include <spdlog/fmt/fmt.h>

#include "controlplane/health/probes/datagram.h"
#include "controlplane/health/probes/expected_bytes.h"

namespace sluice {

ProbeRun run_probe(ProbeContext &context, const CheckSpec &spec, const model::UdpCheck &check) {
  ProbeDatagram socket(context, spec, IPPROTO_UDP);
  if (const Ended ended = socket.open()) co_return *ended;
  if (const Ended ended = co_await socket.send(check.send)) co_return *ended;
  std::string answer;
  if (const Ended ended = co_await socket.receive(&answer)) co_return *ended;
  if (answer.find(check.expect) == std::string::npos) co_return unhealthy(missing_text(check.expect, answer));
  co_return healthy(fmt::format("answered {}", shown(answer)));
}

}  // namespace sluice
