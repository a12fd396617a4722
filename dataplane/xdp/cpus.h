// How many connection tables the XDP engine has: one for each CPU that packets may come on.
#ifndef SLUICE_XDP_CPUS_H
#define SLUICE_XDP_CPUS_H

#include <cstdint>
#include <string>

#include "dataplane/abi/result.h"

namespace sluice {

/// The kernel's lists, as in /sys/devices/system/cpu: "0-3,8".
struct CpuLists {
  std::string present;   // that are there
  std::string possible;  // that may be added while it runs
};

struct CpuPlan {
  uint32_t workers = 1;  // CPUs 0 to workers - 1 have a table
  std::string warning;   // of CPUs that have none; empty: no such CPU can be
};

/// All possible CPUs, so that one that is added or brought up later has a table; all that are present where
/// firmware announces so many more that their tables would be a waste of memory, or more than there can be
/// tables. Errors: more CPUs are present than there can be tables; lists that are none.
[[nodiscard]] Result<CpuPlan> plan_cpus(const CpuLists &lists);

/// Reads this host's.
CpuLists read_cpu_lists();

}  // namespace sluice

#endif
