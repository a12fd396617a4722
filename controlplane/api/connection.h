// One connection to the API, whatever its transport, and what all of them share.
#ifndef SLUICE_CONTROLPLANE_API_CONNECTION_H
#define SLUICE_CONTROLPLANE_API_CONNECTION_H

#include <chrono>
#include <cstddef>
#include <functional>
#include <list>
#include <memory>

#include "controlplane/api/caller.h"
#include "controlplane/api/gate.h"
#include "controlplane/api/message.h"
#include "controlplane/api/tls_context.h"

namespace sluice::api {

/// Answers a request by calling `reply` once, on any thread, then or later.
using Reply = std::function<void(Response response)>;
using Handler = std::function<void(Request request, Reply reply)>;

/// How long each part of a connection's life may take.
struct Times {
  std::chrono::milliseconds header{10'000};    // a TLS handshake; a request's header, from its first byte or
                                               // the beginning of the connection
  std::chrono::milliseconds body{30'000};      // a request's body
  std::chrono::milliseconds idle{60'000};      // between two requests
  std::chrono::milliseconds response{30'000};  // for a client to take an answer
};

class Connection {
 public:
  enum class Phase {
    kStranger,  // has not shown who it is
    kIdle,      // has, and waits for its next request
    kBusy,      // is being served
  };

  virtual ~Connection() = default;
  /// Ends it at once.
  virtual void close() = 0;

  Phase phase() const { return phase_; }
  const Peer &peer() const { return peer_; }

 protected:
  explicit Connection(Peer peer) : peer_(std::move(peer)) {}

  Phase phase_ = Phase::kStranger;
  Peer peer_;
};

/// What the connections of one side, the Unix socket or HTTPS, share. Holds them while they last.
class Hub {
 public:
  Hub(Gate &its_gate, Handler its_handler) : gate(its_gate), handler(std::move(its_handler)) {}

  void add(std::shared_ptr<Connection> connection) { connections_.push_back(std::move(connection)); }
  void remove(const Connection *connection);
  void close_all();

  size_t size() const { return connections_.size(); }
  size_t count_of(const std::string &limit_key) const;

  /// Ends the stranger that has been there longest, or else the connection that has been idle; false when all
  /// are busy.
  bool make_room();
  /// Ends those that are not being served.
  void close_unserved();

  Gate &gate;
  Handler handler;
  Times times;
  TlsContext tls;                      // of new connections; null on a Unix socket
  size_t max_header_bytes = 8 * 1024;  // more is answered with 431
  uint64_t rules = 0;                  // raised with other rules: a connection of before ends with its answer
  std::function<void()> on_room;       // after a connection has ended, or an answer was sent

 private:
  std::list<std::shared_ptr<Connection>> connections_;  // the oldest first
};

}  // namespace sluice::api

#endif
