// A TLS handshake.
#include <spdlog/fmt/fmt.h>

#include "controlplane/health/probes/stream.h"

namespace sluice {

ProbeRun run_probe(ProbeContext &context, const CheckSpec &spec, const model::TlsCheck & /*check*/) {
  ProbeStream stream(context, spec);
  if (const Ended ended = co_await stream.connect()) co_return *ended;
  if (const Ended ended = co_await stream.wait_for_verdict()) co_return *ended;
  co_return healthy(fmt::format("{} handshake", stream.tls_version()));
}

}  // namespace sluice
