// A TCP server on loopback whose behaviour a test chooses: real sockets, in either family.
#ifndef SLUICE_TESTS_CONTROLPLANE_HEALTH_LOOPBACK_SERVER_H
#define SLUICE_TESTS_CONTROLPLANE_HEALTH_LOOPBACK_SERVER_H

#include <atomic>
#include <functional>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "dataplane/abi/address.h"

namespace sluice {

enum class Family { kIpv4, kIpv6 };

inline const char *family_name(Family family) { return family == Family::kIpv4 ? "ipv4" : "ipv6"; }

/// 127.0.0.1 or ::1.
Address loopback_address(Family family);

/// Accepts on a free port of loopback and hands each connection to `serve`, on a thread of its own. The
/// connection is closed when `serve` returns; it must return soon after stopping() has become true.
class LoopbackServer {
 public:
  using Serve = std::function<void(LoopbackServer &server, int connection)>;

  LoopbackServer(Family family, Serve serve);
  ~LoopbackServer();

  uint16_t l4_port() const { return l4_port_; }
  bool stopping() const { return stopping_; }
  int accepted() const { return accepted_; }

  /// Waits until the server stops.
  void hold() const;

 private:
  void accept_loop();

  Serve serve_;
  int listener_ = -1;
  uint16_t l4_port_ = 0;
  std::atomic<bool> stopping_{false};
  std::atomic<int> accepted_{0};
  std::vector<std::jthread> connections_;
  std::jthread acceptor_;
};

/// A port of loopback on which nobody listens; kept from others by a bound socket while this lives.
class ClosedPort {
 public:
  explicit ClosedPort(Family family);
  ~ClosedPort();
  uint16_t l4_port() const { return l4_port_; }

 private:
  int socket_ = -1;
  uint16_t l4_port_ = 0;
};

/// A port of loopback that leaves a handshake unanswered: it listens, never accepts, and its queue is full.
class SilentPort {
 public:
  explicit SilentPort(Family family);
  ~SilentPort();
  uint16_t l4_port() const { return l4_port_; }

 private:
  int listener_ = -1;
  uint16_t l4_port_ = 0;
  std::vector<int> fillers_;
};

/// Reads up to the blank line that ends a request's header; what was read.
std::string read_request(int connection);

/// Sends all of `text`; false when the peer does not take it.
bool send_text(int connection, const std::string &text);

}  // namespace sluice

#endif
