#include "controlplane/health/probes/probe.h"

namespace sluice {

const std::optional<Address> &source_of(const CheckSpec &spec) {
  return address_is_ipv4(&spec.address) ? spec.health.source_ipv4 : spec.health.source_ipv6;
}

}  // namespace sluice
