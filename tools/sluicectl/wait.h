// Waits for what takes its time, and tells how far it is.
#ifndef SLUICE_TOOLS_SLUICECTL_WAIT_H
#define SLUICE_TOOLS_SLUICECTL_WAIT_H

#include <string>

#include "tools/sluicectl/commands.h"

namespace sluice::ctl {

/// Asks again and again until "POOL/BACKEND" has no connections left, or they are given up. Each change of
/// what is left is a line on `context.err`. Returns the exit code: a failure if somebody ends the drain
/// meanwhile.
int wait_until_drained(const Context &context, const std::string &backend);

}  // namespace sluice::ctl

#endif
