// Where packets to a backend go: for every backend address the kernel's route, and for every next hop
// the kernel's link address, kept as they change. The kernel decides and resolves; this asks, listens
// and writes down Egress records.
#ifndef SLUICE_SERVER_NEIGHBOURS_H
#define SLUICE_SERVER_NEIGHBOURS_H

#include <chrono>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "dataplane/abi/egress.h"
#include "dataplane/abi/result.h"
#include "dataplane/abi/snapshot.h"
#include "dataplane/server/engine.h"

namespace sluice {

/// The next hop of one backend, for `status`.
struct NextHopStatus {
  uint32_t backend = 0;  // identifier
  std::string state;  // "ready", or why not: "no route to 10.1.0.11", "waiting for the link address of ..."
  std::string via;    // "10.0.0.1 dev eth0", empty without a route
};

/// How many next hops of the snapshot's backends are known.
struct NextHopCounts {
  uint32_t ready = 0;
  uint32_t waiting = 0;      // asked, no answer yet
  uint32_t unreachable = 0;  // no route through a port, link down, or nobody answers
};

/// Not thread-safe: the server's thread owns it.
class Neighbours {
 public:
  /// Opens the netlink sockets and reads links and neighbours. `ports`: routes count only if they
  /// leave by one of these. Errors: netlink refused.
  [[nodiscard]] static Result<std::unique_ptr<Neighbours>> open(const std::vector<EnginePort> &ports);

  Neighbours(const Neighbours &) = delete;
  Neighbours &operator=(const Neighbours &) = delete;
  ~Neighbours();

  /// An epoll descriptor: readable when `process` has something to do.
  int fd() const;

  /// Takes the snapshot's backends (index = identifier). What is known of an address stays known; new
  /// addresses are asked for.
  void set_backends(std::span<const Backend> backends);

  /// Other ports than before: what is known of routes by those that stay stays known.
  void set_ports(const std::vector<EnginePort> &ports);

  enum class Links { kSame, kChanged };
  /// Whether interfaces have come, gone or got another name or MTU since this was last asked.
  Links take_link_changes();

  enum class Change { kNone, kEgress };

  /// Reads events and asks the kernel, a bounded number of questions per call, never waits. `now` paces
  /// the questions.
  /// kEgress: `egress()` may differ from what it was before the call.
  Change process(std::chrono::steady_clock::time_point now);

  /// Backends that take new connections, came with the last set_backends, and are neither ready nor
  /// given up: what a publication may wait for, for a moment.
  uint32_t pending_new_backends() const;
  /// Those of them whose route the kernel has not been asked for yet.
  uint32_t unasked_new_backends() const;

  /// One record per backend, as dataplane/abi/egress.h says.
  std::vector<Egress> egress() const;

  NextHopCounts counts() const;

  /// At most `limit` backends, those that are not ready first.
  std::vector<NextHopStatus> status(size_t limit) const;
  /// Of one backend of the snapshot; nothing of what is none.
  NextHopStatus status_of(uint32_t backend) const;

 private:
  class Impl;
  explicit Neighbours(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace sluice

#endif
