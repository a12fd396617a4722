#include "dataplane/program.h"

#include <memory>

#include <fmt/format.h>
#include <grp.h>
#include <spdlog/spdlog.h>
#include <systemd/sd-daemon.h>

#include "dataplane/server/state_directory.h"

namespace sluice {

Result<ServerOptions> prepare_server(const DataplaneOptions &options) {
  ServerOptions server;
  server.control_socket.path = options.control_socket;
  server.snapshot_path = options.snapshot;
  server.version = SLUICE_VERSION;
  if (!options.control_group.empty()) {
    const group *found = getgrnam(options.control_group.c_str());
    if (!found) return Error{fmt::format("--control-group: there is no group \"{}\"", options.control_group)};
    server.control_socket.group = found->gr_gid;
  }
  Status made = make_directory_of(server.control_socket.path, server.control_socket.group);
  if (made.ok()) made = make_directory_of(options.connections);
  if (made.ok()) made = make_directory_of(server.snapshot_path);
  if (!made.ok()) return made.error();
  return server;
}

Status serve(const ServerOptions &options, const Serving &serving, int stop_fd) {
  Result<std::unique_ptr<Server>> server =
      Server::create(options, serving.engine, serving.counters, serving.connections);
  if (!server.ok()) return server.error();
  // Only now, with the stored snapshot in force: without it, established connections would be the kernel's.
  Status started = serving.start();
  if (!started.ok()) return started;
  sd_notify(0, "READY=1");
  const uint32_t workers = serving.counters->header().worker_count;
  spdlog::info("forwarding with {} worker{}", workers, workers == 1 ? "" : "s");
  Status served = server.value()->run(stop_fd);
  sd_notify(0, "STOPPING=1");
  return served;
}

}  // namespace sluice
