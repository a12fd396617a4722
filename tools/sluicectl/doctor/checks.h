// The doctor's checks. Each looks at the host's files and at what sluiced says, changes nothing, and says
// something of everything that it has looked at.
#ifndef SLUICE_TOOLS_SLUICECTL_DOCTOR_CHECKS_H
#define SLUICE_TOOLS_SLUICECTL_DOCTOR_CHECKS_H

#include <cstdint>

#include "tools/sluicectl/doctor/finding.h"
#include "tools/sluicectl/doctor/host.h"
#include "tools/sluicectl/doctor/system.h"

namespace sluice::ctl {

// host_checks.cc
Findings check_huge_pages(const Host &host, const SystemFacts &system);
Findings check_memlock(const Host &host, const SystemFacts &system);
Findings check_btf(const Host &host, const SystemFacts &system);
Findings check_cores(const Host &host, const SystemFacts &system);
Findings check_governor(const Host &host, const SystemFacts &system);
Findings check_iommu(const Host &host, const SystemFacts &system);
enum class ClockState { kSynchronized, kUnsynchronized, kUnknown };
Findings check_clock(const Host &host, const SystemFacts &system, ClockState clock);

// network_checks.cc
Findings check_nics(const Host &host, const SystemFacts &system);
Findings check_xdp_mode(const SystemFacts &system);
Findings check_mtu(const Host &host, const SystemFacts &system);
Findings check_rp_filter(const Host &host, const SystemFacts &system);

// service_checks.cc
Findings check_daemons(const SystemFacts &system);
Findings check_backends(const SystemFacts &system);
Findings check_certificate(const Host &host, const SystemFacts &system, int64_t now_unix_s);

/// Checks that go through the data path, and those that it has forwarded, at two moments.
struct PathCounts {
  uint64_t targets = 0;    // backends that are checked so
  uint64_t ended = 0;      // such checks
  uint64_t forwarded = 0;  // packets of verdict forward_check
};
Findings check_path(const PathCounts &before, const PathCounts &after);

}  // namespace sluice::ctl

#endif
