// sluiced's state directory: what must outlive sluiced itself.
#ifndef SLUICE_CONTROLPLANE_STORE_STATE_STORE_H
#define SLUICE_CONTROLPLANE_STORE_STATE_STORE_H

#include <cstddef>
#include <filesystem>
#include <functional>
#include <map>
#include <optional>
#include <span>
#include <string>

#include "controlplane/model/observed_state.h"
#include "controlplane/model/snapshot_view.h"
#include "controlplane/publish/file_descriptor.h"
#include "dataplane/abi/result.h"

namespace sluice {

/// Fills the span with random bytes; false when the system has none.
using RandomSource = std::function<bool(std::span<std::byte>)>;

/// The kernel's getrandom(2).
bool system_random(std::span<std::byte> bytes);

using OperatorOrders = std::map<model::BackendKey, model::OperatorOrder>;

/// Instead of those that the configuration, or a source, gives backends.
using OperatorWeights = std::map<model::BackendKey, uint16_t>;

/// A backend that flap damping holds down.
struct StoredHold {
  Address address{};
  int64_t until_unix_s = 0;
  uint64_t falls = 0;    // that it is held for
  bool is_well = false;  // its checks were fine

  bool operator==(const StoredHold &) const = default;
};
using StoredHolds = std::map<model::BackendKey, StoredHold>;

/// One state directory, locked against a second sluiced while the object lives. Files are written
/// whole (temporary file, fsync, rename): a crash leaves the old or the new one.
class StateStore {
 public:
  /// Makes the directory (0700, those above it 0750) where it is missing. Fails when another process has it
  /// open.
  static Result<StateStore> open(const std::filesystem::path &directory);

  /// The last snapshot that was stored; nothing when there is none. Not yet checked: SnapshotView.
  Result<std::optional<SnapshotBytes>> load_snapshot() const;
  Status save_snapshot(std::span<const std::byte> snapshot);

  /// The generated flow hash key: made and stored at the first call, the same ever after.
  Result<FlowHashKey> load_or_make_flow_hash_key(const RandomSource &random);

  /// What the operator told of single backends at run time.
  Result<OperatorOrders> load_orders() const;
  Status save_orders(const OperatorOrders &orders);

  /// The weights that the operator gave at run time.
  Result<OperatorWeights> load_weights() const;
  Status save_weights(const OperatorWeights &weights);

  /// Name of the engine that the dataplane had last; empty: not known.
  Result<std::string> load_engine() const;
  Status save_engine(const std::string &engine);

  /// Who is held down.
  Result<StoredHolds> load_holds() const;
  Status save_holds(const StoredHolds &holds);

 private:
  StateStore(std::filesystem::path directory, FileDescriptor lock)
      : directory_(std::move(directory)), lock_(std::move(lock)) {}

  std::filesystem::path directory_;
  FileDescriptor lock_;
};

}  // namespace sluice

#endif
