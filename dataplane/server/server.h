// The dataplane's one control thread: takes snapshots, follows the kernel's routes and neighbours,
// and gives the engine its tables.
#ifndef SLUICE_SERVER_SERVER_H
#define SLUICE_SERVER_SERVER_H

#include <chrono>
#include <filesystem>
#include <functional>
#include <memory>
#include <optional>
#include <string>

#include "dataplane/abi/result.h"
#include "dataplane/server/connection_region.h"
#include "dataplane/server/control_socket.h"
#include "dataplane/server/engine.h"
#include "dataplane/server/shared_memory.h"

namespace sluice {

/// Whether the kernel's questions for link addresses reach the link while no worker runs yet: of a tap they
/// do not.
enum class LinksAtStart { kSilent, kCarryQuestions };

struct ServerOptions {
  ControlSocketOptions control_socket;
  std::filesystem::path snapshot_path = "/var/lib/sluice/dataplane/snapshot";
  std::string version;  // of the program, for `hello`
  LinksAtStart links_at_start = LinksAtStart::kSilent;
  // That the stored snapshot may wait for its backends' link addresses, which come late when the kernel has
  // to ask. Nobody misses them meanwhile where a process before this one has left forwarding.
  std::chrono::milliseconds next_hop_wait_at_start = std::chrono::milliseconds(100);
  // Between two looks at the ports' interfaces for which there was no event.
  std::chrono::milliseconds link_look_gap = std::chrono::seconds(30);
  // Called by run() in each of its turns, which take no longer than `longest_turn` while nothing happens.
  std::function<void()> at_each_turn = [] {};
  std::optional<std::chrono::milliseconds> longest_turn;
};

/// Ties control socket, snapshot store, neighbours, ICMP errors and shared memory to one engine.
class Server {
 public:
  /// Opens everything and installs the stored snapshot, if there is a good one. `engine` and the
  /// regions must outlive the server; engine->ports() must be complete.
  /// Errors: control socket or netlink not to be had. A missing or bad stored snapshot is none.
  [[nodiscard]] static Result<std::unique_ptr<Server>> create(const ServerOptions &options, Engine *engine,
                                                              const CounterRegion *counters,
                                                              ConnectionRegion *connections);

  Server(const Server &) = delete;
  Server &operator=(const Server &) = delete;
  ~Server();

  /// Serves until `stop_fd` (an eventfd or signalfd, not read from) is readable.
  /// Errors: epoll failed.
  [[nodiscard]] Status run(int stop_fd);

 private:
  class Impl;
  explicit Server(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace sluice

#endif
