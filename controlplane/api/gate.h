// The door of the API: who is let in, how often, and what the audit log says of it.
#ifndef SLUICE_CONTROLPLANE_API_GATE_H
#define SLUICE_CONTROLPLANE_API_GATE_H

#include <chrono>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <variant>

#include "controlplane/api/access.h"
#include "controlplane/api/audit_log.h"
#include "controlplane/api/message.h"
#include "controlplane/api/rate_limiter.h"

namespace sluice::api {

/// What is known of a request before its body is read.
struct RequestHead {
  std::string method;
  std::string target;
  std::string authorization;  // empty: none was sent
};

/// Used by the API's thread alone.
class Gate {
 public:
  using Clock = std::chrono::steady_clock;

  /// Lets in everybody as admin, and logs nothing: until use() and log_to().
  Gate();

  void use(Access access, const model::ApiLimits &limits);
  /// Refusals have a log of their own: whoever is refused often enough must not push changes out of theirs.
  void log_to(AuditLog changes, AuditLog refusals);

  /// Who asks; or the answer that sends them away: 401, 403 with the role that is needed, or 429.
  std::variant<Caller, Response> admit(const Peer &peer, const RequestHead &head, Clock::time_point now);

  /// Holds a place among the requests of one identity that are served at once.
  using Turn = std::shared_ptr<void>;
  static constexpr size_t kMaxTurns = 8;

  /// To be kept until the answer is sent: answers may be large, and whoever does not read them must not have
  /// any number of them wait. Null when the identity has no place left.
  Turn begin_turn(const Peer &peer, const Caller &caller);

  /// Whether somebody may open one more connection.
  bool may_connect(const Peer &peer, Clock::time_point now);

  /// A TLS handshake that failed, and why.
  void note_handshake_failure(const Peer &peer, const std::string &why, Clock::time_point now);

  /// What became of a request that was let in: a line when it was to change something, or was refused.
  void note(const Request &request, const Response &response, Clock::time_point now);

  /// A change that came past the API, as by a signal.
  void note_order(const std::string &who, const std::string &what, const ChangeNote &change);

 private:
  Response deny(const Peer &peer, const RequestHead &head, const Denial &denial, Clock::time_point now);
  void note_refusal(const std::string &key, nlohmann::ordered_json line, Clock::time_point now);

  Access access_;
  RateLimiter requests_;     // by identity
  RateLimiter anonymous_;    // by address: what is open to everybody
  RateLimiter failures_;     // by address
  RateLimiter connections_;  // by address
  RateLimiter refusals_;     // by address: lines of the log
  uint64_t suppressed_ = 0;  // of these
  std::shared_ptr<std::unordered_map<std::string, size_t>>
      turns_;  // by identity; a turn may outlive the gate
  std::optional<AuditLog> change_log_;
  std::optional<AuditLog> refusal_log_;
};

}  // namespace sluice::api

#endif
