// What the dataplane as a program does with either engine: the server's options, directories, and serving
// until it is told to stop.
#ifndef SLUICE_DATAPLANE_PROGRAM_H
#define SLUICE_DATAPLANE_PROGRAM_H

#include <functional>
#include <vector>

#include "dataplane/abi/result.h"
#include "dataplane/options.h"
#include "dataplane/server/connection_region.h"
#include "dataplane/server/engine.h"
#include "dataplane/server/server.h"
#include "dataplane/server/shared_memory.h"

namespace sluice {

/// Also makes the directories of the files: the defaults' are not there on a fresh host.
/// Errors: the control group does not exist, a directory cannot be made.
[[nodiscard]] Result<ServerOptions> prepare_server(const DataplaneOptions &options);

/// An engine that is ready for its first snapshot.
struct Serving {
  Engine *engine;
  const CounterRegion *counters;
  ConnectionRegion *connections;
  std::function<Status()> start;  // lets packets in, with the stored snapshot in force
  // CAP_... that it needs from now on; asked again as it runs, for what becomes less.
  std::function<std::vector<int>()> capabilities;
};

/// Installs the stored snapshot, starts the engine, gives up the privileges that were for that, tells the
/// service manager that it serves, and serves until `stop_fd` is readable. The service manager's watchdog
/// hears of each turn of the server's thread.
[[nodiscard]] Status serve(const ServerOptions &options, const Serving &serving, int stop_fd);

}  // namespace sluice

#endif
