// A TCP handshake, and what is said after it.
#include <spdlog/fmt/fmt.h>

#include "controlplane/health/probes/expected_bytes.h"
#include "controlplane/health/probes/stream.h"

namespace sluice {

ProbeRun run_probe(ProbeContext &context, const CheckSpec &spec, const model::TcpCheck &check) {
  ProbeStream stream(context, spec);
  if (const Ended ended = co_await stream.connect()) co_return *ended;
  if (!check.send.empty()) {
    if (const Ended ended = co_await stream.write(check.send)) co_return *ended;
  }
  if (check.expect.empty()) co_return healthy("connected");
  std::string answer;
  while (answer.find(check.expect) == std::string::npos) {
    if (answer.size() >= kMaxAnswerBytes) co_return unhealthy(missing_text(check.expect, answer));
    const Ended ended = co_await stream.read_some(&answer, kMaxAnswerBytes);
    if (ended)
      co_return answer.empty() ? *ended : CheckResult{ended->outcome, missing_text(check.expect, answer)};
  }
  co_return healthy(fmt::format("answered {}", shown(answer)));
}

}  // namespace sluice
