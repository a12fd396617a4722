#include "controlplane/health/probes/probe.h"

namespace sluice {

const std::optional<Address> &source_of(const CheckSpec &spec) {
  return address_is_ipv4(&spec.address) ? spec.health.source_ipv4 : spec.health.source_ipv6;
}

uint16_t choose_source_port(ProbeContext &context, const CheckSpec &spec) {
  if (spec.first_source_port == 0) return 0;
  std::uniform_int_distribution<uint16_t> offset(0, kCheckPortsPerPin - 1);
  return static_cast<uint16_t>(spec.first_source_port + offset(context.random));
}

}  // namespace sluice
