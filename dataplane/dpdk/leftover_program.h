// An AF_XDP port that was killed leaves its XDP program on the interface, and the next one then cannot
// start. This finds such a program and takes it away.
#ifndef SLUICE_DPDK_LEFTOVER_PROGRAM_H
#define SLUICE_DPDK_LEFTOVER_PROGRAM_H

#include <string>

#include "dataplane/abi/result.h"

namespace sluice {

/// Detaches the XDP program on `interface` if it is AF_XDP's default program, alone (xsk_def_prog) or as
/// the only kind of program under libxdp's dispatcher, and no process holds it any more. Answers with
/// what was done, "" when there is no program.
/// Errors: the interface does not exist; any other program or a dispatcher with one, or one in use by a
/// living process: the message says which, and how to remove it.
Result<std::string> remove_leftover_program(const std::string &interface);

}  // namespace sluice

#endif
