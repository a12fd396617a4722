// The configuration with what was found.
#ifndef SLUICE_CONTROLPLANE_DISCOVERY_MERGE_H
#define SLUICE_CONTROLPLANE_DISCOVERY_MERGE_H

#include <map>
#include <set>
#include <string>
#include <string_view>
#include <unordered_map>
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

  /// The backends of `found` that can be used in `pool`, a pool of the configuration, and why the others
  /// cannot: they have the name or the address of one of its own, or the address of a VIP. An error where the
  /// pool would have more backends than slots.
  Result<std::vector<model::BackendSpec>> usable(const model::Pool &pool,
                                                 const std::vector<FoundBackend> &found,
                                                 std::vector<std::string> *left_out) const;

  /// The same for the pool of that name, beside `others` found backends of the other pools: an error, too,
  /// where all pools would have more than a snapshot holds.
  Status fits(const std::string &pool, const std::vector<FoundBackend> &found, size_t others,
              std::vector<std::string> *left_out) const;

 private:
  std::set<Address> vips_;
  std::unordered_map<std::string_view, const model::Pool *> pools_;
  size_t own_backends_ = 0;  // of all pools
};

struct Merged {
  model::DesiredState state;
  // Found backends that cannot be used beside the configuration, by pool, each in words.
  std::map<std::string, std::vector<std::string>> left_out;
};

/// `configured` with the backends of `found` in those of its pools that have a source, after their own.
/// Errors as FoundLimits'.
Result<Merged> merge(const model::DesiredState &configured, const FoundPools &found);

}  // namespace sluice

#endif
