// The dataplane as a program over the DPDK engine: from options to a server that runs.
#ifndef SLUICE_DPDK_PROGRAM_H
#define SLUICE_DPDK_PROGRAM_H

#include <functional>

#include "dataplane/abi/result.h"
#include "dataplane/options.h"

namespace sluice {

/// Memory that the ports and workers of these options need, in MB; nothing is started.
/// Errors: options that no DPDK engine can run with, more workers than cores.
Result<size_t> dpdk_memory_mb(const DataplaneOptions &options);

/// Starts DPDK, opens ports and memory, installs the stored snapshot, lets the workers go and serves
/// until `stop_fd` is readable. `take_over` is called once, before ports and connections are opened: it takes
/// away what an engine of another kind left. Errors name the option and the value.
Status run_dpdk(const DataplaneOptions &options, int stop_fd, const std::function<Status()> &take_over);

}  // namespace sluice

#endif
