// Carries out health checks: thousands at a time on the one thread that calls serve_until().
#ifndef SLUICE_CONTROLPLANE_HEALTH_PROBER_H
#define SLUICE_CONTROLPLANE_HEALTH_PROBER_H

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>

#include "controlplane/health/check.h"
#include "dataplane/abi/result.h"

namespace sluice {

/// A coroutine for each check (probes/) on one Asio loop. Each check is a connection of its own: nothing is
/// kept, looked up, proxied or redirected, and at most kMaxAnswerBytes of an answer are read.
/// All deadlines are on CLOCK_MONOTONIC. Not thread-safe, except for wake().
class Prober {
 public:
  using Clock = std::chrono::steady_clock;
  /// Called within serve_until() when a check has ended; it may start others.
  using Done = std::function<void(uint64_t token, const CheckResult &result)>;

  /// Called within serve_until() when a check begins: it has waited for its turn since start(). Whether it is
  /// still wanted: otherwise it ends without having asked. It must not start others.
  using Begun = std::function<bool(uint64_t token)>;

  /// Fails when the host gives no epoll or event descriptor.
  static Result<std::unique_ptr<Prober>> create(Done done, Begun begun = nullptr);
  ~Prober();
  Prober(const Prober &) = delete;
  Prober &operator=(const Prober &) = delete;

  /// Starts a check; its end is reported with `token`.
  void start(uint64_t token, const CheckSpec &spec);

  /// Waits until a check needs serving, `deadline` or a wake(), serves what needs it, and reports the checks
  /// that have ended. Call it in a loop.
  void serve_until(Clock::time_point deadline);

  /// Makes serve_until() return soon. Safe from any thread.
  void wake();

  /// Checks that have started and not ended, but for those that wait for their turn.
  size_t running() const;

  /// Checks that wait for their turn: they use nothing of this host meanwhile but memory.
  size_t waiting() const;

 private:
  struct Impl;
  explicit Prober(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

/// How many checks may run at once, out of a limit of `descriptors` open files (RLIMIT_NOFILE): all but
/// a reserve for the daemon's own files, at least 16 and at most 16384.
size_t concurrent_check_limit(uint64_t descriptors);

}  // namespace sluice

#endif
