// Connections on their way into tables of another size, or out of tables that are in use: each is entered
// anew, by the core's own rules, where its flow belongs.
#ifndef SLUICE_SERVER_CONNECTION_PLACER_H
#define SLUICE_SERVER_CONNECTION_PLACER_H

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <unordered_map>

#include "dataplane/abi/connection.h"
#include "dataplane/server/memory_tables.h"
#include "dataplane/server/snapshot_store.h"

namespace sluice {

/// Enters entries of one table into another, which nobody writes meanwhile. What entries are placed by is a
/// snapshot: its flow hash key, the addresses of its VIPs (an IPv6 entry has but the VIP's number), and the
/// timeouts of its backends.
class ConnectionPlacer {
 public:
  /// `now_s`: CLOCK_BOOTTIME.
  ConnectionPlacer(std::shared_ptr<const MappedSnapshot> snapshot, uint64_t now_s);
  ConnectionPlacer(const ConnectionPlacer &) = delete;
  ConnectionPlacer &operator=(const ConnectionPlacer &) = delete;

  enum class Order {
    kByImportance,  // established ones first, those seen last before others; embryonic ones last
    kAsTheyLie      // from the first bucket to the last, whatever they are
  };
  /// Entries that are not in the new table.
  struct Missing {
    size_t established = 0;  // without room
    size_t others = 0;       // embryonic or closing, without room
    size_t of_no_vip = 0;    // of VIPs that the snapshot does not have
    size_t all() const { return established + others + of_no_vip; }
    Missing &operator+=(const Missing &more);
  };
  /// Enters what `from` has and gives what `to` has already the state of now, but for what has timed out.
  /// The workers of `from` may write it: an entry that moves from a bucket that is still to be read into one
  /// that was read is missed. Another call finds it, unless it has moved back before and does the same again.
  Missing place(std::span<const ConnectionBucket> from, std::span<ConnectionBucket> to, uint8_t family,
                Order order);

 private:
  enum class Importance;
  enum class Entered { kYes, kNoRoom, kNoVip };

  void use(std::span<ConnectionBucket> to, uint8_t family);
  Importance importance_of(uint64_t state_word) const;
  Entered enter(const uint64_t *entry, uint8_t family);

  std::shared_ptr<const MappedSnapshot> snapshot_;
  std::unordered_map<uint32_t, Address> vips_;  // by number
  uint32_t now_s_;
  Tables tables_;
  DisplacementPath displacement_path_ = {};
  uint32_t displacement_budget_ = 0;
  WorkerCounters events_ = {};
};

}  // namespace sluice

#endif
