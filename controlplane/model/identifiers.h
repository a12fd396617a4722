// Identifiers that stay the same from snapshot to snapshot: connections in the dataplane name their
// backend and their VIP by them, so giving one to another backend too early mixes up connections.
#ifndef SLUICE_CONTROLPLANE_MODEL_IDENTIFIERS_H
#define SLUICE_CONTROLPLANE_MODEL_IDENTIFIERS_H

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <unordered_map>
#include <vector>

#include "controlplane/model/check_pins.h"
#include "controlplane/model/desired_state.h"
#include "controlplane/model/observed_state.h"
#include "controlplane/model/snapshot_view.h"
#include "dataplane/abi/result.h"

namespace sluice::model {

/// A backend that is no longer in the configuration, kept for its connections.
struct RemovedBackend {
  BackendKey key;
  Address address{};
  uint16_t id = 0;
  uint64_t removed_unix_s = 0;
  Timeouts timeouts;  // the longest that its connections had
};

/// Who has which identifier. A value: assign to a copy, publish, and keep the copy if that worked.
class Identifiers {
 public:
  /// Takes names, identifiers, removed backends and what was given last from a snapshot in force. Every
  /// identifier that was given once and is free rests: it may be this very snapshot that freed it.
  static Identifiers recover(const SnapshotView &snapshot);

  /// Keeps what `before` knows beyond the snapshot that these were recovered from: how long freed
  /// identifiers rest, and what was given last.
  void keep_memory_of(const Identifiers &before);

  /// The clock by which times are given was set by so much: they go with it.
  void follow_clock(int64_t step_s);

  /// Frees a backend's identifier at once: it keeps no connections any more.
  void give_up(const BackendKey &key, uint64_t now_unix_s);

  /// Makes every service, backend and VIP of `desired` have an identifier and frees what is over:
  /// - what has an identifier keeps it; new ones get the lowest free one that has been free for
  ///   some minutes (any free one when there is no other);
  /// - a backend that is gone, or came back with another address, becomes a removed backend and
  ///   keeps its identifier until `desired.removed_backend_grace` after `now_unix_s`, or until
  ///   identifiers run short (oldest first);
  /// - a removed backend that comes back (pool, name and address the same) gets its own back.
  /// The same of pins for checks through the data path (check_pins.h).
  /// Fails, and changes nothing, when there are more services, backends or checks than numbers for them.
  Status assign(const DesiredState &desired, uint64_t now_unix_s);

  /// Identifier of a service, backend or VIP that was in the last `assign`ed state.
  std::optional<uint32_t> service_id(const std::string &name) const;
  std::optional<uint16_t> backend_id(const BackendKey &key) const;
  std::optional<uint32_t> vip_number(const Address &address) const;
  /// Grows with every backend that gets or loses its identifier: the same in a copy means the same backends.
  uint64_t backend_changes() const { return backend_changes_; }

  const CheckPins &check_pins() const { return check_pins_; }
  const std::map<uint16_t, RemovedBackend> &removed_backends() const { return removed_; }
  uint32_t next_vip_number() const { return next_vip_number_; }
  /// More than every backend identifier that was ever given.
  uint32_t next_backend_id() const { return next_backend_id_; }

 private:
  struct LiveBackend {
    Address address{};
    uint16_t id = 0;
    Timeouts timeouts;  // the longest of the services that use its pool
  };

  Status assign_services(const DesiredState &desired);
  Status assign_backends(const DesiredState &desired, uint64_t now_unix_s);
  void make_room(size_t limit, uint64_t now_unix_s);
  void retire_backends(const DesiredState &desired, uint64_t now_unix_s);
  void note_timeouts(const DesiredState &desired);
  Status assign_pins(const DesiredState &desired, uint64_t now_unix_s);
  void assign_vips(const DesiredState &desired);

  std::unordered_map<std::string, uint32_t> services_;
  std::unordered_map<BackendKey, LiveBackend> backends_;
  std::map<uint16_t, RemovedBackend> removed_;  // by identifier
  std::map<uint16_t, uint64_t> resting_;        // freed identifiers: not to be given before, Unix seconds
  std::map<Address, uint32_t> vips_;
  CheckPins check_pins_;
  std::map<Address, uint64_t> resting_sources_;  // without pins: to be forgotten then, Unix seconds
  uint32_t next_vip_number_ = 1;
  uint32_t next_backend_id_ = 1;
  uint64_t backend_changes_ = 0;
};

/// What a snapshot in force tells: health (up, down, or unknown where it cannot tell), slow starts, drains
/// and quorums. A sluiced that restarts begins with it, so that its start changes nothing.
ObservedState recover_observed_state(const SnapshotView &snapshot);

}  // namespace sluice::model

#endif
