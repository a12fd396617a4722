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

namespace sluice {

/// What a pool's table is made of. `members` are those that take new connections, in the pool's order;
/// their names point into the configuration.
struct PoolTableInput {
  std::string_view pool;  // unique among the inputs
  uint32_t slots = 0;
  std::vector<MaglevMember> members;
};

class PoolTables {
 public:
  /// Makes one table per input, in the inputs' order. The tables live until the next update.
  std::vector<std::span<const uint16_t>> update(std::span<const PoolTableInput> inputs, CompileCost *cost);

 private:
  struct KeptMember {
    std::string name;
    uint16_t id = 0;
    uint16_t weight = 0;
  };
  struct Kept {
    uint32_t slots = 0;
    std::vector<KeptMember> members;
    std::vector<uint16_t> table;

    bool is_made_of(const PoolTableInput &input) const;
    void build(const PoolTableInput &input);
  };

  std::unordered_map<std::string, Kept> kept_;
};

}  // namespace sluice

#endif
