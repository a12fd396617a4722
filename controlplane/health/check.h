// What one health check asks, and what came of it.
#ifndef SLUICE_CONTROLPLANE_HEALTH_CHECK_H
#define SLUICE_CONTROLPLANE_HEALTH_CHECK_H

#include <chrono>
#include <cstdint>
#include <string>

#include "controlplane/model/address_text.h"
#include "dataplane/abi/address.h"

namespace sluice {

enum class CheckType { kTcp, kHttp };

/// One check of one backend: a TCP handshake, or one HTTP/1.1 GET whose status is in a range.
/// The address is used as it is: no name is ever looked up.
struct CheckSpec {
  CheckType type = CheckType::kTcp;
  Address address{};
  uint16_t l4_port = 0;
  std::string path = "/";       // HTTP: the request target, starting with '/'
  std::string host;             // HTTP: the Host header; empty: the address
  unsigned first_status = 200;  // HTTP: inclusive
  unsigned last_status = 399;   // HTTP: inclusive
  std::chrono::milliseconds interval{1000};
  std::chrono::milliseconds timeout{500};
  unsigned rise = 2;  // successes in a row that bring a backend back
  unsigned fall = 3;  // failures in a row that take it out

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

}  // namespace sluice

#endif
