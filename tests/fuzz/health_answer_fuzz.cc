// Any bytes as a backend's answer to a health check: what it means, or that it is none.
#include <cstddef>
#include <cstdint>
#include <string>

#include "controlplane/health/probes/command_words.h"
#include "controlplane/health/probes/expected_bytes.h"
#include "controlplane/health/probes/grpc_health.h"
#include "controlplane/health/probes/mqtt_packet.h"
#include "controlplane/health/probes/quic_version.h"
#include "controlplane/health/probes/sandbox.h"

namespace {

constexpr sluice::QuicConnectionId kDestination = {1, 2, 3, 4, 5, 6, 7, 8};
constexpr sluice::QuicConnectionId kSource = {8, 7, 6, 5, 4, 3, 2, 1};

void require(bool holds) {
  if (!holds) __builtin_trap();
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  const std::string answer(reinterpret_cast<const char *>(data), size);
  const auto versions = sluice::parse_quic_versions(answer, kDestination, kSource);
  if (versions) require(!versions->empty() && versions->size() * 4 < size);
  const auto code = sluice::parse_mqtt_connack(answer);
  if (code) require(!sluice::mqtt_refusal_text(*code).empty() || *code == 0);
  const auto status = sluice::parse_grpc_health_response(answer);
  if (status) require(!sluice::grpc_serving_status_text(*status).empty());
  require(!sluice::grpc_status_text(answer).empty());
  for (const char shown : sluice::shown(answer)) require(shown >= ' ' && shown < 0x7f);
  for (const char shown : sluice::first_line(answer)) require(shown >= ' ' && shown < 0x7f);
  require(sluice::with_first_line("text", answer).starts_with("text"));
  const sluice::model::BackendKey key{"p", "b"};
  const auto words = sluice::command_words({answer}, {.address = "::1", .l4_port = 1, .key = &key});
  require(words.size() == 1 && words[0].size() <= size);
  sluice::sandboxed_exit_status(answer);
  sluice::why_not_executed(127, answer);
  return 0;
}
