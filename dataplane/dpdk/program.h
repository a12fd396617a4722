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

/// What an engine of another kind left, which forwards until this one takes its place.
struct Predecessor {
  std::function<Status()> stop;    // its packets wait from now on, and its connections are in the file
  std::function<void()> resume;    // it goes on after stop(): this engine could not start
  std::function<Status()> forget;  // it is not needed any more after stop(): this engine forwards
};

/// Starts DPDK, opens ports and memory, installs the stored snapshot, lets the workers go and serves
/// until `stop_fd` is readable. The predecessor is stopped once, before ports and connections are opened.
/// Errors name the option and the value.
Status run_dpdk(const DataplaneOptions &options, int stop_fd, const Predecessor &predecessor);

}  // namespace sluice

#endif
