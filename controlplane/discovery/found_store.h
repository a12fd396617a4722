// What is in use of each pool's source, on the disk: sluiced begins with it when a source is dead.
#ifndef SLUICE_CONTROLPLANE_DISCOVERY_FOUND_STORE_H
#define SLUICE_CONTROLPLANE_DISCOVERY_FOUND_STORE_H

#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "controlplane/discovery/found.h"
#include "controlplane/discovery/pool_feed.h"
#include "dataplane/abi/result.h"

namespace sluice {

struct StoredPool {
  int64_t unix_s = 0;  // since when
  FoundOrigin origin = FoundOrigin::kSource;
  std::shared_ptr<const std::vector<FoundBackend>> backends;
};

/// A file for each pool, below the state directory. That of a pool which has no source any more is put aside
/// and stays for kKeptAside, since a pool may go by mistake and come back.
class FoundStore {
 public:
  explicit FoundStore(std::filesystem::path directory) : directory_(std::move(directory)) {}

  /// Nothing: never stored. A damaged file is an error that names it.
  Result<std::optional<StoredPool>> load(const std::string &pool) const;
  Status save(const std::string &pool, const StoredPool &stored) const;

  static constexpr std::chrono::hours kKeptAside{24};
  /// Puts the files of all pools but these aside, and removes those that have been there since before
  /// `now` - kKeptAside.
  Status keep_only(const std::set<std::string> &pools, std::filesystem::file_time_type now) const;

 private:
  std::filesystem::path path_of(const std::string &pool) const { return directory_ / (pool + ".json"); }
  std::filesystem::path aside(const std::string &pool) const { return directory_ / (pool + ".gone"); }

  std::filesystem::path directory_;
};

}  // namespace sluice

#endif
