// Whether a QUIC server answers, without any cryptography.
#include <netinet/in.h>
#include <spdlog/fmt/fmt.h>

#include "controlplane/health/probes/datagram.h"
#include "controlplane/health/probes/expected_bytes.h"
#include "controlplane/health/probes/quic_version.h"

namespace sluice {

namespace {

// Nobody needs to guess them: the socket receives from the backend alone.
constexpr QuicConnectionId kDestination = {'s', 'l', 'u', 'i', 'c', 'e', '-', 'd'};
constexpr QuicConnectionId kSource = {'s', 'l', 'u', 'i', 'c', 'e', '-', 's'};

std::string versions_text(const std::vector<uint32_t> &versions) {
  constexpr size_t kMostShown = 8;
  std::string text;
  for (size_t i = 0; i < std::min(versions.size(), kMostShown); ++i) {
    text += fmt::format("{}{:x}", text.empty() ? "" : ", ", versions[i]);
  }
  return text + (versions.size() > kMostShown ? ", ..." : "");
}

}  // namespace

ProbeRun run_probe(ProbeContext &context, const CheckSpec &spec, const model::QuicCheck & /*check*/) {
  ProbeDatagram socket(context, spec, IPPROTO_UDP);
  if (const Ended ended = socket.open()) co_return *ended;
  const std::string probe = quic_version_probe(kDestination, kSource);
  if (const Ended ended = co_await socket.send(probe)) co_return *ended;
  std::string answer;
  if (const Ended ended = co_await socket.receive(&answer)) co_return *ended;
  const auto versions = parse_quic_versions(answer, kDestination, kSource);
  if (!versions)
    co_return unhealthy(fmt::format("answered {}, which is no QUIC version negotiation", shown(answer)));
  co_return healthy("QUIC versions " + versions_text(*versions));
}

}  // namespace sluice
