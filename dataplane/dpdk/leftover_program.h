// An AF_XDP port that was killed leaves its XDP program on the interface, and the next one then cannot
// start. This finds such a program and takes it away.
#ifndef SLUICE_DPDK_LEFTOVER_PROGRAM_H
#define SLUICE_DPDK_LEFTOVER_PROGRAM_H

#include <string>

#include "dataplane/abi/result.h"

namespace sluice {

/// Detaches the XDP program on `interface` if it is AF_XDP's default program (libxdp's xsk_def_prog or
/// its dispatcher) and no process holds it any more. Answers with what was done, "" when there is no
/// program.
/// Errors: the interface does not exist; a program of another kind, or one in use by a living process:
/// the message says which, and how to remove it.
Result<std::string> remove_leftover_program(const std::string &interface);

}  // namespace sluice

#endif
