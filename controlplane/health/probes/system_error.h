// What an error of the kernel says of a check: the backend's fault, or this host's.
#ifndef SLUICE_CONTROLPLANE_HEALTH_PROBES_SYSTEM_ERROR_H
#define SLUICE_CONTROLPLANE_HEALTH_PROBES_SYSTEM_ERROR_H

#include "controlplane/health/check.h"

namespace sluice {

/// How a check of `address` ends when socket(), connect(), send() or receive() fails with `error` (an errno).
CheckResult judge_system_error(int error, const Address &address);

/// The same, when it is known whether this host has an address to send from.
enum class SourceAddress : uint8_t { kExists, kMissing };
CheckResult judge_system_error(int error, SourceAddress source);

/// How a check ends whose socket cannot be bound to `source`, the address that the operator chose: it says
/// nothing of the backend.
CheckResult source_failure(const Address &source, int error);

}  // namespace sluice

#endif
