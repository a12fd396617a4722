// Slot tables of pools, built in parallel, and kept as long as a pool's scheduled members are the same.
#ifndef SLUICE_CONTROLPLANE_COMPILE_POOL_TABLES_H
#define SLUICE_CONTROLPLANE_COMPILE_POOL_TABLES_H

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "controlplane/compile/compiler.h"
#include "controlplane/compile/maglev.h"
#include "dataplane/abi/snapshot.h"

namespace sluice {

/// One backend that takes new connections.
struct PoolMember {
  MaglevMember maglev;             // with its whole weight; the name points into the configuration
  uint16_t priority = 0;           // only the lowest of a table's members get slots
  uint8_t ramp_step = kRampSteps;  // 1 to kRampSteps: which part of its share it has by now
};

/// What a table is made of.
struct PoolTableInput {
  std::string table;  // names it among the inputs, from update to update
  uint32_t slots = 0;
  std::vector<PoolMember> members;  // in the pool's order
};

/// A table in which some members have only a part of their share yet (slow start). With `start` the table of
/// those that have all of theirs, and `end` the one that has the starting ones too, the slots whose number
/// modulo kRampSteps is below the step are as in `end`, the others as in `start`. So a step changes at most
/// 1/kRampSteps of the slots, each slot changes once from begin to end, and what is in a table depends on
/// members and steps alone, not on how it came about. Members at several steps are laid over each other,
/// the furthest first. Without anybody else the starting ones have all slots at once.
class PoolTable {
 public:
  /// Makes the table anew unless it was made of the same.
  void build(const PoolTableInput &input);
  bool is_made_of(const PoolTableInput &input) const;
  std::span<const uint16_t> slots() const {
    if (layers_.empty()) return {};
    return layers_.size() == 1 ? layers_.front().slots : blended_;
  }

 private:
  struct KeptMember {
    std::string name;
    uint16_t id = 0;
    uint16_t weight = 0;
    uint16_t priority = 0;
    uint8_t ramp_step = 0;

    bool is(const PoolMember &member) const;
  };
  // The whole table of some members.
  struct Layer {
    std::vector<KeptMember> members;
    std::vector<uint16_t> slots;
  };

  Layer make_layer(const std::vector<PoolMember> &members, uint32_t slots);

  uint32_t slot_count_ = 0;
  std::vector<KeptMember> members_;
  std::vector<Layer> layers_;
  std::vector<uint16_t> blended_;  // of several layers
};

class PoolTables {
 public:
  /// Makes one table per input, in the inputs' order. The tables live until the next update.
  std::vector<std::span<const uint16_t>> update(std::span<const PoolTableInput> inputs, CompileCost *cost);

 private:
  std::unordered_map<std::string, PoolTable> kept_;
};

}  // namespace sluice

#endif
