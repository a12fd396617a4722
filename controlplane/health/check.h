// What one health check asks of one backend, and what came of it.
#ifndef SLUICE_CONTROLPLANE_HEALTH_CHECK_H
#define SLUICE_CONTROLPLANE_HEALTH_CHECK_H

#include <cstdint>
#include <string>
#include <utility>

#include "controlplane/model/address_text.h"
#include "controlplane/model/desired_state.h"
#include "controlplane/model/health_check.h"
#include "dataplane/abi/address.h"

namespace sluice {

/// One check of one backend. The address is used as it is: no name is ever looked up.
struct CheckSpec {
  Address address{};
  uint16_t l4_port = 0;  // 0: the kind of check has none
  model::HealthSpec health;
  model::BackendKey backend;  // what it is called
  // Through the data path: the first of the kCheckPortsPerPin ports that a check comes from. 0: the kernel's
  // choice.
  uint16_t first_source_port = 0;
  std::string rests;  // why it is not carried out for now; empty: it is

  bool operator==(const CheckSpec &) const = default;
};

/// kNotCarriedOut: this host could not ask (no descriptors, no local ports, no memory). It says nothing
/// of the backend and must not change its state.
enum class CheckOutcome { kSuccess, kFailure, kNotCarriedOut };

/// What came of one check, and why, in words ("connection refused", "HTTP status 503, expected 200-399").
struct CheckResult {
  CheckOutcome outcome = CheckOutcome::kNotCarriedOut;
  std::string text;
};

inline CheckResult healthy(std::string text) { return {CheckOutcome::kSuccess, std::move(text)}; }
inline CheckResult unhealthy(std::string text) { return {CheckOutcome::kFailure, std::move(text)}; }
/// `why` is this host's: "out of memory on this host".
inline CheckResult not_carried_out(const std::string &why) {
  return {CheckOutcome::kNotCarriedOut, "not checked: " + why};
}

}  // namespace sluice

#endif
