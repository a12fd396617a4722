// What the operator wants: the configuration, checked and complete (every default filled in).
// Made by config/, read by everything else. Plain values; the namespace keeps these types apart from
// the snapshot's records of the same names.
#ifndef SLUICE_CONTROLPLANE_MODEL_DESIRED_STATE_H
#define SLUICE_CONTROLPLANE_MODEL_DESIRED_STATE_H

#include <chrono>
#include <compare>
#include <cstdint>
#include <cstring>
#include <optional>
#include <string>
#include <vector>

#include "controlplane/model/address_text.h"
#include "controlplane/model/api_access.h"
#include "controlplane/model/discovery.h"
#include "controlplane/model/health_check.h"
#include "controlplane/model/passive_health.h"
#include "dataplane/abi/address.h"
#include "dataplane/abi/snapshot.h"

namespace sluice {

inline bool operator==(const FlowHashKey &a, const FlowHashKey &b) {
  return std::memcmp(&a, &b, sizeof(FlowHashKey)) == 0;
}

namespace model {

enum class Scheduler : uint8_t { kMaglev, kLeastConnection };
enum class Forwarding : uint8_t { kIpip };

/// Layer 4 ports `first` to `last`, both included. "all" is 0 to 65535; a port or a range that the
/// operator writes starts at 1, so it is always smaller than "all".
struct PortSpan {
  uint16_t first = 0;
  uint16_t last = 65535;

  bool operator==(const PortSpan &) const = default;
  bool is_all() const { return first == 0; }
  uint32_t size() const { return uint32_t{last} - first + 1; }
};

/// Whole seconds, 1 to SLUICE_MAX_TIMEOUT_S each. What they mean: sluice::Service in the ABI.
struct Timeouts {
  std::chrono::seconds embryonic{10};
  std::chrono::seconds established{900};
  std::chrono::seconds closing{10};
  std::chrono::seconds udp{30};

  bool operator==(const Timeouts &) const = default;
};

/// A number of backends, or a share of those that the operator has not taken out.
struct QuorumThreshold {
  uint32_t number = 0;
  bool is_percent = false;

  bool operator==(const QuorumThreshold &) const = default;
};

enum class QuorumAction : uint8_t { kServeAll, kBackupPool, kWithdraw };

/// What a service does when too few of its pool's backends take new connections: fewer than `min` begins it,
/// `recover` or more ends it.
struct Quorum {
  QuorumThreshold min;
  QuorumThreshold recover;
  QuorumAction action = QuorumAction::kWithdraw;
  std::string backup_pool;  // names another Pool; with kBackupPool only

  bool operator==(const Quorum &) const = default;
};

/// One service: what clients connect to. A port covered twice on one VIP and protocol belongs to the
/// smallest span that covers it (exact port, then smaller range, then larger range, then all).
struct Service {
  std::string name;
  std::vector<Address> vips;  // at least one, no duplicates
  Protocol protocol = Protocol::kTcp;
  std::vector<PortSpan> ports;  // at least one
  std::string pool;             // names a Pool of the same DesiredState
  Scheduler scheduler = Scheduler::kMaglev;
  Timeouts timeouts;
  std::optional<Quorum> quorum;

  bool operator==(const Service &) const = default;
};

/// One member of one pool.
struct BackendSpec {
  std::string name;  // unique in its pool
  Address address{};
  uint16_t weight = 100;  // 1 to kMaxWeight; 0 only together with drain
  bool drain = false;     // the operator asked for it: "drain: true" or "weight: 0"
  uint16_t priority = 0;  // new connections go to the lowest number that has a backend to take them
  std::optional<Address> check_address = std::nullopt;  // what checks ask; absent: `address`
  uint16_t check_port = 0;                              // layer 4; 0: the pool's

  bool is_found = false;                                     // by the pool's source, not configured
  std::optional<uint16_t> configured_weight = std::nullopt;  // `weight` is the operator's, instead of this

  const Address &checked_address() const { return check_address ? *check_address : address; }

  bool operator==(const BackendSpec &) const = default;
};

/// A backend that goes down `falls` times within `window` must then be well for `hold` before it takes new
/// connections again.
struct FlapDamping {
  uint16_t falls = 3;
  std::chrono::seconds window{300};
  std::chrono::seconds hold{60};

  bool operator==(const FlapDamping &) const = default;
};

struct Pool {
  std::string name;
  Forwarding forwarding = Forwarding::kIpip;
  uint32_t slots = 65537;             // prime
  bool fail_open = false;             // all backends failed: schedule among all instead of dropping
  std::vector<BackendSpec> backends;  // may be empty
  HealthSpec health;
  std::chrono::milliseconds slow_start{0};             // 0: the whole weight at once
  std::optional<std::chrono::seconds> drain_deadline;  // absent: a drain waits for the last connection
  std::optional<FlapDamping> flap_damping;
  DiscoverySpec discovery;
  std::optional<PassiveHealth> passive;

  bool operator==(const Pool &) const = default;
};

/// How much one change may move of any service before it is refused, in percent: of its hash slots, and of
/// its live connections.
struct MaxMoved {
  uint8_t slots_percent = 100;
  uint8_t connections_percent = 10;

  bool operator==(const MaxMoved &) const = default;
};

/// One whole configuration.
struct DesiredState {
  std::optional<FlowHashKey> flow_hash_key;  // absent: the key that the state store keeps
  std::chrono::seconds removed_backend_grace{7200};
  MaxMoved max_moved;
  ApiSpec api;
  std::vector<Service> services;  // in the file's order
  std::vector<Pool> pools;        // in the file's order

  bool operator==(const DesiredState &) const = default;
};

/// What names a backend in every revision of a configuration.
struct BackendKey {
  std::string pool;
  std::string name;

  /// As people write it: "POOL/BACKEND".
  std::string text() const { return pool + "/" + name; }

  auto operator<=>(const BackendKey &) const = default;  // NOLINT(modernize-use-nullptr): its own 0
};

}  // namespace model
}  // namespace sluice

template <>
struct std::hash<sluice::model::BackendKey> {
  size_t operator()(const sluice::model::BackendKey &key) const noexcept {
    const size_t pool = std::hash<std::string>{}(key.pool);
    return pool * 0x9e3779b97f4a7c15ull ^ std::hash<std::string>{}(key.name);
  }
};

#endif
