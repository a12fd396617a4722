// The configuration with what was found.
#ifndef SLUICE_CONTROLPLANE_DISCOVERY_MERGE_H
#define SLUICE_CONTROLPLANE_DISCOVERY_MERGE_H

#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <unordered_map>
#include <unordered_set>
#include <vector>

#include "controlplane/discovery/found.h"
#include "controlplane/model/desired_state.h"
#include "dataplane/abi/result.h"

namespace sluice {

/// What of a configuration limits what can be found, gathered once for many answers.
class FoundLimits {
 public:
  /// `configured` must outlive it.
  explicit FoundLimits(const model::DesiredState &configured);

  /// The backends of `found` that can be used in `pool`, a pool of the configuration with a source, and why
  /// the others cannot: they have the name or the address of one of its own, or the address of a VIP. An
  /// error where the pool would have more backends than slots.
  Result<std::vector<model::BackendSpec>> usable(const model::Pool &pool,
                                                 const std::vector<FoundBackend> &found,
                                                 SkippedEntries *left_out) const;

  /// The same for the pool of that name, beside `others` found backends of the other pools: an error, too,
  /// where all pools would have more than a snapshot holds.
  Status fits(const std::string &pool, const std::vector<FoundBackend> &found, size_t others,
              SkippedEntries *left_out) const;

  /// Why one backend cannot be used in the pool of that name; empty: it can.
  std::string conflict(const std::string &pool, const FoundBackend &found) const;

 private:
  enum class Clash : uint8_t { kNone, kVip, kName, kAddress };
  // What a pool with a source has itself.
  struct Own {
    const model::Pool *pool;
    std::unordered_set<std::string_view> names;
    std::unordered_set<Address, AddressHash> addresses;
  };

  Clash clash_of(const Own &own, const FoundBackend &found) const;
  static std::string text(Clash clash, const FoundBackend &found);

  std::unordered_set<Address, AddressHash> vips_;
  std::unordered_map<std::string_view, Own> pools_;
  size_t own_backends_ = 0;  // of all pools
};

/// The backends that `before` had itself and `pool`, the same pool in another configuration, has not (neither
/// the name nor the address), ordered by name.
std::vector<FoundBackend> lost_backends(const model::Pool &before, const model::Pool &pool);

struct Merged {
  model::DesiredState state;
  // Found backends that cannot be used beside the configuration, by pool, each in words.
  std::map<std::string, SkippedEntries> left_out;
};

/// `configured` with the backends of `found` in those of its pools that have a source, after their own.
/// Errors as FoundLimits'.
Result<Merged> merge(const model::DesiredState &configured, const FoundPools &found);

/// merge()'s state, with an error that says of what it is.
Result<model::DesiredState> with_found(const model::DesiredState &configured, const FoundPools &found);

}  // namespace sluice

#endif
