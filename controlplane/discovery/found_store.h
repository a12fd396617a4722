// What was found last, on the disk: sluiced begins with it when a source is dead.
#ifndef SLUICE_CONTROLPLANE_DISCOVERY_FOUND_STORE_H
#define SLUICE_CONTROLPLANE_DISCOVERY_FOUND_STORE_H

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "controlplane/discovery/found.h"
#include "dataplane/abi/result.h"

namespace sluice {

struct StoredPool {
  int64_t unix_s = 0;  // when the source said so
  std::vector<FoundBackend> backends;
};

/// A file for each pool, below the state directory.
class FoundStore {
 public:
  explicit FoundStore(std::filesystem::path directory) : directory_(std::move(directory)) {}

  /// Nothing: never stored. A damaged file is an error that names it.
  Result<std::optional<StoredPool>> load(const std::string &pool) const;
  Status save(const std::string &pool, const StoredPool &stored) const;

 private:
  std::filesystem::path path_of(const std::string &pool) const { return directory_ / (pool + ".json"); }

  std::filesystem::path directory_;
};

}  // namespace sluice

#endif
