// What sluicectl exits with. Scripts rely on these: they are part of the interface.
#ifndef SLUICE_TOOLS_SLUICECTL_EXIT_CODES_H
#define SLUICE_TOOLS_SLUICECTL_EXIT_CODES_H

namespace sluice::ctl {

enum ExitCode {
  kExitOk = 0,
  kExitFailure = 1,        // sluiced could not do it or does not let you, or the dataplane refused it
  kExitUsage = 2,          // the command line, or a value on it, is wrong
  kExitNotFound = 3,       // no service or backend of that name
  kExitUnreachable = 4,    // sluiced does not answer
  kExitInvalidConfig = 5,  // the configuration has errors
  kExitConflict = 6,       // somebody has changed something meanwhile, or it would move too much
  kExitPending = 7,        // sluiced has taken the change over, but the dataplane does not have it yet
};

}  // namespace sluice::ctl

#endif
