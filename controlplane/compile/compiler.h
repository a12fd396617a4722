// Desired state + observed state + identifiers -> the snapshot's bytes (dataplane/abi/snapshot.h).
#ifndef SLUICE_CONTROLPLANE_COMPILE_COMPILER_H
#define SLUICE_CONTROLPLANE_COMPILE_COMPILER_H

#include <cstdint>
#include <memory>
#include <vector>

#include "controlplane/model/desired_state.h"
#include "controlplane/model/identifiers.h"
#include "controlplane/model/observed_state.h"
#include "controlplane/model/snapshot_view.h"
#include "dataplane/abi/result.h"

namespace sluice {

struct CompileInput {
  const model::DesiredState &desired;
  const model::ObservedState &observed;
  const model::Identifiers &identifiers;  // after assign(desired)
  FlowHashKey flow_hash_key{};            // the configured one, or the state store's
  uint64_t revision = 0;                  // more than the snapshot in force has
  uint64_t created_unix_ns = 0;
};

/// How many pools' slot tables one compilation made and how many it had already.
struct CompileCost {
  uint32_t built_pools = 0;
  uint32_t reused_pools = 0;
};

struct CompiledSnapshot {
  SnapshotBytes bytes;
  CompileCost cost;
};

/// Compiles snapshots and keeps the slot tables of the last one: a pool whose scheduled members did
/// not change is not built again. The bytes depend on the input alone, never on what is kept.
/// Used by one thread at a time; builds on all cores by itself.
class Compiler {
 public:
  Compiler();
  ~Compiler();
  Compiler(Compiler &&) noexcept;
  Compiler &operator=(Compiler &&) noexcept;

  /// Fails when the input breaks a limit of the snapshot, or names something without an identifier.
  Result<CompiledSnapshot> compile(const CompileInput &input);

 private:
  struct Cache;
  std::unique_ptr<Cache> cache_;
};

}  // namespace sluice

#endif
