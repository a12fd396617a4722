// What would become of a frame: the core's own decision over the live tables, of which nothing is written.
// Buckets are copied when the decision first looks at them, and what it writes goes to the copies.
#ifndef SLUICE_SERVER_DRY_RUN_H
#define SLUICE_SERVER_DRY_RUN_H

#include <array>
#include <cstdint>
#include <functional>
#include <optional>
#include <span>
#include <vector>

#include "dataplane/abi/connection.h"
#include "dataplane/core/limits.h"
#include "dataplane/core/packet.h"
#include "dataplane/server/engine.h"

namespace sluice {

/// What a worker has left to spend on what is rare (core/limits.h). The defaults: as one that has spent
/// nothing lately.
struct DryRunBudgets {
  std::array<uint32_t, 2> adoption_lookups = {kAdoptionTablesPerMs, kAdoptionTablesPerMs};
  uint32_t displacement_steps = kDisplacementStepsPerMs;
  uint32_t icmp_replies = kIcmpReplyBurst;
};

/// One connection table, which its worker may be writing.
struct LiveTable {
  std::array<std::span<const ConnectionBucket>, 2> buckets;  // IPv4, IPv6: powers of two
};

/// Everything that workers decide by. What the pointers name outlives the dry run.
struct LiveTables {
  const ForwardingTables *forwarding = nullptr;  // null: none yet
  std::vector<LiveTable> connections;            // by number; those of workers first
  uint32_t workers = 1;                          // at least 1, at most the tables
  /// Active connections of a backend, over all workers, as `worker` sees them.
  std::function<uint32_t(uint32_t worker, uint16_t backend)> active_connections;
  uint32_t now_s = 0;  // CLOCK_BOOTTIME
  DryRunBudgets budgets;
};

/// A frame as received: `bytes` are its first ones at least, all of its headers among them.
struct DryRunFrame {
  std::span<const uint8_t> bytes;
  uint32_t length = 0;             // of the whole frame, at least bytes.size()
  std::optional<uint32_t> worker;  // that gets it; none: whoever has its connection
};

/// The flow's entry in one table.
struct EntryFound {
  uint32_t table = 0;
  uint32_t state = 0;      // enum ConnectionState
  uint32_t age_s = 0;      // since it was last seen
  uint32_t timeout_s = 0;  // the service's, for its state
  uint16_t backend = 0;
  bool holds = false;  // its backend is the one for this packet
};

/// A slot that the flow's hash names.
struct SlotFound {
  uint32_t number = 0;  // in the service's table
  uint16_t backend = 0;
  uint32_t active_connections = 0;  // of the backend; only where the scheduler counts them
};

/// What each stage found; those behind the one that ended the packet's way found nothing.
struct DryRun {
  uint32_t worker = 0;
  Verdict parsed = kVerdictUndecided;
  Packet packet = {};
  const Vip *vip = nullptr;
  const PortRange *range = nullptr;
  Verdict service_found = kVerdictUndecided;
  const Service *service = nullptr;
  Verdict check = kVerdictUndecided;  // kVerdictUndecided: it is no check's
  uint16_t check_backend = 0;
  std::vector<EntryFound> entries;  // the worker's own first
  std::vector<SlotFound> slots;     // none, one, or the two that least connection compares
  Verdict verdict = kVerdictUndecided;
  uint16_t backend = 0;              // that was chosen; 0: none
  const Egress *egress = nullptr;    // of that backend
  Verdict fits = kVerdictUndecided;  // what check_egress() says of it
  bool has_asked_peers = false;      // the other workers' tables were looked into
  bool enters = false;               // the packet would make an entry, or give one to another backend
};

/// `live.forwarding` must not be null, `frame.worker` below live.workers.
DryRun dry_run(const LiveTables &live, const DryRunFrame &frame);

}  // namespace sluice

#endif
