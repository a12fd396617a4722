// sluiced as a whole: its parts, its event loop and its signals.
#ifndef SLUICE_CONTROLPLANE_SLUICED_DAEMON_H
#define SLUICE_CONTROLPLANE_SLUICED_DAEMON_H

#include "controlplane/sluiced/options.h"

namespace sluice {

/// Runs until SIGTERM or SIGINT. Returns the exit code; what went wrong is in the log.
int run_daemon(const Options &options);

/// `sluiced --check-config`: prints every error to standard error, or a summary to standard output.
int check_config_file(const std::filesystem::path &path);

}  // namespace sluice

#endif
