#include "dataplane/program.h"

#include <algorithm>
#include <chrono>
#include <memory>
#include <optional>
#include <utility>

#include <fmt/format.h>
#include <grp.h>
#include <spdlog/spdlog.h>
#include <systemd/sd-daemon.h>

#include "dataplane/confinement.h"
#include "dataplane/server/state_directory.h"

namespace sluice {
namespace {

using Clock = std::chrono::steady_clock;

/// Tells systemd's watchdog that the thread which calls it goes round.
class Watchdog {
 public:
  Watchdog() {
    uint64_t limit_us = 0;
    if (sd_watchdog_enabled(0, &limit_us) > 0) gap_ = std::chrono::microseconds(limit_us / 4);
  }

  /// Longest time between two calls of turn(); nothing when nobody watches.
  std::optional<std::chrono::milliseconds> longest_turn() const {
    if (!gap_) return std::nullopt;
    return std::max(std::chrono::milliseconds(1), std::chrono::floor<std::chrono::milliseconds>(*gap_));
  }

  void turn(Clock::time_point now) {
    if (!gap_ || now < next_) return;
    next_ = now + *gap_ / 2;
    sd_notify(0, "WATCHDOG=1");
  }

 private:
  std::optional<std::chrono::microseconds> gap_;
  Clock::time_point next_ = Clock::time_point::min();
};

/// What the process may still do, as it becomes less.
class Privileges {
 public:
  explicit Privileges(std::function<std::vector<int>()> needed) : needed_(std::move(needed)) {}

  /// Forwarding is worth more than this: what fails is logged as an error, and it goes on.
  void give_up() {
    follow();
    const Status filtered = filter_system_calls();
    if (!filtered.ok()) spdlog::error("system calls are not confined: {}", filtered.error().message);
  }

  /// When less is needed than before.
  void follow() {
    std::vector<int> needed = needed_();
    if (kept_ == needed) return;
    kept_ = std::move(needed);
    const Status given_up = keep_capabilities(*kept_);
    if (given_up.ok())
      spdlog::info("capabilities from now on: {}", capability_names(*kept_));
    else
      spdlog::error("not all capabilities are given up: {}", given_up.error().message);
  }

 private:
  std::function<std::vector<int>()> needed_;
  std::optional<std::vector<int>> kept_;
};

}  // namespace

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
  Watchdog watchdog;
  Privileges privileges(serving.capabilities);
  ServerOptions watched = options;
  watched.longest_turn = watchdog.longest_turn();
  watched.at_each_turn = [&] {
    watchdog.turn(Clock::now());
    privileges.follow();
  };
  Result<std::unique_ptr<Server>> server =
      Server::create(watched, serving.engine, serving.counters, serving.connections);
  if (!server.ok()) return server.error();
  // Only now, with the stored snapshot in force: without it, established connections would be the kernel's.
  Status started = serving.start();
  if (!started.ok()) return started;
  privileges.give_up();
  sd_notify(0, "READY=1");
  const uint32_t workers = serving.counters->header().worker_count;
  spdlog::info("forwarding with {} worker{}", workers, workers == 1 ? "" : "s");
  Status served = server.value()->run(stop_fd);
  sd_notify(0, "STOPPING=1");
  return served;
}

}  // namespace sluice
