// The dataplane as a program over the XDP engine: from options to a server that runs.
#ifndef SLUICE_XDP_PROGRAM_H
#define SLUICE_XDP_PROGRAM_H

#include <functional>
#include <string>

#include "dataplane/abi/result.h"
#include "dataplane/options.h"

namespace sluice {

/// Takes away what a killed DPDK engine left on an interface; answers with what was done, "" for nothing.
/// Errors: it cannot be, or is not such an engine's.
using LeftoverRemover = std::function<Result<std::string>(const std::string &interface)>;

/// Looks at the interfaces, opens memory (of the process before this one, if it fits), installs the stored
/// snapshot, attaches and serves until `stop_fd` is readable. Forwarding then goes on, unless the options say
/// otherwise. Errors name the option and the value.
Status run_xdp(const DataplaneOptions &options, int stop_fd, const LeftoverRemover &remove_leftover);

/// --detach: ends what is pinned. Nothing there is fine.
Status run_detach(const DataplaneOptions &options);

}  // namespace sluice

#endif
